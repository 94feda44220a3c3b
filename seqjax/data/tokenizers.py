"""Tokenizers: text -> pieces joined by spaces, and back.

Each one is what fairseq calls by the same name (`--tokenizer moses`, `--bpe subword_nmt`,
`sentencepiece`, `characters`, `bytes`), so a vocabulary made here or there reads the pieces
of both. A tokenizer is a few strings and the bytes of a model: `to_state` gives them as a
flat dict, which a checkpoint or a data folder can hold, and `from_state` builds it again.

    tokenizer = SentencePieceTokenizer(model=open("spm.model", "rb").read())
    tokenizer.encode("Hello world!")          # "▁Hello ▁world !"
    tokenizer.decode("▁Hello ▁world !")       # "Hello world!"

The libraries are imported when a tokenizer that needs them is made.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

from seqjax.data import vocabulary

_SPACE_MARK = "\u2581"
_WHITE_SPACE = re.compile(r"\s")
_WHITE_SPACES = re.compile(r"\s+")
_OTHER_SPACE = re.compile(r"[^\S ]")

UNICODE_FORMS = ("nfc", "nfkc", "nfd", "nfkd")

State = dict[str, str | bytes]


class TokenizerError(ValueError):
    """A tokenizer that cannot be made; the message says what to do."""


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
        return (from_state, (self.to_state(),))  # the libraries' objects do not all pickle

    def __repr__(self) -> str:
        shown = {
            key: f"<{len(value)} bytes>" if isinstance(value, bytes) else value
            for key, value in self.options().items()
        }
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


class WhitespaceTokenizer(Tokenizer):
    """Words are what white space separates (fairseq's `space`); for text that is ready."""

    kind = "whitespace"

    def encode(self, text: str) -> str:
        return " ".join(text.split())

    def decode(self, pieces: str) -> str:
        return pieces


class CharactersTokenizer(Tokenizer):
    """One piece per character, `▁` for white space (fairseq's `characters`)."""

    kind = "characters"

    def encode(self, text: str) -> str:
        # fairseq marks the space only; tabs and the like would vanish in the vocabulary.
        return " ".join(_WHITE_SPACE.sub(_SPACE_MARK, text))

    def decode(self, pieces: str) -> str:
        return pieces.replace(" ", "").replace(_SPACE_MARK, " ")


class BytesTokenizer(Tokenizer):
    """One piece per UTF-8 byte, with fairseq's `bytes` symbols.

    A byte that is a printable Latin-1 character stands for itself, byte b otherwise for
    the character 256 + b, a space for `▁`. Runs of white space count as one space. Bytes
    that are no UTF-8 are left out when decoding.
    """

    kind = "bytes"

    def encode(self, text: str) -> str:
        data = _WHITE_SPACES.sub(" ", text).encode("utf-8")
        return " ".join(_byte_symbols()[byte] for byte in data)

    def decode(self, pieces: str) -> str:
        values = _byte_values()
        # A piece that is no byte, such as <unk>, has characters that are bytes: drop it whole.
        data = bytes(values[piece] for piece in pieces.split(" ") if piece in values)
        return data.decode("utf-8", errors="ignore")


@functools.cache
def _byte_symbols() -> list[str]:
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    symbols = [chr(byte) if byte in plain else chr(256 + byte) for byte in range(256)]
    symbols[ord(" ")] = _SPACE_MARK
    return symbols


@functools.cache
def _byte_values() -> dict[str, int]:
    return {symbol: byte for byte, symbol in enumerate(_byte_symbols())}


class MosesTokenizer(Tokenizer):
    """Words and punctuation marks, by the Moses scripts' rules (through sacremoses).

    Args:
      lang: language code, for abbreviations, apostrophes and quotes.
      dash_splits: split words at hyphens, which become ` @-@ `, as fairseq does by default.
      escape: write `&apos;` and the like for characters that are special to Moses.
    """

    kind = "moses"

    def __init__(
        self, *, lang: str = "en", dash_splits: bool | str = True, escape: bool | str = True
    ):
        import sacremoses

        self.lang = lang
        self.dash_splits = _boolean("dash_splits", dash_splits)
        self.escape = _boolean("escape", escape)
        self._tokenizer = sacremoses.MosesTokenizer(lang)
        self._detokenizer = sacremoses.MosesDetokenizer(lang)

    def encode(self, text: str) -> str:
        tokens = self._tokenizer.tokenize(
            text, aggressive_dash_splits=self.dash_splits, return_str=True, escape=self.escape
        )
        return str(tokens)

    def decode(self, pieces: str) -> str:
        return str(self._detokenizer.detokenize(pieces.split()))

    def options(self) -> State:
        return {
            "lang": self.lang,
            "dash_splits": str(self.dash_splits).lower(),
            "escape": str(self.escape).lower(),
        }


def _boolean(name: str, value: bool | str) -> bool:
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise TokenizerError(f"moses: {name} must be true or false, not {value!r}")


class UnicodeTokenizer(Tokenizer):
    """Text in one of Unicode's normal forms, in which a letter with an accent is one
    character or two, but never now this and now that; no pieces.

    Args:
      form: `nfc`, `nfkc`, `nfd` or `nfkd`.
    """

    kind = "unicode"

    def __init__(self, *, form: str):
        if form not in UNICODE_FORMS:
            raise TokenizerError(f"unicode: form must be one of {', '.join(UNICODE_FORMS)},"
                                 f" not {form!r}")
        self.form = form

    def encode(self, text: str) -> str:
        return unicodedata.normalize(cast(Any, self.form.upper()), text)

    def decode(self, pieces: str) -> str:
        return pieces

    def options(self) -> State:
        return {"form": self.form}


class SubwordNMTTokenizer(Tokenizer):
    """Byte-pair encoding with subword-nmt's codes; `@@ ` continues a word.

    subword-nmt itself takes only U+0020 for a space and would make one word of two that a
    tab or a no-break space separates; here all white space separates words.

    Args:
      codes: content of the codes file (UTF-8).
    """

    kind = "subword_nmt"

    def __init__(self, *, codes: bytes):
        from subword_nmt.apply_bpe import BPE

        self._codes = codes
        self._bpe = BPE(io.StringIO(_checked_codes(codes)))

    def encode(self, text: str) -> str:
        return self._bpe.process_line(_OTHER_SPACE.sub(" ", text))

    def decode(self, pieces: str) -> str:
        return vocabulary.post_process(pieces, "subword_nmt")

    def options(self) -> State:
        return {"codes": self._codes}


def _checked_codes(codes: bytes) -> str:
    """The text of a codes file; subword-nmt itself would end the process on a bad line."""
    try:
        text = codes.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"BPE codes: not UTF-8 (byte {error.start})") from None
    lines = text.rstrip("\n").split("\n")
    first = 1 if lines[0].startswith("#version:") else 0
    for number, line in enumerate(lines[first:], first + 1):
        if len(line.strip("\r\n ").split(" ")) != 2:
            raise TokenizerError(
                f"BPE codes: line {number} is {line!r}, expected two units and a space between."
                " Codes are what `subword-nmt learn-bpe` writes."
            )
    return text


