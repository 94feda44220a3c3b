"""What is peculiar to RoBERTa (its numbers are by scripts/record_encoders.py): its states, how it
begins, and what its files looked like in 2019; what every model does is in test_conformance.py."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import types
import warnings
from typing import Any

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resave import resave_fairseq

from seqjax import models
from seqjax.config import ConfigError
from seqjax.interop.fairseq import checkpoint as fairseq
from seqjax.interop.torch.files import read_pt
from seqjax.interop.weights import WeightsError
from seqjax.losses.configs import MaskedLMConfig
from seqjax.losses.masked_lm import masked_lm
from seqjax.models.protocol import MaskedLanguageModel, token_source
from seqjax.tasks.protocol import check_model, members
from seqjax.tasks.translation import TranslationConfig
from seqjax.training import objective

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "roberta"
CASES = sorted(path.stem for path in GOLDENS.glob("*.npz"))
PAD = 1


@dataclasses.dataclass(frozen=True)
class Golden:
    """One recorded case and our model of it."""

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    checkpoint: fairseq.FairseqCheckpoint
    model: Any

    @property
    def params(self) -> Any:
        return jax.tree.map(jnp.asarray, self.checkpoint.params)

    @property
    def batch(self) -> tuple[jax.Array, jax.Array]:
        """Masked sentences, and what was masked."""
        source, target = (jnp.asarray(self.arrays[k], jnp.int32) for k in ("source", "target"))
        return source, target

    @property
    def sizes(self) -> dict[str, int]:
        return {"source_vocab_size": self.checkpoint.source_vocab_size,
                "target_vocab_size": self.checkpoint.target_vocab_size}

    def features(self, params: Any, source: jax.Array, **options: Any) -> Any:
        return self.model.features(params, self.encode(params, source, **options))

    def encode(self, params: Any, source: jax.Array, segments: Any = None, **options: Any) -> Any:
        return self.model.encode(
            params, token_source(source, pad=PAD, segments=segments), **options)

    def loss(self, params: Any, source: jax.Array, target: jax.Array) -> Any:
        features = self.features(params, source)
        return masked_lm(
            features.hidden, features.projection, features.project, target,
            config=MaskedLMConfig(), pad=PAD, read=source != PAD)


def contents(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What was recorded: about, arrays, and the weights by name."""
    return family_goldens.recorded(GOLDENS / f"{name}.npz")


def read(about: dict[str, Any], state: dict[str, np.ndarray], **args: Any) -> Any:
    return fairseq.from_tree(
        {"args": {"arch": about["arch"], "task": "masked_lm", **about["args"], **args},
         "model": state})


@functools.cache
def load(name: str) -> Golden:
    about, arrays, state = contents(name)
    checkpoint = read(about, state)
    model = models.build(
        checkpoint.config, source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size, compute_dtype=jnp.float32)
    return Golden(about, arrays, state, checkpoint, model)


@pytest.fixture(params=CASES)
def golden(request):
    return load(request.param)


@pytest.fixture(params=["base", "prenorm_untied"])
def usual(request):
    """Those that between them have every parameter."""
    return load(request.param)


def test_states_and_what_the_loss_counts(golden):
    source, target = golden.batch
    states, out = jax.jit(lambda params: (
        golden.encode(params, source).out, golden.loss(params, source, target)))(golden.params)
    real = np.asarray(source) != PAD
    np.testing.assert_allclose(states[real], golden.arrays["features"][real], atol=1e-5)
    np.testing.assert_allclose(out.sum, golden.arrays["loss"], rtol=1e-5)
    assert out.weight == golden.arrays["sample_size"]
    assert out.metrics["ntokens"][0] == real.sum() and out.metrics["nsentences"][0] == 4


def test_a_written_file_has_the_names_in_fairseqs_order(golden, tmp_path):
    """Its optimizer counts parameters by it."""
    path = tmp_path / "model.pt"
    resave_fairseq(path, golden.checkpoint)
    written = read_pt(path)["model"]
    assert list(written) == list(golden.state)
    for name, value in golden.state.items():
        np.testing.assert_array_equal(written[name], value, err_msg=name)
        assert written[name].dtype == value.dtype


