"""wav2vec 2.0 against what fairseq computes, and by itself; what every model's weights must be is
in test_conformance.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import wav2vec2_goldens as goldens
from wav2vec2_goldens import CASES

from seqjax import models
from seqjax.config import MeshConfig, OptimizerConfig, ScheduleConfig
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.losses.wav2vec_config import WAV2VEC, Wav2VecConfig
from seqjax.models.parts import audio, masking
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_config import conv_layers, frame_count, receptive_field
from seqjax.models.protocol import Encoder, MaskedLanguageModel, Source
from seqjax.models.wav2vec2 import archs
from seqjax.models.wav2vec2.config import Wav2Vec2Config
from seqjax.training import sharding
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.state import new_state
from seqjax.training.train_step import make_train_step


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    return goldens.load(request.param)


def test_states_and_their_mask_are_fairseqs(golden):
    encoded = jax.jit(golden.model.encode)(golden.params, golden.source)
    np.testing.assert_array_equal(encoded.mask, golden.arrays["real"])
    np.testing.assert_allclose(encoded.out, golden.arrays["features"], atol=1e-5)


def test_scores_of_candidates_are_fairseqs(golden):
    found = jax.jit(golden.model.pretrain)(golden.params, golden.source, golden.drawn)
    logits, theirs = found["logits"].transpose(2, 0, 1), golden.arrays["logits"]
    assert found["masked"].all()
    np.testing.assert_array_equal(np.isinf(logits), np.isinf(theirs))
    finite = np.isfinite(theirs)
    np.testing.assert_allclose(logits[finite], theirs[finite], atol=2e-5)


def test_the_loss_its_terms_and_gradients_are_fairseqs(golden):
    goldens.check_pass(golden, "eval")


@pytest.mark.parametrize("name", [case for case in CASES if case != "continuous"])
def test_training_with_given_noise_is_fairseqs(name, monkeypatch):
    """Straight through the hard choice, at the temperature of the update."""
    golden = goldens.load(name)
    flat, shapes, calls = golden.arrays["noise"], golden.about["noise"], []

    def recorded(key, shape):
        at = sum(int(np.prod(s)) for s in shapes[: len(calls)])
        calls.append(shape)
        size = int(np.prod(shapes[len(calls) - 1]))
        return jnp.asarray(flat[at : at + size]).reshape(shape)

    monkeypatch.setattr(jax.random, "gumbel", recorded)
    goldens.check_pass(golden, "train", rng=jax.random.key(0), update=golden.about["update"])
    assert len(calls) == len(shapes) > 0


def test_fresh_parameters_are_fairseqs(golden):
    fresh = jax.jit(golden.model.init)(jax.random.key(0))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(np.shape, golden.checkpoint.params)
    layers = fresh["encoder"]["layers"]
    for module in (layers["fc1"], layers["self_attn"]["q_proj"]):
        assert 0.8 < np.std(module["kernel"]) / 0.02 < 1.2 and not np.any(module["bias"])
    first = fresh["feature_extractor"]["conv_layers_0_0"]["kernel"]
    assert 0.7 < np.std(first) / (2 / 10) ** 0.5 < 1.3
    if golden.model.config.pos_conv_depth == 1:
        conv, dim = fresh["encoder"]["pos_conv"], golden.model.config.encoder_embed_dim
        width = conv["weight_g"].shape[0]
        assert 0.8 < np.std(conv["weight_v"]) / (4 / (width * dim)) ** 0.5 < 1.2
        norms = np.linalg.norm(conv["weight_v"].reshape(width, -1), axis=1)
        np.testing.assert_allclose(conv["weight_g"][:, 0, 0], norms, rtol=1e-6)


def test_a_row_alone_is_a_row_of_a_padded_batch():
    # Where a batch's last frames are cropped, what is left of a row depends on the batch.
    golden = goldens.with_config(goldens.load("layer_norm"), crop_seq_to_multiple=1)
    together = jax.jit(golden.model.encode)(golden.params, golden.source)
    lengths = golden.arrays["lengths"]
    counted = golden.model.real_frames(lengths, samples=int(lengths.max()))
    assert together.mask.sum(1).tolist() == counted.tolist() and len(set(counted)) == 2
    for row, length in enumerate(lengths):
        alone = golden.model.encode(golden.params, Source(
            values=golden.source.values[row : row + 1, :length],
            mask=jnp.ones((1, length), bool)))
        frames = counted[row]
        assert alone.out.shape[1] == frames == golden.model.frames(int(length))
        np.testing.assert_allclose(together.out[row, :frames], alone.out[0], atol=1e-5)


def test_group_norm_sees_padding_up_to_the_longest_row():
    """As fairseq's, which pads no further; alone, none of it."""
    golden = goldens.load("group_norm")
    source, frames = golden.source, golden.model.frames(413)
    mask = source.mask.at[0, 300:].set(False)
    shorter = Source(values=jnp.where(mask, source.values, 0), mask=mask)
    wide = Source(*(jnp.pad(a, ((0, 0), (0, 100))) for a in (shorter.values, mask)))
    run = jax.jit(golden.model.encode)
    there, short = run(golden.params, shorter), golden.model.frames(300)
    padded, apart = (
        run(golden.params, dataclasses.replace(wide, isolated=x)) for x in (False, True))
    assert padded.mask.sum(1).tolist() == there.mask.sum(1).tolist() == [short, frames, frames]
    np.testing.assert_allclose(padded.out[:, :frames], there.out, atol=1e-5)
    one = run(golden.params, Source(
        values=source.values[:1, :300], mask=jnp.ones((1, 300), bool)))
    assert np.abs(there.out[0, :short] - one.out[0]).max() > 1e-2
    np.testing.assert_allclose(apart.out[0, :short], one.out[0], atol=1e-5)
    np.testing.assert_allclose(apart.out[1:, :frames], golden.arrays["features"][1:], atol=1e-5)


