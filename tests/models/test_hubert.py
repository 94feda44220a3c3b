"""HuBERT and CTC models against what fairseq computes, and by themselves; what every model's
weights must be is in test_conformance.py."""

from __future__ import annotations

import dataclasses

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import losses, models
from seqjax.config import ConfigError, OptimizerConfig, ScheduleConfig
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.interop.fairseq import optimizer_state
from seqjax.losses.base import Forward
from seqjax.losses.ctc import frame_log_probs
from seqjax.losses.ctc_config import CtcConfig
from seqjax.losses.masked_units_config import MaskedUnitsConfig
from seqjax.models.hubert import archs
from seqjax.models.hubert.config import HubertConfig
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.block_frames import block_frames, block_mask
from seqjax.models.protocol import Source
from seqjax.models.wav2vec2.ctc_config import Wav2VecCtcConfig
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.state import new_state
from seqjax.training.train_step import make_train_step

PRETRAINED = ["hubert/base", "hubert/large", "hubert/batch_norm"]
FINETUNED = ["wav2vec_ctc/adapters", "hubert_ctc/base"]


def source_of(golden):
    samples = jnp.asarray(golden.arrays["samples"], jnp.float32)
    return Source(values=samples, mask=jnp.arange(samples.shape[1]) < jnp.asarray(
        golden.arrays["lengths"])[:, None])


def about(name):
    return family_goldens.recorded(family_goldens.FOLDER / f"{name}.npz")[0]


def loss_of(golden, options):
    arrays, source = golden.arrays, source_of(golden)
    labels = [arrays[k] for k in sorted(arrays) if k.startswith("labels_")]
    compute = losses.LOSSES["hubert" if labels else "ctc"].function

    def loss(params, mask=None):
        if labels:
            drawn = Drawn(mask=arrays["mask"] if mask is None else mask,
                          channels=arrays.get("channels"))
            weights = {**options, "loss_weights": tuple(options["loss_weights"])}
            found = compute(Forward(aux=golden.model.pretrain(params, source, drawn, labels)), {},
                            MaskedUnitsConfig(**weights), update=jnp.int32(0))
        else:
            encoded = golden.model.encode(params, source, rng=jax.random.key(0))
            forward = Forward(features=golden.model.features(params, encoded), encoded=encoded,
                              target=jnp.asarray(arrays["target"]))
            found = compute(forward, {}, CtcConfig(**options), update=jnp.int32(0))
        return found.sum, found

    return loss


@pytest.mark.parametrize("name", [*PRETRAINED, *FINETUNED])
def test_loss_metrics_gradients_and_states_are_fairseqs(name):
    golden, said = family_goldens.load(name), about(name)

    @jax.jit
    def run(params):
        loss = jax.value_and_grad(loss_of(golden, said["options"]), has_aux=True)(params)
        encoded = golden.model.encode(params, source_of(golden))
        scores = () if name in PRETRAINED else frame_log_probs(
            golden.model.features(params, encoded).logits(), encoded.mask)
        return loss, encoded, scores

    ((value, found), gradient), encoded, scores = jax.device_get(run(golden.params))
    np.testing.assert_allclose(value, said["eval"]["loss"], rtol=2e-5)
    log = said["eval"]["log"]
    assert found.weight == log["sample_size"]
    named = {k for k in log if k.split("_")[0] in ("loss", "correct", "count")}
    assert named == found.metrics.keys() - {"ntokens", "nsentences", "nll_loss"}
    for key in named:
        np.testing.assert_allclose(found.metrics[key][0], log[key], rtol=2e-5, err_msg=key)
    theirs = fairseq_weights.to_state(gradient, golden.config, **golden.sizes)
    for key, norm in golden.gradients.items():
        ours = np.linalg.norm(theirs[key].ravel())
        np.testing.assert_allclose(ours, norm, rtol=1e-4, atol=2e-5, err_msg=key)
    np.testing.assert_array_equal(encoded.mask, golden.arrays["real"])
    if name in PRETRAINED:
        np.testing.assert_allclose(encoded.out, golden.arrays["features"], atol=2e-5)
        assert found.metrics.keys() <= losses.LOSSES["hubert"].computed
    else:
        real = golden.arrays["real"]
        np.testing.assert_allclose(scores[real], golden.arrays["lprobs"][real], atol=2e-5)
        if name == FINETUNED[0]:  # fairseq's HuBERT leaves padded frames as they are
            np.testing.assert_array_equal(scores[~real], golden.arrays["lprobs"][~real])


