"""Everything that fairseq recorded against what seqjax makes of it, as one table.

    python scripts/check_all.py FOLDER        # a few minutes

FOLDER holds `data-bin*`, one folder per model and the training runs `trace_*`; what is compared
and how: `check_goldens.py`, `check_hypotheses.py`, `check_commands.py`, `check_round_trip` below,
`check_preprocess.py`, `check_traces.py` (with --kinks) and `check_resume.py`. Prints a table and
lines behind it; exits with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile

import check_commands
import check_goldens
import check_hypotheses
import check_preprocess
import check_resume
import check_traces

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
from resave import resave_fairseq

from seqjax.config import ConfigError
from seqjax.interop.fairseq.checkpoint import load_fairseq
from seqjax.interop.torch.files import read_pt


def check_round_trip(folder: pathlib.Path) -> bool:
    """`.pt` -> parameters -> `.pt` keeps every tensor, bit for bit."""
    with tempfile.TemporaryDirectory() as temporary:
        new = pathlib.Path(temporary) / "new.pt"
        resave_fairseq(new, load_fairseq(folder / "checkpoint.pt"))
        before, after = read_pt(folder / "checkpoint.pt")["model"], read_pt(new)["model"]
    return before.keys() == after.keys() and all(
        after[k].dtype == v.dtype and after[k].tobytes() == v.tobytes()
        for k, v in before.items())


def forward_cells(folder: pathlib.Path) -> tuple[bool, list[str]]:
    """Log-probabilities, loss and gradient norms."""
    found = check_goldens.compare(folder)
    return found.ok, [f"{x:.1e}" for x in (found.lprobs, found.loss, found.grad_norm)]


def hypotheses_cell(folder: pathlib.Path) -> tuple[bool, str]:
    """How many option sets give the same tokens, and the largest difference of a score."""
    if not (folder / "hypos.json").exists():
        return True, ""
    worst = dict(check_hypotheses.compare(folder))
    same = [x for x in worst.values() if x <= check_hypotheses.TOLERANCE]
    return len(same) == len(worst), (
        f"{len(same)} of {len(worst)} sets, {max(same, default=0.0):.1e}")


def commands_cell(files: list[pathlib.Path], folder: pathlib.Path) -> tuple[bool, str]:
    """How many files and lines of output are the same."""
    good = total = 0
    wrong = []
    for path in files:
        try:
            lines, different = check_commands.compare(path, folder)
        except check_commands.CommandError as error:
            lines, different = 0, [(str(error), "")]
        total += lines
        good += not different
        if different:
            wrong.append(f"{path.name}: {len(different)}")
    text = f"{good} of {len(files)}, {total} lines" if files else ""
    return not wrong, text + (f" (differ: {'; '.join(wrong)})" if wrong else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder.resolve()
    files = check_commands.recorded_files(folder)
    good = True
    print("| model | log-probs | loss | gradient norms | hypotheses | commands' output |"
          " round trip |\n| --- | --- | --- | --- | --- | --- | --- |")
    for path in sorted(p.parent for p in folder.glob("*/forward.npz")):
        try:
            forward, cells = forward_cells(path)
        except ConfigError as error:
            print(f"| {path.name} | not supported: {str(error).partition(': ')[2][:60]} |||||",
                  flush=True)
            continue
        searched, hypotheses = hypotheses_cell(path)
        printed, commands = commands_cell([f for f in files if f.parent == path], folder)
        trip = check_round_trip(path)
        good &= forward and searched and printed and trip
        print(f"| {path.name} | {' | '.join(cells)} | {hypotheses} | {commands} |"
              f" {'bit for bit' if trip else 'DIFFERS'} |", flush=True)
    several, commands = commands_cell([f for f in files if f.parent == folder], folder)
    print(f"| several together | | | | | {commands} | |\n", flush=True)
    good &= several
    good &= check_preprocess.check(folder, [1, 4])
    for path in sorted(folder.glob("trace_*")):
        good &= check_traces.check(path, noise=False, kinks=True)
    good &= check_resume.check(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
