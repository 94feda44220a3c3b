"""Features of recordings in three lines: any layer by fairseq's number, each as it is alone."""

from __future__ import annotations

import family_goldens
import numpy as np
import pytest
import soundfile

import seqjax
from seqjax.config import ConfigError
from seqjax.data.audio.reading import AudioError, layer_norm
from seqjax.hub import waveforms
from seqjax.interop.fairseq.export import save_fairseq


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A HuBERT, and a model of its kind for CTC, as fairseq's files."""
    folder = tmp_path_factory.mktemp("speech")
    for name, task in (("hubert/base", "hubert_pretraining"), ("hubert_ctc/base",
                                                              "audio_finetuning")):
        golden = family_goldens.load(name)
        save_fairseq(
            folder / f"{golden.config.name}.pt", golden.checkpoint.params, golden.config,
            **golden.sizes, extra_args={
                "task": task, "sample_rate": 1000, "normalize": name == "hubert_ctc/base",
                "label_rate": 50.0})
    return folder


@pytest.fixture(scope="module")
def model(files):
    return seqjax.load(files / "hubert.pt", quiet=True)


def rows():
    golden = family_goldens.load("hubert/base")
    samples = golden.arrays["samples"].astype(np.float32)
    return [row[:n] for row, n in zip(samples, golden.arrays["lengths"], strict=True)]


def test_features_are_fairseqs_whatever_else_is_in_the_list(model):
    arrays = family_goldens.load("hubert/base").arrays
    found = model.extract_features([rows()[0], rows()[1]], layer=1)
    assert [x.dtype for x in found] == [np.float32] * 2
    np.testing.assert_allclose(found[1], arrays["row_1"], atol=2e-5)
    alone = model.extract_features(rows()[1], layer=1)
    np.testing.assert_allclose(alone, arrays["row_1"], atol=2e-5)
    np.testing.assert_allclose(
        model.extract_features(rows()[1], layer=1, final_proj=True), arrays["proj"], atol=2e-5)
    np.testing.assert_allclose(model.extract_features(rows()[1]), arrays["last"], atol=2e-5)


def test_files_are_read_at_the_models_rate(model, tmp_path):
    row = rows()[0]
    stereo = np.stack([row, row], axis=1) * 0.5
    soundfile.write(tmp_path / "a.wav", stereo, 1000, subtype="FLOAT")
    found = model.extract_features([tmp_path / "a.wav", 0.5 * row], layer=1)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    soundfile.write(tmp_path / "b.wav", np.repeat(0.5 * row, 2), 2000)
    assert len(model.extract_features(str(tmp_path / "b.wav"), layer=1)) == len(found[0])
    integers = (0.5 * row / np.abs(row).max() * 2**15).astype(np.int16)
    np.testing.assert_allclose(
        model.extract_features(integers, layer=1),
        model.extract_features(integers / 2.0**15, layer=1), atol=1e-5)


def test_bad_audio_is_named(model, tmp_path):
    bad = rows()[0].copy()
    bad[7] = np.nan
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 1000)
    for audio, error, message in (
            ([rows()[0], bad], ValueError, r"audio\[1\]: sample 7 is nan"),
            (rows()[0][:39], ValueError, r"audio\[0\]: has 39 samples.*needs 4\d at 1000 Hz"),
            (tmp_path / "none.wav", FileNotFoundError, "none.wav: no such file"),
            (tmp_path / "text.wav", AudioError, "text.wav: cannot be read as sound"),
            (tmp_path / "empty.wav", AudioError, "empty.wav: has no samples"),
            ({"a": 1}, TypeError, "give a path or an array"),
            (["a.wav", None], FileNotFoundError, r"audio\[0\]")):
        with pytest.raises(error, match=message):
            model.extract_features(audio, layer=1)
    for layer in (3, -1, True, 1.0):
        with pytest.raises(ValueError, match="1 to 2, 0"):
            model.extract_features(rows()[0], layer=layer)


def test_symbols_of_a_model_for_ctc(files):
    """Normalised with fairseq's epsilon, as its task says."""
    m = seqjax.load(files / "hubert_ctc.pt", quiet=True)
    row = rows()[0]
    found = m.log_probs(row)
    assert found.shape == (19, 10)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(m.log_probs(0.5 * row + 0.1), found, atol=1e-3)
    quiet = row / row.std() * 3e-4
    assert np.abs(m.log_probs(quiet) - found).max() > 0.05
    with pytest.raises(ConfigError, match="final_proj: models of 'hubert_ctc' have none"):
        m.extract_features(row, final_proj=True)


def test_epsilons_of_normalisation():
    """fairseq's 1e-5 and transformers' 1e-7 (measured)."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=50_000)
    for amplitude, fairseq, transformers in (
            (0.1, 0.9995, 1.0), (0.01, 0.953, 0.9995), (0.001, 0.301, 0.953),
            (0.0003, 0.094, 0.687)):
        samples = (noise / noise.std() * amplitude).astype(np.float32)
        for eps, wanted in ((1e-5, fairseq), (1e-7, transformers)):
            assert abs(layer_norm(samples, eps=eps).std() - wanted) < 2e-3


def test_few_shapes():
    widths = {waveforms.width(n) for n in range(400, 16000 * 60, 997)}
    assert len(widths) <= 23 and max(widths) < 1.25 * 16000 * 60
    for n in (1, 8192, 8193, 12288, 12289, 65535, 65537, 81921, 10**6):
        assert n <= waveforms.width(n) <= max(8192, (1.25 if n > 65536 else 1.5) * n)
    rows = [np.ones(n, np.float32) for n in (5, 9000, 6, 7)]
    found = list(waveforms.batches(rows))
    assert sorted(sum((places for places, *_ in found), [])) == [0, 1, 2, 3]
    for places, samples, real in found:
        assert samples.shape == real.shape and real.sum(1)[: len(places)].tolist() == [
            len(rows[p]) for p in places]


def test_a_model_without_its_task_says_so(model):
    with pytest.raises(ConfigError, match="own task is not here"):
        model.evaluate("valid", data=".")
    with pytest.raises(ConfigError, match="say no symbols"):
        model.log_probs(rows()[0])
