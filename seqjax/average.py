"""The average of several checkpoints' weights, as one checkpoint.

    python -m seqjax.average --inputs runs/demo --num-update-checkpoints 5 --output runs/average
    python -m seqjax.average --inputs checkpoints --num-epoch-checkpoints 5 \\
        --checkpoint-upper-bound 50 --output average.pt
    python -m seqjax.average --inputs a.pt b.pt c.pt --output average.pt

fairseq's scripts/average_checkpoints.py, for its files and for work folders of ours. Half
precision is averaged in float32, integers are divided rounding down, everything else is
the first checkpoint's (the newest's).
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from seqjax import cli, locking
from seqjax.config import ConfigError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """fairseq's flags."""
    parser = cli.Parser(prog="python -m seqjax.average", description=__doc__,
                        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", nargs="+", required=True,
                        help="checkpoints; or one folder, with one of the next three flags")
    parser.add_argument("--output", required=True,
                        help="what to write: NAME.pt of .pt files, a folder of folders")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--num-epoch-checkpoints", type=int, metavar="N",
                       help="the last N of checkpointE.pt in the folder")
    group.add_argument("--num-update-checkpoints", type=int, metavar="N",
                       help="the last N of checkpoint_E_U.pt, or of a work folder")
    group.add_argument("--num-best-checkpoints", type=int, metavar="N",
                       help="the N best of the inputs: by the value at the end of the files' names "
                            "(the smaller the better), or by a work folder's metric")
    parser.add_argument("--checkpoint-upper-bound", type=int, metavar="K",
                        help="none of an epoch or update after K")
    parser.add_argument("--no-verify", dest="verify", action="store_false",
                        help="read what differs from its checksums, or is not finite, as it is")
    args = parser.parse_args(arguments)
    counts = (args.num_epoch_checkpoints, args.num_update_checkpoints, args.num_best_checkpoints)
    if any(n is not None and n < 1 for n in counts):
        parser.error("the number of checkpoints must be 1 or more")
    if args.checkpoint_upper_bound is not None and counts[:2] == (None, None):
        parser.error("--checkpoint-upper-bound needs --num-epoch-checkpoints or "
                     "--num-update-checkpoints")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    paths = select(args)
    for path in paths:
        print(path)
    kinds = {os.path.isfile(path) for path in paths}
    if len(kinds) > 1:
        raise ConfigError("--inputs: .pt files and folders of seqjax cannot be averaged together; "
                          "python -m seqjax.convert makes one of the other")
    with locking.hold(locking.output_lock(args.output), what=f"--output {args.output}"):
        if kinds.pop():
            if not args.output.endswith(".pt"):
                raise ConfigError(f"--output {args.output}: the average of .pt files is a NAME.pt")
            _average_files(paths, args.output, verify=args.verify)
        elif os.path.isdir(args.output):  # where a training may just have begun
            with locking.hold(f"{args.output}/train.lock", what=args.output):
                _average_folders(paths, args.output, verify=args.verify)
        else:
            _average_folders(paths, args.output, verify=args.verify)
    print(f"{args.output}: the average of {len(paths)}")


# ---- which ----


def select(args: argparse.Namespace) -> list[str]:
    """The checkpoints to be averaged, newest (or best) first.

    Raises:
      ConfigError: there are fewer than asked for.
      FileNotFoundError: an input that is not there.
    """
    for path in args.inputs:
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path}: no such file or folder")
    last = args.num_epoch_checkpoints or args.num_update_checkpoints
    if last:
        if len(args.inputs) > 1 or not os.path.isdir(args.inputs[0]):
            raise ConfigError("--num-epoch-checkpoints and --num-update-checkpoints take one "
                              "folder as --inputs")
        return _last(args.inputs[0], last, by_update=bool(args.num_update_checkpoints),
                     bound=args.checkpoint_upper_bound)
    if args.num_best_checkpoints:
        return _best(args.inputs, args.num_best_checkpoints)
    return list(args.inputs)


def _steps(folder: str) -> dict[int, pathlib.Path]:
    """Checkpoints of a work folder of ours, by update."""
    from seqjax import checkpoints

    root = pathlib.Path(folder)
    inner = root / checkpoints.FOLDER
    return checkpoints.steps_in(inner if inner.is_dir() else root)


