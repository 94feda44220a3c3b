"""G1: training a transformer-big on one GPU, real lengths, packed rows, bfloat16.

Needs jax with a GPU; no TensorFlow, no network. With torch and CUDA beside it, the plain
torch implementation (bfloat16 autocast, compiled, fused Adam) is measured in turns.
`--tiny` runs it on anything.
"""

from __future__ import annotations

import importlib.util
import os
import re
import statistics
from typing import Any

from benchmarks import ceilings, harness
from benchmarks.c1_train import flops_per_token
from benchmarks.harness import Options, Row

TITLE = "Training, one GPU"
GATE = 220e3
"""Target tokens/s of a first version on one H100."""


def device() -> str:
    """The accelerator's name as a file name."""
    import jax

    return re.sub(r"[^a-z0-9]+", "-", jax.devices()[0].device_kind.lower()).strip("-")


def torch_with_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def require_gpu(options: Options) -> None:
    # Two toolkits share the memory: JAX must not take most of it at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    if jax.default_backend() == "cpu" and not options.tiny:
        raise harness.BenchmarkError("jax sees no GPU here; --tiny runs small sizes on the CPU")


def run(options: Options) -> list[Row]:
    """Real target tokens per second, and what share of the device's product rate that is."""
    require_gpu(options)
    size, pairs, tokens, count = ("micro", 400, 512, 2) if options.tiny else (
        "big", 40000, 32768, 10)
    top = ceilings.device(size=256 if options.tiny else 8192)
    ours = _ours(size, pairs, tokens, options)
    sides: dict[str, Any] = {"seqjax": ours}
    if torch_with_cuda() and not options.tiny:
        from benchmarks.torch_side import Train

        sides["torch"] = Train(
            size=size, pairs=pairs, max_tokens=tokens, dropout=0.3, cores=8, device="cuda",
            autocast=True, compiled=True,
        )
    shapes = ours.compile()
    for side in sides.values():
        side.updates(first=0, count=2 if options.tiny else 5)
    samples: dict[str, list[harness.Sample]] = {name: [] for name in sides}
    for index in range(2 if options.tiny else max(3, options.rounds)):
        for name, side in sides.items():
            samples[name].append(harness.timed(side.updates, first=5 + count * index, count=count))
    rates = [s.rate for s in samples["seqjax"]]
    achieved = statistics.median(rates) * flops_per_token(size)
    row = Row(
        id="G1", workload=f"{size} seq2seq, packed, {tokens} target positions",
        metric="target tokens/s", ours=statistics.median(rates),
        ours_spread=harness.spread(rates), floor=None if options.tiny else GATE,
        bound=top["flops"] / flops_per_token(size),
        bound_of="ours", bound_why="all FLOPs at the measured product rate",
        checks=[
            f"device: {device()}; product {top['flops'] / 1e12:,.4g} TFLOP/s, "
            f"copy {top['bytes'] / 1e12:,.4g} TB/s",
            f"{achieved / 1e12:,.4g} TFLOP/s of model arithmetic: "
            f"{achieved / top['flops']:.1%} of the measured product rate",
            f"{shapes['shapes']} compiled shapes, {shapes['efficiency']:.1%} of positions real",
        ],
    )
    if "torch" in samples:
        row.opponent = "plain torch, compiled"
        bound = row.bound
        row = harness.compare(row, samples["seqjax"], samples["torch"])
        row.bound = bound
    return [row]


def _ours(size: str, pairs: int, tokens: int, options: Options) -> Any:
    from benchmarks.seqjax_side import Train

    return Train(
        size=size, pairs=pairs, max_tokens=tokens, dropout=0.3, bfloat16=not options.tiny,
        batching={"mode": "packed", "pack_length": 256},
    )
