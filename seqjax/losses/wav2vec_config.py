"""What the contrastive loss says of itself: its section of a configuration, and its `Loss`.

Apart from `wav2vec`, which computes it, so that configurations can be read without JAX.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.losses.declarations import COUNTS, Loss, Metric

LogKey = Literal["prob_perplexity", "code_perplexity", "temp", "num_vars", "features_pen"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wav2VecConfig:
    """fairseq's `wav2vec`."""

    name: Literal["wav2vec"] = "wav2vec"
    """Chooses the loss."""
    infonce: bool = dataclasses.field(default=True, metadata={"fairseq_default": False})
    """Cross entropy over the target and its negatives. fairseq's default is False: a yes or no
    for each of them, which only models before wav2vec 2.0 are trained with; it is not here."""
    loss_weights: tuple[float, ...] | None = None
    """What the further losses of a model are multiplied by: how far its codebook is from being
    used evenly, if it has one, and the mean square of its features; one number is for each of
    them (None: there are none)."""
    log_keys: tuple[LogKey, ...] = ()
    """What else the model says that is reported."""

    def __post_init__(self) -> None:
        if not self.infonce:
            raise ValueError(
                "config.loss.infonce: False (fairseq's default) is for wav2vec 1.0, which is not "
                "here; set it to True, as recipes of wav2vec 2.0 do")


WAV2VEC = Loss(
    name="wav2vec", config=Wav2VecConfig, compute="seqjax.losses.wav2vec:compute",
    needs=frozenset({"negatives"}),
    metrics={
        "loss": Metric(base2=True),
        "loss_0": Metric(base2=True), "loss_1": Metric(base2=True), "loss_2": Metric(base2=True),
        "accuracy": Metric(maximize=True, format="{:.5f}"),
        "prob_perplexity": Metric(), "code_perplexity": Metric(), "temp": Metric(),
        "num_vars": Metric(), "features_pen": Metric(),
        **COUNTS,
    })
