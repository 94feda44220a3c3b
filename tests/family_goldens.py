"""What fairseq recorded for tiny models (scripts/record_families.py), and checks on it.

Shared by the tests of the recurrent and convolutional families.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import models
from seqjax.config import MeshConfig
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.losses.adaptive import AdaptiveLossConfig, adaptive_loss
from seqjax.losses.cross_entropy import LabelSmoothedCrossEntropyConfig, cross_entropy
from seqjax.models.protocol import encode_tokens, token_source
from seqjax.training import sharding

FOLDER = pathlib.Path(__file__).parent / "goldens"
PAD = 1


@dataclasses.dataclass(frozen=True)
class Golden:
    """One recorded case and our model of it."""

    arrays: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    gradients: dict[str, float]
    checkpoint: fairseq_weights.FairseqCheckpoint
    model: Any

    @property
    def is_lm(self) -> bool:
        return self.checkpoint.config.name.endswith("_lm")

    @property
    def params(self) -> Any:
        return jax.tree.map(jnp.asarray, self.checkpoint.params)

    def batch(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """source, previous tokens, target."""
        source, prev, target = (
            jnp.asarray(self.arrays[k], jnp.int32) for k in ("source", "prev", "target"))
        return source, prev, target

    def features(self, params: Any, source: jax.Array, prev: jax.Array, **options: Any) -> Any:
        encoded = encode_tokens(self.model, params, source)
        return self.model.features(params, prev, encoded, **options)


@functools.cache
def load(name: str) -> Golden:
    """The case `FAMILY/CASE`."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)
    about = json.loads(str(arrays.pop("about")))
    flat, state, at = arrays.pop("weights"), {}, 0
    for key, shape in about["weights"].items():
        size = int(np.prod(shape))
        state[key] = flat[at : at + size].reshape(shape)
        at += size
    args = {"criterion": "label_smoothed_cross_entropy", "max_source_positions": 20,
            "max_target_positions": 20, "tokens_per_sample": 20, "arch": about["arch"],
            **about["args"]}
    checkpoint = fairseq_weights.from_tree({"args": args, "model": state})
    model = models.build(
        checkpoint.config, source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size, compute_dtype=jnp.float32,
    )
    gradients = dict(zip(about["grads"], arrays.pop("grads").tolist(), strict=True))
    return Golden(arrays, state, gradients, checkpoint, model)


def loss_of(golden: Golden, features: Any, target: jax.Array) -> jax.Array:
    """The loss that was recorded."""
    if getattr(golden.checkpoint.config, "adaptive_softmax_cutoff", None) is not None:
        return adaptive_loss(
            features.hidden, features.projection, target, config=AdaptiveLossConfig(), pad=PAD
        ).sum
    return cross_entropy(
        features.hidden, features.projection, features.project, target,
        config=LabelSmoothedCrossEntropyConfig(), pad=PAD,
    ).sum


def check_numbers(golden: Golden) -> None:
    """Log-probabilities of every real position, teacher-forced; the loss; and the norm of
    its gradient for every parameter, under fairseq's names."""
    source, prev, target = golden.batch()

    @jax.jit
    def run(params: Any) -> Any:
        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            features = golden.features(params, source, prev)
            return loss_of(golden, features, target), jax.nn.log_softmax(features.logits())

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, lprobs), gradient = jax.device_get(run(golden.params))
    real = np.asarray(target) != PAD
    np.testing.assert_allclose(lprobs[real], golden.arrays["lprobs"][real], atol=1e-5)
    np.testing.assert_allclose(value, golden.arrays["loss"], rtol=1e-5)
    theirs = fairseq_weights.to_state(
        gradient, golden.checkpoint.config,
        source_vocab_size=golden.checkpoint.source_vocab_size,
        target_vocab_size=golden.checkpoint.target_vocab_size,
    )
    for name, norm in golden.gradients.items():
        ours = np.linalg.norm(theirs[name].ravel())
        np.testing.assert_allclose(ours, norm, rtol=1e-4, atol=1e-5, err_msg=name)


def check_round_trip(golden: Golden) -> None:
    """Writing what was read gives every tensor back, bit for bit."""
    state = fairseq_weights.to_state(
        golden.checkpoint.params, golden.checkpoint.config, kept=golden.checkpoint.kept,
        source_vocab_size=golden.checkpoint.source_vocab_size,
        target_vocab_size=golden.checkpoint.target_vocab_size,
    )
    assert state.keys() == golden.state.keys()
    for name, value in golden.state.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)


def decode_all(golden: Golden, prev: jax.Array, *, beam: int = 2, capacity: int = 8) -> np.ndarray:
    """Log-probabilities [B, T, V] of position-by-position decoding.

    Every hypothesis changes its slot at every position: what is returned for a position was
    computed in a slot other than the position before it. The cache grows when it is full.
    """
    model, params = golden.model, golden.params
    source = golden.batch()[0]
    rows, length = prev.shape

    @jax.jit
    def start(params: Any) -> tuple[Any, Any]:
        weights = model.prepare(params)
        encoded = encode_tokens(model, params, source)
        return weights, model.start(weights, encoded, rows=rows, beam=beam, capacity=capacity)

    weights, cache = start(params)
    step, result = jax.jit(model.step), []
    for t in range(length):
        if t == capacity:
            capacity *= 2
            cache = model.grow(cache, capacity=capacity)
        mine = t % beam  # the slot of the true sequence; the others hold a wrong one
        tokens = jnp.where(jnp.arange(beam) == mine, prev[:, t, None], 3)
        held = np.array([c % beam for c in range(capacity)])
        table = np.where(np.arange(beam)[:, None] == mine, held, (held + 1) % beam)
        table[:, t:] = np.arange(beam)[:, None]
        if t:
            parents = jnp.where(jnp.arange(beam) == mine, (t - 1) % beam, t % beam)
            cache = model.reorder(cache, jnp.broadcast_to(parents, (rows, beam)))
        ancestors = jnp.broadcast_to(jnp.asarray(table, jnp.int32), (rows, beam, capacity))
        features, cache = step(
            weights, tokens, cache, position=jnp.int32(t), ancestors=ancestors
        )
        result.append(jax.nn.log_softmax(features.logits())[:, mine])
    return np.stack(result, axis=1)


