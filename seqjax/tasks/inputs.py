"""An input as text and as ids at once, so that it is tokenised once.

Texts, or ids, and a task's vocabulary and tokenizer go in; `Encoded` inputs come out.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Sequence

import numpy as np

from seqjax.data import sources
from seqjax.data.frames import Frame
from seqjax.tasks.protocol import TextTask


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """One input."""

    ids: np.ndarray
    """[S] int32: of a source with its final eos; of a prompt without."""
    text: str | None = None
    """As it was written, where that is known."""
    pieces: tuple[str, ...] | None = None
    """What the tokenizer made of a text with unknown words; ids say all others."""
    frame: Frame | None = None
    """What stands around its words (None: a final eos, or nothing)."""

    def blank(self, *, eos: int) -> bool:
        """Whether there is nothing to be seen in it."""
        if self.text is not None and sources.is_blank(self.text):
            return True
        around = {eos} if self.frame is None else {eos, *self.frame.tokens}
        return all(token in around for token in self.ids.tolist())

    @property
    def decomposed(self) -> bool:
        """Whether it has words that the dictionary does not know, in text whose letters and
        accents are apart (not in Unicode's NFC): composed, they may be known."""
        if self.text is None or self.pieces is None:
            return False
        return not unicodedata.is_normalized("NFC", self.text)


def decomposed_note(names: Sequence[str]) -> list[str]:
    """What is said of inputs that are `decomposed`, by their names."""
    if not names:
        return []
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [f"note: {names[0]}{more}: unknown words in text whose letters and accents are apart "
            "(not in Unicode's NFC); models know composed text, as a rule: compose it, or train "
            "with preprocess --normalize nfc"]


def encode_source(task: TextTask, text: str) -> Encoded:
    """A text as the encoder reads it: what `task.encode_source` gives, and its pieces."""
    tokenizer, vocab = task.source_tokenizer, task.source_vocab
    line = text if tokenizer is None else tokenizer.encode(text)
    ids = vocab.encode_line(line)
    unknown = np.any(ids == vocab.unk)
    return Encoded(ids=task.framed_source(ids), text=text, frame=task.source_frame,
                   pieces=tuple(line.split()) if unknown else None)


def encoded(task: TextTask, source: str | Sequence[int] | np.ndarray | Encoded) -> Encoded:
    """A source as text, as ids (with or without what stands around their words), or encoded
    already."""
    if isinstance(source, Encoded):
        return source
    if isinstance(source, str):
        return encode_source(task, source)
    ids = np.asarray(source, np.int32)
    frame = task.source_frame
    as_it_is = frame.is_plain or not len(ids) or task.takes_ids_as_given
    return Encoded(ids=ids if as_it_is else frame.put(ids), frame=frame)
