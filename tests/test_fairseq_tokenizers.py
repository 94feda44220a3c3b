"""Tokenizers of a fairseq `.pt`: said by it, named by its user, or lying beside it."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pytest
from user_path import GOLDENS, MODEL

import seqjax
from seqjax import convert, interactive
from seqjax.config import ConfigError
from seqjax.data import tokenizers
from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.writer import write_pt

FILES = GOLDENS / "tokenizers"
PIECES = FILES / "xlmr_spm" / "sentencepiece.bpe.model"
TEXTS = ("Hello world!", "sagte der König")
WORDS = 356
"""Of the model's dictionaries, without the four special symbols."""


def save(home: pathlib.Path, words: list[str]) -> None:
    """The golden model with a dictionary of other words."""
    used = [word for word in words if word.split() == [word]][:WORDS]
    assert len(used) == WORDS
    shutil.copy(MODEL, home / "model.pt")
    for lang in ("de", "en"):
        (home / f"dict.{lang}.txt").write_text(
            "".join(f"{word} 1\n" for word in used), encoding="utf-8")


def gpt2() -> tokenizers.Tokenizer:
    files = FILES / "vocab_merges"
    return tokenizers.GPT2Tokenizer(encoder_json=(files / "vocab.json").read_bytes(),
                                    vocab_bpe=(files / "merges.txt").read_bytes())


@pytest.fixture
def home(tmp_path) -> pathlib.Path:
    """The model with the dictionary of a byte-level BPE: integers, in another order."""
    used = [piece for text in TEXTS for piece in gpt2().encode(text).split()]
    save(tmp_path, list(dict.fromkeys([*used[::-1], *(gpt2().symbols() or [])])))
    return tmp_path


