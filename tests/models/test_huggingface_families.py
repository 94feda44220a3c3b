"""Models that transformers have too: its numbers and its hypotheses, of tiny models of each kind.

How a recorded case becomes a model is in `huggingface_goldens.py`.
"""

from __future__ import annotations

import dataclasses

import conformance
import family_goldens
import huggingface_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import models
from seqjax.config import ConfigError, GenerationConfig, MeshConfig
from seqjax.generation.decoder import Decoder
from seqjax.interop import weights
from seqjax.interop.fairseq import checkpoint
from seqjax.interop.fairseq.export import namespace
from seqjax.models.protocol import token_source
from seqjax.models.transformer.fairseq import OWN
from seqjax.training import sharding

CASES = goldens.names()
NEW_TOKENS = 14
"""As scripts/record_huggingface_families.py."""


def cases(names):
    return pytest.mark.parametrize("name", names)


def prev_of(case):
    return jnp.asarray(case.arrays["prev"], jnp.int32)


@cases(CASES)
def test_logits_are_those_of_transformers(name):
    case = goldens.load(name)
    found = jax.jit(lambda p: case.features(p, prev_of(case)).logits())(case.params)
    real = case.real("prev")
    np.testing.assert_allclose(found[real], case.arrays["logits"][real], atol=5e-5)


@cases(CASES)
def test_every_tensor_comes_back_bit_for_bit(name):
    case = goldens.load(name)
    kept = {k: v for k, v in case.state.items() if case.plan.ignored.fullmatch(k)}
    state = goldens.written(case, kept)
    assert state.keys() == case.state.keys()
    for key, value in case.state.items():
        np.testing.assert_array_equal(state[key], value, err_msg=key)
    fresh = goldens.written(case, {})  # as of a model that was trained here
    missing = case.state.keys() - fresh.keys()
    assert fresh.keys() <= case.state.keys()
    assert all("embed_positions" in key for key in missing), missing  # transformers makes them


@cases(CASES)
def test_its_configuration_comes_back(name):
    case = goldens.load(name)
    found = case.table.config_to(case.config)
    assert {k: v for k, v in found.items() if case.hf.get(k) not in (None, v)} == {}
    assert case.table.config_from(case.hf) == case.table.config_from({**case.hf, **found})


def hypotheses(case, *, beam):
    """Tokens of the best hypothesis of each row, and their scores, as `generate` was asked."""
    start, forced = case.search.get("start"), case.search.get("forced")
    lenpen = case.search["lenpen"]
    options = dict(beam=beam, lenpen=lenpen or 1.0, unnormalized=lenpen == 0.0)
    if "source" in case.arrays:
        sources = [row[m] for row, m in zip(
            case.arrays["source"], case.arrays["source"] != case.pad, strict=True)]
        prefixes = [[] if forced is None else [forced] for _ in sources]
        config = GenerationConfig(max_len_b=NEW_TOKENS - 1, **options)
        given = 0
    else:
        sources = [row[m] for row, m in zip(
            case.arrays["prompts"], case.real("prompts"), strict=True)]
        start, prefixes = int(sources[0][0]), [prompt[1:] for prompt in sources]
        config = GenerationConfig(max_len_a=1.0, max_len_b=NEW_TOKENS - 2, **options)
        given = 1
    found = Decoder(case.model, config, bos=start).decode(
        case.params, sources, prefixes=prefixes)
    tokens = [list(map(int, h[0].tokens)) for h in found]
    if given:
        tokens = [row[len(prompt):] for row, prompt in zip(tokens, prefixes, strict=True)]
    return tokens, found


@cases(CASES)
@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_hypotheses_are_those_of_transformers(name, search):
    case = goldens.load(name)
    tokens, found = hypotheses(case, beam=3 if search == "beam" else 1)
    wanted = [[int(t) for t in row if t >= 0] for row in case.arrays[search]]
    for row, other in zip(tokens, wanted, strict=True):
        if case.arrays["eos"] not in other:  # transformers stop in the middle, we end
            row[-1], other[-1] = None, None
    assert tokens == wanted
    if search == "beam" and case.search["lenpen"]:
        np.testing.assert_allclose(
            [h[0].score for h in found], case.arrays["beam_scores"], atol=1e-5)


