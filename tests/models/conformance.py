"""What every model of text must compute, whatever its family: a recorded case in, a failed
assertion out. What every model's weights must be is in `conformance_weights.py`."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
from family_goldens import PAD, Golden
from kinds import (
    Batch,
    Found,
    alone,
    batch_of,
    expected,
    kind,
    packed,
    padded,
    program,
    scores,
    teacher_forced,
    whole,
)

from seqjax import models
from seqjax.config import MeshConfig
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.models.parts import configs
from seqjax.training import sharding


def check_numbers(golden: Golden, found: Found) -> None:
    """Log-probabilities of every real position; the loss; the norm of its gradient for every
    parameter, under fairseq's names; attention, where it was recorded."""
    recorded = golden.arrays
    real = kind(golden).real(kind(golden).batch(golden))
    rows = len(real)
    np.testing.assert_allclose(found.lprobs[:rows][real], recorded["lprobs"][real], atol=1e-5)
    np.testing.assert_allclose(found.loss, recorded["loss"], rtol=1e-5)
    theirs = fairseq_weights.to_state(found.gradient, golden.config, **golden.sizes)
    for name, norm in golden.gradients.items():
        ours = np.linalg.norm(theirs[name].ravel())
        np.testing.assert_allclose(ours, norm, rtol=1e-4, atol=1e-5, err_msg=name)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.gradient))
    if "attention" in recorded:
        ours = np.asarray(found.attention)[-1].mean(1)[:rows]
        np.testing.assert_allclose(ours[real], recorded["attention"][real], atol=1e-6)


def check_attention(golden: Golden, found: Found, batch: Batch) -> None:
    """No attention to what is padding, as much as there is to what is not."""
    if found.attention is None:
        return
    padding = np.asarray(batch["source"]) == PAD
    _, rows, _, length, width = found.attention.shape
    assert (rows, width) == padding.shape and length == batch["target"].shape[1]
    # fairseq's convolutions give the mean over layers of which some do not attend.
    total = found.attention[0, 0, 0, 0].sum()
    assert 0 < total <= 1 + 1e-5
    for row, real in enumerate(kind(golden).real(batch)):
        mine = found.attention[:, row][:, :, real]
        np.testing.assert_allclose(mine.sum(-1), total, atol=1e-5)
        assert not mine[..., padding[row]].any()


def check_rows(name: str) -> None:
    """What else is in a batch, and how wide its padding is, changes nothing of a sentence."""
    golden, batch = family_goldens.load(name), batch_of(name)
    params, run = golden.params, scores(name)
    lprobs, real = expected(name)
    assert np.isfinite(whole(name).lprobs).all()

    def compare(ours: np.ndarray, row: int) -> None:
        end = real[row].nonzero()[0][-1] + 1
        np.testing.assert_allclose(
            ours[:end][real[row, :end]], lprobs[row, :end][real[row, :end]], atol=1e-5)

    compare(run(params, alone(golden, batch, 2))[0], 2)
    order = np.array([2, 2, 0, 2, 1])
    mixed = padded({k: v[order] for k, v in batch.items()}, rows=1, columns=3)
    for ours, row in zip(run(params, mixed), order, strict=False):
        compare(ours, row)


def check_packing(name: str, *, gradients: bool) -> None:
    """Sentences that share a row give what they give alone: log-probabilities, and the loss with
    its gradients."""
    golden = family_goldens.load(name)
    row = packed(golden, kind(golden).batch(golden))
    lprobs, real = expected(name)
    if golden.teacher_forced or not gradients:
        # Whole rows were recorded otherwise than decoding and packing are, or this suffices.
        together = scores(name)(golden.params, row)
    else:
        found, separate = teacher_forced(name)(golden.params, row), whole(name)
        np.testing.assert_allclose(found.loss, separate.loss, rtol=1e-5)
        check_gradients(found.gradient, separate.gradient)
        together = found.lprobs
    np.testing.assert_allclose(together[0, : real.sum()], lprobs[real], atol=2e-5)


def check_gradients(ours: Any, wanted: Any) -> None:
    """Equal but for rounding, which is of the size of the whole gradient."""
    leaves = jax.tree_util.tree_leaves_with_path(wanted)
    norm = np.sqrt(sum(float((np.asarray(x) ** 2).sum()) for _, x in leaves))
    for (path, x), y in zip(leaves, jax.tree.leaves(ours), strict=True):
        distance = np.linalg.norm((np.asarray(y) - np.asarray(x)).ravel())
        assert distance <= 2e-5 * np.linalg.norm(np.ravel(x)) + 1e-6 * norm, (
            sharding.path_name(path))


def check_decoding(name: str) -> None:
    """Position by position as fairseq does it, and as the whole sequence at once."""
    golden = family_goldens.load(name)
    batch = kind(golden).batch(golden)
    found = family_goldens.decode_all(golden, batch["prev"])
    lprobs, real = expected(name)
    real = real[: len(found)]
    np.testing.assert_allclose(found[real], lprobs[: len(found)][real], atol=1e-5)
    if "step_lprobs" in golden.arrays:
        np.testing.assert_allclose(found[real], golden.arrays["step_lprobs"][real], atol=1e-5)


