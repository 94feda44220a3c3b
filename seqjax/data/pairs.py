"""Sentence pairs over token stores, and rows of a plan as padded arrays.

`materialise` turns sentence numbers into the arrays of a batch with one ragged gather per
side: no loop over sentences. Sources and targets are always padded on the right (fairseq
pads sources on the left: no number depends on it).
"""

from __future__ import annotations

import bisect
import functools
import itertools
import os
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from seqjax.data import id_ranges, indexed
from seqjax.data.alignments import Alignments
from seqjax.data.epoch_plan import Lengths, Shape
from seqjax.data.folder import pair_prefixes
from seqjax.data.frames import Frame, framed, framed_lengths
from seqjax.data.mixture import Mixture

PAD, EOS = 1, 2
"""Ids of padding and end of sentence in every dictionary of fairseq's."""


class TokenStore(Protocol):
    """Token arrays one after the other; `indexed.IndexedDataset` is one."""

    @property
    def lengths(self) -> np.ndarray:
        """[N] int32."""
        ...

    @property
    def tokens(self) -> np.ndarray:
        """All tokens, flat."""
        ...

    def starts(self, indices: np.ndarray | slice) -> np.ndarray:
        """[n] int64: where these arrays begin in `tokens`."""
        ...


class MemoryStore:
    """A token store made of lists or arrays of ids, each with its final eos."""

    def __init__(self, sentences: Sequence[Sequence[int] | np.ndarray]):
        self.lengths = np.array([len(s) for s in sentences], np.int32)
        self._starts = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])[:-1]
        self.tokens = (
            np.concatenate([np.asarray(s, np.int32) for s in sentences])
            if len(sentences) else np.zeros(0, np.int32)
        )

    def starts(self, indices: np.ndarray | slice) -> np.ndarray:
        return self._starts[indices]


