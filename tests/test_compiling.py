"""What is compiled is said while it is, is compiled once, and is no part of any clock."""

from __future__ import annotations

import collections
import functools
import re
import time

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import write_data

import seqjax
from seqjax import cli, console, evaluate, losses
from seqjax.console import compiling
from seqjax.generation.beam_search import capacities
from seqjax.generation.decoding_plan import plan_decoding
from seqjax.training import compilation
from seqjax.training.progress import Reporter


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = write_data(tmp_path_factory.mktemp("corpus") / "data-bin")
    return write_checkpoint(tmp_path_factory.mktemp("run") / "run", data)


@pytest.fixture
def hurry(monkeypatch):
    """What is compiled is said at once, and often."""
    monkeypatch.setattr(compiling, "FIRST", 0.0)
    monkeypatch.setattr(compiling, "EVERY", 0.05)
    monkeypatch.setattr(compiling, "_TICK", 0.02)


class Lines(list):
    """A display that keeps what is said."""

    def display(self, live=False):
        return compiling.Display(say=self.append, status=self.append, live=lambda: live,
                                 clear=lambda text: None)


@pytest.fixture
def programs():
    """Names of what XLA is asked for from here on, with how often."""
    found = collections.Counter()

    def heard(event, seconds, **about):
        if event.endswith("backend_compile_duration"):
            found[about.get("fun_name")] += 1

    jax.monitoring.register_event_duration_secs_listener(heard)
    yield found
    jax.monitoring.unregister_event_duration_listener(heard)


@jax.jit
def slow(x):
    """Traced for a while, as large models are."""
    time.sleep(0.5)
    return x + 1


def wait_for(lines, pattern):
    limit = time.monotonic() + 20
    while not any(re.search(pattern, line) for line in list(lines)):
        assert time.monotonic() < limit, lines
        time.sleep(0.02)


def test_a_program_that_nobody_announced_is_said_while_it_is_compiled(hurry):
    lines = Lines()
    compiling._watch.unplan()  # nothing is left of other tests' plans
    with compiling.shown(lines.display()):
        before = compiling.seconds()
        slow(jnp.zeros(3))
        during = list(lines)
        wait_for(lines, "^compiled ")
    assert len(during) > 2 and all(re.fullmatch(r"compiling \(.*\), \d+ s", x) for x in during)
    assert any("(slow)" in line for line in during)
    assert 0.5 <= compiling.seconds() - before < 20


def test_how_many_of_how_many(hurry):
    lines = Lines()

    def f(x):
        time.sleep(0.3)
        return x * 2

    jobs = {n: compilation.Job(function=jax.jit(f), size=n,
                               arguments=(jax.ShapeDtypeStruct((n,), jnp.float32),))
            for n in (3, 4, 5)}
    with compiling.shown(lines.display()):
        done = compilation.compile_all(jobs, threads=1)
        wait_for(lines, "^compiled ")
    assert set(done) == {3, 4, 5}
    for count in range(3):
        assert any(line.startswith(f"compiling: {count} of 3 programs done (f)")
                   for line in lines), lines


def test_quick_programs_are_not_mentioned(monkeypatch):
    monkeypatch.setattr(compiling, "_TICK", 0.02)
    lines = Lines()
    with compiling.shown(lines.display()):
        jax.jit(lambda x: x * 3 + 1)(jnp.zeros(7))
        time.sleep(0.6)
    assert lines == []


def test_a_failed_compilation_leaves_no_count(hurry):
    def wrong(x):
        raise ValueError("no such model")

    spec = jax.ShapeDtypeStruct((3,), jnp.float32)
    with pytest.raises(ValueError, match="no such model"):
        compilation.compile_all({1: compilation.Job(
            function=jax.jit(wrong), arguments=(spec,), size=1)})
    lines = Lines()
    with compiling.shown(lines.display()):
        jax.jit(lambda x: (time.sleep(0.3), x * 5)[1])(jnp.zeros(3))
        wait_for(lines, "compiling")
        time.sleep(0.6)
    assert not any(" of " in line for line in lines)


@pytest.mark.parametrize("committed", [False, True])
def test_search_compiles_ahead_and_once(run, programs, hurry, committed):
    """Every program of the plan is compiled before the first batch, and not again by it."""
    model = seqjax.load(run)
    if committed:  # as a model is while it is trained
        mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1],
                             axis_types=(jax.sharding.AxisType.Auto,))
        place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        model.params = jax.device_put(model.params, place)
    decoder = model.decoder(beam=2, max_len_b=20, min_len=20, batch_size=2)  # several chunks
    sources = [model.encode("aa1 " * n) for n in (3, 3, 20)]
    lines = Lines()
    programs.clear()
    with compiling.shown(lines.display()):
        found = decoder.decode(model.params, sources)
    assert all(found)
    assert programs["jit(_begin)"] == programs["jit(_chunk)"] == 2  # one a shape
    assert any(" of 4 programs done" in line for line in lines), lines
    again = dict(programs)
    assert decoder.decode(model.params, sources)[0][0].score == found[0][0].score
    assert dict(programs) == again


