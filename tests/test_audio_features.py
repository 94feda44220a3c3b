"""Features and what is drawn for them, against torchaudio's, Kaldi's and fairseq's numbers
(`scripts/record_audio.py`)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from audio_clips import clip
from conftest import ROOT

from seqjax.config import ConfigError
from seqjax.data.audio import augmentation, filterbank, normalization, specaugment
from seqjax.data.audio.dataset_transforms import ConcatAugment, NoisyOverlapAugment
from seqjax.data.audio.feature_transforms import (
    Chain,
    DeltaDeltas,
    GlobalCMVN,
    SpecAugmented,
    UtteranceCMVN,
)
from seqjax.data.audio.reading import layer_norm


@pytest.fixture(scope="module")
def recorded():
    with np.load(ROOT / "tests/goldens/audio/audio.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def fbank():
    """[T, 80] of the clip that was recorded, and its frames, padded by some noise-free samples."""
    samples = np.zeros((2, 5000), np.float32)
    samples[0, :4000], samples[1] = clip(1, 4000), clip(7, 5000)
    features, frames = filterbank.fbank(samples, np.array([4000, 5000]))
    assert frames.tolist() == [23, 29] and not np.asarray(features)[0, 23:].any()
    return np.asarray(features)[0, :23]


def test_filterbanks_are_torchaudios(recorded, fbank):
    np.testing.assert_allclose(fbank[::8], recorded["fbank"], atol=2e-4)


def test_hubert_mfcc_is_torchaudios(recorded):
    """In a batch with a longer row: the deltas at the end repeat the row's own last frame."""
    samples = np.zeros((2, 5000), np.float32)
    samples[0, :4000], samples[1] = clip(1, 4000), clip(7, 5000)
    features, frames = filterbank.hubert_mfcc(samples, np.array([4000, 5000]))
    assert features.shape == (2, 29, 39) and frames.tolist() == [23, 29]
    np.testing.assert_allclose(features[0, :23][::4], recorded["mfcc"], atol=5e-4)
    assert not np.asarray(features)[0, 23:].any()


def kaldi(samples: np.ndarray, rate: int, *, bins: int = 0) -> np.ndarray:
    """kaldi-native-fbank's filterbanks or, without `bins`, its MFCCs."""
    library = pytest.importorskip("kaldi_native_fbank")
    options = library.FbankOptions() if bins else library.MfccOptions()
    options.frame_opts.dither, options.frame_opts.samp_freq = 0.0, rate
    if bins:
        options.mel_opts.num_bins = bins
    else:
        options.use_energy = False
    made = (library.OnlineFbank if bins else library.OnlineMfcc)(options)
    made.accept_waveform(rate, samples.tolist())
    made.input_finished()
    return np.array([made.get_frame(i) for i in range(made.num_frames_ready)])


