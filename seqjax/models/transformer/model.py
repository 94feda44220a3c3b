"""fairseq's encoder-decoder transformer, as the rest of the project sees it: arrays and
parameters in, states of whole sequences or of single steps out (`protocol.EncoderDecoder`)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax

from seqjax.models.parts.bert_init import bert_init
from seqjax.models.parts.module_model import ModuleEncoderDecoder
from seqjax.models.protocol import Encoded, Params, Source
from seqjax.models.transformer import decoding
from seqjax.models.transformer.config import TransformerConfig
from seqjax.models.transformer.modules import Transformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerModel(ModuleEncoderDecoder):
    """`protocol.EncoderDecoder` for fairseq's transformer."""

    config: TransformerConfig
    any_special_ids: ClassVar[bool] = True
    shares_rows: ClassVar[bool] = True
    _decoding: ClassVar[Any] = decoding

    def __post_init__(self) -> None:
        cfg = self.config
        self._check_joined("share_all_embeddings and merge_src_tgt_embed need")
        if cfg.ties_output and cfg.input_dim != cfg.output_dim:
            raise ValueError(
                "config.model: a shared output projection needs decoder_output_dim "
                f"({cfg.output_dim}) equal to the embedding's width ({cfg.input_dim})"
            )
        self._check_softmax(cfg.output_dim, cfg.adaptive_softmax_factor)

    @functools.cached_property
    def _module(self) -> Transformer:  # type: ignore[override]
        return Transformer(
            self.config, self.source_vocab_size, self.target_vocab_size, self._own_output(),
            self._output_ends, self.compute_dtype, self.pad,
        )

    def encoder_states(self, params: Params, source: Source) -> jax.Array:
        """See `protocol.Layered`."""
        return self._apply(params, None, 0, source, method="encoder_states")

    def decoder_states(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None,
    ) -> jax.Array:
        """See `protocol.LayeredStepper`."""
        return self._apply(
            params, None, 1, prev_output_tokens, encoded, segments, method="decoder_states")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertBegunTransformerModel(TransformerModel):
    """The same, begun as BERT is: fairseq's models that are made for pretraining."""

    def init(self, rng: jax.Array) -> Params:
        """See `protocol`."""
        return bert_init(super().init(rng), jax.random.fold_in(rng, 1), pad=self.pad)
