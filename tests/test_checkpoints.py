"""Checkpoints: complete or absent, self-contained, restorable anywhere, pruned by policy."""

from __future__ import annotations

import errno
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import checkpoints as ck
from seqjax.config import CheckpointConfig, ConfigError, MeshConfig, OptimizerConfig
from seqjax.training import sharding
from seqjax.training.checkpoint_files import FilesHandler
from seqjax.training.checkpoints import (
    Checkpoints,
    check_config,
    check_workdir,
    read_state,
    state_bytes,
)
from seqjax.training.optimizers import make_optimizer
from seqjax.training.state import TrainState, new_state

CONFIG = {"model": {"name": "transformer", "dim": 8, "dropout": 0.1}, "optimizer": {"name": "adam"},
          "train": {"lr": [1.0]}}
ASSETS = {"dict.de.txt": "ä 3\n".encode(), "spm/joint.model": bytes(range(256))}


def make_state(seed=0, step=0, dim=8, optimizer="adam"):
    rng = np.random.default_rng(seed)
    embedding, kernel = rng.normal(size=(12, dim)), rng.normal(size=(3, dim, 16))
    params = {"embedding": jnp.asarray(embedding, jnp.float32),
              "layers": {"fc1": {"kernel": jnp.asarray(kernel, jnp.float32)}}}
    state = new_state(params, make_optimizer(OptimizerConfig(name=optimizer)), step=step)
    noise = jax.tree.map(lambda x: x + jnp.asarray(rng.normal(size=x.shape)).astype(x.dtype),
                         state.opt_state)
    return state.replace(opt_state=noise)


def record(step, metric=None, **extra):
    return ck.Record(step=step, data={"epoch": 2, "batch": 7}, metric=metric, **extra)


def save(folder, states, **options):
    """Saves {step: (state, metric)} in order."""
    with Checkpoints(folder, CheckpointConfig(**options)) as checkpoints:
        for step, (state, metric) in states.items():
            checkpoints.save(state, record(step, metric), config=CONFIG, assets=ASSETS)


def abstract(state, mesh):
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        state, sharding.shardings(state, mesh))


def mesh_of(data=1, fsdp=1, tensor=1):
    devices = jax.devices()[: data * fsdp * tensor]
    return sharding.make_mesh(MeshConfig(data=data, fsdp=fsdp, tensor=tensor), devices)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_everything_comes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # relative paths are fine
    state = make_state(step=5)
    save("run", {5: (state, None)})
    folder = ck.find("run")
    assert_same(read_state(folder, abstract(state, mesh_of())), state)
    config, assets, params = ck.load_for_inference("run")
    assert config == CONFIG and assets == ASSETS
    assert_same(params, jax.tree.map(np.asarray, state.params))
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(params))
    again = ck.read_record(folder)
    assert again.step == 5 and again.data == {"epoch": 2, "batch": 7} and again.metric is None


def test_any_mesh_to_any_other(tmp_path):
    state = make_state(step=3)
    split = jax.device_put(state, sharding.shardings(state, mesh_of(2, 2, 2)))
    save(tmp_path, {3: (split, None)})
    for mesh in (mesh_of(), mesh_of(data=8), mesh_of(fsdp=4), mesh_of(2, 2, 2)):
        back = read_state(ck.find(tmp_path), abstract(state, mesh))
        assert_same(back, state)
        assert back.params["layers"]["fc1"]["kernel"].sharding.mesh == mesh


def test_donation_cannot_change_what_is_being_written(tmp_path):
    bump = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    params = {"w": jnp.arange(2_000_000, dtype=jnp.float32)}
    state = new_state(params, make_optimizer(OptimizerConfig(name="sgd")))
    with Checkpoints(tmp_path, CheckpointConfig(keep_last=4)) as checkpoints:
        for step in (10, 20, 30):
            for _ in range(10):
                state = bump(state)
            checkpoints.save(state, record(step), config={}, assets={})
    want = np.arange(2_000_000, dtype=np.float32)
    for step in (10, 20, 30):
        got = ck.read_params(tmp_path / "checkpoints" / str(step))["w"]
        np.testing.assert_array_equal(got, want + step)


def test_last_best_and_every_are_kept(tmp_path):
    state = make_state()
    metrics = {1: 3.0, 2: 1.5, 3: 1.5, 4: 2.0, 5: None, 6: float("nan"), 7: 2.5, 8: None}
    save(tmp_path, {s: (state, m) for s, m in metrics.items()},
         keep_last=2, keep_best=2, keep_every_updates=4)
    assert sorted(ck.steps_in(tmp_path / "checkpoints")) == [2, 3, 4, 7, 8]
    assert ck.find(tmp_path).name == "3"  # of equals the later, as fairseq has it
    assert ck.find(tmp_path, which="last").name == "8"
    assert ck.find(tmp_path / "checkpoints" / "7").name == "7"


def test_higher_may_be_better(tmp_path):
    state = make_state()
    with Checkpoints(tmp_path, CheckpointConfig(keep_last=1)) as checkpoints:
        for step, bleu in ((1, 10.0), (2, 30.0), (3, 20.0)):
            checkpoints.save(state, record(step, bleu, maximize=True), config={}, assets={})
    assert ck.find(tmp_path).name == "2"


