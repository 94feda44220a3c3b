"""How good predictions of whole splits are: scikit-learn's F1 and Matthews' coefficient, scipy's
correlations. Predictions and labels in, percentages by fairseq's names out.

They are of all sentences together: a mean over batches would be another number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seqjax.config import Config, ConfigError
from seqjax.losses import Metric

METRICS: Mapping[str, Metric] = {
    name: Metric(maximize=True, format="{:.1f}")
    for name in ("mcc", "f1", "acc_and_f1", "pearson", "spearman", "pearson_and_spearman")}
"""Name -> how it is read; all are in percent."""
REPORTS: Mapping[str, tuple[str, ...]] = {
    "report_mcc": ("mcc",),
    "report_acc_and_f1": ("f1", "acc_and_f1"),
    "report_pearson_and_spearman": ("pearson", "spearman", "pearson_and_spearman"),
}
"""The loss's key -> what it asks for."""
POSITIVE = "1"
"""The label whose F1 is measured, as in GLUE."""
_REGRESSION = REPORTS["report_pearson_and_spearman"]


def asked(config: Config, *, regression: bool, names: Sequence[str]) -> tuple[str, ...]:
    """What a configuration wants measured: by its loss's reports, or as `valid.metric`.

    Args:
      regression: labels are numbers.
      names: of the classes; none where they are not known.

    Raises:
      ConfigError: what cannot be measured of such labels.
    """
    wanted = {name: f"config.loss.{key}" for key, group in REPORTS.items()
              if getattr(config.loss, key, False) for name in group}
    if config.valid.metric in METRICS:
        wanted.setdefault(config.valid.metric, "config.valid.metric")
    for name, key in wanted.items():
        if regression != (name in _REGRESSION):
            kind = "a regression" if regression else "classes"
            other = ", ".join(n for n in METRICS if (n in _REGRESSION) == regression)
            raise ConfigError(f"{key}: {name} is not measured of {kind}; {other} are")
        if name in ("f1", "acc_and_f1") and names and sorted(names) != ["0", POSITIVE]:
            raise ConfigError(f"{key}: {name} is of two classes labelled 0 and {POSITIVE}, but the "
                              f"labels are {', '.join(names)}")
    return tuple(name for name in METRICS if name in wanted)


def measure(
    predictions: np.ndarray, labels: np.ndarray, reports: Sequence[str], *, names: Sequence[str],
) -> dict[str, float]:
    """The metrics that are asked for, in percent.

    Args:
      predictions, labels: [N] classes, or [N, C] values of a regression.
      names: of the classes.
    """
    found: dict[str, float] = {}
    if set(reports) & set(_REGRESSION):
        found |= _correlations(predictions.reshape(-1), labels.reshape(-1))
    if "mcc" in reports:
        from sklearn.metrics import matthews_corrcoef

        found["mcc"] = float(matthews_corrcoef(labels, predictions))
    if {"f1", "acc_and_f1"} & set(reports):
        from sklearn.metrics import f1_score

        one = names.index(POSITIVE) if POSITIVE in names else 1
        found["f1"] = float(f1_score(labels == one, predictions == one))
        found["acc_and_f1"] = (found["f1"] + float((predictions == labels).mean())) / 2
    return {name: 100 * found[name] for name in reports}


def _correlations(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Pearson's and Spearman's; 0 where either side does not vary and there is none."""
    from scipy import stats

    if len(labels) < 2 or np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return dict.fromkeys(_REGRESSION, 0.0)
    pearson = float(np.asarray(stats.pearsonr(predictions, labels))[0])
    spearman = float(np.asarray(stats.spearmanr(predictions, labels))[0])
    return {"pearson": pearson, "spearman": spearman,
            "pearson_and_spearman": (pearson + spearman) / 2}
