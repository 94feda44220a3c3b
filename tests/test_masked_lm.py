"""The masked_lm loss against its definition, whatever share of the tokens is masked."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.losses.configs import MaskedLMConfig
from seqjax.losses.masked_lm import masked_lm
from seqjax.models.parts.outputs import project_tied

PAD, V, D = 1, 11, 8
RNG = np.random.default_rng(0)
HIDDEN = jnp.asarray(RNG.normal(size=(4, 17, D)), jnp.float32)
LAYER = {"table": jnp.asarray(RNG.normal(size=(V, D)), jnp.float32),
         "bias": jnp.asarray(RNG.normal(size=V), jnp.float32)}
READ = jnp.arange(17)[None] < jnp.asarray([17, 17, 9, 0])[:, None]


def targets(*counts):
    """As many masked tokens in each row, anywhere among those that are read."""
    result = np.full((4, 17), PAD)
    for row, count in enumerate(counts):
        places = RNG.permutation(int(READ[row].sum()))[:count]
        result[row, places] = RNG.integers(4, V, count)
    return jnp.asarray(result)


def loss(hidden, layer, target, budget=2**26):
    return masked_lm(hidden, layer, project_tied, target, config=MaskedLMConfig(
        logits_budget=budget), pad=PAD, read=READ)


def definition(hidden, layer, target):
    """Every token projected, those that were not masked left out of the sum."""
    lprobs = jax.nn.log_softmax(project_tied(layer, hidden))
    picked = jnp.take_along_axis(lprobs, target[..., None], axis=-1)[..., 0]
    return -jnp.where(target != PAD, picked, 0.0).sum()


@functools.partial(jax.jit, static_argnums=3)
def found(hidden, layer, target, budget):
    """The loss with its gradient."""
    def summed(hidden, layer):
        out = loss(hidden, layer, target, budget)
        return out.sum, out
    return jax.grad(summed, (0, 1), has_aux=True)(hidden, layer)


wanted = jax.jit(jax.value_and_grad(definition, (0, 1)))


@pytest.mark.parametrize("budget", [2**26, 40])
@pytest.mark.parametrize("counts", [
    (0, 0, 0, 0), (3, 1, 0, 0), (3, 3, 3, 0), (4, 0, 2, 0), (5, 5, 5, 0), (6, 9, 1, 0),
    (10, 0, 0, 0), (17, 17, 9, 0)])
def test_equals_its_definition_and_gradient_for_any_share(counts, budget):
    """The fullest row decides how many columns are projected: each number of them is used."""
    target = targets(*counts)
    gradient, out = found(HIDDEN, LAYER, target, budget)
    value, theirs = wanted(HIDDEN, LAYER, target)
    np.testing.assert_allclose(out.sum, value, rtol=1e-5)
    assert out.weight == sum(counts)
    assert out.metrics["loss"] == (out.sum, out.weight)
    assert out.metrics["ntokens"] == (43, 1) and out.metrics["nsentences"] == (3, 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, theirs)


@pytest.mark.parametrize("counts, columns", [((3, 0, 0, 0), 3), ((4, 1, 0, 0), 5),
                                             ((9, 0, 0, 0), 9), ((10, 0, 0, 0), 17)])
def test_only_the_columns_that_are_needed_are_projected(counts, columns):
    """An eighth, a quarter, a half or all of a row of 17, each rounded up."""
    projected = []

    def watched(layer, hidden):
        jax.debug.callback(lambda _: projected.append(hidden.shape), hidden.sum())
        return project_tied(layer, hidden)

    out = masked_lm(HIDDEN, LAYER, watched, targets(*counts), config=MaskedLMConfig(), pad=PAD,
                    read=READ)
    jax.block_until_ready(out)
    jax.effects_barrier()
    assert projected == [(4 * columns, D)]
