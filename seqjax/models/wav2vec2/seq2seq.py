"""fairseq's names for wav2vec 2.0 with a transformer's decoder behind it."""

from __future__ import annotations

from seqjax.models.finetuning import fairseq
from seqjax.models.parts import audio_names as audio
from seqjax.models.parts import module_order as order
from seqjax.models.tables import WeightNames
from seqjax.models.wav2vec2.ctc import FORM, REFUSED

NAMES = WeightNames(
    vocabulary=lambda state: (0, state["decoder.embed_tokens.weight"].shape[0]),
    upgrade=lambda state, config: (audio.weight_norms(state), config),
    ignored=(fairseq.LABELS, r"decoder\.embed_positions\._float_tensor", r"decoder\.version"),
    unused=(fairseq.LABELS,),
    renames=(*audio.RENAMES, (r"^decoder\.output_projection\.weight$", "decoder.embed_out")),
    transforms=audio.TRANSFORMS,
    order=("w2v_model", *audio.ENCODER_ORDER, "encoder", "pos_conv", "embed_out",
           *order.EMBEDDING, "layers", "self_attn", *order.ATTENTION, "self_attn_layer_norm",
           "encoder_attn", "encoder_attn_layer_norm", "fc1", "fc2", "final_layer_norm",
           "adapter_layer", "layer_norm", "proj", "decoder", *audio.ARRAY_ORDER),
)
TABLE = fairseq.table(
    FORM, arch="wav2vec2", task="audio_pretraining", names=NAMES, refused=REFUSED)
