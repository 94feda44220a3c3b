"""Recognisers of speech by CTC: recordings in; what is said in them, and when, out.

    m = seqjax.load("runs/asr")                       # or a .pt of fairseq beside its dict.ltr.txt
    m.transcribe("a.wav")                             # greedy: the best symbol of every frame
    m.transcribe(["a.wav", samples], beam=50, lm="lm.arpa", lexicon="lexicon.txt")
    m.transcribe("a.wav", timestamps=True).words      # (word, start, end) in seconds
    m.log_probs("a.wav")                              # [frames, V], natural logarithm
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from seqjax.config import ConfigError, GenerationConfig, build
from seqjax.data.audio.reading import AudioError, file_of, read_head
from seqjax.generation.ctc.alignment import align
from seqjax.generation.ctc.decoder import CTCDecoder
from seqjax.generation.ctc.hypothesis import CTCHypothesis, word_times
from seqjax.generation.ctc.options import CTCOptions
from seqjax.generation.errors import InputError
from seqjax.hub import evaluation, waveforms
from seqjax.hub.evaluation import Evaluated
from seqjax.hub.generative import Generative, Hypothesis, Split
from seqjax.hub.inputs import Rules, Selection
from seqjax.hub.loaded import Loaded
from seqjax.hub.speech import Speech
from seqjax.hub.speech_to_text import SpeechTranslator
from seqjax.tasks.audio_finetuning import Recognition
from seqjax.tasks.inputs import Encoded
from seqjax.tasks.waveforms import WaveformsTask

Audio = str | os.PathLike[str] | np.ndarray
"""A path, or samples [N] in [-1, 1]."""
MAX_SAMPLES = 1 << 21
"""Of a batch of an evaluation, where nothing else is said."""
_AT_ONCE = 1 << 24
"""Samples of the recordings that are in memory."""
_BEAM = 50
"""Of a search with a language model or a lexicon, where nothing else is said."""
_SIZES = ("max_tokens", "batch_size")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Word:
    """A word, and when it is said."""

    word: str
    start: float
    """Seconds from the beginning of the recording."""
    end: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcript:
    """What is said in a recording, word by word."""

    text: str
    words: tuple[Word, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Heard(Hypothesis):
    """One output for one recording. Its tokens have no eos, and no scores of their own."""

    times: tuple[Word, ...] | None = None
    """With `timestamps`."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Recording(Encoded):
    """A recording that is to be recognised; a file's samples are read when they are needed."""

    audio: Any
    samples: int
    """About how many, at the model's rate."""
    problem: str = ""
    """Why it cannot be used."""