class SentencePieceTokenizer(Tokenizer):
    """Pieces of a SentencePiece model; `▁` starts a word.

    Args:
      model: content of the `.model` file.
    """

    kind = "sentencepiece"

    def __init__(self, *, model: bytes):
        import sentencepiece

        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise TokenizerError(f"not a SentencePiece model ({len(model)} bytes)") from error

    def encode(self, text: str) -> str:
        return " ".join(self._processor.encode(text, out_type=str))

    def decode(self, pieces: str) -> str:
        return vocabulary.post_process(pieces, "sentencepiece")

    def options(self) -> State:
        return {"model": self._model}


class ChainTokenizer(Tokenizer):
    """One tokenizer after the other (fairseq's `--tokenizer moses --bpe subword_nmt`)."""

    kind = "chain"

    def __init__(self, *parts: Tokenizer):
        if not parts:
            raise TokenizerError("a chain needs at least one tokenizer")
        self.parts = parts

    def encode(self, text: str) -> str:
        for part in self.parts:
            text = part.encode(text)
        return text

    def decode(self, pieces: str) -> str:
        for part in reversed(self.parts):
            pieces = part.decode(pieces)
        return pieces

    def options(self) -> State:
        return {
            f"{i}.{key}": value
            for i, part in enumerate(self.parts)
            for key, value in part.to_state().items()
        }


TOKENIZERS: dict[str, type[Tokenizer]] = {
    "sentencepiece": SentencePieceTokenizer,
    "subword_nmt": SubwordNMTTokenizer,
    "moses": MosesTokenizer,
    "characters": CharactersTokenizer,
    "bytes": BytesTokenizer,
    "whitespace": WhitespaceTokenizer,
    "unicode": UnicodeTokenizer,
}


