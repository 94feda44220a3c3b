"""C15: the training step of a language model with a large vocabulary: the output layer and its
cross entropy block by block, over the same with all logits at once."""

from __future__ import annotations

from benchmarks import harness
from benchmarks.harness import Options, Row

TITLE = "Training with a large vocabulary, CPU"
MIB = 2**20
ROWS, LENGTH = 4, 512
MEMORY_AIM = 0.35
"""Of the plain step's temporary memory, at the largest vocabulary."""


def run(options: Options) -> list[Row]:
    """Rows of temporary memory (XLA's own analysis; smaller is better) and of tokens/s."""
    sizes, dim, length = (50_000, 250_000), 512, LENGTH
    if options.quick:
        sizes, dim, length = (3_000,), 16, 32
    rows = []
    for vocabulary in sizes:
        common = dict(vocabulary=vocabulary, dim=dim, rows=ROWS, length=length)
        with harness.workers(
            options,
            blocks=("benchmarks.vocabulary_side:Step", {**common, "plain": False}),
            plain=("benchmarks.vocabulary_side:Step", {**common, "plain": True}),
        ) as sides:
            check = _equal_losses(sides)
            memory = {n: w.call("memory").result["temporary"] for n, w in sides.items()}
            samples = harness.take_turns(
                sides, "updates", rounds=options.rounds, args=[{"count": 1}])
        name = f"LM of width {dim}, V = {vocabulary:,}, {ROWS} x {length} tokens"
        rows.append(Row(
            id="C15", workload=f"{name}: temporary memory of the step", metric="MiB",
            ours=memory["blocks"] / MIB, opponent="all logits at once",
            theirs=memory["plain"] / MIB, ratio=memory["blocks"] / memory["plain"],
            checks=[check] + ([f"aim {MEMORY_AIM}"] if vocabulary == sizes[-1] else []),
        ))
        rows.append(harness.compare(
            Row(id="C15", workload=name, metric="tokens/s", ours=0.0,
                opponent="all logits at once", floor=1.0, checks=[check]),
            samples["blocks"], samples["plain"]))
    return rows


def _equal_losses(sides: dict[str, harness.Worker]) -> str:
    """Also compiles the step of each."""
    both = {n: w.call("losses", count=3).result["losses"] for n, w in sides.items()}
    worst = max(abs(a - b) / abs(b) for a, b in zip(both["blocks"], both["plain"], strict=True))
    if worst > 1e-5:
        raise harness.BenchmarkError(f"the losses differ, so the work does too: {both}")
    return f"losses of 3 equal updates agree to {worst:.0e}"
