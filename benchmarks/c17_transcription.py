"""C17: recordings of mixed lengths transcribed by a recogniser of wav2vec2-base's size (CTC, random
weights), from paths to strings, over transformers' pipeline on the same folder."""

from __future__ import annotations

import tempfile

from benchmarks import harness
from benchmarks.harness import BenchmarkError, Options, Row
from benchmarks.speech_work import RATE, mixed_lengths

TITLE = "Transcription over transformers, CPU"
FLOOR = 1.5
MINUTES, SHARE = 20.0, 4
"""Of all recordings, and how many rounds they are divided into; the first round's are transcribed
once more before, so that all shapes are compiled."""


def run(options: Options) -> list[Row]:
    """Seconds of sound a second: rounds of a share of the recordings each, `options.rounds` at
    least; then the ratio over all 20 minutes."""
    minutes = 0.4 if options.quick else MINUTES
    lengths = mixed_lengths(minutes, seed=5)
    rounds = options.rounds if options.quick else SHARE
    edges = [round(i * len(lengths) / rounds) for i in range(rounds + 1)]
    with tempfile.TemporaryDirectory() as folder, harness.workers(
        options,
        transformers=("benchmarks.speech_torch:Transcription", {
            "folder": folder, "size": "micro" if options.quick else "base",
            "lengths": lengths.tolist(), "cores": options.cores}),
        seqjax=("benchmarks.speech_seqjax:Transcription", {"folder": folder}),
    ) as sides:
        compiled = sides["seqjax"].call("transcribe", first=0, last=len(lengths)).wall
        sides["transformers"].call("transcribe", first=0, last=1)
        args = [{"first": a, "last": b, "full": True}
                for a, b in zip(edges, edges[1:], strict=False)]
        samples = harness.take_turns(sides, "transcribe", rounds=rounds, args=args)
    seconds = lengths.sum() / RATE
    row = Row(
        id="C17", workload=f"{len(lengths)} recordings of 2 to 20 s, {seconds / 60:.0f} minutes in "
        f"{rounds} rounds", metric="s of sound/s", ours=0.0, opponent="transformers", floor=FLOOR,
        checks=[_same(samples)])
    row = harness.compare(row, samples["seqjax"], samples["transformers"])
    wall, cpu = (
        [sum(getattr(s, clock) for s in samples[side]) for side in ("seqjax", "transformers")]
        for clock in ("wall", "cpu"))
    row.checks += [
        f"all recordings: {wall[0]:.0f} s and {wall[1]:.0f} s, ratio {wall[1] / wall[0]:.2f}; by "
        f"CPU seconds {cpu[1] / cpu[0]:.2f}",
        f"the first time, with compilation: {compiled:.0f} s"]
    return [row]


def _same(samples: dict[str, list[harness.Sample]]) -> str:
    ours, theirs = ([text for sample in samples[side] for text in sample.result["texts"]]
                    for side in ("seqjax", "transformers"))
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    letters = sum(map(len, theirs))
    text = f"{same} of {len(theirs)} transcripts ({letters:,} letters) equal transformers'"
    if same < 0.98 * len(theirs):
        different = next((a, b) for a, b in zip(ours, theirs, strict=True) if a != b)
        raise BenchmarkError(f"only {text}; the first that differs: {different}")
    return text
