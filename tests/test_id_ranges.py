"""Ids that are no words are refused wherever a split is opened, and looked for once."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import raw_config, resolve, write_data

from seqjax import evaluate, generate, tasks
from seqjax.config import ConfigError
from seqjax.data import folder, id_ranges
from seqjax.data.indexed import IndexedDataset, IndexedWriter
from seqjax.data.vocabulary import Vocabulary
from seqjax.training import train_loop


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


def spoil(place, split, lang, *, sentence=2, to=16, dtype=np.uint16):
    """Puts an id into a sentence; dictionaries have 16 entries."""
    prefix = place / f"{split}.aa-bb.{lang}"
    rows = [np.array(x) for x in IndexedDataset(prefix)]
    rows[sentence][0] = to
    with IndexedWriter(prefix, dtype=np.dtype(dtype)) as out:
        for row in rows:
            out.append(row)


@pytest.mark.parametrize("lang", ["aa", "bb"])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_training(data, tmp_path, split, lang):
    shutil.copytree(data, tmp_path / "d")
    spoil(tmp_path / "d", split, lang)
    with pytest.raises(ConfigError) as error:
        train_loop.train(resolve(raw_config(tmp_path / "d", batching={"max_tokens": 128})),
                         workdir=str(tmp_path / "run"))
    text = str(error.value)
    assert f"{split}.aa-bb.{lang}.bin: sentence 2 (counted from 0) has the id 16" in text
    assert f"dict.{lang}.txt has 16 entries" in text
    assert not list((tmp_path / "run").glob("checkpoints/*"))


@pytest.mark.parametrize("lang", ["aa", "bb"])
def test_a_dictionary_a_line_short(data, tmp_path, lang):
    shutil.copytree(data, tmp_path / "d")
    path = tmp_path / "d" / f"dict.{lang}.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ConfigError, match=rf"has the id 15, but .*dict\.{lang}\.txt has 15 "):
        train_loop.train(resolve(raw_config(tmp_path / "d", batching={"max_tokens": 128})),
                         workdir=str(tmp_path / "run"))


def test_negative_ids(data, tmp_path):
    shutil.copytree(data, tmp_path / "d")
    spoil(tmp_path / "d", "train", "aa", to=-3, dtype=np.int32)
    with pytest.raises(ConfigError, match="sentence 2 .* has the id -3"):
        tasks.setup(resolve(raw_config(tmp_path / "d"))).train_dataset()


def test_evaluate_and_generate(data, tmp_path, capsys):
    run = write_checkpoint(tmp_path / "run", data)
    shutil.copytree(data, tmp_path / "d")
    common = ["--checkpoint", str(run), "--data", str(tmp_path / "d"), "--subset", "valid"]
    spoil(tmp_path / "d", "valid", "aa", sentence=5, to=999)
    for verb in (evaluate, generate):
        with pytest.raises(ConfigError, match="sentence 5 .* has the id 999"):
            verb.main(common)
    shutil.copytree(data, tmp_path / "d", dirs_exist_ok=True)
    evaluate.main(common)


def test_language_models(data, tmp_path):
    place = tmp_path / "d"
    place.mkdir()
    shutil.copy(data / "dict.aa.txt", place / "dict.txt")
    for end in ("bin", "idx"):
        shutil.copy(data / f"train.aa-bb.aa.{end}", place / f"train.{end}")
    raw = {"task": {"name": "language_modeling", "data": str(place)},
           "model": {"name": "transformer_lm"}, "loss": {"name": "cross_entropy"}}
    tasks.setup(resolve(raw)).train_dataset()
    dictionary = Vocabulary.load(place / "dict.txt")
    Vocabulary(dictionary.symbols[4:-1]).save(place / "dict.txt")
    with pytest.raises(ConfigError, match=r"train\.bin: sentence .* has the id 15, but .*15 ent"):
        tasks.setup(resolve(raw)).train_dataset()


def test_the_manifest_names_the_dictionary(data, tmp_path):
    shutil.copytree(data, tmp_path / "d")
    vocabularies = {lang: Vocabulary.load(data / f"dict.{lang}.txt") for lang in ("aa", "bb")}
    folder.save_manifest(tmp_path / "d", folder.Manifest(
        source_lang="aa", target_lang="bb",
        vocabularies={k: len(v) for k, v in vocabularies.items()},
        dictionaries={k: folder.digest(v) for k, v in vocabularies.items()}))
    config = resolve(raw_config(tmp_path / "d"))
    tasks.setup(config)
    words = vocabularies["bb"].symbols[4:]
    for changed, message in (
        (words[:-1], r"has 15 entries, but preprocess\.json says .* made with 16"),
        ([*words, "more"], r"has 17 entries"),
        ([words[1], words[0], *words[2:]], "has other words, or another order"),
    ):
        Vocabulary(changed).save(tmp_path / "d" / "dict.bb.txt")
        with pytest.raises(ValueError, match=rf"dict\.bb\.txt: {message}"):
            tasks.setup(config)


def test_looked_at_once(data, tmp_path, monkeypatch):
    shutil.copytree(data, tmp_path / "d")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prefix = str(tmp_path / "d" / "train.aa-bb.aa")
    if os.path.exists(f"{prefix}.ids.json"):
        os.remove(f"{prefix}.ids.json")
    calls = []
    compute = id_ranges._computed
    monkeypatch.setattr(id_ranges, "_computed", lambda t: calls.append(1) or compute(t))
    for _ in range(2):
        assert id_ranges.id_range(prefix) == (2, 15)
    assert len(calls) == 1 and os.path.isfile(f"{prefix}.ids.json")
    spoil(tmp_path / "d", "train", "aa", to=77)  # changed: looked at again
    assert id_ranges.id_range(prefix) == (2, 77) and len(calls) == 2

    def refused(place, values, write=id_ranges._write):
        if place.parent == tmp_path / "d":
            raise PermissionError(30, "read-only")
        write(place, values)

    os.remove(f"{prefix}.ids.json")
    monkeypatch.setattr(id_ranges, "_write", refused)
    for _ in range(2):
        assert id_ranges.id_range(prefix) == (2, 77)
    assert len(calls) == 3 and list((tmp_path / "cache" / "seqjax" / "ids").iterdir())


def test_floats_that_are_no_numbers(tmp_path):
    prefix = str(tmp_path / "train")
    with IndexedWriter(prefix, dtype=np.dtype("<f8")) as out:
        out.append(np.array([4.0, np.nan, 2.0]))
    with pytest.raises(id_ranges.IdError, match="has the id nan"):
        id_ranges.check(prefix, id_ranges.Limit(path="dict.txt", entries=16))
