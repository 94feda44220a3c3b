"""The text and the settings that noise was recorded with, for the recording script and tests.

NumPy alone: fairseq's side has no seqjax, and seqjax's no fairseq.
"""

from __future__ import annotations

import hashlib

import numpy as np

SENTENCES = 10_000
WORDS = [str(i) for i in range(90)]
"""`13` among them, by which fairseq knows full stops."""
SPECIAL = 4
FIRST = SPECIAL
MASK = SPECIAL + len(WORDS)
ENTRIES = MASK + 1
SEED, EPOCH = 5, 3

MASKING: dict[str, dict] = {
    "default": {},
    "much": {"mask_prob": 0.6, "leave_unmasked_prob": 0.3, "random_token_prob": 0.4},
    "only_masks": {"leave_unmasked_prob": 0.0, "random_token_prob": 0.0},
    "no_random": {"random_token_prob": 0.0},
    "none_kept": {"leave_unmasked_prob": 0.0},
    "by_frequency": {"freq_weighted_replacement": True},
    "words": {"mask_whole_words": True},
    "runs": {"mask_multiple_length": 3, "mask_prob": 0.3},
    "varying_runs": {"mask_multiple_length": 2, "mask_stdev": 1.5, "mask_prob": 0.3},
    "words_in_runs": {"mask_multiple_length": 2, "mask_whole_words": True},
}
_PLAIN = {"mask": 0.0, "mask_random": 0.0, "insert": 0.0, "rotate": 0.0, "permute_sentences": 0.0,
          "mask_length": "subword", "replace_length": 0, "poisson_lambda": 3.0, "words": False}
DENOISING: dict[str, dict] = {name: {**_PLAIN, **case} for name, case in {
    "default": {"rotate": 0.5},
    "bart": {"mask": 0.3, "mask_random": 0.1, "permute_sentences": 1.0, "mask_length":
             "span-poisson", "replace_length": 1, "words": True},
    "spans_of_tokens": {"mask": 0.35, "mask_random": 0.2, "mask_length": "span-poisson",
                        "replace_length": 1, "poisson_lambda": 3.5},
    "spans_deleted": {"mask": 0.3, "mask_length": "span-poisson", "words": True},
    "spans_in_full": {"mask": 0.3, "mask_random": 0.3, "mask_length": "span-poisson",
                      "replace_length": -1, "words": True, "poisson_lambda": 1.0},
    "words_masked": {"mask": 0.2, "mask_random": 0.1, "mask_length": "word", "replace_length": 1,
                     "words": True},
    "words_in_full": {"mask": 0.2, "mask_random": 0.1, "mask_length": "word", "replace_length": -1,
                      "words": True},
    "words_deleted": {"mask": 0.2, "mask_length": "word", "words": True},
    "tokens_deleted": {"mask": 0.25},
    "tokens_masked": {"mask": 0.25, "mask_random": 0.1, "replace_length": 1},
    "inserted": {"insert": 0.2, "mask_random": 0.1},
    "permuted": {"permute_sentences": 0.6},
    "everything": {"mask": 0.3, "mask_random": 0.1, "insert": 0.1, "rotate": 0.5,
                   "permute_sentences": 1.0, "mask_length": "span-poisson", "replace_length": 1,
                   "words": True},
}.items()}
SPANS: dict[str, dict] = {
    "default": {"noise_density": 0.15, "mean_noise_span_length": 3.0},
    "dense": {"noise_density": 0.5, "mean_noise_span_length": 2.0},
}
LANGUAGES = (7, 40, 153)
"""Sizes of corpora that are resampled."""
ALPHAS = (1.0, 0.7, 0.0)


def sentences(*, ends: bool) -> list[np.ndarray]:
    """[S] ids each, `<s>` in front, `</s>` behind if `ends`."""
    rng = np.random.RandomState(11)
    found = []
    for _ in range(SENTENCES):
        body = FIRST + rng.randint(0, len(WORDS), rng.randint(2, 50))
        body[rng.random_sample(len(body)) < 0.1] = FIRST + 13
        found.append(np.concatenate([[0], body, [2] if ends else []]).astype(np.int64))
    return found


def counts() -> list[int]:
    """How often the dictionary has counted each entry."""
    return [1] * SPECIAL + [1 + (i * 7) % 23 for i in range(len(WORDS))] + [1]


def begins() -> np.ndarray:
    """[entries] bool: pieces that begin a word, special ones among them."""
    found = np.arange(ENTRIES) % 3 != 0
    found[:SPECIAL] = True
    return found


def digest(arrays: list[np.ndarray]) -> str:
    """Names arrays and their lengths."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.int32(len(array)).tobytes())
        found.update(np.ascontiguousarray(array, np.int32).tobytes())
    return found.hexdigest()[:40]


def masking_statistics(
    originals: list[np.ndarray], samples: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, float]:
    """Shares of the tokens that are to be predicted, and of these what became of them."""
    text = np.concatenate(originals)
    source = np.concatenate([s for s, _ in samples])
    chosen = np.concatenate([t for _, t in samples]) != 1
    total = chosen.sum()
    return {
        "predicted": chosen.mean().item(),
        "first": np.mean([t[0] != 1 for _, t in samples]).item(),
        "last": np.mean([t[-1] != 1 for _, t in samples]).item(),
        "masked": (chosen & (source == MASK)).sum().item() / total.item(),
        "kept": (chosen & (source == text)).sum().item() / total.item(),
        "special_random": (chosen & (source != text) & (source < SPECIAL)).sum().item(),
    }


def noise_statistics(
    originals: list[np.ndarray], sources: list[np.ndarray]
) -> dict[str, float]:
    """Means over texts of what noise did to them."""
    masks = [np.flatnonzero(s == MASK) for s in sources]
    growth = [len(s) - len(t) for s, t in zip(sources, originals, strict=True)]
    foreign = [int(np.isin(s[1:-1], (1, 2)).sum()) for s in sources]
    runs = [int((np.diff(m) > 1).sum()) + (len(m) > 0) for m in masks]
    return {
        "length": float(np.mean([len(s) for s in sources])),
        "longer": float(np.mean(np.array(growth) > 0)),
        "masks": float(np.mean([len(m) for m in masks])),
        "runs_of_masks": float(np.mean(runs)),
        "pad_or_eos_inside": float(np.mean(foreign)),
        "same_begin": float(np.mean([s[1] == t[1] for s, t in zip(sources, originals,
                                                                  strict=True)])),
        "mask_first": float(np.mean([s[1] == MASK for s in sources])),
        "mask_last": float(np.mean([s[-2] == MASK for s in sources])),
        "frame_touched": float(sum(s[0] != 0 or s[-1] != 2 for s in sources)),
    }
