"""`python -m seqjax.preprocess s2t`: tables of LibriSpeech, of MuST-C and of manifests."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import soundfile
import yaml
from audio_clips import clip

from seqjax import preprocess
from seqjax.config import ConfigError
from seqjax.data.audio.reading import AudioError, Reading, read_features, read_samples
from seqjax.data.audio.s2t import SpeechToTextDataset
from seqjax.data.audio.s2t_config import S2TDataConfig
from seqjax.data.audio.s2t_table import SpeechTable
from seqjax.data.audio.s2t_text import TargetText
from seqjax.data.epoch_plan import Shape
from seqjax.data.sources import SourceError
from seqjax.data.tokenizers import TokenizerError

BOOKS = {"train-clean-100": {"19-198-0000": "ONE TWO", "19-198-0001": "TWO THREE FOUR",
                             "26-495-0000": "FIVE IT'S"},
         "dev-other": {"84-121-0000": "FOUR"}}
TALKS = {"train": [("ted_1", 0.5, 0.2, "One, two.", "Eins, zwei."),
                   ("ted_1", 0.1, 0.3, "Three", "Drei"), ("ted_2", 0.0, 0.25, "Four", "Vier")],
         "dev": [("ted_3", 0.02, 0.4, "Five", "Vier")]}


@pytest.fixture
def books(tmp_path):
    root = tmp_path / "LibriSpeech"
    for split, texts in BOOKS.items():
        for number, (name, text) in enumerate(texts.items()):
            speaker, chapter, _ = name.split("-")
            folder = root / split / speaker / chapter
            folder.mkdir(parents=True, exist_ok=True)
            sound = clip(number, 2000 + 500 * (number if split.startswith("train") else 1))
            soundfile.write(folder / f"{name}.flac", sound, 16000)
            with open(folder / f"{speaker}-{chapter}.trans.txt", "a") as file:
                file.write(f"{name} {text}\n")
    return root


@pytest.fixture
def talks(tmp_path):
    root = tmp_path / "en-de"
    for number, (split, segments) in enumerate(TALKS.items()):
        wav, txt = root / "data" / split / "wav", root / "data" / split / "txt"
        wav.mkdir(parents=True)
        txt.mkdir()
        for talk in {s[0] for s in segments}:
            soundfile.write(wav / f"{talk}.wav", clip(number, 16000), 16000)
        (txt / f"{split}.yaml").write_text("".join(
            f"- {{duration: {d}, offset: {o}, rW: 2, speaker_id: spk.{w[4:]}, wav: {w}.wav}}\n"
            for w, o, d, _, _ in segments))
        for place, lang in ((3, "en"), (4, "de")):
            (txt / f"{split}.{lang}").write_text("".join(f"{s[place]}\n" for s in segments))
    return root


def run(root, out, layout, *words):
    return preprocess.main(["s2t", str(root), "--layout", layout, "--dest", str(out), *words])


def load(folder, split, config_name="config.yaml", train=False):
    config = S2TDataConfig.read(folder / config_name)
    return SpeechToTextDataset.load(
        str(folder), split, config, texts=TargetText.load(str(folder), config), train=train,
        reading=Reading())


def batch_of(dataset):
    count = len(dataset)
    return dataset.materialise(np.arange(count), np.arange(count), Shape(4, 40, 32))


def targets(dataset):
    texts = dataset.texts
    return [texts.tokenizer.decode(texts.vocabulary.string(row[row != 1]))
            for row in batch_of(dataset)["target"] if (row != 1).any()]


def test_librispeech(books, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--vocab-size", "20", "--specaugment", "ld"]
    assert run(books, out, "librispeech", *words) == 0
    said = capsys.readouterr()
    assert "4/4 utterances in" in said.err and "train-clean-100: 3 utterances" in said.out
    table = SpeechTable.read(out / "train-clean-100.tsv", audio_root="")
    assert table.columns["id"] == tuple(BOOKS["train-clean-100"])
    assert table.columns["speaker"] == ("19", "19", "26")
    assert table.columns["tgt_text"] == ("one two", "two three four", "five it's")
    assert table.manifest.frames.tolist() == [11, 14, 17]
    config = S2TDataConfig.read(out / "config.yaml")
    assert config.transforms("feature", "x", train=True) == ("utterance_cmvn", "specaugment")
    assert config.transforms("feature", "x", train=False) == ("utterance_cmvn",)
    assert config.options["specaugment"]["time_mask_N"] == 2
    assert config.vocab_filename == "spm_unigram20.txt"
    assert len(TargetText.load(str(out), config).vocabulary) == 20
    # What is stored is what is made of the files when batches are.
    assert run(books, tmp_path / "plain", "librispeech", *words, "--store", "files") == 0
    stored, plain = (load(f, "train-clean-100") for f in (out, tmp_path / "plain"))
    assert targets(stored) == targets(plain) == ["one two", "two three four", "five it's"]
    a, b = batch_of(stored), batch_of(plain)
    np.testing.assert_allclose(a["source"], b["source"], atol=1e-4)
    assert a["source_lengths"].tolist() == [11, 14, 17, 0]
    # An archive that is there is kept; a folder that has been moved is found.
    archive = out / "fbank80-train-clean-100.zip"
    before = archive.stat().st_mtime_ns
    assert run(books, out, "librispeech", "--vocab-type", "char", "--max-frames", "15",
               "--min-frames", "12") == 0
    assert archive.stat().st_mtime_ns == before
    said = capsys.readouterr().err
    assert "train-clean-100: left out: 1 below 12 frames, 1 above 15, 0 without text" in said
    shutil.move(out, tmp_path / "elsewhere")
    assert targets(load(tmp_path / "elsewhere", "train-clean-100")) == ["two three four"]


def test_mustc_transcripts_and_translations(talks, tmp_path):
    out = tmp_path / "out"
    assert run(talks, out, "mustc", "--vocab-size", "18", "--cmvn", "global") == 0
    assert run(talks, out, "mustc", "--vocab-size", "18", "--task", "st") == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "config_asr.yaml", "config_st.yaml", "dev_asr.tsv", "dev_st.tsv", "fbank80-dev.zip",
        "fbank80-train.zip", "gcmvn.npz", "spm_unigram18_asr.model", "spm_unigram18_asr.txt",
        "spm_unigram18_st.model", "spm_unigram18_st.txt", "train_asr.tsv", "train_st.tsv"]
    assert targets(load(out, "train_asr", "config_asr.yaml")) == ["One, two.", "Three", "Four"]
    assert targets(load(out, "dev_st", "config_st.yaml")) == ["Vier"]
    table = SpeechTable.read(out / "train_st.tsv")
    assert table.columns["id"] == ("ted_1_0", "ted_1_1", "ted_2_0")
    assert table.columns["speaker"] == ("spk.1", "spk.1", "spk.2")
    assert table.manifest.frames.tolist() == [18, 28, 23]
    config = yaml.safe_load((out / "config_asr.yaml").read_text())
    assert config["transforms"] == {"*": ["global_cmvn"], "_train": ["global_cmvn", "specaugment"]}
    rows = np.concatenate([read_features(table.manifest.file(i)) for i in range(3)])
    found = np.load(out / "gcmvn.npz")
    np.testing.assert_allclose(found["mean"], rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["std"], rows.std(0), rtol=1e-4)


def test_parts_of_talks_as_sound(talks, tmp_path):
    assert run(talks, tmp_path / "out", "mustc", "--vocab-type", "char", "--store", "flac") == 0
    table = SpeechTable.read(tmp_path / "out" / "train_asr.tsv")
    whole = read_samples(str(talks / "data/train/wav/ted_1.wav"), Reading())
    part = read_samples(table.manifest.file(1), Reading())
    np.testing.assert_allclose(part, whole[1600:6400], atol=1e-4)
    lengths = batch_of(load(tmp_path / "out", "train_asr", "config_asr.yaml"))["source_lengths"]
    assert lengths.tolist() == [18, 28, 23, 0]


def test_manifests_with_lines(books, tmp_path):
    assert preprocess.main(["audio", str(books), "--dest", str(tmp_path / "lists"), "--ext", "flac",
                            "--valid-percent", "0", "--transcripts", str(books)]) == 0
    assert run(tmp_path / "lists", tmp_path / "out", "manifest", "--vocab-type", "char",
               "--case", "lower") == 0
    assert targets(load(tmp_path / "out", "train"))[:2] == ["four", "one two"]
    with open(tmp_path / "lists" / "train.wrd", "a") as file:
        file.write("MORE\n")
    with pytest.raises(SourceError, match=r"has 4 recordings, .*train.wrd 5 lines"):
        run(tmp_path / "lists", tmp_path / "out", "manifest")
    with pytest.raises(FileNotFoundError, match=r"train.de: no such file"):
        run(tmp_path / "lists", tmp_path / "out", "manifest", "--text", "de")


def test_wrong_options(books, talks, tmp_path):
    out = tmp_path / "out"
    for root, layout, words, message in (
            (books, "librispeech", ["--task", "st"], "--task st goes with --layout mustc"),
            (books, "librispeech", ["--text", "wrd"], "--text goes with --layout manifest"),
            (books, "librispeech", ["--splits", "dev-other"], "none begins with train"),
            (books, "librispeech", ["--cmvn", "global", "--store", "flac"], "--store features"),
            (talks, "mustc", ["--store", "files"], "whole talks"),
            (talks, "mustc", ["--min-frames", "0"], "--min-frames is 1 or more")):
        with pytest.raises(ConfigError, match=message):
            run(root, out, layout, *words)
    for root, layout, message in (
            (talks, "librispeech", "has no folder of train-clean-100"),
            (books, "mustc", "has no data/SPLIT, of train"),
            (books, "manifest", "has no SPLIT.tsv"), (tmp_path / "no", "mustc", "no such folder")):
        with pytest.raises(SourceError, match=message):
            run(root, out, layout)
    assert not out.exists()


def test_wrong_corpora(books, talks, tmp_path, capsys):
    """Errors name the file and the line."""
    out, char = tmp_path / "out", ["--vocab-type", "char"]
    with pytest.raises(TokenizerError, match="--vocab-size 8000 is too large"):
        run(books, out, "librispeech")
    assert not out.exists()  # before any sound was read
    text = books / "train-clean-100" / "19" / "198" / "19-198.trans.txt"
    sound = text.with_name("19-198-0001.flac")
    content = sound.read_bytes()
    sound.write_bytes(content[:len(content) // 2])
    with pytest.raises(AudioError, match=r"trans.txt: line 2: .*0001.flac: .*cut off"):
        run(books, out, "librispeech", *char)
    sound.unlink()
    for store in ("features", "files"):
        with pytest.raises(AudioError, match=r"trans.txt: line 2: .*0001.flac: no such file"):
            run(books, out, "librispeech", *char, "--store", store)
    assert os.listdir(out) == []
    assert run(books, out, "librispeech", *char, "--on-bad", "skip") == 0
    assert "skipped 1 utterances" in capsys.readouterr().err
    text.write_text(text.read_text() + "19-198-0002\n")
    with pytest.raises(SourceError, match=r"trans.txt: line 3 is '19-198-0002'; expected"):
        run(books, out, "librispeech", *char)
    text.write_text("19-198-0000 A\n19-198-0000 B\n")
    with pytest.raises(SourceError, match=r"line 2: 19-198-0000 is in .*line 1 already"):
        run(books, out, "librispeech", *char)
    segments = talks / "data" / "train" / "txt" / "train.yaml"
    lines = segments.read_text()
    for wrong, message in (
            (lines.replace("offset: 0.1", "offset: 0.9"), r"segment 2: .*ends at 1.20"),
            (lines.replace("offset: 0.1", "offset: x"), r"segment 2: offset is 'x'"),
            (lines.replace("offset: 0.1, ", ""), r"segment 2 has no offset"),
            (lines.partition("\n")[2], r"has 2 segments, .*train.en 3 lines")):
        segments.write_text(wrong)
        with pytest.raises((SourceError, AudioError), match=message):
            run(talks, tmp_path / "talks", "mustc", *char)
