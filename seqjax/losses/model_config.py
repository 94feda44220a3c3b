"""What the loss of models that say their losses themselves says of itself: its section of a
configuration, and its `Loss`.

Apart from `model_loss`, which computes it, so that configurations can be read without JAX.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.losses.declarations import COUNTS, Loss, Metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelLossConfig:
    """fairseq's `model`."""

    name: Literal["model"] = "model"
    """Chooses the loss."""
    loss_weights: dict[str, float] = dataclasses.field(default_factory=dict)
    """What each of the model's losses is multiplied by (1 where it is not named)."""
    log_keys: tuple[Literal["ema_decay", "target_var", "pred_var"], ...] = ()
    """What else the model says that is reported."""


MODEL = Loss(
    name="model", config=ModelLossConfig, compute="seqjax.losses.model_loss:compute",
    needs=frozenset({"losses"}),
    metrics={
        "loss": Metric(), "ema_decay": Metric(maximize=True), "target_var": Metric(maximize=True),
        "pred_var": Metric(maximize=True), **COUNTS,
    })
