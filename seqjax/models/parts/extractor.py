"""From samples to frames: waveforms [B, N] in, features [B, T, C] out, and which of them are real.

Linen modules here own parameters, by fairseq's names. Letters beside the usual ones: N samples,
T frames, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.parts import first_block
from seqjax.models.parts.audio_config import ConvLayer, frame_count
from seqjax.models.parts.backend import on_cpu
from seqjax.models.parts.convolutions import Convolution, folds
from seqjax.models.parts.first_block import EPS
from seqjax.models.parts.gelu import gelu
from seqjax.models.parts.layers import LayerNorm


class FeatureExtractor(nn.Module):
    """fairseq's `ConvFeatureExtractionModel`: convolutions over samples."""

    layers: tuple[ConvLayer, ...]
    mode: str
    """`default`: a group norm of single channels behind the first convolution, over all frames
    of a row; `layer_norm`: a layer norm behind each."""
    bias: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, samples: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
        """[B, T, C] for `samples` [B, N]; as many frames as `frame_count` says.

        Args:
          lengths: [B] int32, samples of each row that the statistics of a group norm are of
            (None: all).
        """
        frames = frame_count(samples.shape[1], self.layers)
        first = frame_count(samples.shape[1], self.layers[:1])
        counted = jnp.full(len(samples), first) if lengths is None else (
            frame_count(lengths, self.layers[:1]))
        folded = on_cpu() and all(folds(x.width, x.stride) for x in self.layers[1:])
        if folded:
            samples = _whole(samples, self.layers)
        samples = samples.astype(self.dtype)
        x: Any = samples[..., None]
        for i, layer in enumerate(self.layers):
            convolution, norm = self._convolution(i, layer), self._norm(i, layer)
            if folded and isinstance(norm, ChannelNorm) and convolution.plain:
                weights = {"kernel": convolution.kernel, "scale": norm.scale, "bias": norm.bias}
                x = first_block.in_pieces(samples, weights, counted, layer.stride)
                continue
            x = convolution(x, folded=folded and i > 0)
            if isinstance(norm, ChannelNorm):
                x = norm(x, counted)
            elif norm is not None:
                x = norm(x)
            x = gelu(x)
        return x[:, :frames]

    def _convolution(self, i: int, layer: ConvLayer) -> Convolution:
        inputs = 1 if i == 0 else self.layers[i - 1].channels
        return Convolution(
            inputs, layer.channels, layer.width, bias=self.bias, stride=layer.stride,
            kernel_init=nn.initializers.normal((2.0 / (layer.width * inputs)) ** 0.5),
            dtype=self.dtype, name=f"conv_layers_{i}_0")

    def _norm(self, i: int, layer: ConvLayer) -> LayerNorm | ChannelNorm | None:
        if self.mode == "layer_norm":
            return LayerNorm(layer.channels, EPS, name=f"conv_layers_{i}_2_1")
        return ChannelNorm(layer.channels, name=f"conv_layers_{i}_2") if i == 0 else None


class ChannelNorm(nn.Module):
    """The parameters of `first_block.channel_norm`."""

    channels: int

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones_init(), (self.channels,))
        self.bias = self.param("bias", nn.initializers.zeros_init(), (self.channels,))

    def __call__(self, x: jax.Array, counted: jax.Array) -> jax.Array:
        return first_block.channel_norm(x, self.scale, self.bias, counted)


def _whole(samples: jax.Array, layers: tuple[ConvLayer, ...]) -> jax.Array:
    """Samples with as many zeros behind them that every convolution but the first reads whole
    strides; or without the last ones, which no frame is made of. What real frames see is the
    same."""
    multiple = math.prod(layer.stride for layer in layers[1:])
    count = frame_count(samples.shape[1], layers[:1])
    wanted = (-(-count // multiple) * multiple - 1) * layers[0].stride + layers[0].width
    return jnp.pad(samples[:, :wanted], ((0, 0), (0, max(0, wanted - samples.shape[1]))))


def frame_mask(real: jax.Array, layers: tuple[ConvLayer, ...]) -> jax.Array:
    """[B, T] bool: frames that see nothing but real samples, by wav2vec 2.0's rule.

    fairseq attends to all frames of a row that is too short for one; here it has none.

    Args:
      real: [B, N] bool, the real samples, padding behind them.
    """
    frames = frame_count(real.shape[1], layers)
    lengths = frame_count(real.sum(axis=1, dtype=jnp.int32), layers)
    return jnp.arange(frames) < lengths[:, None]
