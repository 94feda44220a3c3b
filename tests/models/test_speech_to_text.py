"""Speech-to-text transformers against what fairseq computes, and by themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import speech_to_text_goldens as goldens

from seqjax.config import OptimizerConfig
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.interop.fairseq import optimizer_state
from seqjax.models.protocol import Source

CASES = ("transformer", "planes", "convtransformer", "conformer_abs", "conformer_espnet_abs",
         "conformer_rel_pos", "conformer_rope", "conformer_no_positions", "xm_plain",
         "xm_projections", "xm_bare")


@pytest.fixture(params=CASES)
def golden(request):
    return goldens.load(request.param)


def test_states_scores_losses_and_gradients_are_fairseqs(golden):
    """In a padded batch, also in one that is padded more than fairseq's."""
    found = goldens.program(golden, wider=5 if len(golden.about["order"]) % 2 else 0)(golden.params)
    (loss, (lprobs, encoded)), gradient = found
    width = golden.arrays["real"].shape[1]
    encoded = encoded.replace(out=encoded.out[:, :width], mask=encoded.mask[:, :width])
    goldens.check(golden, ((loss, (lprobs, encoded)), gradient), golden.about["eval"])


@pytest.mark.parametrize("name", ["conformer_abs", "conformer_rel_pos"])
def test_training_a_conformer_is_fairseqs(name):
    """By the statistics of the batch, of all its frames, and what the running ones become."""
    golden = goldens.load(name)
    found = goldens.program(golden, key=jax.random.key(0))(golden.params)
    goldens.check(golden, found, golden.about["train"], states="train_states")
    extra = golden.model.init_extra(golden.params)
    after = golden.model.settled(
        golden.params, golden.model.advanced(extra, found[0][1][1]))
    state = fairseq_weights.to_state(after, golden.checkpoint.config, **golden.sizes)
    assert len(golden.about["after"]) == 2 * golden.model.config.encoder_layers
    for name, values in golden.about["after"].items():
        np.testing.assert_allclose(state[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
        assert np.abs(state[name] - golden.state[name]).max() > 1e-3


def test_rows_and_padding_of_a_batch():
    """By itself a row is what fairseq makes of it by itself; in fairseq's batches it is not, since
    convolutions see padding. Rows without a frame are of no consequence to either."""
    for name in ("planes", "conformer_rel_pos"):
        golden = goldens.load(name)
        encode = jax.jit(golden.model.encode)
        together = encode(golden.params, golden.source(isolated=True, wider=3, rows=1))
        batch = encode(golden.params, golden.source(wider=3, rows=1))
        assert not np.asarray(batch.mask)[3].any() and np.isfinite(together.out).all()
        width = golden.arrays["real"].shape[1]
        real = golden.arrays["real"]
        np.testing.assert_allclose(np.asarray(batch.out)[:3, :width][real],
                                   golden.arrays["states"][real], atol=2e-5)
        row, length = 2, goldens.LENGTHS[2]
        one = Source(values=golden.source().values[row : row + 1, :length],
                     mask=jnp.ones((1, length), bool))
        alone = encode(golden.params, one)
        frames = int(alone.mask.sum())
        assert frames == int(together.mask[row].sum()) == alone.out.shape[1]
        np.testing.assert_allclose(together.out[row, :frames], alone.out[0], atol=1e-5)
        assert np.abs(batch.out[row, :frames] - alone.out[0]).max() > 1e-3


def test_lengths_are_fairseqs():
    golden = goldens.load("convtransformer")
    config = dataclasses.replace(golden.model.config, conv_version="convtransformer")
    model = dataclasses.replace(golden.model, config=config)

    def frames(model: Any, params: Any, *lengths: int) -> list[int]:
        width = max(lengths)
        source = Source(values=jnp.zeros((len(lengths), width, *model.frame_shape)),
                        mask=jnp.arange(width) < jnp.array(lengths)[:, None])
        return jax.eval_shape(model.encode, params, source) and [
            int(n) for n in jax.jit(model.encode)(params, source).mask.sum(1)]

    # ceil(length / rounded ratio of the whole batch), of planes; of the others what is halved
    assert frames(model, golden.params, 103, 101, 100, 5, 1) == [26, 26, 25, 2, 1]
    one = goldens.load("conformer_no_positions")
    assert frames(one.model, one.params, 103, 101, 100, 5, 1) == [26, 26, 25, 2, 1]


def test_weights_go_both_ways_bit_for_bit(golden):
    state, kept = golden.state, golden.checkpoint.kept
    again = fairseq_weights.to_state(
        golden.params, golden.checkpoint.config, kept=kept, **golden.sizes)
    assert again.keys() == state.keys()
    for name, value in state.items():
        assert again[name].dtype == value.dtype and np.array_equal(again[name], value), name
    fresh = fairseq_weights.to_state(golden.params, golden.checkpoint.config, **golden.sizes)
    assert fresh.keys() == state.keys()


def test_moments_are_numbered_as_fairseqs(golden):
    plan = fairseq_weights.plan_of(golden.checkpoint.config, **golden.sizes)
    moments = {name: jax.tree.map(np.ones_like, golden.params) for name in (
        "exp_avg", "exp_avg_sq")}
    written = optimizer_state.write_state(
        {"count": 3, **moments}, golden.checkpoint.config,
        optimizer=OptimizerConfig(name="adam"), lr=0.1, **golden.sizes)
    names = optimizer_state.registered(
        {n for n in plan.wanted if not plan.buffers.fullmatch(n)}, plan.names, title=plan.table)
    ordered = [n for n in golden.about["order"] if n not in plan.copies]
    assert names == ordered and len(written["state"]) == len(names)
    tree = {"args": golden.about["args"], "last_optimizer_state": written,
            "model": {**{n: golden.state[n] for n in golden.about["order"]}, **golden.state}}
    read = optimizer_state.read_state(tree, name="adam")
    for ours, buffer in zip(jax.tree.leaves(read["exp_avg"]), jax.tree.leaves(
            jax.tree_util.tree_map_with_path(
                lambda path, _: "running" in str(path) or "inv_freq" in str(path),
                golden.params)), strict=True):
        assert np.all(ours == (0 if buffer else 1))


def test_fresh_weights_are_distributed_as_fairseqs(golden):
    inits = jax.jit(jax.vmap(golden.model.init))(jax.random.split(jax.random.key(0), 6))
    states = [fairseq_weights.to_state(jax.tree.map(lambda a, i=i: np.asarray(a[i]), inits),
                                       golden.checkpoint.config, **golden.sizes)
              for i in range(6)]
    for name, (mean, deviation) in golden.about["fresh"].items():
        ours = np.stack([state[name] for state in states])
        error = 5 * max(deviation, 1e-7) / np.sqrt(ours.size)
        assert abs(ours.mean() - mean) <= 2 * error + 1e-6, name
        assert abs(ours.std() - deviation) <= 0.2 * deviation + error + 1e-6, name
