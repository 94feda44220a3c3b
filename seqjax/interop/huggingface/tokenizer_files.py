"""A task's vocabulary and tokenizer in, files that transformers makes a tokenizer of out.

A `tokenizer.json` stays what it is, and GPT-2's pieces become its `vocab.json` and `merges.txt`.
Of any other tokenizer transformers gets the dictionary: a text for it is one of pieces with spaces
between them, as ours are before they become ids.
"""

from __future__ import annotations

import json
from typing import Any

from seqjax.data import tokenizers
from seqjax.data.vocabulary import Vocabulary
from seqjax.tasks.protocol import TextTask

_CLASS = "PreTrainedTokenizerFast"


def make(task: TextTask) -> dict[str, bytes]:
    """Files by name."""
    vocabulary = task.dictionaries[-1].vocabulary
    tokenizer = task.target_tokenizer
    config: dict[str, Any] = {"tokenizer_class": _CLASS, **_names(vocabulary)}
    if isinstance(tokenizer, tokenizers.HuggingFaceTokenizer):
        whole = tokenizer.to_state()["tokenizer_json"]
        made = whole if isinstance(whole, bytes) else whole.encode()
    else:
        made = pieces_of(vocabulary, byte_level=_byte_level(tokenizer, vocabulary))
    return {"tokenizer.json": made,
            "tokenizer_config.json": json.dumps(config, indent=2, ensure_ascii=False).encode()}


def _names(vocabulary: Vocabulary) -> dict[str, str]:
    """Special symbols by what they are for."""
    ids = {"bos_token": vocabulary.bos, "eos_token": vocabulary.eos, "pad_token": vocabulary.pad,
           "unk_token": vocabulary.unk}
    found = {name: vocabulary[i] for name, i in ids.items() if i < len(vocabulary)}
    if "<mask>" in vocabulary:
        found["mask_token"] = "<mask>"
    return found


def _byte_level(
    tokenizer: tokenizers.Tokenizer | None, vocabulary: Vocabulary
) -> tuple[list[str], list[tuple[str, str]]] | None:
    """Pieces of a byte-level BPE by the ids of the vocabulary, and its merges; None of another
    tokenizer."""
    if not isinstance(tokenizer, tokenizers.GPT2Tokenizer):
        return None
    state = tokenizer.to_state()
    encoder = json.loads(state["encoder_json"])
    piece_of = {str(number): piece for piece, number in encoder.items()}
    merges = [tuple(line.split(" ")) for line in _text(state["vocab_bpe"]).split("\n")[1:] if line]
    return ([piece_of.get(symbol, symbol) for symbol in vocabulary.symbols],
            [(a, b) for a, b in merges])


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def pieces_of(
    vocabulary: Vocabulary, *,
    byte_level: tuple[list[str], list[tuple[str, str]]] | None = None,
) -> bytes:
    """A `tokenizer.json` of a vocabulary: of pieces with spaces between them, or of byte-level
    BPE."""
    import tokenizers as library

    symbols = vocabulary.symbols if byte_level is None else byte_level[0]
    ids: dict[str, int] = {}
    for index, symbol in enumerate(symbols):
        ids.setdefault(symbol, index)
    unk = vocabulary[vocabulary.unk] if vocabulary.unk < len(vocabulary) else None
    if byte_level is None:
        made = library.Tokenizer(library.models.WordLevel(
            ids, **({} if unk is None else {"unk_token": unk})))
        made.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    else:
        merges = [pair for pair in byte_level[1]
                  if pair[0] in ids and pair[1] in ids and "".join(pair) in ids]
        made = library.Tokenizer(library.models.BPE(ids, merges))
        made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = library.decoders.ByteLevel()
    eos = vocabulary[vocabulary.eos]
    made.post_processor = library.processors.TemplateProcessing(
        single=f"$A {eos}", pair=f"$A {eos} $B {eos}", special_tokens=[(eos, vocabulary.eos)])
    special = [vocabulary[i] for i in vocabulary.special_ids if i < len(vocabulary)]
    special += ["<mask>"] if "<mask>" in vocabulary else []
    made.add_special_tokens(list(dict.fromkeys(special)))
    return made.to_str(pretty=True).encode()
