"""What the masked-unit loss says of itself: its section of a configuration, and its `Loss`.

Apart from `masked_units`, which computes it, so that configurations can be read without JAX.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.losses.declarations import COUNTS, Loss, Metric

LISTS = 8
"""Lists of labels that are reported each by itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedUnitsConfig:
    """fairseq's `hubert`."""

    name: Literal["hubert"] = "hubert"
    """Chooses the loss."""
    pred_masked_weight: float = 1.0
    """What masked frames count."""
    pred_nomask_weight: float = 0.0
    """What the others count."""
    loss_weights: tuple[float, ...] | None = None
    """What the mean square of the features is multiplied by (None: it is no part of the
    loss)."""
    log_keys: tuple[Literal["features_pen"], ...] = ()
    """What else the model says that is reported."""

    def __post_init__(self) -> None:
        if min(self.pred_masked_weight, self.pred_nomask_weight) < 0 or not (
                self.pred_masked_weight or self.pred_nomask_weight):
            raise ValueError(
                f"config.loss.pred_masked_weight, pred_nomask_weight: {self.pred_masked_weight} "
                f"and {self.pred_nomask_weight}; neither is negative, one is above 0")


_OF_LISTS = {
    f"{name}_{letter}_{i}": metric
    for i in range(LISTS) for letter in "mu" for name, metric in (
        ("loss", Metric(base2=True)), ("correct", Metric(maximize=True, format="{:.5f}")),
        ("count", Metric(format="{:.0f}")))}

MASKED_UNITS = Loss(
    name="hubert", config=MaskedUnitsConfig, compute="seqjax.losses.masked_units:compute",
    needs=frozenset({"frame_labels"}),
    metrics={
        "loss": Metric(base2=True), "ppl": Metric(perplexity_of="loss", format="{:.2f}"),
        "loss_features_pen": Metric(base2=True), "features_pen": Metric(),
        **_OF_LISTS, **COUNTS,
    })
