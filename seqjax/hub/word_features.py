"""From features of pieces to features of words: a text and its words in, which pieces each word is
made of out, and sums or means of their features.

fairseq's `extract_features_aligned_to_words`, for any tokenizer and any words.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from seqjax.data.tokenizers import Tokenizer
from seqjax.tasks.protocol import TextTask

_INCOMPLETE = "\ufffd"
"""What the bytes of a character are shown as that is not complete yet."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WordFeatures:
    """Words and their features. Iterating gives pairs of both."""

    words: list[str]
    """`<s>` and `</s>` among them where the model reads these."""
    features: np.ndarray
    """[W, D] float32."""

    def __len__(self) -> int:
        return len(self.words)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        return iter(zip(self.words, self.features, strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordPieces:
    """Words of a text, and which of its pieces, from 0, each is made of."""

    words: list[str]
    pieces: list[list[int]]


def align(task: TextTask, text: str, words: Sequence[str] | None) -> WordPieces:
    """Words of a text among its pieces.

    Args:
      words: None: what white space separates.

    Raises:
      ValueError: the words are not the text's, or not to be found in its pieces.
    """
    found = text.split() if words is None else [str(word).strip() for word in words]
    if not all(found):
        raise ValueError("words: one of them is blank")
    if "".join("".join(found).split()) != "".join(text.split()):
        raise ValueError("words: together they are not the text")
    tokenizer = task.source_tokenizer
    if tokenizer is None:
        ends = np.cumsum([len(piece) for piece in text.split()]).tolist()
        spans = list(zip([0, *ends], ends, strict=False))
        pieces = _by_spans("".join(text.split()), spans, found)
    else:
        pieces = _by_words(tokenizer, text, found) or _by_spans(
            *_spans(tokenizer, tokenizer.encode(text).split()), found)
    if pieces is None:
        raise ValueError("the words cannot be found in the pieces of the text, which its tokenizer "
                         f"changes: {text[:40]!r}")
    return WordPieces(words=found, pieces=pieces)


def of_pieces(
    task: TextTask, ids: np.ndarray, features: np.ndarray, found: WordPieces, *, mean: bool
) -> WordFeatures:
    """Features of words.

    Args:
      ids: [S] what the model read: the pieces, and what stands around them.
      features: [S, D].
      mean: see `Featuring.extract_features_aligned_to_words`.
    """
    vocab = task.source_vocab
    begin = 1 if len(ids) and int(ids[0]) == vocab.bos and vocab.bos != vocab.eos else 0
    end = max((p for part in found.pieces for p in part), default=-1) + 1 + begin
    shared = Counter(p for part in found.pieces for p in part)
    weighted = np.stack([
        features[k] / (1 if mean else shared.get(k - begin, 1)) for k in range(len(features))])
    words = [vocab[int(ids[k])] for k in range(begin)]
    rows = [weighted[k] for k in range(begin)]
    for word, part in zip(found.words, found.pieces, strict=True):
        places = [p + begin for p in part]
        words.append(word)
        rows.append(weighted[places].mean(axis=0) if mean else weighted[places].sum(axis=0))
    words += [vocab[int(ids[k])] for k in range(end, len(ids))]
    rows += [weighted[k] for k in range(end, len(ids))]
    return WordFeatures(words=words, features=np.stack(rows).astype(np.float32))


def _by_words(
    tokenizer: Tokenizer, text: str, words: Sequence[str]
) -> list[list[int]] | None:
    """Pieces of each word by itself, with the white space in front of it; None where these are not
    the pieces of the whole text."""
    whole, at, start = tokenizer.encode(text).split(), 0, 0
    places: list[list[int]] = []
    for word in words:
        end = text.find(word, at) + len(word)
        if end < len(word):
            return None
        own = tokenizer.encode(text[at:end]).split()
        if not own or whole[start : start + len(own)] != own:
            return None
        places.append(list(range(start, start + len(own))))
        at, start = end, start + len(own)
    return places if start == len(whole) else None


def _spans(tokenizer: Tokenizer, pieces: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The text of pieces without white space, and where each piece is in it; a character whose
    bytes are in several pieces is in each of them."""
    found, before = [], 0
    for count in range(1, len(pieces) + 1):
        text = "".join(tokenizer.decode(" ".join(pieces[:count])).split())
        complete = text.rstrip(_INCOMPLETE)
        found.append((before, len(complete) + (len(complete) < len(text))))
        before = len(complete)
    return "".join(tokenizer.decode(" ".join(pieces)).split()), found


def _by_spans(
    text: str, spans: Sequence[tuple[int, int]], words: Sequence[str]
) -> list[list[int]] | None:
    """Pieces of each word by the characters of both; None where these differ.

    Args:
      text: of the pieces, without white space.
      spans: where each piece is in it.
    """
    if text != "".join(words):
        return None
    places, start = [], 0
    for word in words:
        end = start + len(word)
        places.append([n for n, (first, last) in enumerate(spans) if first < end and start < last])
        start = end
    return places if all(places) else None
