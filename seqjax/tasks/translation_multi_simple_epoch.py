"""fairseq's `translation_multi_simple_epoch`: one model for many pairs of languages (M2M-100).

From a data folder with several pairs to sentences with language tokens. Which pair a sentence is
of is said by its tokens alone, so batches hold sentences of all pairs.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, cast

from seqjax.config import Config, ConfigError
from seqjax.data import folder, id_ranges, pairs, tokenizers
from seqjax.data.mixture import Mixture, temperature_weights
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.target_form import TargetForm
from seqjax.tasks import assets, metrics
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.forms import Forms
from seqjax.tasks.language_tokens import LanguageTokenTask, add_symbols
from seqjax.tasks.translation import TranslationConfig

NAME = "translation_multi_simple_epoch"
STYLES = {"multilingual": "__{}__", "mbart": "[{}]"}
"""fairseq's `--lang-tok-style` -> the symbol of a language."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiSimpleEpochConfig(TranslationConfig):
    """fairseq's `translation_multi_simple_epoch`."""

    name: Literal["translation_multi_simple_epoch"] = NAME  # type: ignore[assignment]
    """Chooses the task."""
    lang_pairs: tuple[str, ...] = ()
    """Pairs to learn: `en-de,de-en,en-fr`; a file with such a text is read, too."""
    langs: tuple[str, ...] = ()
    """All languages that tokens are for, in the order of their ids (empty: those of `lang_dict`,
    or of `lang_pairs`, sorted)."""
    lang_dict: str | None = None
    """A file with the languages, one a line, instead of `langs`."""
    source_dict: str | None = None
    """Dictionary of all sources, instead of the folder's `dict.LANG.txt`."""
    target_dict: str | None = None
    """The same of all targets."""
    fixed_dictionary: str | None = None
    """Dictionary of both."""
    lang_tok_style: Literal["multilingual", "mbart"] = "multilingual"
    """How tokens of languages look: `__en__`, or `[en]` and then `<mask>` behind them."""
    encoder_langtok: Literal["src", "tgt"] | None = None
    """Sources begin with the token of their own language, or of the one they are translated to."""
    decoder_langtok: bool = False
    """Targets begin with the token of their language, which generation forces."""
    lang_tok_replacing_bos_eos: bool = False
    """Instead the token stands in the place of a source's eos, and of what decoding begins
    with."""
    sampling_method: Literal["concat", "uniform", "temperature"] = "concat"
    """How often pairs are learned from in an epoch: as often as they have sentences, all alike,
    or by `sampling_temperature`."""
    sampling_temperature: float = 1.5
    """Shares of pairs are raised to 1 / this: 1 is `concat`, large values are nearly `uniform`."""
    virtual_data_size: int | None = None
    """Sentences of an epoch, where pairs are sampled (None: as many as leave the largest pair
    whole, 1.5 times all at most)."""
    keep_inference_langtok: bool = False
    """Leave language tokens in the text of outputs."""


def languages(section: Mapping[str, Any]) -> tuple[str, ...]:
    """The languages of a section, in the order of their tokens.

    Raises:
      ConfigError: there is no such file of them.
    """
    if section.get("langs"):
        return _names(section["langs"])
    path = section.get("lang_dict")
    if path:
        if not os.path.isfile(path):
            raise ConfigError(f"config.task.lang_dict: {path}: no such file; name the languages "
                              "in config.task.langs (--langs)")
        with open(path, encoding="utf-8") as file:
            return tuple(line.strip() for line in file if line.strip())
    return tuple(sorted({lang for pair in _names(section.get("lang_pairs"))
                         for lang in split_pair(pair)}))


def _names(value: Any) -> tuple[str, ...]:
    """fairseq's lists, which may be text."""
    if isinstance(value, str):
        value = value.split(",")
    return tuple(x.strip() for x in value or () if x.strip())


def added(section: Mapping[str, Any], data: str = "") -> tuple[str, ...]:
    """What the task puts behind the words of a dictionary, whatever the folder."""
    del data
    style = section.get("lang_tok_style") or "multilingual"
    tokens = tuple(STYLES[style].format(lang) for lang in languages(section))
    return (*tokens, "<mask>") if style == "mbart" else tokens


