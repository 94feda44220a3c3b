"""The sides of C11, each in a worker of its own: the same sound, its filterbanks."""

from __future__ import annotations

from typing import Any

import numpy as np

RATE = 16000


def sounds(*, rows: int, seconds: float) -> np.ndarray:
    """[B, N] float32 in [-1, 1]: harmonics that rise and fall, and noise."""
    rng = np.random.RandomState(1)
    time = np.arange(int(seconds * RATE)) / RATE
    found = []
    for _ in range(rows):
        phase = 2 * np.pi * np.cumsum(150 + 50 * np.sin(2 * np.pi * time)) / RATE
        voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 15))
        loud = 1 + np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6))
        voice = voice * loud + 0.05 * rng.standard_normal(len(time))
        found.append(0.3 * voice / np.abs(voice).max())
    return np.array(found, np.float32)


class _Side:
    def __init__(self, *, rows: int, seconds: float):
        self.samples = sounds(rows=rows, seconds=seconds)

    def features(self) -> Any:
        """Filterbanks of all rows: [B, T, 80]."""
        raise NotImplementedError

    def fbank(self, *, times: int, full: bool = False) -> dict[str, Any]:
        """Makes them so often; work is seconds of sound."""
        found = self.features()
        for _ in range(times - 1):
            found = self.features()
        result: dict[str, Any] = {"work": times * self.samples.size / RATE}
        return result | ({"shown": np.asarray(found[0])[:200].ravel().tolist()} if full else {})


class Seqjax(_Side):
    """What the data pipeline of this project does."""

    def __init__(self, *, rows: int, seconds: float):
        super().__init__(rows=rows, seconds=seconds)
        from seqjax.data.audio import feature_transforms, filterbank, specaugment

        self.log_mel, self.hubert_mfcc = filterbank.log_mel, filterbank.hubert_mfcc
        self.frames = np.full(rows, int(filterbank.FBANK.count(self.samples.shape[1])))
        self.chain = feature_transforms.Chain((
            feature_transforms.UtteranceCMVN(),
            feature_transforms.SpecAugmented(**vars(specaugment.POLICIES["ld"]))))
        self.augmented(times=1)  # compiles
        self.mfcc(times=1)

    def features(self) -> Any:
        return self.log_mel(self.samples).block_until_ready()

    def augmented(self, *, times: int) -> dict[str, Any]:
        """Filterbanks, normalised and masked."""
        for number in range(times):
            states = [np.random.RandomState(number + row) for row in range(len(self.frames))]
            drawn = self.chain.draw(self.frames.tolist(), 80, states)
            self.chain(self.log_mel(self.samples), self.frames, drawn).block_until_ready()
        return {"work": times * self.samples.size / RATE}

    def mfcc(self, *, times: int) -> dict[str, Any]:
        """13 MFCCs and their deltas, twice."""
        lengths = np.full(len(self.samples), self.samples.shape[1])
        for _ in range(times):
            self.hubert_mfcc(self.samples, lengths)[0].block_until_ready()
        return {"work": times * self.samples.size / RATE}


class Kaldi(_Side):
    """Kaldi's own C++, without its dither."""

    def features(self) -> Any:
        import kaldi_native_fbank as knf

        options = knf.FbankOptions()
        options.frame_opts.dither = 0.0
        options.frame_opts.samp_freq = RATE
        options.mel_opts.num_bins = 80
        found = []
        for row in self.samples * 2.0**15:
            made = knf.OnlineFbank(options)
            made.accept_waveform(RATE, row)
            made.input_finished()
            found.append(np.stack([made.get_frame(i) for i in range(made.num_frames_ready)]))
        return found


class NumPy(_Side):
    """As one writes it down: frames, a transform, bands."""

    def __init__(self, *, rows: int, seconds: float):
        super().__init__(rows=rows, seconds=seconds)
        from seqjax.data.audio import filterbank

        self.mel = filterbank.mel_banks(filterbank.FBANK, 512).astype(np.float32)
        place = np.arange(400)
        self.window = ((0.5 - 0.5 * np.cos(2 * np.pi * place / 399)) ** 0.85).astype(np.float32)

    def features(self) -> Any:
        found = []
        for row in self.samples * np.float32(2**15):
            frames = np.lib.stride_tricks.sliding_window_view(row, 400)[::160]
            frames = frames - frames.mean(1, keepdims=True)
            before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
            spectrum = np.fft.rfft((frames - 0.97 * before) * self.window, 512)[:, :256]
            power = spectrum.real**2 + spectrum.imag**2
            found.append(np.log(np.maximum(power @ self.mel, np.finfo(np.float32).eps)))
        return found
