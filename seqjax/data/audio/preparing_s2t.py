"""Recordings and their texts become tables of speech to text: `train.tsv`, a dictionary, a
tokenizer and `config.yaml`, as fairseq's examples/speech_to_text write them for other corpora.

What `preparing` found goes in; filterbanks are made when batches are.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml

from seqjax.data import tokenizers, whole_files
from seqjax.data.audio.preparing import Recording
from seqjax.data.sources import SourceError
from seqjax.data.vocabulary import Vocabulary

_HEADER = "id\taudio\tn_frames\ttgt_text"
_MODEL = "spm.model"

@dataclasses.dataclass(frozen=True, kw_only=True)
class Pieces:
    """What targets are made of."""

    kind: Literal["unigram", "bpe", "char"] = "unigram"
    """Pieces of a SentencePiece model, or characters."""
    size: int = 1000
    """How many pieces there are."""


def write_tables(
    dest: str, root: str, parts: Mapping[str, Sequence[Recording]], texts: Mapping[str, str], *,
    pieces: Pieces, specaugment: str,
) -> list[str]:
    """Everything that `SpeechToTextDataset` reads; gives what was written.

    Args:
      root: folder of the recordings.
      parts: recordings of each split.
      texts: by a recording's name.
      specaugment: one of `specaugment.POLICIES`, or `none`.

    Raises:
      SourceError: recordings of several rates.
      TokenizerError: too many or too few pieces for the text.
    """
    from seqjax.data.audio.filterbank import FBANK

    rates = sorted({r.rate for part in parts.values() for r in part})
    if len(rates) > 1:
        raise SourceError(f"{root}: recordings of {', '.join(map(str, rates))} samples a second; "
                          "features need one rate: convert them, or leave others out with "
                          "--sample-rate and --on-bad skip")
    config = _config(root, rates[0], specaugment)
    vocabulary, files = _vocabulary(pieces, [texts[r.name] for r in parts["train"]], config)
    frames = dataclasses.replace(FBANK, sample_rate=rates[0])
    for name, part in parts.items():
        rows = [f"{_id(r)}\t{r.name}\t{int(frames.count(r.samples))}\t{texts[r.name]}"
                for r in part]
        files[f"{name}.tsv"] = "\n".join([_HEADER, *rows, ""]).encode()
    files["dict.txt"] = vocabulary.to_text().encode()
    files["config.yaml"] = yaml.safe_dump(config).encode()
    for name, content in files.items():
        whole_files.write(os.path.join(dest, name), content)
    return [os.path.join(dest, name) for name in files]


def _vocabulary(
    pieces: Pieces, train: Sequence[str], config: dict[str, Any]
) -> tuple[Vocabulary, dict[str, bytes]]:
    """The dictionary, and the files of the tokenizer, which `config` is told of."""
    vocabulary = Vocabulary()
    if pieces.kind == "char":
        characters = tokenizers.CharactersTokenizer()
        vocabulary.add_counts(Counter(
            x for text in train for x in characters.encode(text).split()))
        vocabulary.finalize(padding_factor=1)
        config["bpe_tokenizer"] = {"bpe": "characters"}
        return vocabulary, {}
    tokenizer = tokenizers.train_sentencepiece(
        train, vocab_size=pieces.size, model_type=pieces.kind)
    for symbol in tokenizer.symbols():
        vocabulary.add_symbol(symbol)
    config["bpe_tokenizer"] = {"bpe": "sentencepiece", "sentencepiece_model": _MODEL}
    content = tokenizer.options()["model"]
    assert isinstance(content, bytes)
    return vocabulary, {_MODEL: content}


def _id(recording: Recording) -> str:
    return os.path.splitext(recording.name)[0].replace(os.sep, "-")


def _config(root: str, rate: int, specaugment: str) -> dict[str, Any]:
    from seqjax.data.audio.specaugment import POLICIES

    config: dict[str, Any] = {
        "audio_root": root, "vocab_filename": "dict.txt", "sample_rate": rate,
        "input_channels": 1, "input_feat_per_channel": 80,
        "transforms": {"*": ["utterance_cmvn"]}}
    if specaugment != "none":
        options = dataclasses.asdict(POLICIES[specaugment])
        config["specaugment"] = {k: v for k, v in options.items() if v is not None}
        config["transforms"]["_train"] = ["utterance_cmvn", "specaugment"]
    return config
