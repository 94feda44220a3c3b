"""`preprocess --source tfds:...`, with datasets that TFDS builds here, without network."""

from __future__ import annotations

import pathlib
import socket
import time

import numpy as np
import pytest

from seqjax import preprocess
from seqjax.data import folder, tfds_source
from seqjax.data.indexed import IndexedDataset
from seqjax.data.sources import SourceError
from seqjax.data.vocabulary import Vocabulary

pytest.importorskip("tensorflow_datasets")

SIZES = {"train": 20, "validation": 5, "test": 3}


def build(where: pathlib.Path, file_format: str) -> dict[str, str]:
    """Two datasets: a translation one, and one with nested and other features."""
    import tensorflow_datasets as tfds

    class Verses(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.Translation(languages=("de", "en")),
                supervised_keys=("de", "en"),
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in SIZES}

        def _generate_examples(self, split):
            for i in range(SIZES[split]):
                yield i, {"de": f"Satz {i}\nvon {split}", "en": f"sentence ü {i}"}

    class Nested(Verses, skip_registration=True):  # type: ignore
        def _info(self):
            text = tfds.features.Text()
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
                "number": np.int64, "pair": {"de": text, "en": text}, "title": text,
            }))

        def _generate_examples(self, split):
            for i, example in super()._generate_examples(split):
                yield i, {"number": i, "pair": example, "title": f"title {i}"}

    folders = {}
    for kind in (Verses, Nested):
        builder = kind(data_dir=str(where), file_format=file_format)
        builder.download_and_prepare()
        folders[kind.__name__] = str(builder.data_path)
    return folders


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def built(request, tmp_path_factory) -> dict[str, str]:
    return build(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def no_network(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def run(*args: object) -> int:
    return preprocess.main([str(arg) for arg in args])


def texts(dest: pathlib.Path, store: str, lang: str | None) -> list[str]:
    vocabulary = Vocabulary.load(folder.dict_path(dest, lang))
    data = IndexedDataset(dest / store)
    return [vocabulary.string(data[i]) for i in range(len(data))]


@pytest.mark.slow
def test_translation_dataset(built, tmp_path, no_network) -> None:
    """Languages, features and splits are found; line ends inside a text become spaces."""
    assert run("--source", f"tfds:{built['Verses']}", "--destdir", tmp_path / "a") == 0
    assert folder.find_pair(tmp_path / "a") == ("de", "en")
    for ours, theirs in (("train", "train"), ("valid", "validation"), ("test", "test")):
        german = texts(tmp_path / "a", f"{ours}.de-en.de", "de")
        english = texts(tmp_path / "a", f"{ours}.de-en.en", "en")
        # TFDS shuffles when it builds: only the pairing and the content are known.
        numbers = [line.split()[1] for line in german]
        assert len(numbers) == SIZES[theirs]
        assert english == [f"sentence ü {n}" for n in numbers]
        if ours == "train":
            assert sorted(german) == sorted(f"Satz {i} von train" for i in range(20))
    manifest = folder.load_manifest(tmp_path / "a")
    assert manifest is not None and manifest.target_lang == "en"


@pytest.mark.slow
def test_the_order_is_fixed_and_the_direction_chosen(built, tmp_path, no_network) -> None:
    for name in ("a", "b"):
        assert run("--source", f"tfds:{built['Verses']}", "-s", "en", "-t", "de", "--destdir",
                   tmp_path / name, "--tokenizer", "characters") == 0
    for name in ("train.en-de.en.bin", "train.en-de.de.bin", "dict.en.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.slow
def test_nested_and_single_features(built, tmp_path, no_network, capsys) -> None:
    source = f"tfds:{built['Nested']}"
    assert run("--source", source, "-s", "de", "-t", "en", "--destdir", tmp_path / "a") == 0
    assert sorted(texts(tmp_path / "a", "train.de-en.de", "de"))[0] == "Satz 0 von train"
    assert run("--source", source, "--only-source", "--tfds-source-key", "title", "--destdir",
               tmp_path / "b") == 0
    assert sorted(texts(tmp_path / "b", "train", None))[0] == "title 0"
    assert run("--source", source, "-s", "x", "-t", "en", "--tfds-source-key", "pair/de",
               "--tfds-target-key", "title", "--destdir", tmp_path / "c") == 0
    assert sorted(texts(tmp_path / "c", "train.x-en.en", "en"))[0] == "title 0"
    capsys.readouterr()
    for args, message in (
        ((), "languages cannot be told from its features (pair/de, pair/en, title)"),
        (("-s", "fr", "-t", "en"), "no text feature 'fr'; it has: pair/de, pair/en, title"),
        (("--only-source", "--tfds-source-key", "number"), "no text feature 'number'"),
        (("--only-source",), "no text feature 'text'"),
    ):
        assert run("--source", source, *args, "--destdir", tmp_path / "d") == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_what_is_not_there_is_said_at_once(tmp_path, no_network) -> None:
    start = time.monotonic()
    options: dict = dict(langs=["de", "en"], keys=[None, None], data_dir=str(tmp_path))
    with pytest.raises(SourceError, match="TFDS knows no such dataset"):
        tfds_source.open_corpus("no_such_dataset", **options)
    with pytest.raises(SourceError, match="not prepared yet.*--tfds-download"):
        tfds_source.open_corpus("wmt14_translate/de-en", **options)
    with pytest.raises(SourceError, match="there is no network .*no network in this test"):
        tfds_source.open_corpus("wmt14_translate/de-en", download=True, **options)
    with pytest.raises(SourceError, match="wmt14_translate/xx-yy"):
        tfds_source.open_corpus("wmt14_translate/xx-yy", **options)
    with pytest.raises(SourceError, match="no folder built by TFDS"):
        tfds_source.open_corpus(str(tmp_path), **options)
    assert time.monotonic() - start < 30


def test_without_tfds(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    assert run("--source", "tfds:anything", "--destdir", tmp_path / "a") == 2
    assert "pip install 'seqjax[tfdata]'" in capsys.readouterr().err


def test_prefixes_do_not_go_with_tfds(tmp_path, capsys) -> None:
    assert run("--source", "tfds:x", "--trainpref", "t", "--destdir", tmp_path / "a") == 2
    assert "do not go with --source tfds" in capsys.readouterr().err
