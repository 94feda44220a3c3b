"""C10: the data pipeline on one core (`c10_data` measures)."""

from __future__ import annotations

from benchmarks import c10_data
from benchmarks.harness import Options, Row

TITLE = "Data pipeline, CPU"
COLLATER = 0.54
"""Million tokens/s of fairseq's collater on one core of a Zen 3 (measured once, apart)."""


def run(options: Options) -> list[Row]:
    """One row per way of batching; tokens of both sides, planned, padded, on the device."""
    found = c10_data.run(
        pairs=2000 if options.quick else 60000, rounds=options.rounds
    )
    return [
        Row(
            id="C10", workload=f"{found['pairs']:,} pairs, {way}, one core",
            metric="million tokens/s", ours=rate["median"],
            ours_spread=(rate["min"], rate["max"]), floor=found["gate"],
            opponent="fairseq's collater (another machine)", theirs=COLLATER,
            ratio=rate["median"] / COLLATER,
        )
        for way, rate in found["M tokens/s"].items()
    ]
