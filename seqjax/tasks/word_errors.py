"""Word errors of outputs while a model trains: outputs and references in, percent out."""

from __future__ import annotations

from collections.abc import Mapping

from seqjax.losses import Metric
from seqjax.models.protocol import Params
from seqjax.tasks.evaluator import Evaluation, TranslationEvaluator
from seqjax.tasks.metrics import WORD_ERRORS, errors


class WordErrorEvaluator(TranslationEvaluator):
    """Decodes as the evaluator of translation does, and counts words: `wer`, jiwer's, in percent.
    References without words are left out."""

    metrics: Mapping[str, Metric] = WORD_ERRORS

    def __call__(self, params: Params) -> Evaluation:
        samples = super().__call__(params).samples
        scored = [(out.split(), reference.split()) for _, out, reference in samples
                  if reference.split()]
        rate = errors([out for out, _ in scored], [r for _, r in scored]).percent
        return Evaluation(values={"wer": rate if scored else 0.0}, samples=samples)
