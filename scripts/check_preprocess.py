"""Data folders that fairseq-preprocess made, made again here, byte for byte.

    python scripts/check_preprocess.py FOLDER [--workers 1 4]

FOLDER holds `corpus/{train,valid,test}.{de,en}` and the folders `data-bin.de-en`,
`data-bin.joined.de-en` and `data-bin.lm.en` made of it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import pathlib
import sys
import tempfile

from seqjax import preprocess

PAIR = ["-s", "de", "-t", "en"]
CASES = {
    "data-bin.de-en": ("", PAIR),
    "data-bin.joined.de-en": ("", [*PAIR, "--joined-dictionary"]),
    "data-bin.lm.en": (".en", ["--only-source"]),
}


def different(folder: pathlib.Path, name: str, workers: int) -> tuple[int, list[str]]:
    """The number of fairseq's files, and those that are not the same here."""
    suffix, flags = CASES[name]
    prefixes = [x for split in ("train", "valid", "test")
                for x in (f"--{split}pref", str(folder / "corpus" / (split + suffix)))]
    with tempfile.TemporaryDirectory() as made, contextlib.redirect_stdout(io.StringIO()):
        preprocess.main([*flags, *prefixes, "--destdir", made, "--workers", str(workers)])
        files = sorted(p for p in (folder / name).iterdir() if p.suffix != ".log")
        return len(files), [
            p.name for p in files
            if not (pathlib.Path(made) / p.name).exists()
            or (pathlib.Path(made) / p.name).read_bytes() != p.read_bytes()]


def check(folder: pathlib.Path, workers: list[int]) -> bool:
    """Prints a line per folder and number of workers."""
    good = True
    for name in CASES:
        for count in workers:
            total, wrong = different(folder, name, count)
            good &= not wrong
            print(f"{'FAIL' if wrong else 'ok  '} {name:24} {count} workers: "
                  f"{total - len(wrong)} of {total} files the same {', '.join(wrong)}", flush=True)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    args = parser.parse_args()
    return 0 if check(args.folder, args.workers) else 1


if __name__ == "__main__":
    sys.exit(main())
