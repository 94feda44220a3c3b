"""fairseq's encoder-decoder transformer, as the rest of the project sees it: arrays and
parameters in, states of whole sequences or of single steps out (`protocol.EncoderDecoder`)."""

from __future__ import annotations

import dataclasses
import functools

import jax

from seqjax.models.parts.module_model import ModuleEncoderDecoder
from seqjax.models.protocol import Cache, Encoded, Features, Params, Weights
from seqjax.models.transformer import decoding
from seqjax.models.transformer.config import TransformerConfig
from seqjax.models.transformer.modules import Transformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerModel(ModuleEncoderDecoder):
    """`protocol.EncoderDecoder` for fairseq's transformer."""

    config: TransformerConfig

    def __post_init__(self) -> None:
        cfg = self.config
        self._check_joined("share_all_embeddings and merge_src_tgt_embed need")
        if cfg.ties_output and cfg.input_dim != cfg.output_dim:
            raise ValueError(
                "config.model: a shared output projection needs decoder_output_dim "
                f"({cfg.output_dim}) equal to the embedding's width ({cfg.input_dim})"
            )
        self._check_softmax()

    @functools.cached_property
    def _module(self) -> Transformer:  # type: ignore[override]
        return Transformer(
            self.config, self.source_vocab_size, self.target_vocab_size, self._own_output(),
            self._output_ends, self.compute_dtype,
        )

    def prepare(self, params: Params) -> Weights:
        return decoding.prepare(
            self.config, params["decoder"], dtype=self.compute_dtype, table=self._table(params),
            projection=self._projection(params),
        )

    def start(self, weights: Weights, encoded: Encoded, *, beam: int, capacity: int) -> Cache:
        return decoding.start(self.config, weights, encoded, beam=beam, capacity=capacity)

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        return decoding.step(
            self.config, weights, tokens, cache, position=position, ancestors=ancestors
        )

    def grow(self, cache: Cache, *, capacity: int) -> Cache:
        return decoding.grow(cache, capacity=capacity)

    def reorder(self, cache: Cache, parents: jax.Array) -> Cache:
        return cache
