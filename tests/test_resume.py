"""Whole runs: cut off and continued they end as if they had not been; also on other devices."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from tiny_run import metrics, raw_config, resolve, write_data

from seqjax import checkpoints as ck
from seqjax.training import sharding, train_loop
from seqjax.training.compilation import CompilationCounter
from seqjax.training.failures import TrainingError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


@pytest.fixture
def devices(monkeypatch):
    """Says how many of the virtual devices a run sees."""
    make = sharding.make_mesh

    def use(count):
        monkeypatch.setattr(train_loop.sharding, "make_mesh",
                            functools.partial(make, devices=jax.devices()[:count]))

    use(1)
    return use


def run(data, workdir, **sections):
    train_loop.train(resolve(raw_config(data, **sections)), workdir=str(workdir))
    return ck.find(workdir, which="last")


def assert_same_params(a, b):
    a, b = ck.read_params(a), ck.read_params(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b),
                            strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


KILL = """
import json, os, signal, sys
from tiny_run import resolve
from seqjax.training import train_loop
kill_at = int(sys.argv[3])
open_batches = train_loop.open_batches

def killing(*args, **options):
    batches = open_batches(*args, **options)
    get, count = type(batches).__next__, 0

    def next_or_die(self):
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return get(self)

    batches.__class__ = type("Killing", (type(batches),), {"__next__": next_or_die})
    return batches

if kill_at:
    train_loop.open_batches = killing
