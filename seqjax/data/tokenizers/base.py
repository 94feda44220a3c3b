"""`Tokenizer`: a line of text -> pieces joined by spaces, and back; and the state of one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

State = dict[str, str | bytes]
"""The kind of a tokenizer and its options: text, or the bytes of a file."""


class TokenizerError(ValueError):
    """A tokenizer that cannot be made or used; the message says what to do."""


class Tokenizer:
    """What all tokenizers can do."""

    kind: ClassVar[str]
    """Name in `TOKENIZERS` and in states."""

    def encode(self, text: str) -> str:
        """One line of text -> pieces joined by single spaces."""
        raise NotImplementedError

    def decode(self, pieces: str) -> str:
        """Pieces joined by spaces -> one line of text."""
        raise NotImplementedError

    def symbols(self) -> Sequence[str] | None:
        """Every piece that `encode` may give, where there is an end to them; None: not known."""
        return None

    def begins_word(self, piece: str) -> bool:
        """Whether a piece is the first of its word (fairseq's `is_beginning_of_word`); all
        pieces are where a tokenizer makes no pieces of words."""
        del piece
        return True

    def options(self) -> State:
        """The keyword arguments that make this tokenizer again, as text or bytes."""
        return {}

    def to_state(self) -> State:
        """Everything, as a flat dict of text and bytes."""
        return {"kind": self.kind, **self.options()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.to_state() == other.to_state()

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.to_state().items())))

    def __reduce__(self) -> tuple[Any, ...]:
        from seqjax.data.tokenizers import from_state

        return (from_state, (self.to_state(),))  # the libraries' objects do not all pickle

    def __repr__(self) -> str:
        shown = {
            key: f"<{len(value)} bytes>" if isinstance(value, bytes) else value
            for key, value in self.options().items()
        }
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


class Special:
    """Symbols that are pieces of their own where they stand in a text, and that a text made of
    pieces leaves out: what Hugging Face's tokenizers do with special tokens.

    Args:
      symbols: such as `<mask>`, `en_XX`; as a list, or as a state has it (JSON).
    """

    def __init__(self, symbols: Sequence[str] | str):
        found = json.loads(symbols) if isinstance(symbols, str) else symbols
        self.symbols: tuple[str, ...] = tuple(found)
        longest = sorted(self.symbols, key=len, reverse=True)
        self._apart = re.compile("|".join(map(re.escape, longest)))

    def encode(self, text: str, pieces: Callable[[str], str]) -> str:
        """The pieces of what stands between these symbols, and the symbols."""
        if not self.symbols:
            return pieces(text)
        found, start = [], 0
        for match in self._apart.finditer(text):
            found += [pieces(text[start:match.start()]), match.group()]
            start = match.end()
        return " ".join(filter(None, [*found, pieces(text[start:])]))

    def left_out(self, pieces: str) -> str:
        """Pieces joined by spaces, without these."""
        if not self.symbols:
            return pieces
        return " ".join(piece for piece in pieces.split(" ") if piece not in self.symbols)

    def options(self) -> State:
        """For a state; nothing where there are none."""
        if not self.symbols:
            return {}
        return {"special": json.dumps(self.symbols, ensure_ascii=False)}


def boolean(name: str, value: bool | str) -> bool:
    """An option that is true or false, as it is in Python or in a state.

    Raises:
      TokenizerError: it is neither; `name` says which option.
    """
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise TokenizerError(f"{name} must be true or false, not {value!r}")


def text_of(content: bytes, name: str) -> str:
    """A file's text.

    Raises:
      TokenizerError: it is not UTF-8; `name` says which file.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{name}: not UTF-8 (byte {error.start})") from None
