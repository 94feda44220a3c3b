"""Data folders: names of files, manifest, tokenizers."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from seqjax.data import folder, tokenizers
from seqjax.data.indexed import IndexedWriter


def store(prefix: pathlib.Path) -> None:
    with IndexedWriter(prefix, dtype=np.uint16) as writer:
        writer.append(np.array([4, 2]))


def test_find_pair(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no such data folder"):
        folder.find_pair(tmp_path / "none")
    for name in ("train.align.de-en", "x.de-en.fr", "train.en-None.en", "train"):
        store(tmp_path / name)
    with pytest.raises(folder.FolderError, match=r"no files such as train\.de-en\.de\.idx"):
        folder.find_pair(tmp_path)
    store(tmp_path / "test.de-en.en")
    assert folder.find_pair(tmp_path) == ("de", "en")
    store(tmp_path / "train.fr-en.fr")
    with pytest.raises(folder.FolderError, match=r"several pairs \(de-en, fr-en\)"):
        folder.find_pair(tmp_path)


def test_pair_prefixes(tmp_path) -> None:
    for split in ("train", "train1", "train3", "valid"):
        for lang in ("de", "en"):
            store(tmp_path / f"{split}.de-en.{lang}")
    stem = str(tmp_path / "train.de-en.")
    assert folder.pair_prefixes(tmp_path, "train", source="de", target="en") == [stem]
    both = folder.pair_prefixes(tmp_path, "train", source="de", target="en", combine=True)
    assert both == [stem, str(tmp_path / "train1.de-en.")]
    # The other direction reads the same files.
    assert folder.pair_prefixes(tmp_path, "train", source="en", target="de") == [stem]
    (tmp_path / "valid.de-en.en.bin").unlink()  # a target may be missing
    assert folder.pair_prefixes(tmp_path, "valid", source="de", target="en")
    (tmp_path / "valid.de-en.de.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"valid\.de-en\.de\.bin: no such store.*train1"):
        folder.pair_prefixes(tmp_path, "valid", source="de", target="en")


def test_mono_prefixes(tmp_path) -> None:
    for name in ("train", "train1", "train.en-None.en"):
        store(tmp_path / name)
    assert folder.mono_prefixes(tmp_path, "train") == [str(tmp_path / "train")]
    assert len(folder.mono_prefixes(tmp_path, "train", combine=True)) == 2
    named = folder.mono_prefixes(tmp_path, "train", lang="en")
    assert named == [str(tmp_path / "train.en-None.en")]
    with pytest.raises(FileNotFoundError, match=r"valid\.bin: no such store.*folder: train,"):
        folder.mono_prefixes(tmp_path, "valid")
    with pytest.raises(FileNotFoundError, match="no such data folder"):
        folder.mono_prefixes(tmp_path / "x", "valid")


def test_dict_path(tmp_path) -> None:
    assert folder.dict_path(tmp_path, "de") == str(tmp_path / "dict.de.txt")
    assert folder.dict_path(tmp_path) == str(tmp_path / "dict.txt")


def test_manifest_and_tokenizers(tmp_path) -> None:
    assert folder.load_manifest(tmp_path) is None
    assert folder.load_tokenizers(tmp_path) == {}
    bpe = tokenizers.SubwordNMTTokenizer(codes=b"#version: 0.2\nt h\n")
    made: dict[str, tokenizers.Tokenizer] = {
        "de": tokenizers.chain([tokenizers.MosesTokenizer(lang="de"), bpe]),
        "en": tokenizers.train_sentencepiece(["a b ab ba"] * 9, vocab_size=6),
    }
    specs = {k: folder.save_tokenizer(tmp_path, t, tag=f".{k}") for k, t in made.items()}
    manifest = folder.Manifest(source_lang="de", target_lang="en", tokenizers=specs)
    folder.save_manifest(tmp_path, manifest)
    assert folder.load_manifest(tmp_path) == manifest
    assert folder.load_tokenizers(tmp_path) == made
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "bpecodes.de", "preprocess.json", "sentencepiece.en.model"
    ]
    (tmp_path / "bpecodes.de").unlink()
    with pytest.raises(folder.FolderError, match=r"bpecodes\.de: missing, though preprocess\.json"):
        folder.load_tokenizers(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "damaged"), ("{}", "damaged"), ('{"format": 2}', "format 2, this version reads"),
     ('{"format": 1}', "damaged"), ("[]", "damaged")],
)
def test_damaged_manifest(tmp_path, text: str, message: str) -> None:
    (tmp_path / "preprocess.json").write_text(text)
    with pytest.raises(folder.FolderError, match=message):
        folder.load_manifest(tmp_path)


def test_a_manifest_of_a_later_release_keeps_working(tmp_path) -> None:
    state = {"format": 1, "source_lang": "de", "target_lang": None, "new_key": 3}
    (tmp_path / "preprocess.json").write_text(json.dumps(state))
    manifest = folder.load_manifest(tmp_path)
    assert manifest is not None and manifest.target_lang is None


@pytest.mark.parametrize("source, target", [
    ("en", "zh-CN"), ("zh-CN", "en"), ("pt-BR", "zh-CN"), ("pt", "pt-BR"), ("pt-BR", "pt"),
    ("sr-Latn-RS", "en_XX"), ("x", "a-x"), ("None", "en"),
])
def test_codes_with_hyphens(tmp_path, source: str, target: str) -> None:
    for lang in (source, target):
        if lang != "None":
            store(tmp_path / f"train.{source}-{target}.{lang}")
    assert folder.find_pair(tmp_path) == (source, target)


@pytest.mark.parametrize("source, target", [("pt", "BR-pt"), ("pt-BR", "pt")])
def test_codes_with_hyphens_of_one_side(tmp_path, source: str, target: str) -> None:
    """Where the stores fit two pairs, the dictionaries tell which it is."""
    store(tmp_path / "test.pt-BR-pt.pt")
    with pytest.raises(folder.FolderError, match="several pairs"):
        folder.find_pair(tmp_path)
    for lang in (source, target):
        (tmp_path / f"dict.{lang}.txt").write_text("a 1\n")
    assert folder.find_pair(tmp_path) == (source, target)
