"""Parameters and forward passes of wav2vec 2.0: from samples to states, and from states and
targets to the scores of each masked frame's candidates."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from seqjax.models.parts import audio
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_encoder import WaveformEncoder
from seqjax.models.wav2vec2.config import Wav2Vec2Config


class Wav2Vec2(WaveformEncoder):
    """fairseq's `Wav2Vec2Model`."""

    config: Wav2Vec2Config  # type: ignore[assignment]

    def setup(self) -> None:
        super().setup()
        cfg, dim = self.config, self.config.encoder_embed_dim
        if cfg.quantize_input:
            if not cfg.shares_quantizer:
                self.input_quantizer = self._quantizer(cfg.input_code_dim)
            self.project_inp = self._linear(cfg.input_code_dim, dim)
        if not cfg.pretraining_heads:
            return
        if cfg.quantize_targets:
            self.quantizer = self._quantizer(cfg.target_code_dim)
        self.project_q = self._linear(
            cfg.target_code_dim if cfg.quantize_targets else cfg.feature_dim, cfg.comparison_dim)
        if cfg.target_glu:
            self.target_glu = self._linear(cfg.comparison_dim, 2 * cfg.comparison_dim)
        self.final_proj = self._linear(dim, cfg.comparison_dim)

    def _quantizer(self, vq_dim: int) -> audio.GumbelVectorQuantizer:
        cfg = self.config
        return audio.GumbelVectorQuantizer(
            cfg.feature_dim, cfg.latent_vars, cfg.latent_groups, vq_dim, cfg.latent_temp,
            cfg.quantizer_depth, cfg.quantizer_factor, self.dtype)

    def _noise(self) -> jax.Array | None:
        return self.make_rng("gumbel") if self.has_rng("gumbel") else None

    def states(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, update: jax.Array | None,
        alone: bool = False,
    ) -> dict[str, Any]:
        """`x` [B, T, D], what the transformer reads, and the mask `real` [B, T] of frames;
        `features` [B, T, C] that targets are made of; `features_pen`, their mean square;
        `quantized` inputs, if they are."""
        cfg = self.config
        found = self.heard(samples, real, alone=alone)
        frames = found.x.shape[1] - found.x.shape[1] % cfg.crop_seq_to_multiple
        found = found.replace(  # type: ignore[attr-defined]
            x=found.x[:, :frames], features=found.features[:, :frames],
            real=found.real[:, :frames])
        x, quantized = self._drop(found.x, cfg.dropout_input), None
        features = self._drop(found.features, cfg.dropout_features)
        if cfg.quantize_input:
            quantizer = self.quantizer if cfg.shares_quantizer else self.input_quantizer
            quantized = quantizer(x, _counted(found.real), rng=self._noise(), update=update)
            x = self.project_inp(quantized.vectors)
        return {"x": self.masked(x, drawn), "real": found.real, "features": features,
                "features_pen": found.penalty, "quantized": quantized}

    def _read(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, *,
        update: jax.Array | None = None, alone: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        found = self.states(samples, real, drawn, update, alone)
        return found["x"], found["real"]

    def pretrain(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, *,
        update: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """See `Wav2Vec2Model.pretrain`."""
        cfg = self.config
        found = self.states(samples, real, drawn, update)
        states = self.encoder(found["x"], found["real"])
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
        logits = _cosines(self.final_proj(pick(states)), target, negatives) / cfg.logit_temp
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
        states = self.encoder(found["x"], found["real"])
        if not self.config.pretraining_heads:
            return states.sum() + self.mask_emb.sum()
        features = found["features"]
        if self.config.quantize_targets:
            features = self.quantizer(features).vectors
        return self.final_proj(states).sum() + self._target(features).sum() + (
            self.mask_emb.sum())


def _counted(real: jax.Array) -> jax.Array:
    """Frames that perplexities are of where not only masked ones are quantized: as in fairseq
    padding's too, but not rows that are nothing else."""
    return jnp.broadcast_to(real.any(axis=1, keepdims=True), real.shape)


def _cosines(x: jax.Array, target: jax.Array, negatives: jax.Array) -> jax.Array:
    """Float32 [B, M, 1 + K]: of `x` [B, M, C] with its target [B, M, C] and with its negatives
    [B, M, K, C]."""
    x, target, negatives = (audio.unit(a) for a in (x, target, negatives))
    others = jnp.einsum("bmc,bmkc->bmk", x, negatives)
    return jnp.concatenate([(x * target).sum(-1, keepdims=True), others], axis=-1)
