"""C16: a BART of random weights over Hugging Face transformers, on the same folder:
`extract_features` of sentences of mixed lengths, and beam search of a forced length."""

from __future__ import annotations

import tempfile

import numpy as np

from benchmarks import checks, harness, pretrained
from benchmarks.harness import BenchmarkError, Options, Row

TITLE = "BART over transformers, CPU"
SENTENCES = 64
STEPS, BEAM = 27, 5
FLOORS = {"features": 1.3, "search": 2.0}


def run(options: Options) -> list[Row]:
    """Tokens a second of both; each side in batches of 16 sentences of like length."""
    size = "micro" if options.quick else "bart-base"
    vocab = pretrained.SIZES[size]["vocab_size"]
    work = {
        "features": pretrained.rows(SENTENCES, vocab=vocab, shortest=8, longest=60, seed=3),
        "search": pretrained.rows(
            pretrained.ROWS, vocab=vocab, shortest=STEPS, longest=STEPS, seed=4)}
    with tempfile.TemporaryDirectory() as folder:
        args = {"folder": folder, "size": size, "cores": options.cores}
        with harness.workers(  # transformers makes the folder that seqjax loads
            options,
            transformers=("benchmarks.hf_side:Bart", {**args, "steps": STEPS, "beam": BEAM}),
            seqjax=("benchmarks.seqjax_pretrained:Bart", {"folder": folder}),
        ) as sides:
            return [_row(name, work[name], sides, size=size, options=options)
                    for name in ("features", "search")]


def _row(
    name: str, rows: list[list[int]], sides: dict[str, harness.Worker], *, size: str,
    options: Options,
) -> Row:
    first = {side: worker.call(name, rows=rows, full=True).result
             for side, worker in sides.items()}
    samples = harness.take_turns(sides, name, rounds=options.rounds, args=[{"rows": rows}])
    if name == "features":
        check = _same_features(first["seqjax"]["shown"], first["transformers"]["shown"])
        workload = f"{size}, extract_features, {len(rows)} sentences of 8 to 60 tokens"
    else:
        check = checks.same_hypotheses(
            first["seqjax"], first["transformers"], name="transformers", least=0.9)
        workload = f"{size}, beam {BEAM}, {STEPS} in, {STEPS} steps, {len(rows)} sentences"
    row = Row(id="C16", metric="tokens/s", ours=0.0, workload=workload, opponent="transformers",
              floor=FLOORS[name], checks=[check])
    return harness.compare(row, samples["seqjax"], samples["transformers"])


def _same_features(ours: list[list[float]], theirs: list[list[float]]) -> str:
    largest = max(float(np.abs(np.subtract(a, b)).max())
                  for a, b in zip(ours, theirs, strict=True))
    if largest > 1e-3:
        raise BenchmarkError(f"features differ from transformers' by {largest:.1e}")
    return f"features differ from transformers' by {largest:.1e} at most"
