"""Keys of a model section that declare that they change no parameter: what they declare is so,
and what asks the declarations goes by them."""

from __future__ import annotations

import dataclasses
import typing

import family_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import checkpoints, models
from seqjax.config import ConfigError, to_plain
from seqjax.config.describing import keys
from seqjax.interop.fairseq.export import namespace
from seqjax.models.overrides import override
from seqjax.models.parts.configs import changes_parameters, kind
from seqjax.training.checkpoints import check_config

FAMILIES = sorted(models.FAMILIES)
KINDS = {"training only", "runtime", "limit", "origin"}
CASES = ("lstm/bidirectional", "lstm/lm_residual", "fconv/mixed", "fconv/lm_adaptive",
         "lightconv/dynamic", "lightconv/lm_adaptive", "transformer_lm/adaptive",
         "transformer_align/causal", "transformer/postnorm")


NEEDED = {"wav2vec2": dict(quantize_targets=True)}
"""Keys without which another key of a family may not be set."""
REFUSED = {"convtransformer": ("encoder_freezing_updates",),
           "s2t_conformer": ("encoder_layerdrop",)}
"""Keys that a family has and takes at their default alone."""
OF_HEADS = {"classification_labels": {"a": ("no", "yes")},
            "classification_problems": {"a": "single_label_classification"}}
"""Values of keys that are of a head with the name `a` and two classes."""


def config_of(name):
    cls = models.FAMILIES[name].config
    heads = {"classification_heads": {"a": 2}} if set(OF_HEADS) <= {
        field.name for field in dataclasses.fields(cls)} else {}
    return cls(**heads, **NEEDED.get(name, {}))


def idle(cls, *kinds):
    """Names of the keys of these kinds."""
    return [f.name for f in dataclasses.fields(cls) if kind(cls, f.name) in (kinds or KINDS)]


def other(config, key):
    """Another value of a key than it has."""
    value = getattr(config, key)
    if key in OF_HEADS:
        return OF_HEADS[key]
    if key == "arch":
        return [*models.ARCHS, *models.FAMILIES[config.name].archs][-1]
    if key.endswith("_layers_to_keep"):
        return tuple(range(getattr(config, key.removesuffix("_to_keep"))))
    choices = typing.get_args(typing.get_type_hints(type(config))[key])
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return next((choice for choice in choices if choice != value), "layer_norm")
    if isinstance(value, int):
        return value + 3
    if isinstance(value, tuple):
        return tuple(0.9 * x for x in value)
    return 0.37


def others(config, keys):
    return dataclasses.replace(config, **{key: other(config, key) for key in keys})


@pytest.mark.parametrize("name", FAMILIES)
def test_every_declaration_is_of_a_known_kind(name):
    cls = models.FAMILIES[name].config
    for field in dataclasses.fields(cls):
        assert field.metadata.get("kind") in {None, *KINDS}, field.name
        table = field.metadata.get("table")
        assert table is None or table in {f.name for f in dataclasses.fields(cls)}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_always_of_a_kind_is_declared(name):
    """That no family forgets one: these are what the keys of these names mean everywhere."""
    cls = models.FAMILIES[name].config
    for field in dataclasses.fields(cls):
        wanted = None
        if "drop" in field.name or "freeze" in field.name:
            wanted = "training only"
        elif field.name in ("remat", "scan_unroll", "time_unroll"):
            wanted = "runtime"
        elif field.name == "arch" or field.name.endswith("_layers_to_keep"):
            wanted = "origin"
        if wanted is not None:
            assert kind(cls, field.name) == wanted, field.name


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_do_not_depend_on_them(name):
    config = config_of(name)

    def shapes(config):
        model = models.build(config, source_vocab_size=30, target_vocab_size=30,
                             compute_dtype=jnp.float32)
        return jax.tree.map(lambda x: x.shape, jax.eval_shape(model.init, jax.random.key(0)))

    def refused(key):
        try:
            shapes(others(config, [key]))
        except ValueError as error:
            assert f"config.model.{key}: " in str(error)
            return True
        return False

    declared = [key for key in idle(type(config)) if key not in REFUSED.get(name, ())
                and not changes_parameters(type(config), key, to_plain(config))]
    assert all(refused(key) for key in REFUSED.get(name, ()))
    assert len(declared) >= 3
    changed = others(config, declared)
    assert all(getattr(changed, key) != getattr(config, key) for key in declared)
    assert shapes(changed) == shapes(config)