def from_state(state: Mapping[str, str | bytes]) -> Tokenizer:
    """The tokenizer whose `to_state` this is.

    Raises:
      TokenizerError: an unknown kind or unusable options.
    """
    options: dict[str, Any] = dict(state)
    kind = options.pop("kind", None)
    if kind == ChainTokenizer.kind:
        return ChainTokenizer(*_parts_from_state(options))
    if kind not in TOKENIZERS:
        raise TokenizerError(
            f"tokenizer {kind!r} is unknown. Known: {', '.join(TOKENIZERS)}."
        )
    try:
        return TOKENIZERS[kind](**options)
    except TypeError as error:
        raise TokenizerError(f"tokenizer {kind!r}: {error}") from None


def _parts_from_state(options: Mapping[str, str | bytes]) -> list[Tokenizer]:
    parts: dict[int, State] = {}
    for name, value in options.items():
        number, _, key = name.partition(".")
        parts.setdefault(int(number), {})[key] = value
    return [from_state(parts[number]) for number in sorted(parts)]


def chain(parts: Sequence[Tokenizer]) -> Tokenizer:
    """A single tokenizer as it is, several as a chain."""
    return parts[0] if len(parts) == 1 else ChainTokenizer(*parts)


def train_sentencepiece(
    lines: Iterable[str],
    *,
    vocab_size: int,
    model_type: str = "unigram",
    character_coverage: float = 1.0,
) -> SentencePieceTokenizer:
    """Trains a SentencePiece model; the same lines give the same bytes.

    Args:
      lines: text, one sentence each. They are kept in memory by the trainer.
      vocab_size: pieces, with `<unk>`, `<s>` and `</s>`.
      model_type: `unigram` or `bpe`.
      character_coverage: share of the text's characters that get a piece of their own; for
        languages with thousands of characters 0.9995 is usual.

    Raises:
      TokenizerError: the text is too small or the vocabulary too large or too small.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage,
            max_sentence_length=1 << 16,
            # A fixed number of threads, whatever the machine: sums of floats depend on it.
            num_threads=4,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise TokenizerError(_explain_sentencepiece(str(error), vocab_size)) from None
    return SentencePieceTokenizer(model=model.getvalue())


def _explain_sentencepiece(message: str, vocab_size: int) -> str:
    if limit := re.search(r"Please set it to a value <= (\d+)", message):
        return (
            f"--vocab-size {vocab_size} is too large for this text: SentencePiece finds"
            f" {limit[1]} pieces at most. Use --vocab-size {limit[1]} or less, or more text."
        )
    if "smaller than required_chars" in message or "required_chars_size" in message:
        need = re.search(r"(\d+) vs (\d+)", message)
        detail = f" (it has {need[2]} different characters)" if need else ""
        return (
            f"--vocab-size {vocab_size} is too small for the characters of this text{detail}."
            " Use a larger one, or a lower --character-coverage."
        )
    if "!sentences_.empty()" in message or "empty" in message.lower():
        return "SentencePiece: there is no text to train on"
    return f"SentencePiece cannot be trained: {message.strip()}"


def train_subword_nmt(
    lines: Iterable[str], *, vocab_size: int, say: Callable[[str], None] = lambda line: None
) -> SubwordNMTTokenizer:
    """Learns BPE codes with subword-nmt; deterministic.

    Args:
      lines: text, already split into words.
      vocab_size: pieces in all: characters and merges together.
      say: takes a line if there are fewer in the text.

    Raises:
      TokenizerError: there is no text, or not even the characters fit.
    """
    from subword_nmt.learn_bpe import learn_bpe

    codes, report = io.StringIO(), io.StringIO()
    # It reports on stderr, with a progress bar.
    with contextlib.redirect_stderr(report):
        try:
            spaced = (_OTHER_SPACE.sub(" ", line) for line in lines)
            learn_bpe(spaced, codes, vocab_size, total_symbols=True)
        except ValueError:
            raise TokenizerError(
                "BPE: there is no text to learn from (no word has two letters)"
            ) from None
    text = codes.getvalue()
    characters = sum(map(int, re.findall(r"Number of word-\w+ characters: (\d+)",
                                         report.getvalue())))
    if text.count("\n") <= 1:
        raise TokenizerError(
            "BPE: no two pieces follow each other more than once in this text, so that there is "
            "nothing to merge: there is too little text for --tokenizer subword_nmt"
            if 0 < characters < vocab_size else
            f"--vocab-size {vocab_size} leaves no merges after the {characters:,} characters of "
            "this text. Use a larger one."
        )
    if characters and (pieces := characters + text.count("\n") - 1) < vocab_size:
        say(f"warning: BPE found {pieces:,} pieces, not the {vocab_size:,} of --vocab-size: no two "
            "pieces follow each other more than once any longer. There is too little text for "
            f"more; with --vocab-size {pieces} or less this line goes")
    return SubwordNMTTokenizer(codes=text.encode("utf-8"))
