"""The encoder that wav2vec 2.0, HuBERT and data2vec have in common: samples to features, features
to states of a transformer.

Waveforms [B, N] and which samples are real come in; features, states and the mask of frames go
out. Linen modules here own parameters, by fairseq's names; what a family is trained for is its
own. Letters beside the usual ones: N samples, T frames, C channels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike

from seqjax.models.parts import audio, decoder_layer
from seqjax.models.parts.attention import MultiheadAttention
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_config import frame_count
from seqjax.models.parts.audio_encoder_config import ADAPTED, EncoderKeys
from seqjax.models.parts.convolutions import Convolution
from seqjax.models.parts.extractor import FeatureExtractor, frame_mask
from seqjax.models.parts.gelu import gelu
from seqjax.models.parts.initializers import uniform
from seqjax.models.parts.layers import (
    EPS,
    LayerNorm,
    Linear,
    dropout,
    dropout_key,
    layer_norm,
)
from seqjax.models.parts.stack import Layer, hidden_states, stack

ADAPTER_ACTIVATIONS = {"relu": jax.nn.relu, "gelu": gelu, "selu": jax.nn.selu}


@struct.dataclass
class Hearing:
    """What stands in front of the transformer."""

    features: jax.Array
    """[B, T, C], normed: what targets are made of."""
    x: jax.Array
    """[B, T, D]: what the transformer is to read, before masks."""
    real: jax.Array
    """[B, T] bool: frames that are no padding."""
    penalty: jax.Array
    """Float32 scalar: mean square of the features before their norm, padding's too, as
    fairseq's, but not of rows that are nothing else, nor behind the longest row."""


class Adapter(nn.Module):
    """fairseq's `AdapterFast`: networks of several languages, of which the first is used."""

    count: int
    width: int
    inner: int
    activation: str
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, d, h = self.count, self.width, self.inner
        w_a = self.param("W_a", uniform(d**-0.5), (n, h, d))
        w_b = self.param("W_b", uniform(h**-0.5), (n, d, h))
        b_a = self.param("b_a", uniform(d**-0.5), (n, h))
        b_b = self.param("b_b", uniform(h**-0.5), (n, d))
        scale = self.param("ln_W", nn.initializers.ones_init(), (n, d))
        bias = self.param("ln_b", nn.initializers.zeros_init(), (n, d))
        y = layer_norm(x, scale[0], bias[0], EPS).astype(self.dtype)
        y = y @ w_a[0].T.astype(self.dtype) + b_a[0].astype(self.dtype)
        y = ADAPTER_ACTIVATIONS[self.activation](y)
        return y @ w_b[0].T.astype(self.dtype) + b_b[0].astype(self.dtype)