@pytest.mark.parametrize("name", ["layer_norm", "two_quantizers"])
def test_rows_without_a_frame_change_nothing(name):
    """Rows that are too short for one, or all padding, in which fairseq attends to every frame."""
    golden = goldens.load(name)
    source, drawn = golden.source, golden.drawn

    def longer(a: jax.Array) -> jax.Array:
        return jnp.concatenate([a, jnp.zeros_like(a[:1])])

    field = receptive_field(golden.model.config.conv_layers)
    short = jnp.arange(source.mask.shape[1]) < field - 1
    empty = Source(values=longer(source.values), mask=longer(source.mask))
    for mask in (empty.mask, empty.mask.at[3].set(short)):
        encoded = golden.model.encode(golden.params, Source(values=empty.values, mask=mask))
        assert encoded.mask.sum(1).tolist()[3] == 0 and np.isfinite(encoded.out).all()
        np.testing.assert_allclose(encoded.out[:3], golden.arrays["features"], atol=1e-5)
    drawn = jax.tree.map(longer, drawn)
    if golden.model.config.negatives_from_everywhere:
        drawn = dataclasses.replace(drawn, negatives=drawn.negatives % (3 * drawn.mask.shape[1]))

    def loss(params):
        found = golden.loss(params, empty, drawn)
        return found.sum, found

    (value, found), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(golden.params)
    np.testing.assert_allclose(value, golden.about["eval"]["loss"], rtol=1e-5)
    assert found.weight == golden.about["eval"]["log"]["sample_size"]
    assert found.metrics["nsentences"][0] == 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_a_row_with_fewer_masked_frames_counts_by_those():
    golden = goldens.load("group_norm")
    drawn, last = golden.drawn, int(np.flatnonzero(golden.arrays["mask"][1])[-1])
    fewer = dataclasses.replace(drawn, mask=drawn.mask.at[1, last].set(False))
    found = golden.model.pretrain(golden.params, golden.source, fewer)
    count = int(drawn.mask[0].sum())
    assert found["masked"].sum(1).tolist() == [count, count - 1, count]
    loss = golden.loss(golden.params, golden.source, fewer)
    assert loss.weight == 3 * count - 1 and loss.metrics["accuracy"][1] == loss.weight


