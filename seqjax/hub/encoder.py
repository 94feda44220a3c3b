"""Models that are used for what their encoder says: from texts or ids to hidden states."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seqjax.config import ConfigError
from seqjax.generation import finite
from seqjax.hub import arguments
from seqjax.hub.generative import Input, padded
from seqjax.hub.loaded import Loaded
from seqjax.hub.predicting import Predicting
from seqjax.models.protocol import token_source
from seqjax.tasks import inputs
from seqjax.tasks.protocol import TextTask

_ROWS = 16
"""Of a batch."""


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Encoder(Predicting, Loaded[TextTask]):
    """A model that encodes text or classifies it and generates none, with its vocabulary.

        m = seqjax.load("runs/encoder")
        m.features(["Hello world", "Again"])     # [[5, D], [2, D]], float32
        m.predict("mnli", [("Hello", "Goodbye")])    # [1, C] log-probabilities of a head
        m.evaluate("valid")                      # the loss that it was trained with
    """

    def description(self, options: dict[str, Any]) -> list[str]:
        return [*super().description(options), f"at most {self._limit} tokens (the model's)"]

    def encode(self, text: str) -> np.ndarray:
        """Text -> ids with final eos."""
        return self.task.encode_source(arguments.text(text, name="text"))

    def features(self, texts: Sequence[Input]) -> list[np.ndarray]:
        """The encoder's last hidden states of each input.

        Args:
          texts: texts, or lists of source ids that end in eos.

        Returns:
          [S, D] float32 for each, S its ids.

        Raises:
          ConfigError: several models.
          ValueError: an input over the model's limit, by its number from 0; states that are not
            finite.
        """
        model, *others = self.models
        if others:
            raise ConfigError("features: the hidden states of an ensemble are not defined: load "
                              "one checkpoint")
        given = arguments.inputs(texts, name="texts", size=len(self.task.source_vocab))
        rows = [inputs.encoded(self.task, x).ids for x in given]
        for index, ids in enumerate(rows):
            if len(ids) > self._limit:
                raise ValueError(f"texts[{index}]: has {len(ids)} tokens, but the model takes at "
                                 f"most {self._limit}")
        found: dict[int, np.ndarray] = {}
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), _ROWS):
            part = order[start : start + _ROWS]
            source = padded(
                [rows[i] for i in part], rows=_ROWS, pad=model.pad, limit=self._limit)
            states = np.asarray(self._encode(self.params[0], source))
            for row, i in enumerate(part):
                found[i] = states[row, : len(rows[i])]
                finite.check_scores(found[i], f"features: input {i}")
        return [found[i] for i in range(len(rows))]

    @property
    def _limit(self) -> int:
        return min(m.max_source_positions for m in self.models)

    @functools.cached_property
    def _encode(self) -> Any:
        def encode(params: Any, source: jax.Array) -> jax.Array:
            model = self.models[0]
            encoded = model.encode(params, token_source(source, pad=model.pad))
            return encoded.out.astype(jax.numpy.float32)

        return jax.jit(encode)
