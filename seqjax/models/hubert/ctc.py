"""fairseq's and Hugging Face's names for HuBERT that is fine-tuned for CTC."""

from __future__ import annotations

from seqjax.models import audio_huggingface as hf
from seqjax.models.finetuning import fairseq, huggingface
from seqjax.models.parts.audio_encoder_config import AudioEncoderConfig

FAIRSEQ = fairseq.table(
    (*fairseq.own_form(AudioEncoderConfig), "conv_pos_batch_norm", "mask_min_space",
     "mask_channel_min_space"), arch="hubert",
    task="hubert_pretraining",
    more={"label_rate": 50.0, "labels": ["km"], "final_dim": 0},
    refused={"layer_type": ("transformer",)}, said=("encoder_embed_dim",))
KEYS = hf.keys({**huggingface.FINE, "conv_pos_batch_norm": ("conv_pos_batch_norm",)})
HUGGINGFACE = huggingface.table(
    "hubert", "HubertForCTC", keys=KEYS, read=hf.reader(KEYS))
