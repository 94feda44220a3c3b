"""What a decoder of like layers owns in front of them and behind them: sizes in, modules out.

The embedding, an adaptive one too, and the output layer are here; `stack_ends` computes with what
stands between them and the layers.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import jax
from flax import linen as nn

from seqjax.models.parts.adaptive import AdaptiveInput, AdaptiveSoftmax, band_widths, ties_softmax
from seqjax.models.parts.initializers import embedding_init, transposed
from seqjax.models.parts.keys import AdaptiveInputKeys, DecoderEndsKeys, SoftmaxKeys
from seqjax.models.parts.layers import Embedding, Linear
from seqjax.models.parts.module_model import PAD
from seqjax.models.parts.positions import Positions, form_of
from seqjax.models.parts.stack_ends import Ends

EndsT = TypeVar("EndsT", bound=DecoderEndsKeys)


class DecoderEnds(Ends[EndsT]):
    """A decoder, which is given tokens, their rows of the embedding, what the encoder says of the
    source (or None) and segments, and gives states and attention."""

    vocab_size: int | None
    """Rows of its own embedding (None: it is given another's)."""
    output_size: int | None
    """Columns of its own output projection (None: tied to an embedding, or adaptive)."""
    output_ends: tuple[int, ...] | None = None
    """Ends of the clusters of an adaptive softmax (None: an ordinary one)."""
    input_ends: tuple[int, ...] | None = None
    """Ends of the bands of an adaptive input (None: an ordinary embedding)."""
    pad: int = PAD
    """Id of padding."""

    def declare(self, width: int) -> None:
        """Part of `setup`; `width` is that of the layers."""
        cfg = self.config
        if self.input_ends is not None:
            bands = cast(AdaptiveInputKeys, cfg)
            widths = band_widths(
                bands.adaptive_input_dim, bands.adaptive_input_factor, len(self.input_ends))
            self.embed_tokens = AdaptiveInput(self.input_ends, widths, width, self.dtype)
        elif self.vocab_size is not None:
            self.embed_tokens = Embedding(self.vocab_size, cfg.input_dim, self.pad)
        if cfg.input_dim != width:
            self.project_in_dim = self.bias_free(cfg.input_dim, width)
        if not cfg.no_token_positional_embeddings:
            self.embed_positions = Positions(
                width, cfg.decoder_learned_pos, cfg.max_target_positions, self.pad, *form_of(cfg))
        if cfg.output_dim != width:
            self.project_out_dim = self.bias_free(width, cfg.output_dim)
        if self.output_size is not None:
            self.output_projection = Linear(
                cfg.output_dim, self.output_size, use_bias=False, dtype=self.dtype,
                kernel_init=transposed(embedding_init(cfg.output_dim, None)),
            )
        if self.output_ends is not None:
            tied = ties_softmax(cfg)
            self.adaptive_softmax = AdaptiveSoftmax(
                cfg.output_dim, self.output_ends, cast(SoftmaxKeys, cfg).adaptive_softmax_factor,
                tied, tied and getattr(cfg, "tie_adaptive_proj", False))

    def own_output(self, hidden: jax.Array) -> jax.Array:
        """Touches the parameters of an output layer of its own (for initialisation)."""
        if self.output_ends is not None:
            self.adaptive_softmax()
        return hidden if self.output_size is None else self.output_projection(hidden)


class DecoderAlone(nn.Module):
    """Parameters and forward pass of a language model."""

    decoder: DecoderEnds

    def decode(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        """States [B, T, output_dim] of `tokens` [B, T], teacher-forced."""
        return self.decoder(tokens, self.decoder.embed_tokens(tokens), None, segments)[0]

    def decoder_states(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        """[L + 1, B, T, D] of a decoder that tells of its layers (`protocol.LayeredStepper`)."""
        decoder: Any = self.decoder
        return decoder.hidden_states(tokens, decoder.embed_tokens(tokens), None, segments)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        return self.decoder.own_output(self.decode(tokens, None))
