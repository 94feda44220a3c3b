"""G7: beam search of a transformer-base on one GPU, 3,003 sentences of many lengths.

Weights are random, so lengths are forced: sentences are rounded to a few lengths, and each
is as long in the output as in the source. End to end after compilation, ids to ids.
`--tiny` runs it on anything.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from benchmarks import ceilings, harness, synthetic
from benchmarks.g1_train import device, require_gpu, torch_with_cuda
from benchmarks.harness import Options, Row
from benchmarks.sizes import SIZES

TITLE = "Beam search, one GPU"
GATE = 40e3
BEAM = 5
GROUPS = (8, 16, 24, 32, 48, 64, 96)
"""Lengths that sentences are rounded to; source and output alike."""

__all__ = ["device", "run"]


def run(options: Options) -> list[Row]:
    """Emitted tokens of best hypotheses per second over all sentences."""
    require_gpu(options)
    size, count, batch = ("micro", 12, 4) if options.tiny else ("base", 3003, 512)
    groups = (8, 16) if options.tiny else GROUPS
    top = ceilings.device(size=256 if options.tiny else 8192)
    specs = jobs(size, count, batch, groups)
    sides = _sides(size, options)
    for side in sides.values():
        _decode(side, specs)
    samples: dict[str, list[harness.Sample]] = {name: [] for name in sides}
    for _ in range(2 if options.tiny else max(3, options.rounds)):
        for name, side in sides.items():
            samples[name].append(harness.timed(_decode, side, specs))
    rates = [s.rate for s in samples["seqjax"]]
    flops = sum(
        s["rows"] * SIZES[size].decode_flops(s["source"], s["steps"], BEAM) for s in specs
    ) / sum(s["rows"] * s["steps"] for s in specs)
    row = Row(
        id="G7", workload=f"{size}, beam {BEAM}, {count} sentences, batches of {batch}",
        metric="tokens/s", ours=statistics.median(rates), ours_spread=harness.spread(rates),
        floor=None if options.tiny else GATE, bound=top["flops"] / flops,
        bound_of="ours", bound_why="all FLOPs at the measured product rate",
        checks=[f"device: {device()}; product {top['flops'] / 1e12:,.4g} TFLOP/s, "
                f"copy {top['bytes'] / 1e12:,.4g} TB/s"],
    )
    if "torch" in samples:
        row.opponent = "plain torch (for fairseq)"
        bound = row.bound
        row = harness.compare(row, samples["seqjax"], samples["torch"])
        row.bound = bound
    return [row]


def jobs(size: str, count: int, batch: int, groups: tuple[int, ...]) -> list[dict[str, Any]]:
    """One job per length, with as many sentences as the synthetic corpus has near it."""
    source, _ = synthetic.lengths(count, seed=3)
    nearest = np.abs(source[:, None] - np.array(groups)).argmin(axis=1)
    numbers = np.bincount(nearest, minlength=len(groups))
    return [
        {"vocab": SIZES[size].vocab, "rows": int(n), "beam": BEAM, "batch": batch,
         "source": length, "steps": length}
        for n, length in zip(numbers, groups, strict=True) if n
    ]


def _sides(size: str, options: Options) -> dict[str, Any]:
    from benchmarks.seqjax_side import Decode

    sides: dict[str, Any] = {
        "seqjax": Decode(size=size, weights=None, bfloat16=not options.tiny)
    }
    if torch_with_cuda() and not options.tiny:
        from benchmarks.torch_side import Decode as TorchDecode

        sides["torch"] = TorchDecode(
            size=size, weights=None, cores=8, device="cuda", bfloat16=True
        )
    return sides


def _decode(side: Any, specs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"work": sum(side.search(spec=spec)["work"] for spec in specs)}
