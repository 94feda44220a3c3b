"""Numbers as fairseq logs them, and where they are written."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import warnings

import pytest

from seqjax.config import ConfigError
from seqjax.losses import LOSSES
from seqjax.tasks import metrics
from seqjax.training import progress
from seqjax.training.compilation import Memory, check_memory, enable_cache, user_cache
from seqjax.training.metrics import Meters, averages, shown

DECLARED = LOSSES["cross_entropy"].metrics
UPDATE = {
    "loss": (8.0, 4.0), "nll_loss": (math.log(8) * 4, 4.0), "ntokens": (4.0, 1.0),
    "nsentences": (2.0, 1.0), "gnorm": (3.0, 1.0), "clip": (1.0, 1.0), "lr": (0.5, 1.0),
    "num_updates": (7.0, 1.0), "skipped": (0.0, 1.0),
}


def test_base_two_and_perplexity():
    found = averages({k: v for k, v in UPDATE.items() if k in DECLARED}, DECLARED)
    assert found["loss"] == pytest.approx(2 / math.log(2))
    assert found["nll_loss"] == pytest.approx(3) and found["ppl"] == pytest.approx(8)
    assert math.isnan(averages({"loss": (0.0, 0.0)}, DECLARED)["loss"])


def test_meters_are_weighted(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("seqjax.training.metrics.time.monotonic", lambda: clock[0])
    meters = Meters(DECLARED)
    meters.add(UPDATE, padding=0.5)
    other = {**UPDATE, "nll_loss": (0.0, 12.0), "ntokens": (12.0, 1.0), "clip": (0.0, 1.0),
             "lr": (0.25, 1.0), "num_updates": (8.0, 1.0), "gnorm": (5.0, 1.0)}
    meters.add(other, padding=0.0)
    clock[0] = 105.0
    meters.pause(1.0)
    found = meters.results()
    assert found["nll_loss"] == pytest.approx(3 * 4 / 16)
    assert found["ppl"] == pytest.approx(2**0.75)
    assert found["wps"] == pytest.approx(4.0) and found["ups"] == pytest.approx(0.5)
    assert found["wpb"] == 8 and found["bsz"] == 2 and found["train_wall"] == pytest.approx(4)
    assert found["gnorm"] == 4 and found["clip"] == 50 and found["padding"] == 25
    assert found["lr"] == 0.25 and found["num_updates"] == 8
    meters.reset()
    assert len(meters) == 0 and meters.results() == {}


def test_shown_as_fairseq_prints():
    values = {"loss": 1.23456, "ppl": 2.0, "lr": 1e-7, "num_updates": 5.0, "bleu": 12.345}
    assert shown(values, {**DECLARED, **metrics.BLEU}) == {
        "loss": "1.235", "ppl": "2.00", "lr": "1e-07", "num_updates": "5", "bleu": "12.35"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def report(workdir, stream, **options):
    with progress.Reporter(workdir, tensorboard=False, stream=stream, **options) as out:
        out.train("epoch 001:", {"loss": 2.0, "num_updates": 10}, declared=DECLARED, line=False)
        out.train("epoch 001:", {"loss": 1.5, "num_updates": 20}, declared=DECLARED)
        out.summary("valid", "epoch 001 | valid", {"loss": math.inf, "num_updates": 20},
                    declared=DECLARED)
    return stream.getvalue()


def without_times(text):
    """Every line has one."""
    lines = text.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines), text
    return "".join(line[9:] + "\n" for line in lines)


def test_the_console_is_kept(tmp_path):
    for number in (1, 2):
        with progress.Reporter(tmp_path, tensorboard=False, stream=io.StringIO()) as out:
            out.say(f"run {number}\nof two")
            warnings.warn(f"beware {number}", stacklevel=1)
            logging.getLogger("seqjax.data.epoch_plan").warning("%d left out", 3)
    with pytest.raises(ConfigError), progress.Reporter(
        tmp_path, tensorboard=False, stream=io.StringIO()
    ):
        raise ConfigError("task.data: no such folder")
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    assert [line[20:] for line in lines] == [
        "run 1", "of two", "warning: beware 1", "warning: 3 left out",
        "run 2", "of two", "warning: beware 2", "warning: 3 left out",
        "error: task.data: no such folder"]


def test_tensorboard_that_is_wanted_but_not_there_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: None)
    for wanted, times in ((True, 1), (False, 0)):
        stream = io.StringIO()
        with progress.Reporter(tmp_path, tensorboard=wanted, stream=stream) as out:
            out.begin(resumed_at=0)
            out.summary("valid", "valid", {"loss": 1.0, "num_updates": 1}, declared=DECLARED)
        assert stream.getvalue().count("no TensorBoard curves") == times
    assert not (tmp_path / "tensorboard").exists()


def test_lines_without_a_terminal(tmp_path):
    text = report(tmp_path, io.StringIO())
    assert without_times(text) == ("epoch 001: loss=1.500, num_updates=20\n"
                                   "epoch 001 | valid | loss inf | num_updates 20\n")
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(m["group"], m["loss"]) for m in lines] == [("train_inner", 1.5), ("valid", "inf")]


def test_one_line_that_changes_on_a_terminal(tmp_path):
    text = report(tmp_path, Terminal())
    status, line = text.split("\r\x1b[K")[:2]
    assert status == "epoch 001: loss=2.000, num_updates=10"
    assert without_times(line).startswith("epoch 001: loss=1.500")
    log = (tmp_path / "train.log").read_text()
    assert "loss=1.500" in log and "loss=2.000" not in log  # it changed, and is gone


def test_lines_of_a_run_that_was_cut_off_go(tmp_path):
    report(tmp_path, io.StringIO())
    with (tmp_path / "metrics.jsonl").open("a") as f:
        f.write('{"group": "train_inner", "num_upd')
    report(tmp_path, io.StringIO(), resumed_at=15)
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [m["num_updates"] for m in lines] == [20, 20]


def test_only_one_process_writes(tmp_path):
    assert report(tmp_path, io.StringIO(), active=False) == ""
    assert not list(tmp_path.iterdir())


def test_curves_can_be_read_back(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto import event_pb2

    curves = progress.Curves(tmp_path)
    curves.add("valid", {"loss": 1.5, "num_updates": 20}, step=20)
    curves.close()
    (file,) = tmp_path.iterdir()
    data, events = file.read_bytes(), []
    while data:  # length, its checksum, the event, its checksum
        size = int.from_bytes(data[:8], "little")
        events.append(event_pb2.Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    assert events[0].file_version == "brain.Event:2" and events[1].step == 20
    assert [(v.tag, v.simple_value) for v in events[1].summary.value] == [("valid/loss", 1.5)]


def test_durations():
    ours = [progress.duration(s) for s in (5, 65, 3661, math.inf)]
    assert ours == ["0:05", "1:05", "1:01:01", "?"]


def test_memory_that_does_not_fit_is_refused_with_a_budget():
    fits = Memory(arguments=100, temporary=800, available=1000)
    check_memory(fits, what="x", max_tokens=4096)
    check_memory(Memory(arguments=1, temporary=1, available=None), what="x", max_tokens=1)
    with pytest.raises(ConfigError, match=r"x needs .*max_tokens=2048 "):
        check_memory(Memory(arguments=200, temporary=1440, available=1000), what="x",
                     max_tokens=4096)
    with pytest.raises(ConfigError, match="mesh.fsdp"):
        check_memory(Memory(arguments=2000, temporary=1, available=1000), what="x",
                     max_tokens=4096)


def test_cache_folder_is_private(tmp_path, monkeypatch):
    import jax

    keys = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
            "jax_persistent_cache_min_entry_size_bytes")
    before = {key: getattr(jax.config, key) for key in keys}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        folder = enable_cache("auto")
        if user_cache() == tmp_path:
            assert folder == str(tmp_path / "seqjax" / "xla")
            assert (tmp_path / "seqjax" / "xla").stat().st_mode & 0o077 == 0
        assert enable_cache(str(tmp_path / "mine")) == str(tmp_path / "mine")
        assert enable_cache(None) == str(tmp_path / "mine")
    finally:
        for key, value in before.items():
            jax.config.update(key, value)