def check_mesh(name: str) -> None:
    """Parameters and rows spread over a mesh (2, 2, 2) give what one device gives."""
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    golden = family_goldens.load(name)
    params = golden.params
    with sharding.own_rules(models.family(golden.config.name).partition):
        spread = jax.device_put(params, sharding.shardings(params, mesh))
    batch = jax.device_put(batch_of(name), sharding.batch_sharding(mesh))
    there, here = teacher_forced(name)(spread, batch), whole(name)
    np.testing.assert_allclose(there.loss, here.loss, rtol=1e-5)
    check_gradients(there.gradient, here.gradient)


# ---- what chance and the compiler may change ----


def _keys(config: Any, metadata: Mapping[str, str]) -> list[str]:
    """Keys that are declared to be of this kind."""
    return [f.name for f in dataclasses.fields(config) if f.metadata == metadata]


def rates(config: Any) -> list[str]:
    """Keys that say how much is dropped in training."""
    hints = typing.get_type_hints(type(config))
    return [key for key in _keys(config, configs.TRAINING_ONLY)
            if hints[key] in (float, float | None)]


def noisy(golden: Golden, params: Any, **given: float) -> Callable[[Any, Batch], Any]:
    """(key, batch) -> log-probabilities, with these rates and no other. Rates that follow another
    one where they are None do so."""
    fields = {f.name: f.default for f in dataclasses.fields(golden.config)}
    quiet = {rate: None if given and fields[rate] is None else 0.0
             for rate in rates(golden.config)}
    golden = golden.changed(**{**quiet, **given})
    how = kind(golden)

    def run(key: Any, batch: Batch) -> Any:
        return jax.nn.log_softmax(how.forward(golden.model, params, batch, rng=key).logits())

    return jax.jit(run)


SWITCHES = {"adaptive_softmax_dropout": {
    "adaptive_softmax_cutoff": (8, 14), "adaptive_softmax_factor": 2.0}}
"""What a rate needs to mean anything, for families of which no case was recorded with it."""


def check_rate(cases: Sequence[str], rate: str) -> None:
    """A rate changes what one of a family's cases computes, with a key alone."""
    key = jax.random.key(3)

    def variants() -> Iterator[tuple[family_goldens.Golden, Any]]:
        for name in cases:
            yield (golden := family_goldens.load(name)), golden.params
        if rate in SWITCHES:
            switched = family_goldens.load(cases[0]).changed(**SWITCHES[rate])
            yield switched, switched.model.init(key)

    for golden, params in variants():
        batch = batch_of(golden.name)
        run, quiet = noisy(golden, params, **{rate: 0.8}), noisy(golden, params)
        if str(jax.make_jaxpr(run)(key, batch)) != str(jax.make_jaxpr(quiet)(key, batch)):
            break  # the first in which the rate is read at all
    else:
        raise AssertionError(f"{rate} is read in no case")
    real = kind(golden).real(batch)
    off = np.abs(run(key, batch) - quiet(None, batch))[real]
    assert off.max() > 1e-3, f"{rate} drops nothing"


def check_dropout(name: str) -> None:
    """All rates together: of the key alone, other for other keys and rows, none without a key
    and none at rate 0."""
    golden, batch = family_goldens.load(name), batch_of(name)
    names = rates(golden.config)
    make = functools.partial(noisy, golden, golden.params)
    run, key = make(**dict.fromkeys(names, 0.3)), jax.random.key(3)
    lprobs, real = (x[0] for x in expected(name))
    same = {k: v[np.array([0, 0, 0, 0])] for k, v in batch.items()}
    one, other = run(key, same), run(jax.random.key(4), same)
    assert np.abs(one - other)[:, real].max() > 1e-3
    assert np.abs(one[0] - one[1])[real].max() > 1e-3
    traced_anew = make(**dict.fromkeys(names, 0.3))
    np.testing.assert_array_equal(traced_anew(key, same), one)
    for without in (run(None, same), make()(key, same)):
        np.testing.assert_allclose(without[0][real], lprobs[real], atol=1e-5)


COMPILED = {"remat": ("full", "dots"), "scan_unroll": (1, 2), "time_unroll": (2, 3)}
"""Keys that say how a model is compiled, and two values beside the default."""


def check_runtime(name: str, which: int) -> None:
    """How it is compiled changes no number and no gradient."""
    golden = family_goldens.load(name)
    changes = {key: COMPILED[key][which] for key in _keys(golden.config, configs.RUNTIME)}
    other = golden.changed(**changes, **golden.teacher_forced)
    check_numbers(other, program(other)(golden.params, batch_of(name)))


def check_half_precision(name: str) -> None:
    """bfloat16 activations stay near, and logits are float32 all the same."""
    golden, batch = family_goldens.load(name), batch_of(name)
    how = kind(golden)
    half = dataclasses.replace(golden.model, compute_dtype=jnp.bfloat16)
    hidden, logits = jax.jit(lambda params: (
        (f := how.forward(half, params, batch)).hidden, f.logits()))(golden.params)
    assert hidden.dtype == jnp.bfloat16 and logits.dtype == jnp.float32
    lprobs, real = expected(name)
    off = np.abs(jax.nn.log_softmax(logits)[real] - lprobs[real])
    assert 0 < off.max() < 0.25 and off.mean() < 0.05
