"""`seqjax.preprocess`: fairseq's bytes, raw text, sources, and the errors of wrong input."""

from __future__ import annotations

import gzip
import hashlib
import json
import pathlib
import re
import resource

import numpy as np
import pytest

from seqjax import preprocess
from seqjax.data import binarize, folder
from seqjax.data.indexed import IndexedDataset
from seqjax.data.tokenizers import SubwordNMTTokenizer
from seqjax.data.vocabulary import Vocabulary

LANGS = ("de", "en")


@pytest.fixture(scope="module")
def raw(goldens) -> pathlib.Path:
    return goldens / "preprocess"


@pytest.fixture(scope="module")
def corpus(raw, tmp_path_factory) -> pathlib.Path:
    """The text after BPE, which fairseq-preprocess was run on."""
    where = tmp_path_factory.mktemp("corpus")
    bpe = SubwordNMTTokenizer(codes=(raw / "bpecodes").read_bytes())
    for path in [raw / f"{split}.{lang}" for split in ("train", "valid", "test") for lang in LANGS]:
        lines = path.read_text(encoding="utf-8").split("\n")
        (where / path.name).write_text("\n".join(map(bpe.encode, lines)), encoding="utf-8")
    return where


@pytest.fixture
def small(tmp_path) -> pathlib.Path:
    """Three sentence pairs, as `t.de` and `t.en`."""
    write(tmp_path / "t.de", "das Haus\ndas alte Haus\nja\n")
    write(tmp_path / "t.en", "the house\nthe old house\nyes\n")
    return tmp_path


