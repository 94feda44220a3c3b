"""Word errors of outputs while a model trains: outputs and references in, percent out."""

from __future__ import annotations

from collections.abc import Mapping

from seqjax.losses import Metric
from seqjax.models.protocol import Params
from seqjax.tasks.evaluator import Evaluation, TranslationEvaluator


class WordErrorEvaluator(TranslationEvaluator):
    """Decodes as the evaluator of translation does, and counts words: `wer`, jiwer's, in percent.
    References without words are left out."""

    metrics: Mapping[str, Metric] = {"wer": Metric(format="{:.2f}")}

    def __call__(self, params: Params) -> Evaluation:
        import jiwer

        samples = super().__call__(params).samples
        scored = [(out, reference) for _, out, reference in samples if reference.split()]
        rate = jiwer.wer([r for _, r in scored], [out for out, _ in scored]) if scored else 0.0
        return Evaluation(values={"wer": 100 * rate}, samples=samples)
