"""A command line of fairseq's, as it stands in a script, read into names and values.

It may begin with an environment or a launcher, be cut over lines, end in a pipe or a
redirection, and have flags in any form that argparse takes. What the flags mean is said by
`flags` and `recipe`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.config import ConfigError, nearest
from seqjax.interop.fairseq import names as fairseq_names
from seqjax.interop.fairseq.flags import COMMANDS, Flag, table

_CHOOSING = ("task", "arch", "criterion", "optimizer", "lr_scheduler", "bpe", "tokenizer",
             "scoring")
_BOOLEANS = {"true": True, "t": True, "1": True, "yes": True,
             "false": False, "f": False, "0": False, "no": False}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A parsed command line of fairseq's."""

    program: str
    data: str | None
    given: dict[str, Any]
    """fairseq's name of each value that was given -> text, or a boolean."""
    workers: int | None = None
    """Processes that a launcher before the command starts, or GPUs that its environment
    shows (None: neither says)."""
    forced: bool = False
    """Whether it is a launcher that says so: fairseq lets it win over its own flag."""
    foreign: tuple[str, ...] = ()
    """Flags that fairseq-train does not take beside these components, with their owners."""


def parse(text: str) -> Command:
    """A command as it stands in a script: `fairseq-train data-bin --arch transformer ...`.

    Raises:
      ConfigError: not a command of fairseq's; a component that is not here; an unknown flag
        (with the nearest), or a flag without its value.
    """
    program, before, words = _program(_words(text))
    letter = next(k for k, name in COMMANDS.items() if name == program)
    flags = {name: f for f in table() if letter in f.commands for name in f.names}
    allowed = frozenset(flags)
    chosen, user_dir = _chosen(words, flags)
    fairseq_names.check(chosen, where=program, user_dir=user_dir)
    if program == "fairseq-train":
        if "arch" not in chosen:
            raise ConfigError("fairseq-train: --arch is needed")
        chosen = {**fairseq_names.USUAL, "scoring": "bleu", **chosen}
        switches = [w for w in words if w == "--use-bmuf"]
        allowed = fairseq_names.accepted(chosen, switches=switches)
    data, given = _read(words, flags, allowed, program)
    foreign = []
    for flag in {f.names[0]: f for f in flags.values()}.values():
        if flag.dest in given and flag.names[0] not in allowed and flag.dest != "min_lr":
            del given[flag.dest]
            foreign.append(f"{flag.names[0]}: fairseq takes it with "
                           f"{fairseq_names.owners(flag.names[0]) or 'older versions'} only")
    workers, forced = _workers(before)
    return Command(program=program, data=data, given=given, workers=workers, forced=forced,
                   foreign=tuple(foreign))


def _read(
    words: Sequence[str], flags: Mapping[str, Flag], allowed: frozenset[str], program: str
) -> tuple[str | None, dict[str, Any]]:
    """The data, and each flag's value; of a flag that is given twice the last one."""
    data, given = None, {}
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if not word.startswith("-") or word == "-":
            if data is not None:
                raise ConfigError(f"{program}: {data!r} and {word!r} cannot both be the data")
            data = word
            continue
        name, equals, value = word.partition("=")
        if re.match(r"-[a-zA-Z].", name):  # -sde
            name, equals, value = word[:2], "=", word[2:].removeprefix("=")
        flag = _find(name, flags, allowed, program)
        if flag.kind in ("switch", "off"):
            if not equals and waiting and waiting[-1].lower() in ("true", "false"):
                value, equals = waiting.pop(), "="  # as older versions had it: --flag BOOL
            given[flag.dest] = flag.kind == "switch"
            if equals:
                if value.lower() not in _BOOLEANS:
                    raise ConfigError(f"{program}: {name} is on or off; it takes no {value!r}")
                given[flag.dest] = _BOOLEANS[value.lower()]
            continue
        if not equals:
            following = waiting[-1] if waiting else None
            absent = following is None or bool(re.match(r"--?[a-zA-Z]", following))
            if absent and flag.kind.startswith("optional="):
                value = flag.kind.partition("=")[2]
            elif absent:
                raise ConfigError(f"{program}: {name} needs a value")
            else:
                value = waiting.pop()
        given[flag.dest] = value
    return data, given


