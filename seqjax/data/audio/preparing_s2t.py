"""Recordings and their texts become tables of speech to text: `train.tsv`, a dictionary, a
tokenizer and `config.yaml`, as fairseq's examples/speech_to_text write them.

What `preparing` found of a folder goes in (filterbanks are made when batches are), or what
`s2t_store` has of a corpus.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import yaml

from seqjax.data import tokenizers, whole_files
from seqjax.data.audio.preparing import Recording
from seqjax.data.sources import SourceError
from seqjax.data.vocabulary import Vocabulary

if TYPE_CHECKING:  # it imports JAX
    from seqjax.data.audio.s2t_store import Stored

_HEADER = "id\taudio\tn_frames\ttgt_text"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pieces:
    """What targets are made of."""

    kind: Literal["unigram", "bpe", "char"] = "unigram"
    """Pieces of a SentencePiece model, or characters."""
    size: int = 1000
    """Entries of the dictionary, special symbols included; of characters as many as there are."""

    @property
    def name(self) -> str:
        """What fairseq's scripts call files of it: `spm_unigram1000`."""
        return f"spm_{self.kind}{'' if self.kind == 'char' else self.size}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """What is done to features of 80 bands."""

    root: str
    """Folder that paths of recordings are relative to."""
    sample_rate: int
    """Of recordings of which they are made."""
    specaugment: str
    """What training masks: one of `specaugment.POLICIES`, or `none`."""
    statistics: str | None = None
    """File with means and deviations of the corpus; None: those of each utterance are taken."""

    def config(self) -> dict[str, Any]:
        """Keys of a `config.yaml`."""
        from seqjax.data.audio.specaugment import POLICIES

        normal = "global_cmvn" if self.statistics else "utterance_cmvn"
        config: dict[str, Any] = {
            "audio_root": self.root, "sample_rate": self.sample_rate, "input_channels": 1,
            "input_feat_per_channel": 80, "transforms": {"*": [normal]}}
        if self.statistics:
            config["global_cmvn"] = {"stats_npz_path": self.statistics}
        if self.specaugment != "none":
            options = dataclasses.asdict(POLICIES[self.specaugment])
            config["specaugment"] = {k: v for k, v in options.items() if v is not None}
            config["transforms"]["_train"] = [normal, "specaugment"]
        return config


def write_tables(
    dest: str, root: str, parts: Mapping[str, Sequence[Recording]], texts: Mapping[str, str], *,
    pieces: Pieces, specaugment: str,
) -> list[str]:
    """Everything that `SpeechToTextDataset` reads; gives what was written.

    Args:
      root: folder of the recordings.
      parts: recordings of each split.
      texts: by a recording's name.
      specaugment: see `Features`.

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
    config = Features(root=root, sample_rate=rates[0], specaugment=specaugment).config()
    files = _vocabulary(pieces, [texts[r.name] for r in parts["train"]], config,
                        dictionary="dict.txt", model="spm.model")
    frames = dataclasses.replace(FBANK, sample_rate=rates[0])
    for name, part in parts.items():
        rows = [f"{_id(r)}\t{r.name}\t{int(frames.count(r.samples))}\t{texts[r.name]}"
                for r in part]
        files[f"{name}.tsv"] = "\n".join([_HEADER, *rows, ""]).encode()
    return _write(dest, {**files, "config.yaml": yaml.safe_dump(config).encode()})


def corpus_vocabulary(
    pieces: Pieces, train: Sequence[str], *, kind: str = ""
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files of the dictionary and tokenizer of a corpus, and what `config.yaml` says of them.

    Args:
      train: texts of training.
      kind: `asr` or `st`, where a corpus is prepared for both: part of the files' names.

    Raises:
      TokenizerError: too many or too few pieces for the text.
    """
    config: dict[str, Any] = {}
    name = f"{pieces.name}{f'_{kind}' if kind else ''}"
    return _vocabulary(pieces, train, config, dictionary=f"{name}.txt",
                       model=f"{name}.model"), config


def write_corpus(
    dest: str, tables: Mapping[str, Sequence[Stored]], *, features: Features,
    vocabulary: tuple[dict[str, bytes], dict[str, Any]], kind: str = "",
) -> list[str]:
    """The tables of a corpus, its dictionary, tokenizer and `config.yaml`; gives what was written.

    Args:
      tables: utterances of each split.
      vocabulary: of `corpus_vocabulary`.
      kind: see there.
    """
    end = f"_{kind}" if kind else ""
    files, config = dict(vocabulary[0]), {**features.config(), **vocabulary[1]}
    for name, part in tables.items():
        rows = [f"{x.utterance.id}\t{x.audio}\t{x.frames}\t{x.utterance.text}\t"
                f"{x.utterance.speaker}" for x in part]
        files[f"{name}{end}.tsv"] = "\n".join([f"{_HEADER}\tspeaker", *rows, ""]).encode()
    return _write(dest, {**files, f"config{end}.yaml": yaml.safe_dump(config).encode()})


def _write(dest: str, files: Mapping[str, bytes]) -> list[str]:
    for name, content in files.items():
        whole_files.write(os.path.join(dest, name), content)
    return [os.path.join(dest, name) for name in files]


def _vocabulary(
    pieces: Pieces, train: Sequence[str], config: dict[str, Any], *, dictionary: str, model: str
) -> dict[str, bytes]:
    """Files of the dictionary and of the tokenizer, which `config` is told of."""
    config["vocab_filename"] = dictionary
    vocabulary = Vocabulary()
    if pieces.kind == "char":
        characters = tokenizers.CharactersTokenizer()
        vocabulary.add_counts(Counter(
            x for text in train for x in characters.encode(text).split()))
        vocabulary.finalize(padding_factor=1)
        config["bpe_tokenizer"] = {"bpe": "characters"}
        return {dictionary: vocabulary.to_text().encode()}
    tokenizer = tokenizers.train_sentencepiece(
        train, vocab_size=pieces.size, model_type=pieces.kind, fairseq_ids=True)
    for symbol in tokenizer.symbols():
        vocabulary.add_symbol(symbol)
    config["bpe_tokenizer"] = {"bpe": "sentencepiece", "sentencepiece_model": model}
    content = tokenizer.options()["model"]
    assert isinstance(content, bytes)
    return {dictionary: vocabulary.to_text().encode(), model: content}


def _id(recording: Recording) -> str:
    return os.path.splitext(recording.name)[0].replace(os.sep, "-")
