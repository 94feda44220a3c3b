"""The table of fairseq's flags: complete, right, and what the documentation shows."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

from seqjax import losses, models, tasks
from seqjax.config import Config
from seqjax.interop.fairseq import flags as fairseq_flags


def keys() -> set[str]:
    """Every `section.key` of the configuration."""
    found = {f.name for f in dataclasses.fields(Config)}
    for field in dataclasses.fields(Config):
        if dataclasses.is_dataclass(field.default):
            found |= {f"{field.name}.{f.name}" for f in dataclasses.fields(field.default)}
    for section, families in (("task", tasks.CONFIGS), ("model", models.CONFIGS),
                              ("loss", losses.CONFIGS)):
        for cls in families.values():
            found |= {f"{section}.{f.name}" for f in dataclasses.fields(cls)}
    return found | {"generation.*", "optimizer.*"}


def test_every_flag_leads_somewhere_or_says_why_not(repository):
    known, wrong = keys(), []
    helps: dict[str, str] = {}
    for flag in fairseq_flags.table():
        if flag.key in ("(no)", "(not needed)", "(implied)"):
            wrong += [] if flag.note else [f"{flag.names[0]}: no reason"]
        elif " " in flag.key:
            verb, option = flag.key.split(" ")
            if verb not in helps:
                helps[verb] = subprocess.run(
                    [sys.executable, "-m", f"seqjax.{verb}", "--help"], cwd=repository,
                    capture_output=True, text=True, check=True).stdout
            if not re.search(re.escape(option) + r"\b", helps[verb]):
                wrong.append(f"{flag.names[0]}: {verb} has no {option}")
        elif flag.key not in known:
            wrong.append(f"{flag.names[0]}: there is no {flag.key}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("command", sorted(fairseq_flags.COMMANDS.values()))
def test_the_table_has_every_flag_of_fairseqs_own_parsers(command, repository):
    """Recorded by scripts/record_flags.py: names, and how they take a value."""
    file = repository / "tests" / "goldens" / "flags" / f"{command}.txt"
    theirs = {frozenset(names.split()): kind for names, kind in (
        line.split("\t") for line in file.read_text(encoding="utf-8").splitlines())}
    letter = next(k for k, name in fairseq_flags.COMMANDS.items() if name == command)
    rows = [f for f in fairseq_flags.table() if letter in f.commands]
    assert {frozenset(f.names): f.kind for f in rows} == theirs
    names = [name for f in rows for name in f.names]
    assert len(names) == len(set(names)) and len({f.dest for f in rows}) == len(rows)


def test_every_row_belongs_to_a_command():
    assert all(flag.commands for flag in fairseq_flags.table())
    assert len(fairseq_flags.table()) > 420


def test_the_documentation_shows_the_table(repository):
    text = (repository / "docs" / "from-fairseq.md").read_text(encoding="utf-8")
    assert fairseq_flags.markdown() in text, (
        "docs/from-fairseq.md is behind the table: run python scripts/update_flag_table.py")