class EncoderLayer(Layer):
    """Self-attention and feed-forward, pre- or post-norm, and an adapter behind both."""

    config: EncoderKeys
    dtype: DTypeLike

    @nn.compact
    def _both(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        cfg, dim = self.config, self.config.encoder_embed_dim
        form = decoder_layer.LayerForm(
            pre_norm=cfg.layer_norm_first, activation=cfg.activation_fn, dropout=cfg.dropout,
            activation_dropout=cfg.activation_dropout, layerdrop=cfg.encoder_layerdrop)
        attention = MultiheadAttention(
            dim, cfg.encoder_attention_heads, dropout=cfg.attention_dropout, dtype=self.dtype,
            name="self_attn")
        w = decoder_layer.parameters(form, width=dim, inner=cfg.encoder_ffn_embed_dim)
        adapter = None
        if cfg.layer_type == ADAPTED:
            adapter = Adapter(cfg.adp_num, dim, cfg.adp_dim, cfg.adp_act_fn, self.dtype,
                              name="adapter_layer")
        said: list[jax.Array] = []
        x, _ = decoder_layer.layer(
            w, x, form=form, mix=lambda y: attention.without_probabilities(y, mask),
            key=lambda: dropout_key(self), tell=said.append,
            last=None if adapter is None else lambda x: x + adapter(x))
        return x, said[0]

    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        return self._both(x, mask)[0], None

    def told(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Its output, and what its feed-forward network says before that is added."""
        return self._both(x, mask)


STATISTICS = ("running_mean", "running_var")
"""Of a batch norm: names of what is kept among the parameters, but is not learned."""


class NormedPositions(nn.Module):
    """A grouped convolution over frames in place of position embeddings, with a batch norm in front
    of it in place of weight norm. Its statistics are those that pretraining left, and stay: they
    are kept among the parameters, and have no gradient."""

    dim: int
    width: int
    groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, real: jax.Array | None = None) -> jax.Array:
        """As many frames as `x` [B, T, D] has; `real` [B, T] bool: frames behind which the
        convolution reads zeros, as if the row ended there (None: what the norm makes of them)."""
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
        scale = self.param("scale", ones, (self.dim,))
        bias = self.param("shift", zeros, (self.dim,))
        mean = jax.lax.stop_gradient(self.param(STATISTICS[0], zeros, (self.dim,)))
        variance = jax.lax.stop_gradient(self.param(STATISTICS[1], ones, (self.dim,)))
        normed = (x.astype(jnp.float32) - mean) * jax.lax.rsqrt(variance + EPS) * scale + bias
        normed = normed if real is None else jnp.where(real[..., None], normed, 0)
        begun = nn.initializers.normal((4.0 / (self.width * self.dim)) ** 0.5)
        y = Convolution(
            self.dim, self.dim, self.width, groups=self.groups, padding=self.width // 2,
            kernel_init=begun, dtype=self.dtype, name="conv")(normed)
        return gelu(y[:, : x.shape[1]])


class TransformerEncoder(nn.Module):
    """fairseq's: positions by convolution, then the layers."""

    config: EncoderKeys
    dtype: DTypeLike

    def setup(self) -> None:
        cfg, dim = self.config, self.config.encoder_embed_dim
        if cfg.pos_conv_depth > 1:
            self.pos_conv = audio.PositionalConvolutions(
                dim, cfg.conv_pos, cfg.conv_pos_groups, cfg.pos_conv_depth, self.dtype)
        elif cfg.conv_pos_batch_norm:
            self.pos_conv = NormedPositions(
                dim, cfg.conv_pos, cfg.conv_pos_groups, self.dtype)
        else:
            self.pos_conv = audio.PositionalConvolution(
                dim, cfg.conv_pos, cfg.conv_pos_groups, self.dtype)
        self.layers = stack(
            EncoderLayer, cfg, length=cfg.encoder_layers, inputs=1, methods=("told",))(  # type: ignore[arg-type]
            cfg, self.dtype)
        self.layer_norm = LayerNorm(dim)

    def __call__(
        self, x: jax.Array, real: jax.Array, *, alone: bool = False, final_norm: bool = True
    ) -> jax.Array:
        """States [B, T, D] for `x` [B, T, D], of which `real` [B, T] are no padding.

        Args:
          final_norm: with the norm behind the layers, of encoders that have one there.
          alone: nothing of a row depends on its padding (of several convolutions for positions,
            fairseq's read in padding what the one before made of the row's end).
        """
        x, mask, frames = self._entered(x, real, alone)
        x, _ = self.layers(x, mask)
        x = x[:, :frames]
        return self.layer_norm(x) if self.config.layer_norm_first and final_norm else x

    def hidden(self, x: jax.Array, real: jax.Array, *, alone: bool = False) -> jax.Array:
        """[L + 1, B, T, D]: what the first layer reads, and every layer's output, without the
        norm behind the last."""
        x, mask, frames = self._entered(x, real, alone)
        return hidden_states(self.layers, x, mask)[:, :, :frames]

    def told(self, x: jax.Array, real: jax.Array) -> jax.Array:
        """[L, B, T, D]: what each layer's feed-forward network says."""
        x, mask, frames = self._entered(x, real, False)
        return self.layers.told(x, mask)[1][:, :, :frames]

    def _entered(
        self, x: jax.Array, real: jax.Array, alone: bool
    ) -> tuple[jax.Array, jax.Array, int]:
        """What the first layer reads, its mask, and the frames without those added."""
        cfg, frames = self.config, x.shape[1]
        x = jnp.where(real[..., None], x, 0)
        if alone and (cfg.pos_conv_depth > 1 or cfg.conv_pos_batch_norm):
            x = x + self.pos_conv(x, real)  # type: ignore[call-arg]
        else:
            x = x + self.pos_conv(x)
        if not cfg.layer_norm_first:
            x = self.layer_norm(x)
        extra = -frames % cfg.required_seq_len_multiple
        x = jnp.pad(x, ((0, 0), (0, extra), (0, 0)))
        seen = jnp.pad(real, ((0, 0), (0, extra)))
        x = dropout(x, cfg.dropout, dropout_key(self))
        return x, seen[:, None, None, :], frames


class WaveformEncoder(nn.Module):
    """The parameters of all models of waveforms, and the way from samples to states. Families
    add what they are trained with."""

    config: EncoderKeys
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        cfg, dim = self.config, self.config.encoder_embed_dim
        self.feature_extractor = FeatureExtractor(
            cfg.conv_layers, cfg.extractor_mode, cfg.conv_bias, self.dtype)
        if cfg.has_projection:
            self.post_extract_proj = self._linear(cfg.feature_dim, dim)
        self.mask_emb = self.param("mask_emb", nn.initializers.uniform(1.0), (dim,))
        self.encoder = TransformerEncoder(cfg, self.dtype)
        self.layer_norm = LayerNorm(cfg.feature_dim)

    def _linear(self, width: int, features: int) -> Linear:
        return Linear(width, features, dtype=self.dtype)

    def _drop(self, x: jax.Array, rate: float) -> jax.Array:
        return dropout(x, rate, dropout_key(self))

    def _frames(self, real: jax.Array, frames: int, alone: bool) -> jax.Array:
        """[B, frames] bool: which frames of `real` [B, N] samples are no padding."""
        del alone
        return frame_mask(real, self.config.conv_layers)[:, :frames]

    def heard(
        self, samples: jax.Array, real: jax.Array, *, limit: int | None = None,
        alone: bool = False,
    ) -> Hearing:
        """From samples [B, N], of which `real` [B, N] are no padding, to what is in front of the
        transformer.

        Args:
          limit: frames at most; the rest is left out.
          alone: as if each row were a batch by itself, without padding.
        """
        cfg = self.config
        lengths = real.sum(axis=1, dtype=jnp.int32)
        seen = lengths if alone else jnp.broadcast_to(lengths.max(), lengths.shape)
        features = audio.scale_gradient(
            self.feature_extractor(samples, seen), cfg.feature_grad_mult)
        frames = features.shape[1] if limit is None else limit
        features = features[:, :frames]
        within = jnp.arange(frames) < frame_count(seen, cfg.conv_layers)[:, None]
        penalty = _mean_square(features, within & real.any(axis=1, keepdims=True))
        features = self.layer_norm(features)
        x = self.post_extract_proj(features) if cfg.has_projection else features
        return Hearing(features=features, x=x, penalty=penalty,
                       real=self._frames(real, frames, alone))

    def masked(self, x: jax.Array, drawn: Drawn) -> jax.Array:
        """`x` [B, T, D] with the frames and channels masked that were drawn."""
        return audio.apply_masks(
            x, self.mask_emb, frames=drawn.mask, channels=drawn.channels,
            channels_first=self.config.mask_channel_before)

    def _read(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, *,
        update: jax.Array | None = None, alone: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """What the transformer reads, and which frames are real."""
        del update
        found = self.heard(samples, real, alone=alone)
        x = self._drop(found.x, self.config.dropout_input)
        return self.masked(x, drawn), found.real

    def encode(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, *,
        update: jax.Array | None = None, alone: bool = False, final_norm: bool = True,
    ) -> tuple[jax.Array, jax.Array]:
        """The last states [B, T, D], and which frames [B, T] are real."""
        x, frames = self._read(samples, real, drawn, update=update, alone=alone)
        return self.encoder(x, frames, alone=alone, final_norm=final_norm), frames

    def hidden(
        self, samples: jax.Array, real: jax.Array, *, alone: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """The states of every layer [L + 1, B, T, D], and which frames are real."""
        x, frames = self._read(samples, real, Drawn(), alone=alone)
        return self.encoder.hidden(x, frames, alone=alone), frames


def _mean_square(features: jax.Array, counted: jax.Array) -> jax.Array:
    """Of the frames `counted` [B, T] of features [B, T, C]."""
    each = jnp.square(features.astype(jnp.float32)).mean(axis=-1)
    return jnp.where(counted, each, 0).sum() / jnp.maximum(counted.sum(), 1)
