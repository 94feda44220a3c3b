"""Training losses, chosen by name."""

from __future__ import annotations

from seqjax.losses.configs import (
    AdaptiveLossConfig,
    AlignmentLossConfig,
    CrossEntropyConfig,
    LabelSmoothedCrossEntropyConfig,
)

CONFIGS: dict[str, type] = {
    "adaptive_loss": AdaptiveLossConfig,
    "cross_entropy": CrossEntropyConfig,
    "label_smoothed_cross_entropy": LabelSmoothedCrossEntropyConfig,
    "label_smoothed_cross_entropy_with_alignment": AlignmentLossConfig,
}
"""`config.loss.name` -> its dataclass."""
