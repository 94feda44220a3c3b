"""What loaded models that generate have in common: from texts or ids to hypotheses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from seqjax.config import ConfigError, GenerationConfig
from seqjax.data.epoch_plan import Lengths
from seqjax.generation import hypothesis
from seqjax.generation.allowed import TokenTrie
from seqjax.generation.decoder import Decoder, Prepared
from seqjax.generation.hypothesis import Ids
from seqjax.generation.options import settle
from seqjax.hub import about, arguments
from seqjax.hub.inputs import Rules, Selection
from seqjax.hub.loaded import Loaded
from seqjax.models.protocol import Params
from seqjax.tasks import output_constraints
from seqjax.tasks.inputs import Encoded
from seqjax.tasks.protocol import TextTask

Input = str | Ids | Encoded

TextTaskT = TypeVar("TextTaskT", bound=TextTask)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Hypothesis(hypothesis.Hypothesis):
    """One output for one source: `tokens`, `score`, `positional_scores` and their text."""

    text: str
    """Plain text, detokenised."""
    words: list[str] | None = None
    """With `replace_unk`: words, or pieces, of the tokens without eos, after replacement."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """A split of a data folder that is to be decoded."""

    inputs: list[Any]
    """What `stream` takes."""
    references: list[np.ndarray] | None
    """Target ids; None where the split has none."""
    lengths: Lengths
    limits: tuple[int | None, int | None]
    """Tokens of a source and of a target at most."""


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Generative(Loaded[TextTaskT]):
    """A model that generates text, with its vocabularies."""

    generates: ClassVar[bool] = True
    inputs_name: ClassVar[str] = "inputs"
    """What `stream` calls them."""
    _decoders: dict[Any, Decoder] = dataclasses.field(default_factory=dict, repr=False)
    _weights: list[Prepared] = dataclasses.field(default_factory=list, repr=False)
    """What decoders compute with, once it was needed."""

    def generate(self, inputs: Sequence[Input], **options: Any) -> list[list[Hypothesis]]:
        """Hypotheses of each input, best first; options are those of `stream`."""
        return self._all(inputs, options)

    def stream(
        self, inputs: Sequence[Input], **options: Any
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Hypotheses of each input as they are found, with its place in `inputs`."""
        raise NotImplementedError

    def encoded(self, x: Input) -> Encoded:
        """An input with its ids, which all methods take, so that it is tokenised once."""
        raise NotImplementedError

    def split(self, data: str, subset: str) -> Split:
        """A split of a data folder as inputs of `stream`: the decoding job of `generate --data`.

        Raises:
          FileNotFoundError: there is no such split.
          ConfigError: the folder is another model's; or these models decode no splits.
        """
        raise NotImplementedError

    def select(
        self, inputs: Sequence[Encoded], *, decoder: Decoder, rules: Rules,
        prefixes: Sequence[np.ndarray] | None = None,
        constraints: Sequence[Sequence[np.ndarray]] | None = None,
    ) -> Selection:
        """Which inputs `stream` searches, leaves blank, cuts and leaves out, before anything is
        computed.

        Args:
          decoder: of `decoder(**options)`, whose limits count.
          prefixes: ids that each output begins with.
          constraints: phrases of each, as ids.

        Raises:
          seqjax.generation.errors.InputError: naming an input by its place.
        """
        raise NotImplementedError

    def _new_decoder(self, settings: GenerationConfig) -> Decoder:
        raise NotImplementedError

    def description(self, options: dict[str, Any]) -> list[str]:
        return [*super().description(options),
                about.search(self.settings(references=True, **options), options)]

    def settings(self, *, references: bool = False, **options: Any) -> GenerationConfig:
        """The search: these options over those of the checkpoint.

        Args:
          references: there will be `prefixes`, of which `prefix_size` takes the first tokens.
          **options: fields of `GenerationConfig`; others are as the model was trained with.

        Raises:
          ConfigError: an unknown option, one that would change nothing, or options that
            contradict each other.
        """
        return settle(self.config.generation, options, references=references)

    def decoder(self, *, references: bool = False, **options: Any) -> Decoder:
        """The compiled search for these options (see `settings`); kept for the next call."""
        settings = self.settings(references=references, **options)
        if settings not in self._decoders:
            self._decoders[settings] = self._new_decoder(settings)
        return self._decoders[settings]

    def trie(self, outputs: Sequence[str | Ids]) -> TokenTrie:
        """Permitted outputs, for `allowed`: texts, or lists of ids that end in eos; of a
        language model with their prompts."""
        size = len(self.task.target_vocab)
        found = arguments.inputs(outputs, name="outputs", size=size)
        if not found:
            raise ValueError("outputs: got an empty list, so no output would be permitted")
        return output_constraints.trie_of(self.task, found)

    def encode(self, text: str) -> np.ndarray:
        """Source text -> ids with final eos."""
        return self.task.encode_source(arguments.text(text, name="text"))

    def decode(self, ids: Ids) -> str:
        """Ids [T] of an output -> plain text."""
        return self.task.decode_target(arguments.ids(ids, name="ids", size=None, empty=True))

    def _best(self, texts: str | Sequence[str], options: dict[str, Any]) -> Any:
        """The text of the first hypothesis: a string for a string, a list for a list."""
        if options.get("nbest", 1) != 1 and not options.get("sampling"):
            raise ConfigError(f"generation.nbest: {options['nbest']}, but this gives the best "
                              "alone: generate() gives them all")
        single = isinstance(texts, str)
        found = self._all([texts] if single else arguments.several(texts, name="texts"), options)
        best = [hypotheses[0].text if hypotheses else "" for hypotheses in found]
        return best[0] if single else best

    def _all(self, inputs: Sequence[Input], options: dict[str, Any]) -> list[list[Hypothesis]]:
        """What `stream` finds, in the order of the inputs."""
        inputs = arguments.several(inputs, name=self.inputs_name)
        out: list[list[Hypothesis]] = [[] for _ in inputs]
        for index, hypotheses in self.stream(inputs, **options):
            out[index] = hypotheses
        return out

    def _searched(self) -> Iterable[Params]:
        """The parameters of all that a decoder computes with."""
        return self.params

    def _prepared(self, decoder: Decoder) -> Prepared:
        if not self._weights:
            self._weights.append(decoder.prepare(tuple(self._searched())))
        return self._weights[0]


def blank_hypotheses(
    eos: int, *, nbest: int, alignment: str | None = None, words: bool = False
) -> list[Hypothesis]:
    """What stands for the output of a blank input: a lone eos, which cost nothing, as many
    times as hypotheses were asked for.

    Args:
      alignment: the kind that was asked for.
      words: whether unknown words were to be replaced.
    """
    return [Hypothesis(
        tokens=np.array([eos], np.int32), score=0.0, positional_scores=np.zeros(1, np.float32),
        text="", words=[] if words else None, alignment=[] if alignment == "hard" else None,
        attention=np.ones((1, 1), np.float32) if alignment == "soft" else None)] * nbest


def with_text(task: TextTask, h: hypothesis.Hypothesis) -> Hypothesis:
    """The hypothesis with its plain text."""
    return Hypothesis(**vars(h), text=task.decode_target(h.tokens))


def padded(
    rows_of_ids: Sequence[Ids], *, rows: int, pad: int, limit: int | None = None
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
