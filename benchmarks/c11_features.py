"""C11: log mel filterbanks, MFCCs, and filterbanks with normalisation and SpecAugment, in seconds
of sound a second, over kaldi-native-fbank and over NumPy."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import harness
from benchmarks.harness import Options, Row

TITLE = "Features of speech, CPU"
FLOOR = 1500.0
"""Seconds of sound a second and core."""
WORST = 1e-3
"""How far logarithms of power may be apart."""
OPPONENTS = {"kaldi": "kaldi-native-fbank", "numpy": "NumPy"}


def run(options: Options) -> list[Row]:
    """Rows of sound of 20 s, at 16,000 samples a second; one compiled shape."""
    sound = dict(rows=2, seconds=2.0) if options.quick else dict(rows=8, seconds=20.0)
    with harness.workers(
        options,
        ours=("benchmarks.audio_sides:Seqjax", sound),
        kaldi=("benchmarks.audio_sides:Kaldi", sound),
        numpy=("benchmarks.audio_sides:NumPy", sound),
    ) as sides:
        check = _equal(sides)
        filterbanks = harness.take_turns(
            sides, "fbank", rounds=options.rounds, args=[{"times": 1 if options.quick else 5}])
        alone = {"ours": sides["ours"]}
        others = {
            name: harness.take_turns(alone, name, rounds=options.rounds, args=[
                {"times": 1 if options.quick else 5}])["ours"]
            for name in ("augmented", "mfcc")}
    name = f"{sound['rows']} x {sound['seconds']:g} s of sound: "
    rows = [harness.compare(
        Row(id="C11", workload=f"{name}80 log mel filterbanks", metric="s of sound/s", ours=0.0,
            opponent=OPPONENTS[side], floor=FLOOR, checks=[check, _by_cpu(filterbanks["ours"])]),
        filterbanks["ours"], filterbanks[side]) for side in OPPONENTS]
    for what, samples in (("filterbanks, utterance CMVN and SpecAugment LD", others["augmented"]),
                          ("HuBERT's 39 MFCCs", others["mfcc"])):
        rates = [sample.rate for sample in samples]
        rows.append(Row(id="C11", workload=name + what, metric="s of sound/s",
                        ours=sorted(rates)[len(rates) // 2], ours_spread=harness.spread(rates),
                        checks=[_by_cpu(samples)]))
    return rows


def _by_cpu(samples: Sequence[harness.Sample]) -> str:
    """The best rate by CPU seconds, where others use the machine too."""
    best = max(s.result["work"] / s.cpu for s in samples if s.cpu > 0)
    return f"{best:,.0f} s of sound a CPU second in the best round"


def _equal(sides: dict[str, harness.Worker]) -> str:
    """Also compiles."""
    shown = {n: w.call("fbank", times=1, full=True).result["shown"] for n, w in sides.items()}
    worst = {n: max(abs(a - b) for a, b in zip(shown["ours"], shown[n], strict=True))
             for n in OPPONENTS}
    if max(worst.values()) > WORST:
        raise harness.BenchmarkError(f"the features differ by {worst}")
    return f"features of 200 frames within {max(worst.values()):.0e} of both"