class Enough(Exception):
    pass


@pytest.mark.parametrize(("options", "constraints"), [
    ({}, {}), ({"sampling": True, "nbest": 2}, {}),
    ({"sampling": True, "sampling_topk": 3, "nbest": 2}, {}),
    ({"sampling": True, "sampling_topp": 0.5, "nbest": 2}, {}), ({"diverse_beam_groups": 2}, {}),
    ({"diversity_rate": 0.5}, {}), ({"no_repeat_ngram_size": 2, "match_source_len": True}, {}),
    ({}, {"constraints": [["bb2"]]}),
    ({}, {"constraints": [["bb2"]], "constraint_order": "unordered"}),
    ({}, {"allowed": ["bb1 bb2", "bb3"]}),
    ({}, {"prefix_allowed_tokens_fn": lambda number, ids: [2, 5]}),
], ids=lambda given: "+".join(given) or "none")
def test_a_chunk_takes_what_a_chunk_gives(run, monkeypatch, options, constraints):
    """Shapes, types and weak types: otherwise the second chunk would be another program."""
    model = seqjax.load(run)

    def compare(search, firsts, *, params, weights, tables):
        first, = firsts
        begin = functools.partial(search.begin, capacity=first.capacity)
        given = jax.eval_shape(begin, params, weights, first.source, first.sentences)
        found = jax.eval_shape(
            search.chunk, weights, first.sentences, *given, np.int32(8), tables=tables)
        assert jax.tree.structure(found) == jax.tree.structure(given)
        different = [
            (jax.tree_util.keystr(path), a, b) for (path, a), b in zip(
                jax.tree_util.tree_leaves_with_path(given), jax.tree.leaves(found), strict=True)
            if (a.shape, a.dtype, a.weak_type) != (b.shape, b.dtype, b.weak_type)]
        assert not different
        raise Enough

    monkeypatch.setattr("seqjax.generation.decoder.precompile", compare)
    if "allowed" in constraints:
        constraints = {"allowed": model.trie(constraints["allowed"])}
    with pytest.raises(Enough):
        model.generate(["aa1 aa2 aa3"], beam=2, **options, **constraints)


def test_python_and_evaluate_say_it_too(run, hurry, capfd, monkeypatch):
    monkeypatch.setattr(compiling._watch, "display", None)
    model = seqjax.load(run)
    model.translate("aa1 aa2", beam=3, max_len_b=9)
    time.sleep(0.6)
    assert re.search(r"compiling: \d of 2 programs done .*\n", capfd.readouterr().err)
    model.score(["aa1 aa2"], ["bb1"])
    time.sleep(0.6)
    assert "compiling (" in capfd.readouterr().err
    evaluate.main(["--checkpoint", str(run), "--subset", "valid"])
    time.sleep(0.6)
    assert re.search(r"compiling: \d of \d+ program", capfd.readouterr().err)


def test_clocks_leave_compilation_out(capfd):
    progress = cli.Progress(100, unit="sentences", seconds=0.0)
    jax.jit(lambda x: (time.sleep(1.0), x * 7)[1])(jnp.zeros(3))
    progress.add(1)
    assert "1/100 sentences, ?/s, ? left" in capfd.readouterr().err
    time.sleep(0.5)
    progress.add(9)
    rate = float(re.search(r"10/100 sentences, ([\d.]+)/s, 0:0\d left",
                           capfd.readouterr().err)[1])
    assert 10 < rate <= 20


def test_the_first_sentence_of_the_first_batch_makes_no_rate(capfd):
    progress = cli.Progress(200_000, unit="sentences", seconds=0.0)
    time.sleep(0.4)  # texts are read, the first batch is searched
    for _ in range(3):
        progress.add(1)
        assert f"{progress.done}/200000 sentences, ?/s, ? left" in capfd.readouterr().err
    time.sleep(0.2)
    progress.add(1)
    assert re.search(r"4/200000 sentences, [\d.]+/s, \d+:\d\d:\d\d left", capfd.readouterr().err)


def test_evaluates_rate_leaves_compilation_out(run, capsys, monkeypatch):
    real = compilation.compile_all

    def slowly(*args, **options):
        jax.jit(lambda x: (time.sleep(3.0), x * 11)[1])(jnp.zeros(3))
        return real(*args, **options)

    monkeypatch.setattr("seqjax.training.held_out.compile_all", slowly)
    evaluate.main(["--checkpoint", str(run), "--subset", "valid"])
    seconds = float(re.search(r"tokens in ([\d.]+)s \(", capsys.readouterr().err)[1])
    assert seconds < 3


