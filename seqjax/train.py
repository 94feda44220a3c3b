"""Train a model.

    python -m seqjax.train --config configs/quickstart.py --workdir runs/demo
    python -m seqjax.train --config configs/iwslt14_de_en.py --workdir runs/iwslt \\
        --config.task.data=data-bin --config.train.lr=7e-4

Started again with the same --workdir, it goes on where it was. Every key of the
configuration can be set with --config.SECTION.KEY=VALUE; --help-config lists them.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import typing
from collections.abc import Sequence
from typing import Any

from seqjax import cli, config, signals
from seqjax.config import Config, ConfigError


def parse(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, dict[str, str]]:
    """The command line: its flags, and the dotted overrides."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    rest, overrides = _take_overrides(arguments)
    parser = argparse.ArgumentParser(prog="python -m seqjax.train", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE[:ARGUMENT]",
                        help="Python file with get_config(), see configs/")
    parser.add_argument("--workdir", help="folder for checkpoints, logs and curves")
    parser.add_argument("--help-config", action="store_true",
                        help="list every key with its default and meaning")
    args = parser.parse_args(rest)
    if not args.help_config and not (args.config and args.workdir):
        parser.error("--config and --workdir are needed")
    return args, overrides


def _take_overrides(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Splits `--config.key=value` and `--config.key value` from the other arguments."""
    rest: list[str] = []
    overrides: dict[str, str] = {}
    waiting = iter(arguments)
    for argument in waiting:
        if not argument.startswith("--config."):
            rest.append(argument)
            continue
        key, equals, value = argument.removeprefix("--config.").partition("=")
        if not equals:
            value = next(waiting, None)
            if value is None or value.startswith("--"):
                raise ConfigError(f"--config.{key}: give it a value: --config.{key}=VALUE")
        overrides[key] = value
    return rest, overrides


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Runs the command; gives the exit status, which is not 0 if a signal ended it."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    args, overrides = parse(words)
    if args.help_config:
        print("\n".join(describe()))
        return None
    command = shlex.join(["python", "-m", "seqjax.train", *words])
    with signals.advice(f"no update was under way: nothing is lost. To go on: {command}"):
        number = _train(args, overrides, command)
    return None if number is None else signals.status(number)


def _train(args: argparse.Namespace, overrides: dict[str, str], command: str) -> int | None:
    raw = config.apply_overrides(config.load_file(args.config), overrides)

    from seqjax import hub  # the families' dataclasses; nothing is computed yet

    resolved = hub.resolve(raw)

    from seqjax.interop import fairseq_start
    from seqjax.training import checks, train_loop

    checks.check(resolved)  # before a checkpoint is read
    start = fairseq_start.start_from(resolved)
    return train_loop.train(resolved, workdir=args.workdir, start=start, command=command)


def describe() -> list[str]:
    """Every key of every section: `--config.train.lr = (0.0005,)`, and what it means."""
    from seqjax import losses, models, tasks

    lines = ["", "Keys of --config, with their defaults."]
    docs = cli.field_docs(Config)
    for field in dataclasses.fields(Config):
        annotation = typing.get_type_hints(Config)[field.name]
        families = {"task": tasks.CONFIGS, "model": models.CONFIGS, "loss": losses.CONFIGS}
        if field.name in families:
            for name, cls in families[field.name].items():
                lines += ["", f"[{field.name}, with name={name}]"]
                lines += _section(field.name, cls)
            if field.name == "model":
                lines += ["", "model.arch is one of: " + ", ".join(sorted(models.ARCHS))]
        elif dataclasses.is_dataclass(annotation):
            lines += ["", f"[{field.name}]", *_section(field.name, typing.cast(type, annotation))]
        else:
            lines += ["", _key(field.name, field.default, docs.get(field.name, ""))]
    return lines


def _section(name: str, cls: type) -> list[str]:
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        docs |= cli.field_docs(base)
    return [_key(f"{name}.{f.name}", f.default, docs.get(f.name, ""))
            for f in dataclasses.fields(cls)]


def _key(name: str, default: Any, text: str) -> str:
    shown = "needed" if default is dataclasses.MISSING else repr(default)
    return f"  {name} = {shown}" + (f"\n      {text}" if text else "")


if __name__ == "__main__":
    cli.run(main)
