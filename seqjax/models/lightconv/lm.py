"""fairseq's `lightconv_lm`: the decoder of `lightconv.py` without a source.

`LightConvLanguageModel` is a `protocol.LanguageModel`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

from seqjax.models.lightconv import decoding
from seqjax.models.lightconv.config import LightConvLanguageModelConfig
from seqjax.models.lightconv.modules import Decoder
from seqjax.models.parts.decoder_ends import DecoderAlone
from seqjax.models.parts.module_model import ModuleLanguageModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightConvLanguageModel(ModuleLanguageModel):
    """`protocol.LanguageModel` for fairseq's `lightconv_lm`."""

    config: LightConvLanguageModelConfig
    _decoding: ClassVar[Any] = decoding

    @functools.cached_property
    def _module(self) -> DecoderAlone:  # type: ignore[override]
        return DecoderAlone(Decoder(self.config, self.compute_dtype, **self._ends))