@pytest.mark.parametrize("name", PRETRAINED)
def test_layers_have_fairseqs_numbers_and_rows_are_what_they_are_alone(name):
    """In a wider batch, with other rows: as fairseq's of the row by itself."""
    golden = family_goldens.load(name)
    source = source_of(golden)
    wide = Source(*(jnp.pad(x, ((0, 0), (0, 99))) for x in (source.values, source.mask)),
                  isolated=True)
    for layer, wanted in ((1, "row_1"), (2, "row_2"), (None, "last")):
        run = jax.jit(lambda params, layer=layer: golden.model.layer_states(
            params, wide, layer=layer))
        found, theirs = run(golden.params), golden.arrays[wanted]
        assert found.mask.sum(1).tolist()[1] == len(theirs) == golden.model.frames(377)
        np.testing.assert_allclose(found.out[1, : len(theirs)], theirs, atol=2e-5)
    if name != "hubert/large":
        np.testing.assert_allclose(golden.model.final_proj(
            golden.params, golden.arrays["row_1"]), golden.arrays["proj"], atol=1e-5)
        np.testing.assert_array_equal(golden.arrays["row_2"], golden.arrays["last"])
        every = golden.model.encoder_states(golden.params, wide)
        np.testing.assert_allclose(every[1, 1, : len(theirs)], golden.arrays["row_1"], atol=2e-5)
    else:
        assert np.abs(golden.arrays["row_2"] - golden.arrays["last"]).max() > 0.1
        with pytest.raises(ValueError, match="2, one for each list"):
            golden.model.final_proj(golden.params, golden.arrays["row_1"])
    with pytest.raises(ValueError, match="there are 1 to 2"):
        golden.model.layer_states(golden.params, wide, layer=3)


def test_statistics_of_a_batch_norm_are_not_the_optimizers():
    """Numbers of its state are those of fairseq's parameters, and weight decay moves nothing."""
    golden = family_goldens.load("hubert/batch_norm")
    names = [n for n in optimizer_state.registered(
        fairseq_weights.plan_of(golden.config, **golden.sizes).wanted,
        models.fairseq_table("hubert").names, title="hubert") if "running_" not in n]
    ones = jax.tree.map(np.ones_like, golden.params)
    written = optimizer_state.write_state(
        {"count": 3, "exp_avg": ones, "exp_avg_sq": ones}, golden.config,
        optimizer=OptimizerConfig(name="adam"), lr=0.1, **golden.sizes)
    assert set(golden.gradients) <= set(names) and len(written["state"]) == len(names)
    kept = golden.model.settled(ones, {}, before=golden.params, update=jnp.int32(0))
    positions = kept["encoder"].pop("pos_conv")
    before = golden.params["encoder"]["pos_conv"]
    for name in ("running_mean", "running_var"):
        np.testing.assert_array_equal(positions.pop(name), before[name])
    assert all((np.asarray(x) == 1).all() for x in jax.tree.leaves([kept, positions]))


def test_twenty_updates_are_fairseqs():
    """Loss and gradient norm, masks fed in, no dropout."""
    golden, said = family_goldens.load("hubert/base"), about("hubert/base")
    loss = loss_of(golden, said["options"])

    def loss_fn(params, extra, batch, rng, update):
        return loss(params, batch["mask"])[1], extra

    optimizer = make_optimizer(OptimizerConfig(
        name="adam", adam_betas=(0.9, 0.98), adam_eps=1e-6))
    schedule = make_schedule(ScheduleConfig(name="fixed", warmup_updates=0), lr=(2e-3,))
    step = jax.jit(make_train_step(loss_fn, optimizer, schedule, seed=1))
    state, found = new_state(golden.params, optimizer), []
    for mask in golden.arrays["masks"]:
        state, metrics = step(state, {"mask": mask[None]}, 0)
        total, weight = metrics["loss"]
        found.append([total / weight, metrics["gnorm"][0]])
    np.testing.assert_allclose(found, golden.arrays["trace"], rtol=1e-4)


# ---- what is HuBERT's own ----


LAYERS = HubertConfig().conv_layers


@pytest.mark.parametrize("longest, length, frames", [
    (16000, 8000, 25), (48000, 20000, 63), (250000, 249000, 779), (16000, 9100, 28),
    (16000, 16000, 49), (16000, 0, 0)])
def test_frames_of_which_some_sample_is_real_are_no_padding(longest, length, frames):
    """fairseq's `forward_padding_mask`, not wav2vec 2.0's: measured. What else the batch is padded
    by changes nothing."""
    lengths = np.array([longest, length])
    count = (longest - 400) // 320 + 1
    assert block_frames(lengths, count, LAYERS).tolist() == [count, frames]
    real = np.arange(longest + 5000) < lengths[:, None]
    found = block_mask(jnp.asarray(real), count + 15, LAYERS)
    assert found.sum(1).tolist() == [count, frames] and not np.any(found[:, count:])


def test_labels_at_another_rate_are_those_of_the_frames():
    assert HubertConfig().labelled_frames(49, 50) == 49
    assert HubertConfig().labelled_frames(49, 48) == 48
    assert HubertConfig(label_rate=100.0).labelled_frames(49, 99) == 49
    assert HubertConfig(label_rate=100.0).labelled_frames(49, 97) == 48