def _last(folder: str, count: int, *, by_update: bool, bound: int | None) -> list[str]:
    found: dict[int, str] = {}
    pattern = r"checkpoint_\d+_(\d+)\.pt" if by_update else r"checkpoint(\d+)\.pt"
    for name in os.listdir(folder):
        match = re.fullmatch(pattern, name)
        if match:
            found[int(match[1])] = os.path.join(folder, name)
    if not found:
        found = {step: str(path) for step, path in _steps(folder).items()}
        if found and not by_update:
            raise ConfigError(f"{folder}: checkpoints of seqjax are of updates; use "
                              "--num-update-checkpoints")
    kept = sorted((n for n in found if bound is None or n <= bound), reverse=True)
    if len(kept) < count:
        what = "checkpoint_E_U.pt files or checkpoints" if by_update else "checkpointE.pt files"
        upto = "" if bound is None else f" up to {bound}"
        raise ConfigError(f"{folder}: has {len(kept)} {what}{upto}, but {count} are to be averaged")
    return [found[n] for n in kept[:count]]


def _best(inputs: Sequence[str], count: int) -> list[str]:
    if len(inputs) == 1 and os.path.isdir(inputs[0]):
        from seqjax import checkpoints

        scored = []
        for step, path in _steps(inputs[0]).items():
            record = checkpoints.read_record(path)
            if record.metric is not None:
                sign = -1 if record.maximize else 1
                scored.append((sign * record.metric, -step, str(path)))
    else:
        scored = []
        for path in inputs:
            value = os.path.basename(path).removesuffix(".pt").rpartition("_")[2]
            try:
                scored.append((float(value), 0, path))
            except ValueError:
                raise ConfigError(f"{path}: its name does not end in _VALUE.pt, by which the best "
                                  "are chosen (checkpoint.best_loss_3.456.pt)") from None
    if len(scored) < count:
        raise ConfigError(f"{' '.join(inputs)}: {len(scored)} checkpoints with a metric, but "
                          f"{count} are to be averaged")
    return [path for *_, path in sorted(scored)[:count]]


# ---- averages ----


def _average_files(paths: Sequence[str], output: str, *, verify: bool) -> None:
    from seqjax.interop.averaging import average_files

    average_files(paths, output, verify=verify)


def _average_folders(paths: Sequence[str], output: str, *, verify: bool) -> None:
    import dataclasses

    import jax
    import numpy as np

    from seqjax import checkpoints
    from seqjax.config import CheckpointConfig, OptimizerConfig, build
    from seqjax.interop.averaging import Mean
    from seqjax.training import state
    from seqjax.training.checkpoints import Checkpoints
    from seqjax.training.initial_weights import check_same_dictionaries
    from seqjax.training.optimizers import make_optimizer

    folders = [checkpoints.find(path) for path in paths]
    if os.path.isfile(output) or output.endswith(".pt"):
        raise ConfigError(f"--output {output}: the average of folders is a folder; "
                          "python -m seqjax.convert makes a .pt of it")
    if checkpoints.steps_in(pathlib.Path(output) / checkpoints.FOLDER):
        raise ConfigError(f"--output {output}: holds checkpoints already; name another folder")
    mean = Mean()
    first: Any = None
    for folder in folders:
        check_same_dictionaries(folders[0], folder)
        params = checkpoints.read_params(folder, verify=verify)
        if first is None:
            first = params
        checkpoints.check_shapes(params, first, str(folder))
        leaves = jax.tree_util.tree_leaves_with_path(params)
        mean.add({jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves})
    values = mean.result()
    averaged = jax.tree_util.tree_map_with_path(
        lambda path, _: jax.numpy.asarray(values[jax.tree_util.keystr(path)]), first)
    record = checkpoints.read_record(folders[0])
    record = dataclasses.replace(record, metric=None, metric_name=None)
    config = checkpoints.read_config(folders[0])
    settings = build(OptimizerConfig, config.get("optimizer", {}), "config.optimizer")
    # Moments have no average: the optimizer is fresh.
    averaged = state.new_state(averaged, make_optimizer(settings), step=record.step)
    with Checkpoints(output, CheckpointConfig(asynchronous=False)) as store:
        store.save(averaged, record, config=config, assets=checkpoints.read_assets(folders[0]))


if __name__ == "__main__":
    cli.run(main)