def test_padding_where_a_word_was_changes_no_state(usual):
    source, _ = usual.batch
    encode = jax.jit(lambda params, source: usual.encode(params, source).out)
    alone = encode(usual.params, source[1:2, :7])[0]
    there = encode(usual.params, jnp.insert(source[1:2, :7], jnp.asarray([3]), PAD, axis=1))[0]
    np.testing.assert_allclose(np.delete(np.asarray(there), 3, axis=0), alone, atol=1e-5)


def test_begins_as_bert_does():
    """N(0, 0.02) and zeros, norms one; an output layer of its own as torch begins it."""
    golden = load("prenorm_untied")
    params = jax.jit(golden.model.init)(jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(np.shape, golden.checkpoint.params)
    drawn = []
    for path, value in jax.tree_util.tree_leaves_with_path(params):
        name = path[-1].key
        if name in ("bias", "scale"):
            assert np.all(value == (name == "scale")), path
        elif name == "weight":
            assert 0.8 / 8**0.5 < np.abs(value).max() <= 1 / 8**0.5
        else:
            drawn.append(np.asarray(value).ravel())
            assert name != "embedding" or not np.any(value[PAD]), path
    drawn = np.concatenate(drawn)
    assert 0.019 < drawn[drawn != 0].std() < 0.021


def test_defaults_are_fairseqs():
    recorded = json.loads((GOLDENS / "archs.json").read_text(encoding="utf-8"))
    known = {f.name for f in dataclasses.fields(models.CONFIGS["roberta"])}
    for arch, values in recorded.items():
        family, given = models.ARCHS[arch]
        cfg = models.CONFIGS[family](arch=arch, **given)
        for key, value in values.items():
            if key in known:
                assert getattr(cfg, key) == value, (arch, key)
    assert recorded.keys() == models.FAMILIES["roberta"].archs.keys()
    assert {key for values in recorded.values() for key in values} - known == {
        "max_source_positions", "adaptive_input",
        "quant_noise_pq", "quant_noise_pq_block_size", "quant_noise_scalar",
        "spectral_norm_classification_head"}


def old_names(state):
    """As RoBERTa was saved in 2019."""
    result = {}
    for name, value in state.items():
        name = name.replace("layernorm_embedding", "emb_layer_norm")
        if name.startswith("encoder."):
            name = "decoder." + name.removeprefix("encoder.")
        if ".q_proj." in name:
            rest = [state[name.replace("decoder.", "encoder.", 1).replace("q_proj", f"{k}_proj")]
                    for k in "kv"]
            name = name.replace("q_proj.", "in_proj_")
            value = np.concatenate([value, *rest])
        if "_proj." not in name or "out_proj" in name:
            result[name] = value
    del result["decoder.sentence_encoder.version"]
    return result


def test_files_of_2019_are_read():
    about, _, state = contents("base")
    found = read(about, old_names(state))
    jax.tree.map(np.testing.assert_array_equal, found.params, load("base").checkpoint.params)


def test_a_prenorm_file_without_version_has_no_final_norm():
    """fairseq takes it for one from before such norms."""
    about, _, state = contents("prenorm_untied")
    found = read(about, {k: v for k, v in state.items() if not k.endswith(".version")})
    assert found.config.no_encoder_final_norm
    assert "layer_norm" not in found.params["encoder"]["sentence_encoder"]
    written = fairseq.to_state(found.params, found.config, source_vocab_size=18,
                               target_vocab_size=18)
    assert written["encoder.sentence_encoder.version"] == 1


def test_tokens_per_sample_is_the_length_where_there_is_no_other():
    about, _, state = contents("base")
    args = {k: v for k, v in about["args"].items() if k != "max_positions"}
    found = read({**about, "args": args}, state, tokens_per_sample=20)
    assert found.config.max_positions == 20


def test_layers_can_be_left_out():
    about, _, state = contents("base")
    found = read(about, state, encoder_layers_to_keep="1")
    assert found.config.encoder_layers == 1 and found.config.encoder_layers_to_keep is None
    whole = load("base").checkpoint.params["encoder"]
    kept = found.params["encoder"]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[1:]),
                 kept["sentence_encoder"]["layers"], whole["sentence_encoder"]["layers"])
    jax.tree.map(np.testing.assert_array_equal, kept["lm_head"], whole["lm_head"])
    with pytest.raises(ConfigError, match="encoder_layers_to_keep: 2: the model has 2 layers"):
        read(about, state, encoder_layers_to_keep="2")


