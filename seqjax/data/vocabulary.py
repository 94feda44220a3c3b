"""`Vocabulary`: words and their ids, with the rules and the file format of fairseq's dictionary.

Ids 0 to 3 are `<s>`, `<pad>`, `</s>` and `<unk>`, then come extra special symbols, then the
words. A `dict.txt` lists the words only, one `word count` per line. Vocabularies of other
toolkits have their special symbols anywhere (`Vocabulary.of_symbols`) and are kept whole, as
JSON (`to_bytes`).
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from seqjax.data import compression, whole_files

BOS, PAD, EOS, UNK = "<s>", "<pad>", "</s>", "<unk>"
FAIRSEQ_IDS = 0, 1, 2, 3
"""Of these four in every dictionary of fairseq's."""
OVERWRITE = "#fairseq:overwrite"

_SUBWORD_MARKS = {"subword_nmt": "@@ ", "@@ ": "@@ ", "@@": "@@"}
# Kinds that write a word boundary as a piece of text and mean nothing by spaces.
_BOUNDARY_MARKS = {"sentencepiece": "\u2581", "wordpiece": "_", "letter": "|", "_EOW": "_EOW"}
POST_PROCESS_KINDS = ("none", "silence", *_SUBWORD_MARKS, *_BOUNDARY_MARKS)


def placeholder(index: int) -> str:
    """What stands for the word of an id that nobody has named."""
    return f"<{index}>"


class VocabularyError(ValueError):
    """A dictionary file that cannot be used; the message names the file and the line."""


def post_process(text: str, kind: str | None) -> str:
    """Pieces joined by spaces -> words joined by spaces (fairseq's `--post-process`).

    Args:
      text: pieces separated by single spaces.
      kind: one of `POST_PROCESS_KINDS`; None is "none".

    Raises:
      ValueError: an unknown kind.
    """
    if kind is None or kind == "none":
        return text
    if kind in _SUBWORD_MARKS:
        return (text + " ").replace(_SUBWORD_MARKS[kind], "").rstrip()
    if kind in _BOUNDARY_MARKS:
        return text.replace(" ", "").replace(_BOUNDARY_MARKS[kind], " ").strip()
    if kind == "silence":
        return re.sub(" +", " ", text.replace("<SIL>", "")).strip()
    raise ValueError(
        f"post_process: {kind!r} is unknown. Known: {', '.join(POST_PROCESS_KINDS)}."
    )


