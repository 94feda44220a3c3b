"""C4 and C5: beam search of a transformer-base of random weights, every sentence for the
same number of steps, over CTranslate2 and over plain torch (for fairseq)."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import ceilings, checks, harness
from benchmarks.harness import Options, Row
from benchmarks.sizes import SIZES

TITLE = "Beam search, CPU"
SOURCE = STEPS = 27
BEAM = 5
FLOOR = {"CTranslate2 float32": 0.6, "plain torch": 1.2}


def run(options: Options) -> list[Row]:
    """Rows over CTranslate2 for 16 and 64 sentences a batch, over torch for 16."""
    size, batches = ("micro", (4,)) if options.quick else ("base", (16, 64))
    gemm = ceilings.cpu_gemm(cores=options.cores)
    args = {"size": size, "weights": None}
    rows = []
    with harness.workers(
        options,
        seqjax=("benchmarks.seqjax_side:Decode", args),
        ct2=("benchmarks.ct2_side:Decode", {**args, "cores": options.cores}),
        torch=("benchmarks.torch_side:Decode", {**args, "cores": options.cores}),
    ) as sides:
        for batch in batches:
            spec = job(size, batch)
            names = {"ct2": "CTranslate2 float32"}
            if batch == batches[0]:
                names["torch"] = "plain torch"
            active = {n: sides[n] for n in ("seqjax", *names)}
            first = {n: w.call("search", spec=spec, full=True).result for n, w in active.items()}
            samples = harness.take_turns(
                active, "search", rounds=options.rounds, args=[{"spec": spec}]
            )
            for side, name in names.items():
                row = Row(
                    id="C5" if side == "ct2" else "C4", metric="tokens/s", ours=0.0,
                    workload=f"{size}, beam {BEAM}, {SOURCE} in, {STEPS} steps, {batch} sentences",
                    opponent=name, floor=FLOOR[name], checks=[_check(side, name, first)],
                )
                row = harness.compare(row, samples["seqjax"], samples[side])
                per_token = SIZES[size].decode_flops(SOURCE, STEPS, BEAM) / STEPS
                row.bound = gemm / per_token / statistics.median(s.rate for s in samples[side])
                row.bound_why = f"all FLOPs at the measured {gemm / 1e9:.0f} GFLOP/s"
                rows.append(row)
    return rows


def job(size: str, batch: int) -> dict[str, Any]:
    return {
        "vocab": SIZES[size].vocab, "rows": batch, "beam": BEAM, "source": SOURCE,
        "steps": STEPS,
    }


def _check(side: str, name: str, first: dict[str, Any]) -> str:
    """torch follows fairseq's rules: all must agree. CTranslate2 forces no eos at the end,
    which may change which beam is best."""
    if side == "torch":
        return checks.same_hypotheses(first["seqjax"], first[side], name=name, least=1.0)
    return checks.same_hypotheses(
        first["seqjax"], first[side], name=name, least=0.5, skip_last=True
    )
