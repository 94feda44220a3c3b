"""`python -m seqjax.preprocess audio`: manifests, letters and words of a folder."""

from __future__ import annotations

import random

import numpy as np
import pytest
import soundfile
from audio_clips import clip

from seqjax import preprocess
from seqjax.config import ConfigError
from seqjax.data.audio import labels, manifests
from seqjax.data.audio.reading import Reading
from seqjax.data.audio.s2t import SpeechToTextDataset
from seqjax.data.audio.s2t_config import S2TDataConfig
from seqjax.data.audio.s2t_text import TargetText
from seqjax.data.epoch_plan import Shape
from seqjax.data.sources import SourceError

TEXTS = {"a/x-1": "It's  one, two.", "a/x-2": "Two", "b/y-1": "Three FOUR", "b/y-2": "Five"}


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "corpus"
    for i, name in enumerate(TEXTS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / f"{name}.wav", clip(i, 400 + i), 16000)
    (tmp_path / "texts").write_text("".join(f"{n}\t{t}\n" for n, t in TEXTS.items()))
    return tmp_path


def run(corpus, *words):
    return preprocess.main(["audio", str(corpus / "corpus"), "--dest", str(corpus / "out"),
                            "--ext", "wav", *words])


def lines(path):
    return path.read_text().splitlines()


def test_manifests_with_fairseqs_draw(corpus, capsys):
    assert run(corpus, "--valid-percent", "0.5", "--seed", "3") == 0
    rng = random.Random(3)
    expected = {"train": [], "valid": []}
    for i, name in enumerate(TEXTS):
        expected["train" if rng.random() > 0.5 else "valid"].append(f"{name}.wav\t{400 + i}")
    for name, found in expected.items():
        assert lines(corpus / "out" / f"{name}.tsv") == [str(corpus / "corpus"), *found]
    out = capsys.readouterr()
    assert "train.tsv\n" in out.out and "train: " in out.out
    assert "4/4 files in" in out.err  # the bar's last state
    assert len(manifests.AudioManifest.read(corpus / "out" / "train.tsv")) == len(
        expected["train"])


def test_letters_words_and_dictionaries(corpus):
    assert run(corpus, "--valid-percent", "0", "--transcripts", str(corpus / "texts"),
               "--case", "lower", "--no-punctuation") == 0
    out = corpus / "out"
    assert not (out / "valid.tsv").exists() and not (out / "valid.ltr").exists()
    assert lines(out / "train.wrd") == ["it's one two", "two", "three four", "five"]
    assert lines(out / "train.ltr")[:2] == ["i t ' s | o n e | t w o |", "t w o |"]
    manifest = manifests.AudioManifest.read(out / "train.tsv")
    found = labels.load_labels(manifest, "ltr")
    letters = found.vocabulary
    assert letters.symbols[4] == "|" and "'" in letters
    assert not any(word.startswith("madeupword") for word in letters.symbols)
    assert letters.string(found.ids(0), post_process="letter") == "it's one two"


def test_splits_that_a_corpus_says(corpus, capsys):
    """One after the other, with the dictionary of the first."""
    words = ["--transcripts", str(corpus / "texts"), "--case", "lower", "--no-punctuation"]
    assert run(corpus, *words, "--path-must-contain", "/b/", "--split", "train") == 0
    assert "note:" not in capsys.readouterr().err
    before = (corpus / "out" / "dict.ltr.txt").read_text()
    assert run(corpus, *words, "--path-must-contain", "/a/", "--split", "dev_other") == 0
    out = corpus / "out"
    assert (out / "dict.ltr.txt").read_text() == before
    assert sorted(p.name for p in out.iterdir()) == [
        "dev_other.ltr", "dev_other.tsv", "dev_other.wrd", "dict.ltr.txt", "dict.wrd.txt",
        "train.ltr", "train.tsv", "train.wrd"]
    assert lines(out / "dev_other.wrd") == ["it's one two", "two"]
    assert "dict.ltr.txt has no ' n s w, which are unknown" in capsys.readouterr().err
    for more in (["--valid-percent", "0"], ["--s2t"]):
        with pytest.raises(ConfigError, match="--split x: goes with neither"):
            run(corpus, *words, "--split", "x", *more)


