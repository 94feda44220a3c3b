"""C3: wav2vec 2.0 on a CPU over torch: the convolutions over samples, the positional convolution's
backward pass, and whole updates of pretraining, with the same weights, masks and negatives."""

from __future__ import annotations

import statistics
import tempfile
from typing import Any

from benchmarks import ceilings, harness
from benchmarks.harness import BenchmarkError, Options, Row

TITLE = "wav2vec 2.0, CPU"
WORK = {
    "front": "front end of wav2vec2-base, forward and backward",
    "positions": "positional convolution 768/128/16, backward",
    "step": "whole update of pretraining, full front end and 2 layers",
}
FLOORS = {"front": 1.2, "positions": 1.0, "step": 1.2}
_TOLERANCE = 1e-4


def run(options: Options) -> list[Row]:
    """Seconds of sound a second."""
    shape: dict[str, Any] = dict(rows=2, seconds=0.5 if options.quick else 2.0)
    gemm = ceilings.cpu_gemm(cores=options.cores)
    with tempfile.TemporaryDirectory() as folder, harness.workers(
        options,
        torch=("benchmarks.speech_torch:Pretraining", {
            "folder": folder, "size": "micro" if options.quick else "two layers", **shape,
            "cores": options.cores}),
        seqjax=("benchmarks.speech_seqjax:Pretraining", {"folder": folder, **shape}),
    ) as sides:
        sides["torch"].call("take", **sides["seqjax"].call("drawn").result)
        checks = {"step": _same_losses(sides), **{n: _same(sides, n) for n in ("front",
                                                                              "positions")}}
        rows = []
        for name, times in (("front", 3), ("positions", 8), ("step", 3)):
            for side in sides.values():
                side.call(name, times=times)
            samples = harness.take_turns(
                sides, name, rounds=options.rounds, args=[{"times": times}])
            row = harness.compare(
                Row(id="C3", workload=f"{WORK[name]}, {shape['rows']} x {shape['seconds']:g} s",
                    metric="s of sound/s", ours=0.0, opponent="torch", floor=FLOORS[name],
                    checks=[checks[name]]),
                samples["seqjax"], samples["torch"])
            row.checks.append(f"by CPU seconds {row.ratio_cpu:.2f}")
            if name == "front" and not options.quick:
                row.bound = gemm / _flops() / statistics.median(s.rate for s in samples["torch"])
                row.bound_why = f"all FLOPs at the measured {gemm / 1e9:.0f} GFLOP/s, nothing else"
            rows.append(row)
    return rows


def _flops() -> float:
    """Of the convolutions over a second of sound, forward and backward."""
    rate, inputs, total = 16000.0, 1, 0.0
    for width, stride in ((10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2):
        rate /= stride
        total += 2 * rate * width * inputs * 512
        inputs = 512
    return 3 * total


def _same_losses(sides: dict[str, harness.Worker]) -> str:
    found = {name: worker.call("losses", steps=3).result["losses"]
             for name, worker in sides.items()}
    worst = max(abs(a - b) / abs(b) for a, b in zip(found["seqjax"], found["torch"], strict=True))
    if worst > _TOLERANCE:
        raise BenchmarkError(f"losses differ by {worst:.1e}: {found}")
    return f"losses of 3 equal updates agree to {worst:.0e}"


def _same(sides: dict[str, harness.Worker], name: str) -> str:
    """Norms of gradients."""
    found = {side: worker.call(name, times=1, full=True).result["shown"]
             for side, worker in sides.items()}
    worst = max(abs(a - b) / abs(b) for a, b in zip(found["seqjax"], found["torch"], strict=True))
    if worst > _TOLERANCE:
        raise BenchmarkError(f"gradients differ by {worst:.1e}: {found}")
    return f"norms of gradients agree to {worst:.0e}"
