"""What fairseq-generate and fairseq-interactive print, line for line.

Hypotheses of one sentence and the task's vocabularies go in, lines of text come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.data import sources
from seqjax.data.vocabulary import post_process as join_pieces
from seqjax.tasks import metrics, output_constraints
from seqjax.tasks.protocol import TextTask

_BASE_2 = np.float32(np.log(2))
Ids = Sequence[int] | np.ndarray
Result = Mapping[str, Any]
"""A hypothesis as plain data: `tokens`, `score`, `positional_scores` (natural logarithms)
and `text`; where they were asked for also `alignment`, `attention`, and `words` (with unknown
ones replaced)."""


def source_text(task: TextTask, ids: Ids, *, post_process: str | None) -> str:
    """A source as the S- line of fairseq-interactive has it."""
    return task.source_vocab.string(ids, post_process=post_process)


def reference_text(task: TextTask, ids: Ids, *, post_process: str | None) -> str:
    """A reference as the T- line has it; its unknown words match nothing."""
    text = task.target_vocab.string(ids, post_process=post_process, escape_unk=True,
                                    extra_symbols_to_ignore=task.unspoken_target)
    return text if task.target_tokenizer is None else task.target_tokenizer.decode(text)


def hypothesis_texts(
    task: TextTask, result: Result, *, post_process: str | None
) -> tuple[str, str]:
    """A hypothesis as the H- and the D- line have it."""
    words = result.get("words")
    if words is None:
        text = task.target_vocab.string(result["tokens"], post_process=post_process,
                                        extra_symbols_to_ignore=task.unspoken_target)
    else:
        text = join_pieces(" ".join(words), post_process)
    return text, text if task.target_tokenizer is None else task.target_tokenizer.decode(text)


def turned_attention(
    attention: np.ndarray | Sequence[Sequence[float]], *, padding: int
) -> np.ndarray:
    """Attention [T, S] as fairseq reads it of such a model: at the places that the tokens had
    while the padding was on their left, so that tokens are taken for later ones.

    Args:
      padding: how much there was, in the sentence's batch.
    """
    right = np.asarray(attention, np.float32)
    return np.pad(right, ((0, 0), (0, padding)))[:, padding:]


def alignment_text(result: Result, kind: str, *, padding: int | None = None) -> str:
    """What the A- line says.

    Args:
      kind: `hard`: pairs such as `0-1`, source first, eos not counted; `soft`: for each
        target token, eos included, its attention to every source token.
      padding: None, or of a model that turns padding (`models.family`), which makes
        fairseq's own reading; needs `attention`.
    """
    if padding is not None:
        attention = turned_attention(result["attention"], padding=padding)
        strongest = attention[:-1, :-1].argmax(axis=1) if attention.shape[1] > 1 else ()
        result = {"attention": attention, "alignment": [(s, t) for t, s in enumerate(strongest)]}
    if kind == "hard":
        return " ".join(f"{source}-{target}" for source, target in result["alignment"])
    return " ".join(",".join(f"{p:.6f}" for p in row) for row in result["attention"])


def sentence_lines(
    task: TextTask, index: int, source: str | Ids, reference: np.ndarray | None,
    hypotheses: Iterable[Result], *, post_process: str | None, timing: str | None = None,
    constraints: Iterable[str | Ids] | None = None,
    alignment: str | None = None, padding: int | None = None,
) -> Iterator[str]:
    """All lines of one sentence; scores in base 2.

    Args:
      source: ids, or text.
      reference: target ids, if there are any.
      timing: what the W- line says; with it the lines are fairseq-interactive's.
      constraints: phrases of the C- lines: ids without eos, or texts.
      alignment: the kind of alignment that A- lines show (None: no such lines).
      padding: see `alignment_text`.
    """
    ids = task.encode_source(source) if isinstance(source, str) else source
    heard = np.issubdtype(np.asarray(ids).dtype, np.floating)  # recordings have no text
    shown = "" if heard else source_text(task, ids, post_process=post_process)
    if timing is not None:
        yield f"S-{index}\t{shown}"
        yield f"W-{index}\t{timing}"
    elif not heard:
        yield f"S-{index}\t" + (
            shown if task.source_tokenizer is None else task.source_tokenizer.decode(shown))
    for phrase in constraints or ():
        ids = output_constraints.words_of(task, phrase) if isinstance(phrase, str) else phrase
        yield f"C-{index}\t{task.target_vocab.string(ids, post_process=post_process)}"
    if reference is not None:
        yield f"T-{index}\t{reference_text(task, reference, post_process=post_process)}"
    for result in hypotheses:
        text, detokenised = hypothesis_texts(task, result, post_process=post_process)
        score = float(np.float32(result["score"]) / _BASE_2)
        positional = np.asarray(result["positional_scores"], np.float32) / _BASE_2
        yield f"H-{index}\t{score}\t{text}"
        yield f"D-{index}\t{score}\t{sources.one_line(detokenised)}"
        yield f"P-{index}\t" + " ".join(f"{x:.4f}" for x in positional)
        if alignment is not None:
            yield f"A-{index}\t{alignment_text(result, alignment, padding=padding)}"


def final_line(
    task: TextTask, pairs: Iterable[tuple[np.ndarray, Result]], *, subset: str, beam: int,
    scoring: str, post_process: str | None,
) -> str:
    """`Generate test with beam=5: BLEU4 = ...`, of references and best hypotheses.

    fairseq's own BLEU counts pieces, or, once pieces have been joined or unknown words
    replaced, what spaces separate.
    """
    vocab = task.target_vocab
    as_ids = metrics.SpecialTokens(pad=vocab.pad, eos=vocab.eos, unk=vocab.unk)
    words = metrics.SpecialTokens()
    texts, counts = [], None
    for reference, result in pairs:
        wanted = reference_text(task, reference, post_process=post_process)
        text, detokenised = hypothesis_texts(task, result, post_process=post_process)
        texts.append((detokenised, wanted))
        pieces = post_process is None and result.get("words") is None
        counts = counts or metrics.TokenBleu(special=as_ids if pieces else words)
        if pieces:
            counts.add([int(i) for i in result["tokens"]], [int(i) for i in reference])
        else:
            counts.add(words.tokens(detokenised), words.tokens(wanted))
    if scoring == "bleu":
        shown = (counts or metrics.TokenBleu()).result().text
    else:
        hypotheses, references = zip(*texts, strict=True) if texts else ((), ())
        shown = metrics.METRICS[scoring](hypotheses, references).text
    return f"Generate {subset} with beam={beam}: {shown}"