@pytest.mark.parametrize("key", [
    "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "dropout_input"])
def test_every_dropout_changes_the_states_by_its_key_alone(key):
    golden = goldens.with_config(goldens.load("layer_norm"), **{key: 0.4})
    run = jax.jit(lambda rng: golden.model.encode(golden.params, golden.source, rng=rng).out)
    first = run(jax.random.key(3))
    np.testing.assert_array_equal(first, run(jax.random.key(3)))
    others = [run(jax.random.key(n)) for n in range(4, 8)]
    assert any(np.abs(other - run(None)).max() > 1e-3 for other in others)
    assert any(np.abs(other - first).max() > 1e-3 for other in others)


def test_without_dropout_training_has_no_noise_but_the_codebooks():
    golden = goldens.load("layer_norm")
    states = golden.model.encode(golden.params, golden.source, rng=jax.random.key(0)).out
    np.testing.assert_allclose(states, golden.arrays["features"], atol=1e-5)
    run = jax.jit(lambda config_rng: golden.model.pretrain(
        golden.params, golden.source, golden.drawn, rng=config_rng)["logits"])
    assert np.abs(np.nan_to_num(run(jax.random.key(0)) - run(None), posinf=0, neginf=0)
                  ).max() > 1e-3


def test_dropout_of_targets_leaves_the_states():
    golden = goldens.with_config(goldens.load("continuous"), dropout_features=0.4)
    rng = jax.random.key(1)
    np.testing.assert_allclose(
        golden.model.encode(golden.params, golden.source, rng=rng).out,
        golden.arrays["features"], atol=1e-5)
    logits = golden.model.pretrain(golden.params, golden.source, golden.drawn, rng=rng)["logits"]
    theirs = golden.arrays["logits"].transpose(1, 2, 0)
    assert np.abs((logits - theirs)[np.isfinite(theirs)]).max() > 1e-2


def test_the_temperature_follows_the_updates(golden):
    if not golden.model.config.quantize_targets:
        pytest.skip("it has no codebook")
    for update, wanted in zip(golden.arrays["updates"], golden.arrays["temps"], strict=True):
        found = audio.temperature(golden.model.config.latent_temp, int(update))
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    found = jax.jit(golden.model.pretrain)(
        golden.params, golden.source, golden.drawn, update=jnp.int32(golden.about["update"]))
    np.testing.assert_allclose(found["temp"], golden.about["train"]["log"]["temp"], rtol=1e-6)


@pytest.mark.parametrize("name", ["group_norm", "layer_norm", "quantized_input"])
def test_a_mesh_of_eight_devices_gives_the_same(name):
    golden = goldens.load(name)
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    rows = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))

    def wider(a):
        return jnp.concatenate([a, jnp.zeros_like(a[:1])])

    source, drawn = jax.tree.map(wider, (golden.source, golden.drawn))
    run = jax.jit(jax.value_and_grad(lambda *args: golden.loss(*args).sum))
    value, gradient = run(golden.params, source, drawn)
    with sharding.own_rules(models.family("wav2vec2").partition):
        spread = jax.device_put(golden.params, sharding.shardings(golden.params, mesh))
    there = run(spread, *jax.device_put((source, drawn), rows))
    np.testing.assert_allclose(there[0], value, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-4), there[1], gradient)


def test_training_on_a_mesh_learns_and_cools_down():
    golden = goldens.with_config(goldens.load("two_quantizers"), latent_temp=(2.0, 0.5, 0.9))
    lengths, samples = np.array([420, 377, 401, 390]), 420
    drawn = golden.model.draw(lengths, np.random.default_rng(0), samples=samples)
    arrays = {
        "samples": np.random.default_rng(1).normal(size=(4, samples)).astype(np.float32),
        "real": np.arange(samples) < lengths[:, None],
        "mask": drawn.mask, "negatives": drawn.negatives}

    def loss_fn(params, extra, batch, rng, update):
        source = Source(values=batch["samples"], mask=batch["real"])
        given = Drawn(mask=batch["mask"], negatives=batch["negatives"])
        return golden.loss(params, source, given, rng=rng, update=update), extra

    optimizer = make_optimizer(OptimizerConfig())
    schedule = make_schedule(ScheduleConfig(name="fixed", warmup_updates=0), lr=(3e-3,))
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with sharding.own_rules(models.family("wav2vec2").partition):
        state = new_state(golden.params, optimizer)
        state = jax.device_put(state, sharding.shardings(state, mesh))
        step = jax.jit(make_train_step(loss_fn, optimizer, schedule, seed=1))
        batch = jax.device_put(
            {k: v[None] for k, v in arrays.items()}, sharding.batch_sharding(mesh, rows_axis=1))
        found = []
        for _ in range(20):
            state, metrics = step(state, batch, 0)
            found.append(jax.device_get(metrics))
    np.testing.assert_allclose(
        [m["temp"][0] for m in found], [max(2 * 0.9**n, 0.5) for n in range(20)], rtol=1e-6)
    losses = [m["loss_0"][0] / m["loss_0"][1] for m in found]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.parametrize("changes", [
    dict(scan_unroll=1), dict(remat="full"), dict(required_seq_len_multiple=8)])
