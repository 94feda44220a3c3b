"""Positions as vectors: tokens in, one vector for each of them out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models.parts.initializers import embedding_init
from seqjax.models.parts.keys import PositionKeys
from seqjax.models.parts.layers import sinusoid_table
from seqjax.models.parts.module_model import PAD
from seqjax.models.protocol import Params


def position_ids(tokens: jax.Array, segments: jax.Array | None, *, pad: int) -> jax.Array:
    """fairseq's `make_positions`: rows of a table of positions for `tokens` [B, T].

    A token's is `pad` + 1 plus the number of tokens before it in its segment that are not
    padding; padding's, wherever it stands, is `pad`.
    """
    real = (tokens != pad).astype(jnp.int32)
    count = jnp.cumsum(real, axis=1)
    if segments is not None:
        previous = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        count -= jax.lax.cummax(jnp.where(segments != previous, count - real, 0), axis=1)
    return count * real + pad


class Positions(nn.Module):
    """fairseq's `PositionalEmbedding`: learned, or sinusoids."""

    dim: int
    learned: bool
    max_positions: int
    pad: int = PAD
    """Positions are counted from the row behind its id."""
    offset: int | None = None
    """Position of the first token instead (None: `pad` + 1)."""
    spacing: str = "inclusive"
    """See `sinusoid_table`."""

    @nn.compact
    def __call__(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        """[B, T, D] for `tokens` [B, T]; positions restart in each segment."""
        first = _first(self.offset, self.pad)
        if self.learned:
            rows, unused = (self.max_positions + first, self.dim), self.pad < first
            table = self.param(
                "embedding", embedding_init(self.dim, self.pad if unused else None), rows)
        else:
            sinusoids = sinusoid_table(tokens.shape[1], self.dim, first, self.spacing)
            table = jnp.pad(jnp.asarray(sinusoids), ((first, 0), (0, 0)))
        ids = position_ids(tokens, segments, pad=self.pad)
        if self.offset is not None:
            ids = ids + (self.offset - self.pad - 1)
        return jnp.take(table, ids, axis=0, mode="clip")


def _first(offset: int | None, pad: int) -> int:
    return pad + 1 if offset is None else offset


def form_of(cfg: object) -> tuple[int | None, str]:
    """`offset` and `spacing` of `Positions`, fairseq's where a configuration has no such keys."""
    return getattr(cfg, "position_offset", None), getattr(cfg, "sinusoid_spacing", "inclusive")


def step_positions(
    cfg: PositionKeys, decoder: Params, *, dim: int, pad: int
) -> jax.Array | None:
    """[max_target_positions, dim]: row p is what `Positions` gives position p of a decoder with
    these parameters; None where it has no positions."""
    if cfg.no_token_positional_embeddings:
        return None
    offset, spacing = form_of(cfg)
    first = _first(offset, pad)
    if cfg.decoder_learned_pos:
        return decoder["embed_positions"]["embedding"][first:]
    return jnp.asarray(sinusoid_table(cfg.max_target_positions, dim, first, spacing))
