"""Meshes: their sizes, the table of partitions, and the same numbers on all of them."""

from __future__ import annotations

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from tiny_run import raw_config, resolve, write_data

from seqjax import models
from seqjax.config import ConfigError, MeshConfig, OptimizerConfig, ScheduleConfig
from seqjax.losses.cross_entropy import LabelSmoothedCrossEntropyConfig, cross_entropy
from seqjax.models.protocol import token_source
from seqjax.models.transformer.config import TransformerConfig
from seqjax.training import initial_state, parts, programs, sharding
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.state import new_state
from seqjax.training.train_step import make_train_step

V, PAD, EOS = 40, 1, 2
MESHES = [(1, 1, 1), (8, 1, 1), (2, 2, 2)]


def mesh_of(sizes):
    count = int(np.prod(sizes))
    config = MeshConfig(data=sizes[0], fsdp=sizes[1], tensor=sizes[2])
    return sharding.make_mesh(config, jax.devices()[:count])


def test_one_axis_takes_what_is_left():
    mesh = sharding.make_mesh(MeshConfig(tensor=2))
    assert dict(mesh.shape) == {"data": 4, "fsdp": 1, "tensor": 2}
    assert all(t == jax.sharding.AxisType.Auto for t in mesh.axis_types)
    assert sharding.rows_multiple(mesh_of((2, 2, 2))) == 4


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (MeshConfig(data=3), "data=3 x fsdp=1 x tensor=1 needs 3 devices, but there are 8 cpu"),
        (MeshConfig(tensor=3), "does not divide the 8 cpu devices"),
        (MeshConfig(data=-1, fsdp=-1), "one of them may be -1"),
        (MeshConfig(data=0), "sizes are 1 or more"),
    ],
)
def test_sizes_that_do_not_fit(config, says):
    with pytest.raises(ConfigError, match=says):
        sharding.make_mesh(config)


def test_table():
    mesh = mesh_of((2, 2, 2))

    def spec(name, *shape):
        return sharding.spec_for(name, shape, mesh)[0]

    assert spec("encoder/layers/self_attn/q_proj/kernel", 6, 8, 8) == P(None, "fsdp", "tensor")
    assert spec("encoder/layers/fc2/kernel", 6, 16, 8) == P(None, "tensor", "fsdp")
    assert spec("decoder/adaptive_softmax/tail_0/out/kernel", 4, 40) == P("fsdp", "tensor")
    assert spec("decoder/adaptive_softmax/tail_0/proj/kernel", 8, 4) == P(None, "fsdp")
    assert spec("opt_state/exp_avg/encoder/layers/fc1/bias", 6, 16) == P(None, "tensor")
    assert spec("decoder/embed_tokens/embedding", 40, 8) == P("tensor", "fsdp")
    assert spec("encoder/layer_norm/scale", 8) == P()
    assert spec("opt_state/count") == P()


def test_a_familys_rules_come_first():
    own = ((r"gate/kernel$", ("fsdp", "tensor")), (r"fc2/kernel$", (None, "tensor")))
    names = {"gate/kernel": P("fsdp", "tensor"), "layers/fc2/kernel": P(None, "tensor"),
             "fc1/kernel": P("fsdp", "tensor"), "other/kernel": P(None, "fsdp")}
    mesh = mesh_of((2, 2, 2))
    with sharding.own_rules(own):
        assert {n: sharding.spec_for(n, (8, 8), mesh)[0] for n in names} == names
    assert sharding.spec_for("gate/kernel", (8, 8), mesh)[0] == P(None, "fsdp")
    with pytest.raises(ConfigError, match="partition of 'x': no mesh has the axis 'model'"):
        with sharding.own_rules((("x", ("model",)),)):
            pass


def test_a_run_splits_by_the_rules_of_its_family(tmp_path, monkeypatch):
    """Its state between updates, and what an update and a validation gather and split again."""
    own = ((r"fc1/kernel$", ("tensor", "fsdp")),)
    family = dataclasses.replace(models.FAMILIES["transformer"], partition=own)
    monkeypatch.setattr(models, "FAMILIES", {**models.FAMILIES, "transformer": family})
    config = resolve(raw_config(
        write_data(tmp_path / "data"), mesh={"data": 2, "fsdp": 2, "tensor": 2}))
    run = parts.prepare(config)
    state = initial_state.abstract_state(run)
    swapped = P(None, "tensor", "fsdp")
    assert state.params["encoder"]["layers"]["fc1"]["kernel"].sharding.spec == swapped
    assert state.opt_state["exp_avg"]["decoder"]["layers"]["fc1"]["kernel"].sharding.spec == swapped
    found = []
    between = sharding._between
    monkeypatch.setattr(sharding, "_between", lambda stored, used: (
        found.append((stored.spec, used.spec)) or between(stored, used)))
    groups, shape = run.plan.shapes[0]
    job = programs.Programs(run, state)._job(groups, shape)
    job.function.lower(*job.arguments)
    assert (swapped, P(None, "tensor", None)) in found
    found.clear()
    job = next(iter(run.validator.jobs(state).values()))
    job.function.lower(*job.arguments)
    assert (swapped, P(None, "tensor", None)) in found


