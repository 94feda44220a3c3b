"""How probable a text is to language models, block by block and word by word.

What fairseq-eval-lm computes: log-probabilities of every token of a corpus' blocks, each
block after as much context of the blocks before it as asked for; sums over words made of
pieces; statistics per word, as plain data for who prints them.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from seqjax.config import ConfigError
from seqjax.data.blocks import TokenBlocks
from seqjax.data.epoch_plan import Lengths
from seqjax.data.fairseq_order import ordered_ids
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.decoding_plan import round_up_to_power
from seqjax.generation.finite import WHY, ScoreError
from seqjax.generation.processors import mean_log_probs
from seqjax.generation.scoring import token_log_probs
from seqjax.models.protocol import LanguageModel, Params

_ORDER_SEED = 2
"""fairseq orders blocks under seed 1 + epoch 1, whatever `--seed` says."""
_LEAST_WIDTH = 16

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredBlock:
    """One block's tokens without `<s>`, and their natural log-probabilities."""

    index: int
    """Number of the block in the corpus."""
    tokens: np.ndarray
    """[T] int32."""
    scores: np.ndarray
    """[T] float32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
    """A block with its context, as the model reads it."""

    index: int
    source: np.ndarray
    target: np.ndarray
    """As long as `source`; padding in front of the block."""
    start: int
    """Where scores of the block begin."""


class BlockScorer:
    """Scores blocks with one model, or with several whose probabilities are averaged.

    Args:
      models: of the same vocabulary.
      max_tokens: positions of a batch, padding and context included.
      batch_size: blocks of a batch at most.
      softmax_batch: tokens whose logits exist at a time (None: what fits comfortably).
      too_long: a block over the models' limit: an `error`, or left out and counted (`skip`).
    """

    def __init__(
        self, models: Sequence[LanguageModel], *, max_tokens: int = 36000,
        batch_size: int | None = None, softmax_batch: int | None = None,
        too_long: str = "skip",
    ):
        if max_tokens < 1 or (batch_size is not None and batch_size < 1):
            raise ConfigError(f"max_tokens={max_tokens}, batch_size={batch_size}: 1 or more each")
        if softmax_batch is not None and softmax_batch < 1:
            raise ConfigError(f"softmax_batch={softmax_batch}: it must be 1 or more")
        self.models, self.too_long = tuple(models), too_long
        self.max_tokens, self.batch_size, self.softmax_batch = max_tokens, batch_size, softmax_batch
        self._log_probs = jax.jit(self._batch)

    def score(
        self, params: Sequence[Params], blocks: TokenBlocks, *, tokens_per_sample: int,
        context_window: int = 0,
    ) -> Iterator[ScoredBlock]:
        """The blocks of a corpus in fairseq's order: by length, or, with a context, as they
        follow each other.

        Args:
          params: one per model.
          tokens_per_sample: longest block that `blocks` were cut to.
          context_window: tokens before each block that it may see.
        """
        params = tuple(params)
        if context_window:
            rows = _with_context(
                blocks, self._kept(blocks, np.arange(len(blocks))), window=context_window,
                longest=tokens_per_sample + context_window,
            )
        else:
            order = ordered_ids(Lengths(target=blocks.sizes), seed=_ORDER_SEED)
            rows = _alone(blocks, self._kept(blocks, order))
        extra = int(blocks.add_bos_token)
        width = int(blocks.sizes.max()) + extra + context_window
        for part, scores in self._run(params, rows, width if context_window else None):
            for row, values in zip(part, scores, strict=False):
                begin = row.start + extra
                yield ScoredBlock(
                    index=row.index, tokens=row.target[begin:],
                    scores=values[begin:len(row.target)],
                )

    def _kept(self, blocks: TokenBlocks, order: np.ndarray) -> np.ndarray:
        limit = min(model.max_target_positions for model in self.models)
        keep = blocks.sizes[order] <= limit
        if not keep.all() and self.too_long == "error":
            index = int(order[~keep].min())
            raise ConfigError(
                f"block {index + 1} has {int(blocks.sizes[index])} tokens, but the model takes at "
                f"most {limit}: --too-long skip leaves such blocks out")
        if not keep.all():
            _log.warning(
                "%d of %d blocks have more than the model's %d positions and are skipped",
                int((~keep).sum()), len(keep), limit,
            )
        if not keep.any():
            raise ConfigError(
                f"every block has more than the model's {limit} positions; set "
                "--tokens-per-sample lower or another --sample-break-mode"
            )
        return order[keep]

    def _run(
        self, params: tuple[Params, ...], rows: Iterator[_Row], width: int | None
    ) -> Iterator[tuple[list[_Row], np.ndarray]]:
        """Batches of few shapes; the next one is dispatched before the last is read."""
        waiting: tuple[list[_Row], Any] | None = None
        for part, shape in self._batches(rows, width):
            source = np.full(shape, self.models[0].pad, np.int32)
            target = np.full(shape, self.models[0].pad, np.int32)
            for i, row in enumerate(part):
                source[i, :len(row.source)] = row.source
                target[i, :len(row.target)] = row.target
            running = part, self._log_probs(params, source, target)
            if waiting is not None:
                yield waiting[0], np.asarray(waiting[1])
            waiting = running
        if waiting is not None:
            yield waiting[0], np.asarray(waiting[1])

    def _batches(
        self, rows: Iterator[_Row], width: int | None
    ) -> Iterator[tuple[list[_Row], tuple[int, int]]]:
        """Consecutive rows and the [rows, width] they are padded to; a `width` of None
        follows the longest row in powers of two, up to what the models take."""
        part: list[_Row] = []
        limit = min(model.max_target_positions for model in self.models)
        wide = width or _LEAST_WIDTH
        for row in rows:
            length = len(row.source)
            needed = width or max(
                length, min(limit, round_up_to_power(length, least=_LEAST_WIDTH))
            )
            if part and (needed > wide or len(part) == self._rows(wide)):
                yield part, (self._rows(wide), wide)
                part = []
            wide = needed if not part else wide
            part.append(row)
        if part:
            yield part, (self._rows(wide), wide)

    def _rows(self, width: int) -> int:
        rows = max(1, self.max_tokens // width)
        return rows if self.batch_size is None else min(rows, self.batch_size)

    def _batch(
        self, params: tuple[Params, ...], source: jax.Array, target: jax.Array
    ) -> jax.Array:
        """[B, T] float32 log-probabilities of `target`."""
        each = []
        for model, p in zip(self.models, params, strict=True):
            features = model.features(p, source)
            vocabulary = jax.eval_shape(features.logits).shape[-1]
            options = {}
            if self.softmax_batch is not None:
                options["budget"] = self.softmax_batch * vocabulary
            each.append(token_log_probs(features, target, **options))
        return mean_log_probs(each)


def _alone(blocks: TokenBlocks, order: np.ndarray) -> Iterator[_Row]:
    for index in order.tolist():
        source, target = blocks.block(index)
        yield _Row(index=index, source=source, target=target, start=0)


def _with_context(
    blocks: TokenBlocks, order: np.ndarray, *, window: int, longest: int
) -> Iterator[_Row]:
    """Each block after the last `window` tokens that were read before it; fewer where both
    would be longer than `longest`."""
    before = np.zeros(0, np.int32)
    for index in order.tolist():
        source, target = blocks.block(index)
        before = before[max(0, len(before) + len(source) - longest):]
        whole = np.concatenate([before, source])
        masked = np.concatenate([np.full(len(before), blocks.pad, np.int32), target])
        yield _Row(index=index, source=whole, target=masked, start=len(before))
        before = whole[-window:]


@dataclasses.dataclass(kw_only=True)
class WordStatistics:
    """What is known of one word of a corpus; `str()` is fairseq's line for it."""

    word: str
    in_pieces: bool
    """Whether it was made of several pieces where it was seen first."""
    count: int = 0
    log_prob: float = 0.0
    """Sum over its occurrences."""
    next_log_prob: float = 0.0
    """Sum over the words after it, in the same block."""
    with_next: int = 0
    """Occurrences that have a word after them."""

    def __str__(self) -> str:
        following = self.next_log_prob if self.with_next else 0
        return (
            f"{self.word}\t{self.count}\t{self.log_prob}\t{self.in_pieces}\t{following}\t"
            f"{self.with_next}"
        )


