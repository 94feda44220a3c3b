"""Texts as the ids that pretrained models read, and back: fairseq's hub, whose `encode` joins
several and whose `decode` parts them.

    <s> a </s>                      one text
    <s> a </s> </s> b </s>          a pair, for a model that encodes
    <s> a </s> b </s>               a pair, for a model whose decoder reads the sentence as well,
                                    or that tells the second text from the first (BERT)

Models of other kinds read a text as their task puts it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqjax.config import ConfigError
from seqjax.data.tokenizers import HuggingFaceTokenizer, Tokenizer
from seqjax.data.tokenizers.huggingface import Around
from seqjax.models.protocol import SentenceClassifier
from seqjax.tasks.protocol import TextTask

MASKS = ("<mask>", "[MASK]")
"""How vocabularies call what stands for a word that is to be found; texts may write either."""
_SPACE = "\u2581"
"""What a piece of SentencePiece begins with that begins a word."""


def joins(task: TextTask, model: SentenceClassifier) -> bool:
    """Whether the model reads sentences as fairseq's hub writes them (a
    `protocol.SentenceClassifier`), and its task puts no other tokens around them."""
    if hasattr(task.config, "source_form"):  # which says what stands around them
        return False
    frame = task.source_frame
    return getattr(model, "decodes_source", None) is not None and (
        frame.is_plain or frame.before == (task.source_vocab.bos,))


def sentence_ids(
    task: TextTask, model: SentenceClassifier, texts: Sequence[str], *,
    separated: bool | None = None,
) -> np.ndarray:
    """One sequence of ids of one text or several.

    A task that says itself what stands in front of its inputs (`init_token`,
    `separator_token`), as the tasks of labelled sentences do, is followed: so was the model
    trained. Else it is as fairseq's hub has it.

    Args:
      separated: whether a further eos stands between texts (None: as the model was trained).

    Returns:
      [S] int32.

    Raises:
      ConfigError: several texts for a model that reads one.
    """
    pair = around_pair(task, model) if len(texts) == 2 and separated is None else None
    if pair is not None:
        first, second = (words_of(task, text) for text in texts)
        return np.array(pair.ids(first.tolist(), second.tolist()), np.int32)
    if not joins(task, model):
        if len(texts) > 1:
            raise ConfigError(f"encode: a model of {model.config.name!r} with the task "
                              f"{task.config.name!r} reads one text, and was given {len(texts)}")
        return task.encode_source(texts[0])
    return framed(task, model, [words_of(task, text) for text in texts], separated=separated)


def around_pair(task: TextTask, model: SentenceClassifier) -> Around | None:
    """What stands around two texts where a folder's own `tokenizer.json` says it; None where that
    is fairseq's rule or the task's, or the model reads one text."""
    tokenizer, config = task.source_tokenizer, task.config
    if getattr(model, "decodes_source", None) is None or not isinstance(
            tokenizer, HuggingFaceTokenizer):
        return None
    if any(hasattr(config, key) for key in ("init_token", "separator_token")):
        return None
    found = tokenizer.around(pair=True)
    eos = task.source_vocab.eos
    return found if eos in found.between and found.last[-1:] == (eos,) else None


def framed(
    task: TextTask, model: SentenceClassifier, parts: Sequence[np.ndarray], *,
    separated: bool | None = None,
) -> np.ndarray:
    """Ids of words, sentence by sentence, with what stands around them (see `sentence_ids`)."""
    vocab, config = task.source_vocab, task.config
    first = getattr(config, "init_token", None)
    between = getattr(config, "separator_token", None)
    if separated is None:
        separated = between is not None or not (
            model.decodes_source or getattr(model, "marks_pairs", False))
    between = vocab.eos if between is None else between
    found: list[Any] = [[vocab.bos if first is None else first]]
    for number, words in enumerate(parts):
        found += [[between]] if number and separated else []
        found += [words, [vocab.eos]]
    return np.concatenate([np.asarray(part, np.int32) for part in found])


def words_of(task: TextTask, text: str) -> np.ndarray:
    """Ids of a text's words or pieces alone."""
    tokenizer = task.source_tokenizer
    line = text if tokenizer is None else tokenizer.encode(text)
    return task.source_vocab.encode_line(line, append_eos=False)


