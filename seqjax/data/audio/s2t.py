"""Batches of speech to text: tables and config.yaml in, features (or waveforms) and targets out.

    config = S2TDataConfig.read("data/config.yaml")
    dataset = SpeechToTextDataset.load(
        "data", "train_de,train_fr", config, texts=TargetText.load("data", config), train=True,
        reading=Reading(), seed=1)
    plan = make_plan(dataset.lengths, config.batching, seed=1, mixture=dataset.mixture)

| key | shape | what |
| --- | --- | --- |
| `source` | [B, T, F] float32, or [B, N] | features, or (`use_audio_input`) samples; 0 behind |
| `source_lengths` | [B] int32 | how many frames (samples) are real |
| `target` | [B, T] int32 | ids with final eos, padded on the right; where there are texts |
| `target_lengths` | [B] int32 | how many |
| `speaker` | [B] int32 | with `speaker_set_filename`: its number there; 0 in rows of padding |

Features are read from `.npy` or made of sound, by JAX on the host's CPU, all of a batch in one
compiled program a shape; transforms likewise. What is drawn is a pure function of (seed, epoch,
number of the recording).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import logging
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from seqjax.config import ConfigError
from seqjax.data.audio.augmentation import WAVEFORM
from seqjax.data.audio.dataset_transforms import DATASET, ConcatAugment, NoisyOverlapAugment
from seqjax.data.audio.datasets import Skipped
from seqjax.data.audio.manifests import measure
from seqjax.data.audio.reading import (
    AudioError,
    Head,
    Reading,
    in_parallel,
    is_features,
    layer_norm,
    read_features,
    read_head,
    read_samples,
)
from seqjax.data.audio.s2t_config import Kind, S2TDataConfig
from seqjax.data.audio.s2t_table import SpeechTable
from seqjax.data.audio.s2t_text import TargetText
from seqjax.data.epoch_plan import Lengths, Shape
from seqjax.data.item_seed import item_seed
from seqjax.data.pairs import PAD
from seqjax.data.resampling import Resampling

logger = logging.getLogger(__name__)
_UNREAD = {"delta_deltas": {"win_length": 5}, "specaugment": {"time_wrap_W": 0}}
"""Options that fairseq's scripts write and it does not read, and what holds instead."""
_JOINT = 4
"""Pieces that two texts may have more as one than apart."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """One table's place among all recordings."""

    table: SpeechTable
    first: int
    ids: np.ndarray
    """[n] rows of the table that are used."""
    lengths: np.ndarray
    """[n] frames or samples of each."""
    waveform: tuple[Any, ...]
    concat: ConcatAugment | None
    overlap: NoisyOverlapAugment | None
    chain: Any
    """`feature_transforms.Chain`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Item:
    values: list[np.ndarray]
    """Samples [N] or features [T, F], of one recording or of two."""
    numbers: list[int]
    """Which."""
    rng: np.random.RandomState


class SpeechToTextDataset:
    """Recordings of tables and their texts; what a batch of them is stands above.

    Args:
      tables: one or more.
      config: what config.yaml says.
      texts: how targets become ids (None: there are none).
      train: transforms are those of training, and `sampling_alpha` is used.
      reading: how files are read. Its rate is config.yaml's.
      folder: of the data, where the names of speakers are.
      seed, epoch: with a recording's number, all that is drawn depends on.
      order_seed: of fairseq's order of recordings of one length, where config.yaml says `shuffle`.

    Raises:
      AudioError: a recording that cannot be used; names its line.
      ConfigError: transforms without their files, languages without tags, speakers without numbers.
    """

    def __init__(
        self, tables: Sequence[SpeechTable], config: S2TDataConfig, *, texts: TargetText | None,
        train: bool, reading: Reading, folder: str = "", seed: int = 1, epoch: int = 1,
        order_seed: int | None = None,
    ):
        from seqjax.data.audio.filterbank import FBANK

        self.config, self.texts, self.train = config, texts, train
        self._waves = config.use_audio_input
        rate = config.use_sample_rate if self._waves else config.sample_rate
        self.reading = dataclasses.replace(
            reading, sample_rate=rate, resample=reading.resample or self._waves)
        self._frames = dataclasses.replace(
            FBANK, sample_rate=rate, num_mel_bins=config.input_feat_per_channel)
        self._seed, self._epoch, self._order_seed = seed, epoch, order_seed
        self.skipped = Skipped()
        self._parts: list[_Part] = []
        first = 0
        for table in tables:
            self._parts.append(self._part(table, first))
            first += len(self._parts[-1].ids)
        self._firsts = np.array([part.first for part in self._parts])
        self._counts = None if texts is None else np.concatenate(
            [texts.count(part.table)[part.ids] for part in self._parts])
        self._speakers = self._read_speakers(folder)

    @classmethod
    def load(
        cls, folder: str, splits: str, config: S2TDataConfig, *, texts: TargetText | None,
        train: bool, reading: Reading, seed: int = 1, order_seed: int | None = None,
    ) -> Self:
        """The tables `FOLDER/SPLIT.tsv` of splits that commas separate."""
        tables = [SpeechTable.read(os.path.join(folder, f"{name.strip()}.tsv"),
                                   audio_root=config.audio_root, need_target=texts is not None)
                  for name in splits.split(",")]
        return cls(tables, config, texts=texts, train=train, reading=reading, folder=folder,
                   seed=seed, order_seed=order_seed)

    def __len__(self) -> int:
        return sum(len(part.ids) for part in self._parts)

    def at_epoch(self, epoch: int) -> Self:
        """The same recordings, as they are in another epoch."""
        found = copy.copy(self)
        found._epoch = epoch
        return found

    # ---- what there is ----

    def _part(self, table: SpeechTable, first: int) -> _Part:
        from seqjax.data.audio.feature_transforms import Chain

        if self.texts is not None:
            self.texts.check(table)
        waveform = tuple(self._made(WAVEFORM, "waveform", table.split))
        joined = self._made(DATASET, "dataset", table.split)
        concat = next((x for x in joined if isinstance(x, ConcatAugment)), None)
        overlap = next((x for x in joined if isinstance(x, NoisyOverlapAugment)), None)
        chain = Chain(tuple(self._made(_feature_kinds(), "feature", table.split)))
        idle = chain.parts if self._waves else overlap
        if idle:
            logger.warning(
                "%s: %s: %s are not used while use_audio_input is %s, as in fairseq",
                self.config.path, table.split, "feature transforms" if self._waves
                else "overlaps of waveforms", self._waves)
        chain.channels(self.config.features)
        manifest = table.manifest
        ids = np.arange(len(table), dtype=np.int64)
        lengths = manifest.frames
        if self.reading.check:
            heads = measure(manifest, ids, self.reading,
                            lambda index: self._measured(manifest.file(index), waveform))
            ids, lengths = heads.ids, heads.lengths
        return _Part(table=table, first=first, ids=ids, lengths=lengths, waveform=waveform,
                     concat=concat, overlap=overlap, chain=chain)

    def _made(self, kinds: dict[str, Any], kind: Kind, split: str) -> list[Any]:
        """The transforms of a split."""
        found = []
        for name in self.config.transforms(kind, split, train=self.train):
            options = dict(self.config.options.get(name, {}))
            known = {f.name for f in dataclasses.fields(kinds[name])}
            for key, value in _UNREAD.get(name, {}).items():
                if options.pop(key, value) != value:
                    logger.warning("%s: %s.%s is not used, as in fairseq, where it is %s",
                                   self.config.path, name, key, value)
            unknown = sorted(set(options) - known)
            if unknown:
                raise ConfigError(f"{self.config.path}: {name}.{unknown[0]}: unknown key. Known: "
                                  f"{', '.join(sorted(known))}")
            try:
                found.append(kinds[name](**options))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{self.config.path}: {name}: {error}") from None
        return found

    def _measured(self, path: str, waveform: tuple[Any, ...]) -> int:
        """Frames or samples of a file, at most."""
        head = read_head(path)
        if not head.rate:
            self._check_features(head)
            return head.length
        self.reading.check_rate(head)
        samples = np.array([self.reading.resampled(head)])
        for transform in waveform:
            samples = transform.longest(samples)
        if self._waves:
            return int(samples[0])
        return self._frames_of(path, int(samples[0]))

    def _frames_of(self, path: str, samples: int) -> int:
        """Frames that samples of a file make."""
        frames = int(self._frames.count(np.array(samples)))
        if not frames:
            raise AudioError(f"{path}: {samples} samples are too short for a frame of "
                             f"{self._frames.length}")
        return frames

    def _check_features(self, head: Head) -> None:
        if self._waves:
            raise AudioError("features, but use_audio_input is true in config.yaml")
        if head.channels != self.config.features:
            raise AudioError(f"frames of {head.channels} features, config.yaml says "
                             f"{self.config.features} (input_feat_per_channel)")

    def _read_speakers(self, folder: str) -> dict[str, int] | None:
        if self.config.speaker_set_filename is None:
            return None
        path = os.path.join(folder, self.config.speaker_set_filename)
        if not os.path.isfile(path):
            raise ConfigError(f"{self.config.path}: speaker_set_filename: {path}: no such file")
        with open(path, encoding="utf-8") as file:
            names = {line.strip(): i for i, line in enumerate(file)}
        for part in self._parts:
            for row in part.ids.tolist():
                if part.table.columns["speaker"][row] not in names:
                    raise ConfigError(f"{part.table.manifest.place(row)}: speaker "
                                      f"{part.table.columns['speaker'][row]!r} is not in {path}")
        return names

    @functools.cached_property
    def lengths(self) -> Lengths:
        """Frames (samples) and pieces of each recording, at most."""
        source, target = [], []
        plain = np.concatenate([part.lengths for part in self._parts])
        for part in self._parts:
            source.append(part.lengths if part.concat is None
                          else part.concat.longest(part.lengths))
            if self._counts is not None:
                mine = self._counts[part.first:part.first + len(part.ids)]
                joint = part.concat is not None and len(mine)
                target.append(mine + (int(mine.max()) + _JOINT if joint else 0))
        ties = np.arange(len(self))
        if self.config.shuffle and self.train and self._order_seed is not None:
            ties = np.random.RandomState(self._order_seed).permutation(len(self))
        return Lengths(source=np.concatenate(source).astype(np.int32),
                       target=np.concatenate(target).astype(np.int32) if target else None,
                       order=np.lexsort((ties, -plain)))

    @functools.cached_property
    def mixture(self) -> Resampling | None:
        """How often recordings of several tables are in an epoch (fairseq's `sampling_alpha`)."""
        alpha = self.config.sampling_alpha
        if not self.train or len(self._parts) < 2 or alpha == 1.0:
            return None
        pairs = []
        for part in self._parts:
            columns = part.table.columns
            found = sorted(set(zip(columns["src_lang"], columns["tgt_lang"], strict=True)))
            if len(found) > 1:
                raise ConfigError(f"{part.table.manifest.path}: has {len(found)} pairs of "
                                  "languages; sampling_alpha needs one a table")
            pairs.append(found[0])
        frames = np.array([float(part.lengths.sum()) for part in self._parts])
        of_pair = {pair: sum(f for f, p in zip(frames, pairs, strict=True) if p == pair)
                   for pair in pairs}
        total = sum(of_pair.values())
        wanted = {pair: (size / total) ** alpha for pair, size in of_pair.items()}
        ratios = [wanted[p] / sum(wanted.values()) * total / of_pair[p] for p in pairs]
        sizes = [len(part.ids) for part in self._parts]
        return Resampling(sizes=tuple(sizes), weights=tuple(
            ratio * size / sum(sizes) for ratio, size in zip(ratios, sizes, strict=True)))

    # ---- batches ----

    def _of(self, index: int) -> tuple[_Part, int]:
        part = self._parts[int(np.searchsorted(self._firsts, index, side="right")) - 1]
        return part, index - part.first

    def place(self, index: int) -> str:
        """Where a recording is written down, for errors."""
        part, own = self._of(index)
        return part.table.manifest.place(int(part.ids[own]))

    def _read(self, part: _Part, own: int, rng: np.random.RandomState | None) -> np.ndarray:
        """Samples [N], or features [T, F] where these are in the file."""
        row = int(part.ids[own])
        path = part.table.manifest.file(row)
        try:
            if is_features(path):
                found = read_features(path)
                self._check_features(Head(length=len(found), channels=found.shape[1]))
                return found
            samples = read_samples(path, self.reading)
            if not self._waves:
                self._frames_of(path, len(samples))
        except AudioError as error:
            raise error.at(part.table.manifest.place(row)) from None
        for transform in part.waveform if rng is not None else ():
            samples = transform(samples, self.reading.sample_rate, rng)
        return samples

    def _item(self, index: int) -> _Item | AudioError:
        part, own = self._of(index)
        rng = np.random.RandomState(item_seed(self._seed, self._epoch, index))
        numbers = [own]
        if part.concat is not None:
            other = part.concat.partner(own, part.lengths, rng)
            numbers += [] if other is None else [other]
        try:
            values = [self._read(part, number, rng) for number in numbers]
        except AudioError as error:
            return error
        if self._waves:
            values = [self._waveform(part, values, rng)]
        return _Item(values=values, numbers=numbers, rng=rng)

    def _waveform(
        self, part: _Part, values: list[np.ndarray], rng: np.random.RandomState
    ) -> np.ndarray:
        samples = self._standard(np.concatenate(values))
        if part.overlap is None:
            return samples
        others = len(part.ids), lambda own: self._standard(self._read(part, own, None))
        return part.overlap(samples, others, sample_rate=self.reading.sample_rate, rng=rng)

    def _standard(self, samples: np.ndarray) -> np.ndarray:
        return layer_norm(samples) if self.config.standardize_audio else samples

    def language(self, index: int) -> str:
        """Of a recording's text; "" where its table does not say."""
        part, own = self._of(index)
        return part.table.columns["tgt_lang"][int(part.ids[own])]

    def target(self, index: int, numbers: Sequence[int] | None = None) -> np.ndarray:
        """[T] int32 ids of a recording's text; of several (`numbers` in their table) joined."""
        part, own = self._of(index)
        assert self.texts is not None
        texts, languages = part.table.columns["tgt_text"], part.table.columns["tgt_lang"]
        rows = [int(part.ids[i]) for i in numbers or [own]]
        return self.texts.ids(" ".join(texts[row] for row in rows), languages[rows[0]])

    def materialise(
        self, ids: np.ndarray, rows: np.ndarray, shape: Shape, *, packed: bool = False,
    ) -> dict[str, np.ndarray]:
        """The arrays of a batch; see `datasets.AudioDataset.materialise`."""
        if packed:
            raise ValueError("audio is not packed: set batching.mode to bucketed or fairseq")
        found = in_parallel(self._item, [int(i) for i in ids], self.reading.threads)
        items: dict[int, tuple[int, _Item]] = {}
        for index, row, item in zip(ids.tolist(), rows.tolist(), found, strict=True):
            if isinstance(item, AudioError):
                if self.reading.on_bad == "error":
                    raise item
                self.skipped.add(item, self.place(index))
            else:
                items[row] = index, item
        batch = self._waves_of(items, shape) if self._waves else self._features_of(items, shape)
        if self.texts is not None:
            batch |= self._targets(items, shape)
        if self._speakers is not None:
            batch["speaker"] = np.zeros(shape.rows, np.int32)
            for row, (index, _) in items.items():
                part, own = self._of(index)
                name = part.table.columns["speaker"][int(part.ids[own])]
                batch["speaker"][row] = self._speakers[name]
        return batch

    def _targets(self, items: dict[int, tuple[int, _Item]], shape: Shape) -> dict[str, np.ndarray]:
        target = np.full((shape.rows, shape.target), PAD, np.int32)
        lengths = np.zeros(shape.rows, np.int32)
        for row, (index, item) in items.items():
            ids = self.target(index, item.numbers)
            target[row, :len(ids)], lengths[row] = ids, len(ids)
        return {"target": target, "target_lengths": lengths}

    def _fits(self, index: int, size: int, width: int) -> None:
        if size > width:
            raise AudioError(f"{self.place(index)}: has {size} frames or samples, the batch has "
                             f"room for {width}: is n_frames right?")

    def _waves_of(self, items: dict[int, tuple[int, _Item]], shape: Shape) -> dict[str, np.ndarray]:
        source = np.zeros((shape.rows, shape.source), np.float32)
        lengths = np.zeros(shape.rows, np.int32)
        for row, (index, item) in items.items():
            size = len(item.values[0])
            self._fits(index, size, shape.source)
            source[row, :size], lengths[row] = item.values[0], size
        return {"source": source, "source_lengths": lengths}

    def _features_of(
        self, items: dict[int, tuple[int, _Item]], shape: Shape
    ) -> dict[str, np.ndarray]:
        with _on_host():
            made = self._filterbanks(items, shape)
            source = np.zeros((shape.rows, shape.source, self.config.features), np.float32)
            frames = np.zeros(shape.rows, np.int32)
            for row, (index, item) in items.items():
                values = np.concatenate([
                    made[row, k] if value.ndim == 1 else value
                    for k, value in enumerate(item.values)])
                self._fits(index, len(values), shape.source)
                source[row, :len(values)], frames[row] = values, len(values)
            return {"source": self._transformed(source, frames, items), "source_lengths": frames}

    def _filterbanks(
        self, items: dict[int, tuple[int, _Item]], shape: Shape
    ) -> dict[tuple[int, int], np.ndarray]:
        """Features [T, F] of samples, by row and number of the recording in it."""
        from seqjax.data.audio.filterbank import log_mel

        waves = [(row, k, value) for row, (_, item) in items.items()
                 for k, value in enumerate(item.values) if value.ndim == 1]
        if not waves:
            return {}
        # Rows for two recordings each, if any has two: few shapes.
        most = shape.rows * (2 if any(part.concat for part in self._parts) else 1)
        room = (shape.source - 1) * self._frames.shift + self._frames.length
        samples = np.zeros((most, room), np.float32)
        for i, (row, _, value) in enumerate(waves):
            self._fits(items[row][0], int(self._frames.count(np.array(len(value)))), shape.source)
            samples[i, :len(value)] = value[:room]
        found = np.asarray(log_mel(samples, self._frames))
        return {(row, k): found[i, :int(self._frames.count(np.array(len(value))))]
                for i, (row, k, value) in enumerate(waves)}

    def _transformed(
        self, source: np.ndarray, frames: np.ndarray, items: dict[int, tuple[int, _Item]]
    ) -> np.ndarray:
        chains = {row: self._of(index)[0].chain for row, (index, _) in items.items()}
        found: dict[Any, np.ndarray] = {}
        for chain in dict.fromkeys(chains.values()):
            if not chain.parts:
                found[chain] = source
                continue
            rngs = [items[row][1].rng if chains.get(row) == chain else None
                    for row in range(len(source))]
            drawn = chain.draw(frames.tolist(), source.shape[2], rngs)
            found[chain] = np.asarray(chain(source, frames, drawn))
        if len(found) < 2:
            return next(iter(found.values()), self._empty(source))
        out = np.array(next(iter(found.values())))
        for row, chain in chains.items():
            out[row] = found[chain][row]
        return out

    def _empty(self, source: np.ndarray) -> np.ndarray:
        channels = self._parts[0].chain.channels(source.shape[2])
        return np.zeros((*source.shape[:2], channels), np.float32)


def _feature_kinds() -> dict[str, Any]:
    from seqjax.data.audio import feature_transforms as made

    return {"utterance_cmvn": made.UtteranceCMVN, "global_cmvn": made.GlobalCMVN,
            "delta_deltas": made.DeltaDeltas, "specaugment": made.SpecAugmented}


def _on_host() -> Any:
    """Computes on the CPU, where batches are made; on the usual device where JAX has no CPU."""
    import jax

    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return contextlib.nullcontext()
