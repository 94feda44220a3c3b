"""Metrics of updates, taken in one by one and said per interval and per epoch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

from seqjax.config import Config
from seqjax.data.pipeline import Batch
from seqjax.training import divergence, triggers
from seqjax.training.metrics import Declared, Meters, Sums
from seqjax.training.progress import Reporter, duration


class MetricsLog:
    """Adds up the metrics of training, and has them reported when it is time to."""

    def __init__(
        self, config: Config, out: Reporter, *, declared: Declared, vocab_size: int | None
    ) -> None:
        """
        Args:
          declared: metrics of the loss.
          vocab_size: words that the model chooses from (None: none).
        """
        self._config, self._out, self._declared = config, out, declared
        self._interval, self._epoch = Meters(declared), Meters(declared)
        self._watch = divergence.Watch(
            vocab_size=vocab_size, metrics=[m.perplexity_of for m in declared.values()
                                            if m.perplexity_of])
        self._last_line = time.monotonic()

    def add(self, sums: Sums, batch: Batch, *, wall: float) -> None:
        """An update that was not skipped.

        Args:
          sums: its metrics, on the host.
          wall: seconds of training so far.
        """
        for meters in (self._interval, self._epoch):
            meters.add(sums, padding=batch.padding)
        done, log = int(sums["num_updates"][0]), self._config.log
        since = time.monotonic() - self._last_line
        late = since > log.interval_seconds > 0
        line = done % log.interval_updates == 0 or (late and not self._out.live)
        if not line and not (self._out.live and since > 0.2):
            return
        values = self._interval.results() | {"wall": wall, "epoch": batch.epoch}
        left = triggers.updates_left(self._config, done=done, batch=batch)
        head = (f"epoch {batch.epoch:03d}: {batch.step + 1:6d} / {batch.updates} "
                f"eta={duration(left / max(values['ups'], 1e-9))}")
        self._out.train(head, values, declared=self._declared, line=line)
        if line:
            self.warn_if_diverged("training", values)
            self._interval.reset()
        self._last_line = time.monotonic()

    def end_epoch(self, batch: Batch, *, wall: float) -> None:
        """Says the epoch's numbers and begins to add up the next one's.

        Args:
          batch: its last.
        """
        values = self._epoch.results() | {"wall": wall, "epoch": batch.epoch}
        self._out.summary("train", f"epoch {batch.epoch:03d} | train", values,
                          declared=self._declared)
        self.warn_if_diverged("training", values)
        self._epoch.reset()

    def warn_if_diverged(self, what: str, values: Mapping[str, float]) -> None:
        """Says once that a loss is beyond reason; see `divergence.Watch`."""
        text = self._watch(what, values)
        if text:
            self._out.say(text)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not spent on training, and does not count for its speed."""
        began = time.monotonic()
        yield
        for meters in (self._interval, self._epoch):
            meters.pause(time.monotonic() - began)
