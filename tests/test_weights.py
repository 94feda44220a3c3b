"""The engine between state dicts and parameters: whose names they are, only the table says."""

from __future__ import annotations

import dataclasses
import types

import family_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import models
from seqjax.config import OptimizerConfig
from seqjax.interop.fairseq import checkpoint as fairseq_checkpoint
from seqjax.interop.fairseq import optimizer_state
from seqjax.interop.fairseq.export import namespace
from seqjax.interop.fairseq.optimizer_state import registered, write_state
from seqjax.interop.weights import WeightsError, plan, to_params, to_state
from seqjax.models.tables import SAME, Transform, WeightNames
from seqjax.models.transformer import fairseq
from seqjax.models.transformer.config import TransformerConfig

SIZE = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in
        {"embed_dim": 8, "ffn_embed_dim": 12, "layers": 2, "attention_heads": 2}.items()}
CONFIG = TransformerConfig(share_all_embeddings=True, **SIZE)

HEADS_FIRST = Transform(
    name="heads apart", ours=lambda w: w.reshape(-1, w.shape[-1]).T,
    theirs=lambda w: w.T.reshape(2, -1, w.shape[0]))
NAMES = WeightNames(
    vocabulary=lambda state: (state["model.shared.weight"].shape[0],) * 2,
    renames=(
        (r"^encoder\.embed_tokens\.", "shared."), (r"\.layers\.(\d+)\.", r".block.\1."),
        (r"encoder_attn\.", "cross."), (r"^", "model."),
    ),
    transforms=((r".*\.fc[12]\.weight", SAME), (r".*\.q_proj\.weight", HEADS_FIRST)),
    ignored=("final_logits_bias",),
    copies=lambda config: {"lm_head.weight": "model.shared.weight"},
    constants=lambda config: {"final_logits_bias": np.zeros((1, 20), np.float32)},
    order=("lm_head", "model"),
)
"""Names of the kind that another toolkit has: other places, other layouts, a head and a buffer."""


@pytest.fixture(scope="module")
def params():
    model = models.build(CONFIG, source_vocab_size=20, target_vocab_size=20,
                         compute_dtype=jnp.float32)
    return jax.tree.map(np.asarray, model.init(jax.random.key(0)))


def test_a_second_table_goes_both_ways_bit_for_bit(params):
    there = plan(jax.eval_shape(lambda: params), NAMES, config=CONFIG)
    state = to_state(params, there)
    layers = params["decoder"]["layers"]
    np.testing.assert_array_equal(state["model.decoder.block.1.fc1.weight"],
                                  layers["fc1"]["kernel"][1])
    np.testing.assert_array_equal(state["model.decoder.block.0.cross.k_proj.weight"],
                                  layers["encoder_attn"]["k_proj"]["kernel"][0].T)
    assert state["model.encoder.block.0.self_attn.q_proj.weight"].shape == (2, 4, 8)
    np.testing.assert_array_equal(
        state["model.encoder.block.0.self_attn.q_proj.weight"][1],
        params["encoder"]["layers"]["self_attn"]["q_proj"]["kernel"][0].T[4:])
    assert state["lm_head.weight"] is state["model.shared.weight"]
    assert "final_logits_bias" in state
    theirs = fairseq_checkpoint.to_state(
        params, CONFIG, source_vocab_size=20, target_vocab_size=20)
    assert not state.keys() & theirs.keys()
    again = to_params(state, there)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_what_does_not_fit_is_said_in_its_names(params):
    there = plan(params, NAMES, config=CONFIG)
    state = to_state(params, there)
    del state["model.decoder.block.0.fc1.bias"]
    state["model.pooler.weight"] = np.zeros((2, 2), np.float32)
    state["model.encoder.block.1.fc2.weight"] = state["model.encoder.block.1.fc2.weight"].T
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    with pytest.raises(WeightsError) as caught:
        to_params(state, there)
    text = str(caught.value)
    assert text.startswith("4 weights do not fit the transformer model")
    for line in ("missing    model.decoder.block.0.fc1.bias", "unexpected model.pooler.weight",
                 "misshapen  model.encoder.block.1.fc2.weight", "untied     lm_head.weight"):
        assert line in text


