"""What every loaded model can do, and the texts and ids that go in and out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from seqjax.config import Config, ConfigError, GenerationConfig
from seqjax.generation import hypothesis
from seqjax.generation.allowed import TokenTrie
from seqjax.generation.decoder import Decoder, Prepared
from seqjax.generation.options import settle
from seqjax.tasks import demands

Ids = Sequence[int] | np.ndarray
Input = str | Ids


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Hypothesis(hypothesis.Hypothesis):
    """One output for one source: `tokens`, `score`, `positional_scores` and their text."""

    text: str
    """Plain text, detokenised."""
    words: list[str] | None = None
    """With `replace_unk`: words, or pieces, of the tokens without eos, after replacement."""


@dataclasses.dataclass(kw_only=True, eq=False)
class Loaded:
    """One model, or an ensemble of several, with its vocabularies."""

    task: Any
    config: Config
    models: tuple[Any, ...]
    params: tuple[Any, ...]
    identity: str = ""
    """Which checkpoints these are."""
    _decoders: dict[GenerationConfig, Decoder] = dataclasses.field(default_factory=dict, repr=False)

    def stream(
        self, inputs: Sequence[Input], **options: Any
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Hypotheses of each input as they are found, with its place in `inputs`."""
        raise NotImplementedError

    def _new_decoder(self, settings: GenerationConfig) -> Decoder:
        raise NotImplementedError

    def decoder(self, *, references: bool = False, **options: Any) -> Decoder:
        """The compiled search for these options; kept for the next call.

        Args:
          references: there will be `prefixes`, of which `prefix_size` takes the first tokens.
          **options: fields of `GenerationConfig`; others are as the model was trained with.

        Raises:
          ConfigError: an unknown option, one that would change nothing, or options that
            contradict each other.
        """
        settings = settle(self.config.generation, options, references=references)
        if settings not in self._decoders:
            self._decoders[settings] = self._new_decoder(settings)
        return self._decoders[settings]

    def trie(self, outputs: Sequence[Input]) -> TokenTrie:
        """Permitted outputs, for `allowed`: texts, or lists of ids that end in eos; of a
        language model with their prompts."""
        return demands.trie_of(self.task, outputs)

    def encode(self, text: str) -> np.ndarray:
        """Source text -> ids with final eos."""
        return self.task.encode_source(text)

    def decode(self, ids: Ids) -> str:
        """Ids of an output -> plain text."""
        return self.task.decode_target(ids)

    def _best(self, texts: str | Sequence[str], options: dict[str, Any]) -> Any:
        """The text of the first hypothesis: a string for a string, a list for a list."""
        if options.get("nbest", 1) != 1 and not options.get("sampling"):
            raise ConfigError(f"generation.nbest: {options['nbest']}, but this gives the best "
                              "alone: generate() gives them all")
        single = isinstance(texts, str)
        found = self._all([texts] if single else texts, options)
        best = [hypotheses[0].text for hypotheses in found]
        return best[0] if single else best

    def _all(self, inputs: Sequence[Input], options: dict[str, Any]) -> list[list[Hypothesis]]:
        """What `stream` finds, in the order of the inputs."""
        out: list[list[Hypothesis]] = [[] for _ in inputs]
        for index, hypotheses in self.stream(inputs, **options):
            out[index] = hypotheses
        return out

    def _searched(self) -> Iterable[Any]:
        """The parameters of all that a decoder computes with."""
        return self.params

    def _prepared(self, decoder: Decoder) -> Prepared:
        if "_weights" not in self.__dict__:
            self._weights = decoder.prepare(tuple(self._searched()))
        return self._weights


def with_text(task: Any, h: hypothesis.Hypothesis) -> Hypothesis:
    """The hypothesis with its plain text."""
    return Hypothesis(**vars(h), text=task.decode_target(h.tokens))


def padded(
    rows_of_ids: Sequence[Ids], *, rows: int, pad: int = 1, limit: int | None = None
) -> np.ndarray:
    """[rows, multiple of 16] int32; missing rows are all padding. The width is at most
    `limit`, unless a row is longer."""
    longest = max(len(r) for r in rows_of_ids)
    width = -(-longest // 16) * 16
    width = width if limit is None else max(longest, min(width, limit))
    out = np.full((rows, width), pad, np.int32)
    for i, ids in enumerate(rows_of_ids):
        out[i, : len(ids)] = ids
    return out
