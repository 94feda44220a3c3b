"""Text -> a tokenizer that is trained on it."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterable
from typing import Any

from seqjax.data.tokenizers.base import TokenizerError
from seqjax.data.tokenizers.sentencepieces import SentencePieceTokenizer
from seqjax.data.tokenizers.subwords import OTHER_SPACE, SubwordNMTTokenizer


def train_sentencepiece(
    lines: Iterable[str],
    *,
    vocab_size: int,
    model_type: str = "unigram",
    character_coverage: float = 1.0,
    fairseq_ids: bool = False,
) -> SentencePieceTokenizer:
    """Trains a SentencePiece model; the same lines give the same bytes.

    Args:
      lines: text, one sentence each. They are kept in memory by the trainer.
      vocab_size: pieces, with `<unk>`, `<s>` and `</s>`.
      model_type: `unigram` or `bpe`.
      character_coverage: share of the text's characters that get a piece of their own; for
        languages with thousands of characters 0.9995 is usual.
      fairseq_ids: special symbols, `<pad>` among them, have the ids of fairseq's dictionaries, so
        that one of these pieces has `vocab_size` entries.

    Raises:
      TokenizerError: the text is too small or the vocabulary too large or too small.
    """
    import sentencepiece

    ids: dict[str, Any] = {"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}

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
            **(ids if fairseq_ids else {}),
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
            spaced = (OTHER_SPACE.sub(" ", line) for line in lines)
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
