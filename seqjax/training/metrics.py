"""What is said of training: sums and weights from the step become fairseq's numbers.

Losses are divided by ln 2 here and only here, as fairseq logs them. Nothing here touches
a device or a file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

BASE_2 = ("loss", "nll_loss", "alignment_loss")
"""Metrics that the step gives in natural logarithm and people read in base 2."""
PER_UPDATE = ("lr", "gnorm", "clip", "num_updates", "skipped")
"""Metrics of the update, not of its tokens."""
MAXIMIZE = ("bleu", "chrf", "accuracy")
"""Metrics of which more is better."""

Sums = Mapping[str, tuple[Any, Any]]
"""Name -> (sum, weight), host numbers."""


def averages(sums: Sums) -> dict[str, float]:
    """Means by weight; losses in base 2, with `ppl` = 2 ** nll_loss (or loss)."""
    found = {}
    for name, (total, weight) in sums.items():
        if name in ("ntokens", "nsentences"):
            continue
        mean = float(total) / float(weight) if float(weight) else float("nan")
        found[name] = mean / math.log(2) if name in BASE_2 else mean
        if name == "accuracy":
            found[name] = 100 * mean  # fairseq's is in percent
    base = found.get("nll_loss", found.get("loss"))
    if base is not None:
        found["ppl"] = 2.0**base if base < 1000 else math.inf
    return found


def add_sums(into: dict[str, tuple[float, float]], sums: Sums) -> None:
    """Adds sums and weights by name, in place."""
    for name, (total, weight) in sums.items():
        a, b = into.get(name, (0.0, 0.0))
        into[name] = (a + float(total), b + float(weight))


class Meters:
    """Running sums over some updates: an interval, an epoch."""

    def __init__(self) -> None:
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
        self._last = {name: float(sums[name][0]) for name in PER_UPDATE if name in sums}
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
        found = averages({k: v for k, v in self._sums.items() if k not in PER_UPDATE})
        found |= {
            "wps": tokens / seconds,
            "ups": self._updates / seconds,
            "wpb": tokens / self._updates,
            "bsz": sentences / self._updates,
            "num_updates": self._last.get("num_updates", 0.0),
            "lr": self._last.get("lr", 0.0),
        }
        for name, scale in (("gnorm", 1.0), ("clip", 100.0)):
            if name in self._sums:
                total, weight = self._sums[name]
                found[name] = scale * total / weight
        found["padding"] = 100.0 * self._padding / self._updates
        found["train_wall"] = seconds
        return found


_FORMATS = {
    "ppl": "{:.2f}", "wps": "{:.1f}", "ups": "{:.2f}", "wpb": "{:.1f}", "bsz": "{:.1f}",
    "num_updates": "{:.0f}", "lr": "{:.6g}", "clip": "{:.1f}", "padding": "{:.1f}",
    "train_wall": "{:.0f}", "wall": "{:.0f}", "bleu": "{:.2f}",
    "epoch": "{:.0f}",
}


def shown(values: Mapping[str, Any]) -> dict[str, str]:
    """Numbers as fairseq prints them (3 decimals unless it has another format); beyond
    a billion in scientific notation."""
    return {k: v if isinstance(v, str) else _form(k, v).format(v) for k, v in values.items()}


def _form(name: str, value: float) -> str:
    form = _FORMATS.get(name, "{:.3f}")
    return "{:.4g}" if abs(value) >= 1e9 and form != "{:.0f}" else form
