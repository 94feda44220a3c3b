"""When a run validates and saves, what it keeps, and what it leaves of a run before it."""

from __future__ import annotations

import functools
import types
from typing import Any

import jax
import pytest
from tiny_run import metrics, raw_config, resolve, write_data

from seqjax import checkpoints as ck
from seqjax.config import CheckpointConfig, ConfigError, OptimizerConfig
from seqjax.training import sharding, train_loop, triggers
from seqjax.training.checkpoints import Checkpoints
from seqjax.training.optimizers import make_optimizer
from seqjax.training.state import new_state


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    make = functools.partial(sharding.make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(train_loop.sharding, "make_mesh", make)


def run(data, workdir, **sections):
    train_loop.train(resolve(raw_config(data, **sections)), workdir=str(workdir))
    return ck.read_record(ck.find(workdir, which="last"))


# ---- when ----


def plan(data, *, per_epoch=4, updates=16, **sections):
    """(updates that validate, updates that save) of a run, its end not counted."""
    config = resolve(raw_config(data, **sections))
    validated, saved = [], []
    for step in range(1, updates + 1):
        epoch = (step - 1) // per_epoch + 1
        batch: Any = types.SimpleNamespace(last=step % per_epoch == 0, epoch=epoch)
        valid = config.valid.enabled and triggers.validation(
            config, step=step, batch=batch, last=False)
        validated += [step] * valid
        saved += [step] * triggers.saving(config, step=step, batch=batch, validated=valid)
    return validated, saved


@pytest.mark.parametrize("valid, checkpoint, validated, saved", [
    ({"every_epochs": 1}, {}, [4, 8, 12, 16], [4, 8, 12, 16]),
    ({"every_epochs": 1}, {"every_epochs": 2}, [4, 8, 12, 16], [8, 16]),
    ({"every_epochs": 2}, {"every_epochs": 1}, [8, 16], [4, 8, 12, 16]),
    ({"every_epochs": 1}, {"every_updates": 3}, [4, 8, 12, 16], [3, 4, 6, 8, 9, 12, 15, 16]),
    ({"every_epochs": 1, "at_checkpoints": True}, {"every_updates": 3},
     [3, 4, 6, 8, 9, 12, 15, 16], [3, 4, 6, 8, 9, 12, 15, 16]),
    ({"every_epochs": 2, "at_checkpoints": True}, {"every_updates": 6, "every_epochs": 2},
     [6, 8, 16], [6, 8, 12, 16]),  # at the end of an epoch only what is due validates
    ({"every_epochs": 1, "every_updates": 5}, {"every_epochs": 1},
     [4, 5, 8, 10, 12, 15, 16], [4, 8, 12, 16]),
    ({"every_epochs": 1, "after_updates": 8, "at_checkpoints": True}, {"every_updates": 3},
     [8, 9, 12, 15, 16], [8, 9, 12, 15, 16]),
    ({"enabled": False}, {}, [], [4, 8, 12, 16]),
    ({"enabled": False}, {"every_epochs": 3}, [], [12]),
])
def test_when_validations_and_checkpoints_are_due(data, valid, checkpoint, validated, saved):
    assert plan(data, valid=valid, checkpoint=checkpoint) == (validated, saved)


def test_the_end_validates_unless_it_comes_too_soon(data):
    batch: Any = types.SimpleNamespace(last=False, epoch=1)
    config = resolve(raw_config(data, valid={"after_updates": 8}))
    assert not triggers.validation(config, step=7, batch=batch, last=True)
    assert triggers.validation(config, step=8, batch=batch, last=True)


# ---- what stays ----


@pytest.mark.parametrize("options, kept", [
    (dict(keep_last=1), [12]),
    (dict(keep_last=1, keep_last_epochs=2), [8, 11, 12]),
    (dict(keep_last=1, keep_last_epochs=-1), [4, 8, 11, 12]),
    (dict(keep_last=1, keep_interval_updates=2, every_updates=3), [9, 12]),
    (dict(keep_last=1, keep_interval_updates=-1, every_updates=3), [3, 6, 9, 12]),
    (dict(keep_last=2, keep_last_epochs=1, keep_interval_updates=1, every_updates=3,
          keep_every_updates=6), [6, 11, 12]),
])
def test_kinds_of_checkpoints_are_kept_by_themselves(tmp_path, options, kept):
    """Ends of epochs are 4, 8 and 11; every third update is saved inside an epoch."""
    state = new_state({"w": jax.numpy.zeros(2)}, make_optimizer(OptimizerConfig(name="sgd")))

    def save(steps):
        config = CheckpointConfig(keep_best=0, **options)
        with Checkpoints(tmp_path, config) as checkpoints:
            for step in steps:
                place = {"epoch": 1, "batch": 0 if step in (4, 8, 11) else 1}
                checkpoints.save(state, ck.Record(step=step, data=place), config={}, assets={})

    save([3, 4, 6])
    save([8, 9, 11, 12])  # the run goes on and knows what the earlier ones were
    assert sorted(ck.steps_in(tmp_path / "checkpoints")) == kept


def test_a_run_saves_every_second_epoch_and_keeps_two(data, tmp_path):
    record = run(data, tmp_path, train={"max_update": 0, "max_epoch": 7},
                 valid={"every_epochs": 1},
                 checkpoint={"every_epochs": 2, "keep_last": 1, "keep_last_epochs": 2})
    assert len(record.history) == len(metrics(tmp_path, "valid")) == 7
    folders = ck.steps_in(tmp_path / "checkpoints").values()
    epochs = {ck.read_record(f).data["epoch"] - 1 for f in folders}
    best = ck.read_record(ck.find(tmp_path)).data["epoch"] - 1
    assert epochs == {6, 7, best} and best in (2, 4, 6, 7)


def test_the_largest_metric_may_be_wanted(data, tmp_path):
    run(data, tmp_path, valid={"every_updates": 5, "maximize": True},
        checkpoint={"keep_last": 9}, train={"max_update": 15})
    losses = {ck.read_record(f).step: ck.read_record(f).metric or 0.0
              for f in ck.steps_in(tmp_path / "checkpoints").values()}
    assert len(set(losses.values())) > 1
    assert int(ck.find(tmp_path).name) == max(losses, key=lambda s: losses[s])


# ---- what is left behind ----


@pytest.mark.parametrize("reset, max_update, begins", [
    ([], 8, "at update 7"),
    (["dataloader"], 8, "without its dataloader at update 7"),
    (["optimizer"], 1, "without its optimizer at update 0"),
    (["optimizer", "dataloader"], 1, "without its optimizer and dataloader at update 0"),
])
def test_parts_of_a_run_that_are_left_behind(data, tmp_path, capsys, reset, max_update, begins):
    batching = {"max_tokens": 32, "pack_length": 16}
    first = run(data, tmp_path / "first", train={"max_update": 7}, batching=batching)
    assert first.data["batch"] > 1, "within an epoch"
    optimizer = {"name": "sgd"} if "optimizer" in reset else {}  # then it may be another one
    found = run(data, tmp_path / "next", train={"max_update": max_update}, batching=batching,
                optimizer=optimizer, resume_from=str(tmp_path / "first"), resume_reset=reset,
                log={"interval_updates": 1})
    assert begins in capsys.readouterr().err
    (line,) = metrics(tmp_path / "next", "train_inner")
    assert found.step == max_update == line["num_updates"]
    assert found.data == ({"epoch": 1, "batch": 1} if "dataloader" in reset else
                          {**first.data, "batch": first.data["batch"] + 1})
    # Continued, the folder is gone on from whole.
    again = run(data, tmp_path / "next", train={"max_update": max_update + 1}, batching=batching,
                optimizer=optimizer, resume_from=str(tmp_path / "first"), resume_reset=reset)
    assert again.step == max_update + 1 and again.data["batch"] == found.data["batch"] + 1


def test_nothing_can_be_left_behind_of_nothing(data, tmp_path):
    with pytest.raises(ConfigError, match="config.resume_reset"):
        run(data, tmp_path, resume_reset=["dataloader"])
    with pytest.raises(ConfigError, match="'meters' is not one of optimizer, dataloader"):
        run(data, tmp_path, resume_from="x", resume_reset=["meters"])
