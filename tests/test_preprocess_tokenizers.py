"""`preprocess --tokenizer KIND:PATH`: pieces of given files, and that they travel."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from tiny_run import raw_config, resolve

import seqjax
from seqjax import preprocess
from seqjax.data import folder, tokenizers
from seqjax.data.indexed import IndexedDataset
from seqjax.data.tokenizers import fit
from seqjax.data.vocabulary import Vocabulary
from seqjax.tasks.language_modeling import LanguageModelingTask
from seqjax.tasks.translation import TranslationTask
from seqjax.training import train_loop

GOLDENS = pathlib.Path(__file__).resolve().parent / "goldens"
FILES = GOLDENS / "tokenizers"
MERGES, PIECES = FILES / "vocab_merges", FILES / "xlmr_spm" / "sentencepiece.bpe.model"
HUGGING_FACE = json.loads((FILES / "huggingface.json").read_text(encoding="utf-8"))
LINES = json.loads((FILES / "texts.json").read_text(encoding="utf-8"))["lines"]
SENTENCES = [line.replace("\u2028", " ") for line in LINES if line.strip()][:40]


@pytest.fixture
def text(tmp_path) -> pathlib.Path:
    """Forty lines of many kinds, as `t.aa` and `t.bb`."""
    for lang, lines in (("aa", SENTENCES), ("bb", SENTENCES[::-1])):
        (tmp_path / f"t.{lang}").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return tmp_path


def run(text: pathlib.Path, dest: pathlib.Path, *options: object, langs: str = "aa bb") -> int:
    pair = ["-s", "aa", "-t", "bb", "--trainpref", text / "t"]
    if langs == "aa":
        pair = ["--only-source", "--trainpref", text / "t.aa"]
    arguments = (*pair, "--destdir", dest, *options)
    return preprocess.main([str(argument) for argument in arguments])


def stored(dest: pathlib.Path, lang: str) -> list[np.ndarray]:
    data = IndexedDataset(dest / f"train.aa-bb.{lang}")
    return [data[i] for i in range(len(data))]


def given(kind: str, text: pathlib.Path) -> list[object]:
    """The options that name the files, one way or the other."""
    for name, target in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        shutil.copy(MERGES / name, text / target)
    return {
        "gpt2": ["--tokenizer", f"gpt2:{text}"],
        "gpt2 by flags": ["--tokenizer", "gpt2", "--gpt2-encoder-json", text / "encoder.json",
                          "--gpt2-vocab-bpe", text / "vocab.bpe"],
        "hf_byte_bpe": ["--tokenizer", f"hf_byte_bpe:{MERGES}", "--bpe-add-prefix-space"],
        "bert": ["--tokenizer", f"bert:{FILES / 'vocab_txt' / 'vocab.txt'}", "--bpe-cased"],
        "sentencepiece": ["--tokenizer", f"sentencepiece:{PIECES}"],
        "byte_bpe": ["--tokenizer", "byte_bpe", "--sentencepiece-model-path", PIECES],
        "a model a language": ["--tokenizer", f"sentencepiece:{PIECES},"
                               f"{FILES / 'marian' / 'target.spm'}"],
        "moses before": ["--moses", "--tokenizer", f"gpt2:{text}"],
    }[kind]


@pytest.mark.parametrize("kind", [
    "gpt2", "gpt2 by flags", "hf_byte_bpe", "bert", "sentencepiece", "byte_bpe",
    "a model a language", "moses before"])
def test_pieces_are_the_tokenizers_and_travel(kind: str, text) -> None:
    dest = text / "bin"
    assert run(text, dest, *given(kind, text)) == 0
    task = TranslationTask.setup(resolve(raw_config(dest)))
    again = TranslationTask.from_assets(resolve(raw_config(dest, task={
        "source_lang": "aa", "target_lang": "bb"})), task.assets())
    assert again.source_tokenizer == task.source_tokenizer
    assert again.target_tokenizer == task.target_tokenizer
    for lines, ids, encode in ((SENTENCES, stored(dest, "aa"), again.encode_source),
                               (SENTENCES[::-1], stored(dest, "bb"), again.encode_target)):
        for line, row in zip(lines, ids, strict=True):
            np.testing.assert_array_equal(encode(line), row)
    line = "two spaces three" if kind == "bert" else SENTENCES[0]
    assert again.decode_source(again.encode_source(line)).replace(" ", "") == line.replace(" ", "")


def test_flags_and_folder_give_the_same(text) -> None:
    for name, kind in (("one", "gpt2"), ("two", "gpt2 by flags")):
        assert run(text, text / name, *given(kind, text)) == 0
    for file in ("train.aa-bb.aa.bin", "dict.aa.txt", "encoder.json", "vocab.bpe"):
        assert (text / "one" / file).read_bytes() == (text / "two" / file).read_bytes()


@pytest.mark.parametrize("name", ["roberta", "bert", "xlmr", "marian", "fsmt", "m2m", "mbart_spm"])
def test_hugging_face_s_ids_are_the_dictionary_s(name: str, text) -> None:
    dest = text / "bin"
    assert run(text, dest, "--tokenizer", f"hf:{FILES / name}") == 0
    said = HUGGING_FACE[name]["ids"]
    vocabulary = folder.load_dictionary(dest, "aa")
    for line, row in zip(SENTENCES, stored(dest, "aa"), strict=True):
        if not any(mark in line for mark in ("  ", "\u00a0", "\u0085", "\u2581", "\t")):
            np.testing.assert_array_equal(row, [*said[LINES.index(line)], vocabulary.eos])
    end = {"bert": "[SEP]"}.get(name, "</s>")
    assert vocabulary[vocabulary.eos] == end
    task = TranslationTask.setup(resolve(raw_config(dest)))
    again = TranslationTask.from_assets(resolve(raw_config(dest, task={
        "source_lang": "aa", "target_lang": "bb"})), task.assets())
    np.testing.assert_array_equal(again.encode_target(SENTENCES[-1]), stored(dest, "bb")[0])
    assert again.source_vocab == vocabulary


def test_one_tokenizer_json_of_one_language(text) -> None:
    file = FILES / "roberta" / "tokenizer.json"
    dest = text / "bin"
    assert run(text, dest, "--tokenizer", f"hf:{file}", langs="aa") == 0
    assert (dest / "tokenizer.json").read_bytes() == file.read_bytes()
    config = resolve({"task": {"name": "language_modeling", "data": str(dest)},
                      "model": {"name": "transformer_lm"}})
    task = LanguageModelingTask.setup(config)
    assert task.source_tokenizer == tokenizers.HuggingFaceTokenizer(
        tokenizer_json=file.read_bytes())
    ids = task.source_tokenizer.encode_ids("Hello world!")  # type: ignore[union-attr]
    np.testing.assert_array_equal(task.encode_source("Hello world!")[:-1], ids)


def test_later_text_has_the_same_dictionary(text, capsys) -> None:
    dest = text / "bin"
    assert run(text, dest, "--tokenizer", f"hf:{FILES / 'bert'}") == 0
    more = ["-s", "aa", "-t", "bb", "--testpref", str(text / "t"), "--destdir", str(dest)]
    assert preprocess.main([*more, "--tokenizer", f"hf:{FILES / 'bert'}"]) == 0
    assert (dest / "test.aa-bb.aa.bin").read_bytes() == (dest / "train.aa-bb.aa.bin").read_bytes()
    assert preprocess.main([*more, "--tokenizer", f"hf:{FILES / 'roberta'}"]) == 2
    assert "holds aa cut by HuggingFaceTokenizer" in capsys.readouterr().err


def test_a_model_of_hugging_face_s_ids_is_trained_and_used(text) -> None:
    """BERT's: pad 0, and eos 3, which is `<unk>` in fairseq's dictionaries."""
    dest, workdir = text / "bin", text / "run"
    assert run(text, dest, "--validpref", text / "t", "--tokenizer", f"hf:{FILES / 'bert'}") == 0
    train_loop.train(resolve(raw_config(
        dest, train={"max_update": 2}, batching={
            "max_tokens": 512, "skip_invalid_size_inputs_valid_test": True})), workdir=str(workdir))
    shutil.rmtree(dest)
    model = seqjax.load(workdir, which="last", quiet=True)
    said = HUGGING_FACE["bert"]["ids"][LINES.index("Hello world!")]
    np.testing.assert_array_equal(model.encode("Hello world!"), [*said, 3])
    assert isinstance(model.translate("Hello world!", beam=2, max_len_b=4), str)


MISTAKES = {
    "unknown": (["--tokenizer", "gpt3"], "--tokenizer gpt3: unknown. Known: bert, byte_bpe"),
    "no files": (["--tokenizer", "gpt2"], "gpt2 needs encoder.json and vocab.bpe: give --tokenizer "
                 "gpt2:FOLDER or --gpt2-encoder-json FILE --gpt2-vocab-bpe FILE"),
    "half": (["--tokenizer", "gpt2", "--gpt2-vocab-bpe", "{d}/vocab.bpe"],
             "gpt2 needs --gpt2-encoder-json too"),
    "file of two": (["--tokenizer", "gpt2:{d}/vocab.bpe"], "name the folder that has encoder.json"),
    "empty folder": (["--tokenizer", "bert:{d}"], "there is no vocab.txt"),
    "nothing there": (["--tokenizer", "hf:{d}/no"], "no: no such file or folder"),
    "no tokenizer there": (["--tokenizer", "hf:{d}/empty"], "there is no tokenizer.json, nor"),
    "missing file": (["--tokenizer", "bert", "--bpe-vocab-file", "{d}/v"], "v: no such file"),
    "of another": (["--tokenizer", "bert:{d}", "--gpt2-vocab-bpe", "x"],
                   "--gpt2-vocab-bpe goes with --tokenizer gpt2"),
    "switch of another": (["--tokenizer", "characters", "--bpe-cased"], "--bpe-cased goes with"),
    "no file at all": (["--tokenizer", "moses:{d}"], "--tokenizer moses is made of no file"),
    "twice": (["--tokenizer", "sentencepiece:{d}", "--sentencepiece-model", "x"], "give one"),
    "no json": (["--tokenizer", "hf:{d}/t.aa"], "t.aa: not a tokenizer.json: no JSON"),
    "other json": (["--tokenizer", "hf:{d}/encoder.json"], 'tokenizer.json: it has no "model"'),
    "own dictionary": (["--tokenizer", "hf:{d}", "--srcdict", "{d}/x"], "ids are the dictionary's"),
    "limited": (["--tokenizer", "hf:{d}", "--nwordssrc", "9"], "its vocabulary is taken as it is"),
    "two vocabularies": (["--tokenizer", f"hf:{FILES / 'fsmt'}", "--joined-dictionary"],
                         "source and target have vocabularies of their own"),
    "merges of another": (["--tokenizer", "gpt2", "--gpt2-encoder-json", "{d}/encoder.json",
                           "--gpt2-vocab-bpe", "{d}/other.bpe"],
                          r"line 2 merges 'q' and 'zz', but 'zz' is not in the vocabulary"),
    "another dictionary": (
        ["--tokenizer", "gpt2:{d}", "--srcdict", "{d}/words.txt", "--tgtdict", "{d}/words.txt"],
        r"words.txt: 2 of its 3 words \(67%\) are no pieces of the gpt2 tokenizer, the first: 'the'"
        ", 'cat': this is not the tokenizer"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_named(case: str, text, capsys) -> None:
    given("gpt2", text)
    (text / "other.bpe").write_text("#version: 0.2\nq zz\n")
    (text / "words.txt").write_text("the 3\ncat 2\n17 1\n")
    (text / "empty").mkdir()
    options, message = MISTAKES[case]
    dest = text / "bin"
    assert run(text, dest, *[o.format(d=text) for o in options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and re.search(message, error), error
    assert not dest.exists()


def test_a_tokenizer_fits_its_own_dictionary() -> None:
    """Though the dictionary has words of characters that the model does not know."""
    spm = tokenizers.SentencePieceTokenizer(model=PIECES.read_bytes())
    lines = [*LINES, *(GOLDENS / "preprocess" / "train.de").read_text(encoding="utf-8").split("\n")]
    own = Vocabulary(dict.fromkeys(p for line in lines for p in spm.encode(line).split()))
    assert len([word for word in own.symbols[4:] if word not in spm.symbols()]) > 20
    assert fit.misfit(spm, own) is None
    whole = tokenizers.vocabulary_of_sentencepiece(spm, layout="mbart", languages=["[en_XX]"])
    assert fit.misfit(spm, whole) is None
    other = tokenizers.SentencePieceTokenizer(
        model=(FILES / "marian" / "target.spm").read_bytes())
    assert "no pieces of the sentencepiece tokenizer" in (fit.misfit(other, whole) or "")
    codes = (GOLDENS / "preprocess" / "bpecodes").read_bytes()
    bpe = tokenizers.SubwordNMTTokenizer(codes=codes)
    assert "no pieces" in (fit.misfit(spm, Vocabulary(
        dict.fromkeys(p for line in lines for p in bpe.encode(line).split()))) or "")