def test_how_it_is_compiled_changes_no_gradient(changes):
    goldens.check_pass(goldens.with_config(goldens.load("layer_norm"), **changes), "eval")


def test_bfloat16_stays_near():
    golden = goldens.load("layer_norm")
    model = dataclasses.replace(golden.model, compute_dtype=jnp.bfloat16)
    found = model.pretrain(golden.params, golden.source, golden.drawn)
    assert found["logits"].dtype == jnp.float32
    states = model.encode(golden.params, golden.source).out.astype(jnp.float32)
    assert np.abs(states - golden.arrays["features"]).mean() < 0.03


# ---- names and keys ----


def test_newer_names_of_weight_norm_are_read():
    golden = goldens.load("layer_norm")
    state = {
        name.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"): value
        for name, value in golden.state.items()}
    assert state.keys() != golden.state.keys()
    read = fairseq_weights.from_tree({"cfg": {"model": golden.about["model"]}, "model": state})
    jax.tree.map(np.testing.assert_array_equal, read.params, golden.checkpoint.params)


@pytest.mark.parametrize("changes, message", [
    (dict(layer_type="conformer"), "layer_type='conformer'"),
    (dict(layer_type="trf_adp"), "adp_num"),
    (dict(layer_type="trf_adp", adp_num=1, adp_trf_idx="0:1"), "adp_trf_idx='0:1'"),
    (dict(conv_pos_batch_norm=True), "conv_pos_batch_norm=True"),
    (dict(latent_temp="(2, x)"), "latent_temp"),
    (dict(conv_feature_layers="[(8, 10)]"), "conv_feature_layers"),
])
def test_checkpoints_of_what_is_not_here_are_refused_by_key(changes, message):
    golden = goldens.load("layer_norm")
    tree = {"cfg": {"model": golden.about["model"] | changes}, "model": golden.state}
    with pytest.raises(ValueError, match=message):
        fairseq_weights.from_tree(tree)


@pytest.mark.parametrize("values, layers, final", [(archs.BASE, 12, 256), (archs.LARGE, 24, 768)])
def test_published_sizes(values, layers, final):
    config = Wav2Vec2Config(**values)
    assert (config.encoder_layers, config.final_dim) == (layers, final)
    assert config.layer_norm_first == (config.extractor_mode == "layer_norm") == (layers == 24)


def test_temperatures_given_as_text_are_read():
    golden = goldens.load("layer_norm")
    model = golden.about["model"] | {"latent_temp": "(2.0, 0.5, 0.999995)"}
    read = fairseq_weights.from_tree({"cfg": {"model": model}, "model": golden.state})
    assert read.config == golden.checkpoint.config
    assert read.config.latent_temp == (2.0, 0.5, 0.999995)


@pytest.mark.parametrize("changes, message", [
    (dict(encoder_embed_dim=10, encoder_attention_heads=3), "encoder_attention_heads"),
    (dict(conv_pos_groups=5), "conv_pos_groups"),
    (dict(mask_prob=1.5), "mask_prob"),
    (dict(quantize_targets=True, latent_dim=7), "latent_groups"),
    (dict(latent_temp=(2.0, 0.5, 1.1)), "latent_temp"),
    (dict(codebook_negatives=3), "quantize_targets"),
    (dict(quantize_targets=True, codebook_negatives=4, latent_vars=2), "codebook_negatives"),
    (dict(quantize_targets=True, quantize_input=True, same_quantizer=True, latent_dim=8),
     "same_quantizer"),
    (dict(logit_temp=0.0), "logit_temp"),
    (dict(feature_grad_mult=-1.0), "feature_grad_mult"),
    (dict(num_negatives=-1), "num_negatives"),
    (dict(dropout_input=1.0), "dropout_input"),
    (dict(conv_feature_layers="[(8, 10, 0)]"), "conv_feature_layers"),
])
def test_configurations_that_cannot_be_are_refused_by_key(changes, message):
    with pytest.raises(ValueError, match=message):
        Wav2Vec2Config(**changes)


