"""fairseq's `lstm_lm`: the recurrent decoder of `model.py` without a source.

`LSTMLanguageModel` is a `protocol.LanguageModel`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
from flax import linen as nn

from seqjax.models.lstm.config import LSTMLanguageModelConfig
from seqjax.models.lstm.model import RecurrentModel
from seqjax.models.lstm.modules import Decoder
from seqjax.models.protocol import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTMLanguageModel(RecurrentModel):
    """`protocol.LanguageModel` for fairseq's `lstm_lm`."""

    config: LSTMLanguageModelConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.config.ties_output and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                "config.model.share_decoder_input_output_embed: a shared embedding predicts "
                f"every entry of the dictionary ({self.source_vocab_size}), not the first "
                f"{self.target_vocab_size}"
            )

    @property
    def _sides(self) -> Mapping[str, nn.Module]:
        return {"decoder": Decoder(
            self.config, self.source_vocab_size, self.target_vocab_size, self._output_ends)}

    def _target_table(self, params: Params) -> jax.Array:
        return params["decoder"]["embed_tokens"]["embedding"]
