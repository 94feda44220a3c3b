"""A loaded model that makes text of recordings: paths, samples or features in, texts out.

    model = seqjax.load("runs/asr")
    model.transcribe(["a.wav", samples], beam=5)
    model.translate("a.wav", target_lang="de")

Paths and samples become features as `config.yaml` says of evaluations; features [T, F] are taken
as the model reads them.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from seqjax.config import ConfigError, GenerationConfig
from seqjax.generation.decoder import Decoder
from seqjax.generation.errors import InputError
from seqjax.generation.processors import mean_log_probs
from seqjax.generation.reading import batch_of, sources_for
from seqjax.hub import arguments, waveforms
from seqjax.hub.generative import Generative, Hypothesis, Split, padded
from seqjax.hub.inputs import Rules, Selection, TooLongError, by_place, of_selected
from seqjax.models.protocol import Params, Read, encode_tokens
from seqjax.tasks.inputs import Encoded

Audio = str | os.PathLike[str] | np.ndarray
"""A path, samples [N] in [-1, 1], or features [T, F]."""
_ROWS = 8
"""Of a batch of `log_probs` and `extract_features`."""


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class SpeechTranslator(Generative[Any]):
    """fairseq's `speech_to_text`: recognition or translation of recordings."""

    inputs_name: ClassVar[str] = "audio"

    @property
    def langs(self) -> tuple[str, ...]:
        """Languages of outputs, where targets have tags."""
        return self.task.langs

    def translating(self, source_lang: str | None, target_lang: str | None) -> SpeechTranslator:
        """This model with outputs in another language where calls say none."""
        return dataclasses.replace(
            self, task=self.task.translating(source_lang, target_lang), _decoders={})

    # ---- recordings ----

    def features(self, audio: Audio, *, sampling_rate: int | None = None) -> np.ndarray:
        """What the model reads of a recording: features [T, F], or samples [N].

        Args:
          sampling_rate: of samples (None: as the model wants them); others are resampled.

        Raises:
          ValueError: a file that cannot be read; samples that are no numbers, or too few.
        """
        return self.task.heard(audio, sampling_rate=sampling_rate)

    def encoded(self, x: Any) -> Encoded:
        """A recording as it is searched."""
        return x if isinstance(x, Encoded) else Encoded(ids=self.features(x))

    def split(self, data: str, subset: str) -> Split:
        task = self.task.with_config(data=data)
        task.check_folder(data)
        dataset = task.dataset(subset)
        everything = range(len(dataset))
        return Split(inputs=task.sources(dataset, everything), lengths=dataset.lengths,
                     references=[dataset.target(i) for i in everything],
                     limits=task.max_positions(self.models[0]))

    def select(
        self, inputs: Sequence[Encoded], *, decoder: Decoder, rules: Rules,
        prefixes: Sequence[np.ndarray] | None = None,
        constraints: Sequence[Sequence[np.ndarray]] | None = None,
    ) -> Selection:
        chosen = Selection(total=len(inputs), places=[], sources=[], blank=[], skipped={},
                           truncated={}, prefixes=None if prefixes is None else [])
        for place, given in enumerate(inputs):
            if not len(given.ids):
                raise InputError(place, "has no frames")
            source, limit = given.ids, decoder.max_source_positions
            if len(source) > limit:
                about = f"has {len(source)} frames, but the model takes at most {limit}"
                if rules.too_long == "error":
                    raise TooLongError(place, about)
                (chosen.skipped if rules.too_long == "skip" else chosen.truncated)[place] = about
                if rules.too_long == "skip":
                    continue
                source = source[:limit]
            chosen.places.append(place)
            chosen.sources.append(source)
            if chosen.prefixes is not None and prefixes is not None:
                chosen.prefixes.append(prefixes[place])
        return chosen

    # ---- what it says ----

    def transcribe(self, audio: Audio | Sequence[Audio], **options: Any) -> Any:
        """The best text of each recording: a string for one, a list for a list.

        Args:
          audio: paths, samples in [-1, 1], or features [T, F].
          **options: fields of `GenerationConfig`, and what `stream` takes.
        """
        single = waveforms.is_one(audio)
        listed: Any = [audio] if single else audio
        if options.get("nbest", 1) != 1 and not options.get("sampling"):
            raise ConfigError(f"generation.nbest: {options['nbest']}, but this gives the best "
                              "alone: generate() gives them all")
        found = [h[0].text if h else "" for h in self._all(listed, options)]
        return found[0] if single else found

    translate = transcribe

    def stream(
        self, inputs: Sequence[Any], *, target_lang: str | None = None,
        sampling_rate: int | None = None, prefixes: Sequence[Any] | None = None,
        numbers: Sequence[int] | None = None, plan: Sequence[Sequence[int]] | None = None,
        too_long: str = "error", decode_blank: bool = False, **options: Any,
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Hypotheses of each recording as batches finish, with its place in `inputs`.

        Args:
          target_lang: language of the outputs (None: as it was loaded).
          sampling_rate: of inputs that are samples (None: as the model wants them).
          prefixes: what each output must begin with: texts, or ids without eos.
          numbers: what each input's random samples depend on (default: its place).
          plan: places of the inputs that share a batch; results depend on it with
            `padded_source_len` only.
          too_long: what becomes of a recording that is longer than the model takes: an `error`,
            `truncate` it, or `skip` it.
          decode_blank: every recording is searched.
          **options: fields of `GenerationConfig`.
        """
        del decode_blank
        task = self.task.translating(None, target_lang)
        form = task.target_form
        decoder = self.decoder(references=prefixes is not None, eos=form.eos, start=form.start,
                               **options)
        given = [x if isinstance(x, Encoded) else Encoded(
            ids=task.heard(x, sampling_rate=sampling_rate)) for x in inputs]
        starts = None if prefixes is None else [
            task.words_of(p) if isinstance(p, str) else np.asarray(p, np.int32)
            for p in prefixes]
        chosen = self.select(given, decoder=decoder, rules=Rules(too_long=too_long),
                             prefixes=starts)
        for place in chosen.skipped:
            yield place, []
        places = {place: i for i, place in enumerate(chosen.places)}
        for part in by_place(chosen, lambda: decoder.stream(
                self._prepared(decoder), chosen.sources, prefixes=chosen.prefixes,
                numbers=of_selected(chosen, range(len(given)) if numbers is None else numbers),
                forms=[form] * len(chosen.places),
                plan=None if plan is None else [
                    [places[i] for i in batch if i in places] for batch in plan])):
            for index, found in zip(part.indices, part.hypotheses, strict=True):
                yield chosen.places[index], [
                    Hypothesis(**vars(h), text=task.decode_target(h.tokens)) for h in found]

    def decoder(
        self, *, references: bool = False, eos: int | None = None, start: int | None = None,
        **options: Any,
    ) -> Decoder:
        """The compiled search for these options; kept for the next call.

        Args:
          eos, start: what ends outputs and what they begin behind (None: as in the language that
            it was loaded for).
        """
        settings: GenerationConfig = self.settings(references=references, **options)
        if eos is None or start is None:
            form = self.task.target_form
            eos, start = form.eos, form.start
        key = settings, eos, start
        if key not in self._decoders:
            self._decoders[key] = Decoder(
                self.models, settings, unk=self.task.target_vocab.unk, bos=start, eos=eos)
        return self._decoders[key]

    # ---- what it computes ----

    def log_probs(
        self, audio: Audio | Sequence[Audio],
        prev_output_tokens: Sequence[int] | np.ndarray | Sequence[Sequence[int]],
    ) -> Any:
        """Natural log-probabilities [T, V] of each recording's next words: an array for one, a
        list for a list.

        Args:
          audio: paths, samples in [-1, 1], or features [T, F].
          prev_output_tokens: what the decoder has read of each, ids.
        """
        if waveforms.is_one(audio):
            one: Any = audio, prev_output_tokens
            return self.log_probs([one[0]], [one[1]])[0]
        listed: Any = audio
        sources = sources_for(self.models, [self.features(x) for x in listed])
        given: Any = prev_output_tokens
        prev = [np.asarray(arguments.ids(p, name="prev_output_tokens", size=len(
            self.task.target_vocab)), np.int32) for p in given]
        if len(prev) != len(sources):
            raise ValueError(f"log_probs: {len(sources)} recordings, but {len(prev)} "
                             "prev_output_tokens")
        out: list[Any] = [None] * len(sources)
        for rows, source in self._batches(sources):
            tokens = padded([prev[i] for i in rows], rows=_ROWS, pad=self.models[0].pad)
            found = np.asarray(self._log_probs(self.params, source, tokens))
            for row, i in enumerate(rows):
                out[i] = found[row, :len(prev[i])]
        return out

    def extract_features(
        self, audio: Audio | Sequence[Audio], *, layer: int | None = None
    ) -> Any:
        """The encoder's states [T, D] of each recording, of fewer frames than it has.

        Args:
          layer: the output of this layer, from 1 (0: what the first reads; None: what the
            decoder is given).

        Raises:
          ConfigError: an ensemble, or a model that does not tell of its layers.
        """
        single = waveforms.is_one(audio)
        listed: Any = [audio] if single else audio
        tells = hasattr(self.models[0], "encoder_states")
        if len(self.models) > 1 or (layer is not None and not tells):
            raise ConfigError("extract_features: one model that tells of its layers is needed")
        sources = sources_for(self.models, [self.features(x) for x in listed])
        out: list[Any] = [None] * len(sources)
        for rows, source in self._batches(sources):
            states, mask = self._states(next(iter(self.params)), source, layer)
            for row, i in enumerate(rows):
                out[i] = np.asarray(states)[row, :int(np.asarray(mask)[row].sum())]
        return out[0] if single else out

    def _batches(self, sources: Sequence[np.ndarray]) -> Iterator[tuple[list[int], Read]]:
        """Some at a time, of like lengths."""
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        for start in range(0, len(order), _ROWS):
            rows = order[start:start + _ROWS]
            longest = max(len(sources[i]) for i in rows)
            yield rows, batch_of([sources[i] for i in rows], rows=_ROWS,
                                 width=-(-longest // 64) * 64, pad=self.models[0].pad)

    @functools.cached_property
    def _log_probs(self) -> Callable[..., jax.Array]:
        def log_probs(params: Sequence[Params], source: Read, prev: jax.Array) -> jax.Array:
            return mean_log_probs([
                jax.nn.log_softmax(
                    model.features(p, prev, encode_tokens(model, p, source)).logits())
                for model, p in zip(self.models, params, strict=True)])

        return jax.jit(log_probs)

    @functools.cached_property
    def _states(self) -> Callable[..., Any]:
        model: Any = self.models[0]

        def states(params: Params, source: Any, layer: int | None) -> tuple[Any, Any]:
            encoded = model.encode(params, source)
            if layer is None:
                return encoded.out, encoded.mask
            return model.encoder_states(params, source)[layer], encoded.mask

        return jax.jit(states, static_argnums=2)