@pytest.mark.parametrize("text", [
    "7", "[(1, 2)]", "[(1, 2, 3)] + 2", "import os", "[]", "[(1, 2, 3)] * 10**9",
    "__import__('os').getpid()"])
def test_convolutions_are_read_without_being_run(text):
    with pytest.raises(ValueError, match="no list of"):
        conv_layers(text)


def test_frames_of_samples_are_fairseqs():
    layers = Wav2Vec2Config().conv_layers
    assert receptive_field(layers) == 400
    assert [frame_count(n, layers) for n in (0, 1, 399, 400, 719, 720, 16000)] == [
        0, 0, 0, 1, 1, 2, 49]
    np.testing.assert_array_equal(frame_count(np.array([350, 16000, 9100]), layers), [0, 49, 28])


def test_what_does_not_fit_is_refused_before_it_is_computed():
    golden = goldens.load("group_norm")
    model, params, source, drawn = golden.model, golden.params, golden.source, golden.drawn

    def refused(message, *, source=source, model=model, **changes):
        with pytest.raises(ValueError, match=message):
            model.pretrain(params, source, dataclasses.replace(drawn, **changes))

    refused("has no frame", source=Source(values=source.values[:, :20], mask=source.mask[:, :20]))
    refused("mask", mask=drawn.mask[:, :-1])
    refused("channels", channels=drawn.mask)
    refused("masked frames and their negatives", negatives=None)
    refused("are not 6 for each", negatives=drawn.negatives[:, :-1])
    few = goldens.with_config(golden, num_negatives=0, cross_sample_negatives=0)
    refused("num_negatives", model=few.model)
    short = goldens.with_config(golden, max_positions=18)
    refused("max_positions", model=short.model)


# ---- what is drawn ----


def test_what_is_drawn_is_what_the_keys_say():
    golden = goldens.load("layer_norm")
    lengths, samples = np.array([413, 333, 0, 401]), 413
    model: Any = golden.model
    frames = model.real_frames(lengths, samples=samples)
    drawn = model.draw(lengths, np.random.default_rng(0), samples=samples)
    counts = drawn.mask.sum(1)
    assert counts[2] == 0 and len(set(counts[[0, 1, 3]])) == 1 and counts[0] > 1
    for row, size in enumerate(frames):
        assert not drawn.mask[row, size:].any() and drawn.mask[row, :size].sum() < max(size, 1)
    count = counts[0]
    numbers = drawn.negatives.reshape(4, count, 4)
    for row in (0, 1, 3):
        own = np.arange(count)[:, None]
        assert ((numbers[row] >= row * count) & (numbers[row] < (row + 1) * count)).all()
        assert (numbers[row] - row * count != own).all()
    assert drawn.channels.shape == (4, 12) and drawn.channels.any()
    again = model.draw(lengths, np.random.default_rng(0), samples=samples)
    jax.tree.map(np.testing.assert_array_equal, drawn, again)
    source = Source(values=jnp.zeros((4, samples)),
                    mask=jnp.arange(samples) < jnp.asarray(lengths)[:, None])
    found = model.pretrain(golden.params, source, drawn)
    assert found["masked"].sum(1).tolist() == counts.tolist()


def test_a_count_fixes_the_shapes():
    model = goldens.load("group_norm").model
    shapes = set()
    for seed in range(5):
        drawn = model.draw(
            np.array([413, 300]), np.random.default_rng(seed), samples=413, count=4)
        shapes.add((drawn.mask.shape, drawn.negatives.shape))
        assert drawn.mask.sum(1).max() <= 4
    assert shapes == {((2, 19), (2, 4 * 6))}