def test_values_of_two_metrics_are_not_compared(tmp_path):
    """A run that goes on with another valid.metric: the best is by the metric of now."""
    for step, name, metric, maximize in ((1, "bleu", 29.0, True), (2, "loss", 3.5, False),
                                         (3, "loss", 3.8, False)):
        about = tmp_path / "checkpoints" / str(step) / "about"
        about.mkdir(parents=True)
        (about / "record.json").write_text(json.dumps({
            "step": step, "data": {}, "metric_name": name, "metric": metric,
            "maximize": maximize}))
    assert ck.find(tmp_path).name == "2"


def test_a_killed_save_leaves_the_earlier_ones(tmp_path):
    state = make_state()
    save(tmp_path, {1: (state, 2.0), 2: (state, 1.0)})
    root = tmp_path / "checkpoints"
    # What is there when a process dies while it writes 3 and while it deletes 0.
    shutil.copytree(root / "2", root / "3.orbax-checkpoint-tmp-1")
    shutil.copytree(root / "1" / "params", root / "0" / "params")
    assert sorted(ck.steps_in(root)) == [1, 2]
    save(tmp_path, {3: (state, 0.5)}, keep_last=3)
    assert sorted(ck.steps_in(root)) == [1, 2, 3]
    assert_same(read_state(ck.find(tmp_path), abstract(state, mesh_of())), state)
    assert not list(root.glob("*tmp*"))


def test_saved_updates_are_not_saved_again(tmp_path):
    a, b = make_state(0), make_state(1)
    save(tmp_path, {1: (a, None)})
    save(tmp_path, {1: (b, None)})
    assert_same(ck.read_params(ck.find(tmp_path)), jax.tree.map(np.asarray, a.params))


def test_an_error_in_the_background_surfaces(tmp_path, monkeypatch):
    state = make_state()
    checkpoints = Checkpoints(tmp_path, CheckpointConfig())
    checkpoints.save(state, record(1), config={}, assets={})
    checkpoints.wait()

    def full(self, directory, args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FilesHandler, "save", full)
    with pytest.raises(ck.CheckpointError, match="the disk is full.*intact"):
        checkpoints.save(state, record(2), config={}, assets={})
        checkpoints.wait()
    assert ck.find(tmp_path).name == "1"
    assert_same(read_state(ck.find(tmp_path), abstract(state, mesh_of())), state)


def test_a_disk_without_room_is_noticed_before_writing(tmp_path, monkeypatch):
    state = make_state()
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        checkpoints.save(state, record(1), config={}, assets={})
        checkpoints.wait()
        free = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
        with pytest.raises(ck.CheckpointError, match="0 MiB free"):
            checkpoints.save(state, record(2), config={}, assets={})
    assert sorted(ck.steps_in(tmp_path / "checkpoints")) == [1]


def test_other_model_is_refused_with_its_keys():
    other = {"model": {"name": "transformer", "dim": 16, "dropout": 0.3, "layers": 2},
             "optimizer": {"name": "nag"}, "train": {"lr": [2.0]}}
    with pytest.raises(ck.CheckpointError) as e:
        check_config(CONFIG, other, "run/checkpoints/3")
    text = str(e.value)
    assert "model.dim: 8 there, 16 here" in text and "model.layers: None there, 2 here" in text
    assert "optimizer.name: 'adam' there, 'nag' here" in text
    assert "dropout" not in text and "train.lr" not in text


def test_other_keys_may_change_and_are_told():
    other = json.loads(json.dumps(CONFIG))
    other["model"]["dropout"], other["train"]["lr"], other["resume_from"] = 0.3, [2.0], "x"
    lines = check_config(CONFIG, other, "x")
    assert lines == ["model.dropout: 0.1 there, 0.3 here", "train.lr: [1.0] there, [2.0] here"]


def test_other_shapes_are_refused_by_name(tmp_path):
    save(tmp_path, {1: (make_state(), None)})
    with pytest.raises(ck.CheckpointError, match=r"\['embedding'\]: \[12, 8\] there, \[12, 4\]"):
        read_state(ck.find(tmp_path), abstract(make_state(dim=4), mesh_of()))
    with pytest.raises(ck.CheckpointError, match="exp_avg.* absent here"):
        read_state(ck.find(tmp_path), abstract(make_state(optimizer="sgd"), mesh_of()))


def test_nothing_there(tmp_path):
    with pytest.raises(ck.CheckpointError, match="no such file or folder"):
        ck.find(tmp_path / "none")
    with pytest.raises(ck.CheckpointError, match="holds no complete checkpoint"):
        ck.find(tmp_path)


def test_broken_checkpoint_says_which_file(tmp_path):
    save(tmp_path, {1: (make_state(), None)})
    folder = ck.find(tmp_path)
    config = folder / "about" / "config.json"
    whole = config.read_bytes()
    config.write_text("{")
    with pytest.raises(ck.CheckpointError, match="about/config.json is not what was written"):
        ck.load_for_inference(tmp_path)
    with pytest.raises(ck.CheckpointError, match="config.json is not readable as JSON"):
        ck.load_for_inference(tmp_path, verify=False)
    config.write_bytes(whole)
    for file in pathlib.Path(folder / "params").rglob("*"):
        if file.is_file() and file.stat().st_size > 500:
            file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ck.CheckpointError, match="cannot be read"):
        ck.read_params(folder)


def test_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=".*file.*: cannot write there"):
        check_workdir(tmp_path / "file" / "run")
    with pytest.raises(ConfigError, match="MiB free, but a checkpoint takes"):
        check_workdir(tmp_path, need_bytes=2**62)
    assert check_workdir(tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())


def test_state_type():
    assert isinstance(make_state(), TrainState) and state_bytes({"a": jnp.zeros((3, 5))}) == 60
