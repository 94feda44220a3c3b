"""Blocks of a corpus as samples of which something is drawn: masks, noise.

Token stores go in; batches come out whose every item is a pure function of (seed, epoch, its
number), so that it is the same on any number of hosts and in whatever order it is made.
`FramedBlocks` cuts and frames the text, a `Noise` makes a sample of a block, `NoisedBlocks`
joins both; `CombinedBlocks` puts several corpora one behind the other.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np

from seqjax.data.blocks import BreakMode, ShortenMethod, Stream, as_stores, plan_blocks
from seqjax.data.epoch_plan import Lengths, Shape
from seqjax.data.item_seed import item_seed
from seqjax.data.pairs import PAD, TokenStore, check_fit, pad_rows, segment_numbers
from seqjax.data.resampling import Resampling

Sample = tuple[np.ndarray, np.ndarray]
"""Source and target ids."""


class Noise(Protocol):
    """What samples are made of blocks by."""

    def lengths(self, sizes: np.ndarray) -> Lengths:
        """Tokens of the longest samples that blocks of `sizes` [N] tokens become. Without a
        target, targets are as long as sources."""
        ...

    def __call__(self, tokens: np.ndarray, seed: int, *, limit: int) -> Sample:
        """The sample of a block; `limit` is what `lengths` said of its source."""
        ...


class _Stripped:
    """A store whose sentences have lost their final eos."""

    def __init__(self, store: TokenStore, eos: int):
        self.tokens, self._store = store.tokens, store
        whole = np.asarray(store.lengths)
        last = store.starts(slice(None)) + np.maximum(whole, 1) - 1
        ends = np.zeros(len(whole), bool)
        if len(whole):
            ends = (store.tokens.take(np.minimum(last, len(store.tokens) - 1)) == eos) & (whole > 0)
        self.lengths = (whole - ends).astype(np.int32)

    def starts(self, indices: np.ndarray | slice) -> np.ndarray:
        return self._store.starts(indices)


class FramedBlocks:
    """Blocks of running text, each with `<s>` in front and perhaps a last token.

    Args:
      stores: one store, several shards, or a list of id arrays with their final eos.
      tokens_per_sample: tokens of a block, those of its frame among them.
      break_mode: see `blocks.plan_blocks`. With `strip`, an empty line (nothing but eos) ends a
        document all the same.
      bos: what stands in front of every block.
      end: what stands behind it (None: nothing).
      strip: take this id away from the ends of sentences (None: it stays).
      shorten_method, seed: see `blocks.Stream`; sentences are cut to what a block has room for.
        (fairseq cuts them to `tokens_per_sample`: with the frame they are too long again.)

    Raises:
      ValueError: there is no token.
    """

    def __init__(
        self, stores: Any, *, tokens_per_sample: int, break_mode: BreakMode, bos: int,
        end: int | None = None, strip: int | None = None,
        shorten_method: ShortenMethod = "none", seed: int = 1,
    ):
        parts = as_stores(stores)
        if strip is not None:
            parts = [_Stripped(part, strip) for part in parts]
        room = tokens_per_sample - 1 - (end is not None)
        self.stream = Stream(parts, shorten=shorten_method, limit=room, seed=seed)
        self._bos, self._end = bos, end
        slices = plan_blocks(
            self.stream.lengths, tokens_per_sample=room,
            break_mode=break_mode, document_separator=int(strip is None))
        self.slices = slices[slices[:, 1] > slices[:, 0]]
        """[n, 2] int64: where blocks begin and end in the stream."""
        if not len(self.slices):
            raise ValueError("the corpus has no tokens to make blocks of")

    def __len__(self) -> int:
        return len(self.slices)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """[n] int32 tokens of each block, with its frame."""
        frame = 1 + (self._end is not None)
        return (self.slices[:, 1] - self.slices[:, 0] + frame).astype(np.int32)

    def gather(self, ids: np.ndarray) -> list[np.ndarray]:
        """The tokens of blocks [n], each [its size] int32."""
        begin, end = self.slices[ids, 0], self.slices[ids, 1]
        sizes = end - begin
        before = np.cumsum(sizes) - sizes
        tokens = self.stream.take(np.repeat(begin - before, sizes) + np.arange(int(sizes.sum())))
        first = np.array([self._bos], np.int32)
        last = np.array([] if self._end is None else [self._end], np.int32)
        return [np.concatenate([first, part, last])
                for part in np.split(tokens, before[1:])] if len(ids) else []


class _Batches:
    """Batches of items that are made one by one, whatever they are."""

    lengths: Lengths
    pad: int
    """Id of padding."""

    def __len__(self) -> int:
        return len(self.lengths)

    def samples(self, ids: np.ndarray) -> list[Sample]:
        """The items of numbers [n]."""
        raise NotImplementedError

    def sentence(self, index: int) -> Sample:
        """Source and target ids of one item."""
        return self.samples(np.array([index]))[0]

    @property
    def target(self) -> Self:
        """Every item has a target."""
        return self

    def materialise(
        self, ids: np.ndarray, rows: np.ndarray, shape: Shape, *, packed: bool = False,
    ) -> dict[str, np.ndarray]:
        """The arrays of a batch; see `pairs.PairDataset.materialise`. Of items whose targets are
        as long as their sources (`shape.target` is 0), both are [rows, S]."""
        found = self.samples(ids)
        numbers = segment_numbers(rows)
        batch = {}
        for k, (name, width) in enumerate(
                (("source", shape.source), ("target", shape.target or shape.source))):
            lengths = np.array([len(sample[k]) for sample in found], np.int64)
            fill = np.bincount(rows, lengths, minlength=shape.rows).astype(np.int32)
            check_fit(ids, rows, fill, shape, name=name, width=width)
            tokens = np.concatenate([sample[k] for sample in found] or [np.zeros(0, np.int32)])
            batch[name] = pad_rows(tokens, fill, width, pad=self.pad)
            if packed:
                segments = pad_rows(np.repeat(numbers, lengths), fill, width)
                segments[np.arange(width) >= fill[:, None]] = 0
                batch[f"{name}_segments"] = segments
        return batch


class NoisedBlocks(_Batches):
    """Samples of blocks, drawn anew every epoch.

    Args:
      blocks: the text.
      noise: what is drawn.
      seed, epoch: with the number of a block, all that a sample depends on.
      longest: tokens of the longest source (None: as long as the noise makes it). A block that
        is longer by itself stays so.
      pad: id of padding.
      order_seed: of fairseq's order of blocks of one length (None: the corpus's order).
    """

    def __init__(
        self, blocks: FramedBlocks, noise: Noise, *, seed: int, epoch: int = 1,
        longest: int | None = None, pad: int = PAD, order_seed: int | None = None,
    ):
        self.pad = pad
        self.blocks, self._noise = blocks, noise
        self._seed, self._epoch = seed, epoch
        self._longest, self._order_seed = longest, order_seed

    def at_epoch(self, epoch: int) -> Self:
        """The same blocks, as they are in another epoch."""
        found = copy.copy(self)
        found._epoch = epoch
        return found

    @functools.cached_property
    def lengths(self) -> Lengths:  # type: ignore[override]
        """What planning works on: the longest that samples may be."""
        sizes = self.blocks.sizes
        found = self._noise.lengths(sizes)
        source = np.asarray(found.source)
        if self._longest is not None:
            source = np.minimum(source, np.maximum(sizes, self._longest))
        ties = np.arange(len(sizes))
        if self._order_seed is not None:
            ties = np.random.RandomState(self._order_seed).permutation(len(sizes))
        target = None if found.target is None else found.target.astype(np.int32)
        return Lengths(source=source.astype(np.int32), target=target, ties=ties)

    def samples(self, ids: np.ndarray) -> list[Sample]:
        """The items of numbers [n]."""
        limits = self.lengths.side("source")[ids]
        return [
            self._noise(tokens, item_seed(self._seed, self._epoch, int(i)), limit=int(limit))
            for i, tokens, limit in zip(ids, self.blocks.gather(ids), limits, strict=True)]


class CombinedBlocks(_Batches):
    """Several corpora, one behind the other.

    Args:
      parts: samples of each.
      mixture: how often each one's samples are in an epoch (None: every sample once).
    """

    def __init__(
        self, parts: Sequence[NoisedBlocks], *, mixture: Resampling | None = None,
    ):
        self.parts, self.mixture, self.pad = tuple(parts), mixture, parts[0].pad
        self._first = np.concatenate([[0], np.cumsum([len(part) for part in parts])])

    def at_epoch(self, epoch: int) -> Self:
        """The same corpora, as they are in another epoch."""
        found = copy.copy(self)
        found.parts = tuple(part.at_epoch(epoch) for part in self.parts)
        return found

    @functools.cached_property
    def lengths(self) -> Lengths:  # type: ignore[override]
        """What planning works on."""
        parts = [part.lengths for part in self.parts]
        target = None if parts[0].target is None else np.concatenate(
            [part.side("target") for part in parts])
        return Lengths(source=np.concatenate([part.side("source") for part in parts]),
                       target=target)

    def samples(self, ids: np.ndarray) -> list[Sample]:
        """The items of numbers [n]."""
        which = np.searchsorted(self._first, ids, side="right") - 1
        found: dict[int, Sample] = {}
        for k, part in enumerate(self.parts):
            mine = np.flatnonzero(which == k)
            if len(mine):
                made = part.samples(ids[mine] - self._first[k])
                found |= dict(zip(mine.tolist(), made, strict=True))
        return [found[i] for i in range(len(ids))]
