"""Records what torchaudio and fairseq make of sounds and features: tests/goldens/audio/*.npz.

Needs torchaudio (`compliance.kaldi` and `functional` are all that is used), OpenCV, soundfile and
fairseq; not seqjax. The sounds are those of tests/audio_clips.py.

    python scripts/record_audio.py tests/goldens/audio
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
import types

import numpy as np
import soundfile
import torch
import torchaudio
from fairseq.data.audio.dataset_transforms.concataugment import ConcatAugment
from fairseq.data.audio.feature_transforms.delta_deltas import DeltaDeltas
from fairseq.data.audio.feature_transforms.specaugment import SpecAugmentTransform
from fairseq.data.audio.feature_transforms.utterance_cmvn import UtteranceCMVN
from fairseq.data.audio.hubert_dataset import HubertDataset
from fairseq.data.audio.raw_audio_dataset import RawAudioDataset
from fairseq.data.audio.speech_to_text_dataset import SpeechToTextDatasetCreator
from fairseq.data.audio.waveform_transforms import noiseaugment

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
from audio_clips import clip  # noqa: E402

# fairseq asks for it, before it sees that there is nothing to do; new torchaudios have none.
torchaudio.sox_effects = sys.modules.setdefault(
    "torchaudio.sox_effects", types.ModuleType("torchaudio.sox_effects"))
POLICIES = {
    "lb": (1, 27, 1, 100, 1.0), "ld": (2, 27, 2, 100, 1.0),
    "sm": (2, 15, 2, 70, 0.2), "ss": (2, 27, 2, 70, 0.2),
}
NOISES = {
    "musicaugment": noiseaugment.MusicAugmentTransform,
    "babbleaugment": noiseaugment.BabbleAugmentTransform,
    "sporadicnoiseaugment": noiseaugment.SporadicNoiseAugmentTransform,
}


def features() -> dict[str, np.ndarray]:
    """Of torchaudio, as fairseq calls it."""
    x = torch.from_numpy(clip(1, 4000))[None]
    fbank = torchaudio.compliance.kaldi.fbank(x * 2**15, num_mel_bins=80, sample_frequency=16000)
    mfcc = torchaudio.compliance.kaldi.mfcc(x, sample_frequency=16000, use_energy=False).T
    deltas = torchaudio.functional.compute_deltas(mfcc)
    both = torch.cat([mfcc, deltas, torchaudio.functional.compute_deltas(deltas)])
    found = {"fbank": fbank[::8].numpy(), "mfcc": both.T[::4].numpy()}
    found["delta_deltas"] = DeltaDeltas()(fbank.numpy()[:, :3])[::6].astype(np.float32)
    for means, variances in ((True, True), (False, True), (True, False)):
        made = UtteranceCMVN(means, variances)(fbank.numpy()[:, 10:12])[::3]
        found[f"cmvn_{int(means)}{int(variances)}"] = made
    return found


def masks() -> dict[str, np.ndarray]:
    """Of SpecAugment: what is masked, and how frames are warped."""
    found = {}
    plain = np.arange(90 * 40, dtype=np.float32).reshape(90, 40)
    masked = []
    for n, f, tn, t, p in POLICIES.values():
        for seed in range(3):
            np.random.seed(seed)
            made = SpecAugmentTransform(0, n, f, tn, t, p, -1.0)(plain)
            masked.append(np.packbits(made == -1.0))
    found["masks"] = np.stack(masked)
    np.random.seed(3)
    found["mean"] = SpecAugmentTransform(0, 2, 27, 2, 70, 0.5, None)(plain)[::3, 7]
    wave = np.cumsum(np.random.RandomState(5).standard_normal((40, 3)), 0).astype(np.float32)
    warped = []
    for seed in range(3):
        np.random.seed(seed)
        warped.append(SpecAugmentTransform(8)(wave)[::2])
    found["warps"] = np.stack(warped)
    return found


def waveforms() -> dict[str, np.ndarray]:
    """Of noise, and of normalising: some samples."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        soundfile.write(f"{folder}/noise.wav", clip(9, 1500), 16000, subtype="FLOAT")
        for name, cls in NOISES.items():
            options = {"noise_rate": 20.0, "noise_len_mean": 0.02, "noise_len_std": 0.005} if (
                name == "sporadicnoiseaugment") else {}
            made = cls.from_config_dict({"samples_path": folder, "rate": 1.0, **options})
            np.random.seed(4)
            found[name] = made(clip(2, 4000)[None], 16000)[0][0, ::50].astype(np.float32)
    stereo = torch.from_numpy(np.stack([clip(3, 1000, level=2e-3), clip(4, 1000, level=1e-3)], 1))
    found["normalized"] = RawAudioDataset(16000, normalize=True).postprocess(
        stereo, 16000)[::20].numpy()
    return found


def numbers() -> dict[str, np.ndarray]:
    """Of labels of frames, of recordings that are joined, and of corpora that are mixed."""
    dataset = HubertDataset.__new__(HubertDataset)
    dataset.sample_rate, dataset.pad_audio = 16000, True
    starts = [0, 100, 159, 160, 161, 480, 800, 8123, 24000]
    labels = [torch.arange(120) for _ in starts]
    found = {"starts": np.array(starts)}
    for rate in (50.0, 100.0):
        targets, lengths, _ = dataset.collater_frm_label(labels, 20000, starts, rate, 1)
        found[f"labels_{int(rate)}"] = np.stack([targets[:, 0].numpy(), lengths.numpy()])
    sizes = [10, 500, 40, 1200, 1800, 2999]
    joined = []
    for seed in range(40):
        np.random.seed(seed)
        pair = ConcatAugment(rate=0.7, max_tokens=2000).find_indices(
            seed % len(sizes), sizes, len(sizes))
        joined.append([*pair, -1][1])
    found["joined"] = np.array(joined)

    class Corpus:
        def __init__(self, split, pair, frames):
            self.split, self.n_frames = split, frames
            self.src_langs, self.tgt_langs = [pair[0]] * len(frames), [pair[1]] * len(frames)

    corpora = [Corpus("a", "xy", [10, 20, 30]), Corpus("b", "xz", [100, 400]),
               Corpus("c", "xy", [7, 8])]
    found["ratios"] = np.array(SpeechToTextDatasetCreator.get_size_ratios(corpora, alpha=0.5))
    return found


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "audio.npz", **features(), **masks(), **waveforms(), **numbers())
    print(f"wrote {folder / 'audio.npz'}, {(folder / 'audio.npz').stat().st_size} bytes")


if __name__ == "__main__":
    main()
