"""Train a model.

    python -m seqjax.train --config configs/quickstart.py --workdir runs/demo
    python -m seqjax.train --config configs/iwslt14_de_en.py --workdir runs/iwslt \\
        --config.task.data=data-bin --config.train.lr=7e-4
    python -m seqjax.train --config runs/demo/config.json --workdir runs/again

Started again with the same --workdir, it goes on where it was. Every key of the
configuration can be set with --config.SECTION.KEY=VALUE; --help-config lists them,
--print-config shows what they come to.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqjax import cli, config, signals
from seqjax.config import ConfigError

if TYPE_CHECKING:  # it imports JAX
    from seqjax.interop.huggingface.start import Pretrained


def parse(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, dict[str, str]]:
    """The command line: its flags, and the dotted overrides."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = cli.Parser(prog="python -m seqjax.train", description=__doc__,
                        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE[:ARGUMENT]",
                        help="Python file with get_config(), see configs/; or JSON, such as a "
                             "run's config.json; or YAML")
    parser.add_argument("--workdir", help="folder for checkpoints, logs and curves")
    parser.add_argument("--help-config", nargs="*", metavar="WORD",
                        help="list every key with its default and meaning; or those of a section "
                             "(train), a family (transformer), or that have a word (warmup)")
    parser.add_argument("--print-config", nargs="?", const="json", choices=("json", "yaml"),
                        help="print the whole configuration, which --config takes again, and stop")
    if cli.COMPLETING in os.environ:
        cli.add_keys(parser)
        overrides = {}
    else:
        arguments, overrides = _take_overrides(arguments)
    args = parser.parse_args(arguments)
    if args.help_config is None and not (args.config and (args.workdir or args.print_config)):
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
        if not equals and "--help-config" in arguments:
            rest.append(key)
            continue
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
    if args.help_config is not None:
        raw = config.load_file(args.config) if args.config else {}
        print("\n".join(describe(args.help_config, config.apply_overrides(raw, overrides))))
        return None
    raw = config.apply_overrides(_for_other_families(config.load_file(args.config), overrides),
                                 overrides)
    raw, pretrained = _with_pretrained(raw)
    if args.print_config:
        from seqjax import settings
        from seqjax.interop.fairseq import pretrained as encoders

        raw = encoders.complete(raw)
        print(_printed(settings.resolve(raw), args.print_config), end="")
        return None
    command = shlex.join(["python", "-m", "seqjax.train", *words])
    with signals.advice(f"no update was under way: nothing is lost. To go on: {command}"):
        number = _train(raw, args.workdir, command, pretrained)
    return None if number is None else signals.status(number)


def _with_pretrained(raw: dict[str, Any]) -> tuple[dict[str, Any], Pretrained | None]:
    """The configuration with the model of the folder of Hugging Face's that it begins with, if it
    names one, and what is read of that."""
    named = [path for path in (raw.get("init_from"), raw.get("resume_from")) if path]
    if not any(isinstance(path, str) and (path.startswith("hf:") or os.path.isdir(path))
               for path in named):
        return raw, None
    from seqjax.interop.huggingface import start as huggingface_start

    return huggingface_start.completed(raw)


def _train(
    raw: Mapping[str, Any], workdir: str, command: str, pretrained: Pretrained | None
) -> int | None:
    """The signal that ended it, if one did."""
    from seqjax import settings  # the families' dataclasses; nothing is computed yet
    from seqjax.interop.fairseq import pretrained as encoders

    resolved = settings.resolve(encoders.complete(raw))

    from seqjax.interop.fairseq import start as fairseq_start
    from seqjax.training import checks, train_loop

    checks.check(resolved)  # before a checkpoint is read
    if pretrained is None:
        start = fairseq_start.start_from(resolved)
    else:
        from seqjax.interop.huggingface import start as huggingface_start

        start = huggingface_start.start_from(resolved, pretrained)
    return train_loop.train(resolved, workdir=workdir, start=start, command=command)


def _printed(resolved: config.Config, kind: str) -> str:
    """All keys, as `--config` reads them."""
    plain = config.to_plain(resolved)
    if kind == "json":
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"
    from seqjax.config import yaml_text

    return yaml_text.dump(plain)


def _for_other_families(raw: dict[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """The file's values for a run of another architecture, model, loss or task than the file's.

    A run's own config.json has every key, and they would stand in the way of what the new
    one gives: those that the file's own family or architecture gave are left out.
    """
    from seqjax import models, settings

    families = config.with_own(settings.FAMILIES, raw)
    raw = dict(raw)
    for section in families:
        values = raw.get(section, {})
        changed = [k for k in ("name", "arch") if f"{section}.{k}" in overrides
                   and overrides[f"{section}.{k}"] != values.get(k)]
        if not changed or not isinstance(values, Mapping):
            continue
        chosen = {k: values[k] for k in ("name", "arch") if values.get(k) is not None}
        if section == "model":
            before = config.resolve_model(chosen, models=families[section], archs=models.ARCHS)
        elif values.get("name") in families[section]:
            before = families[section][values["name"]]()
        else:
            continue
        given = config.to_plain(before)
        raw[section] = {k: v for k, v in values.items()
                        if k not in ("name", "arch") and v != given.get(k)}
    return raw


def describe(words: Sequence[str] = (), raw: Mapping[str, Any] | None = None) -> list[str]:
    """Keys of every section, or those that the words ask for: `--config.train.lr = (0.0005,)`,
    and what it means.

    Args:
      raw: a configuration, whose own tasks, models and losses are described too.

    Raises:
      ConfigError: a word that no key has, with the nearest.
    """
    from seqjax import models, settings
    from seqjax.config import describing

    found = describing.keys(config.with_own(settings.FAMILIES, raw or {}))
    title = "Keys of --config, with their defaults."
    if words:
        found = describing.chosen(found, words)
    return ["", title, *describing.lines(found, archs=models.ARCHS)]


if __name__ == "__main__":
    from seqjax.training import host_memory

    host_memory.keep_freed()  # this process is the command's own
    cli.run(main)