def put(home: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The files of the BPE in a folder, under the names of `--bpe gpt2`."""
    home.mkdir(exist_ok=True)
    shutil.copy(FILES / "vocab_merges" / "vocab.json", home / "encoder.json")
    shutil.copy(FILES / "vocab_merges" / "merges.txt", home / "vocab.bpe")
    return home / "encoder.json", home / "vocab.bpe"


def changed(home: pathlib.Path, **bpe: object) -> pathlib.Path:
    """The model as one that was trained with these options of its subwords."""
    tree = read_pt(home / "model.pt")
    write_pt(home / "changed.pt", {**tree, "cfg": {**tree["cfg"], "bpe": bpe}})
    return home / "changed.pt"


def check(model, home: pathlib.Path, expected: tokenizers.Tokenizer) -> None:
    words = [line.split()[0] for line in
             (home / "dict.de.txt").read_text(encoding="utf-8").split("\n")[:-1]]
    for line in TEXTS:
        pieces = expected.encode(line).split()
        ids = [words.index(p) + 4 if p in words else 3 for p in pieces]
        np.testing.assert_array_equal(model.encode(line), [*ids, 2])
        assert 3 not in ids


def test_gpt2_beside_named_and_said(home, tmp_path) -> None:
    encoder, merges = put(tmp_path / "elsewhere")
    options = {"gpt2_encoder_json": str(encoder), "gpt2_vocab_bpe": str(merges)}
    there = seqjax.load(home / "model.pt", bpe="gpt2", tokenizer_options=options, quiet=True)
    check(there, home, gpt2())
    check(seqjax.load(home / "model.pt", tokenizer_options=options, quiet=True), home, gpt2())
    check(seqjax.load(changed(home, _name="gpt2", **options), quiet=True), home, gpt2())
    put(home)
    check(seqjax.load(home / "model.pt", bpe="gpt2", quiet=True), home, gpt2())
    check(seqjax.load(home / "model.pt", quiet=True), home, gpt2())
    # What fairseq writes of itself: addresses of its defaults, which are no files here.
    said = changed(home, _name="gpt2", gpt2_encoder_json="https://x/encoder.json",
                   gpt2_vocab_bpe="https://x/vocab.bpe")
    model = seqjax.load(said, quiet=True)
    check(model, home, gpt2())
    assert model.task.decode_source(model.encode("sagte der")) == "sagte der"


def test_missing_files_are_named(home) -> None:
    with pytest.raises(ConfigError, match=r"'gpt2' need encoder.json \(gpt2_encoder_json\) and "
                       r"vocab.bpe \(gpt2_vocab_bpe\).*tokenizer_options=.*--gpt2-encoder-json"):
        seqjax.load(home / "model.pt", bpe="gpt2", quiet=True)
    with pytest.warns(UserWarning, match="until then text is expected in pieces"):
        model = seqjax.load(changed(home, _name="gpt2"), quiet=True)
    first, second = model.task.source_vocab.symbols[4:6]
    np.testing.assert_array_equal(model.encode(f"{first} {second}"), [4, 5, 2])
    with pytest.raises(ConfigError, match="gpt2_vocab_bpe: nosuch: no such file"):
        seqjax.load(home / "model.pt", tokenizer_options={"gpt2_vocab_bpe": "nosuch"}, quiet=True)


def test_a_tokenizer_that_is_not_the_model_s(tmp_path) -> None:
    lines = (GOLDENS / "preprocess" / "train.de").read_text(encoding="utf-8").split("\n")
    codes = GOLDENS / "preprocess" / "bpecodes"
    bpe = tokenizers.SubwordNMTTokenizer(codes=codes.read_bytes())
    words = list(dict.fromkeys(p for line in lines for p in bpe.encode(line).split()))
    save(tmp_path, (words + [f"madeupword{i:04d}" for i in range(WORDS)])[:WORDS])
    put(tmp_path / "gpt2")
    options = {"gpt2_encoder_json": tmp_path / "gpt2" / "encoder.json",
               "gpt2_vocab_bpe": tmp_path / "gpt2" / "vocab.bpe"}
    with pytest.raises(ConfigError, match=r"dict.de.txt: \d+ of its \d+ words \(\d+%\) are no "
                       "pieces of the gpt2 tokenizer, the first: '.*: this is not the tokenizer"):
        seqjax.load(tmp_path / "model.pt", tokenizer_options=options, quiet=True)
    with pytest.raises(ConfigError, match="no pieces of the sentencepiece tokenizer"):
        seqjax.load(tmp_path / "model.pt", quiet=True,
                    tokenizer_options={"sentencepiece_model": str(PIECES)})
    shutil.copy(codes, tmp_path / "bpecodes")
    seqjax.load(tmp_path / "model.pt", quiet=True)


def test_a_target_of_another_model_is_said(tmp_path) -> None:
    """fairseq knows one model, the source's, and so does a user who names it."""
    spm = tokenizers.SentencePieceTokenizer(model=PIECES.read_bytes())
    save(tmp_path, [*spm.symbols()])
    other = "".join(f"{word}@@ 1\n" for word in range(WORDS))
    (tmp_path / "dict.en.txt").write_text(other)
    with pytest.warns(UserWarning, match="dict.en.txt: .*texts of this side cannot be cut"):
        model = seqjax.load(tmp_path / "model.pt", quiet=True,
                            tokenizer_options={"sentencepiece_model": str(PIECES)})
    check(model, tmp_path, spm)


@pytest.mark.parametrize(("kind", "options", "expected"), [
    ("bert", {"bpe_vocab_file": FILES / "vocab_txt" / "vocab.txt"},
     lambda: tokenizers.BertTokenizer(vocab=(FILES / "vocab_txt" / "vocab.txt").read_bytes())),
    ("hf_byte_bpe", {"bpe_vocab": FILES / "vocab_merges" / "vocab.json", "bpe_merges":
                     FILES / "vocab_merges" / "merges.txt", "bpe_add_prefix_space": True},
     lambda: tokenizers.HFByteBPETokenizer(
         vocab_json=(FILES / "vocab_merges" / "vocab.json").read_bytes(),
         merges=(FILES / "vocab_merges" / "merges.txt").read_bytes(), add_prefix_space=True)),
    ("sentencepiece", {"sentencepiece_model": PIECES},
     lambda: tokenizers.SentencePieceTokenizer(model=PIECES.read_bytes())),
    ("byte_bpe", {"sentencepiece_model_path": PIECES},
     lambda: tokenizers.ByteBPETokenizer(model=PIECES.read_bytes())),
])
def test_other_kinds(kind: str, options, expected, tmp_path) -> None:
    tokenizer = expected()
    lines = json.loads((FILES / "texts.json").read_text(encoding="utf-8"))["lines"]
    used = [p for line in TEXTS for p in tokenizer.encode(line).split()]
    words = list(dict.fromkeys([*used, *(
        p for line in lines for p in tokenizer.encode(line).split() if p in tokenizer.symbols()),
        *tokenizer.symbols()]))
    save(tmp_path, words + [f"madeupword{i:04d}" for i in range(WORDS)])
    model = seqjax.load(tmp_path / "model.pt", bpe=kind, tokenizer_options=options, quiet=True)
    check(model, tmp_path, tokenizer)


def test_the_command_line_names_them(home, tmp_path, capsys, monkeypatch) -> None:
    encoder, merges = put(tmp_path / "elsewhere")
    text = tmp_path / "input.txt"
    text.write_text("Hello world!\n")
    interactive.main([
        "--path", str(home / "model.pt"), "--input", str(text), "--bpe", "gpt2",
        "--gpt2-encoder-json", str(encoder), "--gpt2-vocab-bpe", str(merges),
        "--beam", "1", "--max-len-b", "4", "--format", "fairseq", "--quiet"])
    out = capsys.readouterr().out
    source = next(line for line in out.splitlines() if line.startswith("S-0"))
    assert source.split("\t")[1] == gpt2().encode("Hello world!")


def test_converting_takes_them_along(home, tmp_path, capsys) -> None:
    encoder, merges = put(tmp_path / "elsewhere")
    options = ["--gpt2-encoder-json", str(encoder), "--gpt2-vocab-bpe", str(merges)]
    convert.main([str(home / "model.pt"), str(tmp_path / "run"), *options])
    shutil.rmtree(tmp_path / "elsewhere")
    check(seqjax.load(tmp_path / "run", quiet=True), home, gpt2())
    with pytest.raises(ConfigError, match="--gpt2-vocab-bpe is for reading a .pt"):
        convert.main([str(tmp_path / "run"), str(tmp_path / "again.pt"), "--gpt2-vocab-bpe", "x"])
