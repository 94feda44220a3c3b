"""Trains the toy translator of C8 (plain torch, two minutes, once).

Its language has one translation per word (`synthetic.toy_corpus`), which makes searches
end in an eos of their own at many different lengths, with confident scores.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import torch

from benchmarks import harness, plain_torch, synthetic
from benchmarks.sizes import SIZES, random_weights

STEPS = 1500
LR = 2e-3


def weights_file() -> pathlib.Path:
    """The trained weights (an npz file), trained now if they are not there."""
    path = harness.ROOT / ".cache" / "benchmarks" / "toy.npz"
    if not path.exists():
        print("  training the toy translator (two minutes, once)", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = train()
        np.savez(path, **arrays)
    return path


def train(*, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Weights after `steps` updates; sentences grow longer as it learns."""
    torch.set_num_threads(1)  # small products: a second thread only waits
    torch.manual_seed(0)
    size = SIZES["toy"]
    trainer = plain_torch.Trainer(size, random_weights(size), dropout=0.0, lr=LR)
    stages = [_stage(length, tokens, size.vocab) for length, tokens in (
        (8, 512), (14, 512), (28, 768), (60, 1024), (synthetic.MAX_LENGTH, 1024),
    )]
    rng = np.random.default_rng(0)
    for step in range(steps):
        reached = min(len(stages) - 1, step * 15 // (2 * steps))
        chosen = reached if rng.random() < 0.8 else int(rng.integers(reached + 1))
        corpus, batches = stages[chosen]
        rate = min((step + 1) / 100, 1.0, max(0.02, (steps - step) / (0.4 * steps)))
        for group in trainer.optimizer.param_groups:
            group["lr"] = LR * rate
        ids = batches[rng.integers(len(batches))]
        target = torch.from_numpy(synthetic.pad([corpus.target[i] for i in ids])).long()
        source = torch.from_numpy(synthetic.pad([corpus.source[i] for i in ids])).long()
        trainer.step(source, target, int((target != 1).sum()))
    return plain_torch.unload(trainer.model)


def _stage(longest: int, tokens: int, vocab: int) -> tuple[synthetic.Corpus, list[np.ndarray]]:
    corpus = synthetic.toy_corpus(10000, vocab, longest=longest)
    return corpus, synthetic.token_batches(
        corpus.source_lengths, corpus.target_lengths, max_tokens=tokens
    )
