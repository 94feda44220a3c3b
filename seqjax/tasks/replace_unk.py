"""Unknown words of a translation replaced by what they are aligned with in the source.

fairseq's `--replace-unk`. A dictionary of aligned words is a file that `preprocess
--alignfile` makes. Works on the words, or pieces, that ids stand for: before pieces are
joined and text is detokenised.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from seqjax.config import ConfigError
from seqjax.data import sources
from seqjax.data.vocabulary import post_process
from seqjax.tasks import inputs
from seqjax.tasks.inputs import Encoded
from seqjax.tasks.protocol import TextTask


def load_dictionary(path: str | os.PathLike[str]) -> dict[str, str]:
    """Source word -> target word, from a file of two words a line.

    Raises:
      FileNotFoundError: there is no such file.
      ConfigError: a line with less than two words, no lines, or text that is not UTF-8.
    """
    words: dict[str, str] = {}
    try:
        lines = sources.read_text(os.fspath(path))
    except sources.SourceError as error:
        raise ConfigError(str(error)) from None
    for number, line in enumerate(lines, 1):
        columns = line.split()
        if len(columns) < 2:
            raise ConfigError(f"{os.fspath(path)}: line {number}: expected a source word and a "
                              f"target word, got {line.rstrip()!r}")
        words[columns[0]] = columns[1]
    return words


def as_dictionary(value: bool | Mapping[str, str] | None) -> Mapping[str, str] | None:
    """What `replace_unk` means: True is an empty dictionary (copy), False none at all.

    Raises:
      ConfigError: it is something else.
    """
    if value is True:
        return {}
    if value is None or value is False:
        return None
    if not isinstance(value, Mapping):
        raise ConfigError(f"replace_unk: {value!r} is neither True nor a dict of source word -> "
                          "target word (tasks.replace_unk.load_dictionary reads a file)")
    return value


def source_words(
    task: TextTask, source: str | Sequence[int] | np.ndarray | Encoded
) -> list[str]:
    """The words that alignments count, as they were written where the source is text.

    Args:
      task: has `source_vocab` and `source_tokenizer`.
      source: text, ids (whose unknown words nobody knows any more), or both.
    """
    vocab, known = task.source_vocab, inputs.encoded(task, source)
    ids = [int(i) for i in known.ids]
    words = [vocab[i] for i in ids]
    if known.pieces is not None:
        start = len(task.source_frame.before)
        words[start:start + len(known.pieces)] = known.pieces
    left_out = (vocab.pad, vocab.eos)  # the final eos is no piece
    return [word for word, i in zip(words, ids, strict=True) if i not in left_out]


def replaced_words(
    task: TextTask, tokens: Sequence[int] | np.ndarray, alignment: Sequence[tuple[int, int]],
    words: Sequence[str], dictionary: Mapping[str, str],
) -> list[str]:
    """The words of a hypothesis; an unknown one is what the dictionary says of the source
    word that it is aligned with, or else that word itself.

    Args:
      task: has `target_vocab`.
      tokens: target ids.
      alignment: (source place, target place) pairs, eos left out on both sides.
      words: as `source_words` gives them.
    """
    vocab, partner = task.target_vocab, {target: source for source, target in alignment}
    result, place = [], -1
    for token in map(int, tokens):
        if token in (vocab.eos, vocab.pad):
            continue
        place += 1
        if token == vocab.unk and place in partner:
            word = words[partner[place]]
            result.append(dictionary.get(word, word))
        elif token != vocab.bos and token not in task.unspoken_target:
            result.append(vocab[token])
    return result


def join_words(task: TextTask, words: Sequence[str]) -> str:
    """Target words, or pieces, as plain text, detokenised.

    Args:
      task: has `target_tokenizer` and `config.post_process`.
    """
    line = " ".join(words)
    if task.target_tokenizer is None:
        return post_process(line, task.config.post_process)
    return task.target_tokenizer.decode(line)