def test_negatives_from_everywhere_and_from_all_rows():
    model = goldens.load("two_quantizers").model
    drawn = model.draw(np.array([413, 333]), np.random.default_rng(0), samples=413)
    frames, at = 19, [np.flatnonzero(row) for row in drawn.mask]
    numbers = drawn.negatives.reshape(2, len(at[0]), 4)
    for row, size in enumerate((19, 15)):
        assert (numbers[row] // frames == row).all() and (numbers[row] % frames < size).all()
        assert (numbers[row] != (row * frames + at[row])[:, None]).all()
    assert not set(numbers[0].ravel()) <= set(at[0])
    model = goldens.load("group_norm").model
    drawn = model.draw(np.array([413, 413]), np.random.default_rng(0), samples=413)
    count = int(drawn.mask[0].sum())
    numbers = drawn.negatives.reshape(2, count, 6)
    own = np.arange(2 * count).reshape(2, count, 1)
    assert (numbers != own).all() and (numbers[0, :, :4] < count).all()
    assert (numbers[0, :, 4:] >= count).any()


@pytest.mark.parametrize("selection", ["static", "uniform", "normal", "poisson"])
@pytest.mark.parametrize("no_overlap", [False, True])
def test_spans_cover_about_their_share(selection, no_overlap):
    spans = masking.Spans(
        prob=0.5, length=4, selection=selection, other=1.0, no_overlap=no_overlap, min_space=1,
        least=2)
    mask = masking.draw_mask(
        spans, [200, 180] * 10, 200, np.random.default_rng(0), same=False)
    assert not mask[1::2, 180:].any()
    assert 0.3 < mask[::2].mean() < 0.63  # of uniform ones the mean length is 4.5
    if no_overlap and selection == "static":
        text = "0".join("".join(str(int(x)) for x in row) for row in mask)
        assert {len(run) for run in text.split("0") if run} == {4}
    kept = masking.draw_mask(
        spans, [200] * 3, 200, np.random.default_rng(0), share_kept=0.5)
    assert len(set(kept.sum(1))) == 1 and kept.mean() < 0.3


def test_rows_that_are_too_short_are_refused():
    spans = dataclasses.replace(
        masking.frame_spans(goldens.load("group_norm").model.config), prob=0.9, length=4)
    with pytest.raises(ValueError, match="too short to be masked"):
        for seed in range(20):
            masking.draw_mask(spans, [20, 3], 20, np.random.default_rng(seed))
    with pytest.raises(ValueError, match="no other to be told apart from"):
        masking.draw_negatives(
            [np.arange(1)], [np.arange(1)], 1, np.random.default_rng(0), same_row=2, any_row=0)


# ---- the loss ----


def test_the_loss_says_which_metrics_it_gives(golden):
    found = golden.loss(golden.params, golden.source, golden.drawn)
    assert found.metrics.keys() <= WAV2VEC.computed
    plain = dataclasses.replace(golden, about={"options": {"loss_weights": [0.0], "log_keys": []}})
    alone = plain.loss(golden.params, golden.source, golden.drawn)
    assert alone.metrics.keys() == {"loss", "accuracy", "ntokens", "nsentences"}
    np.testing.assert_allclose(alone.sum, found.metrics["loss_0"][0], rtol=1e-6)


def test_a_loss_that_does_not_fit_the_model_is_refused():
    golden = goldens.load("continuous")
    for options, message in (
            ({"loss_weights": [0.1, 10.0], "log_keys": []}, "2 numbers"),
            ({"loss_weights": [10.0], "log_keys": ["temp"]}, "says no temp")):
        wrong = dataclasses.replace(golden, about={"options": options})
        with pytest.raises(ValueError, match=message):
            wrong.loss(golden.params, golden.source, golden.drawn)
    with pytest.raises(ValueError, match="infonce"):
        Wav2VecConfig(infonce=False)


def test_the_family_is_registered():
    assert models.ARCHS["wav2vec2"][0] == "wav2vec2"
    built = models.build(
        Wav2Vec2Config(), source_vocab_size=0, target_vocab_size=0, compute_dtype=jnp.float32)
    assert built.frames(16000) == 49
    assert isinstance(built, Encoder) and not isinstance(built, MaskedLanguageModel)
