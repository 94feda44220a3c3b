"""The tokenizer files of a Hugging Face folder -> tokenizers of source and target, and the symbol
of each id.

What transformers makes of such files is made of them here, with the same libraries: a
`tokenizer.json` is one already; `vocab.json` with `merges.txt` and `vocab.txt` become one;
SentencePiece models are taken as they are, with the ids that fairseq gave their pieces.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from seqjax.data.tokenizers.base import Tokenizer, TokenizerError, text_of
from seqjax.data.tokenizers.byte_level import read_ids, read_merges
from seqjax.data.tokenizers.fsmt import FSMTTokenizer
from seqjax.data.tokenizers.huggingface import (
    ROLES,
    HuggingFaceTokenizer,
    special_ids,
    token_name,
    vocabulary_of_symbols,
)
from seqjax.data.tokenizers.language_codes import codes_of
from seqjax.data.tokenizers.layouts import (
    OWN_IDS,
    vocabulary_of_json,
    vocabulary_of_sentencepiece,
)
from seqjax.data.tokenizers.sentencepieces import MarianTokenizer, SentencePieceTokenizer
from seqjax.data.tokenizers.wordpiece import read_pieces
from seqjax.data.vocabulary import Vocabulary

_MODELS = ("sentencepiece.bpe.model", "sentencepiece.model", "spiece.model", "spm.model",
           "tokenizer.model")
_LAYOUTS = {"xlm-roberta": "xlmr", "xlm-roberta-xl": "xlmr", "camembert": "camembert",
            "mbart": "mbart", "m2m_100": "mbart", "xglm": "xglm"}
"""`model_type` -> where the pieces of its SentencePiece model stand; m2m_100 without a
`vocab.json` is NLLB."""
_CLASSES = {"XLMRobertaTokenizer": "xlmr", "CamembertTokenizer": "camembert",
            "MBartTokenizer": "mbart", "MBart50Tokenizer": "mbart", "NllbTokenizer": "mbart",
            "XGLMTokenizer": "xglm"}
"""The same by the `tokenizer_class` of `tokenizer_config.json`."""
_SURROUNDING = ("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer")
"""Byte-level ones that put `<s>` and `</s>` around texts."""
_GOING_ON = ("gpt", "opt")
"""What a `model_type` of language models with byte-level tokenizers begins with."""
_ANY_CLASS = ("PreTrainedTokenizer", "TokenizersBackend")
"""These say nothing of what a tokenizer does."""
_USUAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
         "added_tokens.json", "source.spm", "target.spm", "vocab.json", "target_vocab.json",
         "vocab-src.json", "vocab-tgt.json", "merges.txt", "vocab.txt", *_MODELS)
"""What is looked at."""
T = TypeVar("T", bound=Tokenizer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderTokenizers:
    """What the tokenizer files of a folder say."""

    source: Tokenizer
    target: Tokenizer
    symbols: Sequence[str]
    """Of ids 0, 1, ...: pieces that `source` gives, among them."""
    target_symbols: Sequence[str]
    """Those of `target`, where there are two vocabularies; else the same."""
    said: Mapping[str, Any]
    """What JSON files beside them say, as one: `special_ids` takes it."""

    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """Of source and target, as long as `config.json`, if it is there, says that the model's
        are.

        Raises:
          TokenizerError: no symbol ends a text, or the model has fewer rows.
        """
        sizes = [self.said.get(key, self.said.get("vocab_size"))
                 for key in ("src_vocab_size", "tgt_vocab_size")]
        sizes[1] = self.said.get("decoder_vocab_size", sizes[1])
        found = [self._vocabulary(tokenizer, symbols, size) for tokenizer, symbols, size in (
            (self.source, self.symbols, sizes[0]), (self.target, self.target_symbols, sizes[1]))]
        return found[0], found[1]

    def _vocabulary(
        self, tokenizer: Tokenizer, symbols: Sequence[str], size: int | None
    ) -> Vocabulary:
        if isinstance(tokenizer, HuggingFaceTokenizer):
            return tokenizer.vocabulary(said=self.said, size=size)
        ids = {symbol: index for index, symbol in enumerate(symbols)}
        return vocabulary_of_symbols(
            symbols, special=special_ids(ids, self.said), size=size, name="the tokenizer")


def of_files(
    files: Mapping[str, bytes], *, model_type: str = "", layout: str | None = None
) -> FolderTokenizers | None:
    """Tokenizers of a folder; None where it has no file that makes one.

    Args:
      files: name -> content, of those of `FILES` that are there.
      model_type: `config.json`'s.
      layout: where the pieces of a SentencePiece model without any other file stand (`LAYOUTS`),
        if neither the `model_type` nor the class of the tokenizer says it.

    Raises:
      TokenizerError: naming the file and what is wrong with it.
    """
    said = _said(files)
    said |= {"layout": layout, "model_type": model_type or said.get("model_type", "")}
    for made in (_json_file, _marian, _fsmt, _m2m, _pieces, _byte_level, _wordpiece):
        found = made(files, said)
        if found is not None:
            source, target, symbols, target_symbols = found
            return FolderTokenizers(source=source, target=target, symbols=symbols,
                                    target_symbols=target_symbols, said=said)
    return None


def of_folder(folder: str | os.PathLike[str]) -> FolderTokenizers:
    """As `of_files`, of a folder, or of a `tokenizer.json` alone.

    Raises:
      TokenizerError: nothing there makes a tokenizer, or a file is wrong.
    """
    place = pathlib.Path(folder)
    if place.is_file():
        files = {"tokenizer.json": place.read_bytes()}
    elif place.is_dir():
        files = {name: (place / name).read_bytes() for name in FILES if (place / name).is_file()}
    else:
        raise TokenizerError(f"{place}: no such file or folder")
    try:
        found = of_files(files)
    except TokenizerError as error:
        raise TokenizerError(f"{place}: {error}") from None
    if found is None:
        raise TokenizerError(
            f"{place}: there is no tokenizer.json, nor the files of an older tokenizer (vocab.json "
            "with merges.txt, vocab.txt, sentencepiece.bpe.model, source.spm with target.spm)")
    return found


_Found = tuple[Tokenizer, Tokenizer, Sequence[str], Sequence[str]]


def _said(files: Mapping[str, bytes]) -> dict[str, Any]:
    """`tokenizer_config.json`, and what only `special_tokens_map.json` or `config.json` says;
    `added`: symbols behind the others, by id."""
    said: dict[str, Any] = {}
    for name in ("config.json", "special_tokens_map.json", "tokenizer_config.json"):
        said |= {k: v for k, v in _object(files, name).items() if v is not None}
    added = {index: token_name(token) for index, token in
             (said.get("added_tokens_decoder") or {}).items()}
    added |= {index: token for token, index in _object(files, "added_tokens.json").items()}
    said["added"] = {int(index): str(token) for index, token in added.items()}
    return said


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if name not in files:
        return {}
    try:
        found = json.loads(text_of(files[name], name))
    except ValueError as error:
        raise error if isinstance(error, TokenizerError) else TokenizerError(
            f"{name}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise TokenizerError(f"{name}: expected an object")
    return found


def _json_file(files: Mapping[str, bytes], said: Mapping[str, Any]) -> _Found | None:
    del said
    if "tokenizer.json" not in files:
        return None
    made = HuggingFaceTokenizer(tokenizer_json=files["tokenizer.json"])
    return made, made, made.symbols(), made.symbols()


def _marian(files: Mapping[str, bytes], said: Mapping[str, Any]) -> _Found | None:
    del said
    if not {"source.spm", "target.spm", "vocab.json"} <= files.keys():
        return None
    sides = [_named(name, MarianTokenizer, model=files[name], special=_USUAL[1:4])
             for name in ("source.spm", "target.spm")]
    symbols = vocabulary_of_json(files["vocab.json"]).symbols
    other = files.get("target_vocab.json")
    target = symbols if other is None else vocabulary_of_json(
        other, name="target_vocab.json").symbols
    return sides[0], sides[1], symbols, target


def _fsmt(files: Mapping[str, bytes], said: Mapping[str, Any]) -> _Found | None:
    if not {"vocab-src.json", "vocab-tgt.json", "merges.txt"} <= files.keys():
        return None
    langs = said.get("langs")
    if not isinstance(langs, list) or len(langs) != 2:
        raise TokenizerError("tokenizer_config.json: langs must name source and target language, "
                             f'as ["en", "de"]; it is {langs!r}')
    sides = [_named("merges.txt", FSMTTokenizer, merges=files["merges.txt"], lang=lang,
                    lower=bool(said.get("do_lower_case")), special=_USUAL[:4]) for lang in langs]
    names = ("vocab-src.json", "vocab-tgt.json")
    symbols, target = (vocabulary_of_json(files[n], name=n).symbols for n in names)
    return sides[0], sides[1], symbols, target


def _m2m(files: Mapping[str, bytes], said: Mapping[str, Any]) -> _Found | None:
    name = _model_name(files)
    if name is None or "vocab.json" not in files:
        return None
    ids = read_ids(files["vocab.json"], "vocab.json")
    # Languages have the ids behind those of the file, in their order.
    listed = _more(said) or codes_of(_class_of(said) or "M2M100Tokenizer")
    languages = [t for t in listed if t not in ids]
    symbols = vocabulary_of_json(files["vocab.json"], languages=languages).symbols
    made = _named(name, SentencePieceTokenizer, model=files[name],
                  special=[*_USUAL[:4], *languages])
    return made, made, symbols, symbols


def _pieces(files: Mapping[str, bytes], said: Mapping[str, Any]) -> _Found | None:
    name = _model_name(files)
    if name is None:
        return None
    usual = said["layout"] or (OWN_IDS if name == "spiece.model" else "xlmr")
    usual = _CLASSES.get(_class_of(said), usual)
    layout = _LAYOUTS.get(said["model_type"], usual)
    plain = _named(name, SentencePieceTokenizer, model=files[name])
    listed = _more(said)
    if not any(t not in _USUAL for t in listed):
        listed = codes_of(_class_of(said))
    more = [t for t in listed if plain.processor.PieceToId(t) == plain.processor.unk_id()]
    languages = more if layout in ("mbart", OWN_IDS) else []
    languages = [t for t in languages if t not in _USUAL]
    symbols = vocabulary_of_sentencepiece(plain, layout=layout, languages=languages).symbols
    special = [t for t in (*_USUAL, *languages) if t in symbols]
    made = SentencePieceTokenizer(model=files[name], special=special)
    return made, made, symbols, symbols


def _byte_level(files: Mapping[str, bytes], said: Mapping[str, Any]) -> _Found | None:
    if not {"vocab.json", "merges.txt"} <= files.keys():
        return None
    import tokenizers as library

    ids = read_ids(files["vocab.json"], "vocab.json")
    merges = read_merges(files["merges.txt"], "merges.txt", ids)
    prefix = bool(said.get("add_prefix_space", False))
    made = library.Tokenizer(library.models.BPE(dict(ids), merges))
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = library.decoders.ByteLevel()
    of = _add_special(made, said)
    if of.get("cls") is not None and of.get("sep") is not None and _surrounded(said):
        made.post_processor = library.processors.RobertaProcessing(
            of["sep"], of["cls"], True, prefix)
    return _made(made)


def _surrounded(said: Mapping[str, Any]) -> bool:
    """Whether a byte-level tokenizer puts `<s>` and `</s>` around texts: those of models that read
    do, those of language models do not."""
    named = _class_of(said)
    if named and named not in _ANY_CLASS:
        return named in _SURROUNDING
    return not said["model_type"].startswith(_GOING_ON)


def _wordpiece(files: Mapping[str, bytes], said: Mapping[str, Any]) -> _Found | None:
    if "vocab.txt" not in files:
        return None
    import tokenizers as library

    ids = read_pieces(files["vocab.txt"])
    made = library.Tokenizer(library.models.WordPiece(
        ids, unk_token=token_name(said.get("unk_token")) or "[UNK]"))
    made.normalizer = library.normalizers.BertNormalizer(
        lowercase=bool(said.get("do_lower_case", True)), strip_accents=said.get("strip_accents"),
        handle_chinese_chars=bool(said.get("tokenize_chinese_chars", True)))
    made.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    made.decoder = library.decoders.WordPiece(prefix="##")
    of = _add_special(made, said)
    if of.get("cls") and of.get("sep"):
        cls, sep = of["cls"][0], of["sep"][0]
        made.post_processor = library.processors.TemplateProcessing(
            single=f"{cls}:0 $A:0 {sep}:0", pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
            special_tokens=[of["cls"], of["sep"]])
    return _made(made)


def _add_special(made: Any, said: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Tells the library's tokenizer of special symbols; gives those, and their ids, by part."""
    import tokenizers as library

    usual = {**ROLES, "cls": ROLES["bos"], "sep": ROLES["eos"]}
    found: dict[str, tuple[str, int]] = {}
    for role, names in usual.items():
        named = token_name(said.get(f"{role}_token"))
        name = next((n for n in ([named] if named else names)
                     if made.token_to_id(n) is not None), None)
        if name is None:
            continue
        how = said.get(f"{role}_token")
        how = how if isinstance(how, Mapping) else {}
        flags = {flag: bool(how.get(flag, False))
                 for flag in ("lstrip", "rstrip", "single_word", "normalized")}
        made.add_special_tokens([library.AddedToken(name, special=True, **flags)])
        found[role] = (name, made.token_to_id(name))
    return found


def _made(library_tokenizer: Any) -> _Found:
    made = HuggingFaceTokenizer(tokenizer_json=library_tokenizer.to_str().encode("utf-8"))
    return made, made, made.symbols(), made.symbols()


def _class_of(said: Mapping[str, Any]) -> str:
    """The class of a tokenizer that files name, without `Fast`; of mBART's models without any,
    transformers' usual one."""
    named = str(said.get("tokenizer_class") or "").removesuffix("Fast")
    return named or ("MBartTokenizer" if said["model_type"] == "mbart" else "")


def _model_name(files: Mapping[str, bytes]) -> str | None:
    return next((name for name in _MODELS if name in files), None)


def _more(said: Mapping[str, Any]) -> list[str]:
    """Special symbols that files list beside those with a part of their own."""
    listed = said.get("extra_special_tokens") or said.get("additional_special_tokens") or []
    names = [token_name(token) for token in listed] or [
        said["added"][index] for index in sorted(said["added"])]
    return [name for name in dict.fromkeys(names) if name]


def _named(name: str, cls: type[T], **options: Any) -> T:
    """A tokenizer of a file, which a mistake names."""
    try:
        return cls(**options)
    except TokenizerError as error:
        raise TokenizerError(f"{name}: {error}") from None
