"""What a model keeps beside its parameters (`TrainState.extra`), and the number of the update
in its loss: in one update, over micro-batches, in whole runs cut off and continued, on one
device and on a mesh."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stateful_toy
from tiny_run import metrics, raw_config, resolve, write_data

from seqjax import checkpoints as ck
from seqjax.config import ConfigError, OptimizerConfig, ScheduleConfig
from seqjax.losses.base import LossOutput
from seqjax.models.protocol import Stateful
from seqjax.training import initial_state, objective, parts, sharding, train_loop
from seqjax.training.checkpoints import read_state
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.state import new_state
from seqjax.training.train_step import make_eval_step, make_train_step

# ---- one update ----


def counting(params, extra, batch, rng, update):
    """The squared distance to the batch's mean; remembers what it was called with."""
    total = jnp.sum(jnp.square(params["w"] - batch["x"].mean()) * batch["x"].size)
    weight = jnp.float32(batch["x"].size)
    new = {"passes": extra["passes"] + 1, "last": batch["x"].mean(), "update": update}
    one = jnp.ones(())
    found = {"loss": (total, weight), "before": (extra["passes"], one), "update": (update, one)}
    return LossOutput(sum=total, weight=weight, metrics=found), new


def made(loss_fn=counting, extra=None):
    optimizer = make_optimizer(OptimizerConfig(name="sgd"))
    schedule = make_schedule(ScheduleConfig(name="fixed", warmup_updates=0), lr=(0.1,))
    if extra is None:
        extra = {"passes": jnp.int32(0), "last": jnp.float32(0), "update": jnp.int32(-1)}
    state = new_state({"w": jnp.ones(())}, optimizer, extra=extra)
    return jax.jit(make_train_step(loss_fn, optimizer, schedule, seed=1)), state


def batch_of(*values):
    return {"x": np.asarray(values, np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)}


def test_micro_batches_follow_each_other():
    step, state = made()
    assert float(step(state, batch_of(1.0), 1)[1]["before"][0]) == 0
    state, found = step(state, batch_of(1.0, 2.0, 5.0), 1)
    assert int(state.extra["passes"]) == 3 and float(state.extra["last"]) == 5.0
    assert float(found["before"][0]) == 0 + 1 + 2
    state, found = step(state, batch_of(4.0), 1)
    assert int(state.extra["passes"]) == 4 and float(found["before"][0]) == 3


def test_the_loss_knows_how_many_updates_there_were():
    step, state = made()
    for number in range(3):
        assert int(state.step) == number
        state, found = step(state, batch_of(1.0, 2.0), 1)
        assert float(found["update"][0]) == 2 * number  # two micro-batches, added up
        assert int(state.extra["update"]) == number


def test_an_update_that_is_skipped_keeps_the_old():
    step, state = made()
    state, _ = step(state, batch_of(1.0), 1)
    kept, _ = step(state, batch_of(2.0, np.inf), 1)
    assert int(kept.skipped) == 1 and int(kept.step) == 1
    for old, new in zip(jax.tree.leaves(state.extra), jax.tree.leaves(kept.extra), strict=True):
        np.testing.assert_array_equal(old, new)
    after, _ = step(kept, batch_of(2.0), 1)
    assert int(after.extra["passes"]) == 2 and int(after.extra["update"]) == 1


def test_an_evaluation_reads_it_and_its_update():
    _, state = made()
    extra = {**state.extra, "passes": jnp.int32(7)}
    batch = {"x": batch_of(1.0)["x"][0]}
    found = jax.jit(make_eval_step(counting))(state.params, extra, batch, 5)
    assert float(found["before"][0]) == 7 and float(found["update"][0]) == 5


def test_a_state_that_changes_its_form_is_refused():
    def growing(params, extra, batch, rng, update):
        output, new = counting(params, extra, batch, rng, update)
        return output, {**new, "last": jnp.zeros(2)}

    step, state = made(growing)
    with pytest.raises(ValueError, match=r"another `extra` .*last: \(\(\), .* before, \(\(2,\)"):
        step(state, batch_of(1.0), 1)


