"""C8: a trained toy translator, 2,000 sentences of many lengths from ids to ids, batching
included, over plain torch (for fairseq-generate) and CTranslate2."""

from __future__ import annotations

from benchmarks import checks, harness
from benchmarks.harness import Options, Row
from benchmarks.sizes import SIZES

TITLE = "Translating a file, CPU"
BATCH = 128
FLOOR = {"plain torch": 0.8}


def run(options: Options) -> list[Row]:
    """Every side sorts by length itself and works in batches of 128 sentences."""
    from benchmarks import toy

    rows_asked = 100 if options.quick else 2000
    spec = {
        "vocab": SIZES["toy"].vocab, "rows": rows_asked, "toy": True, "batch": BATCH,
    }
    args = {"size": "toy", "weights": str(toy.weights_file())}
    names = {"torch": "plain torch", "ct2": "CTranslate2 float32"}
    with harness.workers(
        options,
        seqjax=("benchmarks.seqjax_side:Decode", args),
        torch=("benchmarks.torch_side:Decode", {**args, "cores": options.cores}),
        ct2=("benchmarks.ct2_side:Decode", {**args, "cores": options.cores}),
    ) as sides:
        first = {n: w.call("search", spec=spec, full=True).result for n, w in sides.items()}
        samples = harness.take_turns(
            sides, "search", rounds=options.rounds, args=[{"spec": spec}]
        )
    return [
        harness.compare(
            Row(
                id="C8", workload=f"toy model, {rows_asked} sentences, beam 5",
                metric="tokens/s", ours=0.0, opponent=name, floor=FLOOR.get(name),
                checks=[checks.same_hypotheses(
                    first["seqjax"], first[side], name=name, least=0.98
                )],
            ),
            samples["seqjax"], samples[side],
        )
        for side, name in names.items()
    ]
