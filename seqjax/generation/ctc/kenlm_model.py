"""A KenLM binary through the `kenlm` package: the same questions as of an `NGram`.

Its library answers on the host, so a compiled search asks through a callback; answers are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.generation.ctc.ngram import EOS, UNK

BINARY = (".bin", ".binary", ".klm", ".trie")


def is_binary(path: str) -> bool:
    """Whether a language model's name is that of a KenLM binary."""
    return Path(path).suffix in BINARY


class _Words(dict[str, int]):
    """Words that were asked for, and their ids: a binary does not tell its words."""

    def __init__(self, binary: Any):
        super().__init__({UNK: 0})
        self._binary = binary
        self.texts = [UNK]

    def get(self, key: str, default: Any = None) -> Any:
        """The id of a word that the model has; otherwise `default`."""
        if key in self:
            return self[key]
        if key not in self._binary:
            return default
        self[key] = len(self.texts)
        self.texts.append(key)
        return self[key]


class KenLM:
    """A model of the `kenlm` package. A search is compiled for it alone."""

    unk = 0
    start = 0
    arrays = np.zeros(0, np.float32)

    @property
    def form(self) -> KenLM:
        """What a search is compiled for."""
        return self

    def __init__(self, module: Any, binary: Any):
        self._module, self._model = module, binary
        self.words = _Words(binary)
        self._states = [module.State()]
        binary.BeginSentenceWrite(self._states[0])
        self._numbers: dict[Any, int] = {}
        self._known: dict[tuple[int, int], tuple[float, int]] = {}

    @property
    def eos(self) -> int:
        """The id of the end of a sentence."""
        return self.words.get(EOS, self.unk)

    def unigram(self, word: int) -> float:
        """log10 probability of a word without context."""
        empty = self._module.State()
        self._model.NullContextWrite(empty)
        return self._model.BaseScore(empty, self.words.texts[word], self._module.State())

    def advance(
        self, arrays: jax.typing.ArrayLike, states: jax.Array, words: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """log10 probabilities and next states of (state, word) pairs."""
        shape = jnp.shape(states)
        return jax.pure_callback(
            self._answers, (jax.ShapeDtypeStruct(shape, jnp.float32),
                            jax.ShapeDtypeStruct(shape, jnp.int32)), states, words)

    def _answers(self, states: jax.Array, words: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        shape = np.shape(states)
        pairs = zip(np.ravel(states).tolist(), np.ravel(words).tolist(), strict=True)
        answers = [self._answer(pair) for pair in pairs]
        return (np.array([a for a, _ in answers], np.float32).reshape(shape),
                np.array([s for _, s in answers], np.int32).reshape(shape))

    def _answer(self, pair: tuple[int, int]) -> tuple[float, int]:
        if pair not in self._known:
            after = self._module.State()
            log10 = self._model.BaseScore(
                self._states[pair[0]], self.words.texts[pair[1]], after)
            number = self._numbers.setdefault(after, len(self._states))
            if number == len(self._states):
                self._states.append(after)
            self._known[pair] = log10, number
        return self._known[pair]


def load_kenlm(path: str) -> KenLM:
    """The model of a file.

    Raises:
      ConfigError: the package or the file is not there, or the file is no KenLM binary.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{path}: there is no such language model")
    try:
        import kenlm  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(f"{path}: KenLM binaries need the `kenlm` package (pip install kenlm); "
                          "an ARPA file needs nothing") from None
    try:
        return KenLM(kenlm, kenlm.Model(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error}") from error
