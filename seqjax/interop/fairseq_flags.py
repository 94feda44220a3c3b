"""fairseq's command-line flags: which key of ours each one is, or why there is none.

`fairseq_flags.tsv` is the table; the converter, the documentation and their tests read it.
Its `commands` are letters: T train, P preprocess, G generate, I interactive, V validate,
E eval-lm. Its `key` is a key of the configuration, a flag of one of our commands, or
`(implied)`, `(not needed)`, `(no)`, and the note says why.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seqjax.config import ConfigError, nearest

COMMANDS = {"T": "fairseq-train", "P": "fairseq-preprocess", "G": "fairseq-generate",
            "I": "fairseq-interactive", "V": "fairseq-validate", "E": "fairseq-eval-lm"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flag:
    """One row of the table."""

    names: tuple[str, ...]
    """`--batch-size`, `--max-sentences`."""
    commands: str
    kind: str
    """`value`, `switch`, `off` (a switch that turns something off), `optional=DEFAULT`."""
    default: str
    key: str
    note: str

    @property
    def dest(self) -> str:
        """fairseq's name of the value: `batch_size`."""
        return self.names[0].lstrip("-").replace("-", "_")

    def is_default(self, value: Any) -> bool:
        """Whether a value asks for nothing."""
        if value is None or str(value) in ("", self.default):
            return True
        if self.kind in ("switch", "off"):
            return bool(value) == (self.kind == "off")
        try:
            return float(value) == float(self.default or 0)
        except (TypeError, ValueError):
            return value in ([], ())


@functools.cache
def table() -> tuple[Flag, ...]:
    """All flags, by name."""
    file = importlib.resources.files("seqjax.interop") / "fairseq_flags.tsv"
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    return tuple(Flag(names=tuple(names.split()), commands=commands, kind=kind, default=default,
                      key=key, note=note) for names, commands, kind, default, key, note in rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A parsed command line of fairseq's."""

    program: str
    data: str | None
    given: dict[str, Any]
    """fairseq's name of each value that was given -> text, or a boolean."""


def parse(text: str) -> Command:
    """A command as it stands in a script: `fairseq-train data-bin --arch transformer ...`.

    Raises:
      ConfigError: not a command of fairseq's, an unknown flag (with the nearest), or a flag
        without its value.
    """
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    program, words = _program(words)
    letter = next(k for k, name in COMMANDS.items() if name == program)
    flags = {name: f for f in table() if letter in f.commands for name in f.names}
    data, given = None, {}
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if not word.startswith("-"):
            if data is not None:
                raise ConfigError(f"{program}: {data!r} and {word!r} cannot both be the data")
            data = word
            continue
        name, equals, value = word.partition("=")
        flag = _find(name, flags, program)
        if flag.kind in ("switch", "off"):
            given[flag.dest] = flag.kind == "switch"
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
    return Command(program=program, data=data, given=given)


def _program(words: Sequence[str]) -> tuple[str, list[str]]:
    """Which command it is, and what follows it."""
    scripts = {f"{name.removeprefix('fairseq-').replace('-', '_')}.py": name
               for name in COMMANDS.values()}
    for place, word in enumerate(words):
        base = os.path.basename(word)
        base = scripts.get(base, base)
        if base in COMMANDS.values():
            return base, list(words[place + 1:])
    raise ConfigError("give a whole command: 'fairseq-train data-bin --arch ...' (known: "
                      + ", ".join(COMMANDS.values()) + ")")


def _find(name: str, flags: Mapping[str, Flag], program: str) -> Flag:
    """By its name or, as argparse allows, an unambiguous beginning of it."""
    if name in flags:
        return flags[name]
    longer = {flags[f].dest: flags[f] for f in flags if name.startswith("--")
              and f.startswith(name)}
    if len(longer) == 1:
        return next(iter(longer.values()))
    raise ConfigError(f"{program}: unknown flag {name}." + nearest(name, flags))


# ---- documentation ----


def markdown() -> str:
    """The table of docs/from-fairseq.md."""
    groups: dict[str, list[Flag]] = {"Training": [], "Preprocessing": [],
                                     "Generation and evaluation": []}
    for flag in table():
        only = flag.commands if flag.commands else "T"
        group = ("Training" if "T" in only else
                 "Preprocessing" if only == "P" else "Generation and evaluation")
        groups[group].append(flag)
    lines: list[str] = []
    for title, flags in groups.items():
        lines += [f"### {title}", "", "| fairseq | seqjax | |", "| --- | --- | --- |"]
        lines += [_row(flag) for flag in flags]
        lines.append("")
    return "\n".join(lines)


def _row(flag: Flag) -> str:
    names = ", ".join(f"`{name}`" for name in flag.names)
    here = {"(no)": "not supported, because", "(not needed)": "not needed",
            "(implied)": "implied"}.get(flag.key, f"`{flag.key}`")
    return f"| {names} | {here} | {flag.note} |"


def unsupported(values: Mapping[str, Any], flags: Iterable[Flag]) -> list[str]:
    """`--flag VALUE: why` for what was asked for and is not here."""
    return [f"{f.names[0]} {'' if values[f.dest] is True else values[f.dest]}".rstrip()
            + f": {f.note}" for f in flags
            if f.key == "(no)" and f.dest in values and not f.is_default(values[f.dest])]
