"""Runs recorded fairseq commands here and compares what they print, line for line.

    python scripts/check_commands.py FOLDER [FILE ...]

FOLDER holds `data-bin*`, one folder per model with `checkpoint.pt`, and files of output whose
first line has the command: `# fairseq-generate data-bin.de-en --path lstm/checkpoint.pt ...`
(fairseq-interactive and fairseq-eval-lm too; paths are relative to FOLDER). Prints one line
per file; exits with 1 where lines differ, or numbers by more than 1e-4. Times are not compared.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import pathlib
import re
import shlex
import sys
from collections.abc import Iterator

from seqjax import evaluate, generate, interactive

TOLERANCE = 1e-4
LAST_DIGIT = 5.1e-5
"""Positional scores and losses are printed with four digits."""
_NUMBER = re.compile(r"-?\d+\.\d+(?:[eE][-+]?\d+)?")
_WITHOUT_MEANING = {"--cpu": 0}
"""Flags of the recorded commands that say where to run, and how many values they take."""


def arguments(words: list[str], folder: pathlib.Path) -> list[str]:
    """A fairseq command's flags as ours."""
    out = ["--data", str(folder / words[0])]
    rest = iter(words[1:])
    for word in rest:
        if word in _WITHOUT_MEANING:
            for _ in range(_WITHOUT_MEANING[word]):
                next(rest)
        elif word == "--path":
            paths = [str(folder / path) for path in next(rest).split(":")]
            out += ["--checkpoint", ":".join(paths)]
        else:
            out.append(word)
    return out


def typed(recorded: list[str]) -> list[str]:
    """What was typed into fairseq-interactive: sources, with their constraints behind tabs."""
    lines: list[str] = []
    for line in recorded:
        kind, _, text = line.partition("\t")
        if kind.startswith("S-"):
            lines.append(text)
        elif kind.startswith("C-"):
            lines[-1] += "\t" + text
    return lines


def output(command: str, words: list[str], recorded: list[str], folder: pathlib.Path) -> list[str]:
    """The lines that our command prints."""
    args = arguments(words, folder)
    printed = io.StringIO()
    kept = sys.stdin
    try:
        sys.stdin = io.StringIO("".join(line + "\n" for line in typed(recorded)))
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            if command == "generate":
                generate.main([*args, "--format", "fairseq"])
            elif command == "interactive":
                interactive.main([*args, "--format", "fairseq"])
            else:
                evaluate.main(args)
    finally:
        sys.stdin = kept
    return printed.getvalue().splitlines()


def differences(ours: list[str], recorded: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs of lines that are not the same."""
    for mine, theirs in zip(ours, recorded, strict=False):
        if mine.startswith("W-") and theirs.startswith("W-"):
            continue
        numbers = [float(x) for x in _NUMBER.findall(mine)]
        wanted = [float(x) for x in _NUMBER.findall(theirs)]
        if _NUMBER.sub("#", mine) != _NUMBER.sub("#", theirs) or any(
            abs(a - b) > TOLERANCE + LAST_DIGIT for a, b in zip(numbers, wanted, strict=True)
        ):
            yield mine, theirs
    longer = max(ours, recorded, key=len)
    for line in longer[min(len(ours), len(recorded)):]:
        yield (line, "") if longer is ours else ("", line)


class CommandError(Exception):
    """Our command refused what fairseq's took."""


def compare(path: pathlib.Path, folder: pathlib.Path) -> tuple[int, list[tuple[str, str]]]:
    """The number of recorded lines, and those that are not the same (ours, fairseq's).

    Raises:
      CommandError: with what our command said.
    """
    header, *recorded = path.read_text(encoding="utf-8").splitlines()
    words = shlex.split(header.removeprefix("#"))
    command = words[0].removeprefix("fairseq-").replace("-", "_")
    try:
        ours = output(command, words[1:], recorded, folder)
    except (SystemExit, ValueError) as error:
        raise CommandError(str(error)) from None
    return len(recorded), list(differences(ours, recorded))


def check(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Prints one line, and the first lines that differ."""
    name = str(path.relative_to(folder))
    try:
        lines, wrong = compare(path, folder)
    except CommandError as error:
        print(f"{name:58} FAILED: {error}", flush=True)
        return False
    verdict = f"{len(wrong)} DIFFER" if wrong else "ok"
    print(f"{name:58} {lines:5} lines  {verdict}", flush=True)
    for mine, theirs in wrong[:3]:
        print(f"    ours    {mine[:150]}\n    fairseq {theirs[:150]}")
    return not wrong


def recorded_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Files below `folder` that begin with a fairseq command."""
    return sorted(
        path for path in folder.rglob("*.txt")
        if path.read_text(encoding="utf-8", errors="replace").startswith("# fairseq-"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("files", nargs="*", type=pathlib.Path,
                        help="default: all that begin with a command")
    args = parser.parse_args()
    found = args.files or recorded_files(args.folder)
    if not found:
        parser.error(f"{args.folder}: no file that begins with a fairseq command")
    return 0 if all([check(path, args.folder) for path in found]) else 1


if __name__ == "__main__":
    sys.exit(main())
