"""Speech to text: recognition and translation of recordings, from tables and a `config.yaml`.

The data folder is fairseq's: `SPLIT.tsv`, `config.yaml` and the dictionary that it names. Features
(or waveforms) of a batch go in, what a loss reads goes out; text is converted by the tokenizers of
`config.yaml`. Imports no JAX.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np

from seqjax.config import Config, ConfigError
from seqjax.data.audio.reading import Reading
from seqjax.data.audio.s2t_config import S2TDataConfig
from seqjax.data.audio.s2t_text import LANGUAGE_TAG, TargetText
from seqjax.data.dictionaries import Dictionary, first_difference
from seqjax.data.tokenizers import Tokenizer
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.target_form import TargetForm
from seqjax.tasks import assets, metrics
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.text import Text, special_ids

if TYPE_CHECKING:
    import jax

    from seqjax.config import GenerationConfig
    from seqjax.data.audio.s2t import SpeechToTextDataset
    from seqjax.losses.base import Forward
    from seqjax.models.protocol import Params, SpeechToText
    from seqjax.tasks.evaluator import TranslationEvaluator

_ABOUT = "speech.json"
"""Asset with what `config.yaml` says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechToTextConfig:
    """fairseq's `speech_to_text`."""

    name: Literal["speech_to_text"] = "speech_to_text"
    """Chooses the task."""
    data: str = ""
    """Folder with the tables, `config_yaml` and the dictionary that it names."""
    config_yaml: str = "config.yaml"
    """What the data are and what is done to them, in that folder."""
    train_subset: str = "train"
    """Table to learn from; several with commas."""
    target_lang: str | None = None
    """Language of outputs, where targets have language tags and nobody says another."""
    max_source_positions: int = 6000
    """Longest recording that is kept, in frames of features (or samples); the model's limit
    counts too."""
    max_target_positions: int = 1024
    """Longest text that is kept, eos included; the model's limit counts too."""
    post_process: str | None = None
    """How pieces become words where `config.yaml` names no tokenizer: `@@ `, `sentencepiece`,
    `letter`, ... (fairseq's `--post-process`)."""
    scoring: Literal["bleu", "wer"] = "bleu"
    """What validations that decode measure: sacreBLEU, or word errors in percent (`wer`)."""
    resample: bool = False
    """Bring recordings of another sampling rate to that of `config.yaml`; without it they are
    refused."""
    on_bad: Literal["error", "skip"] = "error"
    """What becomes of recordings that cannot be used: an error, or left out and counted."""
    check_audio: bool = True
    """Look at the head of every file before the first batch, so that a bad one is found then."""
    workers: int = 0
    """Files read at the same time (0: as many as there are cores, 8 at most)."""

    @staticmethod
    def complete(raw: dict[str, Any], *, model: type, models: Mapping[str, type]) -> None:
        """What the model's section follows of `config.yaml`: features of a frame.

        Args:
          raw: sections task, model and loss, of sparse values; changed in place.
        """
        del models
        said = _said(raw["task"])
        keys = {f.name for f in dataclasses.fields(model)}
        if said is not None:
            for key in ("input_feat_per_channel", "input_channels"):
                if key in keys:
                    raw["model"].setdefault(key, getattr(said, key))
        weight = raw["loss"].get("ctc_weight")
        if weight is not None and "ctc_weight" in keys:
            raw["model"].setdefault("ctc_weight", weight)


