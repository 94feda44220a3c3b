"""Batches of waveforms: recordings of a manifest and their labels in, padded arrays out.

    manifest = AudioManifest.read("data/train.tsv")
    dataset = AudioDataset(
        manifest, clips=Clips(max_sample_size=250_000, min_sample_size=32_000, pad=False),
        reading=Reading(), labels=[load_labels(manifest, "km", rate=50.0)], seed=1)
    plan = make_plan(dataset.lengths, config.batching, seed=1)        # of samples, not of tokens
    with open_batches(plan, dataset, batching=config.batching) as batches: ...

| key | shape | what |
| --- | --- | --- |
| `source` | [B, N] float32 | samples, 0 behind each recording |
| `source_lengths` | [B] int32 | how many are real; 0 in rows of padding and of what is skipped |
| `target` | [B, T] int32 | ids of labels, padded on the right; of frames, those in `source` |
| `target_lengths` | [B] int32 | how many |
| `target_1`, ... | | those of further labels |

The files of a batch are read several at a time, by threads of ours, in tf.data's pipeline and
without it. What is drawn (where a part begins, how a waveform is changed) is a pure function of
(seed, epoch, number of the recording in its manifest).
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np

from seqjax.data.audio.labels import Labels
from seqjax.data.audio.manifests import AudioManifest, look
from seqjax.data.audio.reading import (
    AudioError,
    Reading,
    in_parallel,
    layer_norm,
    read_samples,
)
from seqjax.data.bucketing import choose_lengths
from seqjax.data.epoch_plan import Lengths, Shape
from seqjax.data.item_seed import item_seed
from seqjax.data.pairs import PAD

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clips:
    """Which recordings are used, and how much of each (names as in fairseq)."""

    max_sample_size: int | None = None
    """Longer recordings are cut to so many samples."""
    min_sample_size: int | None = None
    """Shorter recordings are left out."""
    max_keep_size: int | None = None
    """Longer recordings are left out."""
    pad: bool = True
    """Pad shorter recordings of a batch (fairseq's `enable_padding` and `pad_audio`). Without it
    they are cut, none of more than `num_buckets` lengths, so that batches have no padding. (fairseq
    cuts a batch to its shortest recording, whatever that is.)"""
    random_crop: bool = True
    """A part begins anywhere, drawn anew every epoch; else it is the beginning."""
    num_buckets: int = 8
    """Without `pad`: lengths that there are at most."""
    length_multiple: int = 8
    """Without `pad`: lengths are multiples of this (that of the batches)."""

    def __post_init__(self) -> None:
        for name in ("max_sample_size", "max_keep_size", "num_buckets", "length_multiple"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not positive")
        if (self.min_sample_size or 0) > (self.max_sample_size or np.inf):
            raise ValueError(f"min_sample_size: {self.min_sample_size} is more than "
                             f"max_sample_size, {self.max_sample_size}")

    def lengths(self, whole: np.ndarray) -> np.ndarray:
        """[n] int64 samples that are used of recordings of `whole` [n]."""
        most = whole if self.max_sample_size is None else np.minimum(whole, self.max_sample_size)
        if self.pad or not len(most):
            return most
        floors = np.maximum(most // self.length_multiple * self.length_multiple, 1)
        # The lengths that lose least: those that pad least, seen from the longest one down.
        lost = floors.max() - floors
        menu = choose_lengths(lost, np.zeros_like(lost), num_shapes=self.num_buckets,
                              length_multiple=1)
        kept = np.sort([floors.max() - s for s, _ in menu])
        return kept[np.searchsorted(kept, floors, side="right") - 1]

    def start(self, excess: int, rng: np.random.RandomState) -> int:
        """Where a part begins of a recording that is `excess` samples longer: any start there is,
        as fairseq draws it."""
        if excess <= 0 or not self.random_crop:
            return 0
        return int(rng.randint(0, excess + 1))


class WaveformTransform(Protocol):
    """Changes samples; see `augmentation`."""

    def longest(self, lengths: np.ndarray) -> np.ndarray:
        """[n] the most samples that recordings of `lengths` [n] become."""
        ...

    def __call__(
        self, samples: np.ndarray, sample_rate: int, rng: np.random.RandomState
    ) -> np.ndarray:
        """[N'] for samples [N] in [-1, 1]."""
        ...


@dataclasses.dataclass
class Skipped:
    """Recordings that turned out to be unusable when they were read."""

    places: set[str] = dataclasses.field(default_factory=set)
    """Of each."""

    def add(self, error: AudioError, place: str) -> None:
        """Counts one, and says so."""
        if place not in self.places:
            self.places.add(place)
            logger.warning("skipped, %d so far: %s", len(self.places), error)


@dataclasses.dataclass(frozen=True)
class _Item:
    samples: np.ndarray
    start: int
    """Where they begin in the recording."""
    cut: bool
    """They are not all of it."""


class AudioDataset:
    """Recordings of a manifest; what a batch of them is stands above.

    Args:
      manifest: the recordings.
      reading: how they are read, and what becomes of bad ones.
      clips: which of them, and how much.
      labels: sequences of ids, of which there may be several.
      normalize: subtract the mean of every recording and divide by its deviation, before it is cut:
        what is added to the variance (fairseq's `normalize` is 1e-5), or None: samples stay as
        they are.
      transforms: of the waveform, before that.
      seed, epoch: with a recording's number, all that is drawn depends on.
      order_seed: of fairseq's order of recordings (`batching.mode=fairseq`; None: the order in
        which they are listed).
      pad: id of padding in targets.

    Raises:
      AudioError: a recording that cannot be used (`manifests.look`); none that can.
      SourceError: none of a length that is wanted.
    """

    def __init__(
        self, manifest: AudioManifest, *, reading: Reading, clips: Clips | None = None,
        labels: Sequence[Labels] = (), normalize: float | None = None,
        transforms: Sequence[WaveformTransform] = (), seed: int = 1, epoch: int = 1,
        order_seed: int | None = None, pad: int = PAD,
    ):
        self.manifest, self.reading, self.clips = manifest, reading, clips or Clips()
        self.labels, self.pad = tuple(labels), pad
        self._normalize, self._transforms = normalize, tuple(transforms)
        self._seed, self._epoch, self._order_seed = seed, epoch, order_seed
        self.skipped = Skipped()
        ids = manifest.within(self.clips.min_sample_size, self.clips.max_keep_size)
        if reading.resample and not reading.check:
            raise ValueError("resample needs check: nothing else says how long recordings are "
                             "at another rate")
        if reading.check:
            heads = look(manifest, ids, reading)
            ids, whole = heads.ids, heads.lengths
        else:
            whole = manifest.frames[ids]
        self.ids = ids
        """[N] int64: the number in the manifest of each recording that is used."""
        self.whole = whole
        """[N] int64 samples of each."""
        for transform in self._transforms:
            whole = transform.longest(whole)
        self._longest = whole
        self._used = self.clips.lengths(whole)
        for part in self.labels:
            part.check_durations(manifest, ids, self.whole, reading.sample_rate)

    def __len__(self) -> int:
        return len(self.ids)

    def at_epoch(self, epoch: int) -> Self:
        """The same recordings, as they are in another epoch."""
        found = copy.copy(self)
        found._epoch = epoch
        return found

    @functools.cached_property
    def lengths(self) -> Lengths:
        """Samples that are used of each recording, and labels that go with all of it."""
        sequences = [part.counts[self.ids] for part in self.labels if not part.of_frames]
        order = np.arange(len(self))
        if self._order_seed is not None:
            ties = np.random.RandomState(self._order_seed).permutation(len(self))
            order = np.lexsort((ties, self._used))[::-1]
        return Lengths(source=self._used.astype(np.int32),
                       target=np.max(sequences, axis=0).astype(np.int32) if sequences else None,
                       order=order)

    def samples(self, index: int) -> np.ndarray:
        """[N] float32: what is used of a recording in this epoch.

        Raises:
          AudioError: it cannot be read; names its line.
        """
        return self._item(index).samples

    def _item(self, index: int) -> _Item:
        number, used = int(self.ids[index]), int(self._used[index])
        rng = np.random.RandomState(item_seed(self._seed, self._epoch, number))
        try:
            if self._normalize is None and not self._transforms:
                start = self.clips.start(int(self.whole[index]) - used, rng)
                samples = self._read(number, start, start + used)
                return _Item(samples, start, used < int(self.whole[index]))
            samples = self._read(number, 0, None)
        except AudioError as error:
            raise error.at(self.manifest.place(number)) from None
        for transform in self._transforms:
            samples = transform(samples, self.reading.sample_rate, rng)
        if self._normalize is not None:
            samples = layer_norm(samples, eps=self._normalize)
        start = self.clips.start(len(samples) - used, rng)
        return _Item(samples[start:start + used], start, used < len(samples))

    def _read(self, number: int, start: int, stop: int | None) -> np.ndarray:
        return read_samples(self.manifest.file(number), self.reading, start=start, stop=stop,
                            said=int(self.manifest.frames[number]))

    def _item_or_error(self, index: int) -> _Item | AudioError:
        try:
            return self._item(index)
        except AudioError as error:
            return error

    def materialise(
        self, ids: np.ndarray, rows: np.ndarray, shape: Shape, *, packed: bool = False,
    ) -> dict[str, np.ndarray]:
        """The arrays of a batch.

        Args:
          ids: [n] recordings of this dataset.
          rows: [n] the row of each.
          shape: rows, samples and labels of a sequence.

        Raises:
          AudioError: a recording that cannot be read, unless these are skipped; names its line.
          ValueError: a packed batch.
        """
        if packed:
            raise ValueError("audio is not packed: set batching.mode to bucketed or fairseq")
        found = in_parallel(self._item_or_error, [int(i) for i in ids], self.reading.threads)
        source = np.zeros((shape.rows, shape.source), np.float32)
        lengths = np.zeros(shape.rows, np.int32)
        items: dict[int, tuple[int, _Item]] = {}
        for index, row, item in zip(ids.tolist(), rows.tolist(), found, strict=True):
            if isinstance(item, AudioError):
                if self.reading.on_bad == "error":
                    raise item
                self.skipped.add(item, self.manifest.place(int(self.ids[index])))
                continue
            size = len(item.samples)
            source[row, :size], lengths[row] = item.samples, size
            items[row] = index, item
        batch = {"source": source, "source_lengths": lengths}
        for k, part in enumerate(self.labels):
            name = "target" if not k else f"target_{k}"
            batch[name], batch[f"{name}_lengths"] = self._targets(part, items, shape)
        return batch

    def _targets(
        self, part: Labels, items: dict[int, tuple[int, _Item]], shape: Shape
    ) -> tuple[np.ndarray, np.ndarray]:
        """[B, T] ids and how many in each row [B]."""
        rate = self.reading.sample_rate
        width = part.span(0, shape.source, rate)[1] if part.of_frames else shape.target
        target = np.full((shape.rows, width), self.pad, np.int32)
        lengths = np.zeros(shape.rows, np.int32)
        for row, (index, item) in items.items():
            found = part.ids(int(self.ids[index]))
            if part.of_frames:
                if item.cut:
                    first, count = part.span(item.start, len(item.samples), rate)
                    found = found[first:first + count]
                found = found[:width]
            target[row, :len(found)], lengths[row] = found, len(found)
        return target, lengths
