"""Translation models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import jax
import numpy as np

from seqjax.config import ConfigError
from seqjax.data.dictionaries import first_difference
from seqjax.data.pairs import PairDataset
from seqjax.generation import finite, hypothesis
from seqjax.generation.alignment import Aligner
from seqjax.generation.allowed import AllowedTokens, TokenTrie
from seqjax.generation.decoder import Decoded, Decoder
from seqjax.generation.errors import InputError
from seqjax.generation.processors import mean_log_probs
from seqjax.generation.scoring import Scorer
from seqjax.generation.target_form import TargetForm
from seqjax.hub import arguments, directions
from seqjax.hub.directions import Languages
from seqjax.hub.features import Featuring
from seqjax.hub.filling import Rewriting
from seqjax.hub.generative import (
    Generative,
    Hypothesis,
    Ids,
    Input,
    Split,
    blank_hypotheses,
    padded,
    with_text,
)
from seqjax.hub.inputs import (
    Rules,
    Selection,
    at_places,
    by_place,
    kept_plan,
    of_selected,
    select_sources,
)
from seqjax.hub.loaded import Loaded
from seqjax.hub.predicting import Predicting
from seqjax.models.protocol import Params, encode_tokens
from seqjax.tasks import inputs as task_inputs
from seqjax.tasks import output_constraints
from seqjax.tasks import replace_unk as unknown_words
from seqjax.tasks.inputs import Encoded
from seqjax.tasks.protocol import TextTask


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Translator(Featuring, Rewriting, Predicting, Generative[TextTask]):  # type: ignore[misc]
    """A translation model, or an ensemble of several, with its vocabularies."""

    aligns: ClassVar[bool] = True
    lm: Loaded | None = None
    """What searches add `lm_weight` times the log-probabilities of (see `fused`)."""

    def description(self, options: dict[str, Any]) -> list[str]:
        kind, *rest = super().description(options)
        if self.lm is not None:
            kind += f", with the language model {' + '.join(map(str, self.lm.origins))}"
        source = min(m.max_source_positions for m in self.models)
        target = min(m.max_target_positions for m in self.models)
        return [kind, *rest, f"at most {source} source and {target} target tokens (the model's)"]

    def fused(self, lm: Loaded) -> Translator:
        """A translator that searches with a language model.

        Raises:
          ConfigError: `lm` is not one language model, or has another vocabulary.
        """
        lm.language_model()
        ours, theirs = self.task.target_vocab, lm.task.dictionaries[0]
        difference = first_difference(ours.symbols, theirs.symbols,
                                      names=("there", "in the language model's"))
        if difference is not None:
            raise ConfigError(
                f"lm: the vocabulary of {lm.identity} ({len(theirs.symbols)} entries) is not the "
                f"target vocabulary of {self.name} ({len(ours)} entries): {difference}; "
                "train it on text that was preprocessed with that model's dictionary (--srcdict)")
        return dataclasses.replace(self, lm=lm, identity=f"{self.identity} lm={lm.identity}",
                                   _decoders={}, _weights=[])

    @property
    def langs(self) -> tuple[str, ...]:
        return self.task.langs

    def translating(self, source_lang: str | None, target_lang: str | None) -> Translator:
        """This model with other languages where calls say none (None: as they are).

        Raises:
          ConfigError: a language that it does not know, with the nearest that it knows.
        """
        return dataclasses.replace(
            self, task=self.task.translating(source_lang, target_lang))

    def split(self, data: str, subset: str) -> Split:
        task = self.task.with_config(data=data)
        _ = task.source_frame  # whose languages must be known
        task.check_folder(data)
        dataset = cast(PairDataset, task.dataset(subset, need_target=False))
        rows = [dataset.sentence(i) for i in range(len(dataset))]
        return Split(
            inputs=[row[0] for row in rows], lengths=dataset.lengths,
            references=None if dataset.target is None else [t for _, t in rows if t is not None],
            limits=task.max_positions(self.models[0]))

    def translate(self, texts: str | Sequence[str], **options: Any) -> Any:
        """The best translation of each text.

        Args:
          texts: a string, or strings; leave their tokenization to the model.
          **options: fields of `GenerationConfig`: beam, lenpen, sampling, ...; and what
            `stream` takes: `source_lang` and `target_lang` of a model that knows languages.

        Returns:
          A string for a string, a list for a list; "" for a blank text, and for one that was
          left out (`too_long="skip"`).
        """
        return self._best(texts, options)

    def generate(
        self, inputs: Sequence[Input], *, prefixes: Sequence[Input] | None = None, **options: Any
    ) -> list[list[Hypothesis]]:
        """At most `nbest` hypotheses of each input, best first.

        Args:
          inputs: texts, or lists of source ids that end in eos (a language token that they
            lack is added).
          prefixes: what each output must begin with: texts, or ids without eos; with
            `prefix_size`, so many tokens of it.
          **options: fields of `GenerationConfig`, and `constraints`, `allowed`,
            `prefix_allowed_tokens_fn`, `alignment`, `replace_unk`, `too_long`, `decode_blank`,
            `source_lang` and `target_lang` as `stream` takes them.

        Returns:
          A list for each input: for a blank one hypotheses without text, for one that was
          left out none.

        Raises:
          ConfigError: an unknown option, or options that contradict each other.
          ValueError: an input over the model's limit, by its number from 0 (unless
            `too_long` says otherwise); alignments from a model that has none.
        """
        return self._all(inputs, {"prefixes": prefixes, **options})

    def stream(
        self, inputs: Sequence[Input], *, source_lang: Languages = None,
        target_lang: Languages = None, prefixes: Sequence[Input] | None = None,
        numbers: Sequence[int] | None = None, plan: Sequence[Sequence[int]] | None = None,
        constraints: Sequence[Sequence[str | Ids]] | None = None, constraint_order: str = "ordered",
        allowed: TokenTrie | Sequence[TokenTrie] | None = None,
        prefix_allowed_tokens_fn: AllowedTokens | None = None, **options: Any,
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """As `generate`, one input at a time as batches finish, with its place in `inputs`.

        Args:
          source_lang, target_lang: of a model that knows languages: one for all inputs, or one
            for each (None: as it was loaded).
          numbers: what each input's random samples depend on (default: its place).
          plan: places of the inputs that share a batch (default: those of like length);
            results depend on it with `padded_source_len` only.
          constraints: for each input the phrases that its outputs must contain: texts, or
            ids without eos. Where none can be found, the hypothesis is a lone eos of score
            -inf.
          constraint_order: `ordered`: in the order given; `unordered`: in any.
          allowed: permitted outputs (see `trie`), for all inputs or for each of them.
          prefix_allowed_tokens_fn: (number of the input, ids so far from bos on) -> ids
            that may come next, as fairseq's; asked on the host for every hypothesis at
            every step, so slower than `allowed` by far.
          alignment: `hard`: hypotheses get their `alignment`; `soft`: their `attention`.
          replace_unk: unknown words become what this says of the source word that they are
            aligned with, or that word itself where it says nothing (True: always itself).
          too_long: what becomes of an input with more tokens than the model takes, or whose
            prefix is longer than outputs may be: an `error`; `truncate`: its first tokens
            and eos are taken; `skip`: it gets no hypothesis.
          decode_blank: search with blank inputs too, as fairseq does. Else their output is
            blank, whatever it should begin with or be one of.
        """
        inputs, prefixes = self._checked(inputs, prefixes)
        output_constraints.check_order(constraint_order, constraints)
        each = directions.of_inputs(self.task, source_lang, target_lang, count=len(inputs))
        starts, phrases = self._required(each, prefixes, constraints)
        sources = [task_inputs.encoded(task, x) for task, x in zip(each, inputs, strict=True)]
        given = {"tasks": each, "prefixes": starts, "constraints": phrases, "allowed": allowed,
                 "numbers": range(len(sources)) if numbers is None else numbers}
        for places in directions.by_end(each):
            part = {name: directions.at(places, value, count=len(sources), name=name)
                    for name, value in given.items()}
            stream = self._stream(
                [sources[i] for i in places], **part, constraint_order=constraint_order,
                plan=directions.plan_of(plan, places),
                prefix_allowed_tokens_fn=directions.asked_of(prefix_allowed_tokens_fn, places),
                **options)
            try:
                for place, found in stream:
                    yield places[place], found
            except InputError as error:
                raise error.moved(places[error.index]) from None

    def _stream(
        self, sources: Sequence[Encoded], *, tasks: Sequence[TextTask],
        prefixes: Sequence[np.ndarray] | None, numbers: Sequence[int],
        plan: Sequence[Sequence[int]] | None, constraints: Sequence[Sequence[np.ndarray]] | None,
        constraint_order: str, allowed: TokenTrie | Sequence[TokenTrie] | None,
        prefix_allowed_tokens_fn: AllowedTokens | None, alignment: str | None = None,
        replace_unk: bool | Mapping[str, str] = False, too_long: str = "error",
        decode_blank: bool = False, **options: Any,
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """What `stream` gives, of inputs whose outputs end alike.

        Args:
          tasks: of each, for its languages.
        """
        forms = [task.target_form for task in tasks]
        decoder = self.decoder(references=prefixes is not None,
                               eos=forms[0].eos if forms else None, **options)
        forced = decoder.forced(prefixes, forms, count=len(forms))
        starts = forced if any(map(len, forced)) or prefixes is not None else None
        dictionary = unknown_words.as_dictionary(replace_unk)
        # In fairseq's batches a row's place counts: blank ones keep it, and are searched.
        rules = Rules(too_long=too_long, decode_blank=decode_blank or plan is not None)
        chosen = select_sources(
            sources, decoder=decoder, rules=rules, prefixes=starts, constraints=constraints)
        blank = set() if decode_blank else {
            i for i, x in enumerate(sources)
            if x.blank(eos=decoder.source_eos) and i not in chosen.skipped}
        for i in sorted(blank):
            yield i, blank_hypotheses(decoder.eos, nbest=decoder.config.nbest, alignment=alignment,
                                      words=dictionary is not None)
        for i in chosen.skipped:
            yield i, []
        parts = by_place(chosen, lambda: decoder.stream(
            self._prepared(decoder), chosen.sources, prefixes=chosen.prefixes,
            numbers=of_selected(chosen, numbers), forms=of_selected(chosen, forms),
            plan=None if plan is None else kept_plan(plan, chosen),
            constraints=of_selected(chosen, constraints), constraint_order=constraint_order,
            allowed=allowed if isinstance(allowed, TokenTrie) else of_selected(chosen, allowed),
            prefix_allowed_tokens_fn=at_places(prefix_allowed_tokens_fn, chosen)))
        yield from self._in_words(
            parts, sources, chosen, tasks=tasks, blank=blank, alignment=alignment,
            dictionary=dictionary)

    def _in_words(
        self, parts: Iterable[Decoded], sources: Sequence[Encoded], chosen: Selection, *,
        tasks: Sequence[TextTask], blank: Container[int], alignment: str | None,
        dictionary: Mapping[str, str] | None,
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """What searches found, as text, with alignments where they are asked for.

        Args:
          tasks: of each input.
          blank: places that have their hypotheses already.
          dictionary: see `replace_unk` of `stream` (None: unknown words stay).
        """
        for part in self._aligner.attach(
            parts, self.params, chosen.sources, alignment=alignment,
            unknown=None if dictionary is None else self.task.target_vocab.unk,
            starts=of_selected(chosen, [task.target_form.start for task in tasks]),
        ):
            for index, hypotheses in zip(part.indices, part.hypotheses, strict=True):
                place = chosen.places[index]
                if place not in blank:
                    task = tasks[place]
                    yield place, [with_text(task, h) if dictionary is None else
                                  _with_words(task, h, sources[place], dictionary)
                                  for h in hypotheses]

    def _checked(
        self, inputs: Sequence[Input], prefixes: Sequence[Input] | None
    ) -> tuple[list[arguments.Checked], list[arguments.Checked] | None]:
        inputs = arguments.inputs(inputs, name="inputs", size=len(self.task.source_vocab))
        if prefixes is not None:
            prefixes = arguments.inputs(prefixes, name="prefixes", empty=True,
                                        size=len(self.task.target_vocab))
        return inputs, prefixes

    def score(
        self, sources: Sequence[Input], targets: Sequence[Input], *,
        source_lang: Languages = None, target_lang: Languages = None,
        alignment: str | None = None, **sizes: int | None,
    ) -> list[Hypothesis]:
        """How probable each target is, teacher-forced; `score` is the mean per token.

        Args:
          sources, targets: texts, or lists of ids that end in eos; of targets, all that is
            predicted, language tokens included.
          source_lang, target_lang, alignment: as for `stream`.
          **sizes: `max_tokens` of a batch on its longer side, and its `batch_size`.
        """
        each, sources, targets, starts = self._pairs_of(
            sources, targets, (source_lang, target_lang), name="score")
        asked = {name: size for name, size in sizes.items() if size is not None}
        found = Scorer(self.models, **asked).score(self.params, sources, targets, starts=starts)
        parts = [Decoded(indices=tuple(range(len(found))), hypotheses=[[h] for h in found])]
        parts = self._aligner.attach(parts, self.params, sources, alignment=alignment,
                                     starts=starts)
        scored = [h for part in parts for (h,) in part.hypotheses]
        return [with_text(task, h) for task, h in zip(each, scored, strict=True)]

    def align(
        self, sources: Sequence[Input], targets: Sequence[Input], *,
        source_lang: Languages = None, target_lang: Languages = None,
    ) -> list[list[tuple[int, int]]]:
        """For each target token the source token that its attention chooses.

        Args:
          sources, targets, source_lang, target_lang: as for `score`.

        Returns:
          For each pair (source place, target place) of every target token, from 0, of
          tokens as `encode` makes them; eos is left out.

        Raises:
          ValueError: a model without attention to the source.
        """
        _, sources, targets, starts = self._pairs_of(
            sources, targets, (source_lang, target_lang), name="align")
        return self._aligner.align(self.params, sources, targets, starts=starts)

    @functools.cached_property
    def _aligner(self) -> Aligner:
        return Aligner(self.models)

    def encoded(self, x: Input) -> Encoded:
        return task_inputs.encoded(self.task, x)

    def select(
        self, inputs: Sequence[Encoded], *, decoder: Decoder, rules: Rules,
        prefixes: Sequence[np.ndarray] | None = None,
        constraints: Sequence[Sequence[np.ndarray]] | None = None,
    ) -> Selection:
        forced = decoder.forced(
            prefixes, [self.task.target_form] * len(inputs), count=len(inputs))
        starts = forced if prefixes is not None or any(map(len, forced)) else None
        return select_sources(inputs, decoder=decoder, rules=rules, prefixes=starts,
                              constraints=constraints)

    def _required(
        self, tasks: Sequence[TextTask], prefixes: Sequence[Input] | None,
        constraints: Sequence[Sequence[str | Ids]] | None,
    ) -> tuple[list[np.ndarray] | None, list[list[np.ndarray]] | None]:
        """Prefixes and constraints as ids, one of each for the inputs of these tasks."""
        starts, count = None, len(tasks)
        if prefixes is not None:
            if len(prefixes) != count:
                raise ValueError(f"prefixes: {len(prefixes)} for {count} inputs: give one each")
            starts = [output_constraints.words_of(task, p) if isinstance(p, str) else
                      _target_ids(task, p) for task, p in zip(tasks, prefixes, strict=True)]
        phrases = None
        if constraints is not None:
            if len(constraints) != count:
                raise ValueError(
                    f"constraints: {len(constraints)} lists for {count} inputs: give one each")
            phrases = output_constraints.phrase_ids(tasks, constraints)
        return starts, phrases

    def _pairs_of(
        self, sources: Any, targets: Any, languages: tuple[Languages, Languages], *, name: str
    ) -> tuple[list[TextTask], list[np.ndarray], list[np.ndarray], list[int]]:
        """Pairs that are to be run teacher-forced: the task of each, both sides as ids, and what
        decoding begins with."""
        sources, targets = self._pairs(sources, targets, name=name)
        each = directions.of_inputs(self.task, *languages, count=len(sources))
        return (each, [task_inputs.encoded(t, x).ids for t, x in zip(each, sources, strict=True)],
                [_target_ids(t, x) for t, x in zip(each, targets, strict=True)],
                [task.target_form.start for task in each])

    def _pairs(
        self, sources: Sequence[Input], targets: Sequence[Input], *, name: str, texts: bool = True,
        second: str = "targets",
    ) -> tuple[list[Any], list[Any]]:
        """Both sides, checked."""
        sources = arguments.inputs(
            sources, name="sources", size=len(self.task.source_vocab), texts=texts)
        targets = arguments.inputs(
            targets, name=second, size=len(self.task.target_vocab), texts=texts)
        arguments.pairs(sources, targets, name=name, what=("sources", "targets"))
        return sources, targets

    def log_probs(self, sources: Sequence[Ids], prev_output_tokens: Sequence[Ids]) -> np.ndarray:
        """Natural log-probabilities of every next token.

        Args:
          sources: lists of source ids that end in eos.
          prev_output_tokens: lists of target ids that begin with what decoding begins with:
            eos as a rule, a language token, ...

        Returns:
          [B, T, V] float32, T the longest of `prev_output_tokens`; zeros on padding.
        """
        sources, prev_output_tokens = self._pairs(
            sources, prev_output_tokens, name="log_probs", texts=False,
            second="prev_output_tokens")
        longest = max((len(p) for p in prev_output_tokens), default=0)
        out = np.zeros((len(sources), longest, len(self.task.target_vocab)), np.float32)
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        for start in range(0, len(order), 16):
            rows = order[start : start + 16]
            pad = self.models[0].pad
            source = padded([sources[i] for i in rows], rows=16, pad=pad)
            prev = padded([prev_output_tokens[i] for i in rows], rows=16, pad=pad)
            found = np.asarray(self._log_probs(self.params, source, prev))
            for row, i in enumerate(rows):
                n = len(prev_output_tokens[i])
                out[i, :n] = found[row, :n]
                finite.check_scores(out[i, :n], f"log_probs: source {i}")
        return out

    @functools.cached_property
    def _log_probs(self) -> Callable[..., jax.Array]:
        def log_probs(params: Params, source: jax.Array, prev: jax.Array) -> jax.Array:
            each = []
            for model, p in zip(self.models, params, strict=True):
                logits = model.features(p, prev, encode_tokens(model, p, source)).logits()
                each.append(jax.nn.log_softmax(logits, axis=-1))
            return mean_log_probs(each)  # fairseq's ensembles average probabilities

        return jax.jit(log_probs)

    def decoder(
        self, *, references: bool = False, eos: int | None = None, **options: Any
    ) -> Decoder:
        """The compiled search for these options (see `settings`); kept for the next call.

        Args:
          eos: what ends outputs (None: as those of the languages that it was loaded for).
        """
        settings = self.settings(references=references, **options)
        try:
            form = self.task.target_form
        except ConfigError:
            if eos is None:
                raise
            # It knows languages, and none is usual: each input's form says how its output begins.
            form = TargetForm(start=eos, eos=eos)
        end = form.eos if eos is None else eos
        if (settings, end) not in self._decoders:
            self._decoders[settings, end] = Decoder(
                self.models, settings, unk=self.task.target_vocab.unk, bos=form.start, eos=end,
                language_model=None if self.lm is None else self.lm.language_model())
        return self._decoders[settings, end]

    def _searched(self) -> Iterable[Params]:
        return self.params if self.lm is None else (*self.params, *self.lm.params)


def _target_ids(task: TextTask, x: Input) -> np.ndarray:
    if isinstance(x, Encoded):
        return x.ids
    return task.encode_target(x) if isinstance(x, str) else np.asarray(x, np.int32)


def _with_words(
    task: TextTask, h: hypothesis.Hypothesis, source: Encoded, dictionary: Mapping[str, str]
) -> Hypothesis:
    """With its text, in which unknown words are replaced."""
    words = unknown_words.replaced_words(
        task, h.tokens, h.alignment or (), unknown_words.source_words(task, source), dictionary)
    return Hypothesis(**vars(h), text=unknown_words.join_words(task, words), words=words)
