"""data2vec for waveforms against what fairseq computes: its teacher, its targets, twenty updates;
and wav2vec 2.0's. What every model's weights must be is in test_conformance.py."""

from __future__ import annotations

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import losses, models
from seqjax.config import OptimizerConfig, ScheduleConfig
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.interop.fairseq.export import save_fairseq
from seqjax.interop.torch.files import read_pt
from seqjax.losses.base import Forward
from seqjax.losses.model_config import ModelLossConfig
from seqjax.losses.wav2vec_config import Wav2VecConfig
from seqjax.models.data2vec_audio.config import Data2VecAudioConfig
from seqjax.models.parts.audio import Drawn
from seqjax.models.protocol import Source
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.state import new_state
from seqjax.training.train_step import make_train_step

CASES = ["data2vec_audio/base", "data2vec_audio/smooth"]
OPTIONS = ModelLossConfig(log_keys=("ema_decay", "target_var", "pred_var"))


def source_of(arrays):
    samples = jnp.asarray(arrays["samples"], jnp.float32)
    return Source(values=samples, mask=jnp.arange(samples.shape[1]) < jnp.asarray(
        arrays["lengths"])[:, None])


def recorded(name):
    return family_goldens.recorded(family_goldens.FOLDER / f"{name}.npz")


def updates(loss_fn, params, extra, batches, lr=2e-3):
    """Loss and gradient norm, per frame, of each update of fairseq's Adam; and the last state."""
    optimizer = make_optimizer(OptimizerConfig(
        name="adam", adam_betas=(0.9, 0.98), adam_eps=1e-6))
    schedule = make_schedule(ScheduleConfig(name="fixed", warmup_updates=0), lr=(lr,))
    step = jax.jit(make_train_step(loss_fn, optimizer, schedule, seed=1))
    state, found = new_state(params, optimizer, extra=extra), []
    for batch in batches:
        state, metrics = step(state, jax.tree.map(lambda x: x[None], batch), 0)
        total, weight = metrics["loss"]
        found.append([total / weight, metrics["gnorm"][0]])
    return np.array(found), state


@pytest.mark.parametrize("name", CASES)
def test_loss_metrics_gradients_and_states_are_fairseqs(name):
    golden, said = family_goldens.load(name), recorded(name)[0]
    source, drawn = source_of(golden.arrays), Drawn(mask=golden.arrays["mask"])
    extra = golden.model.init_extra(golden.params)

    @jax.jit
    def run(params):
        def loss(params):
            aux, _ = golden.model.pretrain(params, extra, source, drawn, update=0)
            found = losses.LOSSES["model"].function(
                Forward(aux=aux), {}, OPTIONS, update=jnp.int32(0))
            return found.sum, found
        return jax.value_and_grad(loss, has_aux=True)(params), golden.model.encode(params, source)

    ((value, found), gradient), encoded = jax.device_get(run(golden.params))
    np.testing.assert_allclose(value, said["eval"]["loss"], rtol=2e-5)
    assert found.weight == said["eval"]["log"]["sample_size"]
    for key in OPTIONS.log_keys:
        np.testing.assert_allclose(
            found.metrics[key][0], said["eval"]["log"][key], rtol=1e-4, err_msg=key)
    theirs = fairseq_weights.to_state(gradient, golden.config, **golden.sizes)
    for key, norm in golden.gradients.items():
        ours = np.linalg.norm(theirs[key].ravel())
        np.testing.assert_allclose(ours, norm, rtol=1e-4, atol=2e-5, err_msg=key)
    np.testing.assert_array_equal(encoded.mask, golden.arrays["real"])
    np.testing.assert_allclose(encoded.out, golden.arrays["features"], atol=2e-5)


def test_twenty_updates_and_the_teacher_behind_them_are_fairseqs():
    golden, said = family_goldens.load(CASES[0]), recorded(CASES[0])[0]
    source = source_of(golden.arrays)

    def loss_fn(params, extra, batch, rng, update):
        aux, extra = golden.model.pretrain(
            params, extra, source, Drawn(mask=batch["mask"]), update=update)
        return losses.LOSSES["model"].function(
            Forward(aux=aux), {}, OPTIONS, update=update), extra

    found, state = updates(
        loss_fn, golden.params, golden.model.init_extra(golden.params),
        [{"mask": mask} for mask in golden.arrays["masks"]])
    np.testing.assert_allclose(found, golden.arrays["trace"], rtol=1e-4)
    last, _ = golden.model._teacher(state.params, state.extra, jnp.int32(20))
    names = fairseq_weights.to_state(
        {**golden.params, "encoder": last["encoder"]}, golden.config, **golden.sizes)
    for key, norm in said["ema"].items():
        ours = np.linalg.norm(names[f"encoder.{key}"].ravel())
        np.testing.assert_allclose(ours, norm, rtol=1e-4, err_msg=key)


