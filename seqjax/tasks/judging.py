"""How good a model's translations are, while it trains: real decoding and sacreBLEU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from seqjax.config import GenerationConfig
from seqjax.generation import options
from seqjax.generation.decoder import Decoder
from seqjax.losses import Metric
from seqjax.models.protocol import EncoderDecoder, Params
from seqjax.tasks import metrics

METRICS: dict[str, Metric] = {"bleu": Metric(maximize=True, format="{:.2f}")}
"""What a `Judge` measures."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdict on some sentences."""

    score: metrics.Score
    """sacreBLEU of the detokenised translations."""
    samples: list[tuple[str, str, str]]
    """(source, translation, reference) of every sentence, in order."""


class Judge:
    """Translates the same sentences at each validation and scores them.

    The compiled search is kept from call to call. `generation.prefix_size` forces tokens of
    the references; of `nbest` hypotheses the best is judged.

    Args:
      sources, references: ids with final eos.
      source_text, target_text: ids -> plain text.
      sharding, row_multiple: how rows lie on the devices (see `Decoder`).
    """

    metrics = METRICS

    def __init__(
        self, model: EncoderDecoder, generation: GenerationConfig, *,
        sources: Sequence[np.ndarray], references: Sequence[np.ndarray],
        source_text: Callable[[np.ndarray], str], target_text: Callable[[np.ndarray], str],
        unk: int, sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> None:
        settings = options.settle(
            GenerationConfig(), options.own(generation), references=True)
        # The best is judged; draws must be as many as the beam is wide.
        settings = dataclasses.replace(
            settings, nbest=settings.beam if settings.sampling else 1)
        self._decoder = Decoder(
            model, settings, unk=unk, sharding=sharding, row_multiple=row_multiple)
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

    def __call__(self, params: Params) -> Judged:
        """Decodes with these parameters."""
        found = self._decoder.decode(
            params, self._sources, plan=self._plan, prefixes=self._prefixes)
        texts = [self._target_text(hypotheses[0].tokens) for hypotheses in found]
        return Judged(
            score=metrics.sacrebleu(texts, self._references),
            samples=list(zip(self._source_texts, texts, self._references, strict=True)),
        )
