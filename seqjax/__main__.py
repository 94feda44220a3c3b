"""`seqjax VERB ...` and `python -m seqjax VERB ...`: the same as `python -m seqjax.VERB ...`.

Without a verb it lists them. Nothing but the verb that is asked for is imported.
"""

from __future__ import annotations

import importlib
import os
import sys
import typing
from collections.abc import Sequence

import seqjax
from seqjax import cli
from seqjax.cli import completion, parser
from seqjax.config import ConfigError, nearest

VERBS = {
    "preprocess": "text -> a data folder: dictionaries, tokenizer, binarized splits",
    "train": "train a model, or go on where a run was",
    "generate": "decode a file, or a split of a data folder",
    "interactive": "translate what is typed or piped in, as it comes",
    "evaluate": "loss and perplexity of a model on a split",
    "score": "BLEU, chrF or TER of a file of hypotheses",
    "average": "the average of several checkpoints' weights",
    "convert": "checkpoints and commands of fairseq's <-> seqjax",
}
OWN = {
    "completion": "print what makes a shell complete: completion bash, zsh or fish",
    "help": "what a verb takes: help train",
}
FAIRSEQ = {"validate": "evaluate", "eval-lm": "evaluate", "translate": "generate"}
"""Other names of verbs."""


def main(arguments: Sequence[str] | None = None) -> typing.NoReturn:
    """Runs a verb and exits with its status."""
    cli.run(lambda: dispatch(sys.argv[1:] if arguments is None else arguments))


def dispatch(arguments: Sequence[str]) -> int | None:
    """Runs a verb; returns its status.

    Raises:
      ConfigError: no such verb, with the nearest.
    """
    if parser.COMPLETING in os.environ:
        return _complete()
    verb, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if verb == "help" and rest:
        verb, rest = rest[0], ["--help"]
    if verb in ("", "-h", "--help", "help"):
        print("\n".join(overview()))
        return 0
    if verb in ("-V", "--version"):
        print(f"seqjax {seqjax.__version__}")
        return 0
    if verb == "completion":
        print(completion.script(rest), end="")
        return 0
    return _run(verb, rest)


def overview() -> list[str]:
    """The verbs, one line each."""
    width = max(map(len, VERBS | OWN))
    return [
        "usage: seqjax VERB ...    (or python -m seqjax.VERB ...)", "",
        "Train sequence models and generate from them, in JAX.", "",
        *(f"  {verb:{width}}  {about}" for verb, about in (VERBS | OWN).items()), "",
        "seqjax VERB --help lists a verb's flags; seqjax --version.",
    ]


def _run(verb: str, arguments: Sequence[str]) -> int | None:
    name = verb.removeprefix("fairseq-")
    if verb not in VERBS and (meant := name if name in VERBS else FAIRSEQ.get(name)):
        raise ConfigError(f"{verb!r} is not a verb; here it is {meant}: seqjax {meant} --help")
    if verb not in VERBS:
        raise ConfigError(f"{verb!r} is not a verb." + nearest(verb, [*VERBS, *OWN]))
    parser.program = "seqjax "
    return importlib.import_module(f"seqjax.{verb}").main(arguments)


def _complete() -> int | None:
    """Answers a shell that completes `seqjax VERB ...`."""
    words, number = completion.typed()
    if number > 1 and words[1] in VERBS:
        os.environ[parser.COMPLETING] = "2"  # the verb takes the place of the program
        return _run(words[1], words[2:])
    completion.complete_verbs({**VERBS, **OWN}, verb=words[1] if number > 1 else None)
    return 0


if __name__ == "__main__":
    main()
