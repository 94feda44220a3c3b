"""What transformers' tokenizers put around the words of a sequence-to-sequence model: a folder's
special ids and tokenizer in, keys of the task `seq2seq` out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.data.tokenizers import HuggingFaceTokenizer
from seqjax.data.vocabulary import Vocabulary
from seqjax.interop.huggingface.symbols import Side, Special

_LANGUAGE = {
    "__{}__": re.compile(r"__([a-z]{2,3})__"),  # M2M-100
    "{}": re.compile(r"([a-z]{2,3}_[A-Z]{2}|[a-z]{3}_[A-Z][a-z]{3})"),  # mBART, NLLB
}
"""How a symbol of a language is written -> what such symbols look like."""
_FEW = 2
"""Symbols that look so before they are languages."""


def section(
    vocabulary: Vocabulary, side: Side, special: Special, generation: Mapping[str, Any],
    said: Mapping[str, Any], *, usual_class: str = "",
) -> dict[str, Any]:
    """Keys of `config.task`.

    Args:
      vocabulary: of targets.
      side: of sources.
      generation: the folder's `generation_config.json`, of which a language that is forced is
        taken.
      said: what is said of the tokenizer's special symbols.
      usual_class: transformers' class of a tokenizer that names none.
    """
    eos = vocabulary[special.eos]
    start = eos if special.start is None else vocabulary[special.start]
    found: dict[str, Any] = {
        "ids_as_given": True, "source_form": f"... {eos}",
        "target_form": f"... {eos}", "decoder_start": start, "decoder_end": eos}
    template, langs = languages(vocabulary.symbols if side.symbols is not None else ())
    if langs:
        return found | _of_languages(
            vocabulary, template, langs, special=special, generation=generation, said=said,
            usual_class=usual_class)
    if isinstance(side.tokenizer, HuggingFaceTokenizer) and side.symbols is not None:
        around = side.tokenizer.around()
        words = [*(side.symbols[i] for i in around.first), "...",
                 *(side.symbols[i] for i in around.last or (special.eos,))]
        found["source_form"] = found["target_form"] = " ".join(words)
    elif side.tokenizer is not None and said.get("tokenizer_class") in (
            "BartTokenizer", "RobertaTokenizer"):
        found["source_form"] = found["target_form"] = f"{vocabulary[vocabulary.bos]} ... {eos}"
    return found


def languages(symbols: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """How languages are written among the symbols, and which there are."""
    for template, pattern in _LANGUAGE.items():
        codes = tuple(m[1] for m in map(pattern.fullmatch, symbols) if m)
        if len(codes) >= _FEW:
            return template, codes
    return "{}", ()


def _of_languages(
    vocabulary: Vocabulary, template: str, langs: tuple[str, ...], *, special: Special,
    generation: Mapping[str, Any], said: Mapping[str, Any], usual_class: str,
) -> dict[str, Any]:
    """Keys of a model of several languages: mBART's, whose sentences name their language behind
    their end, or that of those made after it, which begin with it (NLLB's sources name it behind
    their end where its files say `legacy_behaviour`)."""
    eos = vocabulary[special.eos]
    code = {template.replace("{}", lang): lang for lang in langs}
    forced = generation.get("forced_bos_token_id")
    target = None if forced is None or forced >= len(vocabulary) else code.get(vocabulary[forced])
    known = {"langs": langs, "lang_tok": template}
    for key, lang in (("source_lang", said.get("src_lang")),
                      ("target_lang", target or said.get("tgt_lang"))):
        lang = code.get(str(lang), lang)
        known |= {key: lang} if lang in langs else {}
    if str(said.get("tokenizer_class") or usual_class).startswith("MBartTokenizer"):
        return {**known, "source_form": f"... {eos} {{source}}",
                "target_form": f"... {eos} {{target}}", "decoder_start": "{target}"}
    source = f"... {eos} {{source}}" if said.get("legacy_behaviour") else f"{{source}} ... {eos}"
    return {**known, "source_form": source,
            "target_form": f"{{target}} ... {eos}", "decoder_start": eos,
            "decoder_first": "{target}"}
