"""A Hugging Face `tokenizer.json`: text -> the symbols of its ids, and back, through the library
`tokenizers`.

The ids of its `Vocabulary` are those of the file. Special symbols around a text are its
caller's to add; `around` says which the file itself would put there.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from seqjax.data.tokenizers.base import State, Tokenizer, TokenizerError, text_of
from seqjax.data.vocabulary import FAIRSEQ_IDS, Vocabulary

_WHITE_SPACE = re.compile(r"\s")
_FILLER = re.compile(r"madeupword\d{4,}_?")
ROLES: dict[str, tuple[str, ...]] = {
    "bos": ("<s>", "[CLS]", "<|endoftext|>", "<bos>"),
    "pad": ("<pad>", "[PAD]"),
    "eos": ("</s>", "[SEP]", "<|endoftext|>", "<eos>"),
    "unk": ("<unk>", "[UNK]", "<|endoftext|>"),
    "mask": ("<mask>", "[MASK]"),
}
"""Part of a special symbol -> how it is called, where no other file says which it is."""
_OTHER_NAMES = {"bos": ("cls_token", "bos_token"), "eos": ("sep_token", "eos_token")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Around:
    """Special ids that a `tokenizer.json` puts around texts (`add_special_tokens`)."""

    first: tuple[int, ...] = ()
    """In front of the text, or of the first of two."""
    between: tuple[int, ...] = ()
    """Between two texts."""
    last: tuple[int, ...] = ()
    """Behind the text, or the second of two."""
    types: tuple[int, ...] = (0, 0)
    """`token_type_ids` of the first text and of the second."""

    def ids(self, first: Sequence[int], second: Sequence[int] | None = None) -> list[int]:
        """The ids of one text, or of two, with these around."""
        inside = [*first] if second is None else [*first, *self.between, *second]
        return [*self.first, *inside, *self.last]


class HuggingFaceTokenizer(Tokenizer):
    """What a `tokenizer.json` says.

    A piece is the file's own string for an id. White space in it, which pieces joined by
    spaces cannot have, is written as `\\u0020`.

    Args:
      tokenizer_json: content of the file.
    """

    kind = "hf"

    def __init__(self, *, tokenizer_json: bytes):
        import tokenizers as library

        self._json = tokenizer_json
        text = text_of(tokenizer_json, "tokenizer.json")
        try:
            self._tokenizer = library.Tokenizer.from_str(text)
        except Exception as error:  # the library raises no class of its own
            raise TokenizerError(_not_one(text, str(error))) from None
        # How long inputs are, and what fills them, is the model's and the batch's matter.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._symbols = _symbols(self._tokenizer.get_vocab(with_added_tokens=True))
        self._ids = {symbol: index for index, symbol in enumerate(self._symbols)}

    def encode(self, text: str) -> str:
        symbols = self._symbols
        return " ".join(symbols[index] for index in self.encode_ids(text))

    def decode(self, pieces: str) -> str:
        """Special symbols are left out; a piece of another vocabulary stands as it is."""
        parts: list[str] = []
        known: list[int] = []
        for piece in pieces.split():
            if piece in self._ids:
                known.append(self._ids[piece])
            elif not _FILLER.fullmatch(piece):
                parts += [self.decode_ids(known), piece]
                known = []
        if not parts:
            return self.decode_ids(known)
        return " ".join(filter(None, [*parts, self.decode_ids(known)]))

    def encode_ids(self, text: str) -> list[int]:
        """Ids of a text, nothing around them; a special symbol in it is its id."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode_ids(self, ids: Sequence[int]) -> str:
        """Text of ids, by the file's decoder, without special symbols."""
        return self._tokenizer.decode(list(map(int, ids)), skip_special_tokens=True)

    def symbols(self) -> Sequence[str]:
        """Symbol of each id; of an id that the file does not use, `madeupwordNNNN`."""
        return self._symbols

    def id_of(self, token: str) -> int | None:
        """The id of a string of the file, None if it has none."""
        return self._tokenizer.token_to_id(token)

    def around(self, *, pair: bool = False) -> Around:
        """The special ids around one text, or around a pair of texts."""
        # Which text it is does not matter, but an empty one would have no place.
        probe = self._probe()
        whole = self._tokenizer.encode(probe, probe if pair else None)
        places = [[k for k, number in enumerate(whole.sequence_ids) if number == n]
                  for n in (0, 1)]
        if not places[0] or pair and not places[1]:
            raise TokenizerError("tokenizer.json: its post_processor leaves out the text itself")
        end = places[1 if pair else 0][-1] + 1
        return Around(
            first=tuple(whole.ids[:places[0][0]]), last=tuple(whole.ids[end:]),
            between=tuple(whole.ids[places[0][-1] + 1:places[1][0]]) if pair else (),
            types=tuple(whole.type_ids[p[0]] for p in places if p))

    def _probe(self) -> str:
        for text in ("a", "1", ".", *self._symbols):
            if self.encode_ids(text):
                return text
        raise TokenizerError("tokenizer.json: it makes nothing of any text")

    def special_ids(self, said: Mapping[str, Any] | None = None) -> dict[str, int | None]:
        """See the function of this name; what the file's model takes for unknown is `unk`."""
        found = special_ids(self._tokenizer.get_vocab(with_added_tokens=True), said or {})
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        if unknown and not (said or {}).get("unk_token"):
            found["unk"] = self.id_of(unknown)
        return found

    def vocabulary(
        self, *, said: Mapping[str, Any] | None = None, size: int | None = None
    ) -> Vocabulary:
        """The file's symbols and ids.

        Args:
          said: as `special_ids` takes it.
          size: of the model's table of embeddings, where that is longer.

        Raises:
          TokenizerError: no symbol ends a text, or the model has fewer rows than there are
            symbols.
        """
        return vocabulary_of_symbols(
            self._symbols, special=self.special_ids(said), size=size, name="tokenizer.json")

    def options(self) -> State:
        return {"tokenizer_json": self._json}