def write(path: pathlib.Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")


def run(*args: object) -> int:
    return preprocess.main([str(arg) for arg in args])


def pair(where: pathlib.Path, dest: pathlib.Path, *args: object) -> int:
    return run("-s", "de", "-t", "en", "--trainpref", where / "t", "--destdir", dest, *args)


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows(prefix: pathlib.Path) -> list[list[int]]:
    data = IndexedDataset(prefix)
    return [data[i].tolist() for i in range(len(data))]


def texts(dest: pathlib.Path, store: str, lang: str) -> list[str]:
    """A store as raw text again."""
    vocabulary = Vocabulary.load(folder.dict_path(dest, lang))
    tokenizer = folder.load_tokenizers(dest)[lang]
    return [tokenizer.decode(vocabulary.string(row)) for row in rows(dest / store)]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("case", ["separate", "joined", "only_source"])
def test_bytes_are_fairseqs(case: str, workers: int, raw, corpus, tmp_path) -> None:
    end = ".en" if case == "only_source" else ""
    inputs = [a for s in ("train", "valid", "test") for a in (f"--{s}pref", corpus / f"{s}{end}")]
    options = {
        "separate": ["-s", "de", "-t", "en"],
        "joined": ["-s", "de", "-t", "en", "--joined-dictionary"],
        "only_source": ["--only-source"],
    }[case]
    assert run(*options, *inputs, "--destdir", tmp_path / "bin", "--workers", workers) == 0
    expected = json.loads((raw / "expected.json").read_text())[case]
    found = {p.name: sha256(p) for p in (tmp_path / "bin").iterdir()}
    assert found.keys() == {*expected, "preprocess.json", "preprocess.log"}
    assert {name: found[name] for name in expected} == expected


def test_spans_do_not_change_the_result(corpus, tmp_path) -> None:
    """Many small spans, in this process: counts, ids and tokenized text."""
    path = str(corpus / "train.de")
    results = []
    for size in (1 << 30, 3000):
        where = tmp_path / str(size)
        where.mkdir()
        with binarize.Workers(1, span_bytes=size) as workers:
            vocabulary = binarize.build_vocabulary([path], threshold=4, workers=workers)
            summary = binarize.binarize_text(path, str(where / "x"), vocabulary, workers=workers)
        assert summary.unknown > 0
        assert sorted(p.name for p in where.iterdir()) == ["x.bin", "x.idx"]
        results.append((vocabulary.to_bytes(), summary,
                        (where / "x.bin").read_bytes(), (where / "x.idx").read_bytes()))
    assert results[0] == results[1]


def test_unicode_lines_and_spaces(tmp_path) -> None:
    """What ends a line and what separates words: text mode and `\\s`, as in fairseq."""
    text = "a\u2028b\rc\u00a0d\u3000a\r\n\x1fa\x85b\n\n\ufeffa a"
    write(tmp_path / "x", text)
    assert run("--only-source", "--trainpref", tmp_path / "x", "--destdir", tmp_path / "bin") == 0
    vocabulary = Vocabulary.load(tmp_path / "bin" / "dict.txt")
    assert vocabulary.to_text().startswith("a 4\nb 2\nc 1\nd 1\n\ufeffa 1\nmadeupword0000 0\n")
    got = [vocabulary.string(row) for row in rows(tmp_path / "bin" / "train")]
    assert got == ["a b", "c d a", "a b", "", "\ufeffa a"]


def test_limits_and_given_dictionaries(small) -> None:
    options = ["--nwordssrc", 6, "--thresholdtgt", 2, "--padding-factor", 1]
    assert pair(small, small / "a", *options) == 0
    assert (small / "a/dict.de.txt").read_text() == "Haus 2\ndas 2\n"
    assert (small / "a/dict.en.txt").read_text() == "house 2\nthe 2\n"
    assert rows(small / "a/train.de-en.de") == [[5, 4, 2], [5, 3, 4, 2], [3, 2]]
    manifest = folder.load_manifest(small / "a")
    assert manifest is not None
    assert manifest.splits["train"]["de"] == {
        "file": "train.de-en.de", "sentences": 3, "tokens": 9, "unknown": 2
    }
    assert "22.2% replaced (by <unk>)" in (small / "a/preprocess.log").read_text()
    # More of the same folder, later, with its dictionaries.
    dicts = ["--srcdict", small / "a/dict.de.txt", "--tgtdict", small / "a/dict.en.txt"]
    options = ["-s", "de", "-t", "en", "--destdir", small / "a", *dicts]
    assert run(*options, "--testpref", f"{small / 't'},{small / 't'}") == 0
    for split in ("train", "test", "test1"):
        assert rows(small / f"a/{split}.de-en.de") == [[5, 4, 2], [5, 3, 4, 2], [3, 2]]
    manifest = folder.load_manifest(small / "a")
    assert manifest is not None and sorted(manifest.splits) == ["test", "test1", "train"]


def test_joined_with_a_given_dictionary(small) -> None:
    write(small / "d", "house 3\nHaus 2\n")
    assert pair(small, small / "a", "--joined-dictionary", "--srcdict", small / "d") == 0
    assert (small / "a/dict.de.txt").read_text() == (small / "a/dict.en.txt").read_text()
    assert rows(small / "a/train.de-en.en")[0] == [3, 4, 2]


def test_dict_only(small) -> None:
    assert pair(small, small / "a", "--dict-only") == 0
    assert sorted(p.name for p in (small / "a").iterdir()) == [
        "dict.de.txt", "dict.en.txt", "preprocess.json", "preprocess.log"
    ]


def test_only_source_with_a_language(small) -> None:
    options = ["--only-source", "-s", "de", "--trainpref", small / "t"]
    assert run(*options, "--destdir", small / "a") == 0
    assert (small / "a/dict.de.txt").exists()
    assert len(IndexedDataset(small / "a/train.de-None.de")) == 3
    assert folder.mono_prefixes(small / "a", "train", lang="de") == [
        str(small / "a/train.de-None.de")
    ]


def test_alignments(small) -> None:
    write(small / "t.align", "0-0 1-1\n0-0 1-1 2-2\n\n")
    options = ["--align-suffix", "align", "--alignfile", small / "t.align"]
    assert pair(small, small / "a", *options) == 0
    store = IndexedDataset(small / "a/train.align.de-en")
    assert store.dtype == np.uint32
    assert rows(small / "a/train.align.de-en") == [[0, 0, 1, 1], [0, 0, 1, 1, 2, 2], []]
    assert (small / "a/alignment.de-en.txt").read_text() == "das the\nHaus house\nalte old\n"


@pytest.mark.parametrize("joined", [True, False])
def test_raw_text_with_sentencepiece(raw, tmp_path, joined: bool) -> None:
    options = ["--joined-dictionary"] if joined else []
    dest = tmp_path / "a"
    assert run(
        "-s", "de", "-t", "en", "--trainpref", raw / "train", "--validpref", raw / "valid",
        "--destdir", dest, "--tokenizer", "sentencepiece", "--vocab-size", 300, *options,
    ) == 0
    models = sorted(p.name for p in dest.glob("sentencepiece*"))
    assert models == (
        ["sentencepiece.model"] if joined else ["sentencepiece.de.model", "sentencepiece.en.model"]
    )
    for lang in LANGS:
        assert len(Vocabulary.load(dest / f"dict.{lang}.txt")) <= 304
        lines = (raw / f"train.{lang}").read_text(encoding="utf-8").splitlines()
        assert texts(dest, f"train.de-en.{lang}", lang) == lines
    log = (dest / "preprocess.log").read_text()
    assert "[de] train: 1200 sents" in log and "training sentencepiece: 300 pieces" in log
    # The model that was trained does the same again for new text.
    again = tmp_path / "b"
    given = ",".join(str(dest / name) for name in models)
    assert run(
        "-s", "de", "-t", "en", "--testpref", raw / "valid", "--destdir", again,
        "--tokenizer", "sentencepiece", "--sentencepiece-model", given,
        "--srcdict", dest / "dict.de.txt", *options,
        *([] if joined else ["--tgtdict", dest / "dict.en.txt"]),
    ) == 0
    for lang in LANGS:
        assert rows(again / f"test.de-en.{lang}") == rows(dest / f"valid.de-en.{lang}")


def test_raw_text_with_given_codes_equals_text_after_bpe(raw, tmp_path) -> None:
    assert run(
        "-s", "de", "-t", "en", "--trainpref", raw / "train", "--validpref", raw / "valid",
        "--testpref", raw / "test", "--destdir", tmp_path / "a", "--workers", 2,
        "--tokenizer", "subword_nmt", "--bpe-codes", raw / "bpecodes",
    ) == 0
    expected = json.loads((raw / "expected.json").read_text())["separate"]
    for name, digest in expected.items():
        assert sha256(tmp_path / "a" / name) == digest
    assert (tmp_path / "a/bpecodes").read_bytes() == (raw / "bpecodes").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--tokenizer", "characters"],
        ["--tokenizer", "bytes"],
        ["--tokenizer", "whitespace"],
        ["--tokenizer", "moses"],
        ["--tokenizer", "subword_nmt", "--vocab-size", "30"],
        ["--tokenizer", "subword_nmt", "--vocab-size", "40", "--joined-dictionary", "--moses"],
        ["--tokenizer", "characters", "--moses"],
    ],
    ids=lambda options: "-".join(o.lstrip("-") for o in options),
)
def test_every_tokenizer_comes_back_to_text(tmp_path, options: list[str]) -> None:
    write(tmp_path / "t.de", "das Haus, das Haus\ndas das das\nHaus das Haus\n")
    write(tmp_path / "t.en", "the house, the house\nthe the the\nhouse the house\n")
    assert pair(tmp_path, tmp_path / "a", *options) == 0
    for lang in LANGS:
        lines = (tmp_path / f"t.{lang}").read_text().splitlines()
        assert texts(tmp_path / "a", f"train.de-en.{lang}", lang) == lines
    assert not [p for p in (tmp_path / "a").iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(("limit", "merges"), [(12, {"a b</w>", "x y</w>"}), (4, {"a b</w>"})])
def test_tokenizer_is_trained_on_a_share_of_the_lines(small, limit: int, merges: set[str]) -> None:
    write(small / "t.de", "ab ab\nxy xy\nz\n" * 4)
    assert run(
        "--only-source", "-s", "de", "--trainpref", small / "t", "--destdir", small / "a",
        "--tokenizer", "subword_nmt", "--vocab-size", 20, "--tokenizer-sentences", limit,
    ) == 0
    assert f", {limit} sentences" in (small / "a/preprocess.log").read_text()
    assert set((small / "a/bpecodes.de").read_text().splitlines()[1:]) == merges


def test_tsv(small) -> None:
    write(small / "x.tsv", "1\tthe house\tdas Haus\n2\tyes\tja\n")
    common = ["-s", "de", "-t", "en", "--source", "tsv", "--trainpref", small / "x.tsv"]
    assert run(*common, "--tsv-columns", "2,1", "--destdir", small / "a") == 0
    vocabulary = Vocabulary.load(small / "a/dict.de.txt")
    assert [vocabulary.string(r) for r in rows(small / "a/train.de-en.de")] == ["das Haus", "ja"]
    assert run(*common, "--tsv-columns", "2", "--destdir", small / "b") == 2
    assert not (small / "b").exists()


WRONG = {
    "missing file": (["--trainpref", "{d}/u"], r"u\.de: no such file"),
    "empty file": (["--trainpref", "{d}/empty"], r"empty\.de: empty file \(0 lines\)"),
    "line counts": (
        ["--trainpref", "{d}/odd"], r"odd\.de has 3 lines, but .*odd\.en has 2",
    ),
    "not UTF-8": (["--validpref", "{d}/latin"], r"latin\.en: line 2 is not UTF-8"),
    "missing validation": (["--validpref", "{d}/t,{d}/v"], r"v\.de: no such file"),
    "existing dictionary": (
        ["--destdir", "{d}/full"], r"full/dict\.de\.txt exists already.*--srcdict .*dict\.de\.txt",
    ),
    "bad dictionary": (["--srcdict", "{d}/t.de"], r"t\.de:1: expected 'word count'"),
    "missing dictionary": (["--srcdict", "{d}/none.txt"], r"none\.txt: no such file"),
    "destination is a file": (["--destdir", "{d}/t.de"], r"t\.de: (File exists|Not a directory)"),
    "vocabulary too large": (
        ["--tokenizer", "sentencepiece", "--vocab-size", "9000"],
        r"9000 is too large for this text.*Use --vocab-size \d+ or less",
    ),
    "size without training": (["--vocab-size", "9"], "--vocab-size is for a tokenizer"),
    "codes without BPE": (["--bpe-codes", "{d}/c"], "--bpe-codes goes with"),
    "missing codes": (
        ["--tokenizer", "subword_nmt", "--bpe-codes", "{d}/c"], r"c: no such file",
    ),
    "bad codes": (
        ["--tokenizer", "subword_nmt", "--bpe-codes", "{d}/t.de"], r"t\.de: BPE codes: line 2",
    ),
    "bad model": (
        ["--tokenizer", "sentencepiece", "--sentencepiece-model", "{d}/t.de"],
        r"t\.de: not a SentencePiece model",
    ),
    "dictionary of another model": (
        ["--tokenizer", "sentencepiece", "--srcdict", "{d}/full/dict.de.txt"],
        "list the pieces of another sentencepiece model",
    ),
    "same languages": (["-t", "de"], "both 'de'"),
    "alignment missing": (["--align-suffix", "al"], r"t\.al"),
    "alignment bad": (["--align-suffix", "de"], r"t\.de: line 1: 'das' is no alignment"),
    "alignment beyond the sentence": (
        ["--alignfile", "{d}/beyond"], r"beyond: line 1: 0-7, but the sentences have 2 and 2 words",
    ),
    "source": (["--source", "hdf5"], "expected files, tsv or tfds:NAME"),
    "workers": (["--workers", "0"], "--workers must be 1 or more"),
    "tfds option": (["--tfds-download"], "go with --source tfds"),
    "moses twice": (["--moses", "--tokenizer", "moses"], "are the same"),
    "joined and only source": (["--joined-dictionary", "--only-source"], "do not go together"),
    "both dictionaries joined": (
        ["--joined-dictionary", "--srcdict", "a", "--tgtdict", "b"], "not both",
    ),
    "tokenizer of no model": (["--model-type", "bpe"], "--model-type goes with"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case: str, small, capsys) -> None:
    for name in ("odd", "latin"):
        write(small / f"{name}.de", "a\nb\nc\n")
    write(small / "odd.en", "a\nb\n")
    (small / "latin.en").write_bytes(b"a\nb\xff\nc\n")
    write(small / "empty.de", "")
    write(small / "empty.en", "")
    write(small / "beyond", "0-7\n\n\n")
    (small / "full").mkdir()
    write(small / "full/dict.de.txt", "a 1\n")
    before = {p: p.read_bytes() for p in small.rglob("*") if p.is_file()}
    args, message = WRONG[case]
    status = pair(small, small / "out", *(arg.format(d=small) for arg in args))
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2
    assert error.startswith("error: ")
    assert re.search(message, error), error
    assert {p: p.read_bytes() for p in small.rglob("*") if p.is_file()} == before
    assert not (small / "out").exists()


def test_nothing_to_do(small, capsys) -> None:
    assert run("-s", "de", "-t", "en", "--destdir", small / "a") == 2
    assert "there is nothing to read" in capsys.readouterr().err
    assert run("--trainpref", small / "t", "--destdir", small / "a") == 2
    assert "--source-lang and --target-lang are needed" in capsys.readouterr().err
    assert run("-s", "de", "-t", "en", "--validpref", small / "t", "--destdir", small / "a") == 2
    assert "--trainpref is needed" in capsys.readouterr().err


def test_full_disk(corpus, tmp_path, capsys) -> None:
    """A limit on the size of files stands for the disk; nothing is left behind."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        options = ["--only-source", "--trainpref", corpus / "train.en"]
        status = run(*options, "--destdir", tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert status == 2
    assert "error: " in (error := capsys.readouterr().err) and "a: File too large" in error
    assert not (tmp_path / "a").exists()


def test_the_guide(raw, corpus, repository, tmp_path, monkeypatch) -> None:
    """The commands and the Python of docs/data.md run, in their order."""
    guide = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    commands = re.findall(r"```\npython -m seqjax\.preprocess (.*?)\n```", guide, re.DOTALL)
    assert len(commands) == 6
    (tmp_path / "raw").symlink_to(raw)
    (tmp_path / "bpe").symlink_to(corpus)
    write(tmp_path / "pairs.tsv", "das Haus\tthe house\n")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert run(*command.replace("\\\n", " ").split()) == 0, command
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["text"] == "Und er sprach :"
    assert names["vocabulary"].unk not in names["ids"]
    manifest = folder.load_manifest("data/spm")
    assert manifest is not None and sorted(manifest.splits) == ["test", "train", "valid"]


def test_compressed_text_and_codes_with_hyphens(small) -> None:
    """`t.pt-BR.gz` is found for `t.pt-BR`, and gives what the plain text gives."""
    write(small / "t.pt-BR", (small / "t.de").read_text())
    write(small / "t.zh-CN", (small / "t.en").read_text())
    write(small / "t.align", "0-0\n0-0 1-1\n0-0\n")
    flags = ["-s", "pt-BR", "-t", "zh-CN", "--trainpref", str(small / "t"), "--align-suffix",
             "align", "--destdir"]
    assert run(*flags, str(small / "plain")) == 0
    for name in ("t.pt-BR", "t.zh-CN", "t.align"):
        (small / f"{name}.gz").write_bytes(gzip.compress((small / name).read_bytes()))
        (small / name).unlink()
    assert run(*flags, str(small / "packed")) == 0
    for path in (small / "plain").iterdir():
        if path.suffix in (".bin", ".idx", ".txt"):
            assert (small / "packed" / path.name).read_bytes() == path.read_bytes()
    assert folder.find_pair(small / "packed") == ("pt-BR", "zh-CN")
    assert (small / "packed" / "train.align.pt-BR-zh-CN.bin").exists()


def test_compressed_models_and_dictionaries(small, raw) -> None:
    codes = small / "codes.gz"
    codes.write_bytes(gzip.compress((raw / "bpecodes").read_bytes()))
    words = small / "words.gz"
    words.write_bytes(gzip.compress(b"das 1\nHa@@ 1\n"))
    flags = ["-s", "de", "--only-source", "--trainpref", str(small / "t"), "--srcdict", str(words),
             "--tokenizer", "subword_nmt", "--bpe-codes", str(codes), "--destdir"]
    assert run(*flags, str(small / "out")) == 0
    assert Vocabulary.load(small / "out" / "dict.de.txt").symbols[4:] == ["das", "Ha@@"]


def test_special_symbols_that_are_replaced_stay_readable(small, capsys) -> None:
    write(small / "words", "<pad> 9 #fairseq:overwrite\nthe 3\nhouse 2\n")
    flags = ["--only-source", "-s", "en", "--trainpref", str(small / "t"), "--srcdict",
             str(small / "words"), "--destdir", str(small / "out")]
    assert run(*flags) == 0
    written = Vocabulary.load(small / "out" / "dict.en.txt")
    assert written == Vocabulary.load(small / "words") and written.index("<pad>") == 4


@pytest.mark.parametrize("options, noted", [
    ([], True), (["--tokenizer", "subword_nmt", "--vocab-size", "25", "--moses"], True),
    (["--tokenizer", "characters"], True),
    (["--tokenizer", "characters", "--normalize", "nfc"], False),
    (["--tokenizer", "sentencepiece", "--vocab-size", "15"], False),
])
def test_text_in_another_unicode_form_is_said(tmp_path, capsys, options, noted) -> None:
    """Once for each file whose words depend on it; SentencePiece composes letters itself."""
    write(tmp_path / "t.de", "eine Tür\nja\ndie Tu\u0308r\nTu\u0308ren\n" * 5)
    flags = ["--only-source", "-s", "de", "--trainpref", str(tmp_path / "t")]
    assert run(*flags, *options, "--destdir", str(tmp_path / "out")) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert len(notes) == noted
    if noted:
        assert "t.de: 10 lines are not" in notes[0] and "first is line 3" in notes[0]
        assert "--normalize nfc" in notes[0]
    symbols = Vocabulary.load(tmp_path / "out" / "dict.de.txt").symbols
    assert any("\u0308" in symbol for symbol in symbols) == noted


def test_further_text_is_cut_as_the_text_that_is_there(small, capsys) -> None:
    out = str(small / "out")
    flags = ["--only-source", "-s", "de", "--tokenizer", "characters", "--destdir", out]
    assert run(*flags, "--trainpref", str(small / "t"), "--normalize", "nfc") == 0
    more = ["--testpref", str(small / "t"), "--srcdict", f"{out}/dict.de.txt"]
    assert run(*flags, *more) == 2
    assert "give the options and models of that run" in capsys.readouterr().err
    assert run(*flags, *more, "--normalize", "nfc") == 0


def test_moses_rules_are_of_the_language_not_of_the_region(small) -> None:
    write(small / "t.fr-CA", "L'homme aujourd'hui\n")
    flags = ["--only-source", "-s", "fr-CA", "--trainpref", str(small / "t")]
    assert run(*flags, "--tokenizer", "moses", "--destdir", str(small / "out")) == 0
    assert "L&apos;" in Vocabulary.load(small / "out" / "dict.fr-CA.txt").symbols
