"""C16: a BART of random weights over Hugging Face transformers, on the same folder:
`extract_features` of sentences of mixed lengths, and beam search of a forced length."""

from __future__ import annotations

import tempfile
from typing import NamedTuple

import numpy as np

from benchmarks import checks, harness, pretrained
from benchmarks.harness import BenchmarkError, Options, Row

TITLE = "BART over transformers, CPU"
FLOORS = {"features": 1.3, "search": 2.0}
BEAM = 5


class Work(NamedTuple):
    """What is done with a model of one size."""

    sentences: int
    """Of which features are extracted."""
    shortest: int
    longest: int
    searched: int
    """Rows of the search, in one batch."""
    steps: int
    """Their length and that of what is found."""


WORK = {"bart-base": Work(64, 8, 60, pretrained.ROWS, 27),
        "bart-g2p": Work(512, 5, 16, 64, 10),
        "micro": Work(64, 8, 60, pretrained.ROWS, 27)}


def run(options: Options) -> list[Row]:
    """Tokens a second of both; transformers in batches of 16 sentences of like length."""
    sizes = ["micro"] if options.quick else ["bart-base", "bart-g2p"]
    return [row for size in sizes for row in _rows(size, options)]


def _rows(size: str, options: Options) -> list[Row]:
    vocab, work = pretrained.SIZES[size]["vocab_size"], WORK[size]
    rows = {
        "features": pretrained.rows(work.sentences, vocab=vocab, shortest=work.shortest,
                                    longest=work.longest, seed=3),
        "search": pretrained.rows(
            work.searched, vocab=vocab, shortest=work.steps, longest=work.steps, seed=4)}
    with tempfile.TemporaryDirectory() as folder:
        args = {"folder": folder, "size": size, "cores": options.cores}
        with harness.workers(  # transformers makes the folder that seqjax loads
            options,
            transformers=("benchmarks.hf_side:Bart", {**args, "steps": work.steps, "beam": BEAM}),
            seqjax=("benchmarks.seqjax_pretrained:Bart", {"folder": folder}),
        ) as sides:
            return [_row(name, rows[name], sides, size=size, options=options)
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
        workload = (f"{size}, extract_features, {len(rows)} sentences of {WORK[size].shortest} to "
                    f"{WORK[size].longest} tokens")
    else:
        check = checks.same_hypotheses(
            first["seqjax"], first["transformers"], name="transformers", least=0.9)
        steps = WORK[size].steps
        workload = f"{size}, beam {BEAM}, {steps} in, {steps} steps, {len(rows)} sentences"
    row = Row(id="C16", metric="tokens/s", ours=0.0, workload=workload, opponent="transformers",
              floor=FLOORS[name], checks=[check])
    return harness.compare(row, samples["seqjax"], samples["transformers"])


def _same_features(ours: list[list[float]], theirs: list[list[float]]) -> str:
    largest = max(float(np.abs(np.subtract(a, b)).max())
                  for a, b in zip(ours, theirs, strict=True))
    if largest > 1e-3:
        raise BenchmarkError(f"features differ from transformers' by {largest:.1e}")
    return f"features differ from transformers' by {largest:.1e} at most"
