"""Blocks of tokens for language models, planned from sentence lengths.

A corpus is one stream of tokens, its sentences one after the other, that is cut into
blocks: fairseq's `TokenBlockDataset` and `MonolingualDataset`, block for block. Lengths go
in, spans of the stream come out; `TokenBlocks` makes arrays of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from seqjax.data.epoch_plan import Lengths, Shape
from seqjax.data.pairs import (
    MemoryStore,
    TokenStore,
    check_fit,
    pad_rows,
    segment_numbers,
)
from seqjax.data.vocabulary import FAIRSEQ_IDS

BreakMode = Literal["none", "complete", "complete_doc", "eos"]
ShortenMethod = Literal["none", "truncate", "random_crop"]


def plan_blocks(
    lengths: np.ndarray, *, tokens_per_sample: int, break_mode: BreakMode = "none",
    document_separator: int = 1,
) -> np.ndarray:
    """Where blocks begin and end in the stream, [n, 2] int64.

    Args:
      lengths: [N] tokens of each sentence, eos included.
      tokens_per_sample: longest block, but for sentences that are longer by themselves.
      break_mode: `none` cuts anywhere; `complete` between sentences only; `complete_doc`
        also between documents, which an empty sentence (eos alone) separates and which is
        left out; `eos` makes every sentence a block.
      document_separator: length of such a sentence.

    Raises:
      ValueError: `tokens_per_sample` is not positive.
    """
    if tokens_per_sample < 1 and break_mode != "eos":
        raise ValueError(f"tokens_per_sample={tokens_per_sample}: blocks need 1 token or more")
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    if break_mode == "none":
        starts = np.arange(0, total, tokens_per_sample, dtype=np.int64)
        return np.stack([starts, np.minimum(starts + tokens_per_sample, total)], axis=1)
    if break_mode == "eos":
        return np.stack([ends - lengths, ends], axis=1)
    if break_mode == "complete":
        blocks = _whole_sentences(ends, 0, len(ends), tokens_per_sample)
        return np.array(blocks, np.int64).reshape(-1, 2)
    if break_mode != "complete_doc":
        raise ValueError(f"sample_break_mode: {break_mode!r} is unknown")
    blocks, first = [], 0
    for last in [*np.flatnonzero(lengths == document_separator).tolist(), len(ends)]:
        blocks += _whole_sentences(ends, first, last, tokens_per_sample)
        first = last + 1
    result = np.array(blocks, np.int64).reshape(-1, 2)
    return result[result[:, 1] - result[:, 0] > 1]


def _whole_sentences(
    ends: np.ndarray, first: int, last: int, limit: int
) -> list[tuple[int, int]]:
    """Blocks of sentences `first` to `last` (exclusive): as many as fit, at least one."""
    blocks, start = [], int(ends[first - 1]) if first else 0
    while first < last:
        following = int(np.searchsorted(ends, start + limit, side="right"))
        first = min(max(following, first + 1), last)
        end = int(ends[first - 1])
        if end > start:
            blocks.append((start, end))
        start = end
    return blocks


class Stream:
    """The tokens of a chain of stores as one sequence, its sentences perhaps shortened.

    Args:
      stores: shards in order.
      shorten: keep at most `limit` tokens of each sentence: the first ones (`truncate`) or
        a window drawn once for each sentence (`random_crop`; fairseq draws it from the seed
        and the sentence's number, the same in every epoch).
      limit: tokens.
      seed: of `random_crop`.
    """

    def __init__(
        self, stores: Sequence[TokenStore], *, shorten: ShortenMethod = "none",
        limit: int = 0, seed: int = 1,
    ):
        self.stores = list(stores)
        sizes = [len(store.lengths) for store in self.stores]
        self._first = np.concatenate([[0], np.cumsum(sizes)])
        parts = [np.asarray(store.lengths) for store in self.stores]
        self._whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self.lengths = self._whole if shorten == "none" else np.minimum(self._whole, limit)
        """[N] tokens of each sentence."""
        self._ends = np.cumsum(self.lengths, dtype=np.int64)
        self._seed = seed if shorten == "random_crop" else None
        self._plain = len(parts) == 1 and shorten == "none" and bool(
            np.array_equal(self.stores[0].starts(slice(None)), self._ends - self.lengths)
        )

    def __len__(self) -> int:
        """Tokens."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def at_sentence_start(self, positions: np.ndarray) -> np.ndarray:
        """Whether a sentence begins at each position [n]."""
        sentence = np.searchsorted(self._ends, positions, side="right")
        before = np.where(sentence > 0, self._ends[np.maximum(sentence - 1, 0)], 0)
        return positions == before

    def take(self, positions: np.ndarray) -> np.ndarray:
        """int32: the tokens at `positions` [n] of the stream."""
        if self._plain:
            return self.stores[0].tokens.take(positions).astype(np.int32)
        sentence = np.searchsorted(self._ends, positions, side="right")
        offset = positions - (self._ends - self.lengths)[sentence]
        if self._seed is not None:
            offset = offset + self._crops(sentence)
        which = np.searchsorted(self._first, sentence, side="right") - 1
        out = np.empty(len(positions), np.int32)
        for k, store in enumerate(self.stores):
            mine = which == k
            if mine.any():
                starts = store.starts(sentence[mine] - self._first[k])
                out[mine] = store.tokens.take(starts + offset[mine])
        return out

    def _crops(self, sentences: np.ndarray) -> np.ndarray:
        """[n]: where the window of each sentence begins in it."""
        used, place = np.unique(sentences, return_inverse=True)
        excess = self._whole[used] - self.lengths[used]
        starts = [
            crop_start(int(i), int(e), seed=self._seed or 0) if e else 0
            for i, e in zip(used, excess, strict=True)
        ]
        return np.array(starts, np.int64)[place]


def crop_start(sentence: int, excess: int, *, seed: int) -> int:
    """Where fairseq's `random_crop` begins in a sentence that is `excess` tokens too long.

    The state of its generator is CPython's hash of (seed, epoch, sentence), with an epoch
    that never leaves 0 under blocks.
    """
    state = int(hash((seed, 0, sentence)) % 1e6)
    return int(np.random.RandomState(state).randint(0, excess))


class TokenBlocks:
    """Blocks to predict and what comes before each of their tokens.

    Args:
      stores: one store, several shards, or a list of id arrays with their final eos.
      tokens_per_sample, break_mode: see `plan_blocks`.
      add_bos_token: put `<s>` in front of every block, on both sides.
      output_size: ids from here on are predicted as `<unk>` (None: all are predicted).
      shorten_method, seed: see `Stream`; sentences are cut to `tokens_per_sample`.
      special_ids: of `<s>`, padding, eos and `<unk>`.

    Raises:
      ValueError: there is no token.
    """

    def __init__(
        self, stores: TokenStore | Sequence[TokenStore] | Sequence[np.ndarray], *,
        tokens_per_sample: int, break_mode: BreakMode = "none", add_bos_token: bool = False,
        output_size: int | None = None, shorten_method: ShortenMethod = "none", seed: int = 1,
        special_ids: tuple[int, int, int, int] = FAIRSEQ_IDS,
    ):
        self.bos, self.pad, self.eos, self.unk = special_ids
        self.stream = Stream(
            as_stores(stores), shorten=shorten_method, limit=tokens_per_sample, seed=seed
        )
        self.slices = plan_blocks(
            self.stream.lengths, tokens_per_sample=tokens_per_sample, break_mode=break_mode
        )
        """[n, 2] int64: where blocks begin and end in the stream."""
        if not len(self.slices):
            raise ValueError("the corpus has no tokens to make blocks of")
        self.add_bos_token = add_bos_token
        self.output_size = output_size

    def __len__(self) -> int:
        return len(self.slices)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """[n] int32 tokens of each block without `<s>`, which is what fairseq counts."""
        return (self.slices[:, 1] - self.slices[:, 0]).astype(np.int32)

    @property
    def lengths(self) -> Lengths:
        """What planning works on."""
        return self._lengths

    @functools.cached_property
    def _lengths(self) -> Lengths:
        return Lengths(target=self.sizes + np.int32(self.add_bos_token))

    def gather(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs and targets of blocks [n], one after the other, and their lengths [n].

        The first input of a block is eos where a sentence begins there, else the token
        before it in the stream.
        """
        begin, sizes = self.slices[ids, 0], self.sizes[ids].astype(np.int64)
        extra = int(self.add_bos_token)
        lengths = sizes + extra
        ends = np.cumsum(lengths)
        firsts = ends - lengths
        words = np.ones(int(ends[-1]) if len(ends) else 0, bool)
        if extra:
            words[firsts] = False
        index = np.repeat(begin - (np.cumsum(sizes) - sizes), sizes)
        index += np.arange(len(index))
        target = np.full(len(words), self.bos, np.int32)
        target[words] = self.stream.take(index)
        source = np.empty_like(target)
        source[1:] = target[:-1]
        source[firsts + extra] = np.where(
            self.stream.at_sentence_start(begin), self.eos,
            self.stream.take(np.maximum(begin - 1, 0)),
        )
        if extra:
            source[firsts] = self.bos
        if self.output_size is not None:
            target[target >= self.output_size] = self.unk
        return source, target, lengths.astype(np.int32)

    def block(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of one block."""
        source, target, _ = self.gather(np.array([index]))
        return source, target

    def materialise(
        self, ids: np.ndarray, rows: np.ndarray, shape: Shape, *, packed: bool = False,
    ) -> dict[str, np.ndarray]:
        """The arrays of a batch; see `pairs.PairDataset.materialise`.

        Returns:
          `source` (what came before) and `target`, [rows, T] int32; if packed also
          `target_segments`, which is for both.
        """
        source, target, lengths = self.gather(ids)
        fill = np.bincount(rows, lengths, minlength=shape.rows).astype(np.int32)
        check_fit(ids, rows, fill, shape, name="target", width=shape.target)
        batch = {
            "source": pad_rows(source, fill, shape.target, pad=self.pad),
            "target": pad_rows(target, fill, shape.target, pad=self.pad),
        }
        if packed:
            numbers = np.repeat(segment_numbers(rows), lengths)
            segments = pad_rows(numbers, fill, shape.target)
            segments[np.arange(shape.target) >= fill[:, None]] = 0
            batch["target_segments"] = segments
        return batch


def as_stores(stores: Any) -> list[TokenStore]:
    """One store, several, or plain lists of ids, as stores."""
    if hasattr(stores, "tokens"):
        return [stores]
    if len(stores) and hasattr(stores[0], "tokens"):
        return list(stores)
    return [MemoryStore(stores)]
