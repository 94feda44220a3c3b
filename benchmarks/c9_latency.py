"""C9: one sentence at a time, beam 5, transformer-base."""

from __future__ import annotations

from benchmarks import harness
from benchmarks.c5_decode import BEAM, SOURCE, STEPS, job
from benchmarks.harness import Options, Row

TITLE = "Latency, CPU"


def run(options: Options) -> list[Row]:
    """Tokens per second of a single sentence; each call is one sentence."""
    size = "micro" if options.quick else "base"
    spec = job(size, 1)
    args = {"size": size, "weights": None}
    names = {"torch": "plain torch", "ct2": "CTranslate2 float32"}
    with harness.workers(
        options,
        seqjax=("benchmarks.seqjax_side:Decode", args),
        torch=("benchmarks.torch_side:Decode", {**args, "cores": options.cores}),
        ct2=("benchmarks.ct2_side:Decode", {**args, "cores": options.cores}),
    ) as sides:
        for worker in sides.values():
            worker.call("search", spec=spec)
        samples = harness.take_turns(
            sides, "search", rounds=2 * options.rounds, args=[{"spec": spec}]
        )
    return [
        harness.compare(
            Row(
                id="C9", metric="tokens/s", ours=0.0, opponent=name,
                workload=f"{size}, 1 sentence, beam {BEAM}, {SOURCE} in, {STEPS} steps",
            ),
            samples["seqjax"], samples[side],
        )
        for side, name in names.items()
    ]
