"""What the loss over alignments says of itself: its section of a configuration, and its `Loss`.

Apart from `ctc`, which computes it, so that configurations can be read without JAX.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.losses.declarations import COUNTS, Loss, Metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class CtcConfig:
    """fairseq's `ctc`."""

    name: Literal["ctc"] = "ctc"
    """Chooses the loss."""
    zero_infinity: bool = False
    """Rows with more symbols than their frames can say cost nothing; else their loss is
    infinite, and the update is refused."""
    post_process: str = "letter"
    """How predicted symbols become words, whose errors validations count: `letter`, `silence`,
    `none`, or the name of a subword model."""
    wer_kenlm_model: str | None = None
    """Language model (ARPA, or a KenLM binary) of a search whose words `wer` of validations
    counts; without it `wer` is of the best path."""
    wer_lexicon: str | None = None
    """Spellings of its words (None: by the model's letters)."""
    wer_lm_weight: float = 2.0
    """What its logarithms, of base 10, are multiplied by."""
    wer_word_score: float = -1.0
    """Added for each word."""
    wer_sil_weight: float = 0.0
    """Added for each symbol between words."""


CTC = Loss(
    name="ctc", config=CtcConfig, compute="seqjax.losses.ctc:compute",
    needs=frozenset({"frame_symbols"}),
    metrics={
        "loss": Metric(base2=True, like_loss=True), "nll_loss": Metric(base2=True), **COUNTS,
    })
