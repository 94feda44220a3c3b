"""What a loss says of itself: the metrics it reports, what it needs, where it is computed.

It imports no JAX, so that configurations can be read and checked without it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """How the number of one name is averaged, shown and compared."""

    base2: bool = False
    """It is computed in natural logarithm and reported in base 2, as fairseq's losses are."""
    percent: bool = False
    """It is computed as a share and reported in percent."""
    maximize: bool = False
    """More is better: where `valid.metric` names it, the highest is the best."""
    format: str = "{:.3f}"
    """How people see it."""
    like_loss: bool = False
    """It is averaged over what the loss is averaged over: with `train.sentence_avg`, over
    sentences, whatever weight it was computed with."""
    count: bool = False
    """A number of things, of which speeds and sizes of batches are made; reported by itself
    it is not."""
    perplexity_of: str = ""
    """2 to the power of the metric of that name, which is in base 2; then `compute` does not
    give it."""


COUNTS: dict[str, Metric] = {"ntokens": Metric(count=True), "nsentences": Metric(count=True)}
"""What every loss reports of its batch: target tokens, and sentences."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """One loss: fairseq's criterion.

    Raises:
      ValueError: `metrics` lack what every loss has, or contradict each other.
    """

    name: str
    """`config.loss.name`."""
    config: type
    """Its section of the configuration: a frozen dataclass with `name`."""
    compute: str | Callable[..., Any]
    """The function (forward, batch, config, *, update) -> LossOutput, pure, or
    `module:function` of it, imported when it is first used:
      forward: a `base.Forward`, what the task's forward pass gave.
      batch: arrays [B, ...] that the data gave.
      config: an instance of `config`.
      update: int32 scalar, fairseq's `num_updates`: updates done before this one."""
    metrics: Mapping[str, Metric]
    """Of every name that may be among `LossOutput.metrics`: `loss`, `COUNTS` and its own; and
    those made of them (`perplexity_of`)."""
    needs: frozenset[str] = frozenset()
    """What it cannot do without, by the names that keys of models and tasks say they give
    (`config.gives`): `clusters`, `alignments`."""

    def __post_init__(self) -> None:
        missing = {"loss", *COUNTS} - set(self.metrics)
        if missing:
            raise ValueError(f"loss {self.name!r}: its metrics lack {', '.join(sorted(missing))}, "
                             "which every loss reports")
        for name, metric in self.metrics.items():
            of = metric.perplexity_of
            if of and not (of in self.metrics and self.metrics[of].base2):
                raise ValueError(f"loss {self.name!r}: {name} is the perplexity of {of}, which is "
                                 "not among its metrics in base 2")

    @property
    def Config(self) -> type:  # noqa: N802 - as a class of a caller's own names it
        """`config`."""
        return self.config

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        """`compute`, imported."""
        if not isinstance(self.compute, str):
            return self.compute
        module, _, name = self.compute.partition(":")
        return getattr(importlib.import_module(module), name)

    @property
    def computed(self) -> frozenset[str]:
        """Names of the metrics that `compute` may give."""
        return frozenset(n for n, metric in self.metrics.items() if not metric.perplexity_of)
