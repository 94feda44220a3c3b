"""`python -m seqjax.preprocess ngram TEXT --dest lm.arpa`: an n-gram language model of a text.

A sentence a line in, an ARPA file out, which recognisers by CTC search with.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from seqjax import cli
from seqjax.config import ConfigError
from seqjax.data import sources
from seqjax.data.kneser_ney import write_arpa


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = cli.Parser(
        prog="python -m seqjax.preprocess ngram", allow_abbrev=False,
        description="An n-gram model with interpolated modified Kneser-Ney smoothing, as KenLM's "
                    "lmplz makes it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = result.add_argument
    add("text", nargs="+", metavar="TEXT", help="files with a sentence a line, words apart; - is "
        "stdin")
    add("--order", type=int, default=3, metavar="N", help="words of the longest n-gram")
    add("--dest", required=True, metavar="FILE.arpa")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit status."""
    args = parser().parse_args(argv)
    if not args.dest.endswith(".arpa"):
        raise ConfigError(f"--dest {args.dest}: name a file that ends in .arpa")
    lines = [line for path in args.text for line in sources.read_text(path)]
    counts = write_arpa(lines, args.dest, order=args.order)
    print(f"{args.dest}: " + ", ".join(
        f"{count} {n}-grams" for n, count in enumerate(counts, 1)))
    return 0
