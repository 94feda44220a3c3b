"""What tasks over words share: text to ids and back, by their vocabularies and tokenizers, with
the tokens that stand around words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from seqjax.config import ConfigError
from seqjax.data.dictionaries import Dictionary, first_difference
from seqjax.data.frames import Frame
from seqjax.data.tokenizers import Tokenizer
from seqjax.data.vocabulary import FAIRSEQ_IDS, Vocabulary
from seqjax.generation.target_form import TargetForm
from seqjax.tasks import assets
from seqjax.tasks.protocol import TextSection


class _Sides(Protocol):
    """What text is converted with."""

    @property
    def config(self) -> TextSection: ...
    @property
    def source_vocab(self) -> Vocabulary: ...
    @property
    def target_vocab(self) -> Vocabulary: ...
    @property
    def source_tokenizer(self) -> Tokenizer | None: ...
    @property
    def target_tokenizer(self) -> Tokenizer | None: ...
    @property
    def source_frame(self) -> Frame: ...
    @property
    def target_frame(self) -> Frame: ...
    @property
    def target_form(self) -> TargetForm: ...
    def framed_source(self, ids: np.ndarray) -> np.ndarray: ...
    @property
    def unspoken_source(self) -> tuple[int, ...]: ...
    @property
    def unspoken_target(self) -> tuple[int, ...]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """The part of a `protocol.TextTask` that follows from its vocabularies and tokenizers, which
    `source_vocab`, `target_vocab`, `source_tokenizer` and `target_tokenizer` are."""

    config: TextSection

    def with_config(self, **changes: Any) -> Self:
        """The same task with other values in its section."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **changes))

    shuffles_test: ClassVar[bool] = False
    """Whether fairseq draws the order of sentences of equal lengths of the split test, too."""

    @property
    def langs(self) -> tuple[str, ...]:
        """Languages that `translating` chooses among: none."""
        return ()

    def translating(self, source_lang: str | None, target_lang: str | None) -> Self:
        """This task for another direction (None: as it is).

        Raises:
          ConfigError: it knows no languages.
        """
        if source_lang is None and target_lang is None:
            return self
        name = "target_lang" if source_lang is None else "source_lang"
        raise ConfigError(f"{name}: {source_lang or target_lang!r}, but models of the task "
                          f"{self.config.name} know no languages: leave it out")

    @property
    def takes_ids_as_given(self) -> bool:
        """False: what stands around the words of a source is put there where it is missing."""
        return False

    @property
    def source_frame(self: _Sides) -> Frame:
        """What stands around the words of a source: a final eos."""
        return Frame.plain(self.source_vocab.eos)

    @property
    def target_frame(self: _Sides) -> Frame:
        """What stands around the words of a target: a final eos."""
        return Frame.plain(self.target_vocab.eos)

    @property
    def unspoken_source(self: _Sides) -> tuple[int, ...]:
        """Source ids that are no text: language tokens."""
        return self.source_frame.tokens

    @property
    def unspoken_target(self: _Sides) -> tuple[int, ...]:
        """Target ids that are no text."""
        return self.target_frame.tokens

    @property
    def target_form(self: _Sides) -> TargetForm:
        """How outputs begin and end: behind eos, with eos."""
        return TargetForm(start=self.target_vocab.eos, eos=self.target_vocab.eos)

    def framed_source(self: _Sides, ids: np.ndarray) -> np.ndarray:
        """Ids of words with final eos -> with what else stands around a source's words."""
        return self.source_frame.put(ids)

    def encode_source(self: _Sides, text: str) -> np.ndarray:
        """Text -> ids with final eos, or what else stands around a source's words."""
        return self.framed_source(_encode(text, self.source_tokenizer, self.source_vocab))

    def encode_target(self: _Sides, text: str) -> np.ndarray:
        """Text -> ids with final eos, or what else stands around a target's words."""
        return self.target_frame.put(_encode(text, self.target_tokenizer, self.target_vocab))

    def decode_source(self: _Sides, ids: Sequence[int] | np.ndarray) -> str:
        """Ids -> plain text, detokenised."""
        return _decode(ids, self.source_tokenizer, self.source_vocab, self.config.post_process,
                       unspoken=self.unspoken_source)

    def decode_target(self: _Sides, ids: Sequence[int] | np.ndarray) -> str:
        """Ids -> plain text, detokenised."""
        return _decode(ids, self.target_tokenizer, self.target_vocab, self.config.post_process,
                       unspoken=self.unspoken_target)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneVocabulary(Text):
    """The same of a task that reads and predicts words of one vocabulary."""

    seed: int
    """Of what is drawn."""
    vocab: Vocabulary
    tokenizer: Tokenizer | None

    @property
    def lang(self) -> str:
        """Language of the files' names; "": they have none."""
        return ""

    def assets(self) -> dict[str, bytes]:
        """Files from which `from_assets` makes this task again, without the data folder."""
        files = assets.pack_vocabulary(self.lang, self.vocab)
        return files if self.tokenizer is None else (
            files | assets.pack_tokenizer(self.lang, self.tokenizer))

    @property
    def source_vocab(self) -> Vocabulary:
        """What is read."""
        return self.vocab

    @property
    def target_vocab(self) -> Vocabulary:
        """What is predicted."""
        return self.vocab

    @property
    def source_tokenizer(self) -> Tokenizer | None:
        """Of what is read."""
        return self.tokenizer

    @property
    def target_tokenizer(self) -> Tokenizer | None:
        """Of what is predicted."""
        return self.tokenizer

    @property
    def output_size(self) -> int:
        """Entries that are predicted."""
        return len(self.vocab)

    @property
    def vocab_sizes(self) -> dict[str, int]:
        """What `models.build` needs."""
        return {"source_vocab_size": len(self.vocab), "target_vocab_size": self.output_size,
                **special_ids(self.vocab)}

    @property
    def dictionaries(self) -> tuple[Dictionary, ...]:
        """Whose words the rows are: what is read, and the part of it that is predicted."""
        name = assets.vocabulary_name(self.lang)
        return (Dictionary(side="source", name=name, vocabulary=self.vocab),
                Dictionary(side="target", name=name, vocabulary=self.vocab,
                           size=self.output_size))

    @property
    def languages(self) -> None:
        """No pair of them: there is one side only."""

    def next_command(self, workdir: str, *, subset: str) -> list[str]:
        """What its evaluation says of a split."""
        return ["python", "-m", "seqjax.evaluate", "--checkpoint", workdir, "--subset", subset]

    def _check_same(self, path: str, found: Vocabulary) -> None:
        """Refuses another dictionary than the model's, `found` in a file."""
        difference = first_difference(self.vocab.symbols, found.symbols)
        if difference is not None:
            raise ConfigError(
                f"{path}: is not the dictionary that the model was trained with: {difference}; "
                "preprocess with --srcdict")


