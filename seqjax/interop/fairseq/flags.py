"""fairseq's command-line flags: which key of ours each one is, or why there is none.

`flags.tsv` is the table; the converter, the documentation and their tests read it
(`scripts/record_flags.py` records what fairseq's own parsers accept).
Its `commands` are letters: T train, P preprocess, G generate, I interactive, V validate,
E eval-lm, S score. Its `key` is a key of the configuration, a flag of one of our commands, or
`(implied)`, `(not needed)`, `(no)`, and the note says why.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
from collections.abc import Iterable, Mapping
from typing import Any

COMMANDS = {"T": "fairseq-train", "P": "fairseq-preprocess", "G": "fairseq-generate",
            "I": "fairseq-interactive", "V": "fairseq-validate", "E": "fairseq-eval-lm",
            "S": "fairseq-score"}


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

    def shown(self, value: Any) -> str:
        """As it stands on a command line: `--patience 3`, `--fp16`."""
        return self.names[0] if isinstance(value, bool) else f"{self.names[0]} {value}"

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
    file = importlib.resources.files("seqjax.interop.fairseq") / "flags.tsv"
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    return tuple(Flag(names=tuple(names.split()), commands=commands, kind=kind, default=default,
                      key=key, note=note) for names, commands, kind, default, key, note in rows)


def unsupported(values: Mapping[str, Any], flags: Iterable[Flag]) -> list[str]:
    """`--flag VALUE: why` for what was asked for and is not here."""
    return [f"{f.shown(values[f.dest])}: {f.note}" for f in flags
            if f.key == "(no)" and f.dest in values and not f.is_default(values[f.dest])]


def elsewhere(values: Mapping[str, Any], flags: Iterable[Flag]) -> list[str]:
    """`--flag VALUE: why` for what was asked for and is no key of the configuration: nothing
    has to be asked for here, or another command is asked."""
    found = []
    for f in flags:
        verb = " " in f.key and not f.key.startswith("(")
        if (verb or f.key in ("(not needed)", "(implied)")) and f.dest in values:
            if not f.is_default(values[f.dest]):
                command = f"python -m seqjax.{f.key}" if verb else ""
                found.append(f"{f.shown(values[f.dest])}: "
                             + "; ".join(x for x in (command, f.note) if x))
    return found
