"""What losses of predicted tokens say of themselves: each one's section of a configuration,
and its `Loss`.

Apart from what computes them, so that configurations can be read without JAX.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.losses.declarations import COUNTS, Loss, Metric

_TOKENS = {
    "loss": Metric(base2=True, like_loss=True),
    "nll_loss": Metric(base2=True),
    "ppl": Metric(perplexity_of="nll_loss", format="{:.2f}"),
    **COUNTS,
}
"""Of every loss of predicted tokens."""
_ACCURACY = {"accuracy": Metric(percent=True, maximize=True)}
"""With `report_accuracy`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig:
    """fairseq's `cross_entropy`."""

    name: Literal["cross_entropy"] = "cross_entropy"
    """Chooses the loss."""
    report_accuracy: bool = False
    """Report how many target tokens the model finds the likeliest (`accuracy`, in percent)."""
    logits_budget: int = 64 * 2**20
    """Elements of logits that may exist at once; more are computed in chunks."""

    @property
    def smoothing(self) -> float:
        return 0.0

    @property
    def ignored_prefix(self) -> int:
        return 0


CROSS_ENTROPY = Loss(
    name="cross_entropy", config=CrossEntropyConfig,
    compute="seqjax.losses.cross_entropy:compute", metrics=_TOKENS | _ACCURACY)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelSmoothedCrossEntropyConfig:
    """fairseq's `label_smoothed_cross_entropy`."""

    name: Literal["label_smoothed_cross_entropy"] = "label_smoothed_cross_entropy"
    """Chooses the loss."""
    label_smoothing: float = dataclasses.field(default=0.1, metadata={"fairseq_default": 0.0})
    """Share of the target's probability that is spread over the whole vocabulary."""
    ignore_prefix_size: int = 0
    """Target tokens at the start of each sentence that are not scored."""
    report_accuracy: bool = False
    """Report how many target tokens the model finds the likeliest (`accuracy`, in percent)."""
    logits_budget: int = 64 * 2**20
    """Elements of logits that may exist at once; more are computed in chunks."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"config.loss.label_smoothing: {self.label_smoothing} not in [0, 1)")

    @property
    def smoothing(self) -> float:
        return self.label_smoothing

    @property
    def ignored_prefix(self) -> int:
        return self.ignore_prefix_size


LABEL_SMOOTHED_CROSS_ENTROPY = Loss(
    name="label_smoothed_cross_entropy", config=LabelSmoothedCrossEntropyConfig,
    compute="seqjax.losses.cross_entropy:compute", metrics=_TOKENS | _ACCURACY)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveLossConfig:
    """fairseq's `adaptive_loss`."""

    name: Literal["adaptive_loss"] = "adaptive_loss"
    """Chooses the loss."""
    score_every_tail_word: bool = False
    """fairseq takes the second word of each tail cluster (whose number there equals that
    of padding) for padding and scores its class alone; True scores the word too."""
    logits_budget: int = 64 * 2**20
    """Elements of logits that may exist at once; more are computed in chunks."""


ADAPTIVE_LOSS = Loss(
    name="adaptive_loss", config=AdaptiveLossConfig, compute="seqjax.losses.adaptive:compute",
    metrics=_TOKENS, needs=frozenset({"clusters"}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignmentLossConfig(LabelSmoothedCrossEntropyConfig):
    """fairseq's `label_smoothed_cross_entropy_with_alignment`."""

    name: Literal["label_smoothed_cross_entropy_with_alignment"] = (  # type: ignore[assignment]
        "label_smoothed_cross_entropy_with_alignment")
    """Chooses the loss."""
    alignment_lambda: float = 0.05
    """What the alignment loss is multiplied by."""


ALIGNMENT_LOSS = Loss(
    name="label_smoothed_cross_entropy_with_alignment", config=AlignmentLossConfig,
    compute="seqjax.losses.alignment:compute", needs=frozenset({"alignments"}),
    metrics=_TOKENS | _ACCURACY | {"alignment_loss": Metric(base2=True, like_loss=True)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class CtcBesideConfig(LabelSmoothedCrossEntropyConfig):
    """fairseq's `label_smoothed_cross_entropy_with_ctc`."""

    name: Literal["label_smoothed_cross_entropy_with_ctc"] = (  # type: ignore[assignment]
        "label_smoothed_cross_entropy_with_ctc")
    """Chooses the loss."""
    ctc_weight: float = 1.0
    """What the CTC loss of the encoder's states is multiplied by (0: there is none)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ctc_weight < 0:
            raise ValueError(f"config.loss.ctc_weight: {self.ctc_weight} is negative")


CTC_BESIDE = Loss(
    name="label_smoothed_cross_entropy_with_ctc", config=CtcBesideConfig,
    compute="seqjax.losses.cross_entropy_ctc:compute", needs=frozenset({"ctc"}),
    metrics=_TOKENS | _ACCURACY | {"ctc_loss": Metric(base2=True, like_loss=True)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLMConfig:
    """fairseq's `masked_lm`."""

    name: Literal["masked_lm"] = "masked_lm"
    """Chooses the loss."""
    logits_budget: int = 64 * 2**20
    """Elements of logits that may exist at once; more are computed in chunks."""


MASKED_LM = Loss(
    name="masked_lm", config=MaskedLMConfig, compute="seqjax.losses.masked_lm:compute",
    needs=frozenset({"masks"}),
    metrics={"loss": Metric(base2=True, like_loss=True),
             "ppl": Metric(perplexity_of="loss", format="{:.2f}"), **COUNTS})
