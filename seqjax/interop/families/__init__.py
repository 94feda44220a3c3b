"""One table per model family: how fairseq names its weights, old and new.

To add a family: write `families/NAME.py` with a `FAMILY`, and name it here.
"""

from __future__ import annotations

from seqjax.interop.families import fconv, lightconv, lstm, transformer, transformer_lm
from seqjax.interop.families.base import Family
from seqjax.models.wav2vec2 import fairseq as wav2vec2

FAMILIES: dict[str, Family] = {
    "transformer": transformer.FAMILY,
    "transformer_align": transformer.FAMILY,
    "lstm": lstm.FAMILY,
    "lstm_lm": lstm.LM_FAMILY,
    "fconv": fconv.FAMILY,
    "fconv_lm": fconv.LM_FAMILY,
    "lightconv": lightconv.FAMILY,
    "lightconv_lm": lightconv.LM_FAMILY,
    "transformer_lm": transformer_lm.FAMILY,
    "wav2vec2": wav2vec2.FAMILY,
}
"""`config.model.name` -> its table."""