def test_transcripts_as_librispeech_and_asterisk_have_them(corpus):
    (corpus / "corpus" / "a" / "a.trans.txt").write_text("x-1 ONE TWO\nx-2 TWO\n")
    (corpus / "corpus" / "b" / "b.trans.txt").write_text("b/y-1: THREE\ny-2.wav: FOUR\n")
    with pytest.raises(SourceError, match=r"b/y-2.wav: has no text in .*--on-bad skip"):
        run(corpus, "--transcripts", str(corpus / "corpus"))
    assert run(corpus, "--transcripts", str(corpus / "corpus"), "--on-bad", "skip",
               "--valid-percent", "0") == 0
    assert lines(corpus / "out" / "train.wrd") == ["ONE TWO", "TWO", "THREE"]


def test_bad_files(corpus, capsys):
    soundfile.write(corpus / "corpus" / "empty.wav", np.zeros(0, np.float32), 16000)
    soundfile.write(corpus / "corpus" / "slow.wav", clip(1, 400), 8000)
    (corpus / "corpus" / "text.wav").write_text("no sound")
    with pytest.raises(SourceError, match=r"empty.wav: has no samples \(and 1 more\)"):
        run(corpus)
    assert not (corpus / "out").exists()
    capsys.readouterr()
    assert run(corpus, "--on-bad", "skip", "--valid-percent", "0") == 0
    err = capsys.readouterr().err
    assert "skipped 2 files" in err and "4 of 16000 Hz, 1 of 8000 Hz" in err
    assert run(corpus, "--on-bad", "skip", "--valid-percent", "0", "--sample-rate", "16000") == 0
    assert len(lines(corpus / "out" / "train.tsv")) == 5
    assert "skipped 3 files" in capsys.readouterr().err


def test_wrong_options(corpus):
    with pytest.raises(SourceError, match=r"has no .flac file \(there are: 4 .wav\); give --ext"):
        preprocess.main(["audio", str(corpus / "corpus")])
    with pytest.raises(SourceError, match="no such folder"):
        preprocess.main(["audio", str(corpus / "none")])
    for words, message in ((["--valid-percent", "2"], "--valid-percent 2.0"),
                           (["--valid-percent", "1"], "leaves none of 4 recordings"),
                           (["--case", "lower"], "go with --transcripts"),
                           (["--s2t"], "go with --transcripts"),
                           (["--vocab-size", "5"], "--vocab-size goes with --s2t")):
        with pytest.raises(ConfigError, match=message):
            run(corpus, *words)
    for text, message in (("x-1\n", "line 1 is 'x-1'; expected"),
                          ("x-1 a\nx-1 b\n", "line 2: x-1 has another text already")):
        (corpus / "texts").write_text(text)
        with pytest.raises(SourceError, match=message):
            run(corpus, "--transcripts", str(corpus / "texts"))
    (corpus / "texts").write_text("x-1 a|b\nx-2 a\ny-1 a\ny-2 a\n")
    with pytest.raises(SourceError, match=r"contains '\|'"):
        run(corpus, "--transcripts", str(corpus / "texts"))


@pytest.mark.parametrize("kind", ["char", "unigram"])
def test_tables_of_speech_to_text(corpus, kind):
    """They are read again, features and all."""
    words = ["--transcripts", str(corpus / "texts"), "--s2t", "--valid-percent", "0"]
    size = [] if kind == "char" else ["--vocab-size", "22"]
    assert run(corpus, *words, "--vocab-type", kind, *size, "--case", "lower") == 0
    out = str(corpus / "out")
    config = S2TDataConfig.read(corpus / "out" / "config.yaml")
    assert config.transforms("feature", "train", train=True) == (
        "utterance_cmvn", "specaugment")
    dataset = SpeechToTextDataset.load(out, "train", config, texts=TargetText.load(out, config),
                                       train=False, reading=Reading())
    assert np.asarray(dataset.lengths.source).tolist() == [1, 1, 1, 1]
    batch = dataset.materialise(np.arange(4), np.arange(4), Shape(4, 8, 24))
    assert batch["source_lengths"].tolist() == [1, 1, 1, 1]
    texts = dataset.texts
    assert texts is not None and texts.tokenizer is not None
    found = [texts.tokenizer.decode(texts.vocabulary.string(row[row != 1]))
             for row in batch["target"]]
    assert found == ["it's one, two.", "two", "three four", "five"]
    soundfile.write(corpus / "corpus" / "a" / "x-1.wav", clip(1, 400), 8000)
    with pytest.raises(SourceError, match="8000, 16000 samples a second; features need one"):
        run(corpus, *words, "--vocab-type", "char")


def test_only_some_paths(corpus):
    assert run(corpus, "--path-must-contain", "/b/", "--valid-percent", "0") == 0
    assert [line.split("\t")[0] for line in lines(corpus / "out" / "train.tsv")[1:]] == [
        "b/y-1.wav", "b/y-2.wav"]
