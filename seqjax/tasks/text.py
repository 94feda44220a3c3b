"""What tasks over words share: text to ids and back, by their vocabularies and tokenizers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np

from seqjax.config import ConfigError
from seqjax.data.tokenizers import Tokenizer
from seqjax.data.vocabulary import FAIRSEQ_IDS, Vocabulary
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """The part of a `protocol.TextTask` that follows from its vocabularies and tokenizers, which
    `source_vocab`, `target_vocab`, `source_tokenizer` and `target_tokenizer` are."""

    config: TextSection

    def with_config(self, **changes: Any) -> Self:
        """The same task with other values in its section."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **changes))

    def encode_source(self: _Sides, text: str) -> np.ndarray:
        """Text -> ids with final eos."""
        return _encode(text, self.source_tokenizer, self.source_vocab)

    def encode_target(self: _Sides, text: str) -> np.ndarray:
        """Text -> ids with final eos."""
        return _encode(text, self.target_tokenizer, self.target_vocab)

    def decode_source(self: _Sides, ids: Sequence[int] | np.ndarray) -> str:
        """Ids -> plain text, detokenised."""
        return _decode(ids, self.source_tokenizer, self.source_vocab, self.config.post_process)

    def decode_target(self: _Sides, ids: Sequence[int] | np.ndarray) -> str:
        """Ids -> plain text, detokenised."""
        return _decode(ids, self.target_tokenizer, self.target_vocab, self.config.post_process)


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
    joined: str | None,
) -> str:
    """Text of ids; `joined` says how pieces become words where there is no tokenizer."""
    if tokenizer is None:
        return vocab.string(ids, post_process=joined)
    return tokenizer.decode(vocab.string(ids))