def test_every_family_that_only_transformers_has_is_here():
    folders = (path.name for path in (goldens.FOLDER.parent / "huggingface_folders").iterdir())
    recorded = {name.partition("/")[0] for name in CASES} | set(folders)
    assert recorded >= {name for name, family in models.FAMILIES.items()
                        if family.huggingface and not family.archs}


# ---- the switches, under which the numbers are transformers', wherever they are computed ----

COVERING = ["marian/apart", "mbart/other_ids", "opt/no_bias", "opt/post_norm_projected",
            "gpt2/apart"]
"""These have every switch between them."""


def test_these_have_every_switch():
    found = {key: {getattr(goldens.load(name).config, key, usual) for name in COVERING}
             for key, usual in OWN.items()}
    assert all(values != {OWN[key]} for key, values in found.items())


@cases(COVERING)
def test_steps_give_what_whole_rows_give(name):
    case = goldens.load(name)
    prev, real = prev_of(case), case.real("prev")
    whole = jax.nn.log_softmax(case.features(case.params, prev).logits())
    np.testing.assert_allclose(
        family_goldens.decode_all(case, prev)[real], np.asarray(whole)[real],
        atol=1e-5, rtol=1e-5)


def packed(rows, pad):
    """All of them in one row, a place of padding behind them, and their numbers."""
    segments = np.concatenate([np.full(len(row), i + 1) for i, row in enumerate(rows)])
    return (jnp.asarray(np.pad(np.concatenate(rows), (0, 1), constant_values=pad)[None], jnp.int32),
            jnp.asarray(np.pad(segments, (0, 1))[None], jnp.int32))


@cases(COVERING)
def test_packed_rows_give_what_they_give_apart(name):
    case = goldens.load(name)
    rows = {k: [row[m] for row, m in zip(case.arrays[k], case.real(k), strict=True)]
            for k in ("source", "prev") if k in case.arrays}
    (prev, segments), encoded = packed(rows["prev"], case.pad), None
    if not case.is_lm:
        source, numbers = packed(rows["source"], case.pad)
        encoded = case.model.encode(
            case.params, token_source(source, pad=case.pad, segments=numbers))
    found = case.model.features(case.params, prev, encoded, segments=segments).logits()
    wanted = case.arrays["logits"][case.real("prev")]
    np.testing.assert_allclose(found[0, :-1], wanted, atol=5e-5, rtol=5e-5)


@cases(COVERING)
def test_a_mesh_changes_nothing(name):
    case = goldens.load(name)
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))

    arrays = {k: np.concatenate([v] * 4).astype(np.int32)  # rows that a mesh can split
              for k, v in case.arrays.items() if k in ("source", "prev")}

    @jax.jit
    def loss(params, arrays):
        both = dataclasses.replace(case, arrays=arrays)
        return (both.features(params, arrays["prev"]).logits() ** 2).mean()

    spread = jax.device_put(case.params, sharding.shardings(case.params, mesh))
    rows = jax.device_put(arrays, sharding.batch_sharding(mesh))
    there = jax.value_and_grad(loss)(spread, rows)
    here = jax.value_and_grad(loss)(case.params, arrays)
    np.testing.assert_allclose(there[0], here[0], rtol=1e-5)
    conformance.check_gradients(there[1], here[1])


def test_a_decoder_that_begins_with_padding_sees_it():
    """What follows depends on the symbol that padding's is, once it begins."""
    case = goldens.load("marian/shared")
    blind = dataclasses.replace(case, model=dataclasses.replace(
        case.model, config=dataclasses.replace(case.config, pad_begins=False)))
    found, other = (c.features(c.params, prev_of(c)).logits()[0] for c in (case, blind))
    assert np.abs(np.asarray(found - other))[1:6].max(axis=-1).min() > 1e-3


# ---- files ----


