"""Speech-to-text transformers against what fairseq computes, and by themselves."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import speech_to_text_goldens as goldens
from seeded_weights import seeded_state

from seqjax import models
from seqjax.config import ConfigError, GenerationConfig, OptimizerConfig, ScheduleConfig
from seqjax.generation.decoder import Decoder
from seqjax.generation.errors import InputError
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.interop.fairseq import optimizer_state
from seqjax.interop.huggingface import weights as huggingface_weights
from seqjax.losses.base import LossOutput
from seqjax.models.overrides import resolved
from seqjax.models.protocol import FrameReader, Settling, Source
from seqjax.models.s2t_transformer.config import (
    ConvTransformerConfig,
    S2TConformerConfig,
    S2TTransformerConfig,
)
from seqjax.models.s2t_transformer.conformer import by_distance, relative_sinusoids
from seqjax.models.xm_transformer.config import XMTransformerConfig
from seqjax.settings import resolve
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.state import new_state
from seqjax.training.train_step import make_train_step

CASES = ("transformer", "planes", "convtransformer", "conformer_abs", "conformer_espnet_abs",
         "conformer_rel_pos", "conformer_rope", "conformer_no_positions", "xm_plain",
         "xm_projections", "xm_bare")


@pytest.fixture(params=CASES)
def golden(request):
    return goldens.load(request.param)


def test_states_scores_losses_and_gradients_are_fairseqs(golden):
    """In a padded batch, also in one that is padded more than fairseq's."""
    found = goldens.program(golden, wider=5 if len(golden.about["order"]) % 2 else 0)(golden.params)
    (loss, (lprobs, encoded)), gradient = found
    width = golden.arrays["real"].shape[1]
    encoded = encoded.replace(out=encoded.out[:, :width], mask=encoded.mask[:, :width])
    goldens.check(golden, ((loss, (lprobs, encoded)), gradient), golden.about["eval"])


