"""Configuration of HuBERT that is fine-tuned for CTC. Field names and defaults are fairseq's."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from seqjax.config import gives
from seqjax.models.finetuning.config import FinetuningConfig
from seqjax.models.hubert.config import EncoderForm


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubertCtcConfig(EncoderForm, FinetuningConfig):
    """fairseq's `hubert_ctc`."""

    blocks: ClassVar[bool] = True
    """Frames are real by HuBERT's rule."""

    name: Literal["hubert_ctc"] = dataclasses.field(
        default="hubert_ctc", metadata=gives("frame_symbols"))
    """Chooses the family of models."""
    conv_pos_batch_norm: bool = False
    """A batch norm in front of the convolution for positions in place of weight norm, whose
    statistics are those of the checkpoint and stay."""

    def __post_init__(self) -> None:
        self.check_encoder()
        self.check_finetuning()

    @property
    def blank_weight(self) -> float:
        """The blank's score is as it is."""
        return 0.0

    @property
    def blank_mode(self) -> Literal["add", "set"]:
        """See `blank_weight`."""
        return "add"
