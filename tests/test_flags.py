"""The table of fairseq's flags: complete, right, and what the documentation shows."""

from __future__ import annotations

import dataclasses
import importlib
import re
import subprocess
import sys

import pytest

from seqjax import losses, models, tasks
from seqjax.config import Config
from seqjax.interop.fairseq import flags as fairseq_flags

FAMILIES = {"task": ("task", tasks.CONFIGS), "model": ("model", models.CONFIGS),
            "loss": ("criterion", losses.CONFIGS)}
"""Section of the configuration -> fairseq's word for it, and its dataclasses."""
WITHOUT = {
    # fairseq's flag changes nothing there, or the key is another (lightconv's `relu_dropout`).
    "--decoder-attention": {"lstm_lm", "fconv_lm"},
    "--decoder-out-embed-dim": {"fconv_lm"},
    "--decoder-normalize-before": {"lightconv_lm"},
    "--relu-dropout": {"lightconv", "lightconv_lm"},
    # Refused, where a checkpoint or a command asks for it.
    "--attn-type": {"data2vec_audio", "hubert", "wav2vec2"},
    "--depthwise-conv-kernel-size": {"data2vec_audio", "hubert", "wav2vec2"},
    "--pos-enc-type": {"data2vec_audio", "hubert", "wav2vec2"},
    "--adaptive-input": {"bart", "transformer", "transformer_align"},
    "--tie-adaptive-proj": {"bart", "transformer", "transformer_align"},
    "--tie-adaptive-weights": {"bart", "transformer", "transformer_align"},
    "--adaptive-softmax-cutoff": {"lightconv"},
    "--adaptive-softmax-dropout": {"lightconv"},
    "--layer-type": {"hubert"},
    # Keys of wav2vec 2.0 that fairseq's data2vec (and one that its HuBERT) has and never reads.
    **dict.fromkeys((
        "--codebook-negatives", "--crop-seq-to-multiple", "--cross-sample-negatives",
        "--dropout-features", "--final-dim", "--latent-dim", "--latent-groups", "--latent-vars",
        "--logit-temp", "--negatives-from-everywhere", "--num-negatives", "--quantize-input",
        "--quantize-targets", "--quantizer-depth", "--quantizer-factor", "--same-quantizer",
        "--target-glu"), {"data2vec_audio"}),
    "--latent-temp": {"hubert", "data2vec_audio"},
}
"""Families without the key of a flag that fairseq registers for them."""


def keys() -> set[str]:
    """Every `section.key` of the configuration that no family decides."""
    found = {f.name for f in dataclasses.fields(Config)}
    for field in dataclasses.fields(Config):
        if dataclasses.is_dataclass(field.default):
            found |= {f"{field.name}.{f.name}" for f in dataclasses.fields(field.default)}
    return found | {"generation.*", "optimizer.*"}


def registered(repository) -> dict[tuple[str, str], set[str]]:
    """(`model`, `lstm`) -> flags that fairseq's component of that name adds."""
    file = repository / "seqjax" / "interop" / "fairseq" / "names.tsv"
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    return {(kind, name): set(flags.split()) for kind, name, _, flags in rows}


def test_a_key_is_of_every_family_that_fairseq_has_the_flag_for(repository):
    """Recorded by scripts/record_flags.py: which component registers which flag."""
    theirs, without, nobody = registered(repository), {}, []
    for flag in fairseq_flags.table():
        section, _, key = flag.key.partition(".")
        if section not in FAMILIES:
            continue
        kind, families = FAMILIES[section]
        having = {name for name in families if set(flag.names) & theirs.get((kind, name), set())}
        if not having and not set(flag.names) & theirs["command", "fairseq-train"]:
            nobody.append(flag.names[0])
        lacking = {name for name in having
                   if key not in {f.name for f in dataclasses.fields(families[name])}}
        assert not having or lacking < having, flag
        if lacking:
            without[flag.names[0]] = lacking
    assert not nobody
    assert without == WITHOUT


def test_every_flag_leads_somewhere_or_says_why_not(repository):
    known, wrong = keys(), []
    for section, (_, families) in FAMILIES.items():
        known |= {f"{section}.{f.name}" for cls in families.values()
                  for f in dataclasses.fields(cls)}
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


RENAMED = {
    "--checkpoint-activations": "model.remat", "--criterion": "loss.name",
    "--eval-bleu-remove-bpe": "task.post_process", "--lr-scheduler": "schedule.name",
    "--optimizer": "optimizer.name", "--optimizer-overrides": "optimizer.*",
    "--relu-dropout": "model.activation_dropout", "--task": "task.name",
    "--warmup-steps": "schedule.warmup_updates",
}


def test_what_is_learned_and_how_is_called_as_fairseq_calls_it():
    """A key of the model, task, loss, optimizer or schedule has its flag's name, these apart."""
    found = {}
    for flag in fairseq_flags.table():
        section, _, key = flag.key.partition(".")
        names = {name.lstrip("-").replace("-", "_") for name in flag.names}
        if section in (*FAMILIES, "optimizer", "schedule") and key and key not in names:
            found[flag.names[0]] = flag.key
    assert found == RENAMED


@pytest.mark.parametrize("command", sorted(fairseq_flags.COMMANDS.values()))
def test_the_table_has_every_flag_of_fairseqs_own_parsers(command, repository):
    """Recorded by scripts/record_flags.py: names, and how they take a value."""
    file = repository / "tests" / "goldens" / "flags" / f"{command}.txt"
    theirs = {frozenset(names.split()): kind for names, kind in (
        line.split("\t") for line in file.read_text(encoding="utf-8").splitlines())}
    letter = next(k for k, name in fairseq_flags.COMMANDS.items() if name == command)
    rows = [f for f in fairseq_flags.table() if letter in f.commands]
    assert {frozenset(f.names): f.kind for f in rows} == theirs
    names = [name for f in rows for name in f.names]  # a command's own may be another one's too
    assert len(names) == len(set(names)) and len({f.dest for f in rows}) == len(rows)


def test_every_row_belongs_to_a_command():
    assert all(flag.commands for flag in fairseq_flags.table())
    assert len(fairseq_flags.table()) > 420


def test_the_documentation_shows_the_table(repository, monkeypatch):
    text = (repository / "docs" / "from-fairseq.md").read_text(encoding="utf-8")
    monkeypatch.syspath_prepend(repository / "scripts")
    assert importlib.import_module("update_flag_table").markdown() in text, (
        "docs/from-fairseq.md is behind the table: run python scripts/update_flag_table.py")
