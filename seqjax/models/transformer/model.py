"""fairseq's encoder-decoder transformer, as the rest of the project sees it: arrays and
parameters in, states of whole sequences or of single steps out (`protocol.EncoderDecoder`)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

from seqjax.models.parts.module_model import ModuleEncoderDecoder
from seqjax.models.transformer import decoding
from seqjax.models.transformer.config import TransformerConfig
from seqjax.models.transformer.modules import Transformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerModel(ModuleEncoderDecoder):
    """`protocol.EncoderDecoder` for fairseq's transformer."""

    config: TransformerConfig
    _decoding: ClassVar[Any] = decoding

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
