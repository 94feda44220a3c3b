"""Positions as vectors: tokens in, one vector for each of them out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models.parts.initializers import embedding_init
from seqjax.models.parts.keys import PositionKeys
from seqjax.models.parts.layers import sinusoid_table
from seqjax.models.parts.module_model import PAD
from seqjax.models.protocol import Params, position_ids


class Positions(nn.Module):
    """fairseq's `PositionalEmbedding`: learned, or sinusoids."""

    dim: int
    learned: bool
    max_positions: int
    pad: int = PAD
    """Positions are counted from the row behind its id."""

    @nn.compact
    def __call__(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        """[B, T, D] for `tokens` [B, T]; positions restart in each segment."""
        if self.learned:
            rows = (self.max_positions + self.pad + 1, self.dim)
            table = self.param("embedding", embedding_init(self.dim, self.pad), rows)
        else:
            sinusoids = sinusoid_table(tokens.shape[1], self.dim, self.pad + 1)
            table = jnp.pad(jnp.asarray(sinusoids), ((self.pad + 1, 0), (0, 0)))
        return jnp.take(table, position_ids(tokens, segments, pad=self.pad), axis=0, mode="clip")


def step_positions(
    cfg: PositionKeys, decoder: Params, *, dim: int, pad: int
) -> jax.Array | None:
    """[max_target_positions, dim]: row p is what `Positions` gives position p of a decoder with
    these parameters; None where it has no positions."""
    if cfg.no_token_positional_embeddings:
        return None
    if cfg.decoder_learned_pos:
        return decoder["embed_positions"]["embedding"][pad + 1 :]
    return jnp.asarray(sinusoid_table(cfg.max_target_positions, dim, pad + 1))
