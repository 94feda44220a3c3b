"""How far a run is: what its loop remembers between updates, on the host."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import math
import platform
from typing import Any

import jax

from seqjax.checkpoints import Record
from seqjax.data.pipeline import DataState


@dataclasses.dataclass(kw_only=True)
class Progress:
    """Updates, place in the data and validations so far; `Record` is its form in a checkpoint."""

    step: int = 0
    """Updates dispatched, less those known to have been skipped."""
    data: DataState = DataState()
    best: float | None = None
    """Best metric of all validations."""
    bad_validations: int = 0
    """Validations in a row without improvement."""
    seconds: float = 0.0
    """Training time of earlier runs."""
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Every validation."""
    validated_at: int = -1
    """Update of the last validation."""
    metric: float | None = None
    """Its result, rounded."""

    @classmethod
    def of(cls, record: Record, *, metric_name: str) -> Progress:
        """The progress of a checkpoint.

        Args:
          metric_name: the metric to watch; of another nothing is known.
        """
        same = record.metric_name == metric_name
        return cls(
            step=record.step, data=DataState(**record.data), seconds=record.seconds,
            history=list(record.history), metric=record.metric,
            best=record.best if same else None,
            bad_validations=record.bad_validations if same else 0,
            validated_at=record.step if same and record.metric is not None else -1,
        )

    @property
    def validated(self) -> bool:
        """Whether the last validation was of the state as it is now."""
        return self.validated_at == self.step

    def take_validation(self, metric: float, *, maximize: bool) -> None:
        """The result of a validation now; it is compared as it is shown, with 3 decimals."""
        self.metric, self.validated_at = round(metric, 3), self.step
        better = _better(self.metric, self.best, maximize)
        self.best = self.metric if better else self.best
        self.bad_validations = 0 if better else self.bad_validations + 1

    def record(self, *, metric_name: str, maximize: bool, seconds: float) -> Record:
        """What a checkpoint of now says.

        Args:
          seconds: of training up to now.
        """
        return Record(
            step=self.step, data=dataclasses.asdict(self.data), metric_name=metric_name,
            metric=self.metric if self.validated else None, maximize=maximize, best=self.best,
            bad_validations=self.bad_validations, seconds=seconds, history=self.history,
            versions=_versions(),
        )


def _better(value: float, best: float | None, maximize: bool) -> bool:
    if math.isnan(value):
        return False
    return best is None or (value > best if maximize else value < best)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "backend": jax.default_backend()}
    for package in ("seqjax", "jax", "flax", "orbax-checkpoint"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
