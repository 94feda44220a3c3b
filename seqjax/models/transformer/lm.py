"""fairseq's transformer language model: the decoder of `modules.py` without a source.

`TransformerLanguageModel` is what the rest of the project sees (`protocol.LanguageModel`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax

from seqjax.models.parts.decoder_ends import DecoderAlone
from seqjax.models.parts.module_model import ModuleLanguageModel
from seqjax.models.protocol import Encoded, Features, Params
from seqjax.models.transformer import decoding
from seqjax.models.transformer.lm_config import TransformerLanguageModelConfig
from seqjax.models.transformer.modules import Decoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerLanguageModel(ModuleLanguageModel):
    """`protocol.LanguageModel` for fairseq's transformer language model."""

    config: TransformerLanguageModelConfig
    any_special_ids: ClassVar[bool] = True
    shares_rows: ClassVar[bool] = True
    _decoding: ClassVar[Any] = decoding

    @functools.cached_property
    def _module(self) -> DecoderAlone:  # type: ignore[override]
        return DecoderAlone(Decoder(
            self.config, self.compute_dtype, words=self.target_vocab_size, **self._ends))

    def decoder_states(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None,
    ) -> jax.Array:
        """See `protocol.LayeredStepper`."""
        del encoded  # there is no source
        found: Any = self._apply(
            params, None, 1, prev_output_tokens, segments, method="decoder_states")
        return found

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        cfg = self.config
        length = prev_output_tokens.shape[1]
        learned = cfg.decoder_learned_pos and not cfg.no_token_positional_embeddings
        if learned and segments is None and length > cfg.max_target_positions:
            raise ValueError(
                f"a row of {length} tokens, but the model has learned "
                f"{cfg.max_target_positions} positions (config.model.max_target_positions)"
            )
        return super().features(params, prev_output_tokens, encoded, segments=segments, rng=rng)
