"""A fairseq run goes on here: what we log, and the weights we end with, against fairseq's own.

    python scripts/check_resume.py FOLDER [--resets]

FOLDER holds `data-bin*` and `resume_adam/` with `args.json` (fairseq-train's arguments),
`checkpoint_at_20.pt`, `log_to_30.json` and `checkpoint_at_30.pt`. Goes the user's way: `convert
args` writes the configuration, `train` continues the checkpoint. Prints a line per update.
`--resets` runs what `tests/goldens/flags/resets.json` has of fairseq: each kind of start.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import pathlib
import shlex
import sys
import tempfile

import jax
import numpy as np

from seqjax import checkpoints, convert, train
from seqjax.interop.fairseq.checkpoint import load_fairseq
from seqjax.training.sharding import path_name

DIGITS = {"loss": 3, "nll_loss": 3, "gnorm": 3, "wpb": 1, "bsz": 1}
"""Decimal places that fairseq logs."""


def continued(folder: pathlib.Path, work: pathlib.Path) -> list[dict]:
    """Our log of updates 21 to 30."""
    run = folder / "resume_adam"
    command = ["fairseq-train", *json.loads((run / "args.json").read_text())]
    config = io.StringIO()
    with contextlib.redirect_stdout(config), contextlib.redirect_stderr(io.StringIO()):
        convert.main(["args", shlex.join(command)])
    (work / "config.py").write_text(config.getvalue())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train.main([
            "--config", str(work / "config.py"), "--workdir", str(work / "run"),
            f"--config.task.data={folder / command[1]}",
            f"--config.resume_from={run / 'checkpoint_at_20.pt'}",
            "--config.train.max_update=30", "--config.log.interval_updates=1",
            "--config.log.tensorboard=False",
        ])
    lines = (work / "run" / "metrics.jsonl").read_text().splitlines()
    return [x for x in map(json.loads, lines) if x["group"] == "train_inner"]


def end_weights(folder: pathlib.Path, work: pathlib.Path) -> float:
    """The largest difference of a parameter after the last update; key biases, which have no
    true gradient, left out."""
    _, _, ours = checkpoints.load_for_inference(str(work / "run"), which="last")
    theirs = load_fairseq(folder / "resume_adam" / "checkpoint_at_30.pt").params
    pairs = zip(jax.tree_util.tree_leaves_with_path(theirs), jax.tree.leaves(ours), strict=True)
    return max(float(np.abs(x - np.asarray(y)).max()) for (path, x), y in pairs
               if not path_name(path).endswith("k_proj/bias"))


def check(folder: pathlib.Path) -> bool:
    """Prints a line per update; whether all say what fairseq said."""
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        found = {int(x["num_updates"]): x for x in continued(folder, work)}
        weights = end_weights(folder, work)
    good = weights < 1e-4
    for theirs in json.loads((folder / "resume_adam" / "log_to_30.json").read_text()):
        number = int(theirs["num_updates"])
        ours = found[number]
        same = all(abs(ours[key] - float(theirs[key])) <= 1.1 * 10**-digits
                   for key, digits in DIGITS.items())
        same &= abs(ours["lr"] / float(theirs["lr"]) - 1) < 1e-5
        good &= same
        print(f"{'ok  ' if same else 'FAIL'} resume_adam update {number}: " + "  ".join(
            f"{key} {ours[key]:.4g} ({theirs[key]})" for key in (*DIGITS, "lr")))
    print(f"{'ok  ' if weights < 1e-4 else 'FAIL'} resume_adam end weights {weights:.1e}")
    return good


def check_resets(folder: pathlib.Path) -> bool:
    """The reset flags, as fairseq was seen to honour them; one run for each start."""
    file = pathlib.Path(__file__).parent.parent / "tests" / "goldens" / "flags" / "resets.json"
    arguments = json.loads((folder / "resume_adam" / "args.json").read_text())
    good, seen = True, set()
    for recorded in json.loads(file.read_text())["runs"]:
        updates = recorded["updates"]
        start = (recorded["flags"][0], *map(tuple, updates))
        if start in seen:
            continue
        seen.add(start)
        flags = [str(folder / "resume_adam" / "checkpoint_at_20.pt") if f == "CHECKPOINT" else f
                 for f in recorded["flags"]]
        with tempfile.TemporaryDirectory() as temporary:
            ours = trained(folder, pathlib.Path(temporary), [*arguments, *flags,
                           "--max-update", str(updates[-1][1])])[:len(updates)]
        same = len(ours) == len(updates) and all(
            (x["epoch"], x["num_updates"]) == (epoch, number)
            and abs(x["lr"] / rate - 1) < 1e-5 and abs(x["loss"] - loss) <= 1.1e-3
            for x, (epoch, number, rate, loss) in zip(ours, updates, strict=True))
        good &= same
        print(f"{'ok  ' if same else 'FAIL'} {' '.join(recorded['flags'])}: " + ", ".join(
            f"{int(x['num_updates'])}: {x['loss']:.3f}" for x in ours), flush=True)
    return good


def trained(folder: pathlib.Path, work: pathlib.Path, arguments: list[str]) -> list[dict]:
    """Our log of a command of fairseq's."""
    config = io.StringIO()
    with contextlib.redirect_stdout(config), contextlib.redirect_stderr(io.StringIO()):
        convert.main(["args", shlex.join(["fairseq-train", *arguments])])
    (work / "config.py").write_text(config.getvalue())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train.main([
            "--config", str(work / "config.py"), "--workdir", str(work / "run"),
            f"--config.task.data={folder / arguments[0]}", "--config.log.interval_updates=1",
            "--config.log.tensorboard=False"])
    lines = (work / "run" / "metrics.jsonl").read_text().splitlines()
    return [x for x in map(json.loads, lines) if x["group"] == "train_inner"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--resets", action="store_true", help="each kind of start instead")
    args = parser.parse_args()
    run = check_resets if args.resets else check
    return 0 if run(args.folder.resolve()) else 1


if __name__ == "__main__":
    sys.exit(main())
