"""A transformer that also classifies: the decoder reads the sentence that the encoder read, and
heads read its state at the sentence's last eos (fairseq's `BARTModel`)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from seqjax.models.parts import heads
from seqjax.models.protocol import Params, Source
from seqjax.models.transformer.config import ClassifyingTransformerConfig
from seqjax.models.transformer.model import BertBegunTransformerModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifyingTransformerModel(BertBegunTransformerModel):
    """`protocol.EncoderDecoder` and `protocol.SentenceClassifier`."""

    config: ClassifyingTransformerConfig
    decodes_source: ClassVar[bool] = True

    def init(self, rng: jax.Array) -> Params:
        """See `protocol`."""
        return heads.with_fresh_heads(
            super().init(rng), self.config, jax.random.fold_in(rng, 2),
            width=self.config.encoder_embed_dim)

    def class_logits(
        self, params: Params, head: str, source: Source, *, rng: jax.Array | None = None,
    ) -> jax.Array:
        """See `protocol`; of the decoder's state where it reads the last eos of the source."""
        tokens, places = source.values, jnp.arange(source.values.shape[1])
        encoded = self.encode(params, source, rng=rng)
        hidden, _ = self._apply(
            params, rng, 1, rolled(tokens, pad=self.pad), encoded, None, method="decode")
        last = jnp.where(tokens == self.eos, places, 0).max(axis=1)
        states = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
        key = None if rng is None else jax.random.fold_in(rng, 2)
        return heads.logits(self.config, params, head, states, key)


def rolled(tokens: jax.Array, *, pad: int) -> jax.Array:
    """[B, T]: the last token of each row in front of the others; rows are padded on the right."""
    real = tokens != pad
    count = real.sum(axis=1, keepdims=True)
    last = jnp.take_along_axis(tokens, jnp.maximum(count - 1, 0), axis=1)
    moved = jnp.concatenate([last, tokens[:, :-1]], axis=1)
    return jnp.where(real, moved, pad)