def test_an_untied_copy_is_refused():
    about, _, state = contents("base")
    other = {**state, "encoder.lm_head.weight": state["encoder.lm_head.weight"] + 1}
    with pytest.raises(WeightsError, match=r"untied +encoder.lm_head.weight"):
        read(about, other)


def test_heads_begin_as_torch_begins_a_linear_layer():
    """Not as BERT does: fairseq registers them behind what begins so."""
    golden = load("base")
    config = dataclasses.replace(golden.checkpoint.config, classification_heads={"a": 3, "b": 3})
    model = dataclasses.replace(golden.model, config=config)
    params = jax.jit(model.init)(jax.random.key(0))
    alone = dataclasses.replace(model, config=dataclasses.replace(
        config, classification_heads={"b": 3})).init(jax.random.key(0))
    heads = params.pop("classification_heads")
    jax.tree.map(np.testing.assert_array_equal, heads["b"], alone["classification_heads"]["b"])
    jax.tree.map(np.testing.assert_array_equal, params,
                 jax.jit(golden.model.init)(jax.random.key(0)))
    for value in jax.tree.leaves(heads):
        assert 0.2 / 8**0.5 < np.abs(value).max() <= 1 / 8**0.5
    assert not np.array_equal(heads["a"]["dense"]["kernel"], heads["b"]["dense"]["kernel"])


@pytest.mark.parametrize("given, says", [
    (dict(classification_heads={"a b": 2}), "classification_heads: 'a b' cannot name a head"),
    (dict(classification_heads={"a.b": 2}), "leave out spaces, full stops"),
    (dict(classification_heads={"a": 0}), "classification_heads.a: 0; give 1 or more"),
    (dict(pooler_dropout=1.5), "config.model.pooler_dropout")])
def test_heads_that_cannot_be(given, says):
    with pytest.raises(ValueError, match=says):
        models.CONFIGS["roberta"](**given)


@pytest.mark.parametrize("key, value", [
    ("spectral_norm_classification_head", True), ("mha_heads_to_keep", 2),
    ("ffn_blocks_to_remove", 1)])
def test_what_is_not_here_is_refused_by_name(key, value):
    about, _, state = contents("base")
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        read(about, state, **{key: value})


@pytest.mark.parametrize("key, value", [
    ("quant_noise_pq", 0.1), ("quant_noise_scalar", 0.5), ("mha_reg_scale_factor", 0.1),
    ("ffn_reg_scale_factor", 0.1)])
def test_switches_of_training_are_said_to_be_left_out(key, value):
    about, _, state = contents("base")
    with pytest.warns(UserWarning, match=f"{key}={value!r}"):
        read(about, state, **{key: value})


def test_nothing_is_said_of_a_file_without_any_of_these():
    about, _, state = contents("base")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(about, state)


@pytest.mark.parametrize("given, says", [
    (dict(encoder_embed_dim=10, encoder_attention_heads=4), "encoder_attention_heads"),
    (dict(dropout=1.0), "config.model.dropout"),
    (dict(encoder_layers=3, encoder_layers_to_keep=(0, 2)), "encoder_layers_to_keep")])
def test_configurations_that_cannot_be(given, says):
    with pytest.raises(ValueError, match=says):
        models.CONFIGS["roberta"](**given)


def test_a_task_that_generates_has_no_use_for_it():
    with pytest.raises(ConfigError, match="'roberta' has no .*step.* the task 'translation'"):
        check_model(
            types.SimpleNamespace(
                model_protocol="seqjax.models.protocol:EncoderDecoder",
                config=types.SimpleNamespace(name="translation")), load("base").model)


def test_it_is_what_its_protocol_says():
    assert all(hasattr(load("base").model, name) for name in members(MaskedLanguageModel))


def test_the_loss_needs_a_task_that_masks():
    config = types.SimpleNamespace(
        model=load("base").checkpoint.config, task=TranslationConfig(), loss=MaskedLMConfig())
    with pytest.raises(ConfigError, match="masked_lm needs masks, which neither the model roberta"):
        objective.check(config)