def check_decoding(golden: Golden, *, capacity: int = 8) -> None:
    """Position by position as fairseq does it, and as the whole sequence at once."""
    source, prev, target = golden.batch()
    steps = decode_all(golden, prev, capacity=capacity)
    real = np.asarray(target) != PAD
    np.testing.assert_allclose(steps[real], golden.arrays["step_lprobs"][real], atol=1e-5)
    logits = jax.jit(golden.features)(golden.params, source, prev).logits()
    np.testing.assert_allclose(steps[real], jax.nn.log_softmax(logits)[real], atol=1e-5)


def check_packing(golden: Golden) -> None:
    """Sentences that share a row give what they give alone."""
    model, params = golden.model, golden.params
    source, prev, target = golden.batch()
    alone = np.asarray(jax.jit(golden.features)(params, source, prev).logits())
    real_source, real = np.asarray(source) != PAD, np.asarray(target) != PAD

    def packed(tokens: jax.Array, keep: np.ndarray) -> tuple[jax.Array, jax.Array]:
        parts = [np.asarray(row)[mask] for row, mask in zip(tokens, keep, strict=True)]
        numbers = np.concatenate([np.full(len(p), i + 1) for i, p in enumerate(parts)])
        pad = (0, 3)
        return (jnp.asarray(np.pad(np.concatenate(parts), pad, constant_values=PAD)[None]),
                jnp.asarray(np.pad(numbers, pad)[None]))

    tokens, segments = packed(prev, real)
    if golden.is_lm:
        features = jax.jit(model.features)(params, tokens, segments=segments)
    else:
        sources, source_segments = packed(source, real_source)
        encoded = jax.jit(model.encode)(
            params, token_source(sources, pad=PAD, segments=source_segments))
        features = jax.jit(model.features)(params, tokens, encoded, segments=segments)
    together = np.asarray(features.logits())[0, : real.sum()]
    np.testing.assert_allclose(together, alone[real], atol=2e-5)


def check_padding(golden: Golden) -> None:
    """Wider padding and rows without a token change nothing and stay finite."""
    source, prev, target = golden.batch()
    real = np.asarray(target) != PAD
    wide = jax.jit(golden.features)(
        golden.params, jnp.pad(source, ((0, 1), (0, 4)), constant_values=PAD),
        jnp.pad(prev, ((0, 1), (0, 3)), constant_values=PAD),
    ).logits()
    assert np.isfinite(wide).all()
    ours = np.asarray(jax.nn.log_softmax(wide))[:3, : prev.shape[1]]
    np.testing.assert_allclose(ours[real], golden.arrays["lprobs"][real], atol=1e-5)


def check_mesh(golden: Golden) -> None:
    """Parameters and rows spread over a mesh (2, 2, 2) give what one device gives."""
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    source, prev, target = (
        jnp.pad(x, ((0, 1), (0, 0)), constant_values=PAD) for x in golden.batch())

    def loss(params: Any, source: jax.Array, prev: jax.Array, target: jax.Array) -> jax.Array:
        return loss_of(golden, golden.features(params, source, prev), target)

    run = jax.jit(jax.value_and_grad(loss))
    value, gradient = run(golden.params, source, prev, target)
    rows = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))
    spread = jax.device_put(golden.params, sharding.shardings(golden.params, mesh))
    assert any(not x.is_fully_replicated for x in jax.tree.leaves(spread))
    there = run(spread, *(jax.device_put(x, rows) for x in (source, prev, target)))
    np.testing.assert_allclose(there[0], value, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), there[1], gradient)


def check_init(golden: Golden) -> Any:
    """Fresh parameters have the recorded shapes; returns them."""
    fresh = jax.jit(golden.model.init)(jax.random.key(0))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(np.shape, golden.checkpoint.params)
    return fresh


def check_dropout(golden: Golden) -> None:
    """Dropout depends on the key alone, and changes the result.

    Traced anew each time: a compiled function gives the same answer twice whatever it was made
    from, while a key taken from the host would differ from trace to trace.
    """
    source, prev, _ = golden.batch()

    def run(key: jax.Array | None) -> jax.Array:
        params = golden.params
        if golden.is_lm:
            return golden.model.features(params, prev, rng=key).hidden
        encoded = golden.model.encode(params, token_source(source, pad=1), rng=key)
        return golden.model.features(params, prev, encoded, rng=key).hidden

    def traced(key: jax.Array | None) -> jax.Array:
        return jax.jit(lambda: run(key))()

    first, again = traced(jax.random.key(3)), traced(jax.random.key(3))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - traced(None)).max() > 1e-3
    assert np.abs(first - traced(jax.random.key(4))).max() > 1e-3
