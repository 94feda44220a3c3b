"""Parameters and forward passes of HuBERT: from samples to states, and from states to how near
each frame is to each class of labels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.models.hubert.config import HubertConfig
from seqjax.models.parts import audio
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_config import frame_count
from seqjax.models.parts.audio_encoder import WaveformEncoder
from seqjax.models.parts.block_frames import block_mask


class Hubert(WaveformEncoder):
    """fairseq's `HubertModel`."""

    config: HubertConfig  # type: ignore[assignment]
    classes: int = 0
    """Of all lists of labels together."""

    def setup(self) -> None:
        super().setup()
        cfg, width = self.config, self.config.comparison_dim
        if not cfg.pretraining_heads:
            return
        if cfg.target_glu:
            self.target_glu = self._linear(width, 2 * width)
        self.final_proj = self._linear(cfg.encoder_embed_dim, width * cfg.projections)
        if self.classes:
            self.label_embs_concat = self.param(
                "label_embs_concat", nn.initializers.uniform(1.0), (self.classes, width))

    def _frames(self, real: jax.Array, frames: int, alone: bool) -> jax.Array:
        """By HuBERT's own rule, unless each row is alone."""
        if alone:
            return super()._frames(real, frames, alone)
        return block_mask(real, frames, self.config.conv_layers)

    def projected(self, states: jax.Array) -> jax.Array:
        """`final_proj` of states [..., D], of all lists of labels side by side."""
        return self.final_proj(states)

    def pretrain(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn,
        labels: tuple[jax.Array, ...], *, update: jax.Array | None = None,
    ) -> dict[str, Any]:
        """See `HubertModel.pretrain`."""
        del update
        cfg = self.config
        frames = cfg.labelled_frames(
            frame_count(samples.shape[1], cfg.conv_layers), min(x.shape[1] for x in labels))
        found = self.heard(samples, real, limit=frames)
        x = self.masked(self._drop(found.x, cfg.dropout_input), drawn)
        x = self.encoder(x, found.real)
        at = (np.arange(frames, dtype=np.float32) * np.float32(cfg.labels_per_frame())).astype(int)
        frame_labels = tuple(x[:, at] for x in labels)
        assert drawn.mask is not None
        # A label may end before its row does: what has none, the data mark with -1.
        known = jnp.stack([x >= 0 for x in frame_labels]).all(axis=0)
        known = known & found.real
        result: dict[str, Any] = {
            "logits": self._scores(x, frame_labels), "features_pen": found.penalty,
            "real": found.real}
        if not cfg.skip_masked:
            result["masked"] = known & drawn.mask
        if not cfg.skip_nomask:
            result["unmasked"] = known & ~drawn.mask
        return result

    def _scores(
        self, states: jax.Array, labels: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, ...]:
        """Float32 [B, T, 1 + V] for each list: of a frame's own class, and of all classes, where
        its own, and any that has the same embedding, is -inf."""
        cfg = self.config
        sizes = cfg.label_classes or (self.classes,)
        tables = jnp.split(self.label_embs_concat, np.cumsum(sizes)[:-1])
        projected = self.projected(states)
        parts = jnp.split(projected, cfg.projections, axis=-1)
        parts = parts if len(parts) == len(labels) else parts * len(labels)
        return tuple(
            self._compared(part, table, label)
            for part, table, label in zip(parts, tables, labels, strict=True))

    def _compared(self, x: jax.Array, table: jax.Array, labels: jax.Array) -> jax.Array:
        if self.config.target_glu:
            value, gate = jnp.split(self.target_glu(table), 2, axis=-1)
            table = value * jax.nn.sigmoid(gate)
        own = jnp.maximum(labels, 0)
        logits = jnp.einsum("btc,vc->btv", audio.unit(x), audio.unit(table)) / (
            self.config.logit_temp)
        target = jnp.take_along_axis(logits, own[..., None], axis=-1)
        same = _equal_rows(table)[own]
        return jnp.concatenate([target, jnp.where(same, -jnp.inf, logits)], axis=-1)

    def __call__(self, samples: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        states, _ = self.encode(samples, jnp.ones(samples.shape, bool), Drawn())
        total = states.sum() + self.mask_emb.sum()
        if not self.config.pretraining_heads:
            return total
        total += self.projected(states).sum()
        if self.config.target_glu:
            total += self.target_glu(jnp.zeros((1, self.config.comparison_dim))).sum()
        return total


def _equal_rows(table: jax.Array) -> jax.Array:
    """[V, V] bool: which rows of `table` [V, C] are the same, by two 32-bit hashes of their
    bits: comparing all of V * V * C numbers would cost more than scoring them."""
    bits = jax.lax.bitcast_convert_type(table.astype(jnp.float32) + 0.0, jnp.uint32)
    places = jnp.arange(table.shape[1], dtype=jnp.uint32)
    hashes = []
    for factor in (np.uint32(0x9E3779B1), np.uint32(0x85EBCA77)):
        mixed = (bits ^ (bits >> 15)) * (places * factor + factor | 1)
        hashes.append((mixed ^ (mixed >> 13)).sum(axis=1, dtype=jnp.uint32))
    return jnp.stack([h[:, None] == h for h in hashes]).all(axis=0)
