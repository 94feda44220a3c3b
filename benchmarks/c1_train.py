"""C1: training speed on a CPU, real lengths, over plain torch (for fairseq)."""

from __future__ import annotations

import statistics

from benchmarks import ceilings, harness, synthetic
from benchmarks.harness import Options, Row
from benchmarks.sizes import SIZES

TITLE = "Training, CPU"
FLOOR = 0.8
BATCHING = {
    "packed": {"mode": "packed", "pack_length": 128},
    "bucketed": {"mode": "bucketed", "num_shapes": 8},
    "bucketed in 16 shapes": {"mode": "bucketed", "num_shapes": 16},
}


def run(options: Options) -> list[Row]:
    """One row per way of batching; tokens are real target tokens."""
    size, pairs, max_tokens, updates = "tiny", 4000, 4096, 4
    if options.quick:
        size, pairs, max_tokens, updates = "micro", 200, 512, 2
    gemm = ceilings.cpu_gemm(cores=options.cores)
    rows = []
    for mode, batching in BATCHING.items():
        common = dict(size=size, pairs=pairs, max_tokens=max_tokens, dropout=0.1)
        with harness.workers(
            options,
            seqjax=("benchmarks.seqjax_side:Train", {**common, "batching": batching}),
            torch=("benchmarks.torch_side:Train", {**common, "cores": options.cores}),
        ) as sides:
            checks = [_equal_losses(sides)]
            compiled = sides["seqjax"].call("compile").result
            checks.append(
                f"{compiled['shapes']} compiled shapes, "
                f"{compiled['efficiency']:.1%} of positions real"
            )
            sides["torch"].call("updates", first=0, count=3)
            samples = harness.take_turns(
                sides, "updates", rounds=options.rounds,
                args=[{"first": 3 + updates * i, "count": updates} for i in range(options.rounds)],
            )
        row = harness.compare(
            Row(
                id="C1", workload=f"{size} seq2seq, {max_tokens} max tokens, {mode}",
                metric="target tokens/s", ours=0.0, opponent="plain torch", floor=FLOOR,
                checks=checks,
            ),
            samples["seqjax"], samples["torch"],
        )
        rate = gemm / flops_per_token(size)
        row.bound = rate / statistics.median(s.rate for s in samples["torch"])
        row.bound_why = f"all FLOPs at the measured {gemm / 1e9:.0f} GFLOP/s, nothing else"
        rows.append(row)
    return rows


def flops_per_token(size: str) -> float:
    """Training FLOPs per real target token of the synthetic corpus."""
    source, target = synthetic.lengths(2000, seed=0)
    total = sum(
        SIZES[size].pair_flops(int(s), int(t)) for s, t in zip(source, target, strict=True)
    )
    return total / int(target.sum())


def _equal_losses(sides: dict[str, harness.Worker]) -> str:
    both = {
        name: worker.call("losses", rows=16, steps=3).result["losses"]
        for name, worker in sides.items()
    }
    worst = max(
        abs(a - b) / abs(b) for a, b in zip(both["seqjax"], both["torch"], strict=True)
    )
    if worst > 1e-4:
        raise harness.BenchmarkError(f"the losses differ, so the work does too: {both}")
    return f"losses of 3 equal updates agree to {worst:.0e}"