@pytest.mark.parametrize(("rate", "bins"), [(16000, 80), (8000, 40), (11025, 23)])
def test_features_are_kaldis(rate, bins):
    """11,025 samples a second have an odd number of samples in a frame."""
    samples = clip(2, rate // 2, rate=rate) + np.float32(0.01)  # with an offset
    options = filterbank.Frames(sample_rate=rate, num_mel_bins=bins, scale=2.0**15)
    found = np.asarray(filterbank.log_mel(samples[None], options))[0]
    np.testing.assert_allclose(found, kaldi(samples * 2.0**15, rate, bins=bins), atol=1e-3)
    found, _ = filterbank.mfcc(samples[None], np.array([len(samples)]), filterbank.Frames(
        sample_rate=rate, num_mel_bins=23))
    np.testing.assert_allclose(found[0], kaldi(samples, rate), atol=2e-3)


def test_frames_of_short_rows():
    options = filterbank.FBANK
    assert options.count(np.array([0, 399, 400, 559, 560, 16000])).tolist() == [0, 0, 1, 1, 2, 98]
    assert all(int(options.count(np.array(options.samples(n)))) == n for n in (0, 1, 7))
    features, frames = filterbank.fbank(np.zeros((1, 399), np.float32), np.array([399]))
    assert features.shape == (1, 0, 80) and frames.tolist() == [0]
    silent = np.asarray(filterbank.log_mel(np.zeros((1, 800), np.float32)))
    np.testing.assert_allclose(silent, math.log(filterbank.FLOOR), rtol=1e-6)
    with pytest.raises(ValueError, match="below half of the rate"):
        filterbank.Frames(sample_rate=8000, high_freq=5000)
    with pytest.raises(ValueError, match="win_length: 2"):
        filterbank.deltas(jnp.zeros((1, 3, 2)), jnp.array([3]), win_length=2)


def test_delta_deltas_are_fairseqs(recorded, fbank):
    chain = Chain((DeltaDeltas(),))
    found = chain(fbank[None, :, :3], np.array([23]), chain.draw([23], 3, [None]))
    assert chain.channels(3) == found.shape[2] == 9
    np.testing.assert_allclose(found[0][::6], recorded["delta_deltas"], atol=2e-4)


def test_utterance_cmvn_is_fairseqs(recorded, fbank):
    padded = np.pad(fbank[None, :, 10:12], ((0, 0), (0, 5), (0, 0)), constant_values=9.0)
    for means, variances in ((True, True), (False, True), (True, False)):
        found = np.asarray(normalization.utterance_cmvn(
            padded, np.array([23]), norm_means=means, norm_vars=variances))[0]
        np.testing.assert_allclose(
            found[:23:3], recorded[f"cmvn_{int(means)}{int(variances)}"], atol=2e-4)
        assert not found[23:].any()


def test_utterance_cmvn_of_channels_that_hardly_change():
    """fairseq's float32 sums give a deviation of 287 for the first, and -0.19 for the second."""
    rng = np.random.RandomState(1)
    features = np.stack([15 + 0.0029 * rng.standard_normal(400), np.full(400, 15.3)], 1)
    found = np.asarray(normalization.utterance_cmvn(
        features[None].astype(np.float32), np.array([400])))[0]
    assert abs(found[:, 0].std() - 1) < 1e-2 and np.abs(found[:, 1]).max() == 0
    assert not np.isnan(np.asarray(normalization.utterance_cmvn(
        np.zeros((1, 4, 2), np.float32), np.array([0])))).any()


def test_global_cmvn(tmp_path):
    np.savez(tmp_path / "stats.npz", mean=np.arange(3.0), std=np.array([1.0, 2.0, 4.0]))
    part = GlobalCMVN(stats_npz_path=str(tmp_path / "stats.npz"))
    found = np.asarray(part.apply(jnp.full((1, 2, 3), 6.0), jnp.array([1]), {}))
    np.testing.assert_allclose(found, [[[6, 2.5, 1], [0, 0, 0]]])
    with pytest.raises(ValueError, match="statistics of 3 features, but there are 80"):
        Chain((part,)).channels(80)
    np.savez(tmp_path / "other.npz", mean=np.arange(3.0))
    with pytest.raises(ConfigError, match="other.npz: expected an .npz with the arrays mean"):
        GlobalCMVN(stats_npz_path=str(tmp_path / "other.npz"))
    with pytest.raises(ConfigError, match="none.npz: no such file"):
        GlobalCMVN(stats_npz_path=str(tmp_path / "none.npz"))


def test_spec_augment_is_fairseqs(recorded):
    """Number for number: where a run of fairseq masks, we do, from the same state."""
    plain = np.arange(90 * 40, dtype=np.float32).reshape(1, 90, 40)
    for k, policy in enumerate(specaugment.POLICIES.values()):
        chain = Chain((SpecAugmented(**{**vars(policy), "mask_value": -1.0}),))
        drawn = chain.draw([90] * 3, 40, [np.random.RandomState(seed) for seed in range(3)])
        found = chain(np.repeat(plain, 3, 0), np.full(3, 90), drawn)
        for seed in range(3):
            masked = np.unpackbits(recorded["masks"][3 * k + seed])[:3600].reshape(90, 40) > 0
            np.testing.assert_array_equal(found[seed], np.where(masked, -1.0, plain[0]))
    chain = Chain((SpecAugmented(freq_mask_N=2, freq_mask_F=27, time_mask_N=2, time_mask_T=70,
                                 time_mask_p=0.5),))
    padded = np.pad(plain, ((0, 0), (0, 30), (0, 0)), constant_values=1e6)
    drawn = chain.draw([90], 40, [np.random.RandomState(3)])
    found = np.asarray(chain(padded, np.array([90]), drawn))[0]
    np.testing.assert_allclose(found[:90:3, 7], recorded["mean"], rtol=1e-5)
    assert not found[90:].any()


def test_time_warp_is_fairseqs(recorded):
    wave = np.cumsum(np.random.RandomState(5).standard_normal((40, 3)), 0).astype(np.float32)
    chain = Chain((SpecAugmented(time_warp_W=8),))
    frames = [40, 40, 40, 16]  # the last is too short to be warped: as it is
    drawn = chain.draw(frames, 3, [np.random.RandomState(seed) for seed in (0, 1, 2, 0)])
    padded = np.pad(np.stack([wave] * 4), ((0, 0), (0, 3), (0, 0)))
    padded[3, 16:] = 0
    found = np.asarray(chain(padded, np.array(frames), drawn))
    np.testing.assert_allclose(found[:3, :40:2], recorded["warps"], atol=1e-4)
    assert not found[:3, 40:].any()
    np.testing.assert_array_equal(found[3], padded[3])


def test_what_spec_augment_never_masks():
    """The last channel, the last frame, and anything of features with too few channels."""
    part = specaugment.POLICIES["ld"]
    rng = np.random.RandomState(0)
    last_channel, last_frame, first = 0, 0, 0
    for _ in range(500):
        drawn = part.draw(120, 80, rng)
        last_channel += (drawn["freq"].sum(1) >= 80).sum()
        last_frame += (drawn["time"].sum(1) >= 120).sum()
        first += ((drawn["freq"][:, 0] == 0) & (drawn["freq"][:, 1] > 0)).sum()
        assert drawn["freq"][:, 1].max() < 27 and drawn["time"][:, 1].max() < 100
    assert last_channel == last_frame == 0 < first
    drawn = part.draw(120, 23, rng)  # 23 channels are fewer than 27
    assert not any(value.any() for value in drawn.values())
    assert not part.draw(0, 80, rng)["freq"].any()
    for wrong, message in (({"freq_mask_N": 1}, "specaugment.freq_mask_F: 0"),
                           ({"time_mask_N": 1}, "specaugment.time_mask_T: 0"),
                           ({"time_mask_p": 2.0}, "specaugment.time_mask_p: 2.0")):
        with pytest.raises(ValueError, match=message):
            specaugment.SpecAugment(**wrong)


def test_chain_draws_rows_by_themselves(fbank):
    """A row is masked alike in any batch, and one without a state stays as it is."""
    chain = Chain((UtteranceCMVN(), SpecAugmented(freq_mask_N=1, freq_mask_F=27)))
    state = [np.random.RandomState(11) for _ in range(2)]
    alone = chain(fbank[None], np.array([23]), chain.draw([23], 80, state[:1]))
    batch = chain(np.stack([fbank * 2, fbank]), np.array([23, 23]), chain.draw(
        [23, 23], 80, [None, state[1]]))
    np.testing.assert_allclose(batch[1], alone[0], atol=1e-5)
    assert (np.asarray(alone[0]) == np.asarray(alone[0])[:1]).all(0).any()  # a masked channel
    assert not (np.asarray(batch[0]) == np.asarray(batch[0])[:1]).all(0).any()


def test_noise_is_fairseqs(recorded, tmp_path):
    soundfile.write(tmp_path / "noise.wav", clip(9, 1500), 16000, subtype="FLOAT")
    for name in ("musicaugment", "babbleaugment", "sporadicnoiseaugment"):
        options = {"noise_rate": 20.0, "noise_len_mean": 0.02, "noise_len_std": 0.005} if (
            name == "sporadicnoiseaugment") else {}
        part = augmentation.WAVEFORM[name](samples_path=str(tmp_path), rate=1.0, **options)
        found = part(clip(2, 4000), 16000, np.random.RandomState(4))
        np.testing.assert_allclose(found[::50], recorded[name], atol=1e-6)
        assert part.longest(np.array([7])).tolist() == [7]
    never = augmentation.NoiseAugment(samples_path=str(tmp_path), rate=0.0)
    np.testing.assert_array_equal(
        never(clip(2, 400), 16000, np.random.RandomState(4)), clip(2, 400))
    with pytest.raises(ConfigError, match="has no .wav files"):
        augmentation.NoiseAugment(samples_path=str(tmp_path / "nothing"))


def test_speed():
    part = augmentation.SpeedAugment(factors=(0.5, 2.0))
    tone = np.sin(2 * np.pi * 500 * np.arange(8000) / 16000).astype(np.float32)
    lengths = set()
    for seed in range(6):
        found = part(tone, 16000, np.random.RandomState(seed))
        lengths.add(len(found))
        peak = np.abs(np.fft.rfft(found)).argmax() * 16000 / len(found)
        assert abs(peak - 500 * 8000 / len(found)) < 5
        assert len(found) <= part.longest(np.array([8000]))[0] == 16000
    assert lengths == {4000, 16000}
    with pytest.raises(ConfigError, match="factors"):
        augmentation.SpeedAugment(factors=(0.0,))


def test_normalising_is_fairseqs(recorded):
    stereo = np.stack([clip(3, 1000, level=2e-3), clip(4, 1000, level=1e-3)], 1)
    mono = stereo.mean(1, dtype=np.float32)
    np.testing.assert_allclose(layer_norm(mono)[::20], recorded["normalized"], atol=1e-5)
    # Of soft recordings fairseq's 1e-5 leaves less than Hugging Face's 1e-7.
    soft = clip(5, 4000)
    soft = soft / soft.std() * np.float32(1e-3)
    assert abs(layer_norm(soft).std() - 0.301) < 1e-3
    assert abs(layer_norm(soft, eps=1e-7).std() - 0.953) < 1e-3


def test_joined_recordings_are_drawn_as_fairseq_draws_them(recorded):
    sizes = np.array([10, 500, 40, 1200, 1800, 2999])
    part = ConcatAugment(rate=0.7, max_tokens=2000)
    found = [part.partner(seed % 6, sizes, np.random.RandomState(seed)) for seed in range(40)]
    assert [-1 if other is None else other for other in found] == recorded["joined"].tolist()
    longest = part.longest(sizes)
    for i, other in enumerate(found):
        assert other is None or sizes[i % 6] + sizes[other] <= longest[i % 6]
    assert longest.tolist() == [1810, 1700, 1840, 1700, 1840, 2999]


def test_noisy_overlap(tmp_path):
    soundfile.write(tmp_path / "noise.wav", clip(9, 300), 16000)
    part = NoisyOverlapAugment(rate=1.0, mixing_noise_rate=0.5, noise_path=str(tmp_path))
    samples = clip(1, 2000)
    changed = 0
    for seed in range(10):
        found = part(samples, (3, lambda i: clip(20 + i, 900)), sample_rate=16000,
                     rng=np.random.RandomState(seed))
        np.testing.assert_array_equal(found, part(
            samples, (3, lambda i: clip(20 + i, 900)), sample_rate=16000,
            rng=np.random.RandomState(seed)))
        different = np.flatnonzero(found != samples)
        changed += len(different) > 0
        assert not len(different) or np.ptp(different) < 1000
    assert changed >= 8


def test_features_compile_once_a_shape():
    filterbank.log_mel.clear_cache()
    for n in (1200, 1200, 2400):
        filterbank.log_mel(np.zeros((2, n), np.float32)).block_until_ready()
    assert filterbank.log_mel._cache_size() == 2
    assert jax.tree.leaves(filterbank.FBANK) == [filterbank.FBANK]  # a static argument
