"""One recording that is in no table: a path, samples or features in, what a model reads out."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from seqjax.data.audio.reading import (
    AudioError,
    Reading,
    finite,
    is_features,
    layer_norm,
    read_features,
    read_samples,
    resampled,
)
from seqjax.data.audio.s2t_config import S2TDataConfig

_SPLIT = ""
"""No split has this name: transforms are those of `_eval`, or of `*`."""


def features_of(
    audio: Any, config: S2TDataConfig, *, reading: Reading, sampling_rate: int | None = None,
) -> np.ndarray:
    """Features [T, F] (or, with `use_audio_input`, samples [N]) as `config.yaml` makes them in
    evaluations.

    Args:
      audio: a path of sound or of features (`.npy`), samples [N] in [-1, 1], or features [T, F],
        which are taken as they are.
      sampling_rate: of samples (None: that of `config.yaml`).

    Raises:
      AudioError: a file that cannot be used, samples that are no numbers or too few, features of
        another width.
    """
    rate = config.use_sample_rate if config.use_audio_input else config.sample_rate
    reading = dataclasses.replace(reading, sample_rate=rate)
    if isinstance(audio, (str, os.PathLike)):
        path = os.fspath(audio)
        values = read_features(path) if is_features(path) else read_samples(path, reading)
        name = path
    else:
        values, name = np.asarray(audio, np.float32), "audio"
        finite(values, name)
        if values.ndim == 2 and not config.use_audio_input:
            return values
        if values.ndim != 1:
            raise AudioError(f"{name}: has the shape {list(values.shape)}; give samples [N]"
                             + ("" if config.use_audio_input else " or features [T, F]"))
        if sampling_rate not in (None, rate):
            values = resampled(values, int(sampling_rate or rate), rate)
    if config.use_audio_input:
        if not len(values):
            raise AudioError(f"{name}: has no samples")
        return layer_norm(values) if config.standardize_audio else values
    if values.ndim == 1:
        values = _filterbanks(values, config, name)
    if values.shape[1] != config.features:
        raise AudioError(f"{name}: frames of {values.shape[1]} features, config.yaml says "
                         f"{config.features} (input_feat_per_channel)")
    return _transformed(values, config)


def samples_of(
    audio: Any, *, reading: Reading, eps: float | None, sampling_rate: int | None = None,
) -> np.ndarray:
    """Samples [N] of a path or of samples [N] in [-1, 1].

    Args:
      reading: the rate that is wanted.
      eps: added to the variance by which they are divided (None: they stay as they are).
      sampling_rate: of samples (None: as wanted).

    Raises:
      AudioError: a file that cannot be used, samples that are no numbers, or none.
    """
    if isinstance(audio, (str, os.PathLike)):
        values = read_samples(os.fspath(audio), reading)
    else:
        values = finite(np.asarray(audio, np.float32), "audio")
        if values.ndim != 1 or not len(values):
            raise AudioError(f"audio: has the shape {list(values.shape)}; give samples [N]")
        values = resampled(values, sampling_rate or reading.sample_rate, reading.sample_rate)
    return values if eps is None else layer_norm(values, eps=eps)


def _filterbanks(samples: np.ndarray, config: S2TDataConfig, name: str) -> np.ndarray:
    from seqjax.data.audio.filterbank import FBANK, log_mel

    frames = dataclasses.replace(
        FBANK, sample_rate=config.sample_rate, num_mel_bins=config.input_feat_per_channel)
    count = int(frames.count(np.array(len(samples))))
    if count < 1:
        raise AudioError(f"{name}: {len(samples)} samples are too short for a frame of "
                         f"{frames.length}")
    room = frames.samples(_width(count))
    held = np.zeros((1, room), np.float32)
    held[0, :min(len(samples), room)] = samples[:room]
    return np.asarray(log_mel(held, frames))[0, :count]  # type: ignore[arg-type]


def _transformed(values: np.ndarray, config: S2TDataConfig) -> np.ndarray:
    from seqjax.data.audio import feature_transforms as made

    kinds: dict[str, Any] = {
        "utterance_cmvn": made.UtteranceCMVN, "global_cmvn": made.GlobalCMVN,
        "delta_deltas": made.DeltaDeltas, "specaugment": made.SpecAugmented}
    parts = []
    for name in config.transforms("feature", _SPLIT, train=False):
        options = dict(config.options.get(name, {}))
        if name == "delta_deltas":
            options.pop("win_length", None)
        parts.append(kinds[name](**options))
    if not parts:
        return values
    chain, count = made.Chain(tuple(parts)), len(values)
    held = np.zeros((1, _width(count), values.shape[1]), np.float32)
    held[0, :count] = values
    lengths = np.array([count], np.int32)
    drawn = chain.draw([count], values.shape[1], [None])
    return np.asarray(chain(held, lengths, drawn))[0, :count]


def _width(count: int) -> int:
    """Frames of the few shapes that are compiled."""
    return max(64, 1 << (count - 1).bit_length())