def test_without_one_a_step_has_no_further_arguments_and_results():
    def plain(params, extra, batch, rng, update):
        return counting(params, {"passes": 0}, batch, rng, update)[0], extra

    step, state = made(plain, extra={})
    lowered = step.lower(state, batch_of(1.0, 2.0), 1)
    arrays = len(jax.tree.leaves((state.step, state.skipped, state.params, state.opt_state)))
    assert len(jax.tree.leaves(state)) == arrays
    assert len(jax.tree.leaves(lowered.out_info[0])) == arrays


# ---- whole runs ----

SECTIONS = {
    "task": {"name": "stateful_toy:Task"},
    "loss": {"name": "stateful_toy:Loss"},
    "train": {"max_update": 7, "update_freq": [2], "clip_norm": 0.0},
    "batching": {"mode": "bucketed", "max_tokens": 96, "num_shapes": 1,
                 "required_batch_size_multiple": 4},
    "log": {"interval_updates": 1}, "valid": {"every_updates": 3, "metric": "agreement"},
    "checkpoint": {"keep_last": 10},
}
MESHES = {"one": {}, "mesh": {"data": 2, "fsdp": 2, "tensor": 2}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


@pytest.fixture(params=MESHES)
def mesh(request, monkeypatch):
    if request.param == "one":
        make = sharding.make_mesh
        monkeypatch.setattr(sharding, "make_mesh",
                            functools.partial(make, devices=jax.devices()[:1]))
    return MESHES[request.param]


def config_of(data, **changes):
    raw = raw_config(data, **SECTIONS)
    raw["model"] = {"name": "stateful_toy:Model"}
    for name, values in changes.items():
        raw[name] = {**raw.get(name, {}), **values} if isinstance(values, dict) else values
    return resolve(raw)


def state_of(folder, config):
    made = parts.prepare(config)
    return read_state(folder, initial_state.abstract_state(made))


def assert_equal(a, b):
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b),
                            strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y), jax.tree_util.keystr(path))


def test_a_run_cut_off_and_continued_is_bit_equal(data, tmp_path, mesh):
    whole, cut = (config_of(data, mesh=mesh, train={"max_update": n}) for n in (7, 4))
    train_loop.train(whole, workdir=str(tmp_path / "whole"))
    train_loop.train(cut, workdir=str(tmp_path / "cut"))
    train_loop.train(whole, workdir=str(tmp_path / "cut"))
    a, b = (ck.find(tmp_path / name, which="last") for name in ("whole", "cut"))
    assert a.name == b.name == "7" and (a / "extra").is_dir()
    found, again = state_of(a, whole), state_of(b, whole)
    assert_equal(found, again)
    assert int(found.extra["at"]) == 6 and np.abs(found.extra["mean"]).max() > 0
    # The teacher is behind, and lies on the devices as what it follows does.
    for student, teacher in zip(jax.tree.leaves(found.params),
                                jax.tree.leaves(found.extra["teacher"]), strict=True):
        assert np.abs(np.asarray(student) - np.asarray(teacher)).max() > 1e-4
        assert student.sharding == teacher.sharding
        if mesh:
            assert not teacher.sharding.is_fully_replicated
    # What a loss declares is what is said: the update's number, also in validations.
    train = metrics(tmp_path / "whole", "train_inner")
    assert [line["update"] for line in train] == [0, 1, 2, 3, 4, 5, 6]
    assert [line["pull"] for line in train] == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    valid = metrics(tmp_path / "whole", "valid")
    assert [(line["num_updates"], line["update"]) for line in valid] == [(3, 3), (6, 6), (7, 7)]
    record = ck.read_record(a)
    assert record.maximize and record.best == max(round(line["agreement"], 3) for line in valid)
    assert 0 < record.best <= 100 and "ppl" not in valid[0]
    text = (tmp_path / "whole" / "train.log").read_text()
    assert " pull=0.2500," in text and " update=1," in text


