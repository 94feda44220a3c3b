"""A loss beyond reason is said once, with what helps.

Guessing among V words evenly costs log2(V) bits a word. A fresh model may cost somewhat
more; a trained one that does has diverged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


class Watch:
    """Looks at the losses of one run, in base 2, as they are reported."""

    def __init__(
        self, *, vocab_size: int | None, metrics: Sequence[str]
    ) -> None:
        """
        Args:
          vocab_size: words that the model chooses from (None: it chooses no words, and its loss
            has nothing to be compared with).
          metrics: those that are bits a word, of which a perplexity is reported; the first
            that is there is looked at. Of other losses nothing is known.
        """
        self._metrics = tuple(metrics)
        self._even = math.log2(max(vocab_size or 2, 2))
        self._vocab_size = vocab_size
        self._least = math.inf
        self._said = False

    def __call__(self, what: str, values: Mapping[str, float]) -> str | None:
        """The warning, the first time that it is due.

        Args:
          what: whose numbers these are: `training`, `valid`.
          values: with `num_updates` and maybe `lr`.
        """
        loss = next((values[name] for name in self._metrics if name in values), None)
        if loss is None or self._said or self._vocab_size is None:
            return None
        far = loss > max(2 * self._even, self._even + 10)
        grown = loss > self._even + 2 and loss > 1.5 * self._least
        self._least = min(self._least, loss)
        if math.isfinite(loss) and not far and not grown:
            return None
        self._said = True
        ppl = "beyond all numbers" if not loss < 1000 else f"{2.0**loss:.3g}"
        rate = f" (it is {values['lr']:.3g})" if "lr" in values else ""
        return (
            f"warning: the {what} loss is {loss:.4g} bits a word at update "
            f"{values.get('num_updates', 0):.0f} (perplexity {ppl}); guessing evenly among "
            f"{self._vocab_size:,} words costs {self._even:.1f}. Training has diverged: stop it, "
            f"lower train.lr{rate}, lengthen schedule.warmup_updates, or set train.clip_norm "
            "(1.0, say); then start again in another work folder")
