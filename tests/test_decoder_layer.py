"""The layer that both passes share, against the same written out in numpy; what it draws; and
that its switches stand nowhere else."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.models.parts import decoder_layer
from seqjax.models.parts.decoder_layer import LayerForm, layer

D, F = 6, 8
MODELS = pathlib.Path(decoder_layer.__file__).parent.parent


def weights(*, scales: bool) -> dict:
    rng = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    norms = [*LayerForm(pre_norm=True).norms, *(["attn_ln"] if scales else [])]
    w: dict = {name: {"scale": array(D), "bias": array(D)} for name in norms}
    w |= {"fc1": {"kernel": array(D, F), "bias": array(F)},
          "fc2": {"kernel": array(F, D), "bias": array(D)}}
    if scales:
        w |= {"c_attn": array(2), "w_resid": array(D),
              "ffn_layernorm": {"scale": array(F), "bias": array(F)}}
    return w


def normed(w: dict, x: np.ndarray) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w["scale"] + w["bias"]


def written_out(w: dict, x: np.ndarray, *, pre: bool, reads: bool, scales: bool) -> np.ndarray:
    first, second, last = (w[name] for name in LayerForm(pre_norm=pre).norms)
    y = mix(normed(first, x) if pre else x)
    if scales:
        y = normed(w["attn_ln"], y * np.repeat(w["c_attn"], D // 2))
    x = x + y if pre else normed(first, x + y)
    if reads:
        y = read(normed(second, x) if pre else x)[0]
        x = x + y if pre else normed(second, x + y)
    y = np.tanh((normed(last, x) if pre else x) @ w["fc1"]["kernel"] + w["fc1"]["bias"])
    y = normed(w["ffn_layernorm"], y) if scales else y
    x = (x * w["w_resid"] if scales else x) + y @ w["fc2"]["kernel"] + w["fc2"]["bias"]
    return x if pre else normed(last, x)


def mix(y):
    return 2 * y[..., ::-1]


def read(y):
    return y[..., ::-1] - 1, y.sum(-1)


@pytest.mark.parametrize(("pre", "reads", "scales"), [
    *itertools.product((True, False), repeat=3)])
def test_the_layer_is_what_it_says(pre, reads, scales):
    w, x = weights(scales=scales), np.random.default_rng(1).normal(size=(2, 3, D))
    x = x.astype(np.float32)
    found, probs = layer(
        w, jnp.asarray(x), form=LayerForm(pre_norm=pre, activation="tanh"), mix=mix,
        read=read if reads else None)
    wanted = written_out(w, x, pre=pre, reads=reads, scales=scales)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert (probs is None) == (not reads)


@pytest.mark.parametrize("changes", [
    {"activation": "gelu"}, {"dropout": 0.5}, {"activation_dropout": 0.5}, {"layerdrop": 0.999},
    {"norms": ("final_layer_norm", "encoder_attn_layer_norm", "self_attn_layer_norm")},
])
def test_every_switch_changes_the_result(changes):
    w, x = weights(scales=False), jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, D)))
    x = x.astype(jnp.float32)
    keys = itertools.count()

    def run(form: LayerForm) -> jax.Array:
        return layer(w, x, form=form, mix=mix, read=read,
                     key=lambda: jax.random.key(next(keys)))[0]

    plain = LayerForm(pre_norm=True)
    assert np.abs(run(dataclasses.replace(plain, **changes)) - run(plain)).max() > 1e-2
    if "layerdrop" in changes:
        np.testing.assert_array_equal(run(dataclasses.replace(plain, **changes)), x)


def test_without_a_key_nothing_is_dropped():
    w, x = weights(scales=False), jnp.ones((1, 2, D))
    wet = LayerForm(pre_norm=True, dropout=0.5, activation_dropout=0.5, layerdrop=0.5)
    np.testing.assert_array_equal(
        layer(w, x, form=wet, mix=mix)[0],
        layer(w, x, form=LayerForm(pre_norm=True), mix=mix)[0])


def test_the_layer_is_written_once():
    """Who decodes position by position names no norm, no feed-forward and no NormFormer."""
    for name in ("transformer", "lightconv"):
        text = (MODELS / name / "decoding.py").read_text(encoding="utf-8")
        assert "decoder_layer.layer(" in text
        assert not re.findall(r"normalize_before|layer_norm|fc1|fc2|activation|normformer", text)
