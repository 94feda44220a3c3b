"""The arrays of a checkpoint folder, read onto the host or onto the devices of any mesh.

Beside the arrays come their checks: shapes that fit, checksums that agree, finite weights.
A fault in reading becomes one error that names the folder and what to do (`DamagedError`).
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from seqjax.checkpoints import checksums
from seqjax.checkpoints.checksums import Tree
from seqjax.checkpoints.folder import (
    CheckpointError,
    check_files,
    damaged,
    find,
    read_assets,
    read_config,
)
from seqjax.config import ConfigError


def read_params(folder: pathlib.Path, *, verify: bool = True) -> Tree:
    """Parameters as nested dicts of float32 numpy arrays, without the optimizer.

    Args:
      verify: refuse what is not what was written, and weights that are not finite.

    Raises:
      DamagedError, checksums.NotFiniteError: naming what is wrong.
    """
    import orbax.checkpoint as ocp

    sums = check_files(folder) if verify else None

    handler = ocp.PyTreeCheckpointHandler()
    with _reading(folder), ocp.Checkpointer(handler) as checkpointer:
        item: Any = (folder / "params").resolve()
        tree = handler.metadata(item).tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        params = checkpointer.restore(item, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    if sums is not None:
        _check_arrays(folder, sums, "params", params)
        checksums.check_finite(params, str(folder))
    return params


def read_arrays(
    folder: pathlib.Path, wanted: Mapping[str, Any], *, verify: bool = True
) -> dict[str, Any]:
    """Whole parts of a checkpoint, placed as `wanted` says.

    Args:
      wanted: `params`, `state` -> shapes with shardings (`jax.ShapeDtypeStruct`), of any mesh.
      verify: as for `read_params`, for every part.

    Returns:
      The parts under the same names, as arrays on the devices.

    Raises:
      CheckpointError: a part has other leaves or shapes than the checkpoint's.
      DamagedError, checksums.NotFiniteError: naming what is wrong.
    """
    import orbax.checkpoint as ocp

    sums = check_files(folder) if verify else None

    found = {}
    with _reading(folder), ocp.Checkpointer(handler := ocp.PyTreeCheckpointHandler()) as reader:
        for name, tree in wanted.items():
            item: Any = (folder / name).resolve()
            check_shapes(handler.metadata(item).tree, tree, str(folder / name))
            args = jax.tree.map(
                lambda x: ocp.ArrayRestoreArgs(sharding=x.sharding, global_shape=x.shape,
                                               dtype=x.dtype), tree)
            found[name] = reader.restore(
                item, args=ocp.args.PyTreeRestore(item=tree, restore_args=args))
    if sums is not None:
        for name, tree in found.items():
            _check_arrays(folder, sums, name, tree)
        if "params" in found:
            checksums.check_finite(_addressable(found["params"]), str(folder))
    return found


def load_for_inference(
    path: str | os.PathLike[str], *, which: str = "best", verify: bool = True
) -> tuple[dict[str, Any], dict[str, bytes], Tree]:
    """What a trained model is: (resolved config as plain data, assets, parameters).

    Args:
      path: a work folder or one checkpoint (see `find`).
      verify: see `read_params`.
    """
    folder = find(path, which=which)
    if verify:
        check_files(folder)
    return read_config(folder), read_assets(folder), read_params(folder, verify=verify)


def check_shapes(saved: Tree, wanted: Tree, where: str) -> None:
    """Raises CheckpointError if two trees have other leaves or shapes; lists them."""

    def shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): tuple(x.shape) for path, x in leaves}

    a, b = shapes(saved), shapes(wanted)
    lines = [f"{k}: {list(a[k]) if k in a else 'absent'} there, "
             f"{list(b[k]) if k in b else 'absent'} here"
             for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]
    if lines:
        more = f"\n  ... and {len(lines) - 8} more" if len(lines) > 8 else ""
        raise CheckpointError(f"{where} does not fit this configuration:\n  "
                              + "\n  ".join(lines[:8]) + more)


def _check_arrays(
    folder: pathlib.Path, found: checksums.Checksums, part: str, tree: Tree
) -> None:
    wrong = found.wrong_arrays(part, tree)
    if wrong:
        few = ", ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise damaged(folder, f"{few} in {part}/ {'is' if len(wrong) == 1 else 'are'} not what "
                              "was written (checksums differ)")


def _addressable(tree: Tree) -> Tree:
    """What this process can look at of arrays on the devices of several."""
    return jax.tree.map(
        lambda x: x if x.is_fully_addressable else [s.data for s in x.addressable_shards], tree)


@contextlib.contextmanager
def _reading(folder: pathlib.Path) -> Iterator[None]:
    from seqjax.checkpoints import orbax_errors

    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint")
    for part in ("params", "state"):
        if not (folder / part).is_dir():
            raise damaged(folder, f"{part}/ is missing", force=False)
    try:
        with warnings.catch_warnings(), orbax_errors.quiet_readers():
            warnings.filterwarnings("ignore", message="Sharding info not provided")
            yield
    except ConfigError:
        raise
    except (PermissionError, MemoryError):
        raise
    except Exception as e:
        if "RESOURCE_EXHAUSTED" in str(e):  # memory, not the checkpoint
            raise
        raise damaged(folder, orbax_errors.reason(e), force=False) from e
