"""fairseq's flags on our command lines: taken, or explained in one line.

A flag that the verb's own parser has is taken there. Of all others of fairseq's command of
that name, and of its other commands, the table `interop/fairseq/flags.tsv` knows why there is
no need for them, or that they are not supported.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from seqjax import cli
from seqjax.commands import languages
from seqjax.config import ConfigError
from seqjax.console import compiling
from seqjax.data.tokenizers import files
from seqjax.interop.fairseq import flags as fairseq_flags
from seqjax.interop.fairseq.flags import Flag

if TYPE_CHECKING:  # it imports JAX
    from seqjax.hub.loaded import Loaded

_ALSO_NOT_THERE = frozenset("""
    --aim-repo --aim-run-hash --azureml-logging --continue-once --curriculum
    --fixed-validation-seed --grouped-shuffling --ignore-unused-valid-subsets
    --localsgd-frequency --no-save --no-save-optimizer-state --optimizer-overrides
    --slowmo-base-algorithm --slowmo-momentum --update-epoch-batch-itr
    --update-ordered-indices-seed --validate-after-updates --wandb-project
""".split())
"""Flags of training that are not supported, and that fairseq itself ignores elsewhere."""
_INSTEAD = {
    "--max-source-positions": "the model's limit counts: --model-overrides "
                              "\"{'max_source_positions': N}\" changes it",
    "--max-target-positions": "the model's limit counts: --model-overrides "
                              "\"{'max_target_positions': N}\" changes it",
    "--output-dictionary-size": "the checkpoint's is taken: leave it out",
    "--shorten-method": "the checkpoint's is taken: leave it out",
    "--shorten-data-split-list": "the checkpoint's is taken: leave it out",
    "--results-path": "redirect the output, with > FILE",
    "--score-reference": "there are no targets here: python -m seqjax.generate --data FOLDER "
                         "--score-reference",
}
"""Flags whose meaning another flag has, where the verb has none of that name."""
_INSTEAD_OF_EVALUATE = {
    name: "this gives the loss; for BLEU: python -m seqjax.generate --data FOLDER --format fairseq"
    for name in ("--eval-bleu", "--eval-bleu-args", "--eval-bleu-detok", "--eval-bleu-detok-args",
                 "--eval-bleu-print-samples", "--eval-bleu-remove-bpe", "--eval-tokenized-bleu")
}


class _Seen(argparse.Action):
    """Remembers a flag of the table, and its value."""

    def __init__(self, *args: Any, flag: Flag, **options: Any) -> None:
        super().__init__(*args, **options)
        self.flag = flag

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        value = {"switch": True, "off": False}.get(self.flag.kind, values)
        namespace.fairseq = [*(namespace.fairseq or ()), (option_string, self.flag, value)]


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """fairseq's flags about the model that are taken."""
    group = parser.add_argument_group("fairseq's flags", "taken where they mean something here; "
                                      "all others are explained when they are given")
    group.add_argument("-s", "--source-lang", metavar="LANG",
                       help="of a model of many languages the one to translate from; else it must "
                            "be the model's")
    group.add_argument("-t", "--target-lang", metavar="LANG",
                       help="the one to translate to")
    group.add_argument("--task", metavar="NAME", help="must be the model's task")
    for name in ("--fp16", "--memory-efficient-fp16", "--amp"):
        group.add_argument(name, action="append_const", const=name, dest="half",
                           help=argparse.SUPPRESS if name != "--fp16" else
                           "bfloat16 on GPU and TPU, float32 on a CPU: --dtype auto, the default")
    for name in ("--bf16", "--memory-efficient-bf16"):
        group.add_argument(name, action="store_true", dest="bf16",
                           help=argparse.SUPPRESS if name != "--bf16" else
                           "the same as --dtype bfloat16")
    group.add_argument("--cpu", action="store_true", help="do not use an accelerator")
    group.add_argument("--quiet", action="store_true",
                       help="on stderr only notes on flags and what is wrong; of seqjax.generate "
                            "--format fairseq print the last line only")
    languages.add_flags(group)
    add_tokenizer_flags(group)


def add_tokenizer_flags(group: argparse._ActionsContainer) -> None:
    """fairseq's flags for the files and options of tokenizers."""
    for flag in files.FILE_FLAGS:
        group.add_argument(_spelled(flag), metavar="FILE",
                           help=f"of --bpe {' and '.join(files.kinds_of_flag(flag))}")
    for flag in files.SWITCH_FLAGS:
        group.add_argument(_spelled(flag), action="store_true", default=None,
                           help=f"of --bpe {' and '.join(files.kinds_of_flag(flag))}")
    group.add_argument("--moses-no-dash-splits", action="store_true", default=None,
                       help="of --tokenizer moses")
    group.add_argument("--moses-no-escape", action="store_true", default=None,
                       help="of --tokenizer moses")