def test_a_model_without_vocabularies():
    """Parameters of any tree: nothing asks for words."""
    shapes = {"features": {"conv_0": {"kernel": jax.ShapeDtypeStruct((4, 3), jnp.float32)}},
              "mask": jax.ShapeDtypeStruct((3,), jnp.float32)}
    names = WeightNames(vocabulary=lambda state: (0, 0),
                        renames=((r"conv_(\d+)\.", r"conv.\1."),))
    there = plan(shapes, names, config=types.SimpleNamespace(name="waves"))
    params = {"features": {"conv_0": {"kernel": np.arange(12, dtype=np.float32).reshape(4, 3)}},
              "mask": np.ones(3, np.float32)}
    state = to_state(params, there)
    assert {n: v.shape for n, v in state.items()} == {
        "features.conv.0.weight": (3, 4), "mask": (3,)}
    jax.tree.map(np.testing.assert_array_equal, to_params(state, there), params)
    with pytest.raises(WeightsError, match="there is no features/conv_0/kernel"):
        to_state({"mask": params["mask"]}, there)


def test_the_engine_asks_for_no_family(params, monkeypatch):
    monkeypatch.setattr(models, "fairseq_table", None)
    monkeypatch.setattr(models, "family", None)
    monkeypatch.setattr(models, "build", None)
    there = plan(params, NAMES, config=CONFIG)
    assert to_params(to_state(params, there), there)


# ---- the order of modules ----


def test_an_unknown_part_is_named_with_its_table(params):
    table = models.fairseq_table("transformer").names
    with pytest.raises(WeightsError, match=r"decoder\.layers\.0\.gate\.weight: 'gate' has no "
                                           r"place .* some\.module:TABLE must name it in `order`"):
        registered(["decoder.layers.0.gate.weight"], table, title="some.module:TABLE")


def test_writing_moments_names_the_familys_table(params, monkeypatch):
    """A part that a family forgot in its order."""
    short = dataclasses.replace(fairseq.NAMES, order=tuple(
        part for part in fairseq.NAMES.order if part != "fc2"))
    monkeypatch.setattr(fairseq, "TABLE", dataclasses.replace(fairseq.TABLE, names=short))
    moments = {"count": np.int32(1), "exp_avg": params, "exp_avg_sq": params}
    with pytest.raises(WeightsError, match="'fc2' has no place .*seqjax.models.transformer.fairseq"
                                           ":TABLE must name it"):
        write_state(moments, CONFIG, optimizer=OptimizerConfig(name="adam"), lr=0.1,
                    source_vocab_size=20, target_vocab_size=20)


def test_a_familys_rule_for_numbered_parts():
    table = models.fairseq_table("lstm").names
    names = [f"encoder.lstm.{kind}_{into}_l{layer}{way}"
             for layer in (0, 1, 10) for way in ("", "_reverse")
             for kind in ("weight", "bias") for into in ("ih", "hh")]
    assert registered(sorted(names), table, title="x") == names


def test_the_configuration_is_read_once(monkeypatch):
    """Not anew for every moment."""
    golden = goldens.load("transformer_lm/adaptive")
    checkpoint, calls = golden.checkpoint, []  # read, which is not what is counted
    describe, build = optimizer_state.describe, models.build
    monkeypatch.setattr(optimizer_state, "describe",
                        lambda tree: calls.append("describe") or describe(tree))
    monkeypatch.setattr(models, "build", lambda *a, **k: calls.append("build") or build(*a, **k))
    moments = {slot: checkpoint.params for slot in ("exp_avg", "exp_avg_sq")}
    sizes = {"source_vocab_size": checkpoint.source_vocab_size,
             "target_vocab_size": checkpoint.target_vocab_size}
    saved = write_state({"count": 3, **moments}, checkpoint.config, lr=0.1,
                        optimizer=OptimizerConfig(name="adam"), **sizes)
    assert calls == ["build"]
    there = fairseq_checkpoint.plan_of(checkpoint.config, **sizes)
    calls.clear()
    state = optimizer_state.in_module_order(to_state(checkpoint.params, there), there)
    contents = {"args": namespace(checkpoint.config, {}),
                "model": state, "last_optimizer_state": saved}
    found = optimizer_state.read_state(contents, name="adam")
    assert calls == ["describe", "build"]
    jax.tree.map(np.testing.assert_array_equal, found["exp_avg_sq"], checkpoint.params)