class Side:
    """One side of a corpus: a chain of stores, some perhaps repeated.

    Args:
      stores: shards in order.
      repeats: how often each shard counts (fairseq's `--upsample-primary` is the first one's;
        None: once).
      truncate: cut longer sentences to this many tokens, the last of which is eos
        (fairseq's `--truncate-source`), what is put around the words included.
      frames: what is put around the words of each store's sentences (None: they are as stored).
      eos: its id, where there are no frames.
    """

    def __init__(
        self, stores: Sequence[TokenStore], *, repeats: Sequence[int] | None = None,
        truncate: int | None = None, frames: Sequence[Frame] | None = None, eos: int = EOS,
    ):
        self.repeats = [1] * len(stores) if repeats is None else list(repeats)
        if min(self.repeats, default=1) < 1:
            raise ValueError(f"upsample_primary={min(self.repeats)}: it must be 1 or more")
        self.stores = list(stores)
        self.truncate = truncate
        self.frames = [Frame.plain(eos)] * len(self.stores) if frames is None else list(frames)
        least = 2 + max((frame.extra for frame in self.frames), default=0)
        if truncate is not None and truncate < least:
            raise ValueError(f"sources cannot be cut to {truncate} tokens: a word and what stands "
                             f"around it are {least}")
        sizes = [len(store.lengths) for store in self.stores]
        self._sizes = sizes
        self._bounds = np.cumsum([n * r for n, r in zip(sizes, self.repeats, strict=True)])
        parts = [
            np.tile(framed_lengths(np.asarray(store.lengths), frame, truncate), r)
            for store, frame, r in zip(self.stores, self.frames, self.repeats, strict=True)
        ]
        self.lengths = parts[0] if len(parts) == 1 else np.concatenate(parts)
        """[N] int32 tokens of each sentence, eos and what else stands around it included."""

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def gather(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of sentences [n], one after the other, and their lengths [n].

        Raises:
          IndexError: a sentence that is not there.
        """
        if len(ids) and not (0 <= int(ids.min()) and int(ids.max()) < len(self)):
            raise IndexError(f"sentence {int(ids.max())} of {len(self)}")
        lengths = self.lengths[ids]
        if len(self.stores) == 1:
            rows = ids if len(self) == self._sizes[0] else ids % self._sizes[0]
            return self._of_store(0, rows, lengths), lengths
        return self._gather_many(ids, lengths), lengths

    def store_of(self, ids: np.ndarray) -> np.ndarray:
        """[n]: the number of the store that each sentence is in."""
        return np.searchsorted(self._bounds, ids, side="right")

    def _of_store(self, k: int, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The tokens of sentences of one store, `lengths` of each, one after the other."""
        frame = self.frames[k]
        stored = lengths - frame.extra
        tokens = _ragged(self.stores[k], rows, stored)
        if self.truncate is not None:
            # A cut sentence keeps its eos; one that was not cut ends in it anyway.
            ends = np.cumsum(stored, dtype=np.int64) - 1
            tokens[ends[lengths == self.truncate]] = frame.eos
        return tokens if frame.is_plain else framed(tokens, stored, frame)

    def _gather_many(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        tokens = np.empty(int(lengths.sum(dtype=np.int64)), np.int32)
        which = self.store_of(ids)
        for k in range(len(self.stores)):
            mine = which == k
            if mine.any():
                before = int(self._bounds[k - 1]) if k else 0
                rows = (ids[mine] - before) % self._sizes[k]
                tokens[np.repeat(mine, lengths)] = self._of_store(k, rows, lengths[mine])
        return tokens


def _ragged(store: TokenStore, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int32: the first `lengths` tokens of `rows` of one store, one after the other."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    if not total:
        return np.zeros(0, np.int32)
    # Index of token k of the result: its place in the result, moved by where its sentence is.
    index = np.repeat(store.starts(rows) - (ends - lengths), lengths)
    index += np.arange(total)
    return store.tokens.take(index).astype(np.int32)


def pad_rows(
    tokens: np.ndarray, fill: np.ndarray, width: int, *, pad: int = PAD
) -> np.ndarray:
    """[R, width] int32: row r holds the next `fill[r]` tokens, then padding."""
    out = np.full((len(fill), width), pad, np.int32)
    out[np.arange(width, dtype=np.int32) < fill[:, None]] = tokens
    return out


class PairDataset:
    """Source sentences and their targets (fairseq's `LanguagePairDataset`).

    Args:
      source, target: stores, or lists of id arrays with their final eos; no target where
        there is nothing to learn from (decoding), no source for a target-only corpus.
      names: what errors call the two sides.
      upsample_primary: how often the first store counts.
      truncate_source, frames: see `Side`; frames of sources and of targets, one for each store.
      starts: what decoding of each store's targets begins with, where stores differ in it:
        batches then have `target_start`.
      pad, eos: ids of padding and end of sentence.
      alignments: stores of as many arrays: see `alignments.Alignments`.

    Raises:
      ValueError: the sides, or the alignments, have different numbers of sentences.
    """

    def __init__(
        self,
        source: TokenStore | Sequence | None,
        target: TokenStore | Sequence | None = None,
        *,
        upsample_primary: int = 1,
        truncate_source: int | None = None,
        frames: tuple[Sequence[Frame], Sequence[Frame]] | None = None,
        starts: Sequence[int] | None = None,
        alignments: TokenStore | Sequence | None = None,
        names: tuple[str, str] = ("source", "target"),
        pad: int = PAD,
        eos: int = EOS,
    ):
        around = frames or (None, None)
        self.pad = pad
        self.source = _side(source, repeat_first=upsample_primary, truncate=truncate_source,
                            frames=around[0], eos=eos)
        self.target = _side(target, repeat_first=upsample_primary, frames=around[1])
        self.starts = None if starts is None else np.asarray(starts, np.int32)
        self.mixture: Mixture | None = None
        """How often sentences of several corpora are in an epoch (None: each once)."""
        self._corpora: tuple[int, ...] | None = None
        self._check(names)
        self.alignments: Alignments | None = None
        pairs = _side(alignments, repeat_first=upsample_primary)
        if pairs is not None:
            if self.source is None or self.target is None:
                raise ValueError("alignments need a source and a target")
            self.alignments = Alignments(
                pairs, source_lengths=self.source.lengths, target_lengths=self.target.lengths)

    def _check(self, names: tuple[str, str]) -> None:
        if self.source is None or self.target is None:
            return
        pairs = zip(self.source.stores, self.target.stores, strict=True)
        for a, b in pairs:
            if len(a.lengths) != len(b.lengths):
                raise ValueError(
                    f"{names[0]} has {len(a.lengths)} sentences, {names[1]} {len(b.lengths)}: "
                    f"they must be translations of each other, line by line"
                )

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        split: str,
        *,
        source_lang: str,
        target_lang: str,
        shards: bool = False,
        upsample_primary: int = 1,
        truncate_source: int | None = None,
        frames: tuple[Frame, Frame] | None = None,
        need_target: bool = True,
        alignments: Literal["none", "optional", "needed"] = "none",
        dictionaries: tuple[id_ranges.Limit, id_ranges.Limit] | None = None,
        pad: int = PAD,
        eos: int = EOS,
    ) -> PairDataset:
        """Opens `{split}.{source}-{target}.{lang}`, or the pair of the other direction.

        Args:
          shards: also open train1, train2, ... as long as there are any (fairseq does so
            for the training split).
          truncate_source: cut sources to this many tokens.
          frames: what is put around the words of sources and of targets.
          need_target: a missing target is an error, else it means decoding.
          alignments: whether to open `{split}.align.{source}-{target}` too.
          dictionaries: of source and target, whose ids all must be.
          pad, eos: ids of padding and end of sentence.

        Raises:
          FileNotFoundError: naming the files that were looked for.
          id_ranges.IdError: an id that no word has.
        """
        prefixes = pair_prefixes(
            folder, split, source=source_lang, target=target_lang, combine=shards
        )
        sources = [indexed.IndexedDataset(p + source_lang) for p in prefixes]
        targets = [
            indexed.IndexedDataset(p + target_lang) for p in prefixes
            if need_target or indexed.exists(p + target_lang)
        ]
        if targets and len(targets) != len(sources):
            raise FileNotFoundError(
                f"some shards of {prefixes[0]}* have a {target_lang} side, some have not"
            )
        for stores, limit in zip((sources, targets), dictionaries or (), strict=False):
            for store in stores:
                id_ranges.check(store.prefix, limit, store=store)
        aligned = [] if alignments == "none" else _alignments(
            os.fspath(folder), split, f"{source_lang}-{target_lang}", shards=len(prefixes),
            needed=alignments == "needed")
        each = None if frames is None else (
            [frames[0]] * len(sources), [frames[1]] * len(targets))
        return cls(
            sources, targets or None, upsample_primary=upsample_primary,
            truncate_source=truncate_source, frames=each, alignments=aligned or None,
            names=(prefixes[0] + source_lang, prefixes[0] + target_lang), pad=pad, eos=eos,
        )

    @classmethod
    def joined(
        cls, corpora: Sequence[PairDataset], *, starts: Sequence[int] | None = None,
    ) -> PairDataset:
        """Several corpora, one after the other, each as it is.

        Args:
          corpora: without alignments; all with targets, or none.
          starts: what decoding of each corpus's targets begins with, where they differ in it.
        """
        out = cls.__new__(cls)
        out.source = _chain([c.source for c in corpora])
        out.target = _chain([c.target for c in corpora])
        out.alignments, out.mixture, out.pad = None, None, corpora[0].pad
        out._corpora = tuple(itertools.accumulate(len(c) for c in corpora))
        stores = [len(c.source.stores) for c in corpora if c.source is not None]
        out.starts = None if starts is None else np.repeat(
            np.asarray(starts, np.int32), stores)
        return out

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def lengths(self) -> Lengths:
        """What planning works on."""
        return self._lengths

    @functools.cached_property
    def _lengths(self) -> Lengths:
        return Lengths(
            source=None if self.source is None else self.source.lengths,
            target=None if self.target is None else self.target.lengths,
        )

    def materialise(
        self, ids: np.ndarray, rows: np.ndarray, shape: Shape, *, packed: bool = False,
    ) -> dict[str, np.ndarray]:
        """The arrays of a batch.

        Args:
          ids: [n] int64 sentences, in row order.
          rows: [n], not decreasing: the row of each; rows without a sentence are padding.
          shape: rows and padded lengths; a side of length 0 is left out.
          packed: several sentences share a row; adds `*_segments`.

        Returns:
          `source` [rows, S] and `target` [rows, T] int32; if packed also
          `source_segments` and `target_segments`: 1, 2, ... in each row, 0 on padding;
          with alignments also `aligned_source` and `aligned_target`.

        Raises:
          ValueError: a row that does not fit; names its sentences.
        """
        batch = {}
        segment = segment_numbers(rows) if packed else None
        for name, side, width in (
            ("source", self.source, shape.source), ("target", self.target, shape.target)
        ):
            if width == 0:
                continue
            if side is None:
                raise ValueError(f"the plan asks for a {name}, which this dataset has not")
            tokens, lengths = side.gather(ids)
            fill = np.bincount(rows, lengths, minlength=shape.rows).astype(np.int32)
            check_fit(ids, rows, fill, shape, name=name, width=width)
            batch[name] = pad_rows(tokens, fill, width, pad=self.pad)
            if segment is not None:
                numbers = np.zeros((shape.rows, width), np.int32)
                numbers[np.arange(width, dtype=np.int32) < fill[:, None]] = np.repeat(
                    segment, lengths
                )
                batch[f"{name}_segments"] = numbers
            if name == "target" and self.starts is not None:
                batch["target_start"] = self._starts(ids, rows, lengths, shape, packed=packed)
        if self.alignments is not None:
            width = self.alignments.width(shape.source, shape.target)
            batch |= self.alignments.materialise(ids, rows, count=shape.rows, width=width)
        return batch

    def _starts(
        self, ids: np.ndarray, rows: np.ndarray, lengths: np.ndarray, shape: Shape, *,
        packed: bool,
    ) -> np.ndarray:
        """What decoding begins with: of each row [B], or of the sentence at each position
        [B, T]."""
        assert self.target is not None and self.starts is not None
        each = self.starts[self.target.store_of(ids)]
        if packed:
            fill = np.bincount(rows, lengths, minlength=shape.rows).astype(np.int32)
            return pad_rows(np.repeat(each, lengths), fill, shape.target, pad=self.pad)
        out = np.full(shape.rows, self.pad, np.int32)
        out[rows] = each
        return out

    @property
    def corpus_bounds(self) -> tuple[int, ...]:
        """Where each of the `joined` corpora ends."""
        return (len(self),) if self._corpora is None else self._corpora

    def corpus_of(self, index: int) -> int:
        """The number of the corpus that a sentence is of."""
        return bisect.bisect_right(self.corpus_bounds, index)

    def sentence(self, index: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Source and target ids of one sentence, eos included."""
        ids = np.array([index])
        return (
            None if self.source is None else self.source.gather(ids)[0],
            None if self.target is None else self.target.gather(ids)[0],
        )


def check_fit(
    ids: np.ndarray, rows: np.ndarray, fill: np.ndarray, shape: Shape, *, name: str, width: int
) -> None:
    """Refuses sentences that are longer than their rows of a batch, or more than it has.

    Args:
      ids, rows: sentences and their rows.
      fill: tokens of each row.
      name: of the side, for the error.
      width: tokens that a row has room for.

    Raises:
      ValueError: naming the row and its sentences.
    """
    if len(fill) > shape.rows or (len(fill) and int(fill.max()) > width):
        r = int(fill.argmax()) if len(fill) == shape.rows else shape.rows
        raise ValueError(
            f"{name} of row {r} has {int(fill[r])} tokens, the batch is "
            f"{shape.rows} x {width}; sentences {ids[rows == r].tolist()}"
        )


def segment_numbers(rows: np.ndarray) -> np.ndarray:
    """[n] int32: 1, 2, ... within each run of equal rows."""
    place = np.arange(len(rows))
    first = np.ones(len(rows), bool)
    first[1:] = rows[1:] != rows[:-1]
    return (place - np.maximum.accumulate(np.where(first, place, 0)) + 1).astype(np.int32)


def _chain(sides: Sequence[Side | None]) -> Side | None:
    """Sides one after the other; None where none is there.

    Raises:
      ValueError: some are there and some are not.
    """
    found = [side for side in sides if side is not None]
    if not found:
        return None
    if len(found) < len(sides):
        raise ValueError("some corpora have targets, some have not")
    return Side([s for side in found for s in side.stores],
                repeats=[r for side in found for r in side.repeats],
                frames=[f for side in found for f in side.frames],
                truncate=found[0].truncate)


def _side(
    data, *, repeat_first: int, truncate: int | None = None,
    frames: Sequence[Frame] | None = None, eos: int = EOS,
) -> Side | None:
    if data is None:
        return None
    if hasattr(data, "tokens"):
        stores = [data]
    elif len(data) and hasattr(data[0], "tokens"):
        stores = data
    else:
        stores = [MemoryStore(data)]
    return Side(stores, repeats=[repeat_first, *[1] * (len(stores) - 1)], truncate=truncate,
                frames=frames, eos=eos)


def _alignments(
    folder: str, split: str, pair: str, *, shards: int, needed: bool
) -> list[indexed.IndexedDataset]:
    """The alignments of every shard, or none where none has any and none are needed."""
    paths = [os.path.join(folder, f"{split}{k or ''}.align.{pair}") for k in range(shards)]
    missing = [path for path in paths if not indexed.exists(path)]
    if missing and (needed or len(missing) < len(paths)):
        raise FileNotFoundError(
            f"{missing[0]}.idx: no alignments of that name (load_alignments); make them with "
            "python -m seqjax.preprocess --align-suffix")
    return [] if missing else [indexed.IndexedDataset(path) for path in paths]