class WordScores:
    """Sums up scored blocks, pieces of words joined.

    Args:
      vocabulary: of the tokens.
      post_process: how pieces are marked: None, or `@@ ` (also named `subword_nmt`).

    Raises:
      ConfigError: another kind of pieces.
    """

    def __init__(self, vocabulary: Vocabulary, *, post_process: str | None = None):
        if post_process not in (None, "none", "@@ ", "@@", "subword_nmt"):
            raise ConfigError(
                f"--post-process {post_process}: words are scored from pieces marked by '@@ ' "
                "only; leave it out to score pieces"
            )
        self.vocabulary = vocabulary
        self._mark = "" if post_process in (None, "none") else "@@"
        self._continued = np.array([
            bool(self._mark) and word.endswith(self._mark) for word in vocabulary.symbols
        ])
        self.log_prob = 0.0
        """Sum over all words."""
        self.count = 0
        """Words; pieces that go on do not count."""
        self.statistics: dict[str, WordStatistics] = {}

    def add(self, block: ScoredBlock, *, statistics: bool = False) -> list[tuple[str, float]]:
        """Counts a block.

        Args:
          statistics: also keep them per word.

        Returns:
          Its words and their log-probabilities.
        """
        scores = np.array(block.scores, np.float32)
        inner = self._continued[block.tokens]
        goes_on = np.flatnonzero(inner[:-1])
        for i in goes_on:
            scores[i + 1] += scores[i]
            scores[i] = 0
        if np.isnan(scores).any():
            raise ScoreError(f"block {block.index}: its scores are not numbers: {WHY}")
        finite = np.isfinite(scores)
        if not finite.all():
            _log.warning("block %d: %d tokens of probability 0 are skipped", block.index,
                         int((~finite).sum()))
        self.log_prob += float(scores[finite].sum(dtype=np.float64))
        self.count += int(finite.sum()) - len(goes_on)
        words, text, in_pieces = [], "", False
        for i, token in enumerate(block.tokens.tolist()):
            text += self.vocabulary[token]
            if inner[i]:
                text, in_pieces = text[:-len(self._mark)], True
                continue
            words.append((text, float(scores[i])))
            if statistics:
                self._keep(text, in_pieces, scores, i)
            text, in_pieces = "", False
        return words

    def _keep(self, word: str, in_pieces: bool, scores: np.ndarray, place: int) -> None:
        found = self.statistics.setdefault(word, WordStatistics(word=word, in_pieces=in_pieces))
        found.count += 1
        found.log_prob += float(scores[place])
        after = np.flatnonzero(scores[place + 1:])
        if len(after):
            found.with_next += 1
            found.next_log_prob += float(scores[place + 1 + after[0]])

    def by_count(self) -> list[WordStatistics]:
        """Words, the most frequent first; equally frequent ones as they were seen."""
        return sorted(self.statistics.values(), key=lambda s: -s.count)

    @property
    def loss(self) -> float:
        """Mean negative log-probability of a word, base 2."""
        return -self.log_prob / self.count / math.log(2) if self.count else 0.0

    @property
    def perplexity(self) -> float:
        """2 ** loss."""
        return 2.0**self.loss if self.loss < 1023 else math.inf