class Vocabulary:
    """Words <-> ids (fairseq's `Dictionary`).

    Attributes:
      symbols: word of each id.
      counts: how often each was seen in training text.
      indices: id of each word; of a word that is listed twice, the last.
      num_special: ids below this are special symbols and not written to `dict.txt`.
      bos, pad, eos, unk: ids of the special symbols.
    """

    def __init__(self, words: Iterable[str] = (), *, extra_special_symbols: Sequence[str] = ()):
        self.bos, self.pad, self.eos, self.unk = FAIRSEQ_IDS
        self.symbols: list[str] = []
        self.counts: list[int] = []
        self.indices: dict[str, int] = {}
        for word in (BOS, PAD, EOS, UNK, *extra_special_symbols):
            self.add_symbol(word)
        self.num_special = len(self.symbols)
        for word in words:
            self.add_symbol(word)

    @classmethod
    def of_symbols(
        cls, symbols: Iterable[str], *, bos: int | None, pad: int | None, eos: int,
        unk: int | None, counts: Sequence[int] | None = None, num_special: int = 0,
    ) -> Vocabulary:
        """A vocabulary of another toolkit: the symbol of each id, special ones anywhere.

        Args:
          symbols: of ids 0, 1, ...
          bos: None: texts begin with `eos`.
          pad: None: no symbol pads; rows are filled with an id behind the last, which no text
            has and no model predicts.
          unk: None: every text can be written, or is refused.
          counts, num_special: see the attributes (None: each is counted once).

        Raises:
          VocabularyError: a special id that no symbol has.
        """
        vocabulary = cls()
        vocabulary.symbols, vocabulary.num_special = list(symbols), num_special
        vocabulary.counts = list(counts or [1] * len(vocabulary.symbols))
        vocabulary.indices = {word: i for i, word in enumerate(vocabulary.symbols)}
        size = len(vocabulary)
        for name, value in (("bos", bos), ("pad", pad), ("eos", eos), ("unk", unk)):
            if value is not None and not 0 <= value < size:
                raise VocabularyError(f"{name}: id {value} in a vocabulary of {size} symbols")
        vocabulary.bos = eos if bos is None else bos
        vocabulary.eos = eos
        vocabulary.pad = size if pad is None else pad
        vocabulary.unk = size if unk is None else unk
        return vocabulary

    @property
    def special_ids(self) -> tuple[int, int, int, int]:
        """Of `<s>`, `<pad>`, `</s>` and `<unk>`, whatever they are called here."""
        return self.bos, self.pad, self.eos, self.unk

    def special(self) -> list[int]:
        """Ids of all special symbols that are here, ascending."""
        ids = {*range(self.num_special), *self.special_ids}
        return sorted(i for i in ids if i < len(self))

    @property
    def is_fairseq(self) -> bool:
        """Whether a `dict.txt` can say it: the special symbols have fairseq's ids and names."""
        return (self.special_ids == FAIRSEQ_IDS and self.num_special >= len(FAIRSEQ_IDS)
                and self.symbols[:4] == [BOS, PAD, EOS, UNK])

    @property
    def nameless(self) -> bool:
        """Whether nobody said what the ids mean: all but special symbols are `<4>`, `<5>`, ..."""
        words = ((i, symbol) for i, symbol in enumerate(self.symbols)
                 if i not in self.special_ids and symbol != "<mask>")
        index, first = next(words, (0, ""))  # one word with a name is enough to tell
        return first == placeholder(index) and all(s == placeholder(i) for i, s in words)

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, word: str) -> bool:
        return word in self.indices

    def __getitem__(self, index: int) -> str:
        """The word of an id; `<unk>` for ids beyond the end, as fairseq does."""
        index = int(index)
        if index < 0:
            raise IndexError(f"id {index} is negative")
        return self.symbols[index] if index < len(self.symbols) else self.unk_string()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self.symbols == other.symbols and self.special_ids == other.special_ids

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} symbols)"

    def index(self, word: str) -> int:
        """The id of a word, `unk` for one that is not here."""
        return self.indices.get(word, self.unk)

    def add_symbol(self, word: str, count: int = 1, *, overwrite: bool = False) -> int:
        """Adds a word, or adds to the count of a known one; gives its id.

        Args:
          overwrite: give a known word a new id; its old row stays, unreachable by name.
        """
        if word in self.indices and not overwrite:
            index = self.indices[word]
            self.counts[index] += count
            return index
        index = len(self.symbols)
        self.indices[word] = index
        self.symbols.append(word)
        self.counts.append(count)
        return index

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Adds counted words, in the order of their code points."""
        for word in sorted(counts):
            self.add_symbol(word, counts[word])

    def finalize(self, *, threshold: int = -1, nwords: int = -1, padding_factor: int = 8) -> None:
        """Orders words by falling count (ties by code point), drops rare ones, pads the size.

        Args:
          threshold: words seen less often are dropped.
          nwords: at most this many symbols, special ones included (<= 0: no limit).
          padding_factor: words `madeupword0000`, ... are added until the size is a multiple.
        """
        special = self.num_special
        limit = nwords if nwords > 0 else len(self)
        words = sorted(zip(self.symbols[special:], self.counts[special:], strict=True))
        words.sort(key=lambda word: -word[1])
        kept = [word for word in words[: max(limit - special, 0)] if word[1] >= threshold]
        self.symbols[special:] = [word for word, _ in kept]
        self.counts[special:] = [count for _, count in kept]
        self.indices = {word: i for i, word in enumerate(self.symbols)}
        self.pad_to_multiple(padding_factor)

    def pad_to_multiple(self, factor: int) -> None:
        """Adds `madeupwordNNNN` of count 0 until the size is a multiple of `factor`."""
        number = 0
        while factor > 1 and len(self) % factor:
            self.add_symbol(f"madeupword{number:04d}", 0)
            number += 1

    def encode_line(self, text: str, *, append_eos: bool = True) -> np.ndarray:
        """Words separated by white space -> int32 ids [length], unknown ones as `unk`.

        Raises:
          VocabularyError: an unknown one, in a vocabulary that has no `unk`; or the vocabulary has
            placeholders for words alone.
        """
        if self.nameless:
            raise VocabularyError("the model came without a tokenizer or a dictionary, so that "
                                  "nothing says what the ids of a text are: give ids")
        get, unk = self.indices.get, self.unk
        ids = [get(word, unk) for word in text.split()]
        if unk == len(self) and unk in ids:
            word = text.split()[ids.index(unk)]
            raise VocabularyError(f"{word!r} is not in the vocabulary, which has no symbol for "
                                  "unknown words: is it another tokenizer's?")
        if append_eos:
            ids.append(self.eos)
        return np.array(ids, np.int32)

    def string(
        self,
        ids: Iterable[int] | np.ndarray,
        *,
        post_process: str | None = None,
        escape_unk: bool = False,
        extra_symbols_to_ignore: Collection[int] = (),
        unk_string: str | None = None,
        include_eos: bool = False,
        separator: str = " ",
    ) -> str:
        """Ids [length] -> text, without `<s>` and `</s>` (padding is kept, as in fairseq).

        Args:
          post_process: how pieces become words: `POST_PROCESS_KINDS`.
          escape_unk: write `<<unk>>`, which no reference can contain.
          extra_symbols_to_ignore: more ids to leave out.
          unk_string: what to write for unknown words instead.
          include_eos: keep `</s>`.
          separator: between pieces.

        A matrix [rows, length] gives lines separated by newlines.
        """
        if isinstance(ids, np.ndarray) and ids.ndim == 2:
            return "\n".join(
                self.string(
                    row,
                    post_process=post_process,
                    escape_unk=escape_unk,
                    extra_symbols_to_ignore=extra_symbols_to_ignore,
                    unk_string=unk_string,
                    include_eos=include_eos,
                    separator=separator,
                )
                for row in ids
            )
        left_out = {self.bos, *extra_symbols_to_ignore}
        if not include_eos:
            left_out.add(self.eos)
        unknown = self.unk_string(escape_unk) if unk_string is None else unk_string
        listed = ids.tolist() if isinstance(ids, np.ndarray) else map(int, ids)
        symbols, known = self.symbols, range(len(self.symbols))
        pieces = [
            unknown if index == self.unk else symbols[index] if index in known else self[index]
            for index in listed if index not in left_out
        ]
        return _post_process(separator.join(pieces), post_process)

    def unk_string(self, escape: bool = False) -> str:
        """`<unk>` (or what it is called here), or `<<unk>>` when escaped."""
        name = self.symbols[self.unk] if self.unk < len(self.symbols) else UNK
        return f"<{name}>" if escape else name

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, extra_special_symbols: Sequence[str] = ()
    ) -> Vocabulary:
        """Reads a `dict.txt`.

        Raises:
          FileNotFoundError: there is no such file.
          VocabularyError: a line that is not `word count`, or a word that is listed twice
            without `#fairseq:overwrite`, or text that is not UTF-8.
        """
        path = os.fspath(path)
        try:
            with io.TextIOWrapper(compression.open_bytes(path), encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such dictionary") from None
        except UnicodeDecodeError as error:
            raise VocabularyError(f"{path}: not UTF-8 (byte {error.start})") from None
        return cls.parse(text, name=path, extra_special_symbols=extra_special_symbols)

    @classmethod
    def parse(
        cls, text: str, *, name: str = "dict.txt", extra_special_symbols: Sequence[str] = ()
    ) -> Vocabulary:
        """The content of a `dict.txt`; `name` is for error messages."""
        vocabulary = cls(extra_special_symbols=extra_special_symbols)
        # Only "\n" ends a line here (files were opened in text mode): words may hold U+2028.
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()
        for number, line in enumerate(lines, 1):
            word, count, overwrite = _parse_line(line, f"{name}:{number}")
            if word in vocabulary and not overwrite:
                raise VocabularyError(
                    f"{name}:{number}: {word!r} is listed twice"
                    f" (first as id {vocabulary.indices[word]}). Remove one, or end this line"
                    f" with ' {OVERWRITE}' to let it replace the first."
                )
            vocabulary.add_symbol(word, count, overwrite=overwrite)
        return vocabulary

    def to_text(self) -> str:
        """The content of a `dict.txt`: every word that is not special, with its count.

        A word that stands for an earlier one (`<pad> 1 #fairseq:overwrite`) keeps that mark,
        without which neither fairseq nor `parse` takes the file; fairseq itself drops it.
        """
        special = self.num_special
        seen, lines = set(self.symbols[:special]), []
        for word, count in zip(self.symbols[special:], self.counts[special:], strict=True):
            lines.append(f"{word} {count} {OVERWRITE}\n" if word in seen else f"{word} {count}\n")
            seen.add(word)
        return "".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a `dict.txt`, whole or not at all."""
        whole_files.write(path, self.to_text().encode())

    def to_bytes(self) -> bytes:
        """Everything, special symbols included; `from_bytes` reads it back."""
        state = {
            "format": 2,
            "special_ids": self.special_ids,
            "num_special": self.num_special,
            "symbols": self.symbols,
            "counts": self.counts,
        }
        return json.dumps(state, ensure_ascii=False).encode("utf-8", "surrogatepass")

    @classmethod
    def from_bytes(cls, data: bytes) -> Vocabulary:
        """What `to_bytes` wrote.

        Raises:
          VocabularyError: the bytes are of something else.
        """
        try:
            state = json.loads(data.decode("utf-8", "surrogatepass"))
            symbols, counts = list(state["symbols"]), list(state["counts"])
            num_special = int(state["num_special"])
            special = tuple(map(int, state.get("special_ids", FAIRSEQ_IDS)))
            bos, pad, eos, unk = special
        except (ValueError, KeyError, TypeError) as error:
            raise VocabularyError(f"these bytes hold no vocabulary ({error!r})") from None
        size = len(symbols)
        if size != len(counts) or not all(0 <= i <= size for i in special):
            raise VocabularyError("these bytes hold no vocabulary (wrong special symbols)")
        return cls.of_symbols(
            symbols, bos=bos, pad=None if pad == size else pad, eos=eos,
            unk=None if unk == size else unk, counts=counts, num_special=num_special)


# `Vocabulary.string` has an argument of the function's name, which is fairseq's.
_post_process = post_process


def _parse_line(line: str, where: str) -> tuple[str, int, bool]:
    """A line of `dict.txt` as (word, count, overwrite)."""
    word, space, count = line.rstrip().rpartition(" ")
    overwrite = count == OVERWRITE
    if overwrite:
        word, space, count = word.rpartition(" ")
    try:
        number = int(count)
    except ValueError:
        number = None
    if number is None or not space:
        raise VocabularyError(
            f"{where}: expected 'word count' or 'word count {OVERWRITE}', got {line!r}"
        )
    return word, number, overwrite
