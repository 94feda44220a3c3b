"""What is said of training: sums and weights from the step become fairseq's numbers.

How a number is averaged and shown is declared where it is made: of a loss in its `metrics`,
of the update in `train_step.METRICS`, of the clock in `SPEED` here. Losses are divided by ln 2
here and only here, as fairseq logs them. Nothing here touches a device or a file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from seqjax.losses import Metric
from seqjax.training import train_step

Declared = Mapping[str, Metric]
"""Name of a metric -> what is declared of it."""
Sums = Mapping[str, tuple[Any, Any]]
"""Name -> (sum, weight), host numbers."""

SPEED: dict[str, Metric] = {
    "wps": Metric(format="{:.1f}"), "ups": Metric(format="{:.2f}"),
    "wpb": Metric(format="{:.1f}"), "bsz": Metric(format="{:.1f}"),
    "padding": Metric(percent=True, format="{:.1f}"), "train_wall": Metric(format="{:.0f}"),
    "wall": Metric(format="{:.0f}"), "epoch": Metric(format="{:.0f}"),
}
"""What `Meters` and the loop around it count and time."""


def averages(sums: Sums, declared: Declared) -> dict[str, float]:
    """Means by weight, as declared: losses in base 2, shares in percent, and perplexities.

    Args:
      declared: of every name in `sums`.
    """
    found = {}
    for name, (total, weight) in sums.items():
        metric = declared[name]
        if metric.count:
            continue
        mean = float(total) / float(weight) if float(weight) else float("nan")
        found[name] = mean / math.log(2) if metric.base2 else mean
        if metric.percent:
            found[name] = 100 * mean
    for name, metric in declared.items():
        if metric.perplexity_of in found:
            base = found[metric.perplexity_of]
            found[name] = 2.0**base if base < 1000 else math.inf
    return found


def add_sums(into: dict[str, tuple[float, float]], sums: Sums) -> None:
    """Adds sums and weights by name, in place."""
    for name, (total, weight) in sums.items():
        a, b = into.get(name, (0.0, 0.0))
        into[name] = (a + float(total), b + float(weight))


class Meters:
    """Running sums over some updates: an interval, an epoch."""

    def __init__(self, declared: Declared) -> None:
        """
        Args:
          declared: the metrics of the loss.
        """
        self._declared = declared
        self.reset()

    def reset(self) -> None:
        """Forgets everything and starts the clock."""
        self._sums: dict[str, tuple[float, float]] = {}
        self._last: dict[str, float] = {}
        self._updates, self._padding = 0, 0.0
        self._start = time.monotonic()
        self._paused = 0.0

    def __len__(self) -> int:
        return self._updates

    def add(self, sums: Sums, *, padding: float) -> None:
        """One update.

        Args:
          padding: share of its positions that are padding.
        """
        add_sums(self._sums, sums)
        self._last = {name: float(sums[name][0]) for name in train_step.METRICS if name in sums}
        self._updates += 1
        self._padding += padding

    def pause(self, seconds: float) -> None:
        """Time that was not spent on training (validation)."""
        self._paused += seconds

    def results(self) -> dict[str, float]:
        """fairseq's numbers: loss, nll_loss, ppl, ..., wps, ups, wpb, bsz, num_updates, lr,
        gnorm, clip (% of updates), padding (%), train_wall (seconds)."""
        if not self._updates:
            return {}
        seconds = max(time.monotonic() - self._start - self._paused, 1e-9)
        tokens, _ = self._sums.get("ntokens", (0.0, 1.0))
        sentences, _ = self._sums.get("nsentences", (0.0, 1.0))
        found = averages({k: v for k, v in self._sums.items() if k not in train_step.METRICS},
                         self._declared)
        found |= {
            "wps": tokens / seconds,
            "ups": self._updates / seconds,
            "wpb": tokens / self._updates,
            "bsz": sentences / self._updates,
            "num_updates": self._last.get("num_updates", 0.0),
            "lr": self._last.get("lr", 0.0),
        }
        for name in ("gnorm", "clip"):
            if name in self._sums:
                total, weight = self._sums[name]
                scale = 100.0 if train_step.METRICS[name].percent else 1.0
                found[name] = scale * total / weight
        found["padding"] = 100.0 * self._padding / self._updates
        found["train_wall"] = seconds
        return found


def shown(values: Mapping[str, Any], declared: Declared) -> dict[str, str]:
    """Numbers as fairseq prints them (3 decimals unless another format is declared); beyond
    a billion in scientific notation.

    Args:
      declared: of the loss and of what else was measured; the trainer's own are known.
    """
    known = {**train_step.METRICS, **SPEED, **declared}
    return {k: v if isinstance(v, str) else _form(known.get(k, Metric()).format, v).format(v)
            for k, v in values.items()}


def _form(form: str, value: float) -> str:
    return "{:.4g}" if abs(value) >= 1e9 and form != "{:.0f}" else form


def is_maximized(name: str, declared: Declared, *, chosen: bool | None) -> bool:
    """Whether a higher value of the metric that is watched is better.

    Args:
      chosen: `valid.maximize` (None: as it is declared).
    """
    if chosen is not None:
        return chosen
    return name in declared and declared[name].maximize
