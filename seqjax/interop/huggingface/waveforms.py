"""How a folder's waveforms are prepared, and what symbols its model hears in them:
`preprocessor_config.json` and the files of a CTC tokenizer in, a task's section and vocabulary out;
and the first one back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from seqjax import tasks
from seqjax.config import ConfigError, ModelSection
from seqjax.data.vocabulary import Vocabulary
from seqjax.interop.huggingface import symbols
from seqjax.interop.huggingface.files import read_json
from seqjax.interop.huggingface.weights import Stored
from seqjax.tasks.protocol import Task

CTC = "Wav2Vec2CTCTokenizer"
SPECIAL = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
"""Symbols of that one, where nothing else is said."""
EPS = 1e-7
"""What transformers adds to a waveform's variance; fairseq adds 1e-5."""
FILE, WHOLE = "preprocessor_config.json", "processor_config.json"


def sections(folder: str | os.PathLike[str], stored: Stored) -> dict[str, Any]:
    """Sections task and loss of a model of waveforms.

    Raises:
      ConfigError: samples are prepared in a way that is not here.
    """
    said = read_json(folder, FILE) or (read_json(folder, WHOLE) or {}).get("feature_extractor", {})
    if said.get("feature_size", 1) != 1:
        raise ConfigError(f"{FILE}: feature_size {said['feature_size']!r}: only waveforms are here")
    entry = tasks.of_huggingface(stored.kind.table.kind)
    section = {
        "name": entry.name, "sample_rate": said.get("sampling_rate", 16000),
        "normalize": said.get("do_normalize", True), "normalize_eps": EPS,
        "classes": stored.target_vocab_size}
    return {"task": section, "loss": {"name": entry.loss}}


def symbols_of(
    folder: str | os.PathLike[str], hf: Mapping[str, Any], *, size: int
) -> tuple[Vocabulary, dict[str, Any]] | None:
    """The symbols that a folder's model hears by CTC, and what the section `task` says of them
    (None: the folder has no such tokenizer, `vocab.json` of `Wav2Vec2CTCTokenizer`).

    Args:
      hf: the folder's `config.json`.
      size: symbols that the model tells apart; 0: none.

    Raises:
      ConfigError: a vocabulary that is not the model's.
    """
    listed = read_json(folder, "vocab.json")
    said = symbols.special_names(os.fspath(folder))
    if not (size and listed and any("ForCTC" in x for x in hf.get("architectures") or ())
            and said.get("tokenizer_class", CTC) in (CTC, "Wav2Vec2Tokenizer")):
        return None
    if all(isinstance(value, Mapping) for value in listed.values()):  # one for each language
        language = said.get("target_lang") or "eng"
        if language not in listed:
            raise ConfigError(f"vocab.json: has no symbols for target_lang {language!r}, but for "
                              f"{', '.join(sorted(listed)[:5])}, ...")
        listed = listed[language]
    words: list[str | None] = [None] * size
    added = [(symbols.content(token), int(i))
             for i, token in said.get("added_tokens_decoder", {}).items()]
    for word, i in [*added, *(read_json(folder, "added_tokens.json") or {}).items(),
                    *listed.items()]:
        if i < size:
            words[i] = word
        elif word in listed:
            raise ConfigError(f"vocab.json: {word!r} is number {i}, but the model has {size} "
                              "symbols")
    special = {name: _number(words, symbols.content(said.get(f"{name}_token", usual)))
               for name, usual in SPECIAL.items()}
    blank = special["pad"] if special["pad"] is not None else hf.get("pad_token_id", 0)
    unknown = symbols.content(said.get("unk_token", SPECIAL["unk"])) or ""
    vocabulary = Vocabulary.of_symbols(
        [unknown if word is None else word for word in words], bos=special["bos"], pad=blank,
        eos=blank if special["eos"] is None else special["eos"], unk=special["unk"])
    return vocabulary, {
        "blank": blank, "lower_case": bool(said.get("do_lower_case")),
        "word_delimiter": symbols.content(said.get("word_delimiter_token", "|"))}


def _number(words: Sequence[str | None], word: str | None) -> int | None:
    return words.index(word) if word is not None and word in words else None


def files_of(task: Task, model: ModelSection) -> dict[str, bytes]:
    """The file that says it, of a model (its section) that did not come from such a folder. A
    group norm sees padding whatever is masked, so that transformers masks nothing then."""
    config: Any = task.config
    normed = getattr(model, "extractor_mode", "") == "layer_norm"
    said = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1,
        "sampling_rate": config.sample_rate, "do_normalize": config.normalize,
        "padding_side": "right", "padding_value": 0.0, "return_attention_mask": normed}
    return {FILE: (json.dumps(said, indent=2) + "\n").encode()}