@pytest.mark.parametrize(("name", "changes", "said"), [
    ("gpt2/tied", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("gpt2/tied", {"scale_attn_weights": False}, "scale_attn_weights"),
    ("gpt2/tied", {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt2/tied", {"activation_function": "quick_gelu"}, "activation_function: 'quick_gelu'"),
    ("opt/pre_norm", {"layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine"),
    ("xglm/tied", {"add_cross_attention": True}, "add_cross_attention"),
    ("xglm/tied", {"pad_token_id": 4}, "pad_token_id: 4"),
    ("mbart/begins_with_language", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("m2m/language_forced", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("marian/shared", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("fsmt/apart", {"activation_function": "prelu"}, "activation_function: 'prelu'"),
    ("fsmt/apart", {"is_encoder_decoder": False}, "is_encoder_decoder"),
])
def test_what_cannot_be_honoured_is_refused_by_its_key(name, changes, said):
    case = goldens.load(name)
    with pytest.raises(ConfigError, match=said):
        case.table.config_from({**case.hf, **changes})


@pytest.mark.parametrize(("family", "changes"), [
    ("mbart", {"encoder_learned_pos": False}), ("mbart", {"encoder_normalize_before": False}),
    ("m2m", {"layer_norm_eps": 1e-6}), ("m2m", {"scale_attn": True}),
    ("marian", {"sinusoid_spacing": "inclusive"}), ("fsmt", {"decoder_learned_pos": True}),
    ("xglm", {"decoder_normalize_before": False}), ("opt", {"no_scale_embedding": False}),
    ("gpt2", {"linear_bias": False}), ("gpt2", {"adaptive_softmax_cutoff": (10, 20)}),
])
def test_a_model_that_transformers_cannot_say_is_refused(family, changes):
    (place,) = models.family(family).huggingface
    table = models.import_object(place, "table")
    config = models.CONFIGS[family]()
    if family == "mbart":  # as its recipes have it
        config = dataclasses.replace(
            config, encoder_normalize_before=True, decoder_normalize_before=True)
    table.config_to(config)
    with pytest.raises(ConfigError, match=next(iter(changes))):
        table.config_to(dataclasses.replace(config, **changes))


@cases(["mbart/begins_with_language", "m2m/language_forced", "marian/shared", "marian/target_tied",
        "fsmt/tied", "xglm/tied", "opt/pre_norm", "gpt2/tied"])
def test_names_that_older_files_have_are_read(name):
    """Tied tensors under each of their names, sinusoids, masks."""
    case = goldens.load(name)
    state = dict(case.state)
    for copy, owner in case.table.names.copies(case.config).items():
        state[copy] = state[owner]
    extra = {"gpt2": "transformer.h.0.attn.bias", "xglm": "model.embed_positions.weights",
             "marian": "model.encoder.embed_positions.weight"}
    if name.partition("/")[0] in extra:
        state[extra[name.partition("/")[0]]] = np.ones((3, 4), np.float32)
    found = goldens.of(name.partition("/")[0], case.hf, state)
    jax.tree.map(np.testing.assert_array_equal, found.params, case.params)


def test_a_tied_tensor_that_differs_is_named():
    case = goldens.load("gpt2/tied")
    with pytest.raises(weights.WeightsError, match=r"untied\s+lm_head.weight"):
        goldens.of("gpt2", case.hf, {
            **case.state, "lm_head.weight": case.state["transformer.wte.weight"] + 1})


FOR_FAIRSEQ = {"mbart/begins_with_language": "mbart", "m2m/language_forced": "transformer",
               "fsmt/apart": "transformer", "fsmt/tied": "transformer",
               "xglm/tied": "transformer_lm", "opt/pre_norm": "transformer_lm",
               "opt/post_norm_projected": "transformer_lm"}
"""Models that fairseq has too -> the family that they are read as when it gives them back."""


@cases(FOR_FAIRSEQ)
def test_fairseqs_files_say_the_same_model(name):
    case = goldens.load(name)
    config = dataclasses.replace(case.config, output_bias=False)
    params = jax.device_get(case.params)
    params["decoder"].pop("output_bias", None)
    sizes = {"source_vocab_size": case.model.source_vocab_size,
             "target_vocab_size": case.model.target_vocab_size}
    state = checkpoint.to_state(params, config, **sizes)
    found = checkpoint.from_tree({"args": namespace(config, {}), "model": state})
    assert found.config.name == FOR_FAIRSEQ[name]
    other = dataclasses.replace(case, model=models.build(
        found.config, **sizes, compute_dtype=jnp.float32))
    wanted = dataclasses.replace(case, model=dataclasses.replace(case.model, config=config))
    np.testing.assert_array_equal(
        other.features(found.params, prev_of(case)).logits(),
        wanted.features(params, prev_of(case)).logits())


def test_a_bias_of_logits_is_none_of_fairseqs():
    config = goldens.load("mbart/begins_with_language").config
    with pytest.raises(ConfigError, match="output_bias=True.*cannot be given to fairseq"):
        namespace(config, {})
