"""Sentences with labels over token stores: rows of a plan as padded arrays.

Stores of several inputs in (`input0`, `input1`, ...), one sequence made of them for each row out,
or one for each candidate, and the labels: fairseq's tasks `sentence_prediction` and
`sentence_ranking`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import numpy as np

from seqjax.config import ConfigError
from seqjax.data import folder, indexed
from seqjax.data.blocks import ShortenMethod
from seqjax.data.epoch_plan import Lengths, Shape
from seqjax.data.item_seed import item_seed
from seqjax.data.pairs import PAD, Side, check_fit, pad_rows
from seqjax.data.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One input as it stands in a sequence."""

    side: Side
    first: int | None = None
    """A token in front of it."""
    limit: int | None = None
    """At most so many tokens of it, that one included."""

    @property
    def lengths(self) -> np.ndarray:
        """[N] int32 tokens."""
        found = self.side.lengths + np.int32(self.first is not None)
        return found if self.limit is None else np.minimum(found, self.limit)

    def gather(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of sentences [n], one after the other, and their lengths [n]."""
        tokens, lengths = self.side.gather(ids)
        if self.first is not None:
            begins = np.cumsum(lengths + 1) - (lengths + 1)
            out = np.full(len(tokens) + len(ids), self.first, np.int32)
            words = np.ones(len(out), bool)
            words[begins] = False
            out[words] = tokens
            tokens, lengths = out, lengths + 1
        if self.limit is None:
            return tokens, lengths
        return window(tokens, lengths, np.zeros_like(lengths), self.limit)


def window(
    tokens: np.ndarray, lengths: np.ndarray, begins: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """At most `limit` tokens of each of some sequences.

    Args:
      tokens: of all, one after the other.
      lengths, begins: [n], of each, and where its window begins.
    """
    place = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    first = np.repeat(begins, lengths)
    kept = (place >= first) & (place < first + limit)
    return tokens[kept], np.minimum(lengths, limit)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Joined:
    """Inputs one after the other, perhaps shortened."""

    parts: Sequence[Part]
    shorten: ShortenMethod = "none"
    """Keep the first `limit` tokens (`truncate`) or a window that is drawn anew every epoch
    (`random_crop`)."""
    limit: int = 0
    seed: int = 1
    epoch: int = 1
    """Of `random_crop`."""

    @functools.cached_property
    def whole(self) -> np.ndarray:
        """[N] int32 tokens before it is shortened."""
        return np.stack([part.lengths for part in self.parts]).sum(axis=0, dtype=np.int32)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """[N] int32 tokens."""
        return self.whole if self.shorten == "none" else np.minimum(self.whole, self.limit)

    def gather(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of sentences [n], one after the other, and their lengths [n]."""
        lengths = self.whole[ids]
        free = np.cumsum(lengths, dtype=np.int64) - lengths
        out = np.empty(int(lengths.sum(dtype=np.int64)), np.int32)
        for part in self.parts:
            tokens, count = part.gather(ids)
            index = np.repeat(free - (np.cumsum(count, dtype=np.int64) - count), count)
            out[index + np.arange(len(index))] = tokens
            free = free + count
        if self.shorten == "none":
            return out, lengths
        return window(out, lengths, self._begins(ids, lengths - self.limit), self.limit)

    def _begins(self, ids: np.ndarray, excess: np.ndarray) -> np.ndarray:
        if self.shorten == "truncate":
            return np.zeros(len(ids), np.int64)
        return np.array([self._crop(int(i), int(e)) if e > 0 else 0
                         for i, e in zip(ids, excess, strict=True)], np.int64)

    def _crop(self, sentence: int, excess: int) -> int:
        """Where fairseq's window begins."""
        state = np.random.RandomState(item_seed(self.seed, self.epoch, sentence))
        return int(state.randint(0, excess))


class SentenceDataset:
    """Sequences and their labels.

    Args:
      candidates: one sequence of each row, or as many as are to be ranked.
      labels: [N] int32 classes or [N, C] float32 values; None where they are not known.
      ranked: whether `candidates` are an axis of the arrays, however many they are.
      pad: id of padding.
      shuffled_by: seed of the order in which fairseq makes batches of them; None: they follow as
        in the corpus.

    Raises:
      ValueError: numbers of sentences that differ.
    """

    def __init__(
        self, candidates: Sequence[Joined], labels: np.ndarray | None = None, *,
        ranked: bool = False, pad: int = PAD, shuffled_by: int | None = None,
    ):
        self._pad = pad
        self.candidates, self.labels, self.ranked = list(candidates), labels, ranked
        self._shuffled_by = shuffled_by
        sizes = {len(part.side) for c in candidates for part in c.parts}
        if labels is not None:
            sizes.add(len(labels))
        if len(sizes) > 1:
            raise ValueError(f"inputs and labels have {', '.join(map(str, sorted(sizes)))} "
                             "sentences: they must match line by line")

    def __len__(self) -> int:
        return len(self.lengths)

    @functools.cached_property
    def lengths(self) -> Lengths:
        """What planning works on: of candidates, the longest."""
        source = np.max([c.lengths for c in self.candidates], axis=0)
        order = np.arange(len(source))
        if self._shuffled_by is not None:
            order = np.argsort(np.random.RandomState(self._shuffled_by).permutation(len(source)))
        return Lengths(source=source, order=order)

    def at_epoch(self, epoch: int) -> SentenceDataset:
        """The data of an epoch, of which those differ that are shortened at random."""
        if not any(c.shorten == "random_crop" for c in self.candidates):
            return self
        return SentenceDataset(
            [dataclasses.replace(c, epoch=epoch) for c in self.candidates], self.labels,
            ranked=self.ranked, pad=self._pad, shuffled_by=self._shuffled_by)

    def sentence(self, index: int) -> np.ndarray:
        """Ids [S] of one sentence; of candidates, of the first."""
        return self.candidates[0].gather(np.array([index]))[0]

    def materialise(
        self, ids: np.ndarray, rows: np.ndarray, shape: Shape, *, packed: bool = False,
    ) -> dict[str, np.ndarray]:
        """The arrays of a batch; see `pairs.PairDataset.materialise`.

        Returns:
          `source` [rows, S] int32, of ranking [rows, N, S]; `labels` [rows] int32 or [rows, C]
          float32, where they are known: 0 in rows that are all padding.

        Raises:
          ValueError: a row that does not fit; a packed batch.
        """
        if packed:
            raise ValueError("sentences with labels are not packed: set batching.mode to "
                             "bucketed or fairseq")
        arrays = []
        for candidate in self.candidates:
            tokens, lengths = candidate.gather(ids)
            fill = np.bincount(rows, lengths, minlength=shape.rows).astype(np.int32)
            check_fit(ids, rows, fill, shape, name="source", width=shape.source)
            arrays.append(pad_rows(tokens, fill, shape.source, pad=self._pad))
        batch = {"source": np.stack(arrays, axis=1) if self.ranked else arrays[0]}
        if self.labels is not None:
            batch["labels"] = np.zeros((shape.rows, *self.labels.shape[1:]), self.labels.dtype)
            batch["labels"][rows] = self.labels[ids]
        return batch


# ---- from a data folder ----


def input_side(
    data: str, number: int, split: str, *, combine: bool, check: Callable[[str], None],
) -> Side | None:
    """One input of a split, `DATA/inputN/SPLIT`; None where there is no such folder.

    Args:
      combine: also the further shards `split1`, `split2`, ...
      check: refuses a store, by its prefix, whose ids are not those of the dictionary.

    Raises:
      FileNotFoundError: there is the folder, but no such split.
    """
    place = os.path.join(data, f"input{number}")
    if not os.path.isdir(place):
        return None
    prefixes = folder.mono_prefixes(place, split, combine=combine)
    for prefix in prefixes:
        check(prefix)
    return Side([indexed.IndexedDataset(prefix) for prefix in prefixes])


def classes(data: str, split: str, *, combine: bool, names: Vocabulary, count: int) -> np.ndarray:
    """[N] int32: the class of each sentence, of the stores `DATA/label/SPLIT`.

    Args:
      names: the labels' dictionary.
      count: of classes that there may be.

    Raises:
      FileNotFoundError: there is no such store.
      ConfigError: a sentence without exactly one known label, or one beyond `count`; names it.
    """
    found = []
    for prefix in folder.mono_prefixes(os.path.join(data, "label"), split, combine=combine):
        store = indexed.IndexedDataset(prefix)
        wrong = np.flatnonzero(np.asarray(store.lengths) != 2)  # the label and eos
        if len(wrong):
            raise ConfigError(
                f"{prefix}: sentence {wrong[0]} (counted from 0) has "
                f"{store.lengths[wrong[0]] - 1} labels; give each sentence one word as its label")
        ids = store.tokens.take(store.starts(slice(None))).astype(np.int64) - names.num_special
        wrong = np.flatnonzero((ids < 0) | (ids >= count))
        if len(wrong):
            first = int(ids[wrong[0]]) + names.num_special
            known = names.symbols[names.num_special : names.num_special + count]
            label = names[first] if first < len(names) else f"id {first}"
            raise ConfigError(
                f"{prefix}: sentence {wrong[0]} (counted from 0) has the label {label!r}, but "
                f"config.task.num_classes is {count}: {', '.join(known)}. Give num_classes as "
                "many as there are labels in label/dict.txt, all of which stand in the "
                "training split")
        found.append(ids.astype(np.int32))
    return np.concatenate(found)


def label_file(data: str, split: str) -> str:
    """`DATA/label/SPLIT.label`: labels that are numbers, a line a sentence."""
    return os.path.join(data, "label", f"{split}.label")


def values(path: str, *, columns: int, whole: bool = False) -> np.ndarray:
    """[N, columns] float32, or [N] int32 if `whole`: the numbers of a file of labels.

    Raises:
      FileNotFoundError: there is no such file.
      ConfigError: a line that does not hold `columns` numbers; names it.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file of labels, a line a sentence")
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            words = line.split()
            try:
                row = [int(x) if whole else float(x) for x in words]
            except ValueError:
                row = []
            if len(row) != columns or not np.isfinite(row).all():
                raise ConfigError(
                    f"{path}: line {number} is {line.strip()!r}; expected {columns} "
                    f"{'whole ' if whole else ''}number{'s' if columns > 1 else ''}")
            rows.append(row)
    if whole:
        return np.array(rows, np.int32).reshape(-1)
    return np.array(rows, np.float32).reshape(-1, columns)