def _words(text: str) -> list[str]:
    """The words of one command, without what a shell would do with its output."""
    text = re.sub(r"\\\r?\n", " ", text)
    text = re.sub(r"\$\(\s*which\s+([^\s)]+)\s*\)|`\s*which\s+([^\s`]+)\s*`",
                  lambda m: m[1] or m[2], text)
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise ConfigError(f"the command cannot be read as a shell would: {error}") from None
    for place, word in enumerate(words):
        if re.fullmatch(r"\|\|?|&&?|;|[0-9&]?>>?.*|<.*", word):
            return words[:place]
        if word.endswith(";"):
            return [*words[:place], word[:-1]]
    return words


def _program(words: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Which command it is, what stands before it, and what follows it."""
    scripts = {}
    for name in COMMANDS.values():
        stem = name.removeprefix("fairseq-").replace("-", "_")
        scripts |= {f"{stem}.py": name, f"fairseq_cli.{stem}": name}
    for place, word in enumerate(words):
        base = os.path.basename(word)
        base = scripts.get(base, base)
        if base in COMMANDS.values():
            return base, list(words[:place]), list(words[place + 1:])
        if base in ("fairseq-hydra-train", "hydra_train.py", "fairseq_cli.hydra_train"):
            raise ConfigError(
                "fairseq-hydra-train: keys of the form group.key=value and its configuration "
                "files are not read; give the same run as flags of fairseq-train, or a "
                "checkpoint that it wrote: python -m seqjax.convert args model.pt")
    raise ConfigError("give a whole command: 'fairseq-train data-bin --arch ...' (known: "
                      + ", ".join(COMMANDS.values()) + ")")


def _workers(before: Sequence[str]) -> tuple[int | None, bool]:
    """How many processes or GPUs a launcher or the environment gives the command."""
    text = " ".join(before)

    def number(name: str) -> int | None:
        found = re.search(rf"--{name}[= ](\d+)\b", text)
        return int(found[1]) if found else None

    each = number("nproc[-_]per[-_]node")
    if each is not None:
        return each * (number("nnodes") or 1), True
    visible = re.search(r"\bCUDA_VISIBLE_DEVICES=(\d+(?:,\d+)*)(?:\s|$)", text)
    return (len(visible[1].split(",")), False) if visible else (None, False)


def _chosen(words: Sequence[str], flags: Mapping[str, Flag]) -> tuple[dict[str, str], bool]:
    """Kind -> name of the components, wherever they stand; and whether there are others."""
    found: dict[str, str] = {}
    user_dir = False
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if re.match(r"-a.", name):
            name, equals, value = "-a", "=", word[2:]
        flag = flags.get(name) or _only_longer(name, flags, frozenset(flags))
        if flag is not None and flag.dest == "user_dir":
            user_dir = True
        if flag is not None and flag.dest in _CHOOSING:
            following = words[place + 1] if place + 1 < len(words) else ""
            if equals or not following.startswith("-"):
                found[flag.dest] = value if equals else following
    return {k: v for k, v in found.items() if v}, user_dir


def _only_longer(name: str, flags: Mapping[str, Flag], allowed: frozenset[str]) -> Flag | None:
    """The one flag that begins so, as argparse abbreviates."""
    if not name.startswith("--") or len(name) < 3:
        return None
    longer = {f.dest: f for full, f in flags.items()
              if full.startswith(name) and f.names[0] in allowed}
    return next(iter(longer.values())) if len(longer) == 1 else None


def _find(
    name: str, flags: Mapping[str, Flag], allowed: frozenset[str], program: str
) -> Flag:
    """By its name or an unambiguous prefix of it."""
    name = name if name in flags or not name.startswith("--") else name.replace("_", "-")
    found = (flags.get(name) or _only_longer(name, flags, allowed)
             or _only_longer(name, flags, frozenset(f.names[0] for f in flags.values())))
    if found is not None:
        return found
    longer = sorted({f.names[0] for full, f in flags.items()
                     if name.startswith("--") and len(name) > 2 and full.startswith(name)})
    if longer:
        raise ConfigError(f"{program}: {name} may be any of {', '.join(longer)}")
    raise ConfigError(f"{program}: unknown flag {name}." + nearest(name, flags))
