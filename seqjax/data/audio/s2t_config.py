"""`config.yaml` of speech to text: a file in, its keys (fairseq's `S2TDataConfig`) out.

    config = S2TDataConfig.read("data/config.yaml")
    config.audio_root, config.transforms("feature", "train_clean", train=True)

Every key of fairseq's is here. A key that is nearly one of them is a mistake and refused; others,
which fairseq's own scripts put there for themselves, are named in the log and not used.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
from collections.abc import Mapping
from typing import Any, Literal

import yaml

from seqjax.config import ConfigError, coerce, nearest
from seqjax.data.audio.augmentation import WAVEFORM

logger = logging.getLogger(__name__)
Kind = Literal["feature", "waveform", "dataset"]
FEATURE = ("utterance_cmvn", "global_cmvn", "delta_deltas", "specaugment")
DATASET = ("concataugment", "noisyoverlapaugment")
_NAMES: dict[str, tuple[str, ...]] = {
    "feature": FEATURE, "waveform": tuple(WAVEFORM), "dataset": DATASET}
_OF_SPEECH_TO_SPEECH = (
    "output_sample_rate", "target_speaker_embed", "prepend_tgt_lang_tag_as_bos", "features")
"""Of other tasks, whose files may be read here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class S2TDataConfig:
    """What the data are and what is done to them."""

    vocab_filename: str = "dict.txt"
    """Dictionary of the target text, in the folder of the data."""
    speaker_set_filename: str | None = None
    """Names of speakers, a line each, in that folder."""
    shuffle: bool = False
    """Recordings of one length in an order of their own (`batching.mode=fairseq`)."""
    pre_tokenizer: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """`tokenizer`: its name; other keys are its options."""
    bpe_tokenizer: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """`bpe`: its name; other keys are its files and options."""
    prepend_tgt_lang_tag: bool = False
    """Targets begin with `<lang:XX>`."""
    prepend_bos_and_append_tgt_lang_tag: bool = False
    """Targets begin with `<s>` and end in `<lang:XX>`, as mBART's do."""
    input_feat_per_channel: int = 80
    """Features of a frame and channel."""
    input_channels: int = 1
    """Channels of features."""
    sample_rate: int = 16000
    """Samples in a second of recordings of which filterbanks are made. (fairseq makes them at
    whatever rate a file has; here another rate is refused unless it is to be changed.)"""
    sampling_alpha: float = 1.0
    """Several training splits: an exponent of the share of each pair of languages; 1: as it is."""
    use_audio_input: bool = False
    """Models read waveforms."""
    standardize_audio: bool = True
    """With `use_audio_input`: samples less their mean, divided by their deviation. (fairseq does
    so whatever this key says.)"""
    use_sample_rate: int = 16000
    """With `use_audio_input`: samples in a second, to which others are brought."""
    audio_root: str = ""
    """Folder that paths in the tables are relative to."""
    vocoder: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"type": "griffin_lim"})
    """What speaks synthesised features (of other tasks)."""
    hub: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What fairseq's hub asks for (of other tasks)."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of each transform, by its name."""
    chains: Mapping[str, Mapping[str, tuple[str, ...]]] = dataclasses.field(default_factory=dict)
    """`feature`, `waveform`, `dataset` -> a split, `_train`, `_eval` or `*` -> names of
    transforms."""
    path: str = "config.yaml"
    """The file, for errors."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> S2TDataConfig:
        """The keys of a file; relative paths of tokenizers and statistics that are not there from
        where the command runs are relative to its folder.

        Raises:
          FileNotFoundError: there is no such file.
          ConfigError: it is no YAML, has a key that is nearly a known one, or a value of another
            type; names the file and the key.
        """
        path = os.fspath(path)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path}: no such file: speech to text needs a config.yaml "
                                    "beside its tables")
        with open(path, encoding="utf-8") as file:
            try:
                raw = yaml.safe_load(file) or {}
            except yaml.YAMLError as error:
                raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
        if not isinstance(raw, dict):
            raise ConfigError(f"{path}: expected keys and values")
        return cls(**_fields(path, raw), path=path)

    @property
    def features(self) -> int:
        """Features of a frame, before transforms."""
        return self.input_feat_per_channel * self.input_channels

    def transforms(self, kind: Kind, split: str, *, train: bool) -> tuple[str, ...]:
        """Names of the transforms of a split: its own, else those of `_train` or `_eval`, else
        those of `*`."""
        chain = self.chains.get(kind, {})
        for key in (split, "_train" if train else "_eval", "*"):
            if key in chain:
                return chain[key]
        return ()


def _fields(path: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an `S2TDataConfig`."""
    own = {f.name: f for f in dataclasses.fields(S2TDataConfig)}
    plain = [name for name in own if name not in ("options", "chains", "path")]
    sections = [name for names in _NAMES.values() for name in names]
    lists = ["transforms", *(f"{kind}_transforms" for kind in _NAMES)]
    known = [*plain, *sections, *lists, *_OF_SPEECH_TO_SPEECH]
    unused = []
    for key in raw:
        if key not in known:
            if difflib.get_close_matches(str(key), known, n=1, cutoff=0.8):
                raise ConfigError(f"{path}: {key}: unknown key.{nearest(str(key), known)}")
            unused.append(str(key))
    unused += [key for key in _OF_SPEECH_TO_SPEECH if key in raw]
    if unused:
        logger.warning("%s: not used: %s", path, ", ".join(unused))
    hints = {"bool": bool, "int": int, "float": float, "str": str, "str | None": str | None}
    found: dict[str, Any] = {}
    for name in plain:
        if name in raw and raw[name] is not None:
            kind = hints.get(str(own[name].type))
            found[name] = (_mapping(path, name, raw[name]) if kind is None
                           else coerce(raw[name], kind, f"{path}: {name}"))
    for name in ("pre_tokenizer", "bpe_tokenizer", "vocoder"):
        if name in found:
            found[name] = _resolved(found[name], path)
    if not found.get("standardize_audio", True):
        logger.warning("%s: standardize_audio: false is not what fairseq does: it standardises "
                       "every waveform", path)
    found["options"] = {
        name: _resolved(_mapping(path, name, raw[name] or {}), path)
        for name in sections if name in raw}
    found["chains"] = _chains(path, raw)
    return found


def _mapping(path: str, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {key}: {value!r} is not a section with keys")
    return value


def _resolved(value: Any, path: str) -> Any:
    """Paths that are not there from here, but beside the file: as they are written, or by their
    last part (the folder has been moved)."""
    if isinstance(value, dict):
        return {key: _resolved(x, path) for key, x in value.items()}
    if isinstance(value, str) and value and not os.path.exists(value):
        for name in (value, os.path.basename(value)):
            beside = os.path.join(os.path.dirname(path), name)
            if name and os.path.exists(beside):
                return beside
    return value


def _chains(path: str, raw: dict[str, Any]) -> dict[str, dict[str, tuple[str, ...]]]:
    """`transforms` are feature transforms, and come before those."""
    chains: dict[str, dict[str, tuple[str, ...]]] = {}
    for kind, key in (("feature", "transforms"), *((k, f"{k}_transforms") for k in _NAMES)):
        for split, names in _mapping(path, key, raw.get(key) or {}).items():
            names = [names] if isinstance(names, str) else names or []
            for name in names:
                if name not in _NAMES[kind]:
                    raise ConfigError(f"{path}: {key}.{split}: {name!r} is unknown."
                                      f"{nearest(str(name), _NAMES[kind])}")
            chain = chains.setdefault(kind, {})
            chain[str(split)] = (*chain.get(str(split), ()), *names)
    return chains