def _said(task: Mapping[str, Any]) -> S2TDataConfig | None:
    """The `config.yaml` of a task's sparse section; None where there is none to be found."""
    path = os.path.join(str(task.get("data") or ""), str(task.get("config_yaml", "config.yaml")))
    return S2TDataConfig.read(path) if task.get("data") and os.path.isfile(path) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechToTextTask(Text):
    """Recordings and their texts; made by `setup` from a data folder or by `from_assets`."""

    Config: ClassVar[type] = SpeechToTextConfig
    facade: ClassVar[str] = "seqjax.hub.speech_to_text:SpeechTranslator"
    model_protocol: ClassVar[str] = "seqjax.models.protocol:SpeechToText"
    config: SpeechToTextConfig
    seed: int
    """Of what is drawn."""
    audio: S2TDataConfig
    """What `config.yaml` says."""
    text: TargetText
    """How targets become ids."""

    @classmethod
    def setup(cls, config: Config) -> Self:
        """Reads `config.yaml` and the dictionary.

        Raises:
          FileNotFoundError, ConfigError: they are not there, or contradict the configuration.
        """
        cfg = cast(SpeechToTextConfig, config.task)
        if not cfg.data:
            raise ConfigError("config.task.data: name the folder with the tables and config.yaml")
        if not os.path.isdir(cfg.data):
            raise ConfigError(f"config.task.data: {cfg.data}: no such folder")
        audio = S2TDataConfig.read(os.path.join(cfg.data, cfg.config_yaml))
        task = cls(config=cfg, seed=config.seed, audio=audio,
                   text=TargetText.load(cfg.data, audio))
        task._check(config)
        return task

    def _check(self, config: Config) -> None:
        """Refuses what contradicts `config.yaml`."""
        if self.audio.prepend_tgt_lang_tag and self.audio.prepend_bos_and_append_tgt_lang_tag:
            raise ConfigError(f"{self.audio.path}: prepend_tgt_lang_tag and "
                              "prepend_bos_and_append_tgt_lang_tag exclude each other")
        ignored = getattr(config.loss, "ignore_prefix_size", None)
        if self.audio.prepend_tgt_lang_tag and ignored == 0:
            raise ConfigError(
                "config.loss.ignore_prefix_size: 0, but targets begin with language tags "
                f"(prepend_tgt_lang_tag in {self.audio.path}), which outputs are given: set 1")
        shape: Any = config.model
        if getattr(shape, "apply_mask", False):
            raise ConfigError("config.model.apply_mask: this task draws no masks for its models "
                              "yet; leave it out")
        for key in ("input_feat_per_channel", "input_channels"):
            here, there = getattr(shape, key, None), getattr(self.audio, key)
            if here is not None and here != there and not self._changes_width():
                raise ConfigError(f"config.model.{key}: {here}, but {self.audio.path} says {there}")

    def _changes_width(self) -> bool:
        """Whether a transform makes frames wider."""
        return any("delta_deltas" in names for names in self.audio.chains.get(
            "feature", {}).values())

    def assets(self) -> dict[str, bytes]:
        """Files from which `from_assets` makes this task again, without the data folder."""
        files = assets.pack_vocabulary("", self.text.vocabulary)
        if self.text.tokenizer is not None:
            files |= assets.pack_tokenizer("", self.text.tokenizer)
        return {**files, **_about(self.audio)}

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        said = json.loads(files[_ABOUT]) if _ABOUT in files else {}
        if "chains" in said:
            said["chains"] = {kind: {split: tuple(names) for split, names in chain.items()}
                              for kind, chain in said["chains"].items()}
        audio = S2TDataConfig(**said)
        text = TargetText(
            vocabulary=assets.unpack_vocabulary("", files),
            tokenizer=assets.unpack_tokenizer("", files), tag_first=audio.prepend_tgt_lang_tag,
            tag_last=audio.prepend_bos_and_append_tgt_lang_tag)
        return cls(config=cast(SpeechToTextConfig, config.task), seed=config.seed, audio=audio,
                   text=text)

    # ---- words ----

    @property
    def source_vocab(self) -> Vocabulary:
        """There are no words in recordings; that of the texts."""
        return self.text.vocabulary

    @property
    def target_vocab(self) -> Vocabulary:
        """Of the texts."""
        return self.text.vocabulary

    @property
    def source_tokenizer(self) -> Tokenizer | None:
        """See `source_vocab`."""
        return self.text.tokenizer

    @property
    def target_tokenizer(self) -> Tokenizer | None:
        """Of the texts."""
        return self.text.tokenizer

    @property
    def vocab_sizes(self) -> dict[str, int]:
        """What `models.build` needs."""
        return {"source_vocab_size": 0, "target_vocab_size": len(self.target_vocab),
                **special_ids(self.target_vocab)}

    @property
    def dictionaries(self) -> tuple[Dictionary, ...]:
        """That of the texts."""
        return (Dictionary(side="target", name=assets.vocabulary_name(""),
                           vocabulary=self.target_vocab),)

    @property
    def languages(self) -> None:
        """Recordings have no language of their own."""

    @property
    def langs(self) -> tuple[str, ...]:
        """Languages of the tags that the dictionary has."""
        before, after = LANGUAGE_TAG.split("{}")
        return tuple(word[len(before):-len(after)] for word in self.target_vocab.symbols
                     if word.startswith(before) and word.endswith(after))

    def translating(self, source_lang: str | None, target_lang: str | None) -> Self:
        """This task with outputs in a language (None: as it is); recordings are in any.

        Raises:
          ConfigError: there is no tag of that language.
        """
        del source_lang
        if target_lang is None:
            return self
        self.text.tag(target_lang)
        return self.with_config(target_lang=target_lang)

    def form_of(self, language: str | None) -> TargetForm:
        """How outputs of a language begin and end.

        Raises:
          ConfigError: targets have tags, and no language is named.
        """
        eos = self.target_vocab.eos
        if not (self.text.tag_first or self.text.tag_last):
            return TargetForm(start=eos, eos=eos)
        if not language:
            raise ConfigError("config.task.target_lang: targets begin or end with their language; "
                              f"name one of {', '.join(self.langs)}")
        tag = self.text.tag(language)
        if self.text.tag_first:
            return TargetForm(start=eos, first=(tag,), eos=eos)
        return TargetForm(start=tag, eos=tag)

    @property
    def target_form(self) -> TargetForm:
        """How outputs begin and end, in `config.target_lang` if there are several languages."""
        return self.form_of(self.config.target_lang)

    @property
    def unspoken_target(self) -> tuple[int, ...]:
        """Language tags, and what else is no text."""
        tags = tuple(self.text.tag(lang) for lang in self.langs)
        return (self.target_vocab.bos, *tags)

    # ---- data ----

    @property
    def reading(self) -> Reading:
        """How recordings are read."""
        cfg = self.config
        return Reading(sample_rate=self.audio.sample_rate, resample=cfg.resample,
                       on_bad=cfg.on_bad, check=cfg.check_audio, workers=cfg.workers)

    def check_folder(self, data: str) -> None:
        """Refuses a data folder of another dictionary than the model's.

        Raises:
          ConfigError: naming the file and the first difference.
        """
        audio = S2TDataConfig.read(os.path.join(data, self.config.config_yaml))
        path = os.path.join(data, audio.vocab_filename)
        found = TargetText.load(data, audio).vocabulary
        difference = first_difference(self.target_vocab.symbols, found.symbols)
        if difference is not None:
            raise ConfigError(f"{path}: is not the dictionary that the model was trained with: "
                              f"{difference}")

    def dataset(self, split: str, *, need_target: bool = True) -> SpeechToTextDataset:
        """Recordings of a split, or of several with commas."""
        from seqjax.data.audio.s2t import SpeechToTextDataset

        data = self.config.data
        audio = S2TDataConfig.read(os.path.join(data, self.config.config_yaml))
        return SpeechToTextDataset.load(
            data, split, audio, texts=self.text if need_target else None,
            train=split == self.config.train_subset, reading=self.reading, seed=self.seed,
            order_seed=self.seed)

    def train_dataset(self) -> SpeechToTextDataset:
        """Recordings to learn from."""
        return self.dataset(self.config.train_subset)

    def max_positions(self, model: SpeechToText) -> tuple[int, int]:
        """Longest source and target: the smaller of the task's limit and the model's."""
        return (min(self.config.max_source_positions, model.max_source_positions),
                min(self.config.max_target_positions, model.max_target_positions))

    def too_long_advice(self, model: SpeechToText) -> str:
        """Nothing in general: recordings have their own lengths."""
        return ""

    # ---- a batch ----

    def forward(
        self, model: SpeechToText, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None, *, extra: Any = None,
    ) -> Forward:
        """The teacher-forced pass over a batch of [B, ...] arrays; pure.

        Args:
          rng: key of dropout, or None for none.
          update: int32 scalar, updates done before, for what is not trained at first.
          extra: see `protocol.Task.forward`.
        """
        import jax.numpy as jnp

        from seqjax.generation.teacher_forcing import previous_tokens
        from seqjax.losses.base import Forward
        from seqjax.models.protocol import Source

        speaker: Any = model
        lengths, target = batch["source_lengths"], batch["target"]
        source = Source(values=batch["source"],
                        mask=jnp.arange(batch["source"].shape[1]) < lengths[:, None])
        encoded = speaker.encode(params, source, rng=rng, update=update)
        start: Any = model.eos
        if self.text.tag_last:  # the tag behind the text is what decoding begins with
            last = jnp.maximum(batch["target_lengths"] - 1, 0)
            start = jnp.take_along_axis(target, last[:, None], axis=1)[:, 0]
        prev = previous_tokens(target, pad=model.pad, start=start)
        features = model.features(params, prev, encoded, rng=rng)
        aux = {}
        if getattr(model.config, "ctc_weight", 0.0):
            aux = {"ctc_logits": speaker.ctc_logits(params, encoded)}
        new = speaker.advanced(extra, encoded) if hasattr(speaker, "advanced") else None
        return Forward(features=features, encoded=encoded, target=target, pad=model.pad, aux=aux,
                       extra=new)

    def evaluator(
        self, model: SpeechToText, dataset: SpeechToTextDataset, *,
        generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> TranslationEvaluator:
        """What scores outputs for a dataset during training: sacreBLEU, or word errors.

        Args:
          limit: only the first so many recordings (0: all).
          sharding, row_multiple: how rows lie on the devices.
        """
        from seqjax.tasks.evaluator import TranslationEvaluator
        from seqjax.tasks.word_errors import WordErrorEvaluator

        count = min(limit or len(dataset), len(dataset))
        most = self.max_positions(model)[0]
        frames = self._frames(dataset)
        kept = [i for i in range(count) if frames[i] <= most]
        kind = WordErrorEvaluator if self.config.scoring == "wer" else TranslationEvaluator
        return kind(
            model, generation, sources=self.sources(dataset, kept),  # type: ignore[arg-type]
            references=[dataset.target(i) for i in kept],
            forms=[self.form_of(dataset.language(i)) for i in kept],
            source_text=lambda source: f"{len(source)} frames", target_text=self.decode_target,
            unk=self.target_vocab.unk, sharding=sharding, row_multiple=row_multiple)

    def _frames(self, dataset: SpeechToTextDataset) -> np.ndarray:
        """Of each recording, at most."""
        assert dataset.lengths.source is not None
        return dataset.lengths.source

    def sources(
        self, dataset: SpeechToTextDataset, indices: Sequence[int]
    ) -> list[np.ndarray]:
        """Features [T, F] (or samples [N]) of some recordings, as the model reads them."""
        from seqjax.data.epoch_plan import Shape

        found, frames = [], self._frames(dataset)
        for i in indices:
            length = int(frames[i])
            width = max(64, 1 << (length - 1).bit_length())  # few shapes to compile
            target = 0 if dataset.lengths.target is None else int(dataset.lengths.target[i])
            batch = dataset.materialise(
                np.array([i]), np.array([0]), Shape(rows=1, source=width, target=target))
            found.append(batch["source"][0, :batch["source_lengths"][0]])
        return found

    def heard(self, audio: Any, *, sampling_rate: int | None = None) -> np.ndarray:
        """What the model reads of a recording: features [T, F], or samples [N]; transforms are
        those of evaluations.

        Args:
          audio: a path, samples [N] in [-1, 1], or features [T, F], which are taken as they are.
          sampling_rate: of samples (None: as the model wants them).

        Raises:
          ValueError: what cannot be read or heard.
        """
        from seqjax.data.audio.one_recording import features_of

        reading = dataclasses.replace(self.reading, resample=True)
        return features_of(audio, self.audio, reading=reading, sampling_rate=sampling_rate)

    def words_of(self, text: str) -> np.ndarray:
        """Ids of a text without what stands around its words."""
        line = text if self.text.tokenizer is None else self.text.tokenizer.encode(text)
        return self.target_vocab.encode_line(line, append_eos=False)

    def decode_source(self, ids: Any) -> str:
        """A recording has no text; how long it is."""
        return f"{len(ids)} frames"

    def next_command(self, workdir: str, *, subset: str) -> list[str]:
        """Recordings of a split become text."""
        return ["python", "-m", "seqjax.generate", "--checkpoint", workdir, "--data",
                self.config.data, "--subset", subset, "--output", "output.txt"]


def _about(audio: S2TDataConfig) -> dict[str, bytes]:
    return {_ABOUT: json.dumps(dataclasses.asdict(audio)).encode()}


def _fairseq_assets(section: Mapping[str, Any], data: str) -> dict[str, bytes]:
    """What `config.yaml` beside a checkpoint of fairseq's says, where there is one."""
    said = _said({**section, "data": data})
    if said is None:
        return {}
    tokenizer = TargetText.load(data, said).tokenizer
    packed = {} if tokenizer is None else assets.pack_tokenizer("", tokenizer)
    return {**_about(said), **packed}


ENTRY = TaskEntry(
    name="speech_to_text", config=SpeechToTextConfig,
    task="seqjax.tasks.speech_to_text:SpeechToTextTask", facade=SpeechToTextTask.facade,
    metrics={**metrics.BLEU, **metrics.WORD_ERRORS}, output="output", huggingface="speech",
    loss="label_smoothed_cross_entropy",
    fairseq=FairseqTask(name="speech_to_text", assets=_fairseq_assets))
