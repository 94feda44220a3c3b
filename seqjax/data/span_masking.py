"""T5's noise: spans of a text for the model to write, each marked in it by a word of its own
(fairseq's `SpanMaskedTokensDataset`, draw for draw).

Ids and a seed go in; out come the text without the spans, and the spans. How many tokens each
side has follows from the length of the text alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanMasking:
    """How much is taken out.

    Raises:
      ValueError: a share or a length that is none.
    """

    entries: int
    """V. The k-th gap of a text is id V - k: the dictionary's last words stand for gaps."""
    noise_density: float = 0.15
    """Share of the tokens that are taken out."""
    mean_noise_span_length: float = 3.0
    """Their mean number in a row."""

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_density < 1.0:
            raise ValueError(f"noise_density: {self.noise_density} is not between 0 and 1")
        if self.mean_noise_span_length < 1.0:
            raise ValueError(
                f"mean_noise_span_length: {self.mean_noise_span_length} is not 1 or more")

    def counts(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens that are taken out, and in how many spans, of texts of `sizes` [N] tokens."""
        noise = np.round(sizes * self.noise_density).astype(np.int64)
        noise = np.minimum(np.maximum(noise, 1), np.maximum(sizes - 1, 0))
        spans = np.round(noise / self.mean_noise_span_length).astype(np.int64)
        # fairseq takes no more than there are of either, or fails.
        spans = np.minimum(np.maximum(spans, 1), np.minimum(noise, sizes - noise))
        return noise, spans

    def lengths(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of both sides [N]."""
        noise, spans = self.counts(sizes)
        return sizes - noise + spans, noise + spans

    def __call__(self, tokens: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Source and target [S], [T] int32 of the text `tokens`, which has 2 or more."""
        rng = np.random.RandomState(seed)
        noise, spans = (int(x[0]) for x in self.counts(np.array([len(tokens)])))
        inside = _segments(noise, spans, rng)
        between = _segments(len(tokens) - noise, spans, rng)
        is_noise = np.repeat(np.tile([False, True], spans),
                             np.stack([between, inside], axis=1).reshape(-1))
        return self._marked(tokens, is_noise), self._marked(tokens, ~is_noise)

    def _marked(self, tokens: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """The tokens with one id for each run of those that are `gone` [T] bool."""
        first = gone & ~np.append(False, gone[:-1])
        found = np.where(first, self.entries - first.cumsum(), tokens)
        return found[first | ~gone].astype(np.int32)


def _segments(items: int, segments: int, rng: np.random.RandomState) -> np.ndarray:
    """[segments] lengths of 1 or more that sum to `items`, any as likely as any other."""
    cuts = np.arange(items - 1) < segments - 1
    rng.shuffle(cuts)
    return np.diff(np.concatenate([[0], np.flatnonzero(cuts) + 1, [items]]))