train_loop.train(resolve(json.loads(sys.argv[1])), workdir=sys.argv[2])
"""


@pytest.mark.parametrize("mode", ["packed", "bucketed"])
def test_killed_mid_epoch_and_resumed_is_bit_equal(data, tmp_path, one_device_env, mode):
    env = {**one_device_env}
    env["PYTHONPATH"] = os.pathsep.join([str(pathlib.Path(__file__).parent), env["PYTHONPATH"]])
    raw = raw_config(data, checkpoint={"every_updates": 4}, batching={"mode": mode},
                     train={"max_update": 24, "update_freq": [2]}, valid={"every_updates": 10})

    def start(name, kill_at):
        done = subprocess.run(
            [sys.executable, "-c", KILL, json.dumps(raw), str(tmp_path / name), str(kill_at)],
            env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == (-signal.SIGKILL if kill_at else 0), done.stderr[-3000:]
        return done.stderr

    start("whole", 0)
    start("cut", 15)
    kept = ck.read_record(ck.find(tmp_path / "cut", which="last"))
    assert kept.step in (8, 10, 12, 14) and kept.data["batch"] > 0, "killed within an epoch"
    assert f"at update {kept.step}" in start("cut", 0)
    whole, cut = (ck.find(tmp_path / name, which="last") for name in ("whole", "cut"))
    assert whole.name == cut.name == "24"
    assert_same_params(whole, cut)
    a, b = ck.read_record(whole), ck.read_record(cut)
    assert (a.data, a.best, a.bad_validations) == (b.data, b.best, b.bad_validations)
    assert [h["loss"] for h in a.history] == [h["loss"] for h in b.history]


def test_sigterm_saves_and_the_run_goes_on(data, tmp_path, devices, monkeypatch, capsys):
    whole = run(data, tmp_path / "whole", train={"max_update": 12})
    reached = train_loop.StopRequest.reached

    def terminate(self, step):
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return reached(self, step)

    monkeypatch.setattr(train_loop.StopRequest, "reached", terminate)
    before = signal.getsignal(signal.SIGTERM)
    cut = run(data, tmp_path / "cut", train={"max_update": 12})
    assert cut.name == "7" and "SIGTERM received" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.undo()
    devices(1)
    cut = run(data, tmp_path / "cut", train={"max_update": 12})
    assert cut.name == "12"
    assert_same_params(whole, cut)


def test_other_numbers_of_devices_give_the_same_losses(data, tmp_path, devices):
    options = dict(valid={"every_updates": 3})
    straight = run(data, tmp_path / "straight", train={"max_update": 9}, **options)
    for count, until in ((1, 3), (4, 6), (1, 9)):
        devices(count)
        last = run(data, tmp_path / "moved", train={"max_update": until}, **options)
    want = {h["num_updates"]: h["loss"] for h in ck.read_record(straight).history}
    ours = {h["num_updates"]: h["loss"] for h in ck.read_record(last).history}
    assert {3, 6, 9} == want.keys() == ours.keys()
    for update, loss in want.items():
        assert ours[update] == pytest.approx(loss, rel=1e-6)


def test_compilations_are_as_many_as_shapes_and_a_handful(data, tmp_path, devices, capsys):
    counter = CompilationCounter()
    run(data, tmp_path, train={"max_update": 20}, batching={"mode": "bucketed", "num_shapes": 3},
        valid={"every_updates": 5, "decode": True})
    text = capsys.readouterr().err
    shapes = int(text.split("compiled ")[1].split(" shapes")[0])
    assert 2 <= shapes <= 6
    # Initialisation, and the search on validation: its shapes are few too.
    assert shapes < counter.count <= shapes + 12
    first, last = [int(part.split()[-1]) for part in text.split(" programs compiled")[:-1]]
    assert last - first <= 8  # nothing is compiled again while it trains
    assert "bleu" in text and "translation" in text


def test_it_learns_and_says_so(data, tmp_path, devices):
    run(data, tmp_path, train={"max_update": 80}, log={"tensorboard": True},
        valid={"decode": True, "every_updates": 40, "metric": "bleu"})
    inner, valid = metrics(tmp_path, "train_inner"), metrics(tmp_path, "valid")
    assert [m["num_updates"] for m in inner][:4] == [5, 10, 15, 20]
    assert [m["num_updates"] for m in valid] == [40, 80]
    assert inner[-1]["loss"] < inner[0]["loss"] - 0.4
    for key in ("loss", "nll_loss", "ppl", "wps", "ups", "wpb", "bsz", "lr", "gnorm", "clip",
                "padding", "train_wall", "wall"):
        assert np.isfinite(inner[-1][key]), key
    assert inner[-1]["ppl"] == pytest.approx(2 ** inner[-1]["nll_loss"])
    assert {m["epoch"] for m in metrics(tmp_path, "train")} == set(
        range(1, 1 + len(metrics(tmp_path, "train"))))
    record = ck.read_record(ck.find(tmp_path, which="last"))
    assert record.maximize and record.best == max(round(m["bleu"], 3) for m in valid)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))[0].stat().st_size > 1000
    saved = ck.read_config(ck.find(tmp_path))
    assert saved == json.loads((tmp_path / "config.json").read_text())
    assert saved["task"]["source_lang"] == "aa"


def test_limits(data, tmp_path, devices, capsys):
    run(data, tmp_path / "epochs", train={"max_update": 0, "max_epoch": 2})
    assert len(metrics(tmp_path / "epochs", "train")) == 2
    run(data, tmp_path / "lr", train={"max_update": 0, "stop_min_lr": 0.019})
    run(data, tmp_path / "patience", train={"max_update": 500, "lr": [1e-9]},
        valid={"every_updates": 2, "every_epochs": 0, "patience": 3})
    record = ck.read_record(ck.find(tmp_path / "patience", which="last"))
    assert record.bad_validations == 3 and record.step <= 12
    run(data, tmp_path / "hours", train={"max_update": 500, "stop_time_hours": 1e-9})
    text = capsys.readouterr().err
    for said in ("train.max_epoch=2", "<= train.stop_min_lr=0.019", "no better loss in 3",
                 "train.stop_time_hours"):
        assert said in text
    compiled = CompilationCounter()
    run(data, tmp_path / "epochs", train={"max_update": 0, "max_epoch": 2})
    text = capsys.readouterr().err
    assert "nothing to do: the run ended at update" in text and "(train.max_epoch=2)" in text
    assert not re.search(r"compiling \d+ shapes", text) and compiled.count == 0
    assert "next: python -m seqjax.generate" in text.splitlines()[-1]


def test_another_metric_starts_without_a_best(data, tmp_path, devices):
    """Losses and BLEU are not compared, nor counted towards one patience."""
    run(data, tmp_path, train={"max_update": 4}, valid={"every_updates": 2})
    last = run(data, tmp_path, train={"max_update": 6},
               valid={"every_updates": 2, "metric": "ppl", "patience": 1})
    record = ck.read_record(last)
    assert record.metric_name == "ppl" and record.best == record.metric
    assert record.metric is not None and record.metric > 4  # the losses were below


def test_weights_of_another_run(data, tmp_path, devices, capsys):
    first = run(data, tmp_path / "first", train={"max_update": 6})
    fine = run(data, tmp_path / "fine", init_from=str(tmp_path / "first"),
               train={"max_update": 1, "lr": [0.0], "allow_nonpositive_lr": True},
               schedule={"name": "fixed"})
    assert_same_params(first, fine)
    assert ck.read_record(fine).step == 1
    on = run(data, tmp_path / "on", resume_from=str(tmp_path / "first"), train={"max_update": 9})
    assert ck.read_record(on).step == 9
    assert "continuing" in capsys.readouterr().err
    straight = run(data, tmp_path / "straight", train={"max_update": 9})
    assert_same_params(on, straight)


def test_keys_that_an_older_version_had_not_are_no_change(data, tmp_path, devices, capsys):
    run(data, tmp_path / "w", train={"max_update": 3})
    for about in (tmp_path / "w" / "checkpoints").glob("*/about"):
        plain = json.loads((about / "config.json").read_text())
        del plain["resume_reset"], plain["checkpoint"]["verify"], plain["valid"]["maximize"]
        del plain["model"]["scale_fc"]
        record = json.loads((about / "record.json").read_text())
        del record["checksums"]  # there were none either
        (about / "config.json").write_text(json.dumps(plain))
        (about / "record.json").write_text(json.dumps(record))
        (about / "checksums.0.json").unlink()
    capsys.readouterr()
    run(data, tmp_path / "w", train={"max_update": 5})
    changed = [line for line in capsys.readouterr().err.split("\n") if "changed:" in line]
    assert len(changed) == 1 and "train.max_update: 3 there, 5 here" in changed[0]


def test_another_model_is_refused(data, tmp_path, devices):
    run(data, tmp_path, train={"max_update": 2})
    with pytest.raises(ck.CheckpointError, match="model.encoder_embed_dim: 8 there, 4 here"):
        run(data, tmp_path, model={"encoder_embed_dim": 4, "decoder_embed_dim": 8})


def test_non_finite_gradients_stop_with_the_sentences(data, tmp_path, devices):
    with pytest.raises(TrainingError, match=r"(?s)gradient is not finite.*sentences \[\d+.*"
                                            r"nan_patience=1"):
        run(data, tmp_path, train={"lr": [1e30], "nan_patience": 1, "clip_norm": 0.0},
            schedule={"name": "fixed", "warmup_updates": 0})
    with pytest.raises(ck.CheckpointError, match="no complete checkpoint"):
        ck.find(tmp_path)