def parse(
    parser: cli.Parser, arguments: Sequence[str] | None, *, command: str
) -> argparse.Namespace:
    """The command line, every flag of fairseq's taken, explained or refused.

    Args:
      command: the letters of fairseq's commands in the table.
    """
    parser.complete()
    for flag in fairseq_flags.table():
        if not set(command) & set(flag.commands):
            continue
        for name in flag.names:
            values = {"switch": {"nargs": 0}, "value": {}}.get(flag.kind, {"nargs": "?"})
            try:
                parser.add_argument(name, action=_Seen, flag=flag, dest="fairseq",
                                    help=argparse.SUPPRESS, **values)
            except argparse.ArgumentError:
                continue  # the verb has it itself
    words = list(sys.argv[1:] if arguments is None else arguments)
    _refuse_foreign(parser, words)
    args, rest = parser.parse_known_args(words)
    unknown = list(itertools.dropwhile(lambda word: word == "-" or word[:1] != "-", rest))
    if unknown:
        parser.refuse(unknown)
    _positional(args, rest, parser)
    for line in _explained(args.fairseq or (), parser, command):
        print(f"note: {line}", file=sys.stderr)
    _take(args, parser)
    return args


def _refuse_foreign(parser: cli.Parser, words: Sequence[str]) -> None:
    """Refuses flags of fairseq's other commands, which argparse would take for short forms of
    this one's: `--lr` is none of `--lr-scheduler`."""
    foreign = {name for flag in fairseq_flags.table() for name in flag.names}
    foreign -= set(parser._option_string_actions)
    found: list[str] = []
    for word, value in zip(words, [*words[1:], "-"], strict=True):
        if word.partition("=")[0] in foreign:
            found += [word] if "=" in word or value.startswith("-") else [word, value]
    if found:
        parser.refuse(found)


def _program(command: str) -> str:
    return " and ".join(fairseq_flags.COMMANDS[letter] for letter in command)


def _positional(
    args: argparse.Namespace, rest: Sequence[str], parser: argparse.ArgumentParser
) -> None:
    """A word without a flag is fairseq's data folder."""
    for word in rest:
        if not os.path.isdir(word):
            parser.error(f"{word!r}: give text as --input FILE, a data folder as --data FOLDER")
        if args.data is not None:
            parser.error(f"{args.data!r} and {word!r} cannot both be the data folder")
        args.data = word


def _explained(
    seen: Sequence[tuple[str, Flag, Any]], parser: argparse.ArgumentParser, command: str
) -> Iterator[str]:
    """A line for each flag of fairseq's without a meaning here; those that would change
    results end the program."""
    program = _program(command)
    instead = {**_INSTEAD, **(_INSTEAD_OF_EVALUATE if "V" in command else {})}
    for name, flag, value in seen:
        shown = name if value in (True, False, None) else f"{name} {value}"
        key = flag.names[0]
        if flag.is_default(value):
            yield f"{shown}: fairseq's default, which asks for nothing"
        elif key in instead:
            parser.error(f"{shown}: {instead[key]}")
        elif flag.key == "(no)" and key not in _ALSO_NOT_THERE:
            parser.error(f"{shown}: not supported: {flag.note}")
        elif flag.key == "(not needed)":
            yield f"{shown}: not needed: {flag.note}"
        else:
            yield f"{shown}: of no effect here, nor in {program}"


def _take(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """What flags of fairseq's ask of ours."""
    if args.half:
        print(f"note: {', '.join(args.half)}: matrix products are in bfloat16 on GPU and TPU, in "
              "float32 on a CPU (--dtype)", file=sys.stderr)
    if args.bf16:
        if args.dtype == "float32":
            parser.error("--bf16 and --dtype float32 contradict each other")
        args.dtype = "bfloat16"
    if args.cpu:
        if "jax" in sys.modules:
            import jax

            jax.config.update("jax_platforms", "cpu")
        os.environ["JAX_PLATFORMS"] = "cpu"


def check_model(args: argparse.Namespace, model: Loaded) -> None:
    """Refuses another task or other languages than the loaded model's.

    Raises:
      ConfigError: naming the flag.
    """
    task = model.task
    if args.task is not None and args.task != task.config.name:
        raise ConfigError(f"--task {args.task}: {args.checkpoint} is a model of {task.config.name}")
    known = task.languages
    for place, (flag, asked) in enumerate((("-s", args.source_lang), ("-t", args.target_lang))):
        if asked is None or known is not None and asked == known[place]:
            continue
        if known is None:
            raise ConfigError(f"{flag} {asked}: {args.checkpoint} is a model of "
                              f"{task.config.name}, which has no pair of languages")
        raise ConfigError(f"{flag} {asked}: {args.checkpoint} translates from {known[0]} to "
                          f"{known[1]}")


def say_loaded(args: argparse.Namespace, model: Loaded, options: dict[str, Any]) -> None:
    """The line that says what was loaded, and that from now on compiling is said; nothing of
    both with `--quiet`."""
    check_model(args, model)
    if args.quiet:
        compiling.hide(until_shown=True)
    else:
        compiling.show()
        print(model.describe(**options), file=sys.stderr, flush=True)


def tokenizer_options(args: argparse.Namespace) -> dict[str, Any]:
    """Files and options of the tokenizers that a `.pt` does not say."""
    names = (*files.FILE_FLAGS, *files.SWITCH_FLAGS, "moses_no_dash_splits", "moses_no_escape")
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _spelled(key: str) -> str:
    return f"--{key.replace('_', '-')}"
