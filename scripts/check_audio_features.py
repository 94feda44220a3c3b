"""Features of real recordings against kaldi-native-fbank's, and both against float64.

    python scripts/check_audio_features.py FOLDER [--clips 20]

FOLDER holds `.wav` files of 16-bit samples, such as those of Debian's festvox-ru or
asterisk-core-sounds-en-wav (`apt-get download festvox-ru && dpkg -x festvox-ru_*.deb FOLDER`).
Prints the largest difference of logarithms of each clip: of all bands, and of those less than
80 dB below the loudest one of the clip ("away from the floor": what is further below is rounding,
in Kaldi as here, which the last columns show). Fails if that is more than 1e-3.
"""

from __future__ import annotations

import argparse
import pathlib

import kaldi_native_fbank
import numpy as np
import soundfile

from seqjax.data.audio import filterbank

LIMIT = 1e-3
RANGE = 80 / 10 * np.log(10)


def kaldi(samples: np.ndarray, rate: int, *, mfcc: bool) -> np.ndarray:
    """[T, F] of kaldi-native-fbank, without dither."""
    options = kaldi_native_fbank.MfccOptions() if mfcc else kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.samp_freq = 0.0, rate
    if mfcc:
        options.use_energy = False
    else:
        options.mel_opts.num_bins = 80
    made = (kaldi_native_fbank.OnlineMfcc if mfcc else kaldi_native_fbank.OnlineFbank)(options)
    made.accept_waveform(rate, samples.tolist())
    made.input_finished()
    return np.array([made.get_frame(i) for i in range(made.num_frames_ready)])


def exact(samples: np.ndarray, options: filterbank.Frames) -> np.ndarray:
    """[T, 80] of the same formula in float64."""
    size = 2 ** int(np.ceil(np.log2(options.length)))
    frames = np.lib.stride_tricks.sliding_window_view(
        samples.astype(np.float64) * options.scale, options.length)[::options.shift]
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    place = np.arange(options.length)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * place / (options.length - 1))) ** 0.85
    spectrum = np.fft.rfft((frames - options.preemphasis * before) * window, size)
    power = np.abs(spectrum[:, :size // 2]) ** 2 @ filterbank.mel_banks(options, size)
    return np.log(np.maximum(power, filterbank.FLOOR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--clips", type=int, default=20)
    args = parser.parse_args()
    paths = sorted(args.folder.rglob("*.wav"))
    paths = paths[:: max(1, len(paths) // args.clips)][:args.clips]
    print(f"{'clip':32} {'rate':>6} {'s':>6} {'fbank':>9} {'all':>9} {'mfcc':>9} "
          f"{'ours-f64':>9} {'kaldi-f64':>9}")
    worst = np.zeros(5)
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32")
        options = filterbank.Frames(sample_rate=rate, scale=2.0**15)
        ours = np.asarray(filterbank.log_mel(samples[None], options))[0]
        theirs, truth = kaldi(samples * 2.0**15, rate, mfcc=False), exact(samples, options)
        near = truth > truth.max() - RANGE
        mfcc, _ = filterbank.mfcc(samples[None], np.array([len(samples)]),
                                  filterbank.Frames(sample_rate=rate, num_mel_bins=23))
        found = [np.abs(ours - theirs)[near].max(), np.abs(ours - theirs).max(),
                 np.abs(np.asarray(mfcc)[0] - kaldi(samples, rate, mfcc=True)).max(),
                 np.abs(ours - truth).max(), np.abs(theirs - truth).max()]
        worst = np.maximum(worst, found)
        print(f"{path.name[-32:]:32} {rate:6} {len(samples) / rate:6.1f} "
              + " ".join(f"{x:9.1e}" for x in found))
    print(f"{f'worst of {len(paths)}':46} " + " ".join(f"{x:9.1e}" for x in worst))
    if worst[0] > LIMIT:
        raise SystemExit(f"filterbanks differ by {worst[0]:.1e}, more than {LIMIT}")


if __name__ == "__main__":
    main()