def test_what_does_not_divide_is_whole_and_logged_once(caplog):
    shapes = {"fc1": {"kernel": jax.ShapeDtypeStruct((7, 9), jnp.float32)},
              "fc2": {"kernel": jax.ShapeDtypeStruct((9, 8), jnp.float32)}}
    with caplog.at_level(logging.INFO, logger="seqjax"):
        result = sharding.shardings(shapes, mesh_of((2, 2, 2)))
    assert result["fc1"]["kernel"].spec == P()
    assert result["fc2"]["kernel"].spec == P(None, "fsdp")
    assert len(caplog.records) == 1 and "fc1/kernel [7, 9]" in caplog.text


def test_rows_are_split_and_keep_their_order():
    mesh = mesh_of((2, 2, 2))
    batch = {"source": np.arange(2 * 8 * 3, dtype=np.int32).reshape(2, 8, 3)}
    placed = sharding.place(batch, mesh, rows_axis=1)["source"]
    assert placed.sharding.spec == P(None, ("data", "fsdp"))
    assert placed.addressable_shards[0].data.shape == (2, 2, 3)
    np.testing.assert_array_equal(placed, batch["source"])


def tiny_transformer():
    size = {f"{s}_{k}": v for s in ("encoder", "decoder") for k, v in
            dict(embed_dim=16, ffn_embed_dim=32, layers=2, attention_heads=4).items()}
    config = TransformerConfig(
        dropout=0.0, share_decoder_input_output_embed=True, scan_unroll=1, **size)
    return models.build(config, source_vocab_size=V, target_vocab_size=V,
                        compute_dtype=jnp.float32)


def transformer_loss(model):
    def loss_fn(params, extra, batch, rng, update):
        encoded = model.encode(params, token_source(batch["source"], pad=1), rng=rng)
        target = batch["target"]
        previous = jnp.concatenate([jnp.full_like(target[:, :1], EOS), target[:, :-1]], axis=1)
        features = model.features(params, previous, encoded, rng=rng)
        return cross_entropy(features.hidden, features.projection, features.project, target,
                             config=LabelSmoothedCrossEntropyConfig(), pad=PAD), extra

    return loss_fn


def draw_batch(rows=8):
    rng = np.random.default_rng(0)

    def side(T):
        lengths = rng.integers(1, T, (2, rows, 1))
        ids = rng.integers(4, V, (2, rows, T))
        ids = np.where(np.arange(T) < lengths, ids, np.where(np.arange(T) == lengths, EOS, PAD))
        return ids.astype(np.int32)

    return {"source": side(7), "target": side(6)}


@pytest.fixture(scope="module")
def updates():
    """Metrics and states after one update by SGD (its move is the gradient), per mesh."""
    model = tiny_transformer()
    optimizer = make_optimizer(OptimizerConfig(name="sgd"))
    schedule = make_schedule(ScheduleConfig(name="fixed", warmup_updates=0), lr=(1.0,))
    step = make_train_step(transformer_loss(model), optimizer, schedule, seed=1)
    results = {}
    for sizes in MESHES:
        mesh = mesh_of(sizes)
        state = new_state(model.init(jax.random.key(0, impl="threefry2x32")), optimizer)
        state = jax.device_put(state, sharding.shardings(state, mesh))
        batch = sharding.place(draw_batch(), mesh, rows_axis=1)
        compiled = jax.jit(step, out_shardings=(sharding.shardings(state, mesh), None))
        new, metrics = compiled(state, batch, 1)
        gradient = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b),
                                state.params, new.params)
        results[sizes] = (metrics, gradient, new)
    return results


@pytest.mark.parametrize("sizes", MESHES[1:])
def test_same_loss_and_gradients_on_every_mesh(updates, sizes):
    (want, want_gradient, _), (ours, gradient, new) = updates[MESHES[0]], updates[sizes]
    for name in ("loss", "nll_loss", "gnorm"):
        np.testing.assert_allclose(ours[name][0], want[name][0], rtol=1e-5)
    for name, weight in (("ntokens", 0), ("loss", 1)):
        assert float(ours[name][weight]) == float(want[name][weight])
    leaves = jax.tree_util.tree_leaves_with_path(want_gradient)
    # A bias of keys has no gradient (softmax does not see it): what is there is rounding of
    # the other terms, whose size is the whole gradient's.
    noise = 1e-8 * float(want["gnorm"][0])
    for (path, a), b in zip(leaves, jax.tree.leaves(gradient), strict=True):
        norm = np.linalg.norm(a)
        assert np.linalg.norm(a - b) <= 1e-5 * norm + noise, sharding.path_name(path)
    assert int(new.step) == 1


def test_parameters_and_moments_stay_split():
    model, mesh = tiny_transformer(), mesh_of((2, 2, 2))
    optimizer = make_optimizer(OptimizerConfig())
    shapes = jax.eval_shape(lambda: new_state(model.init(jax.random.key(0)), optimizer))
    placed = sharding.shardings(shapes, mesh)
    kernel = placed.params["encoder"]["layers"]["fc1"]["kernel"]
    assert kernel.spec == P(None, "fsdp", "tensor")
    moments = placed.opt_state["exp_avg"]["encoder"]["layers"]["fc1"]["kernel"]
    assert moments.spec == kernel.spec
    assert placed.step.spec == P()
    # Whatever the model's names are: most of it must be split four ways.
    leaves = zip(jax.tree.leaves(shapes.params), jax.tree.leaves(placed.params), strict=True)
    sizes = [(np.prod(x.shape), np.prod(s.shard_shape(x.shape))) for x, s in leaves]
    total, local = np.sum(sizes, axis=0)
    assert local < 0.35 * total
