"""From sources of any number and length to hypotheses: plan, run, restore the order.

Models of `models.protocol` and arrays of token ids go in, `Hypothesis` lists come out, in the
order of the sources; text becomes ids, and ids text, in `seqjax.hub`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError, GenerationConfig
from seqjax.generation import finite, penalties
from seqjax.generation.allowed import AllowedTokens, Callbacks, TokenTrie
from seqjax.generation.beam_search import Search, capacities, options_of
from seqjax.generation.constraints import Phrases
from seqjax.generation.decoding_plan import DecodingBatch, plan_decoding, round_up_to_power
from seqjax.generation.errors import InputError
from seqjax.generation.hypothesis import Hypothesis, Ids
from seqjax.generation.output_constraints import OutputConstraint, output_constraint_of
from seqjax.generation.precompile import First, precompile
from seqjax.generation.processors import Sentences
from seqjax.generation.reading import (
    batch_of,
    check_lengths,
    least_sources,
    sources_for,
    vocabulary_size,
)
from seqjax.generation.rows import batch_axes
from seqjax.generation.scheduling import FREE, Run, run_all
from seqjax.generation.selection import Strategy
from seqjax.generation.target_form import TargetForm
from seqjax.models.protocol import (
    Cache,
    Encoder,
    LanguageModel,
    Params,
    Read,
    Stepper,
    Weights,
    encode_tokens,
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Parameters and what decoding makes of them, one entry per model."""

    params: tuple[Params, ...] = dataclasses.field(repr=False)
    weights: tuple[Weights, ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoded:
    """Some of the results."""

    indices: tuple[int, ...]
    """Numbers of the sentences in the input."""
    hypotheses: list[list[Hypothesis]]
    """For each of them at most `nbest`, best first."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """One call of `Decoder.stream`, checked."""

    prepared: Prepared
    search: Search
    constraint: OutputConstraint
    sources: list[np.ndarray]
    prefixes: list[np.ndarray]
    limits: np.ndarray
    """Hypothesis tokens of each sentence at most, eos not counted."""
    seeds: np.ndarray
    starts: np.ndarray
    """What stands before each sentence's first token."""
    uncounted: np.ndarray
    """Tokens of each output that its caller gave, which by transformers' rules no score counts."""


class Decoder:
    """Decodes with one model, or with several that vote (their probabilities averaged).

    Compiled programs are kept with the decoder, parameters are not: pass them, or what
    `prepare` made of them, to every call.
    """

    def __init__(
        self, model: Stepper | Sequence[Stepper], config: GenerationConfig, *,
        unk: int = 3, bos: int | None = None, eos: int | None = None,
        suppress: Sequence[int] = (),
        row_multiple: int = 1, sharding: jax.sharding.Sharding | None = None,
        language_model: LanguageModel | None = None,
    ):
        """
        Args:
          model: one model or several of the same target vocabulary. To language models
            sources say nothing: their outputs begin with `prefixes`, whose tokens count
            towards lengths, as fairseq has it.
          config: the search.
          unk: id of the unknown word (`unkpen`).
          bos: token before the first one, unless `config.bos_token` or `stream` say another;
            None: eos, as fairseq's.
          eos: token that ends an output; None: the model's eos.
          suppress: tokens that are never generated.
          row_multiple: rows of a batch are multiples of this.
          sharding: how arrays with a leading batch axis lie on the devices.
          language_model: its log-probabilities are added to the models' at every step
            times `config.lm_weight` (shallow fusion, fairseq's `--lm-path`); it has the
            same target vocabulary, and its parameters go last in what `prepare` takes.

        Raises:
          ConfigError: options that no search can use, or that contradict each other.
        """
        self.models = tuple(model) if isinstance(model, Sequence) else (model,)
        if not self.models:
            raise ValueError("Decoder: no model was given")
        self.lm_weight = None
        if language_model is None and config.lm_weight:
            raise ConfigError(
                f"generation.lm_weight: {config.lm_weight}, but no language model was given: "
                "--lm-path on the command line, seqjax.load(..., lm=...) in Python")
        if language_model is not None:
            self.models = (*self.models, language_model)
            self.lm_weight = config.lm_weight
        self.config = config
        self.unk, self.suppress = unk, tuple(suppress)
        self.pad, self.source_eos = self.models[0].pad, self.models[0].eos
        self.eos = self.source_eos if eos is None else eos
        self.bos = next(x for x in (config.bos_token, bos, self.eos) if x is not None)
        self.row_multiple, self.sharding = row_multiple, sharding
        self._searches: dict[Strategy | None, Search] = {}
        self._met: set[tuple[Search, tuple[int, ...]]] = set()
        self._callbacks = Callbacks()

        def prepare(params: Sequence[Params]) -> tuple[Weights, ...]:
            return tuple(m.prepare(p) for m, p in zip(self.models, params, strict=True))

        self._prepare = jax.jit(prepare)
        self._first_step = finite.FirstStep(self.models)
        # Contradictions must show now; the vocabulary's size is known with the first parameters.
        options_of(config, pad=self.pad, eos=self.eos, unk=unk, vocabulary=1 << 30)

    @cached_property  # asked for every sentence
    def max_source_positions(self) -> int:
        """Of a language model, which reads no source: as long as an output."""
        return min((m.max_source_positions for m in self.models if isinstance(m, Encoder)),
                   default=self.max_target_positions)

    @cached_property
    def max_target_positions(self) -> int:
        return min(m.max_target_positions for m in self.models)

    def prepare(self, params: Params | Sequence[Params] | Prepared) -> Prepared:
        """Parameters in the layout of decoding; worth keeping for many calls.

        Args:
          params: of the model, or a sequence of one per model.
        """
        if isinstance(params, Prepared):
            return params
        each = tuple(params) if isinstance(params, (list, tuple)) else (params,)
        if len(each) != len(self.models):
            raise ValueError(
                f"Decoder: {len(each)} sets of parameters for {len(self.models)} models")
        return Prepared(params=each, weights=self._prepare(each))

    def decode(
        self, params: Params | Sequence[Params] | Prepared, sources: Sequence[Ids], *,
        prefixes: Sequence[Ids] | None = None,
        plan: Sequence[DecodingBatch | Sequence[int]] | None = None, **constrained: Any,
    ) -> list[list[Hypothesis]]:
        """Hypotheses for every source, in the order of the sources.

        Args:
          params: as `prepare` takes or returns them.
          sources: id sequences with their final eos, of any number and length; of models that
            read audio, frames [S, F] of features or [S] samples.
          prefixes: tokens that each output must begin with (empty: none); with
            `config.prefix_size`, so many of them.
          plan: batches to be decoded; None: batches of like lengths. Results do not depend
            on it, unless `padded_source_len` says so.
          **constrained: `constraints`, `allowed` and what else `stream` takes.

        Raises:
          ValueError: a source without tokens or over the model's limit, or limits that
            leave no room for an output; the message has the sentence's number, from 0.
        """
        out: list[list[Hypothesis]] = [[] for _ in sources]
        for part in self.stream(params, sources, prefixes=prefixes, plan=plan, **constrained):
            for index, found in zip(part.indices, part.hypotheses, strict=True):
                out[index] = found
        return out

    def stream(
        self, params: Params | Sequence[Params] | Prepared, sources: Sequence[Ids], *,
        prefixes: Sequence[Ids] | None = None,
        plan: Sequence[DecodingBatch | Sequence[int]] | None = None,
        numbers: Sequence[int] | None = None, forms: Sequence[TargetForm] | None = None,
        constraints: Sequence[Phrases] | None = None, constraint_order: str = "ordered",
        allowed: TokenTrie | Sequence[TokenTrie] | None = None,
        prefix_allowed_tokens_fn: AllowedTokens | None = None,
    ) -> Iterator[Decoded]:
        """As `decode`, some sentences at a time as they finish.

        Args:
          numbers: what the random samples of each source depend on (default: its place
            in `sources`).
          forms: for each source what its outputs begin with, unless `config` says so; all end in
            `eos` (None: `bos`, and nothing that is forced).
          constraints: for each source the phrases (ids without eos) that its outputs must
            contain, perhaps none. Where that cannot be, there is no hypothesis.
          constraint_order: `ordered`: in the order given; `unordered`: in any.
          allowed: the only outputs that are permitted, for all sources or for each.
          prefix_allowed_tokens_fn: says which tokens may come next, as fairseq's: called
            with a source's number and one hypothesis's tokens (bos included), for every
            hypothesis at every step, on the host. It must not use JAX.

        Raises:
          ConfigError: constraints that exclude each other or an option.
          ValueError: constraints or permitted outputs that no output can fulfil.
        """
        sources = sources_for(self.models, sources)
        if self.config.prefix_size and prefixes is None:
            raise ConfigError(f"generation.prefix_size: {self.config.prefix_size}, but no "
                              "prefixes were given of which it could be the size")
        prefixes = self.forced(prefixes, forms, count=len(sources))
        uncounted = [len(p) - len(self._first(forms, i)) for i, p in enumerate(prefixes)]
        starts = np.full(len(sources), self.bos)
        if forms is not None and self.config.bos_token is None:
            starts = np.array([form.start for form in forms], np.int64)
        lengths = np.array([len(s) for s in sources], np.int64)
        self.check_sources(lengths)
        batches = self._batches(lengths, plan)
        limits = [self._max_lens(batch, lengths) for batch in batches]
        seeds = np.arange(len(sources)) if numbers is None else np.asarray(numbers)
        if prefix_allowed_tokens_fn is not None and self.sharding is not None:
            raise ConfigError("prefix_allowed_tokens_fn: a function is called by one device; "
                              "decode without sharding, or use allowed=TokenTrie(...)")
        constraint = output_constraint_of(
            self.config, len(sources), callbacks=self._callbacks, phrases=constraints,
            order=constraint_order, permitted=allowed, function=prefix_allowed_tokens_fn)
        prepared = self.prepare(params)
        search = self._get_search(prepared, constraint.strategy)
        self._check_ids(starts, search.options.vocabulary)
        by_sentence = np.zeros(len(sources), np.int64)
        for batch, limit in zip(batches, limits, strict=True):
            by_sentence[list(batch.indices)] = limit
        constraint.check(by_sentence, pad=self.pad, eos=self.eos, bos=self.bos,
                    vocabulary=search.options.vocabulary)
        job = _Job(prepared=prepared, search=search, constraint=constraint, sources=sources,
                   prefixes=prefixes, limits=by_sentence, seeds=seeds, starts=starts,
                   uncounted=np.array(uncounted, np.int64))
        return self._run(job, batches)

    def _check_ids(self, starts: np.ndarray, vocabulary: int) -> None:
        config, words = self.config, [i for ids in self.config.bad_words_ids for i in ids]
        for name, ids in (
                ("bos_token", starts), ("first_tokens", config.first_tokens or ()),
                ("begin_suppress_tokens", config.begin_suppress_tokens), ("bad_words_ids", words)):
            if max(ids, default=0) >= vocabulary:
                raise ConfigError(f"generation.{name}: the id {max(ids)}, but the vocabulary has "
                                  f"{vocabulary}")

    def _first(self, forms: Sequence[TargetForm] | None, index: int) -> Sequence[int]:
        """What an output begins with before its prefix."""
        if self.config.first_tokens is not None:
            return self.config.first_tokens
        return () if forms is None else forms[index].first

    def forced(
        self, prefixes: Sequence[Any] | None, forms: Sequence[TargetForm] | None, *, count: int,
    ) -> list[np.ndarray]:
        """What each of `count` outputs must begin with: the first tokens that the search or its
        form ask for, then its prefix, which may have them already; of prefixes with those
        `config.prefix_size` tokens at most. Given what it gave, it changes nothing."""
        if prefixes is not None and len(prefixes) != count:
            raise ValueError(f"Decoder: {len(prefixes)} prefixes for {count} sources")
        out = []
        for i in range(count):
            first = self._first(forms, i)
            prefix = [] if prefixes is None else [int(t) for t in prefixes[i]]
            if tuple(prefix[:len(first)]) != tuple(first):
                prefix = [*first, *prefix]
            if self.config.prefix_size:
                prefix = prefix[:max(self.config.prefix_size, len(first))]
            out.append(np.array(prefix, np.int32))
        return out

    def _compile(self, job: _Job, batches: list[DecodingBatch]) -> None:
        """What the batches begin with, for shapes that this search has not met yet."""
        firsts = {}
        for batch in batches if self.sharding is None else ():
            longest = max((len(job.prefixes[i]) for i in batch.indices), default=0)
            sizes = self._capacities(int(job.limits[list(batch.indices)].max()))
            forced = round_up_to_power(longest) if longest else 0
            shape = (batch.rows, batch.width, forced, sizes[0])
            if (job.search, shape) not in self._met:
                self._met.add((job.search, shape))
                source, sentences, _ = self._arrays(job, batch)
                firsts[shape] = First(source=source, sentences=sentences, capacity=sizes[0])
        if firsts:
            precompile(job.search, list(firsts.values()), params=job.prepared.params,
                          weights=job.prepared.weights, tables=job.constraint.tables)

    def _run(self, job: _Job, batches: list[DecodingBatch]) -> Iterator[Decoded]:
        with job.constraint:
            self._compile(job, batches)
            runs = (self._start(job, batch) for batch in batches)
            for found in run_all(runs, nbest=self.config.nbest):
                job.constraint.settle()
                for index, hypotheses in found:
                    self._check_finite(job, index, hypotheses)
                yield Decoded(indices=tuple(i for i, _ in found), hypotheses=[h for _, h in found])

    def _check_finite(self, job: _Job, index: int, hypotheses: list[Hypothesis]) -> None:
        """Refuses what a model that computes no numbers gives. A lone eos of score -inf stands
        for that, and for constraints that no output fulfils: then the model is asked once more."""
        what = f"source {int(job.seeds[index])}"
        finite.check_hypotheses(hypotheses, what)
        if not finite.is_nothing(hypotheses):
            return
        prepared = job.prepared
        may_be_empty = (
            type(job.constraint) is not OutputConstraint or self.config.match_source_len
            or self.config.no_repeat_ngram_size > 0
            or job.search.options.penalties is not None or len(job.prefixes[index]) > 0)
        if not may_be_empty or not self._first_step.is_finite(
            prepared.params, prepared.weights, self._one(job.sources[index]),
            bos=int(job.starts[index])
        ):
            raise finite.ScoreError(f"{what}: no output has a finite score: {finite.WHY}")

    def _one(self, source: np.ndarray) -> Read:
        """A batch of one source."""
        return batch_of([source], rows=1, width=len(source), pad=self.pad)

    def check_sources(self, lengths: Sequence[int] | np.ndarray) -> None:
        """Refuses sources that cannot be decoded, before anything is computed.

        Raises:
          ValueError: a source without tokens, too short or over the model's limit, by its number.
        """
        check_lengths(lengths, self.models, most=self.max_source_positions)

    def plan(
        self, lengths: Sequence[int] | np.ndarray, *, few: bool = False
    ) -> list[DecodingBatch]:
        """Batches for sources of these lengths; `few` prefers few shapes to narrow ones."""
        return plan_decoding(
            lengths, max_tokens=self.config.max_tokens,
            batch_size=self.config.batch_size or default_rows(),
            largest_width=self.max_source_positions, row_multiple=self.row_multiple, few=few)

    def _batches(
        self, lengths: np.ndarray, plan: Sequence[DecodingBatch | Sequence[int]] | None,
    ) -> list[DecodingBatch]:
        if plan is None:
            return self.plan(lengths)
        out = []
        for part in plan:
            if not isinstance(part, DecodingBatch):
                longest = int(lengths[list(part)].max())
                units = round_up_to_power(-(-len(part) // self.row_multiple))
                part = DecodingBatch(
                    indices=tuple(part), rows=units * self.row_multiple,
                    width=min(round_up_to_power(longest, least=16),
                              max(longest, self.max_source_positions)))
            out.append(part)
        return out

    def _max_lens(self, batch: DecodingBatch, lengths: np.ndarray) -> np.ndarray:
        """Hypothesis tokens at most, eos not counted, for each sentence of a batch."""
        config, own = self.config, lengths[list(batch.indices)]
        counted = np.full_like(own, own.max()) if config.padded_source_len else own
        limit = np.array([self.output_limit(int(n)) for n in counted], np.int64)
        most = self.max_target_positions - 1
        for index, n in zip(batch.indices, limit, strict=True):
            if n > most:
                raise InputError(index, f"match_source_len wants {n} tokens, but the model "
                                 f"makes at most {most}", separator=": ")
            if n < max(config.min_len, 0):
                raise InputError(index, f"outputs may have at most {n} tokens but need "
                                 f"min_len={config.min_len}: raise max_len_b or lower min_len",
                                 separator=": ")
        return limit

    def output_limit(self, length: int) -> int:
        """Hypothesis tokens at most, eos not counted, for a source of `length` tokens; with
        `match_source_len` perhaps more than the model makes."""
        if self.config.match_source_len:
            return length
        return min(math.floor(self.config.max_len_a * length + self.config.max_len_b),
                   self.max_target_positions - 1)

    def _capacities(self, max_len: int) -> list[int]:
        return capacities(max_len + 1, self.max_target_positions)

    def _arrays(
        self, job: _Job, batch: DecodingBatch
    ) -> tuple[Read, Sentences, list[int]]:
        """The sources of a batch, what is known of its sentences, and the capacities that they
        may need."""
        rows, sources, prefixes = batch.rows, job.sources, job.prefixes
        longest = max((len(prefixes[i]) for i in batch.indices), default=0)
        prefix = np.full((rows, round_up_to_power(longest) if longest else 0), self.pad, np.int32)
        source_len, max_len = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        index, bos = np.zeros(rows, np.int32), np.full(rows, self.bos, np.int32)
        for row, i in enumerate(batch.indices):
            prefix[row, :len(prefixes[i])] = prefixes[i]
            source_len[row], max_len[row], index[row] = len(sources[i]), job.limits[i], job.seeds[i]
            bos[row] = job.starts[i]
        place = self._place
        exempt = None
        if self.config.padded_source_len:
            exempt = place(np.full(rows, longest, np.int32))
        source = batch_of([sources[i] for i in batch.indices], rows=rows, width=batch.width,
                          pad=self.pad, isolated=not self.config.padded_source_len)
        sentences = Sentences(
            source_len=place(source_len), max_len=place(max_len), prefix=place(prefix),
            bos=place(bos), index=place(index),
            seed=jnp.uint32(self.config.seed), exempt=exempt, uncounted=self._uncounted(job, batch),
            source=self._read(job, batch, source),
            constraints=jax.tree.map(place, job.constraint.pack(batch.indices, rows=rows)))
        return jax.tree.map(place, source), sentences, self._capacities(int(max_len.max()))

    def _uncounted(self, job: _Job, batch: DecodingBatch) -> jax.Array | None:
        """Tokens of each row's output that are its prompt, where these count in no score."""
        if self.config.rules != "transformers":
            return None
        found = np.zeros(batch.rows, np.int32)
        found[:len(batch.indices)] = job.uncounted[list(batch.indices)]
        return self._place(found)

    def _read(self, job: _Job, batch: DecodingBatch, source: Read) -> jax.Array | None:
        """What penalties know as each row's source: of language models the prompt."""
        prompts = None if any(isinstance(model, Encoder) for model in self.models) else [
            [job.starts[i], *job.prefixes[i]] for i in batch.indices]
        return jax.tree.map(self._place, penalties.read(
            job.search.options.penalties, source, prompts, pad=self.pad))

    def _start(self, job: _Job, batch: DecodingBatch) -> Run:
        source, sentences, sizes = self._arrays(job, batch)
        owners = np.full(batch.rows, FREE)
        owners[:len(batch.indices)] = batch.indices
        prepared, search = job.prepared, job.search
        caches, state = search.begin(
            prepared.params, prepared.weights, source, sentences, capacity=sizes[0])
        return Run(search=search, weights=prepared.weights, sentences=sentences, caches=caches,
                   state=state, owners=owners, capacities=sizes, tables=job.constraint.tables)

    def _place(self, x: np.ndarray) -> jax.Array:
        return jnp.asarray(x) if self.sharding is None else jax.device_put(x, self.sharding)

    def _get_search(self, prepared: Prepared, strategy: Strategy | None = None) -> Search:
        """The compiled search; `strategy` instead of the one that the options name."""
        if strategy not in self._searches:
            sizes = {
                vocabulary_size(m, p, w)
                for m, p, w in zip(self.models, prepared.params, prepared.weights, strict=True)}
            if len(sizes) > 1:
                raise ValueError(
                    f"Decoder: the models' target vocabularies differ: {sorted(sizes)}")
            self._searches[strategy] = Search(self.models, options_of(
                self.config, pad=self.pad, eos=self.eos, unk=self.unk, vocabulary=sizes.pop(),
                suppress=self.suppress, lm_weight=self.lm_weight, strategy=strategy),
                cache_axes=self._cache_axes(prepared))
        return self._searches[strategy]

    def _cache_axes(self, prepared: Prepared) -> tuple[int, ...]:
        """Where the batch axis is in each array of the caches, in the order of leaves."""

        def caches(rows: int) -> tuple[Cache, ...]:
            start = lambda params, weights: tuple(  # noqa: E731
                model.start(w, encode_tokens(model, p, least_sources(model, rows)), rows=rows,
                            beam=1, capacity=1)
                for model, p, w in zip(self.models, params, weights, strict=True))
            return jax.eval_shape(start, prepared.params, prepared.weights)

        return batch_axes(caches(1), caches(2))


def default_rows() -> int:
    """Rows of a batch where the user does not say: enough to fill the device."""
    return 64 if jax.default_backend() == "cpu" else 256
