"""The table of fairseq's flags: complete, right, and what the documentation shows."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

from seqjax import losses, models, tasks
from seqjax.config import Config, ConfigError
from seqjax.interop import fairseq_command, fairseq_flags


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
    return found | {"generation.*"}


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


def test_the_table_is_complete_and_without_repetition():
    flags = fairseq_flags.table()
    names = [name for flag in flags for name in flag.names]
    assert len(names) == len(set(names))
    assert len(flags) > 400
    for name in ("--max-tokens", "--arch", "-s", "--update-freq", "--joined-dictionary", "--beam",
                 "--context-window", "--buffer-size", "--adam-betas", "--phase-ratio",
                 "--remove-bpe", "--max-sentences", "--no-epoch-checkpoints"):
        assert name in names


def test_the_documentation_shows_the_table(repository):
    text = (repository / "docs" / "from-fairseq.md").read_text(encoding="utf-8")
    assert fairseq_flags.markdown() in text, (
        "docs/from-fairseq.md is behind the table: run python scripts/update_flag_table.py")


def test_parsing():
    command = fairseq_command.parse(
        "fairseq-generate data-bin --path a.pt:b.pt --beam=5 --remove-bpe --lenpen -0.5 "
        "--sampling --max-sentences 8 --print-alignment hard --quiet # a comment")
    assert command.program == "fairseq-generate" and command.data == "data-bin"
    assert command.given == {
        "path": "a.pt:b.pt", "beam": "5", "post_process": "subword_nmt", "lenpen": "-0.5",
        "sampling": True, "batch_size": "8", "print_alignment": "hard", "quiet": True}
    # Python scripts of older versions, and argparse's abbreviations.
    assert fairseq_command.parse("python train.py d --share-all-emb").given == {
        "share_all_embeddings": True}
    with pytest.raises(ConfigError, match="unknown flag --beam"):
        fairseq_command.parse("fairseq-train d --beam 5")