@pytest.mark.parametrize(("name", "key", "table"), [
    ("transformer", "max_source_positions", "encoder_learned_pos"),
    ("transformer", "max_target_positions", "decoder_learned_pos"),
    ("transformer_lm", "max_target_positions", "decoder_learned_pos"),
    ("lightconv", "max_source_positions", "encoder_learned_pos"),
    ("fconv", "max_source_positions", None), ("fconv", "max_target_positions", None),
])
def test_a_limit_with_a_table_of_weights_changes_parameters(name, key, table):
    cls = models.FAMILIES[name].config
    plain = to_plain(cls()) | ({table: True} if table else {})
    assert changes_parameters(cls, key, plain)
    with pytest.raises(checkpoints.CheckpointError, match=f"model.{key}"):
        check_config({"model": plain}, {"model": plain | {key: 7}}, "x")
    if table is not None:
        plain[table] = False
        assert check_config({"model": plain}, {"model": plain | {key: 7}}, "x")


@pytest.mark.parametrize("case", CASES)
def test_a_trained_model_does_not_depend_on_them(case):
    """On keys of training not at all, on how it is computed not beyond rounding."""
    golden = goldens.load(case)
    config = golden.checkpoint.config

    def output(config):
        model = models.build(
            config, source_vocab_size=golden.checkpoint.source_vocab_size,
            target_vocab_size=golden.checkpoint.target_vocab_size, compute_dtype=jnp.float32)
        source, prev, _ = golden.batch()
        changed = dataclasses.replace(golden, model=model)
        return np.asarray(jax.jit(changed.features)(golden.params, source, prev).logits())

    training, runtime = (idle(type(config), k) for k in ("training only", "runtime"))
    assert "dropout" in training and runtime
    plain = output(config)
    np.testing.assert_array_equal(output(others(config, training)), plain)
    np.testing.assert_allclose(output(others(config, runtime)), plain, atol=1e-5)


# ---- what asks ----


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_goes_on_under_others_of_them_and_of_no_other_key(name):
    plain = to_plain(config_of(name))
    cls = models.FAMILIES[name].config
    for key in plain:
        there = {"model": {**plain, key: "elsewhere"}}
        if changes_parameters(cls, key, plain):
            with pytest.raises(checkpoints.CheckpointError, match=f"model.{key}: 'elsewhere'"):
                check_config(there, {"model": plain}, "x")
        else:
            (line,) = check_config(there, {"model": plain}, "x")
            assert line.startswith(f"model.{key}: 'elsewhere' there")
    assert changes_parameters(cls, "name", plain) and changes_parameters(cls, "gone", plain)


@pytest.mark.parametrize("name", FAMILIES)
def test_overrides_of_a_trained_model(name):
    config = config_of(name)
    for key in idle(type(config), "training only"):
        with pytest.raises(ConfigError, match=f"{key} only matters in training"):
            override(config, {key: other(config, key)})
    for key in idle(type(config), "runtime"):
        with pytest.raises(ConfigError, match=f"{key} changes no number"):
            override(config, {key: other(config, key)})
    for key in idle(type(config), "limit"):
        assert getattr(override(config, {key: 77})[0], key) == 77


@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_for_fairseq_has_only_keys_of_fairseqs(name):
    """Neither how it is computed here, nor layers that have been left out."""
    if models.FAMILIES[name].fairseq is None:
        pytest.skip("no files of fairseq's")
    config = config_of(name)
    said = set(namespace(config, {}))
    assert "dropout" in said
    unsaid = {*idle(type(config), "runtime", "origin"), *models.fairseq_table(name).unsaid}
    assert said & unsaid <= {"arch"}
    assert not said & {"remat", "scan_unroll", "time_unroll", "short_batch_softmax",
                       "no_encoder_final_norm", "name"}


def test_help_says_it():
    shown = {str(key).split("\n")[0].strip() for key in keys({"model": models.CONFIGS})}
    assert "model.dropout = 0.1  (training only)" in shown
    assert "model.remat = 'none'  (runtime)" in shown
    assert "model.encoder_embed_dim = 512" in shown
