"""What the loss over alignments says of itself: its section of a configuration, and its `Loss`.

Apart from `ctc`, which computes it, so that configurations can be read without JAX.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.losses.declarations import COUNTS, Loss, Metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class CtcConfig:
    """fairseq's `ctc`."""

    name: Literal["ctc"] = "ctc"
    """Chooses the loss."""
    zero_infinity: bool = False
    """Rows with more symbols than their frames can say cost nothing; else their loss is
    infinite, and the update is refused."""
    post_process: str = "letter"
    """How predicted symbols become words, whose errors validations count: `letter`, `silence`,
    `none`, or the name of a subword model."""


CTC = Loss(
    name="ctc", config=CtcConfig, compute="seqjax.losses.ctc:compute",
    needs=frozenset({"frame_symbols"}),
    metrics={
        "loss": Metric(base2=True, like_loss=True), "nll_loss": Metric(base2=True), **COUNTS,
    })