def test_twenty_updates_of_wav2vec_2_are_fairseqs():
    about, arrays, state = recorded("wav2vec2_trace")
    stored = fairseq_weights.from_tree({"cfg": {"model": about["model"]}, "model": state})
    model = models.build(
        stored.config, source_vocab_size=0, target_vocab_size=0, compute_dtype=jnp.float32)
    source = source_of(arrays)
    options = Wav2VecConfig(loss_weights=tuple(about["options"]["loss_weights"]))

    def loss_fn(params, extra, batch, rng, update):
        aux = model.pretrain(params, source, Drawn(
            mask=batch["mask"], negatives=batch["negatives"]), update=update)
        return losses.LOSSES["wav2vec"].function(
            Forward(aux=aux), {}, options, update=update), extra

    # Negatives are of as many masked frames as the update has: renumbered for the most.
    per_frame, rows = stored.config.negatives, len(arrays["lengths"])
    most, batches = max(about["widths"]) // per_frame, []
    for mask, drawn, width in zip(
            arrays["masks"], arrays["negatives"], about["widths"], strict=True):
        count = width // per_frame
        spread = drawn // count * most + drawn % count
        kept = np.where(np.arange(drawn.shape[1]) < width, spread, 0)
        assert mask.sum(1).tolist() == [count] * rows
        batches.append({"mask": mask, "negatives": kept.astype(np.int32)})
    params = jax.tree.map(jnp.asarray, stored.params)
    found, _ = updates(loss_fn, params, {}, batches, lr=about["lr"])
    np.testing.assert_allclose(found, arrays["trace"], rtol=1e-4)


def test_the_teacher_moves_once_an_update():
    golden = family_goldens.load(CASES[0])
    extra = golden.model.init_extra(golden.params)
    other = jax.tree.map(lambda x: x + 1, golden.params)
    run = jax.jit(golden.model._teacher)
    moved, decay = run(other, extra, jnp.int32(6))
    np.testing.assert_allclose(decay, 0.9 + 0.09 * 6 / 12, rtol=1e-6)
    np.testing.assert_allclose(run(other, extra, jnp.int32(30))[1], 0.99, rtol=1e-6)
    name = "layer_norm"
    np.testing.assert_allclose(
        moved["encoder"][name]["bias"], golden.params["encoder"][name]["bias"] + (1 - decay),
        rtol=1e-5, atol=1e-6)
    jax.tree.map(  # the convolutions for positions are the encoder's own
        np.testing.assert_array_equal, moved["encoder"]["pos_conv"], other["encoder"]["pos_conv"])
    again, _ = run(golden.params, moved, jnp.int32(6))
    jax.tree.map(np.testing.assert_array_equal, again, moved)
    jax.tree.map(np.testing.assert_array_equal, run(other, extra, jnp.int32(0))[0], extra)


def test_a_teacher_in_a_file_is_kept(tmp_path):
    """fairseq has it among the weights, as a dict of its own."""
    golden = family_goldens.load(CASES[1])
    ema = {k.removeprefix("encoder."): v for k, v in golden.state.items()
           if k.startswith("encoder.")}
    tree = {**golden.tree, "model": {**golden.state, "_ema": ema}}
    read = fairseq_weights.from_tree(tree)
    jax.tree.map(np.testing.assert_array_equal, read.params, golden.checkpoint.params)
    save_fairseq(tmp_path / "x.pt", read.params, read.config, source_vocab_size=0,
                 target_vocab_size=0, extra_args={"task": "audio_pretraining"}, kept=read.kept)
    written = read_pt(tmp_path / "x.pt")["model"]
    assert written["_ema"].keys() == ema.keys()
    for key, value in ema.items():
        np.testing.assert_array_equal(written["_ema"][key], value)


@pytest.mark.parametrize("changes, message", [
    (dict(ema_decay=1.5), "ema_decay"), (dict(instance_norm_targets=True), "rows of a batch"),
    (dict(average_top_k_layers=0), "average_top_k_layers"), (dict(loss_beta=-1.0), "loss_beta")])
def test_wrong_keys_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Data2VecAudioConfig(**changes)
