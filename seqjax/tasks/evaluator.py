"""How good a model is while it trains, by what it generates: named metrics and samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import jax
import numpy as np

from seqjax.config import GenerationConfig
from seqjax.generation import options
from seqjax.generation.decoder import Decoder
from seqjax.generation.target_form import TargetForm
from seqjax.losses import Metric
from seqjax.models.protocol import EncoderDecoder, Params
from seqjax.tasks import metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluator found."""

    values: Mapping[str, float]
    """Of each metric that it declares."""
    samples: Sequence[tuple[str, str, str]] = ()
    """(source, output, reference) of every sentence, in order."""


class Evaluator(Protocol):
    """Measures a model at each validation, always on the same sentences."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The names of what it measures, and how each is to be read. Any of them may be
        `valid.metric`."""
        ...

    def __call__(self, params: Params) -> Evaluation:
        """With these parameters."""
        ...


class TranslationEvaluator:
    """Translates sentences and scores them: `bleu`, sacreBLEU of the detokenised text.

    The compiled search is kept from call to call. `generation.prefix_size` forces tokens of
    the references; of `nbest` hypotheses the best is scored.

    Args:
      sources, references: ids with final eos.
      source_text, target_text: ids -> plain text.
      forms: of each, how its output begins and ends; all end alike.
      sharding, row_multiple: how rows lie on the devices (see `Decoder`).
    """

    metrics: Mapping[str, Metric] = metrics.BLEU

    def __init__(
        self, model: EncoderDecoder, generation: GenerationConfig, *,
        sources: Sequence[np.ndarray], references: Sequence[np.ndarray],
        source_text: Callable[[np.ndarray], str], target_text: Callable[[np.ndarray], str],
        forms: Sequence[TargetForm], unk: int,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> None:
        settings = options.settle(
            GenerationConfig(), options.own(generation), references=True)
        # The best is scored; draws must be as many as the beam is wide.
        settings = dataclasses.replace(
            settings, nbest=settings.beam if settings.sampling else 1)
        self._decoder = Decoder(
            model, settings, unk=unk, sharding=sharding, row_multiple=row_multiple,
            eos=forms[0].eos if forms else None)
        self._forms = list(forms)
        self._prefixes = None
        if settings.prefix_size:
            self._prefixes = list(references)
        lengths = [len(s) for s in sources]
        self._decoder.check_sources(lengths)
        self._plan = self._decoder.plan(lengths, few=True)
        self._sources = list(sources)
        self._source_texts = [source_text(s) for s in sources]
        self._references = [target_text(r) for r in references]
        self._target_text = target_text

    def __call__(self, params: Params) -> Evaluation:
        """Decodes with these parameters."""
        found = self._decoder.decode(
            params, self._sources, plan=self._plan, prefixes=self._prefixes, forms=self._forms)
        texts = [self._target_text(hypotheses[0].tokens) for hypotheses in found]
        return Evaluation(
            values={"bleu": metrics.sacrebleu(texts, self._references).score},
            samples=list(zip(self._source_texts, texts, self._references, strict=True)))