def special_ids(ids: Mapping[str, int], said: Mapping[str, Any]) -> dict[str, int | None]:
    """`bos`, `pad`, `eos`, `unk` and `mask` and their ids (None: there is no such symbol).

    Args:
      ids: of all symbols.
      said: content of `tokenizer_config.json`, `special_tokens_map.json` (`eos_token`, ...) and
        `config.json` (`eos_token_id`, ..., which come first), as one; what they do not name is
        known by its usual name.
    """
    found: dict[str, int | None] = {}
    for role, usual in ROLES.items():
        number = said.get(f"{role}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        named = [token_name(said.get(key))
                 for key in _OTHER_NAMES.get(role, (f"{role}_token",))]
        by_name = (ids.get(name) for name in (*named, *usual) if name)
        found[role] = number if isinstance(number, int) else next(
            (index for index in by_name if index is not None), None)
    return found


def vocabulary_of_symbols(
    symbols: Sequence[str], *, special: Mapping[str, int | None], size: int | None, name: str
) -> Vocabulary:
    """A vocabulary of another toolkit's symbols; one of fairseq's kind where it can be.

    Args:
      symbols: of ids 0, 1, ...
      special: ids, by `bos`, `pad`, `eos` and `unk`.
      size: of the model's table of embeddings, where that is longer: `madeupwordNNNN` follow.
      name: of the file, for messages.

    Raises:
      TokenizerError: no symbol ends a text, or there are more symbols than `size`.
    """
    if size is not None and size < len(symbols):
        raise TokenizerError(
            f"{name} is not the model's: it has {len(symbols):,} symbols, the model {size:,}; the "
            f"first without a row is {symbols[size]!r}")
    if special["eos"] is None:
        raise TokenizerError(
            f"{name}: none of its symbols is known to end a text ({', '.join(ROLES['eos'])}): "
            "name it as eos_token in a tokenizer_config.json beside it")
    symbols = [*symbols, *fillers(range(len(symbols), size or 0), taken=set(symbols))]
    ids = (special["bos"], special["pad"], special["eos"], special["unk"])
    usual = ids == FAIRSEQ_IDS and symbols[:4] == Vocabulary().symbols
    if usual and len(set(symbols)) == len(symbols):
        return Vocabulary(symbols[4:])
    return Vocabulary.of_symbols(
        symbols, bos=special["bos"], pad=special["pad"], eos=special["eos"], unk=special["unk"])


def token_name(value: Any) -> str | None:
    """A special token as these files have it: a string, or an object that says more of it."""
    return value.get("content") if isinstance(value, Mapping) else value


def _symbols(ids: Mapping[str, int]) -> list[str]:
    """The symbol of each id, white space in it written otherwise."""
    symbols = fillers(range(max(ids.values(), default=-1) + 1), taken=ids)
    for token, index in ids.items():
        if token and not _WHITE_SPACE.search(token):
            symbols[index] = token
    taken = set(symbols)
    for token, index in ids.items():
        if token and not _WHITE_SPACE.search(token):
            continue
        symbol = _WHITE_SPACE.sub(lambda m: f"\\u{ord(m.group()):04x}", token) or "\\u"
        while symbol in taken:  # a token that is written like this itself
            symbol = f"\\{symbol}"
        taken.add(symbol)
        symbols[index] = symbol
    return symbols


def fillers(indices: Iterable[int], *, taken: Container[str] = ()) -> list[str]:
    """Symbols of ids that have none, as fairseq calls such."""
    names = (f"madeupword{index:04d}" for index in indices)
    return [f"{name}_" if name in taken else name for name in names]


def _not_one(text: str, why: str) -> str:
    """What is wrong with a text that is no `tokenizer.json`."""
    try:
        found = json.loads(text)
    except ValueError as error:
        return f"not a tokenizer.json: no JSON ({error})"
    if not isinstance(found, dict) or "model" not in found:
        return ('not a tokenizer.json: it has no "model". That is the file which '
                "`save_pretrained` of a fast tokenizer writes; vocab.json alone is not")
    return f"not a tokenizer.json that the library tokenizers reads: {why}"