class Search(CTCDecoder):
    """The search of one call's options, and the sizes of batches."""

    def __init__(
        self, task: Recognition | WaveformsTask, options: CTCOptions, sizes: GenerationConfig
    ) -> None:
        super().__init__(
            task.vocab.symbols, blank=task.blank, silence=task.boundary, options=options)
        self.config = sizes


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Recognizer(Speech, Generative[Any]):
    """A model that says of every frame which symbol is heard."""

    inputs_name: ClassVar[str] = "audio"
    _searches: dict[Any, Search] = dataclasses.field(default_factory=dict, repr=False)

    # ---- options ----

    def ctc_options(self, **options: Any) -> CTCOptions:
        """How is searched: these fields of `CTCOptions`, greedily where none is given.

        Raises:
          ConfigError: one that is none of these.
        """
        fields = {f.name for f in dataclasses.fields(CTCOptions)}
        unknown = [name for name in options if name not in fields and name not in _SIZES]
        if unknown:
            raise ConfigError(
                f"generation.{unknown[0]}: a recogniser by CTC has no such option; it has "
                f"{', '.join(sorted(fields))}")
        given = {k: v for k, v in options.items() if k in fields}
        if given.get("lm") is not None:
            given["lm"] = os.fspath(given["lm"])
        if (given.get("lm") or given.get("lexicon")) and "beam" not in given:
            given["beam"] = _BEAM
        found = build(CTCOptions, {k: v for k, v in given.items() if v is not None}, "generation")
        found.check()
        return found

    def settings(self, *, references: bool = False, **options: Any) -> GenerationConfig:
        """Beam and sizes of batches, of these options."""
        del references
        found = self.ctc_options(**options)
        sizes = {"max_tokens": MAX_SAMPLES, **{k: options[k] for k in _SIZES if k in options}}
        return GenerationConfig(beam=found.beam, nbest=found.nbest, **sizes)

    def decoder(self, *, references: bool = False, **options: Any) -> Any:
        """The search of these options; kept for the next call."""
        del references
        found, sizes = self.ctc_options(**options), self.settings(**options)
        key = found, sizes
        if key not in self._searches:
            self._searches[key] = Search(self.task, found, sizes)
        return self._searches[key]

    def description(self, options: dict[str, Any]) -> list[str]:
        found = self.ctc_options(**options)
        how = "greedy" if found.greedy else f"beam {found.beam}" + (
            f" with {found.lm}" if found.lm else "")
        return [*Loaded.description(self, {}), self.prepared_how(), f"CTC, {how}"]

    # ---- recordings ----

    def encoded(self, x: Any) -> Encoded:
        """A recording as it is searched, of which the head of a file is read; what is wrong with
        that one, `select` says."""
        if isinstance(x, Encoded):
            return x
        if not isinstance(x, (str, os.PathLike)):
            samples = self._samples(x, "audio")
            return Recording(ids=_silence(len(samples)), audio=samples, samples=len(samples))
        path, rate = os.fspath(x), self.task.config.sample_rate
        try:
            head = read_head(path)
        except AudioError as error:
            return Recording(ids=_silence(0), text=path, audio=path, samples=0,
                             problem=f"cannot be used: {error}")
        count = -(-head.length * rate // (head.rate or rate))
        return Recording(ids=_silence(count), text=path, audio=path, samples=count)

    def _read(self, recording: Any, place: int) -> np.ndarray:
        """Samples as the model is given them."""
        if isinstance(recording.audio, np.ndarray):
            return recording.audio  # prepared already
        try:
            return self._samples(recording.audio, f"audio[{place}]")
        except (AudioError, ConfigError, ValueError) as error:
            raise InputError(place, str(error)) from None

    def split(self, data: str, subset: str) -> Split:
        task = self.task.with_config(data=data)
        task.check_folder(data)
        dataset = task.recordings_of(task.dataset(subset))
        eos = self.task.vocab.eos
        return Split(
            inputs=[dataset.manifest.file(int(i)) for i in dataset.ids], lengths=dataset.lengths,
            references=[np.append(dataset.labels[0].ids(int(i)), eos).astype(np.int32)
                        for i in dataset.ids],
            limits=task.max_positions(self.models[0]))

    def select(
        self, inputs: Sequence[Encoded], *, decoder: Any, rules: Rules,
        prefixes: Sequence[np.ndarray] | None = None,
        constraints: Sequence[Sequence[np.ndarray]] | None = None,
    ) -> Selection:
        del decoder, rules
        for given, what in ((prefixes, "prefixes"), (constraints, "constraints")):
            if given is not None:
                raise ConfigError(f"{what}: outputs of a recogniser by CTC have none")
        least = self.models[0].receptive_field
        for place, one in enumerate(inputs):
            size, problem = getattr(one, "samples", 0), getattr(one, "problem", "")
            if problem:
                raise InputError(place, problem)
            if size < least:
                raise InputError(place, f"has {size} samples, but this model's first frame needs "
                                 f"{least} at {self.task.config.sample_rate} Hz")
        return Selection(total=len(inputs), places=list(range(len(inputs))), sources=[], blank=[],
                         skipped={}, truncated={}, prefixes=None)

    # ---- what is said ----

    def transcribe(
        self, audio: Audio | Sequence[Audio], *, timestamps: bool = False, **options: Any
    ) -> Any:
        """What is said in recordings: a string for one, a list for a list.

        Args:
          audio: paths, or samples [N] in [-1, 1] at the model's rate. Files of another rate are
            resampled, several channels averaged.
          timestamps: `Transcript`s in place of strings, with the times of words.
          **options: fields of `CTCOptions`: `beam`, `lm`, `lexicon`, `lm_weight`, `word_score`, ...
            Without any the best symbol of every frame is taken.

        Raises:
          FileNotFoundError, ConfigError: files that are not there, or cannot be used.
          ValueError: a recording too short for a frame, or with samples that are no numbers.
        """
        if options.get("nbest", 1) != 1:
            raise ConfigError(f"generation.nbest: {options['nbest']}, but this gives the best "
                              "alone: generate() gives them all")
        single = waveforms.is_one(audio)
        listed: Any = [audio] if single else audio
        for i, one in enumerate(listed):
            if isinstance(one, (str, os.PathLike)) and not os.path.isfile(
                    file_of(os.fspath(one))):
                raise FileNotFoundError(f"audio[{i}]: {os.fspath(one)}: no such file")
        found = [h[0] for h in self._all(listed, {**options, "timestamps": timestamps})]
        texts = [Transcript(text=h.text, words=h.times or ()) if timestamps else h.text  # type: ignore[attr-defined]
                 for h in found]
        return texts[0] if single else texts

    def stream(
        self, inputs: Sequence[Any], *, timestamps: bool = False,
        numbers: Sequence[int] | None = None, plan: Sequence[Sequence[int]] | None = None,
        prefixes: Sequence[Any] | None = None, too_long: str = "error",
        decode_blank: bool = False, **options: Any,
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Hypotheses of each recording, best first, with its place in `inputs`, as some are done.

        Args:
          timestamps: with the times of words.
          numbers, plan, decode_blank: change nothing: a recording's result is its own.
          too_long: recordings may be of any length.
          prefixes: there are none.
          **options: fields of `CTCOptions`.
        """
        del numbers, plan, too_long, decode_blank
        search = self.decoder(**options)
        given: list[Any] = [self.encoded(x) for x in inputs]
        self.select(given, decoder=search, rules=Rules(), prefixes=prefixes)
        for some in _groups([x.samples for x in given]):
            rows = [self._read(given[place], place) for place in some]
            scores: list[Any] = [None] * len(rows)
            for places, values in self._frames(rows, self._scores()):
                for place, row in zip(places, values, strict=True):
                    scores[place] = row
            for place, row, found in zip(some, scores, self._decoded(search, scores, some),
                                         strict=True):
                yield place, [self._heard(h, row, timestamps=timestamps) for h in found]

    def _decoded(
        self, search: Any, scores: list[np.ndarray], places: Sequence[int]
    ) -> list[list[CTCHypothesis]]:
        for row, place in zip(scores, places, strict=True):
            if np.isnan(row).any():
                raise InputError(place, "gives values that are no numbers")
        return search.decode(scores)

    def _heard(
        self, found: CTCHypothesis, scores: np.ndarray, *, timestamps: bool
    ) -> Heard:
        said = self.task.said(found.tokens) if found.words is None else " ".join(found.words)
        return Heard(
            tokens=found.tokens, score=found.score, positional_scores=np.zeros(0, np.float32),
            text=said, words=None if found.words is None else list(found.words),
            times=self._times(found, scores) if timestamps else None)

    def _times(self, found: CTCHypothesis, scores: np.ndarray) -> tuple[Word, ...]:
        """When words are said, by the best alignment of the symbols that were found."""
        task, model = self.task, self.models[0]
        spans = align(scores, found.tokens.tolist(), blank=task.blank)
        seconds = model.hop / task.config.sample_rate
        if task.boundary is None:  # symbols by themselves
            said = [(task.vocab[int(token)], *map(int, span))
                    for token, span in zip(found.tokens, spans, strict=True)]
        else:
            said = [(t.word, t.start, t.end) for t in word_times(
                found.tokens.tolist(), spans, silence=task.boundary,
                symbols=task.vocab.symbols)]
        return tuple(Word(word=word, start=round(start * seconds, 6), end=round(end * seconds, 6))
                     for word, start, end in said)

    def evaluate(
        self, subset: str = "test", *, data: str | None = None, max_tokens: int = MAX_SAMPLES,
        batch_size: int | None = None, too_long: str | None = None,
    ) -> Evaluated:
        """The loss on a split, and its errors of symbols and words: see `Loaded.evaluate`; a batch
        has `max_tokens` samples."""
        return evaluation.loss_of_split(
            self.task, self.models, self.params, subset, loss=self.config.loss, data=data,
            max_tokens=max_tokens, batch_size=batch_size, too_long=too_long,
            sentence_avg=self.config.train.sentence_avg)


class Pretrained(Speech):
    """A pretrained model of waveforms: its features, and its loss on a split."""

    evaluate = Recognizer.evaluate


class Writer(SpeechTranslator):
    """A model of waveforms with a decoder, which writes what is said symbol by symbol."""

    evaluate = Recognizer.evaluate

    def split(self, data: str, subset: str) -> Split:
        task: Any = self.task.with_config(data=data)
        task.check_folder(data)
        dataset = task.recordings_of(task.dataset(subset))
        everything = range(len(dataset))
        return Split(
            inputs=task.sources(dataset, everything), lengths=dataset.lengths,
            references=[dataset.labels[0].ids(int(dataset.ids[i])) for i in everything],
            limits=task.max_positions(self.models[0]))


def of_task(**fields: Any) -> Speech | Recognizer | Writer:
    """What a model of the tasks of waveforms can do: recognise speech by CTC, write it symbol by
    symbol, or give features.

    Args:
      **fields: of `Loaded`.
    """
    task = fields["task"]
    if isinstance(task, WaveformsTask):
        return Speech(**fields) if task.symbols is None else Recognizer(**fields)
    if not isinstance(task, Recognition):
        return Pretrained(**fields)
    return Writer(**fields) if task.autoregressive else Recognizer(**fields)


def _silence(samples: int) -> np.ndarray:
    """Stands for samples that are not in memory: as many zeros, which take no room."""
    return np.broadcast_to(np.int32(0), (samples,))


def _groups(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Places of recordings that are in memory together, as they follow."""
    some, total = [], 0
    for place, size in enumerate(sizes):
        if some and total + size > _AT_ONCE:
            yield some
            some, total = [], 0
        some.append(place)
        total += size
    if some:
        yield some
