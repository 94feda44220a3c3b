"""Who owns the parameters of convolutional encoders and decoders: sizes in, arrays by fairseq's
names out. A module here makes its parameters when it is called; `layers.py` computes with them."""

from __future__ import annotations

import jax
from flax import linen as nn

from seqjax.models.fconv.config import ConvSpec
from seqjax.models.fconv.layers import length
from seqjax.models.parts.initializers import fan_in_uniform
from seqjax.models.parts.layers import Embedding
from seqjax.models.parts.module_model import PAD
from seqjax.models.parts.prepared_model import adaptive_softmax


class WeightNorm(nn.Module):
    """A weight-normalised linear map [in, out] or convolution [width, in, out]."""

    shape: tuple[int, ...]
    std: float

    @nn.compact
    def __call__(self) -> None:
        direction = self.param("weight_v", nn.initializers.normal(self.std), self.shape)
        self.param("weight_g", lambda key: length(direction))
        self.param("bias", nn.initializers.zeros_init(), self.shape[-1:])


class Bias(nn.Module):
    """What is left of torch's `Linear` [in, out] whose weight is an embedding."""

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("bias", fan_in_uniform(self.inputs), (self.outputs,))


def dense(inputs: int, outputs: int, name: str, *, dropout: float = 0.0) -> None:
    """Makes a linear map of the module that is being called; `dropout` is that of its input."""
    WeightNorm((inputs, outputs), ((1 - dropout) / inputs) ** 0.5, name=name)()


def convolution(inputs: int, spec: ConvSpec, name: str, *, dropout: float) -> None:
    """Likewise a layer's convolution, whose outputs are gated."""
    std = (4 * (1 - dropout) / (spec.width * inputs)) ** 0.5
    WeightNorm((spec.width, inputs, 2 * spec.channels), std, name=name)()


def embedding(rows: int, dim: int, name: str) -> None:
    """Likewise an embedding."""
    Embedding(rows, dim, PAD, nn.initializers.normal(0.1), name=name).weights()


class Attention(nn.Module):
    """fairseq's `AttentionLayer`."""

    channels: int
    embed_dim: int

    @nn.compact
    def __call__(self) -> None:
        dense(self.channels, self.embed_dim, "in_projection")
        dense(self.embed_dim, self.channels, "out_projection")


class Side(nn.Module):
    """fairseq's `FConvEncoder` or `FConvDecoder`."""

    layers: tuple[ConvSpec, ...]
    embed_dim: int
    vocab_size: int
    dropout: float
    out: int | None
    """Outputs of `fc2` (None: an adaptive softmax stands on the last layer)."""
    positions: int = 0
    """Rows of the embedding of positions; 0 without."""
    attending: tuple[bool, ...] = ()
    """Which layers attend to the source; none by default."""
    output_size: int | None = None
    """Outputs of `fc3`; None without."""
    tied: bool = False
    """Whether the weight of `fc3` is the embedding."""
    output_ends: tuple[int, ...] | None = None
    """Ends of the clusters of an adaptive softmax."""

    @nn.compact
    def __call__(self) -> None:
        embedding(self.vocab_size, self.embed_dim, "embed_tokens")
        if self.positions:
            embedding(self.positions, self.embed_dim, "embed_positions")
        channels = [self.layers[0].channels]
        dense(self.embed_dim, channels[0], "fc1", dropout=self.dropout)
        for i, spec in enumerate(self.layers):
            residual = channels[-spec.residual] if spec.residual else spec.channels
            if residual != spec.channels:
                dense(residual, spec.channels, f"projections_{i}")
            convolution(channels[-1], spec, f"convolutions_{i}", dropout=self.dropout)
            if any(self.attending[i : i + 1]):
                Attention(spec.channels, self.embed_dim, name=f"attention_{i}")()
            channels.append(spec.channels)
        if self.out is not None:
            dense(channels[-1], self.out, "fc2")
            self._output(self.out)
        if self.output_ends is not None:
            adaptive_softmax(channels[-1], self.output_ends)()

    def _output(self, inputs: int) -> None:
        if self.output_size is None:
            return
        if self.tied:
            Bias(inputs, self.output_size, name="fc3")()
        else:
            dense(inputs, self.output_size, "fc3", dropout=self.dropout)
