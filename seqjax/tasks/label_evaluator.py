"""How good a classifier is while it trains: its predictions of a split in, metrics of all of them
together and samples out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from seqjax.data.epoch_plan import Shape
from seqjax.data.sentences import SentenceDataset
from seqjax.losses import Metric
from seqjax.models.protocol import Params, SentenceClassifier, sentence_source
from seqjax.tasks import label_metrics
from seqjax.tasks.evaluator import Evaluation

_ROWS, _WIDTH = 32, 16
"""Rows of a batch, and what its padded length is a multiple of."""
_SAMPLES = 100
"""Of the first so many sentences."""


class LabelEvaluator:
    """Predicts labels and compares them.

    The compiled pass is kept from call to call.

    Args:
      head: of the model.
      dataset: with labels.
      reports: names of `label_metrics.METRICS`.
      names: of the classes.
      text: ids -> plain text.
      limit: only the first so many sentences (0: all).
      longest: tokens of the longest sentence; longer ones are left out.
      sharding, row_multiple: how rows lie on the devices.
    """

    def __init__(
        self, model: SentenceClassifier, head: str, dataset: SentenceDataset, *,
        reports: Sequence[str], names: Sequence[str], text: Callable[[np.ndarray], str],
        longest: int, limit: int = 0, sharding: jax.sharding.Sharding | None = None,
        row_multiple: int = 1,
    ) -> None:
        lengths = dataset.lengths.source
        assert dataset.labels is not None and lengths is not None
        self._dataset, self._reports, self._names = dataset, tuple(reports), list(names)
        self._text, self._sharding = text, sharding
        self._rows = -(-_ROWS // row_multiple) * row_multiple
        self._ids = np.flatnonzero(lengths <= longest)[: limit or None]
        self._labels = dataset.labels[self._ids]
        order = np.argsort(lengths[self._ids], kind="stable")
        self._plan = [order[i : i + self._rows] for i in range(0, len(order), self._rows)]
        widest = [int(lengths[self._ids[places]].max()) for places in self._plan]
        self._widths = [min(-(-width // _WIDTH) * _WIDTH, longest) for width in widest]

        def logits(params: Params, source: jax.Array) -> jax.Array:
            return model.class_logits(
                params, head, sentence_source(source, pad=model.pad, eos=model.eos))

        self._logits: Any = jax.jit(logits)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Those that were asked for."""
        return {name: label_metrics.METRICS[name] for name in self._reports}

    def __call__(self, params: Params) -> Evaluation:
        """Predicts with these parameters."""
        found: np.ndarray | None = None
        for places, width in zip(self._plan, self._widths, strict=True):
            shape, rows = Shape(self._rows, width, 0), np.arange(len(places))
            source = self._dataset.materialise(self._ids[places], rows, shape)["source"]
            placed = source if self._sharding is None else jax.device_put(source, self._sharding)
            logits = np.asarray(self._logits(params, placed))[: len(places)]
            if found is None:
                found = np.zeros((len(self._ids), logits.shape[1]), np.float32)
            found[places] = logits
        assert found is not None
        classes = self._labels.ndim == 1
        predictions = found.argmax(axis=1) if classes else found
        return Evaluation(
            values=label_metrics.measure(
                predictions, self._labels, self._reports, names=self._names),
            samples=[(self._text(self._dataset.sentence(int(i))), self._shown(predictions[place]),
                      self._shown(self._labels[place]))
                     for place, i in enumerate(self._ids[:_SAMPLES])])

    def _shown(self, label: Any) -> str:
        if np.ndim(label) == 0:
            return self._names[label] if label < len(self._names) else str(label)
        return " ".join(f"{x:.4g}" for x in label)
