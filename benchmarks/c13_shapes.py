"""C13: how many shapes an epoch compiles, and how full the batches are."""

from __future__ import annotations

import numpy as np

from benchmarks import c10_data, synthetic
from benchmarks.harness import Options, Row
from seqjax.generation import decoding_plan
from seqjax.generation.decoder import default_rows

TITLE = "Compiled shapes"
MENU = 16


def run(options: Options) -> list[Row]:
    """Training by every mode, decoding by the decoder's own plan. Counts, not times."""
    pairs = 2000 if options.quick else 60000
    found = {k: v for k, v in c10_data.shapes(pairs=pairs).items() if k.startswith("train")}
    source, _ = synthetic.lengths(pairs)
    plan = decoding_plan.plan_decoding(source, batch_size=default_rows())
    positions = sum(b.rows * b.width for b in plan)
    found["decode"] = {
        "shapes": len({(b.rows, b.width) for b in plan}),
        "efficiency": int(np.sum(source)) / positions,
    }
    return [
        Row(
            id="C13", workload=f"{name}, {pairs:,} pairs", metric="shapes",
            ours=value["shapes"], floor=None if "fairseq" in name else MENU,
            checks=[f"{value['efficiency']:.1%} of positions real"],
        )
        for name, value in found.items()
    ]
