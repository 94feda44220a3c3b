"""What tasks of labelled sentences share: their dictionaries as files, and the head that other
sections of a configuration must have.

fairseq's data layout in (`input0/dict.txt`, `label/dict.txt`), the parts of a `protocol.TextTask`
that follow from it out.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from seqjax.config import Config, ConfigError, ModelSection, coerce
from seqjax.data import folder, id_ranges
from seqjax.data.blocks import ShortenMethod
from seqjax.data.dictionaries import digest
from seqjax.data.vocabulary import Vocabulary
from seqjax.tasks import assets
from seqjax.tasks.protocol import TextSection
from seqjax.tasks.text import OneVocabulary

if TYPE_CHECKING:
    from seqjax.models.protocol import SentenceClassifier

MASK = "<mask>"
"""The word that fairseq puts behind those of these tasks' dictionaries."""
HEADS = "classification_heads"
"""The key of a model that has heads."""


class SentenceSection(TextSection, Protocol):
    """What the sections of these tasks have."""

    @property
    def max_positions(self) -> int:
        """Longest sequence."""
        ...

    @property
    def shorten_method(self) -> ShortenMethod:
        """How longer ones are cut."""
        ...

    @property
    def shorten_data_split_list(self) -> tuple[str, ...]:
        """Of which splits (empty: all)."""
        ...


class HeadsSection(ModelSection, Protocol):
    """What the section of a model with heads has."""

    @property
    def classification_heads(self) -> Mapping[str, int]:
        """Name of each head -> its classes."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceTask(OneVocabulary):
    """One data folder of sentences with labels."""

    facade: ClassVar[str] = "seqjax.hub.encoder:Encoder"
    model_protocol: ClassVar[str] = "seqjax.models.protocol:SentenceClassifier"
    config: SentenceSection
    vocab: Vocabulary
    """Of all inputs, `<mask>` at its end."""

    def check_folder(self, data: str) -> None:
        """Refuses a data folder whose dictionary is not the model's.

        Raises:
          ConfigError: naming the dictionary.
        """
        path = folder.dictionary_path(os.path.join(data, "input0"))
        self._check_same(path, dictionary(data, "input0"))

    def max_positions(self, model: SentenceClassifier) -> tuple[int, None]:
        """Longest sequence: the smaller of the task's limit and the model's."""
        limits = [self.config.max_positions, model.max_source_positions]
        limits += [getattr(model, "max_target_positions")] if model.decodes_source else []  # noqa: B009
        return min(limits), None

    def too_long_advice(self, model: SentenceClassifier) -> str:
        """Nothing in general: sentences have their own lengths."""
        del model
        return ""

    def _check_store(self, prefix: str) -> None:
        path = folder.dictionary_path(os.path.dirname(prefix))
        id_ranges.check(prefix, id_ranges.Limit(path=path, entries=len(self.vocab)))

    def _shortened(self, split: str) -> dict[str, Any]:
        """How sequences of a split are shortened, as `data.sentences.Joined` takes it."""
        cfg = self.config
        asked = not cfg.shorten_data_split_list or split in cfg.shorten_data_split_list
        return {"shorten": cfg.shorten_method if asked else "none", "limit": cfg.max_positions,
                "seed": self.seed}


def text_parts(config: Config) -> dict[str, Any]:
    """What a task reads of its data folder: the dictionary and the tokenizer.

    Raises:
      ConfigError: there is no such folder, or it is not laid out so.
    """
    data = config.task.data
    if not data:
        raise ConfigError("config.task.data: name the folder with the preprocessed data")
    if not os.path.isdir(os.path.join(data, "input0")):
        raise ConfigError(
            f"config.task.data: {data}: has no folder input0 with sentences; python -m "
            f"seqjax.preprocess --task {config.task.name} makes such folders")
    if config.batching.mode in ("packed", "fairseq_packed"):
        raise ConfigError(f"config.batching.mode: sentences with labels are not packed; set it to "
                          f"bucketed or fairseq, not {config.batching.mode}")
    return {"seed": config.seed, "vocab": dictionary(data, "input0"),
            "tokenizer": folder.load_tokenizers(data).get("")}


def packed_parts(config: Config, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The same of a checkpoint's files. Raises KeyError: one is missing."""
    return {"seed": config.seed, "vocab": assets.unpack_vocabulary("", files),
            "tokenizer": assets.unpack_tokenizer("", files)}


def dictionary(data: str, side: str) -> Vocabulary:
    """`DATA/SIDE/dict.txt`, with `<mask>` at its end (of fairseq's vocabularies).

    Raises:
      FileNotFoundError: there is no such file.
      folder.FolderError: it is another one than the folder was made with.
    """
    place = os.path.join(data, side)
    path, found = folder.dictionary_path(place), folder.load_dictionary(place)
    manifest = folder.load_manifest(data)
    known = None if manifest is None else manifest.dictionaries.get(side)
    if known is not None and known != digest(found):
        raise folder.FolderError(
            f"{path}: has other words, or another order, than the dictionary that "
            f"{folder.MANIFEST} says the folder was made with. Run seqjax.preprocess again, or "
            "put the dictionary back")
    if found.is_fairseq and MASK not in found:
        found.add_symbol(MASK)
    return found


# ---- other sections of the configuration ----


def share(raw: dict[str, Any], keys: Mapping[str, type], *, loss: str) -> None:
    """Keys that the task and its loss have both: what one of them is given is the other's too.

    Args:
      raw: sections of sparse values; changed in place.
      keys: name -> type.
      loss: that has them, and is the one where none is chosen.

    Raises:
      ConfigError: two values.
    """
    raw["loss"].setdefault("name", loss)
    if raw["loss"]["name"] != loss:
        return
    for key, kind in keys.items():
        given = {section: coerce(raw[section][key], kind, f"config.{section}.{key}")
                 for section in ("task", "loss") if raw[section].get(key) is not None}
        if len(set(given.values())) > 1:
            raise ConfigError(
                f"config.task.{key} is {given['task']!r}, but config.loss.{key} is "
                f"{given['loss']!r}: give it once")
        for section in ("task", "loss") if given else ():
            raw[section][key] = next(iter(given.values()))


def add_head(
    raw: dict[str, Any], name: str, count: int | None, *, model: type,
    models: Mapping[str, type], key: str,
) -> int | None:
    """Gives the model the head that the task trains, as fairseq's tasks do.

    Args:
      raw: sections of sparse values; changed in place.
      name, count: of the head; None: as the model section has it.
      model, models: the section's dataclass, and those of all families.
      key: that says `count`, for errors.

    Returns:
      The head's classes, if anything says them.

    Raises:
      ConfigError: a model without heads; a head of two sizes.
    """
    if HEADS not in {field.name for field in dataclasses.fields(model)}:
        able = [name for name, cls in models.items()
                if HEADS in {field.name for field in dataclasses.fields(cls)}]
        raise ConfigError(
            f"config.task.name: {raw['task']['name']} trains a classification head, which models "
            f"of {raw['model'].get('name', 'transformer')!r} do not have; set config.model.name "
            f"(or arch) to one of {', '.join(able)}")
    heads = coerce(raw["model"].get(HEADS, {}), dict[str, int], f"config.model.{HEADS}")
    if count is None:
        return heads.get(name)
    if heads.setdefault(name, count) != count:
        raise ConfigError(f"config.model.{HEADS}.{name}: {heads[name]}, but {key} is {count}: give "
                          "one of them alone")
    raw["model"][HEADS] = heads
    return count
