"""Averages of weights with fairseq's arithmetic, for its files and for named arrays."""

from __future__ import annotations

import argparse
import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from seqjax.checkpoints.checksums import check_finite
from seqjax.config import ConfigError
from seqjax.interop.torch.files import drop_pages, read_pt
from seqjax.interop.torch.writer import write_pt

_HALF = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


class Mean:
    """Adds up named arrays one checkpoint at a time, so that one sum is all that it keeps."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, np.ndarray] = {}

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """One checkpoint's.

        Raises:
          ConfigError: other names or shapes than the first one's; lists them.
        """
        if self.count:
            self._check(arrays)
        for name, value in arrays.items():
            wide = value.astype(np.float32) if value.dtype in _HALF else value
            if not self.count:
                self._sums[name] = np.array(wide)
            else:
                self._sums[name] += wide
        self.count += 1

    def _check(self, arrays: Mapping[str, np.ndarray]) -> None:
        lines = []
        for name in sorted(self._sums.keys() | arrays.keys()):
            shapes = [list(side[name].shape) if name in side else "absent"
                      for side in (self._sums, arrays)]
            if shapes[0] != shapes[1]:
                lines.append(f"{name}: {shapes[0]} in the first, {shapes[1]} here")
        if lines:
            more = f"\n  ... and {len(lines) - 8} more" if len(lines) > 8 else ""
            raise ConfigError("other weights than the first checkpoint's:\n  "
                              + "\n  ".join(lines[:8]) + more)

    def result(self) -> dict[str, np.ndarray]:
        """The averages; integers are divided rounding down."""
        for value in self._sums.values():
            if np.issubdtype(value.dtype, np.integer):
                value //= self.count
            elif value.dtype != np.bool_:
                value /= value.dtype.type(self.count)
        return self._sums


def average_files(
    paths: Sequence[str | os.PathLike[str]], output: str, *, verify: bool = True
) -> None:
    """The average of `.pt` files as another, whole or not at all. All but the weights is
    the first file's; optimizer state, which has no average, is left out.

    Args:
      verify: refuse weights that are not finite.

    Raises:
      FileNotFoundError, ConfigError: a file that cannot be read, or of another model.
    """
    mean, first = Mean(), None
    for path in paths:
        tree = read_pt(path)
        if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
            raise ConfigError(f"{path}: not a fairseq checkpoint: it has no `model`")
        if verify:
            check_finite(tree["model"], os.fspath(path))
        try:
            mean.add(tree["model"])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        for value in tree["model"].values():
            drop_pages(value)
        first = tree if first is None else first
    assert first is not None
    averages = mean.result()
    weights = collections.OrderedDict((name, averages[name]) for name in first["model"])
    write_pt(output, {**_with_namespaces(first), "model": weights, "last_optimizer_state": None})


def _with_namespaces(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Options as fairseq stores them: reading has made plain dicts of its Namespaces."""
    result = dict(tree)
    if isinstance(result.get("args"), Mapping):
        result["args"] = argparse.Namespace(**result["args"])
    cfg = result.get("cfg")
    if isinstance(cfg, Mapping) and "arch" in (cfg.get("model") or {}):
        # What --arch chose is a Namespace; models of the newer kind have no `arch`.
        result["cfg"] = {**cfg, "model": argparse.Namespace(**cfg["model"])}
    return result