def cut(
    task: TextTask, model: SentenceClassifier, texts: Sequence[str], *, limit: int
) -> list[np.ndarray]:
    """Ids of the words of each text; of a model whose decoder reads the sentence as well, the
    first text is cut to what the model takes, as fairseq's hub does, with a warning."""
    parts = [words_of(task, text) for text in texts]
    if model.decodes_source and len(parts[0]) > limit - 2:
        warnings.warn(f"encode: the text has {len(parts[0])} tokens, and the model takes "
                      f"{limit - 2} between <s> and </s>: the others are left out, as fairseq does",
                      stacklevel=3)
        parts[0] = parts[0][: limit - 2]
    return parts


def sentences_of(task: TextTask, ids: np.ndarray) -> Any:
    """Text of ids as `sentence_ids` makes them, special tokens left out; a list of texts where
    two eos in a row part several."""
    vocab = task.source_vocab
    if len(ids) and ids[0] == vocab.bos:
        ids = ids[1:]
    ends = ids == vocab.eos
    places = np.flatnonzero(ends[1:] & ends[:-1]) + 1
    texts = [task.decode_source(part) for part in np.split(ids, places)]
    return texts[0] if len(texts) == 1 else texts


# ---- masks ----


def mask_id(task: TextTask) -> int:
    """Id of the word that stands for what is to be found.

    Raises:
      ConfigError: the vocabulary has none.
    """
    for name in MASKS:
        if name in task.source_vocab:
            return task.source_vocab.index(name)
    raise ConfigError(f"fill_mask: the model's vocabulary has no {MASKS[0]}: it was not trained to "
                      "fill masks")


def masked_parts(text: str) -> list[str]:
    """What stands between the masks of a text."""
    return text.replace(MASKS[1], MASKS[0]).split(MASKS[0])


def masked_ids(task: TextTask, model: SentenceClassifier, text: str) -> np.ndarray:
    """Ids of a text with masks: what stands between them is tokenised by itself, without white
    space at its end, as fairseq's `fill_mask` does."""
    mask = np.array([mask_id(task)], np.int32)
    words: list[np.ndarray] = []
    for part in masked_parts(text):
        words += [words_of(task, part.rstrip()), mask]
    whole = np.concatenate(words[:-1])
    return framed(task, model, [whole]) if joins(task, model) else task.source_frame.put(whole)


def word_of(task: TextTask, index: int) -> tuple[str, bool]:
    """A word or piece as it stands in a text, and whether it says itself if a space stands in
    front of it: pieces of byte-level BPE and of SentencePiece do, BERT's of what a word goes on
    with, and no special symbols."""
    vocab, tokenizer = task.source_vocab, task.source_tokenizer
    symbol = vocab[index]
    if tokenizer is None or symbol in MASKS or index in (
            vocab.bos, vocab.pad, vocab.eos, vocab.unk):
        return symbol, False
    text = tokenizer.decode(symbol)
    if symbol.startswith(_SPACE) and not text.startswith(" "):
        return f" {text}", True
    if symbol.startswith("##"):
        return symbol[2:], True
    return text, any(word.startswith((_SPACE, "Ġ")) for word in vocab.symbols) or _byte_level(
        tokenizer)


def with_word(text: str, word: str, *, spaced: bool) -> str:
    """The text with a word in the place of its mask.

    Args:
      spaced: the word says itself if a space stands in front of it, so that the mask's own does
        not count (see `word_of`).
    """
    for mask in MASKS:
        text = text.replace(f" {mask}", word) if spaced and f" {mask}" in text else (
            text.replace(mask, word))
    return text


def _byte_level(tokenizer: Tokenizer) -> bool:
    """Whether pieces are integers of a byte-level BPE."""
    return any(value in ("gpt2", "hf_byte_bpe") for key, value in tokenizer.to_state().items()
               if key.rpartition(".")[2] == "kind")
