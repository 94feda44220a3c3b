"""The options of decoding a CTC model, with fairseq's names where fairseq has them."""

from __future__ import annotations

import dataclasses
import math

from seqjax.config import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CTCOptions:
    """Greedy decoding, or prefix beam search with a lexicon and a language model."""

    beam: int = 1
    """Hypotheses that are kept; 1 without a lexicon and a language model is greedy: the best
    token of every frame."""
    nbest: int = 1
    """Hypotheses of each utterance that are returned."""
    lexicon: str = ""
    """A file of words and their tokens, as fairseq's and flashlight's. Without one, a language
    model of words spells its own words by the model's letters, and other words are `<unk>`."""
    lm: str = ""
    """An n-gram model: ARPA (.gz too), or a KenLM binary (.bin, .binary, .klm; needs `kenlm`)."""
    unit_lm: bool = False
    """The language model is of tokens, not of words (fairseq's `unitlm`)."""
    lm_weight: float = 2.0
    """Times the language model's log10 probability (flashlight's unit, so fairseq's values
    mean the same here)."""
    word_score: float = -1.0
    """Added for each word."""
    unk_weight: float = -math.inf
    """Added for a word outside the lexicon; at -inf there are none. Without a lexicon file a
    word is unknown if the language model does not know it, and -inf means -10."""
    sil_weight: float = 0.0
    """Added for each token between words."""
    beam_size_token: int | None = None
    """Tokens of a frame that are looked at (None: all)."""
    beam_threshold: float = 50.0
    """Hypotheses that are so much worse than the best are dropped."""
    token_min_logp: float = -5.0
    """Tokens below this log-probability are not looked at, unless they are their frame's best;
    most frames are then blank alone and cost nothing. -inf looks at all."""
    log_add: bool = True
    """A hypothesis' probability is the sum over its alignments; False takes the best alignment
    alone, as fairseq does."""

    @property
    def greedy(self) -> bool:
        """Whether the best token of every frame is taken."""
        return self.beam == 1 and not self.lexicon and not self.lm

    def check(self) -> None:
        """Raises ConfigError where no search can be made of the options."""
        if not 1 <= self.nbest <= self.beam:
            raise ConfigError(f"nbest={self.nbest} has to lie between 1 and beam={self.beam}")
        if self.beam_size_token is not None and self.beam_size_token < 1:
            raise ConfigError(f"beam_size_token={self.beam_size_token} has to be 1 or more")
        if self.beam_threshold <= 0 or math.isnan(self.beam_threshold):
            raise ConfigError(f"beam_threshold={self.beam_threshold} has to be above 0")
        if self.token_min_logp >= 0:
            raise ConfigError(f"token_min_logp={self.token_min_logp} is a log-probability, below 0")
        if self.unit_lm and not self.lm:
            raise ConfigError("unit_lm=True says what `lm` is of; give lm=FILE")
        if self.unit_lm and self.lexicon:
            raise ConfigError("a language model of tokens goes without a lexicon; leave out "
                              "lexicon or unit_lm")
