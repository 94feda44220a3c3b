"""fairseq's and Hugging Face's names for wav2vec 2.0 that is fine-tuned for CTC."""

from __future__ import annotations

from seqjax.models import audio_huggingface as hf
from seqjax.models.finetuning import fairseq, huggingface
from seqjax.models.parts.audio_encoder_config import WaveformEncoderConfig

FORM = fairseq.own_form(WaveformEncoderConfig)
REFUSED = {"layer_type": ("transformer", "trf_adp"), "adp_trf_idx": ("all",),
           "quantize_input": (False,), "conv_pos_batch_norm": (False,)}
"""Keys of fairseq's -> their values with which an encoder is one of ours."""
FAIRSEQ = fairseq.table(FORM, arch="wav2vec2", task="audio_pretraining", refused=REFUSED)
HUGGINGFACE = huggingface.table(
    "wav2vec2", "Wav2Vec2ForCTC",
    read=hf.reader(huggingface.KEYS, adapters=True))