def test_fewer_labels_cut_the_blocks_too():
    """49 frames of 16,000 samples are blocks of 326; 48 are blocks of 333 (M3)."""
    lengths = np.array([16000, 9100])
    assert block_frames(lengths, 48, LAYERS).tolist() == [48, -(-9100 // 333)]


def test_classes_with_one_embedding_do_not_compete():
    golden = family_goldens.load("hubert/base")
    params = jax.tree.map(jnp.asarray, golden.params)
    table = params["label_embs_concat"]
    table = table.at[7].set(table[5])
    labels = [jnp.full_like(golden.arrays["labels_0"], 5)]
    found = golden.model.pretrain(
        {**params, "label_embs_concat": table}, source_of(golden),
        Drawn(mask=golden.arrays["mask"]), labels)["logits"][0]
    assert np.isneginf(found[..., 1 + np.array([5, 7])]).all()
    assert np.isfinite(found[..., [0, 1, 2, 3, 4, 5, 7, 9]]).all()


def test_frames_without_a_label_count_for_nothing():
    golden = family_goldens.load("hubert/base")
    labels = golden.arrays["labels_0"].copy()
    labels[0, -3:] = -1
    run = jax.jit(lambda labels: golden.model.pretrain(
        golden.params, source_of(golden), Drawn(mask=golden.arrays["mask"]), [labels]))
    found, usual = run(labels), run(golden.arrays["labels_0"])
    total = [sum(int(x[k].sum()) for k in ("masked", "unmasked")) for x in (usual, found)]
    assert total[0] - total[1] == 3


def test_masks_are_drawn_in_real_frames_alone():
    golden = family_goldens.load("hubert/large")
    found = golden.model.draw(np.array([413, 377, 290]), np.random.default_rng(0), samples=413,
                              labels=[37, 37])
    sizes = block_frames(np.array([413, 377, 290]), 18, golden.config.conv_layers)
    assert found.mask.shape == (3, 18) and found.channels.shape == (3, 12)
    assert len(set(found.mask.sum(1))) == 1 and found.mask.any()
    for row, size in zip(found.mask, sizes, strict=True):
        assert not row[size:].any()


@pytest.mark.parametrize("values, layers, dim, final", [
    (archs.BASE, 12, 768, 256), (archs.LARGE, 24, 1024, 768), (archs.XLARGE, 48, 1280, 1024)])
def test_published_sizes(values, layers, dim, final):
    config = HubertConfig(**values)
    assert (config.encoder_layers, config.encoder_embed_dim, config.final_dim) == (
        layers, dim, final)


@pytest.mark.parametrize("changes, message", [
    (dict(label_rate=-1.0), "label_rate"), (dict(logit_temp=0.0), "logit_temp"),
    (dict(label_classes=(3, 0)), "label_classes"), (dict(mask_prob=2.0), "mask_prob")])
def test_wrong_keys_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        HubertConfig(**changes)


# ---- fine-tuning ----


def test_a_frozen_encoder_has_no_gradient_until_its_time():
    golden = family_goldens.load(FINETUNED[1]).changed(freeze_finetune_updates=3)

    @jax.jit
    def run(update):
        def loss(params):
            encoded = golden.model.encode(params, source_of(golden), update=update)
            return golden.model.features(params, encoded).logits().sum()
        return jax.grad(loss)(golden.params)

    for update in (2, 3):
        found = run(jnp.int32(update))["w2v_encoder"]
        moved = [np.any(x) for x in jax.tree.leaves(found["w2v_model"]["encoder"])]
        assert any(moved) == (update == 3) and np.any(found["proj"]["kernel"])


def test_an_encoder_that_was_pretrained_is_taken_over():
    pretrained = family_goldens.load("hubert/base")
    golden = family_goldens.load(FINETUNED[1])
    fresh = golden.model.init(jax.random.key(1))
    found = golden.model.adopt(pretrained.params, fresh)["w2v_encoder"]
    for name, value in found["w2v_model"].items():
        jax.tree.map(np.testing.assert_array_equal, value, pretrained.params[name])
    assert "label_embs_concat" not in found["w2v_model"]
    np.testing.assert_array_equal(found["proj"]["kernel"], fresh["w2v_encoder"]["proj"]["kernel"])
    own = golden.params
    assert golden.model.adopt(own, fresh) is own
    golden.config.check_pretrained(pretrained.config)
    with pytest.raises(ConfigError, match="conv_pos is 5 here, 6 there"):
        dataclasses.replace(golden.config, conv_pos=5, conv_pos_groups=3).check_pretrained(
            pretrained.config)


def test_masks_of_fine_tuning_are_those_of_its_own_keys():
    golden = family_goldens.load(FINETUNED[0])
    lengths, rng = np.array([413, 377, 290]), np.random.default_rng(0)
    assert golden.model.draw(lengths, rng, samples=413).mask is None
    asked = golden.changed(apply_mask=True, mask_prob=0.6, mask_length=2, mask_channel_prob=0.5,
                           mask_channel_length=3)
    drawn = asked.model.draw(lengths, rng, samples=413)
    assert drawn.mask.any() and drawn.channels.any()
    states = asked.model.encode(golden.params, source_of(golden), drawn=drawn).out
    plain = asked.model.encode(golden.params, source_of(golden)).out
    assert np.abs(states - plain).max() > 0.1
    assert Wav2VecCtcConfig(layerdrop=0.3).encoder_layerdrop == 0.3
