"""Parameters and forward passes of models that are fine-tuned from an encoder of waveforms: from
samples to the states that a projection or a decoder reads."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.finetuning.config import FinetuneKeys
from seqjax.models.parts import audio
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_encoder import WaveformEncoder
from seqjax.models.parts.block_frames import block_mask
from seqjax.models.parts.initializers import xavier_uniform
from seqjax.models.parts.layers import Linear, dropout, dropout_key


class BlockEncoder(WaveformEncoder):
    """An encoder with HuBERT's rule of which frames are real."""

    def _frames(self, real: jax.Array, frames: int, alone: bool) -> jax.Array:
        if alone:
            return super()._frames(real, frames, alone)
        return block_mask(real, frames, self.config.conv_layers)


class FinetunedEncoder(nn.Module):
    """fairseq's `Wav2VecEncoder` and `HubertEncoder`."""

    config: FinetuneKeys
    blocks: bool
    """Whether frames are real by HuBERT's rule."""
    features: int | None
    """What the states are projected to (None: they are not)."""
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        encoder = BlockEncoder if self.blocks else WaveformEncoder
        self.w2v_model = encoder(self.config, self.dtype)
        if self.features is not None:
            self.proj = Linear(
                self.config.encoder_embed_dim, self.features, kernel_init=xavier_uniform(),
                bias_init=nn.initializers.zeros_init(), dtype=self.dtype)

    def encode(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, *,
        update: jax.Array | None = None, alone: bool = False, final_norm: bool = True,
    ) -> tuple[jax.Array, jax.Array]:
        """States in front of the projection, and which frames are real."""
        x, frames = self.w2v_model.encode(
            samples, real, drawn, alone=alone, final_norm=final_norm)
        frozen = self.config.freeze_finetune_updates
        if frozen and update is not None:
            x = audio.scale_gradient_by(x, (update >= frozen).astype(jnp.float32))
        return dropout(x, self.config.final_dropout, dropout_key(self)), frames

    def hidden(
        self, samples: jax.Array, real: jax.Array, *, alone: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """See `WaveformEncoder.hidden`."""
        return self.w2v_model.hidden(samples, real, alone=alone)

    def projected(self, states: jax.Array) -> jax.Array:
        """`states`, or what the projection makes of them."""
        return states if self.features is None else self.proj(states)

    def touched(self, samples: jax.Array) -> jax.Array:
        """Every parameter (for initialisation)."""
        x, _ = self.encode(samples, jnp.ones(samples.shape, bool), Drawn())
        return self.projected(x).sum() + self.w2v_model.mask_emb.sum()


class Ctc(nn.Module):
    """fairseq's `Wav2VecCtc` and `HubertCtc`."""

    config: FinetuneKeys
    blocks: bool
    symbols: int
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.w2v_encoder = FinetunedEncoder(self.config, self.blocks, self.symbols, self.dtype)

    def encode(self, *inputs: Any, **options: Any) -> tuple[jax.Array, jax.Array]:
        return self.w2v_encoder.encode(*inputs, **options)

    def hidden(self, *inputs: Any, **options: Any) -> tuple[jax.Array, jax.Array]:
        return self.w2v_encoder.hidden(*inputs, **options)

    def __call__(self, samples: jax.Array) -> jax.Array:
        return self.w2v_encoder.touched(samples)
