"""`PLACES` is the one registration: whatever it does not name is shared, and no other file of the
package knows a family by its name."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import io
import pathlib
import re
import subprocess
import sys
import tokenize

import pytest

import seqjax
from seqjax import models
from seqjax.config import import_object
from seqjax.models.tables import FairseqTable, HuggingFaceTable

PACKAGE = pathlib.Path(seqjax.__file__).parent
SHARED = {"__init__", "family", "tables", "protocol", "overrides", "vocabulary_rows", "parts",
          "finetuning", "audio_huggingface"}
"""What `seqjax/models/` holds besides families."""
WORDS = {"transformer", "gpt2", "opt", "marian", "bert"}
"""Names that are words of the field as well: a text may say "transformer" and mean any of them;
fairseq's architectures and a tokenizer are called gpt2, optax's state opt_state, and Marian has a
tokenizer of its own; so has BERT, and fairseq's way to begin is called after it."""


def test_every_module_of_models_is_registered_or_shared():
    found = {path.stem for path in (PACKAGE / "models").iterdir()
             if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))}
    assert found == SHARED | set(models.PLACES)


def names_of(place: str) -> set[str]:
    return {place, *(f.name for f in importlib.import_module(f"seqjax.models.{place}").FAMILIES)}


TOKENIZERS = {"data/make_tokenizers.py", "data/word_starts.py", "commands/flags.py"}
"""Files, beside `data/tokenizers/`, that name tokenizers, some of them called as models are."""
OPTIONS = {
    ("commands/languages.py", "mbart"), ("tasks/translation_multi_simple_epoch.py", "mbart"),
    ("losses/masked_units_config.py", "hubert"),  # as fairseq calls the loss
    ("data/audio/filterbank.py", "hubert"),  # whose clusters are made of these features
    ("commands/prepare_clusters.py", "hubert"),
    ("tasks/__init__.py", "hubert"), ("tasks/hubert_pretraining.py", "hubert"),  # fairseq's task
}
"""A value of fairseq's `--lang-tok-style`."""
MADE_OF = {"roberta": ("models/bert.py",), "wav2vec2": ("models/xm_transformer/fairseq.py",)}
"""Families that others are made of."""


def code_of(path: pathlib.Path) -> list[tuple[int, str]]:
    """(line, name or text) of what a file does, not of what it says: no comments, no docstrings."""
    text = path.read_text(encoding="utf-8")
    said = {node.value.lineno for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    kinds = (tokenize.NAME, tokenize.STRING)
    return [(t.start[0], t.string) for t in tokenize.generate_tokens(io.StringIO(text).readline)
            if t.type in kinds and not (t.type == tokenize.STRING and t.start[0] in said)]


@pytest.mark.parametrize("place", sorted(set(models.PLACES) - WORDS))
def test_nobody_else_knows_a_familys_name(place):
    word = re.compile("|".join(rf"(?<![a-z0-9_]){n}(?![a-z0-9])|(?<![a-z0-9]){n}_"
                               for n in names_of(place)))
    own = {PACKAGE / "models" / "__init__.py", PACKAGE / "models" / f"{place}.py"}
    elsewhere = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if path in own or path.is_relative_to(PACKAGE / "models" / place):
            continue
        if name in MADE_OF.get(place, ()):
            continue
        if name.startswith("data/tokenizers/") or name in TOKENIZERS or (name, place) in OPTIONS:
            continue
        elsewhere += [f"{name}:{number}: {found}" for number, found in code_of(path)
                      if word.search(found.lower())]
    assert not elsewhere, "\n".join(elsewhere)


@pytest.mark.parametrize("family", models.FAMILIES.values(), ids=lambda family: family.name)
def test_what_a_family_says_of_itself_is_there(family):
    assert dataclasses.is_dataclass(family.config)
    assert family.config().name == family.name
    model = import_object(family.model, "model")
    assert isinstance(model, type)
    if family.fairseq is not None:
        assert isinstance(import_object(family.fairseq, "fairseq"), FairseqTable)
        assert models.fairseq_table(family.name) is import_object(family.fairseq, "fairseq")
    for place in family.huggingface:
        assert isinstance(import_object(place, "huggingface"), HuggingFaceTable)
    for pattern, axes in family.partition:
        re.compile(pattern)
        assert set(axes) <= {None, "data", "fsdp", "tensor"}


def test_an_architecture_belongs_to_one_family():
    every = [arch for family in models.FAMILIES.values() for arch in family.archs]
    assert len(every) == len(set(every)) == len(models.ARCHS)


@pytest.mark.parametrize("arch", sorted(models.ARCHS))
def test_every_architecture_makes_a_configuration(arch):
    name, values = models.ARCHS[arch]
    config = models.CONFIGS[name]
    assert set(values) <= {f.name for f in dataclasses.fields(config)} - {"name", "arch"}
    values = dict(values)
    if hasattr(config, "follow"):
        config.follow(values)
    assert config(**values, arch=arch).arch == arch


def test_configurations_do_not_wait_for_jax():
    code = ("import sys; from seqjax import models; [config() for config in "
            "models.CONFIGS.values()]; print(sorted({'jax', 'flax', 'numpy'} & set(sys.modules)))")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "jax" not in found.stdout and "flax" not in found.stdout, found.stdout
