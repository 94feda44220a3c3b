"""Load a trained model and use it from Python.

    m = seqjax.load("runs/demo")                          # or ("model.pt", data="data-bin")
    m.translate("Battery level", beam=5)                  # "Batteriestand"
    m.translate(["Battery level", "Living room"])         # a list for a list
    m.generate(["Battery level"], beam=5, nbest=5)        # lists of Hypothesis
    m.score(["Battery level"], ["Batteriestand"])         # one Hypothesis a pair
    m.log_probs([[8, 15, 2]], [[2, 31]])                  # [1, 2, V]
    m.generate(["Battery level"], constraints=[["Akku"]])  # outputs that contain phrases

Inputs of any number and length are sorted, batched and put back in order inside; results
do not depend on the batching.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import config as configuration
from seqjax import losses, models, tasks
from seqjax.config import Config, ConfigError, GenerationConfig
from seqjax.data import folder
from seqjax.generation import hypothesis
from seqjax.generation.alignment import Aligner
from seqjax.generation.allowed import AllowedTokens, TokenTrie
from seqjax.generation.continuation import Continuation
from seqjax.generation.decoder import Decoded, Decoder, Prepared
from seqjax.generation.scoring import Scorer
from seqjax.interop import fairseq_files
from seqjax.models import overrides
from seqjax.tasks import demands
from seqjax.tasks import replace_unk as unknown_words
from seqjax.tasks.language_modeling import LanguageModelingTask
from seqjax.training import checkpoints, compilation

Ids = Sequence[int] | np.ndarray
Input = str | Ids


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Hypothesis(hypothesis.Hypothesis):
    """One output for one source: `tokens`, `score`, `positional_scores` and their text."""

    text: str
    """Plain text, detokenised."""
    words: list[str] | None = None
    """With `replace_unk`: words, or pieces, of the tokens without eos, after replacement."""


def resolve(raw: Mapping[str, Any]) -> Config:
    """The full configuration from sparse plain data, with every family known."""
    return configuration.resolve(
        raw, tasks=tasks.CONFIGS, models=models.CONFIGS, losses=losses.CONFIGS,
        archs=models.ARCHS,
    )


def load(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *,
    data: str | os.PathLike[str] | None = None, which: str = "best", dtype: str = "auto",
    bpe: str | None = None, tokenizer: str | None = None,
    lm: str | os.PathLike[str] | LanguageModel | None = None,
    model_overrides: Mapping[str, Any] | None = None,
) -> Any:
    """A trained model, ready to use: a `Translator`, or a `LanguageModel`.

    Compiled programs are kept in the user's cache folder, as training does
    (`log.compilation_cache`), so that the next process starts quickly.

    Args:
      path: a work folder of `seqjax.train`, one checkpoint in it, or a fairseq `.pt`;
        several, as a list or joined by colons, make an ensemble.
      data: folder with the dictionaries of a `.pt` (default: its own folder, else the one
        that it was trained on). A checkpoint of ours has its own; they must be the same.
      which: of a work folder, its `best` or its `last` checkpoint.
      dtype: of matrix products: `float32`, `bfloat16`, or `auto` (float32 on a CPU).
      bpe, tokenizer: of a `.pt`: fairseq's names of its subword model and tokenizer, where
        it does not say them itself (`bpe="fastbpe", tokenizer="moses"`).
      lm: a language model with the same target vocabulary, loaded or where it is, whose
        log-probabilities times `lm_weight` searches add (fairseq's `--lm-path`).
      model_overrides: keys of `config.model` that are to be others than the model was trained
        with, by name: `{"decoder_layers_to_keep": "0,2,4"}` leaves layers out, of a model that
        was trained with `decoder_layerdrop`; `{"max_target_positions": 2048}` lets outputs be
        longer. Keys of training only are refused. Of an ensemble, for every member.

    Raises:
      seqjax.training.checkpoints.CheckpointError: there is no checkpoint at `path`.
      ConfigError: the members of an ensemble have different vocabularies; a model, task
        or tokenizer that seqjax does not have; no dictionaries, or those of another model;
        an `lm` that is none, or whose vocabulary is another; `model_overrides` that the
        model does not have, or that do not fit its weights.
    """
    paths = _paths(path)
    if (bpe or tokenizer) and not any(map(fairseq_files.is_pt, paths)):
        raise ConfigError("bpe, tokenizer: these are for fairseq's .pt files; a folder of "
                          "seqjax holds its own tokenizer")
    changes = dict(model_overrides or {})
    members = [_load_one(each, data=data, which=which, dtype=dtype, bpe=bpe, tokenizer=tokenizer,
                         changes=changes) for each in paths]
    task, config = members[0][0], members[0][1]
    compilation.enable_cache(config.log.compilation_cache)
    for (other, *_), name in zip(members[1:], paths[1:], strict=True):
        if other.target_vocab != task.target_vocab or other.source_vocab != task.source_vocab:
            raise ConfigError(f"{name}: its vocabularies are not those of {paths[0]}")
    kind = LanguageModel if isinstance(task, LanguageModelingTask) else Translator
    model = kind(
        task=task, config=config, models=tuple(m for *_, m, _ in members),
        params=tuple(p for *_, p in members),
        identity=" ".join(_identity(p, which) for p in paths) + (f" {changes}" if changes else ""),
    )
    if lm is None:
        return model
    if not isinstance(lm, LanguageModel):
        lm = _load_lm(os.fspath(lm), data=data, which=which, dtype=dtype)
    return _fused(model, lm, name=paths[0])


def _load_lm(path: str, *, data: Any, which: str, dtype: str) -> Any:
    """The model of `lm`; a `.pt` finds its dictionary in `data` if there is one for it."""
    place = None
    if data is not None and fairseq_files.is_pt(path):
        place = data if os.path.isfile(folder.dict_path(os.fspath(data), None)) else None
    return load(path, data=place, which=which, dtype=dtype)


def _fused(model: Any, lm: Any, *, name: str) -> Translator:
    """A translator that searches with a language model."""
    about = getattr(lm, "identity", lm)
    if not isinstance(model, Translator):
        raise ConfigError(f"{name}: is a language model itself, and takes no lm: several of "
                          "them, joined by colons, make an ensemble")
    if not isinstance(lm, LanguageModel) or len(lm.models) != 1:
        raise ConfigError(f"lm: {about} is not one language model")
    ours, theirs = model.task.target_vocab, lm.task.target_vocab
    if ours != theirs:
        raise ConfigError(
            f"lm: the vocabulary of {about} ({len(theirs)} entries) is not the target vocabulary "
            f"of {name} ({len(ours)} entries); train it on text that was preprocessed with "
            "that model's dictionary (--srcdict)")
    return dataclasses.replace(model, lm=lm, identity=f"{model.identity} lm={about}")


def _paths(path: Any) -> list[str]:
    if isinstance(path, (list, tuple)):
        return [os.fspath(p) for p in path]
    path = os.fspath(path)
    return [path] if os.path.exists(path) else path.split(os.pathsep)


def _identity(path: str, which: str) -> str:
    """Which checkpoint exactly this is."""
    if fairseq_files.is_pt(path):
        about = os.stat(path)
        return f"{os.path.realpath(path)}@{about.st_size}@{about.st_mtime_ns}"
    return str(checkpoints.find(path, which=which).resolve())


def _load_one(
    path: str, *, data: Any, which: str, dtype: str, bpe: str | None, tokenizer: str | None,
    changes: Mapping[str, Any],
) -> tuple[Any, Config, Any, Any]:
    if fairseq_files.is_pt(path):
        found = fairseq_files.portable(
            path, data=data, bpe=bpe, tokenizer=tokenizer, overrides=changes)
        config, assets, params = resolve(found.config), found.assets, found.params
    else:
        raw, assets, params = checkpoints.load_for_inference(path, which=which)
        config, params = _overridden(resolve(raw), params, changes)
    task = tasks.from_assets(config, assets)
    if data is not None and not fairseq_files.is_pt(path):
        task.check_folder(os.fspath(data))
    model = models.build(
        config.model, **task.vocab_sizes, compute_dtype=models.compute_dtype(dtype)
    )
    if changes:
        checkpoints.check_shapes(params, jax.eval_shape(model.init, jax.random.key(0)),
                                 f"{path} under model_overrides")
    return task, config, model, jax.tree.map(jnp.asarray, params)


def _overridden(config: Config, params: Any, changes: Mapping[str, Any]) -> tuple[Config, Any]:
    """A model of ours with keys changed and layers left out."""
    model, kept = overrides.override(config.model, changes)
    model = overrides.with_layers(model, {side: len(layers) for side, layers in kept.items()})
    return dataclasses.replace(config, model=model), overrides.prune(params, kept)


@dataclasses.dataclass(kw_only=True, eq=False)
class Translator:
    """A translation model, or an ensemble of several, with its vocabularies."""

    task: Any
    config: Config
    models: tuple[Any, ...]
    params: tuple[Any, ...]
    identity: str = ""
    """Which checkpoints these are."""
    lm: LanguageModel | None = None
    """What searches add `lm_weight` times the log-probabilities of."""
    _decoders: dict[GenerationConfig, Decoder] = dataclasses.field(default_factory=dict, repr=False)

    def translate(self, texts: str | Sequence[str], **options: Any) -> Any:
        """The best translation of each text.

        Args:
          texts: a string, or strings; leave their tokenization to the model.
          **options: fields of `GenerationConfig`: beam, lenpen, sampling, ...

        Returns:
          A string for a string, a list for a list.
        """
        single = isinstance(texts, str)
        found = self.generate([texts] if single else texts, **options)
        best = [hypotheses[0].text for hypotheses in found]
        return best[0] if single else best

    def generate(
        self, inputs: Sequence[Input], *, prefixes: Sequence[Input] | None = None, **options: Any
    ) -> list[list[Hypothesis]]:
        """At most `nbest` hypotheses of each input, best first.

        Args:
          inputs: texts, or lists of source ids that end in eos.
          prefixes: what each output must begin with: texts, or ids without eos.
          **options: fields of `GenerationConfig`, and `constraints`, `allowed`,
            `prefix_allowed_tokens_fn`, `alignment` and `replace_unk` as `stream` takes them.

        Raises:
          ConfigError: an unknown option, or options that contradict each other.
          ValueError: an input over the model's limit, by its number from 0; alignments
            from a model that has none.
        """
        out: list[list[Hypothesis]] = [[] for _ in inputs]
        for index, hypotheses in self.stream(inputs, prefixes=prefixes, **options):
            out[index] = hypotheses
        return out

    def stream(
        self, inputs: Sequence[Input], *, prefixes: Sequence[Input] | None = None,
        numbers: Sequence[int] | None = None, plan: Sequence[Sequence[int]] | None = None,
        constraints: Sequence[Sequence[Input]] | None = None, constraint_order: str = "ordered",
        allowed: TokenTrie | Sequence[TokenTrie] | None = None,
        prefix_allowed_tokens_fn: AllowedTokens | None = None,
        alignment: str | None = None, replace_unk: bool | Mapping[str, str] = False,
        **options: Any,
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """As `generate`, one input at a time as batches finish, with its place in `inputs`.

        Args:
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
        """
        if isinstance(inputs, str):
            raise TypeError("inputs: give a list of texts (or use translate for one text)")
        decoder = self.decoder(**options)
        sources = [self.source_ids(x) for x in inputs]
        starts = None
        if prefixes is not None:
            starts = [self.task.encode_target(p)[:-1] if isinstance(p, str) else np.asarray(p)
                      for p in prefixes]
        phrases = None if constraints is None else demands.phrase_ids(self.task, constraints)
        dictionary = unknown_words.as_dictionary(replace_unk)
        parts = decoder.stream(
            self._prepared(decoder), sources, prefixes=starts, numbers=numbers, plan=plan,
            constraints=phrases, constraint_order=constraint_order, allowed=allowed,
            prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
        )
        for part in self._aligner.attach(
            parts, self.params, sources, alignment=alignment,
            unknown=None if dictionary is None else self.task.target_vocab.unk,
        ):
            for index, hypotheses in zip(part.indices, part.hypotheses, strict=True):
                yield index, [_with_text(self.task, h) if dictionary is None else
                              _with_words(self.task, h, inputs[index], dictionary)
                              for h in hypotheses]

    def trie(self, outputs: Sequence[Input]) -> TokenTrie:
        """Permitted outputs, for `allowed`: texts, or lists of ids that end in eos."""
        return demands.trie_of(self.task, outputs)

    def score(
        self, sources: Sequence[Input], targets: Sequence[Input], *, alignment: str | None = None
    ) -> list[Hypothesis]:
        """How probable each target is, teacher-forced; `score` is the mean per token.

        Args:
          sources, targets: texts, or lists of ids that end in eos.
          alignment: as for `stream`.
        """
        if len(sources) != len(targets):
            raise ValueError(f"score: {len(sources)} sources but {len(targets)} targets")
        ids = [self.source_ids(x) for x in sources]
        found = Scorer(self.models).score(
            self.params, ids, [self._target_ids(t) for t in targets])
        parts = [Decoded(indices=tuple(range(len(found))), hypotheses=[[h] for h in found])]
        parts = self._aligner.attach(parts, self.params, ids, alignment=alignment)
        return [_with_text(self.task, h) for part in parts for (h,) in part.hypotheses]

    def align(
        self, sources: Sequence[Input], targets: Sequence[Input]
    ) -> list[list[tuple[int, int]]]:
        """For each target token the source token that its attention chooses.

        Args:
          sources, targets: texts, or lists of ids that end in eos.

        Returns:
          For each pair (source place, target place) of every target token, from 0, of
          tokens as `encode` makes them; eos is left out.

        Raises:
          ValueError: a model without attention to the source.
        """
        if len(sources) != len(targets):
            raise ValueError(f"align: {len(sources)} sources but {len(targets)} targets")
        return self._aligner.align(self.params, [self.source_ids(x) for x in sources],
                                   [self._target_ids(t) for t in targets])

    @functools.cached_property
    def _aligner(self) -> Aligner:
        return Aligner(self.models)

    def _target_ids(self, x: Input) -> np.ndarray:
        return self.task.encode_target(x) if isinstance(x, str) else np.asarray(x, np.int32)

    def log_probs(self, sources: Sequence[Ids], prev_output_tokens: Sequence[Ids]) -> np.ndarray:
        """Natural log-probabilities of every next token.

        Args:
          sources: lists of source ids that end in eos.
          prev_output_tokens: lists of target ids that begin with eos.

        Returns:
          [B, T, V] float32, T the longest of `prev_output_tokens`; zeros on padding.
        """
        if len(sources) != len(prev_output_tokens):
            raise ValueError(
                f"log_probs: {len(sources)} sources but {len(prev_output_tokens)} targets"
            )
        longest = max((len(p) for p in prev_output_tokens), default=0)
        out = np.zeros((len(sources), longest, len(self.task.target_vocab)), np.float32)
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        for start in range(0, len(order), 16):
            rows = order[start : start + 16]
            source = _padded([sources[i] for i in rows], rows=16)
            prev = _padded([prev_output_tokens[i] for i in rows], rows=16)
            found = np.asarray(self._log_probs(self.params, source, prev))
            for row, i in enumerate(rows):
                n = len(prev_output_tokens[i])
                out[i, :n] = found[row, :n]
        return out

    def encode(self, text: str) -> np.ndarray:
        """Source text -> ids with final eos."""
        return self.task.encode_source(text)

    def decode(self, ids: Ids) -> str:
        """Target ids -> plain text."""
        return self.task.decode_target(ids)

    def decoder(self, **options: Any) -> Decoder:
        """The compiled search for these options; kept for the next call."""
        plain = configuration.to_plain(self.config.generation)
        settings = configuration.build(GenerationConfig, {**plain, **options}, "generation")
        if settings not in self._decoders:
            self._decoders[settings] = Decoder(
                self.models, settings, unk=self.task.target_vocab.unk,
                language_model=None if self.lm is None else self.lm.models[0],
            )
        return self._decoders[settings]

    @functools.cached_property
    def _log_probs(self) -> Any:
        def mean_log_probs(params: Any, source: jax.Array, prev: jax.Array) -> jax.Array:
            each = []
            for model, p in zip(self.models, params, strict=True):
                logits = model.features(p, prev, model.encode(p, source)).logits()
                each.append(jax.nn.log_softmax(logits, axis=-1))
            # fairseq's ensembles average probabilities.
            return jax.nn.logsumexp(jnp.stack(each), axis=0) - np.log(len(each))

        return jax.jit(mean_log_probs)

    def _prepared(self, decoder: Decoder) -> Prepared:
        if "_weights" not in self.__dict__:
            fused = () if self.lm is None else self.lm.params
            self._weights = decoder.prepare((*self.params, *fused))
        return self._weights

    def source_ids(self, x: Input) -> np.ndarray:
        """A text or ids as ids with final eos."""
        return self.task.encode_source(x) if isinstance(x, str) else np.asarray(x, np.int32)


@dataclasses.dataclass(kw_only=True, eq=False)
class LanguageModel:
    """A language model, or an ensemble of several, with its vocabulary.

        m = seqjax.load("runs/lm")
        m.sample("Once upon a", sampling=True, sampling_topk=10)   # the text going on
        m.score(["Once upon a time"])                              # one Hypothesis a text
        m.log_probs([[2, 8, 15]])                                  # [1, 3, V]
    """

    task: LanguageModelingTask
    config: Config
    models: tuple[Any, ...]
    params: tuple[Any, ...]
    identity: str = ""
    """Which checkpoints these are."""
    _decoders: dict[GenerationConfig, Decoder] = dataclasses.field(default_factory=dict, repr=False)

    def sample(self, prompts: str | Sequence[str], **options: Any) -> Any:
        """The best continuation of each text, which it begins with.

        Args:
          prompts: a string, or strings.
          **options: fields of `GenerationConfig`; `beam` is 1 where not given.

        Returns:
          A string for a string, a list for a list.
        """
        single = isinstance(prompts, str)
        found = self.generate([prompts] if single else prompts, **{"beam": 1, **options})
        best = [hypotheses[0].text for hypotheses in found]
        return best[0] if single else best

    def generate(self, prompts: Sequence[Input], **options: Any) -> list[list[Hypothesis]]:
        """At most `nbest` continuations of each prompt, best first.

        Args:
          prompts: texts, or lists of ids without eos; outputs begin with them, and they
            count towards lengths.
          **options: fields of `GenerationConfig`.
        """
        out: list[list[Hypothesis]] = [[] for _ in prompts]
        for index, hypotheses in self.stream(prompts, **options):
            out[index] = hypotheses
        return out

    def stream(
        self, prompts: Sequence[Input], *, prefixes: Sequence[Input] | None = None,
        numbers: Sequence[int] | None = None, constraints: None = None,
        allowed: TokenTrie | Sequence[TokenTrie] | None = None,
        prefix_allowed_tokens_fn: AllowedTokens | None = None, **options: Any,
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """As `generate`, one prompt at a time as batches finish, with its place.

        Args:
          numbers: what each prompt's random samples depend on (default: its place).
          allowed, prefix_allowed_tokens_fn: as a `Translator` takes them; they must permit
            the tokens of the prompts.
        """
        if isinstance(prompts, str):
            raise TypeError("prompts: give a list of texts (or use sample for one text)")
        if prefixes is not None:
            raise ConfigError("a language model's inputs are its prefixes; give no others")
        if constraints is not None:
            raise ConfigError("constraints are for translation; a language model takes none, "
                              "as in fairseq")
        decoder = self.decoder(**options)
        starts = [self._prompt(p) for p in prompts]
        # As long as fairseq's source of a prompt, for limits that depend on it.
        sources = [np.concatenate([[self.task.first_token], p]) for p in starts]
        for part in decoder.stream(
            self._prepared(decoder), sources, prefixes=starts, numbers=numbers, allowed=allowed,
            prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
        ):
            for index, found in zip(part.indices, part.hypotheses, strict=True):
                yield index, [_with_text(self.task, h) for h in found]

    def trie(self, outputs: Sequence[Input]) -> TokenTrie:
        """Permitted outputs, prompts included, for `allowed`: texts, or ids that end in eos."""
        return demands.trie_of(self.task, outputs)

    def score(self, texts: Sequence[Input]) -> list[Hypothesis]:
        """How probable each text is, its final eos left out as in fairseq; `score` is the
        mean per token.

        Args:
          texts: texts, or lists of ids without eos.
        """
        starts = [self._prompt(text) for text in texts]
        for index, ids in enumerate(starts):
            if not len(ids):
                raise ValueError(f"score: text {index} is empty")
        found = []
        previous = [np.concatenate([[self.task.first_token], ids[:-1]]) for ids in starts]
        for ids, part in zip(starts, self._each_log_probs(previous), strict=True):
            scores = part[np.arange(len(ids)), ids]
            found.append(_with_text(self.task, hypothesis.Hypothesis(
                tokens=ids, score=float(scores.mean(dtype=np.float64)), positional_scores=scores,
            )))
        return found

    def log_probs(self, prev_output_tokens: Sequence[Ids]) -> np.ndarray:
        """Natural log-probabilities of every next token.

        Args:
          prev_output_tokens: lists of ids that begin with eos (or `<s>`, where the model was
            trained so).

        Returns:
          [B, T, V] float32, T the longest row; zeros on padding.
        """
        longest = max((len(p) for p in prev_output_tokens), default=0)
        out = np.zeros((len(prev_output_tokens), longest, self.task.output_size), np.float32)
        for row, part in enumerate(self._each_log_probs(prev_output_tokens)):
            out[row, : len(part)] = part
        return out

    def _each_log_probs(self, previous: Sequence[Ids]) -> Iterator[np.ndarray]:
        """[T, V] for each row, in order."""
        limit = min(model.max_target_positions for model in self.models)
        for start in range(0, len(previous), 16):
            rows = previous[start : start + 16]
            tokens = _padded(rows, rows=16, limit=limit)
            found = np.asarray(self._log_probs(self.params, tokens))
            yield from (part[: len(row)] for part, row in zip(found, rows, strict=False))

    @functools.cached_property
    def _log_probs(self) -> Any:
        def mean_log_probs(params: Any, prev: jax.Array) -> jax.Array:
            each = [
                jax.nn.log_softmax(model.features(p, prev).logits(), axis=-1)
                for model, p in zip(self.models, params, strict=True)
            ]
            return jax.nn.logsumexp(jnp.stack(each), axis=0) - np.log(len(each))

        return jax.jit(mean_log_probs)

    def encode(self, text: str) -> np.ndarray:
        """Text -> ids with final eos."""
        return self.task.encode_source(text)

    def decode(self, ids: Ids) -> str:
        """Ids -> plain text."""
        return self.task.decode_target(ids)

    def decoder(self, **options: Any) -> Decoder:
        """The compiled search for these options; kept for the next call."""
        plain = configuration.to_plain(self.config.generation)
        settings = configuration.build(GenerationConfig, {**plain, **options}, "generation")
        if settings not in self._decoders:
            continued: list[Any] = [Continuation(model) for model in self.models]
            self._decoders[settings] = Decoder(
                continued, settings, unk=self.task.vocab.unk, bos=self.task.first_token,
            )
        return self._decoders[settings]

    def _prepared(self, decoder: Decoder) -> Prepared:
        if "_weights" not in self.__dict__:
            self._weights = decoder.prepare(self.params)
        return self._weights

    def _prompt(self, x: Input) -> np.ndarray:
        return self.encode(x)[:-1] if isinstance(x, str) else np.asarray(x, np.int32)

    def source_ids(self, x: Input) -> np.ndarray:
        """A prompt as the model reads it."""
        return np.concatenate([[self.task.first_token], self._prompt(x)])


def _with_text(task: Any, h: hypothesis.Hypothesis) -> Hypothesis:
    return Hypothesis(**vars(h), text=task.decode_target(h.tokens))


def _with_words(
    task: Any, h: hypothesis.Hypothesis, source: Input, dictionary: Mapping[str, str]
) -> Hypothesis:
    """With its text, in which unknown words are replaced."""
    words = unknown_words.replaced_words(
        task, h.tokens, h.alignment or (), unknown_words.source_words(task, source), dictionary)
    return Hypothesis(**vars(h), text=unknown_words.join_words(task, words), words=words)


def _padded(
    rows_of_ids: Sequence[Ids], *, rows: int, pad: int = 1, limit: int | None = None
) -> np.ndarray:
    """[rows, multiple of 16] int32; missing rows are all padding. The width is at most
    `limit`, unless a row is longer."""
    longest = max(len(r) for r in rows_of_ids)
    width = -(-longest // 16) * 16
    width = width if limit is None else max(longest, min(width, limit))
    out = np.full((rows, width), pad, np.int32)
    for i, ids in enumerate(rows_of_ids):
        out[i, : len(ids)] = ids
    return out
