"""A SentencePiece model, or a JSON vocabulary beside one, -> the `Vocabulary` whose ids a model
has them under.

fairseq puts its four special symbols in front of the pieces and leaves out SentencePiece's
three, so that its ids are SentencePiece's and one; behind them stand whatever the task added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from seqjax.data.tokenizers.base import TokenizerError
from seqjax.data.tokenizers.byte_level import read_ids
from seqjax.data.tokenizers.huggingface import vocabulary_of_symbols
from seqjax.data.tokenizers.sentencepieces import SentencePieceTokenizer
from seqjax.data.vocabulary import FAIRSEQ_IDS, Vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where symbols stand that are not pieces of the model."""

    front: tuple[str, ...] = ("<s>", "<pad>", "</s>", "<unk>")
    """In front of the pieces, in place of SentencePiece's own special ones."""
    behind: tuple[str, ...] = ()
    """Behind the pieces and the languages."""
    special: tuple[int, int, int, int] = FAIRSEQ_IDS
    """Ids of the symbols that begin a text, pad it, end it and are unknown."""


LAYOUTS = {
    # fairseq's own dict.txt of a model: bart, mBART's and M2M's without what their tasks add.
    "fairseq": Layout(),
    "xlmr": Layout(behind=("<mask>",)),
    # mBART, NLLB: languages, then the mask.
    "mbart": Layout(behind=("<mask>",)),
    # Its dict.txt has the pieces <unk>, <s>, </s> again, which are the ones in use.
    "camembert": Layout(
        front=("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"),
        behind=("<mask>",), special=(5, 1, 6, 3)),
    "xglm": Layout(behind=tuple(f"<madeupword{i}>" for i in range(7))),
}
"""Name -> layout of fairseq's kind; another is `sentencepiece`, the model's own ids."""
OWN_IDS = "sentencepiece"
_MODEL = "the SentencePiece model"


def vocabulary_of_sentencepiece(
    model: bytes | SentencePieceTokenizer, *, layout: str = "fairseq",
    languages: Sequence[str] = (), size: int | None = None,
) -> Vocabulary:
    """The vocabulary of a SentencePiece model.

    Args:
      model: content of the `.model` file, or its tokenizer.
      layout: one of `LAYOUTS`, or `sentencepiece`: the model's own ids.
      languages: symbols behind the pieces, in the order of their ids: mBART's `en_XX`
        (fairseq: `[en_XX]`), NLLB's `eng_Latn`.
      size: of the model's table of embeddings, where that is longer: `madeupwordNNNN` follow.

    Raises:
      TokenizerError: an unknown layout; a model whose first pieces are not `<unk>`, `<s>` and
        `</s>`, which fairseq's ids take for granted; more symbols than `size`.
    """
    if layout != OWN_IDS and layout not in LAYOUTS:
        raise TokenizerError(f"layout {layout!r} of a SentencePiece model is unknown. Known: "
                             + ", ".join((*LAYOUTS, OWN_IDS)))
    tokenizer = SentencePieceTokenizer(model=model) if isinstance(model, bytes) else model
    processor = tokenizer.processor
    pieces = [processor.IdToPiece(i) for i in range(processor.GetPieceSize())]
    if layout == OWN_IDS:
        own = (processor.bos_id(), processor.pad_id(), processor.eos_id(), processor.unk_id())
        return _vocabulary([*pieces, *languages], own, size, _MODEL)
    if (processor.unk_id(), processor.bos_id(), processor.eos_id()) != (0, 1, 2):
        raise TokenizerError(
            f"a SentencePiece model that begins with {', '.join(pieces[:3])}: fairseq's ids are "
            "of models that begin with <unk>, <s>, </s> (spm_train's defaults)")
    known = LAYOUTS[layout]
    symbols = [*known.front, *pieces[3:], *languages, *known.behind]
    return _vocabulary(symbols, known.special, size, _MODEL)


def vocabulary_of_json(
    content: bytes, *, name: str = "vocab.json", languages: Sequence[str] = (),
    size: int | None = None,
) -> Vocabulary:
    """The vocabulary that lies beside the SentencePiece models of Marian and M2M-100, or the
    codes of FSMT: an object of symbols and their ids.

    Args:
      content: of the file.
      name: of the file, for messages.
      languages: symbols behind those of the file (M2M-100's `__en__`).
      size: as `vocabulary_of_sentencepiece` takes it.

    Raises:
      TokenizerError: it is something else, an id is missing, or nothing in it ends a text.
    """
    ids = read_ids(content, name)
    symbols = sorted(ids, key=ids.__getitem__)
    if [ids[symbol] for symbol in symbols] != list(range(len(symbols))):
        wrong = next(i for i, symbol in enumerate(symbols) if ids[symbol] != i)
        raise TokenizerError(f"{name}: its ids are not 0, 1, 2, ...: {wrong} is missing, or is "
                             f"that of two symbols, one of them {symbols[wrong]!r}")
    special = tuple(ids.get(symbol, -1) for symbol in ("<s>", "<pad>", "</s>", "<unk>"))
    return _vocabulary([*symbols, *languages], special, size, name)


def _vocabulary(
    symbols: Sequence[str], special: Sequence[int], size: int | None, name: str
) -> Vocabulary:
    parts = {part: None if index < 0 else index
             for part, index in zip(("bos", "pad", "eos", "unk"), special, strict=True)}
    return vocabulary_of_symbols(symbols, special=parts, size=size, name=name)
