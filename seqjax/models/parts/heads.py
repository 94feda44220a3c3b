"""Heads for classification, which fairseq's pretrained models carry when they were fine-tuned:
names of weights in, a warning out. They go from file to file; no model here has any yet."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable

NAMES = r"classification_heads\..*"
"""What their weights are called."""
REFUSED = {"spectral_norm_classification_head": (False,)}
"""See `tables.ConfigKeys`: of a head of such weights there are others."""
DROPPED = {"pooler_dropout": (0, 0.0), "pooler_activation_fn": ("tanh",)}
"""Keys that are about heads alone -> what they are by default."""


def warn(names: Iterable[str]) -> None:
    """Says which heads a file has, if any: fairseq leaves them out, too, unless it is asked to
    load them."""
    found = sorted({name.split(".")[1] for name in names if re.fullmatch(NAMES, name)})
    if found:
        warnings.warn(
            f"the checkpoint has classification heads ({', '.join(found)}), which are written "
            "again when it is converted back, but not used: seqjax has no such heads",
            stacklevel=2)


def warn_of(heads: Iterable[str], names: Iterable[str]) -> None:
    """Says which of these heads of transformers' classes a file has: modules that begin names."""
    there = {name.split(".")[0] for name in names}
    found = [head for head in heads if head in there]
    if found:
        warnings.warn(
            f"the weights have heads ({', '.join(found)}), which are written again when they are "
            "converted back, but not used", stacklevel=2)
