"""C14: memory of beam search, 64 sentences, beam 5, transformer-base."""

from __future__ import annotations

from benchmarks import harness
from benchmarks.c5_decode import BEAM, SOURCE, STEPS, job
from benchmarks.harness import Options, Row
from benchmarks.sizes import SIZES

TITLE = "Memory of decoding, CPU"
MIB = 2**20


def run(options: Options) -> list[Row]:
    """Peak resident memory of fresh processes (code and weights included), and bytes of
    the live decoding state. Ratios are ours over theirs: smaller is better."""
    size, batch = ("micro", 4) if options.quick else ("base", 64)
    spec, args = job(size, batch), {"size": size, "weights": None}
    peaks, cache = {}, 0
    for name, side, extra in (
        ("seqjax", "benchmarks.seqjax_side:Decode", {}),
        ("plain torch", "benchmarks.torch_side:Decode", {"cores": options.cores}),
    ):
        with harness.workers(options, one=(side, {**args, **extra})) as sides:
            peaks[name] = sides["one"].call("memory", spec=spec).result["peak"]
            if name == "seqjax":
                cache = sides["one"].call("cache_bytes", spec=spec, capacity=32).result["bytes"]
    shape = SIZES[size]
    per_position = shape.decoder_layers * 2 * shape.dim * 4
    theirs = batch * BEAM * per_position * (STEPS + SOURCE)
    return [
        Row(
            id="C14", workload=f"{size}, {batch} sentences, beam {BEAM}: peak of the process",
            metric="MiB", ours=peaks["seqjax"] / MIB, opponent="plain torch",
            theirs=peaks["plain torch"] / MIB, ratio=peaks["seqjax"] / peaks["plain torch"],
        ),
        Row(
            id="C14", workload=f"{size}, {batch} sentences, beam {BEAM}: decoding state",
            metric="MiB", ours=cache / MIB, opponent="plain torch", theirs=theirs / MIB,
            ratio=cache / theirs,
            checks=["theirs by arithmetic: keys and values of source and history, one copy "
                    "per hypothesis, without the second copy while beams reorder"],
        ),
    ]
