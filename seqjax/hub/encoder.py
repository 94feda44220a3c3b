"""Models that are used for what their encoder says: from texts or ids to hidden states."""

from __future__ import annotations

import dataclasses
from typing import Any

from seqjax.hub.features import Featuring
from seqjax.hub.filling import Masked
from seqjax.hub.predicting import Predicting


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Encoder(Featuring, Masked, Predicting):
    """A model that encodes text or classifies it and generates none, with its vocabulary.

        m = seqjax.load("runs/encoder")
        m.extract_features(["Hello world", "Again"])     # [[5, D], [4, D]], float32
        m.fill_mask("Hello <mask>", topk=3)      # [("Hello world", 0.4, " world"), ...]
        m.predict("mnli", [("Hello", "Goodbye")])    # [1, C] log-probabilities of a head
        m.evaluate("valid")                      # the loss that it was trained with
    """

    def description(self, options: dict[str, Any]) -> list[str]:
        return [*super().description(options), f"at most {self._limit} tokens (the model's)"]

    def features(self, texts: Any) -> Any:
        """The last hidden states of each input: `extract_features(texts)`."""
        return self._extracted(texts, name="texts")

    @property
    def _limit(self) -> int:
        return min(m.max_source_positions for m in self.models)