def test_the_teacher_is_updated_once_an_update(data, tmp_path):
    """And every device's is the same as one device's."""
    found = {}
    for name, sizes in MESHES.items():
        config = config_of(data, mesh=sizes)
        count = 8 if sizes else 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sharding, "make_mesh", functools.partial(
                sharding.make_mesh, devices=jax.devices()[:count]))
            train_loop.train(config_of(data, mesh=sizes, checkpoint={"every_updates": 1}),
                             workdir=str(tmp_path / name))
            found[name] = [state_of(tmp_path / name / "checkpoints" / str(n), config)
                           for n in (1, 2, 3, 4)]
    decay = stateful_toy.ModelConfig().ema_decay
    for before, after in zip(found["one"], found["one"][1:], strict=False):
        expected = jax.tree.map(lambda t, p: decay * t + (1 - decay) * p,
                                before.extra["teacher"], before.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
                     after.extra["teacher"], expected)
    for one, many in zip(found["one"], found["mesh"], strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(
            np.asarray(a), np.asarray(b), rtol=1e-3, atol=1e-4), one.extra, many.extra)


def test_a_fresh_optimizer_leaves_it_as_it_is(data, tmp_path):
    """As fairseq's `--reset-optimizer`, whose models have it among their tensors."""
    config = config_of(data, train={"max_update": 3})
    train_loop.train(config, workdir=str(tmp_path / "first"))
    before = state_of(ck.find(tmp_path / "first", which="last"), config)
    again = {"resume_from": str(tmp_path / "first"), "resume_reset": ["optimizer"]}
    train_loop.train(config_of(data, train={"max_update": 1}, **again),
                     workdir=str(tmp_path / "second"))
    after = state_of(ck.find(tmp_path / "second", which="last"), config)
    decay = stateful_toy.ModelConfig().ema_decay
    jax.tree.map(lambda t, p, new: np.testing.assert_allclose(
        new, decay * t + (1 - decay) * p, rtol=1e-6, atol=1e-6),
        before.extra["teacher"], before.params, after.extra["teacher"])
    assert int(before.extra["at"]) == 2 and int(after.extra["at"]) == 0


# ---- what does not fit ----


def test_a_task_that_does_not_hand_it_on_is_refused(data):
    with pytest.raises(ConfigError, match=r"config.task.name: .* takes no `extra`"):
        parts.prepare(config_of(data, task={"name": "translation"}))


def test_a_loss_that_needs_what_the_model_does_not_give_is_refused(data):
    config = config_of(data)
    objective.check(config)
    with pytest.raises(ConfigError, match=r"stateful_toy:Loss needs teacher, which "
                                          r"config.model.ema_decay gives; set that, or"):
        objective.check(config_of(data, model={"ema_decay": 0}))
    config = resolve(raw_config(data, loss=SECTIONS["loss"]))
    with pytest.raises(ConfigError, match=r"needs teacher, which neither the model transformer "
                                          r"nor the task translation can give; give "
                                          r"config.loss.name another loss \(cross_entropy, "):
        objective.check(config)


def test_states_of_other_models_are_refused(data, tmp_path):
    plain = raw_config(data, batching={"max_tokens": 256}, train={"max_update": 1})
    train_loop.train(resolve(plain), workdir=str(tmp_path / "plain"))
    folder = ck.find(tmp_path / "plain", which="last")
    assert not (folder / "extra").exists()
    target = initial_state.abstract_state(parts.prepare(resolve(plain)))
    with pytest.raises(ck.CheckpointError, match="this model has a state beside its parameters"):
        read_state(folder, target.replace(extra={"x": target.step}))


def test_most_models_have_none(data):
    made = parts.prepare(resolve(raw_config(data, batching={"max_tokens": 256})))
    assert not isinstance(made.model, Stateful)
    assert initial_state.abstract_state(made).extra == {}
