"""Plain torch's side of the comparisons (runs in a worker of its own)."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np
import torch

from benchmarks import plain_torch, synthetic, workloads
from benchmarks.sizes import SIZES


class Train:
    """Updates on fairseq's batches of the synthetic corpus."""

    def __init__(self, *, size: str, pairs: int, max_tokens: int, dropout: float, cores: int,
                 device: str = "cpu", autocast: bool = False, compiled: bool = False):
        torch.set_num_threads(cores)
        torch.manual_seed(0)
        self.size, self.device = SIZES[size], device
        self.make: dict[str, Any] = dict(
            device=device, autocast=autocast, compiled=compiled, lr=5e-4
        )
        self.trainer = plain_torch.Trainer(
            self.size, workloads.weights(size), dropout=dropout, **self.make
        )
        self.size_name = size
        corpus = synthetic.corpus(pairs, self.size.vocab)
        plan = synthetic.token_batches(
            corpus.source_lengths, corpus.target_lengths, max_tokens=max_tokens
        )
        order = np.random.default_rng(0).permutation(len(plan))
        self.batches = [
            self._tensors(
                [corpus.source[i] for i in plan[b]], [corpus.target[i] for i in plan[b]]
            )
            for b in order
        ]

    def _tensors(self, source: list[Any], target: list[Any]) -> tuple[Any, Any, int]:
        to = dict(device=self.device, dtype=torch.long)
        return (
            torch.from_numpy(synthetic.pad(source)).to(**to),
            torch.from_numpy(synthetic.pad(target)).to(**to),
            sum(len(t) for t in target),
        )

    def updates(self, *, first: int, count: int) -> dict[str, Any]:
        """`count` updates from batch `first` on; work is real target tokens."""
        tokens, loss = 0, None
        for index in range(first, first + count):
            source, target, real = self.batches[index % len(self.batches)]
            loss = self.trainer.step(source, target, real)
            tokens += real
        assert loss is not None
        return {"work": tokens, "loss": float(loss)}

    def losses(self, *, rows: int, steps: int) -> dict[str, Any]:
        """Loss per token of `steps` updates on one batch, from the start, no dropout."""
        trainer = plain_torch.Trainer(
            self.size, workloads.weights(self.size_name), dropout=0.0, **self.make
        )
        corpus = synthetic.corpus(rows, self.size.vocab, seed=7)
        source, target, real = self._tensors(corpus.source, corpus.target)
        return {"losses": [float(trainer.step(source, target, real)) for _ in range(steps)]}


class Decode:
    """Beam search as fairseq does it."""

    def __init__(self, *, size: str, weights: str | None, cores: int, device: str = "cpu",
                 bfloat16: bool = False):
        torch.set_num_threads(cores)
        self.device = device
        self.model = plain_torch.load(SIZES[size], workloads.weights(size, weights)).to(device)
        if bfloat16:
            self.model = self.model.bfloat16()
        self.model.eval()

    def search(self, *, spec: dict[str, Any], full: bool = False) -> dict[str, Any]:
        """Decodes a workload; work is emitted tokens. `full` returns the hypotheses."""
        job = workloads.decoding(**spec)
        order = sorted(range(len(job.sources)), key=lambda i: -len(job.sources[i]))
        best: list[list[int]] = [[] for _ in order]
        scores = [0.0] * len(order)
        for start in range(0, len(order), job.batch):
            rows = order[start : start + job.batch]
            source = torch.from_numpy(synthetic.pad([job.sources[i] for i in rows]))
            found = plain_torch.beam_search(
                self.model, source.long().to(self.device), beam=job.beam, min_len=job.min_len,
                max_len=torch.tensor([job.max_len[i] for i in rows]),
            )
            for row, hypotheses in zip(rows, found, strict=True):
                best[row], scores[row] = hypotheses[0].tokens, hypotheses[0].score
        result: dict[str, Any] = {"work": sum(len(b) for b in best)}
        if full:
            result.update(best=best, scores=scores)
        return result

    def memory(self, *, spec: dict[str, Any]) -> dict[str, Any]:
        """Peak resident bytes of the process after one decode."""
        start = time.perf_counter()
        self.search(spec=spec)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"peak": peak, "seconds": time.perf_counter() - start}
