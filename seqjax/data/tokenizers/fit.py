"""Whether a tokenizer is the one that a dictionary's words were cut by."""

from __future__ import annotations

import re

from seqjax.data.tokenizers import SentencePieceTokenizer, Tokenizer, TokenizerError
from seqjax.data.vocabulary import Vocabulary

_ADDED = re.compile(r"<.*>|\[.*\]|__.*__|madeupword\d+_?")
"""Words that tasks add: `<mask>`, `[en_XX]`, `__en__`."""
_MOST_FOREIGN = 0.1
_LEAST_KNOWN = 0.5


def misfit(tokenizer: Tokenizer, vocabulary: Vocabulary) -> str | None:
    """What is wrong with a tokenizer for a dictionary, in a few words; None if it may be the one.

    A dictionary need not have all pieces of its tokenizer: it has those that its text had. But its
    words are pieces, all but those that are of characters unknown to the tokenizer.
    """
    symbols = tokenizer.symbols()
    if symbols is None:
        return None
    known = set(symbols)
    words = [word for word in vocabulary.symbols[max(4, vocabulary.num_special):]
             if not _ADDED.fullmatch(word)]
    unknown = [word for word in words if word not in known]
    foreign = unknown
    if isinstance(tokenizer, SentencePieceTokenizer):  # it gives such characters as they are
        letters = set().union(*known)
        foreign = [word for word in unknown if letters.issuperset(word)]
    if (len(foreign) <= _MOST_FOREIGN * len(words)
            and len(unknown) <= (1 - _LEAST_KNOWN) * len(words)):
        return None
    shown = foreign if len(foreign) > _MOST_FOREIGN * len(words) else unknown
    share = 100 * len(shown) / len(words)
    return (f"{len(shown):,} of its {len(words):,} words ({share:.0f}%) are no pieces of the "
            f"{tokenizer.kind} tokenizer, the first: "
            + ", ".join(map(repr, shown[:3])))


def check(tokenizer: Tokenizer, vocabulary: Vocabulary, *, where: str) -> None:
    """Refuses a tokenizer that is not the dictionary's.

    Args:
      where: the dictionary's file.

    Raises:
      TokenizerError: with the share of its words that are no pieces.
    """
    wrong = misfit(tokenizer, vocabulary)
    if wrong is not None:
        raise TokenizerError(f"{where}: {wrong}: this is not the tokenizer that the dictionary was "
                             "made with")
