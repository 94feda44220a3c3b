"""Parameters and forward passes of wav2vec 2.0: from samples to states, and from states and
targets to the scores of each masked frame's candidates."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.parts import audio, decoder_layer
from seqjax.models.parts.attention import MultiheadAttention
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.layers import LayerNorm, Linear, dropout, dropout_key
from seqjax.models.parts.stack import stack
from seqjax.models.wav2vec2.config import Wav2Vec2Config


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, pre- or post-norm."""

    config: Wav2Vec2Config
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        cfg, dim = self.config, self.config.encoder_embed_dim
        form = decoder_layer.LayerForm(
            pre_norm=cfg.layer_norm_first, activation=cfg.activation_fn, dropout=cfg.dropout,
            activation_dropout=cfg.activation_dropout, layerdrop=cfg.encoder_layerdrop)
        attention = MultiheadAttention(
            dim, cfg.encoder_attention_heads, dropout=cfg.attention_dropout, dtype=self.dtype,
            name="self_attn")
        w = decoder_layer.parameters(form, width=dim, inner=cfg.encoder_ffn_embed_dim)
        x, _ = decoder_layer.layer(
            w, x, form=form, mix=lambda y: attention(y, None, mask)[0],
            key=lambda: dropout_key(self))
        return x, None


class TransformerEncoder(nn.Module):
    """fairseq's: positions by convolution, then the layers."""

    config: Wav2Vec2Config
    dtype: DTypeLike

    def setup(self) -> None:
        cfg, dim = self.config, self.config.encoder_embed_dim
        if cfg.pos_conv_depth > 1:
            self.pos_conv = audio.PositionalConvolutions(
                dim, cfg.conv_pos, cfg.conv_pos_groups, cfg.pos_conv_depth, self.dtype)
        else:
            self.pos_conv = audio.PositionalConvolution(
                dim, cfg.conv_pos, cfg.conv_pos_groups, self.dtype)
        self.layers = stack(EncoderLayer, cfg, length=cfg.encoder_layers, inputs=1)(
            cfg, self.dtype)
        self.layer_norm = LayerNorm(dim)

    def __call__(self, x: jax.Array, real: jax.Array) -> jax.Array:
        """States [B, T, D] for `x` [B, T, D], of which `real` [B, T] are no padding."""
        cfg, frames = self.config, x.shape[1]
        x = jnp.where(real[..., None], x, 0)
        x = x + self.pos_conv(x)
        if not cfg.layer_norm_first:
            x = self.layer_norm(x)
        extra = -frames % cfg.required_seq_len_multiple
        x = jnp.pad(x, ((0, 0), (0, extra), (0, 0)))
        seen = jnp.pad(real, ((0, 0), (0, extra)))
        x = dropout(x, cfg.dropout, dropout_key(self))
        x, _ = self.layers(x, seen[:, None, None, :])
        x = x[:, :frames]
        return self.layer_norm(x) if cfg.layer_norm_first else x