def test_training_a_conformer_is_fairseqs():
    """By the statistics of the batch, of all its frames, and what the running ones become."""
    golden = goldens.load("conformer_abs")
    found = goldens.program(golden, key=jax.random.key(0))(golden.params)
    goldens.check(golden, found, golden.about["train"], states="train_states")
    extra = golden.model.init_extra(golden.params)
    after = golden.model.settled(
        golden.params, golden.model.advanced(extra, found[0][1][1]), before=golden.params,
        update=jnp.int32(0))
    state = fairseq_weights.to_state(after, golden.checkpoint.config, **golden.sizes)
    assert len(golden.about["after"]) == 2 * golden.model.config.encoder_layers
    for name, values in golden.about["after"].items():
        np.testing.assert_allclose(state[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
        assert np.abs(state[name] - golden.state[name]).max() > 1e-3


def test_rows_and_padding_of_a_batch():
    """By itself a row is what fairseq makes of it by itself; in fairseq's batches it is not, since
    convolutions see padding. Rows without a frame are of no consequence to either."""
    for name in ("planes", "conformer_rel_pos"):
        golden = goldens.load(name)
        encode = jax.jit(golden.model.encode)
        together = encode(golden.params, golden.source(isolated=True, wider=3, rows=1))
        batch = encode(golden.params, golden.source(wider=3, rows=1))
        assert not np.asarray(batch.mask)[3].any() and np.isfinite(together.out).all()
        width = golden.arrays["real"].shape[1]
        real = golden.arrays["real"]
        np.testing.assert_allclose(np.asarray(batch.out)[:3, :width][real],
                                   golden.arrays["states"][real], atol=2e-5)
        row, length = 2, goldens.LENGTHS[2]
        one = Source(values=golden.source().values[row : row + 1, :length],
                     mask=jnp.ones((1, length), bool))
        alone = encode(golden.params, one)
        frames = int(alone.mask.sum())
        assert frames == int(together.mask[row].sum()) == alone.out.shape[1]
        np.testing.assert_allclose(together.out[row, :frames], alone.out[0], atol=1e-5)
        assert np.abs(batch.out[row, :frames] - alone.out[0]).max() > 1e-3


def test_lengths_are_fairseqs():
    golden = goldens.load("convtransformer")
    def frames(model: Any, params: Any, *lengths: int) -> list[int]:
        width = max(lengths)
        source = Source(values=jnp.zeros((len(lengths), width, *model.frame_shape)),
                        mask=jnp.arange(width) < jnp.array(lengths)[:, None])
        return [int(n) for n in jax.jit(model.encode)(params, source).mask.sum(1)]

    # ceil(length / rounded ratio of the whole batch), of planes; of the others what is halved
    assert frames(golden.model, golden.params, 103, 101, 100, 5, 1) == [26, 26, 25, 2, 1]
    one = goldens.load("conformer_no_positions")
    assert frames(one.model, one.params, 103, 101, 100, 5, 1) == [26, 26, 25, 2, 1]


def test_weights_go_both_ways_bit_for_bit(golden):
    state, kept = golden.state, golden.checkpoint.kept
    again = fairseq_weights.to_state(
        golden.params, golden.checkpoint.config, kept=kept, **golden.sizes)
    assert again.keys() == state.keys()
    for name, value in state.items():
        assert again[name].dtype == value.dtype and np.array_equal(again[name], value), name
    fresh = fairseq_weights.to_state(golden.params, golden.checkpoint.config, **golden.sizes)
    assert fresh.keys() == state.keys()


def test_moments_are_numbered_as_fairseqs(golden):
    plan = fairseq_weights.plan_of(golden.checkpoint.config, **golden.sizes)
    moments = {name: jax.tree.map(np.ones_like, golden.params) for name in (
        "exp_avg", "exp_avg_sq")}
    written = optimizer_state.write_state(
        {"count": 3, **moments}, golden.checkpoint.config,
        optimizer=OptimizerConfig(name="adam"), lr=0.1, **golden.sizes)
    names = optimizer_state.registered(
        {n for n in plan.wanted if not plan.buffers.fullmatch(n)}, plan.names, title=plan.table)
    ordered = [n for n in golden.about["order"] if n not in plan.copies]
    assert names == ordered and len(written["state"]) == len(names)
    tree = {"args": golden.about["args"], "last_optimizer_state": written,
            "model": {**{n: golden.state[n] for n in golden.about["order"]}, **golden.state}}
    read = optimizer_state.read_state(tree, name="adam")
    for ours, buffer in zip(jax.tree.leaves(read["exp_avg"]), jax.tree.leaves(
            jax.tree_util.tree_map_with_path(
                lambda path, _: "running" in str(path) or "inv_freq" in str(path),
                golden.params)), strict=True):
        assert np.all(ours == (0 if buffer else 1))


@pytest.mark.parametrize(
    "name", ["transformer", "convtransformer", "conformer_rel_pos", "xm_projections"])
def test_fresh_weights_are_distributed_as_fairseqs(name):
    golden = goldens.load(name)
    inits = jax.jit(jax.vmap(golden.model.init))(jax.random.split(jax.random.key(0), 6))
    states = [fairseq_weights.to_state(jax.tree.map(lambda a, i=i: np.asarray(a[i]), inits),
                                       golden.checkpoint.config, **golden.sizes)
              for i in range(6)]
    for name, (mean, deviation) in golden.about["fresh"].items():
        ours = np.stack([state[name] for state in states])
        error = 5 * max(deviation, 1e-7) / np.sqrt(ours.size)
        assert abs(ours.mean() - mean) <= 2 * error + 1e-6, name
        assert abs(ours.std() - deviation) <= 0.2 * deviation + error + 1e-6, name


# ---- searches ----


def test_searches_read_features_and_do_not_depend_on_batches():
    golden = goldens.load("transformer")
    values, lengths = golden.batch["values"], golden.batch["lengths"]
    sources = [row[:length] for row, length in zip(values, lengths, strict=True)]
    config = GenerationConfig(beam=2, nbest=2, max_len_b=8)
    decoder = Decoder(golden.model, config)
    together = decoder.decode(golden.params, sources)
    apart = [decoder.decode(golden.params, [source])[0] for source in sources[::2]]
    for found, alone in zip(together[::2], apart, strict=True):
        for h, other in zip(found, alone, strict=True):
            assert h.tokens.tolist() == other.tokens.tolist()
            np.testing.assert_allclose(h.positional_scores, other.positional_scores, atol=1e-5)
    # Step by step is what whole rows are.
    encoded = golden.model.encode(golden.params, golden.source(isolated=True))
    best = together[0][0].tokens
    prev = np.concatenate([[2], best[:-1]]).astype(np.int32)
    lprobs = jax.nn.log_softmax(golden.model.features(
        golden.params, prev[None], jax.tree.map(lambda a: a[:1], encoded)).logits())
    np.testing.assert_allclose(
        lprobs[0, np.arange(len(best)), best], together[0][0].positional_scores, atol=1e-5)
    for wrong, message in (([sources[0][:, :5]], r"source 0 has the shape \[37, 5\]"),
                           ([sources[0][:0]], "source 0 has no frames")):
        with pytest.raises(InputError, match=message):
            decoder.decode(golden.params, wrong)


# ---- training ----


def test_what_no_optimizer_may_change_stays():
    """Running statistics are what batches make them, frozen parameters what they were, whatever
    weight decay says."""
    optimizer = make_optimizer(OptimizerConfig(name="adam", weight_decay=0.5))
    schedule = make_schedule(ScheduleConfig(name="fixed", warmup_updates=0), lr=(0.1,))

    def pulled(params, extra, batch, rng, update):
        total = sum((leaf**2).sum() for leaf in jax.tree.leaves(params))
        new = jax.tree.map(lambda x: x + 1, extra)
        one = jnp.ones(())
        return LossOutput(sum=total, weight=one, metrics={"loss": (total, one)}), new

    def after(model, params, updates, extra):
        assert isinstance(model, Settling)
        step = jax.jit(make_train_step(
            pulled, optimizer, schedule, seed=1, settled=model.settled))
        state = new_state(params, optimizer, extra=extra)
        for _ in range(updates):
            state, _ = step(state, {"x": np.zeros((1, 1), np.float32)}, 1)
        return state

    golden = goldens.load("conformer_rope")
    extra = golden.model.init_extra(golden.params)
    state = after(golden.model, golden.params, 1, extra)
    layers = state.params["encoder"]["layers"]
    old = golden.params["encoder"]["layers"]
    for path in (("conv_module", "batch_norm", "running_mean"),
                 ("self_attn", "rotary_emb", "inv_freq")):
        new, before = layers, old
        for part in path:
            new, before = new[part], before[part]
        np.testing.assert_allclose(new, before + 1, rtol=1e-6)
    assert np.abs(layers["ffn1"]["w_1"]["kernel"] - old["ffn1"]["w_1"]["kernel"]).min() > 0

    golden = goldens.load("transformer")
    frozen = dataclasses.replace(golden.model, config=dataclasses.replace(
        golden.model.config, encoder_freezing_updates=1))
    once, twice = (after(frozen, golden.params, n, {}).params for n in (1, 2))
    kept, moved = golden.params["encoder"]["layers"], twice["encoder"]["layers"]
    jax.tree.map(np.testing.assert_array_equal, once["encoder"]["layers"], kept)
    assert np.abs(moved["fc1"]["kernel"] - kept["fc1"]["kernel"]).min() > 0
    grads = jax.grad(lambda p: frozen.encode(
        p, golden.source(), update=jnp.int32(0)).out.sum())(golden.params)
    assert not any(np.any(g) for g in jax.tree.leaves(grads["encoder"]))

    golden = goldens.load("xm_projections")
    state = after(golden.model, golden.params, 1, {})
    names = set(golden.about["eval"]["grads"])
    new = fairseq_weights.to_state(state.params, golden.checkpoint.config, **golden.sizes)
    for name, value in golden.state.items():
        if name in ("decoder.version", "decoder.output_projection.weight"):
            continue
        assert (np.abs(new[name] - value).max() > 0) == (name in names), name


# ---- configurations ----


def test_architectures_are_fairseqs():
    def sizes(arch):
        c: Any = resolve({"model": {"arch": arch}}).model
        return (c.encoder_embed_dim, c.encoder_ffn_embed_dim, c.encoder_layers,
                c.encoder_attention_heads, c.decoder_embed_dim, c.decoder_ffn_embed_dim,
                c.decoder_layers, c.decoder_attention_heads, c.dropout, c.attention_dropout,
                c.activation_dropout, c.encoder_normalize_before)

    assert {arch: sizes(arch) for arch in models.ARCHS if models.ARCHS[arch][0] in (
        "s2t_transformer", "s2t_conformer", "convtransformer")} == {
        "s2t_transformer": (512, 2048, 12, 8, 512, 2048, 6, 8, .1, .1, .1, True),
        "s2t_transformer_xs": (256, 1024, 6, 4, 256, 1024, 3, 4, .3, .3, .3, True),
        "s2t_transformer_s": (256, 2048, 12, 4, 256, 2048, 6, 4, .1, .1, .1, True),
        "s2t_transformer_sp": (256, 2048, 16, 4, 256, 2048, 6, 4, .1, .1, .1, True),
        "s2t_transformer_m": (512, 2048, 12, 8, 512, 2048, 6, 8, .15, .15, .15, True),
        "s2t_transformer_mp": (512, 2048, 16, 8, 512, 2048, 6, 8, .15, .15, .15, True),
        "s2t_transformer_l": (1024, 4096, 12, 16, 1024, 4096, 6, 16, .2, .2, .2, True),
        "s2t_transformer_lp": (1024, 4096, 16, 16, 1024, 4096, 6, 16, .2, .2, .2, True),
        "s2t_conformer": (256, 2048, 16, 4, 256, 2048, 6, 8, .1, .1, .1, True),
        "convtransformer": (512, 2048, 6, 8, 512, 2048, 6, 8, .1, 0., 0., False),
        "convtransformer_espnet": (256, 2048, 12, 4, 256, 2048, 6, 4, .1, 0., 0., False),
    }
    assert resolve({"model": {"arch": "convtransformer_espnet"}}).model.conv_out_channels == 256


@pytest.mark.parametrize("cls, changes, message", [
    (S2TTransformerConfig, dict(conv_kernel_sizes="4,5"), "conv_kernel_sizes"),
    (S2TTransformerConfig, dict(conv_kernel_sizes="5;5"), "conv_kernel_sizes"),
    (S2TTransformerConfig, dict(conv_channels=7), "conv_channels"),
    (S2TTransformerConfig, dict(conv_version="convtransformer", input_channels=2),
     "input_channels"),
    (S2TTransformerConfig, dict(encoder_embed_dim=10, encoder_attention_heads=4), "encoder_att"),
    (S2TTransformerConfig, dict(ctc_weight=-1.0), "ctc_weight"),
    (S2TConformerConfig, dict(depthwise_conv_kernel_size=4), "depthwise_conv_kernel_size"),
    (S2TConformerConfig, dict(pos_enc_type="rel_pos"), "attn_type=espnet"),
    (S2TConformerConfig, dict(encoder_embed_dim=12, encoder_attention_heads=4, attn_type="espnet",
                              pos_enc_type="rope"), "odd width"),
    (ConvTransformerConfig, dict(ctc_weight=0.3), "s2t_transformer with"),
    (XMTransformerConfig, dict(adaptor_kernel_size=4), "adaptor_kernel_size"),
    (XMTransformerConfig, dict(adaptor_stride=0), "adaptor_stride"),
])
def test_configurations_that_cannot_be_are_refused_by_key(cls, changes, message):
    with pytest.raises(ValueError, match=message):
        cls(**changes)


def test_the_families_are_registered():
    model = goldens.load("xm_plain").model
    assert isinstance(model, FrameReader) and model.frame_shape == ()
    assert isinstance(model, Settling) and model.max_source_positions > 16000
    with pytest.raises(ConfigError, match="quantize_input"):
        about = goldens.load("xm_plain").about
        inner = {"model": {**about["args"]["w2v_args"]["model"], "quantize_input": True}}
        fairseq_weights.from_tree({"args": {**about["args"], "w2v_args": inner}, "model": {}})


def test_distances_are_transformer_xls():
    rows = jnp.arange(2 * 5, dtype=jnp.float32).reshape(1, 1, 2, 5)[..., :3]
    assert by_distance(rows)[0, 0].tolist() == [[1, 2], [5, 6]]
    table = relative_sinusoids(3, 4)
    assert table.shape == (5, 4) and table[2].tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(table[0, 0], np.sin(2.0), atol=1e-6)


# ---- Hugging Face ----


@pytest.mark.parametrize("name", ["tied", "own"])
def test_folders_of_transformers_go_both_ways(name):
    with np.load(goldens.FOLDER / "huggingface.npz") as file:
        arrays = dict(file)
    about = json.loads(arrays["about"].item())[name]
    drawn = seeded_state({n: tuple(s) for n, s in about["shapes"].items()}, 5)
    stored = huggingface_weights.describe(about["config"], drawn)
    config: Any = stored.config
    assert stored.kind.family == "s2t_transformer" and stored.target_vocab_size == 19
    model = models.build(config, source_vocab_size=0, target_vocab_size=19,
                         compute_dtype=jnp.float32)
    params = stored.params()
    stream, lengths = np.random.RandomState(5), (33, 25)
    values = stream.standard_normal((2, 33, config.frame_width)).astype(np.float32)
    mask = np.arange(33) < np.array(lengths)[:, None]
    tokens = stream.randint(4, 19, (2, 5)).astype(np.int32)
    tokens[:, 0] = 2
    source = Source(values=jnp.where(mask[..., None], values, 0), mask=jnp.asarray(mask))

    @jax.jit
    def run(params):
        encoded = model.encode(params, source)
        return encoded.mask, encoded.out, model.features(params, tokens, encoded).logits()

    real, states, logits = run(params)
    np.testing.assert_allclose(
        np.asarray(states)[real], arrays[f"{name}.states"][np.asarray(real)], atol=1e-4)
    np.testing.assert_allclose(logits, arrays[f"{name}.logits"], atol=1e-4)
    back = huggingface_weights.to_state(
        params, config, stored.kind, source_vocab_size=0, target_vocab_size=19)
    assert back.keys() == drawn.keys()
    for key, value in drawn.items():
        np.testing.assert_array_equal(back[key], value)
    written = stored.kind.table.config_to(resolved(config))
    assert {k: about["config"][k] for k in written} == written


def test_a_folder_of_transformers_is_loaded_and_written_again(tmp_path):
    import seqjax
    from seqjax import convert
    from seqjax.interop.huggingface import files

    with np.load(goldens.FOLDER / "huggingface.npz") as file:
        about = json.loads(file["about"].item())["tied"]
    drawn = seeded_state({n: tuple(s) for n, s in about["shapes"].items()}, 5)
    there, ours, back = (tmp_path / name for name in ("there", "ours", "back"))
    there.mkdir()
    files.write_tensors(there, drawn, max_shard_size=1 << 30)
    (there / "config.json").write_text(json.dumps(about["config"]))
    extractor = {"num_mel_bins": 6, "sampling_rate": 8000, "do_ceptral_normalize": True,
                 "normalize_means": True, "normalize_vars": False}
    (there / "preprocessor_config.json").write_text(json.dumps(extractor))
    model = seqjax.load(str(there))
    assert model.task.audio.sample_rate == 8000 and model.task.audio.features == 6
    assert model.task.audio.options["utterance_cmvn"] == {"norm_means": True, "norm_vars": False}
    heard = model.features(np.sin(np.arange(4000, dtype=np.float32)))
    assert heard.shape[1] == 6 and np.abs(heard.mean(0)).max() < 1e-3 < np.abs(
        heard.std(0) - 1).max()
    convert.main([str(there), str(ours)])
    convert.main([str(ours), str(back), "--to", "hf"])
    again = files.read_tensors(back)
    assert again.keys() == drawn.keys()
    for name, value in drawn.items():
        np.testing.assert_array_equal(again[name], value)
    written = json.loads((back / "config.json").read_text())
    assert written.pop("architectures") == ["Speech2TextForConditionalGeneration"]
    assert written == {k: v for k, v in about["config"].items() if k != "architectures"}
