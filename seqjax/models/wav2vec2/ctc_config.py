"""Configuration of wav2vec 2.0 (or data2vec) that is fine-tuned for CTC. Field names and defaults
are fairseq's."""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.config import gives
from seqjax.models.finetuning.config import FinetuningConfig
from seqjax.models.parts.audio_encoder_config import WaveformEncoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wav2VecCtcConfig(FinetuningConfig, WaveformEncoderConfig):
    """fairseq's `wav2vec_ctc`."""

    name: Literal["wav2vec_ctc"] = dataclasses.field(
        default="wav2vec_ctc", metadata=gives("frame_symbols"))
    """Chooses the family of models."""
    blank_weight: float = 0.0
    """What is added to the blank's score, or what it is set to."""
    blank_mode: Literal["add", "set"] = "add"
    """Which of both; with a weight of 0 neither."""

    def __post_init__(self) -> None:
        self.check_waveforms()
        self.check_finetuning()