class Wav2Vec2(nn.Module):
    """fairseq's `Wav2Vec2Model`."""

    config: Wav2Vec2Config
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        cfg, dim = self.config, self.config.encoder_embed_dim
        self.feature_extractor = audio.FeatureExtractor(
            cfg.conv_layers, cfg.extractor_mode, cfg.conv_bias, self.dtype)
        if cfg.feature_dim != dim and not cfg.quantize_input:
            self.post_extract_proj = self._linear(cfg.feature_dim, dim)
        if cfg.quantize_targets:
            self.quantizer = self._quantizer(cfg.target_code_dim)
        self.project_q = self._linear(
            cfg.target_code_dim if cfg.quantize_targets else cfg.feature_dim, cfg.comparison_dim)
        if cfg.quantize_input:
            if not cfg.shares_quantizer:
                self.input_quantizer = self._quantizer(cfg.input_code_dim)
            self.project_inp = self._linear(cfg.input_code_dim, dim)
        self.mask_emb = self.param("mask_emb", nn.initializers.uniform(1.0), (dim,))
        self.encoder = TransformerEncoder(cfg, self.dtype)
        self.layer_norm = LayerNorm(cfg.feature_dim)
        if cfg.target_glu:
            self.target_glu = self._linear(cfg.comparison_dim, 2 * cfg.comparison_dim)
        self.final_proj = self._linear(dim, cfg.comparison_dim)

    def _linear(self, width: int, features: int) -> Linear:
        return Linear(width, features, dtype=self.dtype)

    def _quantizer(self, vq_dim: int) -> audio.GumbelVectorQuantizer:
        cfg = self.config
        return audio.GumbelVectorQuantizer(
            cfg.feature_dim, cfg.latent_vars, cfg.latent_groups, vq_dim, cfg.latent_temp,
            cfg.quantizer_depth, cfg.quantizer_factor, self.dtype)

    def _drop(self, x: jax.Array, rate: float) -> jax.Array:
        return dropout(x, rate, dropout_key(self))

    def _noise(self) -> jax.Array | None:
        return self.make_rng("gumbel") if self.has_rng("gumbel") else None

    def states(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, update: jax.Array | None
    ) -> dict[str, Any]:
        """`x` [B, T, D] and the mask `real` [B, T] of frames; `features` [B, T, C] that targets
        are made of; `features_pen`, their mean square; `quantized` inputs, if they are."""
        cfg = self.config
        features = audio.scale_gradient(self.feature_extractor(samples), cfg.feature_grad_mult)
        penalty = _mean_square(features, real.any(axis=1))
        features = self.layer_norm(features)
        frames = features.shape[1] - features.shape[1] % cfg.crop_seq_to_multiple
        features = features[:, :frames]
        real = audio.frame_mask(real, cfg.conv_layers)[:, :frames]
        x, quantized = features, None
        if cfg.feature_dim != cfg.encoder_embed_dim and not cfg.quantize_input:
            x = self.post_extract_proj(x)
        x = self._drop(x, cfg.dropout_input)
        features = self._drop(features, cfg.dropout_features)
        if cfg.quantize_input:
            quantizer = self.quantizer if cfg.shares_quantizer else self.input_quantizer
            quantized = quantizer(x, _counted(real), rng=self._noise(), update=update)
            x = self.project_inp(quantized.vectors)
        x = audio.apply_masks(
            x, self.mask_emb, frames=drawn.mask, channels=drawn.channels,
            channels_first=cfg.mask_channel_before)
        x = self.encoder(x, real)
        return {"x": x, "real": real, "features": features, "features_pen": penalty,
                "quantized": quantized}

    def pretrain(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, update: jax.Array | None
    ) -> dict[str, jax.Array]:
        """See `Wav2Vec2Model.pretrain`."""
        cfg = self.config
        found = self.states(samples, real, drawn, update)
        assert drawn.mask is not None and drawn.negatives is not None
        rows, count = drawn.mask.shape[0], drawn.negatives.shape[1] // cfg.negatives
        at, masked = audio.masked_positions(drawn.mask, count)
        masked = masked & jnp.take_along_axis(found["real"], at, axis=1)

        def pick(a: jax.Array) -> jax.Array:
            return jnp.take_along_axis(a, at[..., None], axis=1)

        everywhere = cfg.negatives_from_everywhere
        pool = found["features"] if everywhere else pick(found["features"])
        counted = _counted(found["real"]) if everywhere else masked
        quantized = found["quantized"]
        if cfg.quantize_targets:
            quantized = self.quantizer(
                pool, counted, rng=self._noise(), update=update)
            pool, codes = quantized.vectors, quantized.codes
        else:
            codes = pool
        pool = self._target(pool)
        target, own = (pick(pool), pick(codes)) if everywhere else (pool, codes)
        place = jnp.arange(rows)[:, None] * pool.shape[1] + (
            at if everywhere else jnp.arange(count))
        numbers = drawn.negatives.reshape(rows, count, cfg.negatives)

        def others(a: jax.Array) -> jax.Array:
            return a.reshape(-1, a.shape[-1])[numbers]

        # A frame is the same as itself, however its values are rounded in two places.
        same = (others(codes) == own[:, :, None]).all(-1) | (numbers == place[..., None])
        negatives = others(pool)
        if cfg.codebook_negatives:
            more, codes = self._from_codebook(drawn)
            negatives = jnp.concatenate([negatives, more], axis=2)
            same = jnp.concatenate([same, (codes == own[:, :, None]).all(-1)], axis=2)
        logits = _cosines(self.final_proj(pick(found["x"])), target, negatives) / cfg.logit_temp
        logits = logits.at[..., 1:].set(jnp.where(same, -jnp.inf, logits[..., 1:]))
        result = {"logits": logits, "masked": masked, "real": found["real"],
                  "features_pen": found["features_pen"]}
        if quantized is not None:
            result |= {
                "prob_perplexity": quantized.prob_perplexity,
                "code_perplexity": quantized.code_perplexity, "temp": quantized.temp,
                "num_vars": jnp.float32(cfg.latent_vars * cfg.latent_groups)}
        return result

    def _target(self, x: jax.Array) -> jax.Array:
        """What frames are compared with, of (quantized) features [..., C]."""
        x = self.project_q(x)
        if not self.config.target_glu:
            return x
        value, gate = jnp.split(self.target_glu(x), 2, axis=-1)
        return value * jax.nn.sigmoid(gate)

    def _from_codebook(self, drawn: Drawn) -> tuple[jax.Array, jax.Array]:
        """Targets [B, M, n, final_dim] of the combinations drawn, and their codes."""
        cfg = self.config
        assert drawn.codebook_negatives is not None
        codes = audio.joined_codes(
            drawn.codebook_negatives, entries=cfg.latent_vars, groups=cfg.latent_groups)
        return self._target(self.quantizer.lookup(codes)), codes

    def __call__(self, samples: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        real = jnp.ones(samples.shape, bool)
        found = self.states(samples, real, Drawn(), None)
        features = found["features"]
        if self.config.quantize_targets:
            features = self.quantizer(features).vectors
        return self.final_proj(found["x"]).sum() + self._target(features).sum() + (
            self.mask_emb.sum())


def _counted(real: jax.Array) -> jax.Array:
    """Frames that perplexities are of where not only masked ones are quantized: as in fairseq
    padding's too, but not rows that are nothing else."""
    return jnp.broadcast_to(real.any(axis=1, keepdims=True), real.shape)


def _mean_square(features: jax.Array, rows: jax.Array) -> jax.Array:
    """Of features [B, T, C], padding's as in fairseq, but of no row that is nothing else.

    Args:
      rows: [B] bool, rows that hold a sample.
    """
    each = jnp.square(features.astype(jnp.float32)).mean(axis=(1, 2))
    return jnp.where(rows, each, 0).sum() / jnp.maximum(rows.sum(), 1)


def _cosines(x: jax.Array, target: jax.Array, negatives: jax.Array) -> jax.Array:
    """Float32 [B, M, 1 + K]: of `x` [B, M, C] with its target [B, M, C] and with its negatives
    [B, M, K, C]."""
    x, target, negatives = (_unit(a) for a in (x, target, negatives))
    others = jnp.einsum("bmc,bmkc->bmk", x, negatives)
    return jnp.concatenate([(x * target).sum(-1, keepdims=True), others], axis=-1)


def _unit(x: jax.Array) -> jax.Array:
    """`x` [..., C] in float32, divided by its length or by 1e-8."""
    wide = x.astype(jnp.float32)
    return wide * jax.lax.rsqrt(jnp.maximum((wide * wide).sum(-1, keepdims=True), 1e-16))