def special_ids(*vocabularies: Vocabulary) -> dict[str, int]:
    """`pad` and `eos`, as `models.build` takes them, where they are not fairseq's.

    Raises:
      ConfigError: the vocabularies do not agree on them.
    """
    first = vocabularies[0]
    for other in vocabularies[1:]:
        if (first.pad, first.eos) != (other.pad, other.eos):
            raise ConfigError(
                f"the dictionaries give padding and eos other ids: {first.pad} and {first.eos} "
                f"in the source's, {other.pad} and {other.eos} in the target's; a model knows one")
    if (first.pad, first.eos) == (FAIRSEQ_IDS[1], FAIRSEQ_IDS[2]):
        return {}
    return {"pad": first.pad, "eos": first.eos}


def _encode(text: str, tokenizer: Tokenizer | None, vocab: Vocabulary) -> np.ndarray:
    return vocab.encode_line(text if tokenizer is None else tokenizer.encode(text))


def _decode(
    ids: Sequence[int] | np.ndarray, tokenizer: Tokenizer | None, vocab: Vocabulary,
    joined: str | None, *, unspoken: Sequence[int],
) -> str:
    """Text of ids; `joined` says how pieces become words where there is no tokenizer, `unspoken`
    are ids that are no text."""
    if tokenizer is None:
        return vocab.string(ids, post_process=joined, extra_symbols_to_ignore=unspoken)
    return tokenizer.decode(vocab.string(ids, extra_symbols_to_ignore=unspoken))
