"""What losses of whole sentences say of themselves: each one's section of a configuration, and
its `Loss`. Apart from what computes them, so that configurations can be read without JAX."""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.losses.declarations import COUNTS, Loss, Metric

HEAD = "sentence_classification_head"
"""fairseq's name of the head where no other is chosen."""
_METRICS = {
    "loss": Metric(base2=True, like_loss=True),
    "nll_loss": Metric(base2=True),
    "accuracy": Metric(percent=True, maximize=True),
    **COUNTS,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentencePredictionLossConfig:
    """fairseq's `sentence_prediction`."""

    name: Literal["sentence_prediction"] = "sentence_prediction"
    """Chooses the loss."""
    classification_head_name: str = HEAD
    """The head that is trained; the task's key of the same name is this one."""
    regression_target: bool = False
    """Labels are numbers, and the loss is the squared error; the task's key of the same name is
    this one."""
    report_mcc: bool = False
    """Measure Matthews' correlation coefficient (`mcc`, in percent) at validations."""
    report_acc_and_f1: bool = False
    """Measure F1 of the label `1` (`f1`) and its mean with the accuracy (`acc_and_f1`), in
    percent."""
    report_pearson_and_spearman: bool = False
    """Measure the correlations of a regression (`pearson`, `spearman`, and their mean
    `pearson_and_spearman`), in percent."""


SENTENCE_PREDICTION = Loss(
    name="sentence_prediction", config=SentencePredictionLossConfig, metrics=_METRICS,
    compute="seqjax.losses.sentences:prediction", needs=frozenset({"classes"}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceRankingLossConfig:
    """fairseq's `sentence_ranking`."""

    name: Literal["sentence_ranking"] = "sentence_ranking"
    """Chooses the loss."""
    ranking_head_name: str = HEAD
    """The head that is trained; the task's key of the same name is this one."""


SENTENCE_RANKING = Loss(
    name="sentence_ranking", config=SentenceRankingLossConfig, metrics=_METRICS,
    compute="seqjax.losses.sentences:ranking", needs=frozenset({"candidates"}))