def split_pair(pair: str) -> tuple[str, str]:
    """`en-de` -> `en`, `de`.

    Raises:
      ConfigError: it is no pair.
    """
    source, dash, target = pair.partition("-")
    if not dash or not source or not target or "-" in target:
        raise ConfigError(f"config.task.lang_pairs: {pair!r} is no pair of languages such as "
                          "en-de")
    return source, target


def sides(section: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Languages whose dictionary in a folder may be that of the sources, and of the targets."""
    found = [split_pair(pair) for pair in _names(section.get("lang_pairs"))]
    if section.get("source_lang") and section.get("target_lang"):
        found.insert(0, (section["source_lang"], section["target_lang"]))
    return (tuple(dict.fromkeys(s for s, _ in found)), tuple(dict.fromkeys(t for _, t in found)))


def completed(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section, from fairseq's values of it, with files of pairs and of languages read.

    Raises:
      ConfigError: language tokens that are not the task's usual ones.
    """
    found = dict(section)
    pairs_given = _names(found.get("lang_pairs"))
    if len(pairs_given) == 1 and os.path.isfile(pairs_given[0]):
        with open(pairs_given[0], encoding="utf-8") as file:
            pairs_given = _names(file.read())
    found["lang_pairs"] = pairs_given
    found["langs"], found["lang_dict"] = languages(found), None
    if found.get("sampling_method") == "RoundRobin":
        found["sampling_method"] = "concat"  # which it is here, in fairseq, too
    specified = found.get("langtoks")  # a dict in files; text in commands, which refuse it
    tokens = specified.get("main") if isinstance(specified, Mapping) else None
    if tokens is not None:
        read, made = (None if t in (None, "None") else str(t) for t in tokens)
        if read not in (None, "src", "tgt") or made not in (None, "tgt"):
            raise ConfigError(f"its langtoks are {tuple(tokens)}: of sources src and tgt are here, "
                              "of targets tgt")
        found["encoder_langtok"], found["decoder_langtok"] = read, made is not None
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiSimpleEpochTask(LanguageTokenTask):
    """Some pairs of languages; `translating` gives the task of one direction alone."""

    Config: ClassVar[type] = MultiSimpleEpochConfig
    config: MultiSimpleEpochConfig
    tokenizers: Mapping[str, tokenizers.Tokenizer] = dataclasses.field(default_factory=dict)
    """Of each language; "": of all."""

    @classmethod
    def setup(cls, config: Config) -> Self:
        """Reads what the data folder says of vocabularies and tokenizers.

        Raises:
          ConfigError: there is no such folder; no pairs, or unknown languages in them;
            dictionaries of one side that differ.
        """
        cfg = cast(MultiSimpleEpochConfig, config.task)
        if not os.path.isdir(cfg.data):
            raise ConfigError(f"config.task.data: {cfg.data or 'name the folder'}: no such folder")
        if not cfg.lang_pairs:
            raise ConfigError("config.task.lang_pairs: name the pairs of languages: en-de,de-en")
        cfg = dataclasses.replace(cfg, **completed(vars(cfg)))
        for pair in cfg.lang_pairs:
            unknown = [lang for lang in split_pair(pair) if lang not in cfg.langs]
            if unknown:
                raise ConfigError(f"config.task.lang_pairs: {pair}: {' and '.join(unknown)} not "
                                  f"among the languages, {', '.join(cfg.langs)}")
        source, target = (cls._of_side(cfg, side, langs)
                          for side, langs in zip(("source", "target"), sides(vars(cfg)),
                                                 strict=True))
        made = cls._of(cfg, source, target, folder.load_tokenizers(cfg.data))
        made._check_alignments()
        return made

    @classmethod
    def _of(
        cls, cfg: MultiSimpleEpochConfig, source: Vocabulary, target: Vocabulary,
        found: Mapping[str, tokenizers.Tokenizer],
    ) -> Self:
        """For the direction that `cfg` names, or else its only pair."""
        pair = (cfg.source_lang or "", cfg.target_lang or "")
        if pair == ("", "") and len(cfg.lang_pairs) == 1:
            pair = split_pair(cfg.lang_pairs[0])
        return cls(
            config=cfg, source_lang=pair[0], target_lang=pair[1], source_vocab=source,
            target_vocab=target, tokenizers=found, source_tokenizer=_one(found, pair[0]),
            target_tokenizer=_one(found, pair[1]))

    @classmethod
    def _of_side(
        cls, cfg: MultiSimpleEpochConfig, side: str, langs: Sequence[str]
    ) -> Vocabulary:
        """The one dictionary of all sources, or of all targets."""
        given = cfg.fixed_dictionary or getattr(cfg, f"{side}_dict")
        if given:
            return add_symbols(Vocabulary.load(given), added(vars(cfg)))
        first = cls.load_dictionary(cfg, langs[0])
        for lang in langs[1:]:
            if cls.load_dictionary(cfg, lang) != first:
                raise ConfigError(
                    f"{folder.dict_path(cfg.data, lang)}: differs from "
                    f"{folder.dict_path(cfg.data, langs[0])}, but all {side} languages share one "
                    "dictionary: preprocess them with the same --srcdict and --tgtdict")
        return first

    @classmethod
    def load_dictionary(cls, cfg: TranslationConfig, lang: str) -> Vocabulary:
        """The words of a language, and the languages' tokens."""
        return add_symbols(folder.load_dictionary(cfg.data, lang), added(vars(cfg)))

    def check_folder(self, data: str) -> None:
        if self.config.fixed_dictionary:
            return
        if not (self.source_lang and self.target_lang):
            source, target = split_pair(self.config.lang_pairs[0])
            return self.translating(source, target).check_folder(data)
        super().check_folder(data)

    def assets(self) -> dict[str, bytes]:
        """Files from which `from_assets` makes this task again."""
        files: dict[str, bytes] = {}
        same = self.source_vocab == self.target_vocab
        for name, vocabulary in (("source", self.source_vocab), ("target", self.target_vocab)):
            files |= assets.pack_vocabulary("" if same else name, vocabulary)
        for lang, tokenizer in self.tokenizers.items():
            files |= assets.pack_tokenizer(lang, tokenizer)
        return files

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        cfg = cast(MultiSimpleEpochConfig, config.task)
        source, target = assets.unpack_sides(files)
        found = {lang: t for lang in ("", *cfg.langs)
                 if (t := assets.unpack_tokenizer(lang, files)) is not None}
        return cls._of(cfg, source, target, found)

    def _towards(self, source: str, target: str) -> Self:
        moved = super()._towards(source, target)
        return moved if moved is self else dataclasses.replace(
            moved, source_tokenizer=_one(self.tokenizers, source),
            target_tokenizer=_one(self.tokenizers, target))

    # ---- data ----

    @property
    def lang_pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of its data: the direction that was chosen, or all."""
        if self.config.source_lang and self.config.target_lang:
            return ((self.config.source_lang, self.config.target_lang),)
        return tuple(map(split_pair, self.config.lang_pairs))

    @functools.cached_property
    def _each(self) -> tuple[MultiSimpleEpochTask, ...]:
        """The task of each pair."""
        return tuple(self.translating(*pair) for pair in self.lang_pairs)

    def dataset(self, split: str, *, need_target: bool = True) -> pairs.PairDataset:
        """The sentences of all pairs, pair by pair."""
        each = self._each
        if len(each) == 1 and each[0] is self:
            return super().dataset(split, need_target=need_target)
        if self.config.load_alignments:
            raise ConfigError("config.task.load_alignments: with one pair of languages only")
        corpora = [task.dataset(split, need_target=need_target) for task in each]
        starts = [task.target_form.start for task in each]
        found = pairs.PairDataset.joined(
            corpora, starts=starts if len(set(starts)) > 1 else None)
        if split == self.config.train_subset:
            found.mixture = self._mixture([len(c) for c in corpora])
        return found

    def _mixture(self, sizes: list[int]) -> Mixture | None:
        cfg = self.config
        if cfg.sampling_method == "concat":
            if cfg.virtual_data_size is not None:
                raise ConfigError(
                    "config.task.virtual_data_size: sampling_method=concat learns from every "
                    "sentence once an epoch: use temperature or uniform")
            return None
        weights = [1.0] * len(sizes)
        if cfg.sampling_method == "temperature":
            weights = temperature_weights(sizes, cfg.sampling_temperature)
        return Mixture(sizes=tuple(sizes), weights=tuple(weights), size=cfg.virtual_data_size)

    def _limit(self, lang: str, vocabulary: Vocabulary) -> id_ranges.Limit:
        path = self.config.fixed_dictionary or folder.dictionary_path(self.config.data, lang)
        return id_ranges.Limit(path=path, entries=len(vocabulary))

    @functools.cached_property
    def _form(self) -> TargetForm:
        """Of the direction; where there are several, of the first one: all end alike, and what
        they begin with is said by the data (`PairDataset.starts`)."""
        task = self if self.target_lang else self._each[0]
        return task.forms.target_form(task.target_vocab, task._symbols())

    def _evaluated(self, dataset: pairs.PairDataset, limit: int) -> Sequence[int]:
        """As many sentences of each pair."""
        bounds = [0, *dataset.corpus_bounds]
        each = -(-limit // (len(bounds) - 1)) if limit else len(dataset)
        chosen = [i for a, b in zip(bounds[:-1], bounds[1:], strict=True)
                  for i in range(a, min(b, a + each))]
        return chosen[:limit] if limit else chosen

    def _form_of(self, dataset: pairs.PairDataset, index: int) -> TargetForm:
        return self._each[dataset.corpus_of(index)].target_form

    # ---- form ----

    @property
    def forms(self) -> Forms:
        cfg, end = self.config, "</s>"
        read = {None: "", "src": "{source}", "tgt": "{target}"}[cfg.encoder_langtok]
        made = "{target}" if cfg.decoder_langtok else ""
        if cfg.lang_tok_replacing_bos_eos:
            return Forms(source=f"... {read or end}", target=f"... {end}", start=made or end)
        return Forms(source=f"{read} ... {end}", target=f"{made} ... {end}", first=made)

    @property
    def langs(self) -> tuple[str, ...]:
        return self.config.langs

    def symbol_of(self, lang: str) -> str:
        return STYLES[self.config.lang_tok_style].format(lang)

    @property
    def unspoken_target(self) -> tuple[int, ...]:
        return () if self.config.keep_inference_langtok else super().unspoken_target

    def next_command(self, workdir: str, *, subset: str) -> list[str]:
        """A text is translated, in the first direction."""
        source, target = self.lang_pairs[0]
        words = super(MultiSimpleEpochTask, self.translating(source, target)).next_command(
            workdir, subset=subset)
        return [*words, "--source-lang", source, "--target-lang", target]


def _one(
    found: Mapping[str, tokenizers.Tokenizer], lang: str
) -> tokenizers.Tokenizer | None:
    return found.get(lang, found.get(""))


_ALWAYS = {
    "dataset_impl": None, "enable_lang_ids": False, "extra_data": None, "extra_lang_pairs": None,
    "enable_reservsed_directions_shared_datasets": False, "encoder_langtok": None,
    "fixed_dictionary": None, "lang_dict": None, "langtoks": None, "langtoks_specs": ["main"],
    "sampling_weights": None, "sampling_weights_from_file": None, "source_dict": None,
    "target_dict": None, "virtual_data_size": None, "virtual_epoch_size": None,
}
ENTRY = TaskEntry(
    name=NAME, config=MultiSimpleEpochConfig,
    task=f"seqjax.tasks.{NAME}:MultiSimpleEpochTask", facade=MultiSimpleEpochTask.facade,
    metrics=metrics.BLEU,
    fairseq=FairseqTask(name=NAME, languages=("source_lang", "target_lang"),
                        added=lambda section, data: added(section), sides=sides,
                        completed=completed, always=_ALWAYS, shared=True))
