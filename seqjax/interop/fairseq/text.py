"""What a fairseq checkpoint says of its text, and the files beside it -> tokenizers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from seqjax.config import ConfigError
from seqjax.data import compression, tokenizers
from seqjax.data.tokenizers import files, fit
from seqjax.data.vocabulary import Vocabulary
from seqjax.interop.fairseq.checkpoint import FairseqCheckpoint

POST_PROCESS = {"subword_nmt": "subword_nmt", "fastbpe": "subword_nmt",
                "sentencepiece": "sentencepiece"}
"""fairseq's `--bpe` -> how pieces become words again."""
FILE_OPTIONS = files.FILE_FLAGS
"""fairseq's options that name files of subword models."""
BPE_OPTIONS = (*FILE_OPTIONS, *files.SWITCH_FLAGS)
MOSES_OPTIONS = ("moses_no_dash_splits", "moses_no_escape")
_PLAIN = ("characters", "bytes")
"""Subwords without a file."""
_BY_FILE = ("subword_nmt", "sentencepiece", "gpt2")
"""Kinds that a file beside a checkpoint is taken for, where nothing says the kind."""
_KNOWN = (*(name for name in files.KINDS if name != "hf"), *_PLAIN)

Components = Mapping[str, Mapping[str, Any]]


def components(
    checkpoint: FairseqCheckpoint, *, bpe: str | None, tokenizer: str | None,
    options: Mapping[str, Any],
) -> Components:
    """`bpe` and `tokenizer`: what was asked for, else what the checkpoint says.

    Raises:
      ConfigError: an option that there is not, or a file that is not there.
    """
    known = (*BPE_OPTIONS, *MOSES_OPTIONS)
    for key, value in options.items():
        if key not in known:
            raise ConfigError(f"tokenizer_options: {key!r} is not one of {', '.join(known)}")
        if key in FILE_OPTIONS and not os.path.isfile(value):
            raise ConfigError(f"{key}: {value}: no such file")
    chosen: dict[str, Mapping[str, Any]] = {}
    for group, asked, said, names in (
        ("bpe", bpe, checkpoint.task.bpe, BPE_OPTIONS),
        ("tokenizer", tokenizer, checkpoint.task.tokenizer, MOSES_OPTIONS),
    ):
        given = {k: v for k, v in options.items() if k in names}
        if asked or said or given:
            by_option = files.kind_of_flags(list(given)) or "moses"
            name = asked or (said or {}).get("_name") or by_option
            chosen[group] = {**(said or {}), "_name": name, **given,
                             "asked": bool(asked or given)}
    return chosen


def tokenizer_of(
    chosen: Components, home: str, *, lang: str, vocabulary: Vocabulary, where: str,
    source: bool = True,
) -> tokenizers.Tokenizer | None:
    """Text to pieces of one language, if everything that it needs is there.

    Args:
      chosen: see `components`.
      home: the checkpoint's folder, where files may lie under their usual names.
      lang: for Moses.
      vocabulary, where: the dictionary, and its file, whose words the pieces must be.
      source: of the side that is read; where two languages have models of their own, fairseq
        knows the source's only.

    Raises:
      ConfigError: a kind that there is not, files that were asked for and are missing or
        wrong, or a tokenizer that is not the dictionary's.
    """
    parts: list[tokenizers.Tokenizer] = []
    before = chosen.get("tokenizer")
    if before is not None:
        if before["_name"] not in ("moses", "space"):
            raise ConfigError(f"its tokenizer {before['_name']!r} is not one that seqjax has "
                              "(moses, space)")
        if before["_name"] == "moses":
            parts.append(tokenizers.MosesTokenizer(
                lang=lang, dash_splits=not before.get("moses_no_dash_splits", False),
                escape=not before.get("moses_no_escape", False)))
    bpe = chosen.get("bpe", {})
    pieces = _subwords(bpe, home)
    if pieces is None and bpe:
        return None  # text is expected in pieces, as fairseq-generate's is
    if pieces is not None:
        wrong = fit.misfit(pieces, vocabulary)
        if wrong is not None and source:
            raise ConfigError(f"{where}: {wrong}: this is not the tokenizer of the model")
        if wrong is not None:
            warnings.warn(f"{where}: {wrong}: texts of this side cannot be cut into its pieces",
                          stacklevel=2)
        parts.append(pieces)
    return tokenizers.chain(parts) if parts else None


def _subwords(bpe: Mapping[str, Any], home: str) -> tokenizers.Tokenizer | None:
    """The subword model whose files are beside the checkpoint or where it says."""
    name = bpe.get("_name")
    if name in _PLAIN:
        return tokenizers.TOKENIZERS[name]()
    if name is not None and name not in _KNOWN:
        raise ConfigError(f"its subwords {name!r} are not what seqjax has ({', '.join(_KNOWN)})")
    for kind in (name,) if name else _BY_FILE:
        found, missing = files.find(kind, bpe, places=(home,))
        if not missing:
            try:
                return files.read(kind, found, bpe)
            except (tokenizers.TokenizerError, compression.CompressionError) as error:
                raise ConfigError(str(error)) from None
        if name and name not in POST_PROCESS:
            _say_missing(name, missing, home, asked=bpe["asked"])
    return None


def _say_missing(name: str, missing: list[files.Part], home: str, *, asked: bool) -> None:
    """Files without which there are no pieces, and pieces that are no text by themselves."""
    what = " and ".join(f"{part.names[0]} ({part.flag})" for part in missing)
    message = (f"its subwords {name!r} need {what}, which is not in {home}: name it in Python as "
               f"tokenizer_options={{{missing[0].flag!r}: FILE}}, on the command line as "
               f"--{missing[0].flag.replace('_', '-')} FILE")
    if asked:
        raise ConfigError(message)
    warnings.warn(f"{message}; until then text is expected in pieces", stacklevel=2)


def post_process(checkpoint: FairseqCheckpoint, chosen: Components) -> str | None:
    """How pieces become words where there is no tokenizer."""
    said = checkpoint.fairseq.get("task", "eval_bleu_remove_bpe")
    if said:
        return "subword_nmt" if str(said).strip() == "@@" else str(said)
    return POST_PROCESS.get(chosen.get("bpe", {}).get("_name", ""))