@pytest.mark.parametrize(("text", "columns", "wanted"), [
    ("a=1.25, b=22.75, c=3", 80, "a=1.25, b=22.75, c=3"),
    ("a=1.25, b=22.75, c=3", 21, "a=1.25, b=22.75, c=3"),
    ("a=1.25, b=22.75, c=3", 20, "a=1.25, b=22.75"),
    ("a=1.25, b=22.75, c=3", 16, "a=1.25, b=22.75"),
    ("a=1.25, b=22.75, c=3", 15, "a=1.25"),
    ("loss 5.125 | ppl 33.50", 20, "loss 5.125"),
    ("loss 5.125 | ppl 33.50", 8, "loss"),
    ("loss", 3, "lo"),
])
def test_a_line_is_cut_between_fields(text, columns, wanted):
    assert console.fit(text, columns) == wanted


def test_no_number_is_cut_at_any_width():
    line = ("epoch 003:    29 / 87 eta=0:06 loss=8.586, nll_loss=8.133, ppl=280.74, wps=1745.0, "
            "ups=1.72, wpb=1012.5, bsz=125.6, num_updates=29, lr=0.00055, gnorm=0.654")
    fields = re.split(r"[, ]+", line)
    for columns in range(12, len(line) + 2):
        cut = console.fit(line, columns)
        assert len(cut) < columns and line.startswith(cut)
        assert re.split(r"[, ]+", cut) == fields[:len(re.split(r"[, ]+", cut))]


def test_trainings_changing_line_is_cut_between_fields(tmp_path, monkeypatch):
    class Terminal:
        text = ""

        def isatty(self):
            return True

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    monkeypatch.setenv("COLUMNS", "38")
    stream = Terminal()
    declared = losses.LOSSES["cross_entropy"].metrics
    with Reporter(tmp_path, tensorboard=False, stream=stream) as out:
        values = {"loss": 12.3456, "nll_loss": 11.125, "ppl": 1234.5}
        out.train("epoch 001:", values, declared=declared, line=False)
        assert "epoch 001: loss=12.346" in stream.text and "nll" not in stream.text
        out.train("epoch 001:", values, declared=declared)
        out.summary("valid", "epoch 001 | valid", {**values, "ppl": 9.5}, declared=declared)
    shown = re.sub(r"\d\d:\d\d:\d\d ", "", stream.text)
    assert ("epoch 001: loss=12.346,\n    nll_loss=11.125,\n    ppl=1234.50\n"
            "epoch 001 | valid\n    loss 12.346\n    nll_loss 11.125\n    ppl 9.50\n") in shown
    lines = re.sub(r"\r\x1b\[K", "\n", stream.text).split("\n")
    assert max(map(len, lines)) <= 38


def test_wrapping_loses_nothing():
    line = "epoch 003:  29 / 87 eta=0:06 loss=8.586, ppl=280.74 | best 3, x=" + "9" * 40
    for room in range(8, 150):
        found = console.wrapped(line, room)
        assert re.sub(r"[\s,|]", "", found) == re.sub(r"[\s,|]", "", line)
        assert all(len(each) <= max(room, 12) for each in found.split("\n"))
    assert console.wrapped(line, 150) == line


@pytest.mark.parametrize(("seconds", "wanted"), [
    (75, "1:15"), (3661, "1:01:01"), (float("inf"), "?"), (float("nan"), "?"), (0.4, "0:00"),
    (237 * 3600 + 50, "9 days 21:00:50"), (1e12, "over 1000 days"),
])
def test_durations(seconds, wanted):
    assert console.duration(seconds) == wanted == cli.duration(seconds)


def test_a_validation_has_few_shapes():
    """Half of the programs: sentences of a quarter of the width and the rest of the last batch
    do not get shapes of their own."""
    lengths = np.random.default_rng(0).integers(3, 60, 200)
    plain, few = (plan_decoding(lengths, batch_size=64, few=x) for x in (False, True))
    shapes = [{(b.rows, b.width) for b in plan} for plan in (plain, few)]
    assert len(shapes[0]) >= 3 and shapes[1] == {(64, 64)}
    assert sorted(i for b in few for i in b.indices) == list(range(200))
    # One long sentence does not make all of them wide; a job of one batch stays small.
    mixed = plan_decoding([500, *[10] * 20], batch_size=8, few=True)
    assert {b.width for b in mixed} == {512, 16}
    assert [(b.rows, b.width) for b in plan_decoding([5, 6], batch_size=64, few=True)] == [(2, 16)]
    # Many short sentences alone have a width of their own, and short outputs a small cache.
    assert [(b.rows, b.width) for b in plan_decoding([5] * 40 + [12], batch_size=64)] == [(64, 12)]
    assert plan_decoding([5] * 40 + [13], batch_size=64)[0].width == 16
    assert capacities(11, 1024) == [12] and capacities(16, 1024) == [16]
    assert capacities(17, 1024) == [32] and capacities(70, 100) == [32, 64, 100]
    assert capacities(3, 2) == [3]
