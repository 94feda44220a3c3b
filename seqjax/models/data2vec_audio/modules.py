"""Parameters and forward passes of data2vec for waveforms: from samples to states, from a teacher's
layers to what masked frames should have been."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from seqjax.models.data2vec_audio.config import Data2VecAudioConfig
from seqjax.models.parts.audio import EPS, Drawn
from seqjax.models.parts.audio_config import frame_count
from seqjax.models.parts.audio_encoder import TransformerEncoder, WaveformEncoder
from seqjax.models.protocol import Params


class Data2VecAudio(WaveformEncoder):
    """fairseq's `Data2VecAudioModel`."""

    config: Data2VecAudioConfig  # type: ignore[assignment]

    def setup(self) -> None:
        super().setup()
        if self.config.pretraining_heads:
            width = self.config.encoder_embed_dim
            self.final_proj = self._linear(width, width)

    def pretrain(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, teacher: Params, *,
        update: jax.Array | None = None,
    ) -> dict[str, Any]:
        """See `Data2VecAudioModel.pretrain`."""
        del update
        cfg = self.config
        found = self.heard(samples, real)
        x = self.masked(self._drop(found.x, cfg.dropout_input), drawn)
        x = self.final_proj(self.encoder(x, found.real)).astype(jnp.float32)
        # As far as fairseq's batch would go, padding of shorter rows included.
        longest = frame_count(real.sum(axis=1).max(), cfg.conv_layers)
        within = jnp.arange(x.shape[1]) < longest
        told: Any = TransformerEncoder(cfg, self.dtype, parent=None).apply(
            {"params": teacher}, jax.lax.stop_gradient(found.x), found.real, method="told")
        y = jax.lax.stop_gradient(targets(cfg, told[-cfg.average_top_k_layers:], within))
        assert drawn.mask is not None
        masked = jnp.asarray(drawn.mask)
        apart = _distance(x, y, cfg.loss_beta).sum(axis=-1)
        scale = cfg.encoder_embed_dim**-0.5 if cfg.loss_scale is None else cfg.loss_scale
        return {
            "losses": {"regression": jnp.where(masked, apart, 0).sum() * scale},
            "sample_size": masked.sum(dtype=jnp.float32), "real": found.real,
            "target_var": _deviation(y, masked),
            "pred_var": _deviation(jax.lax.stop_gradient(x), masked)}

    def __call__(self, samples: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        states, _ = self.encode(samples, jnp.ones(samples.shape, bool), Drawn())
        if self.config.pretraining_heads:
            states = self.final_proj(states)
        return states.sum() + self.mask_emb.sum()


def targets(cfg: Data2VecAudioConfig, told: jax.Array, within: jax.Array) -> jax.Array:
    """Float32 [B, T, D]: the mean of layers [K, B, T, D], normed as the configuration says.

    Args:
      within: [T] bool, frames that norms over frames are of, padding's of shorter rows too.
    """
    told = told.astype(jnp.float32)
    if cfg.batch_norm_target_layer:
        told = _normed(told, within, axes=(1, 2))
    if cfg.instance_norm_target_layer:
        told = _normed(told, within, axes=(2,))
    if cfg.layer_norm_target_layer:
        told = _normed(told, None, axes=(3,))
    y = told.mean(axis=0)
    if cfg.layer_norm_targets:
        y = _normed(y, None, axes=(2,))
    if cfg.instance_norm_targets:
        y = _normed(y, within, axes=(1,))
    return y


def _normed(x: jax.Array, within: jax.Array | None, *, axes: tuple[int, ...]) -> jax.Array:
    """`x` with mean 0 and variance 1 over `axes`, of the frames `within` where there are any."""
    weights = jnp.ones((1,) * x.ndim) if within is None else within[:, None].astype(x.dtype)
    weights = jnp.broadcast_to(weights, x.shape)
    count = weights.sum(axes, keepdims=True)
    centred = x - (x * weights).sum(axes, keepdims=True) / count
    variance = (centred * centred * weights).sum(axes, keepdims=True) / count
    return centred * jax.lax.rsqrt(variance + EPS)


def _distance(x: jax.Array, y: jax.Array, beta: float) -> jax.Array:
    """Of each number: squared, or torch's smooth L1 with a `beta` above 0."""
    apart = jnp.abs(x - y)
    if beta == 0:
        return apart * apart
    return jnp.where(apart < beta, apart * apart / (2 * beta), apart - beta / 2)


def _deviation(x: jax.Array, masked: jax.Array) -> jax.Array:
    """The mean over channels of the deviation of x [B, T, D] over the masked frames."""
    count = masked.sum()
    x = jnp.where(masked[..., None], x, 0)
    mean = x.sum((0, 1)) / jnp.maximum(count, 1)
    centred = jnp.where(masked[..., None], x - mean, 0)
    variance = (centred * centred).sum((0, 1)) / jnp.maximum(count - 1, 1)
    return jnp.sqrt(variance + 1e-6).mean()
