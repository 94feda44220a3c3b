"""`preprocess features | kmeans | labels`: HuBERT's labels from recordings; `preprocess ngram`."""

from __future__ import annotations

import os
import pathlib

import audio_clips
import family_goldens
import numpy as np
import pytest
import soundfile

import seqjax
from seqjax import preprocess
from seqjax.config import ConfigError
from seqjax.data.audio import clustering
from seqjax.data.audio.manifests import AudioManifest
from seqjax.data.audio.shards import Shards, part
from seqjax.generation.ctc.ngram import load_ngram
from seqjax.interop.fairseq.export import save_fairseq

RATE = 8000


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    lines = [str(folder)]
    for i, samples in enumerate((2000, 3500, 2400, 100, 4000)):
        soundfile.write(folder / f"{i}.wav", audio_clips.clip(i, samples, rate=RATE), RATE)
        lines.append(f"{i}.wav\t{samples}")
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")
    return str(folder / "train.tsv")


@pytest.fixture(scope="module")
def mfcc(manifest, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("features") / "mfcc")
    command = ["features", manifest, "--dest", folder, "--sample-rate", str(RATE), "--shards", "2"]
    assert preprocess.main([*command, "--shard", "1"]) == 0
    with pytest.raises(ConfigError, match="shard 0 of 2 of train is missing"):
        Shards.find(folder, "train")
    made = os.stat(os.path.join(folder, "train_1_2.npy")).st_mtime_ns
    assert preprocess.main(command) == 0
    assert os.stat(os.path.join(folder, "train_1_2.npy")).st_mtime_ns == made  # it went on
    with pytest.raises(ConfigError, match="sample_rate is 8000 there, 16000 here"):
        preprocess.main([*command[:4], "--shards", "2"])
    lines = pathlib.Path(manifest).read_text().splitlines()
    other = tmp_path_factory.mktemp("other") / "train.tsv"  # as many recordings, in another order
    other.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    with pytest.raises(ConfigError, match="list is .* there"):
        preprocess.main(["features", str(other), *command[2:]])
    return folder


def test_shards_have_all_recordings():
    for total, shards in ((5, 2), (7, 3), (3, 3)):
        found = [i for s in range(shards) for i in part(total, shard=s, shards=shards)]
        assert found == list(range(total))


def test_labels_are_the_nearest_centres_line_by_line(mfcc, manifest, tmp_path, capsys):
    centres = str(tmp_path / "km.npy")
    command = ["kmeans", mfcc, "--clusters", "4", "--dest", centres, "--n-init", "2"]
    assert preprocess.main(command) == 0 and preprocess.main(command) == 0
    assert "is there already" in capsys.readouterr().err
    assert preprocess.main(["labels", mfcc, "--kmeans", centres, "--dest", str(tmp_path)]) == 0
    lines = (tmp_path / "train.km").read_text().splitlines()
    assert len(lines) == len(AudioManifest.read(manifest)) and lines[3] == ""  # too short
    assert (tmp_path / "dict.km.txt").read_text() == "0 1\n1 1\n2 1\n3 1\n"
    shards = Shards.find(mfcc, "train")
    frames, starts = shards.read(1)
    assert frames.shape[1] == 39
    km = np.load(centres)
    for line, a, b in zip(lines[2:], starts[:-1], starts[1:], strict=True):
        wanted = ((frames[a:b, None] - km) ** 2).sum(-1).argmin(1) if b > a else []
        assert line.split() == [str(x) for x in wanted]
    assert len(set(" ".join(lines).split())) == 4
    assert len(clustering.sample(shards, percent=0.4, seed=0)) < sum(
        len(shards.read(i)[0]) for i in range(2))
    with pytest.raises(ConfigError, match="--clusters 9999: there are"):
        preprocess.main(["kmeans", mfcc, "--clusters", "9999", "--dest", str(tmp_path / "a.npy")])


def test_features_of_a_layer_are_the_models(manifest, tmp_path):
    golden = family_goldens.load("hubert/base")
    file = str(tmp_path / "hubert.pt")
    save_fairseq(file, golden.checkpoint.params, golden.config, **golden.sizes, extra_args={
        "task": "hubert_pretraining", "sample_rate": RATE, "normalize": True, "label_rate": 50.0})
    folder = str(tmp_path / "layer1")
    assert preprocess.main(
        ["features", manifest, "--dest", folder, "--checkpoint", file, "--layer", "1"]) == 0
    frames, starts = Shards.find(folder, "train").read(0)
    path = AudioManifest.read(manifest).file(1)
    wanted = seqjax.load(file, quiet=True).extract_features(path, layer=1)
    np.testing.assert_allclose(frames[starts[1]:starts[2]], wanted, atol=1e-5)
    with pytest.raises(ConfigError, match="--checkpoint and --layer go together"):
        preprocess.main(["features", manifest, "--dest", folder, "--layer", "1"])


def test_a_language_model_of_a_text(tmp_path):
    (tmp_path / "text").write_text("a b a\nb a\n")
    assert preprocess.main(["ngram", str(tmp_path / "text"), "--order", "2", "--dest",
                            str(tmp_path / "lm.arpa")]) == 0
    model = load_ngram(tmp_path / "lm.arpa")
    assert model.score(["b", "a"]) > model.score(["a", "a"])
    with pytest.raises(ConfigError, match="ends in .arpa"):
        preprocess.main(["ngram", str(tmp_path / "text"), "--dest", str(tmp_path / "lm")])
