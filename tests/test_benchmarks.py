"""The benchmarks' own parts: corpora, costs, turns, and that seqjax's sides run.

Opponents (torch, CTranslate2) are not needed here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import harness, seqjax_side, sizes, speech_work, synthetic, table, workloads


def test_lengths_are_those_of_the_plan() -> None:
    source, target = synthetic.lengths(20000)
    assert source.min() >= 3 and max(source.max(), target.max()) <= 250
    assert abs(np.median(source) - 24) < 1
    assert abs(np.median(target / source) - 1.05) < 0.03
    again, _ = synthetic.lengths(20000)
    np.testing.assert_array_equal(source, again)


def test_corpus_ends_in_eos_and_has_no_other_special() -> None:
    corpus = synthetic.corpus(200, 96)
    for sentence in (*corpus.source, *corpus.target):
        assert sentence[-1] == sizes.EOS
        assert (sentence[:-1] >= sizes.FIRST_WORD).all() and (sentence < 96).all()


def test_toy_language_is_a_function_of_the_words() -> None:
    corpus = synthetic.toy_corpus(300, 96, longest=30)
    meaning: dict[int, int] = {}
    for source, target in zip(corpus.source, corpus.target, strict=True):
        assert len(source) == len(target) <= 30
        for a, b in zip(source.tolist(), target.tolist(), strict=True):
            assert meaning.setdefault(a, b) == b
    assert len(set(meaning.values())) == len(meaning)


def test_token_batches_hold_every_sentence_once_within_the_budget() -> None:
    source, target = synthetic.lengths(3000)
    batches = synthetic.token_batches(source, target, max_tokens=1024)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(3000))
    for ids in batches:
        assert len(ids) * max(source[ids].max(), target[ids].max()) <= 1024
    rows = [len(ids) for ids in batches]
    assert all(n % 8 == 0 for n in rows if n > 8 and n != rows[-1])


@pytest.mark.parametrize(
    ("found", "mflop"),
    [
        (sizes.TINY.pair_flops(27, 27) / 27, 46.2),
        (sizes.BASE.pair_flops(27, 27) / 27, 367),
        (sizes.BIG.pair_flops(27, 27) / 27, 1263),
        (sizes.BASE.decode_flops(27, 27, 5) / 27, 432),
    ],
)
def test_costs(found: float, mflop: float) -> None:
    """Per target token, against the figures worked out by hand in the plan."""
    assert found / 1e6 == pytest.approx(mflop, rel=0.02)


def test_recordings_last_as_long_as_asked() -> None:
    lengths = speech_work.mixed_lengths(1.0, seed=5)
    assert abs(lengths.sum() / speech_work.RATE - 60) < 2
    assert lengths.min() >= 2 * speech_work.RATE and lengths.max() <= 20 * speech_work.RATE
    short = speech_work.clips(lengths[:2] // 100, seed=4)
    assert [len(x) for x in short] == (lengths[:2] // 100).tolist()
    assert all(0.7 < np.abs(x).max() <= 1 and x.dtype == np.float32 for x in short)


def test_weights_fit_the_model() -> None:
    params = seqjax_side.params_of(workloads.weights("micro"))
    model = seqjax_side.build(sizes.MICRO)
    expected = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    assert jax.tree.map(lambda x: x.shape, params) == jax.tree.map(lambda x: x.shape, expected)


def test_sides_take_turns_in_their_own_processes() -> None:
    options = harness.Options()
    with harness.workers(
        options, a=("tests.benchmark_side:Side", {"rate": 6}),
        b=("tests.benchmark_side:Side", {"rate": 3}),
    ) as sides:
        samples = harness.take_turns(
            sides, "go", rounds=3, args=[{"times": 1}, {"times": 2}]
        )
        assert [s.result["work"] for s in samples["a"]] == [6, 12, 6]
        assert all(s.wall > 0 for s in samples["b"])
        with pytest.raises(harness.BenchmarkError, match="deliberate"):
            sides["a"].call("fail")


def test_compare_is_pair_by_pair() -> None:
    def samples(*walls: float) -> list[harness.Sample]:
        return [harness.Sample(result={"work": 10}, wall=w, cpu=w) for w in walls]

    row = harness.Row(id="X", workload="w", metric="m", ours=0.0)
    row = harness.compare(row, samples(1, 2, 4), samples(2, 2, 2))
    assert row.ours == 5.0 and row.theirs == 5.0
    assert row.ratio == 1.0 and row.ratio_spread == (0.5, 2.0)


@pytest.mark.slow
def test_gpu_benchmarks_run_small_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    assert command.main(["g1", "g7", "--tiny", "--quick"]) == 0
    text = capsys.readouterr().out
    assert "target tokens/s" in text and "TFLOP/s" in text
    for name in ("g1", "g7"):
        rows = json.loads((tmp_path / f"{name}-cpu-quick.json").read_text())["rows"]
        assert rows[0]["ours"] > 0 and rows[0]["bound"] > 0


def test_a_gpu_benchmark_without_a_gpu_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["g1"]) == 2
    assert "sees no GPU" in capsys.readouterr().err


def test_shapes_stay_within_the_menu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    assert command.main(["c13", "--quick"]) == 0
    rows = json.loads((tmp_path / "c13-cpu-quick.json").read_text())["rows"]
    promised = [r for r in rows if r["floor"] is not None]
    assert len(promised) >= 3
    assert all(r["ours"] <= r["floor"] for r in promised)


def test_table(tmp_path: Any) -> None:
    row = harness.Row(
        id="C5", workload="base", metric="tokens/s", ours=1234.5, opponent="CTranslate2",
        theirs=2000.0, ratio=0.617, ratio_spread=(0.6, 0.65), bound=1.3, bound_why="all GEMM",
        floor=0.6, checks=["16 of 16 identical"],
    )
    for name in ("load", "c10", "c5"):
        options = harness.Options()
        (tmp_path / f"{name}-cpu.json").write_text(json.dumps({
            "name": name, "device": "cpu", "options": vars(options),
            "environment": harness.environment(), "rows": [vars(row)],
        }))
    text = table.render(table.load(tmp_path))
    assert text.index("## C5") < text.index("## C10") < text.index("## LOAD")
    assert "| C5 | base | 1,234 tokens/s | CTranslate2: 2,000 | **0.62** (0.60 to 0.65)" in text
    assert "16 of 16 identical" in text and "all GEMM" in text


def test_command_names_what_it_does_not_know() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "c99"], cwd=harness.ROOT, capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "unknown: c99" in done.stderr
