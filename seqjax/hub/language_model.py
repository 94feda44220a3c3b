"""Language models."""

# What is given to a language model are prompts, which constrain nothing.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from seqjax.config import ConfigError, GenerationConfig
from seqjax.generation import finite, hypothesis
from seqjax.generation.allowed import AllowedTokens, TokenTrie
from seqjax.generation.decoder import Decoder
from seqjax.generation.processors import mean_log_probs
from seqjax.generation.target_form import TargetForm
from seqjax.hub import arguments, evaluation
from seqjax.hub.evaluation import Evaluated
from seqjax.hub.features import Featuring
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
    select_prompts,
)
from seqjax.hub.loaded import Loaded
from seqjax.models import protocol
from seqjax.models.protocol import Params
from seqjax.tasks.inputs import Encoded
from seqjax.tasks.language_modeling import LanguageModelingTask
from seqjax.tasks.perplexity import BlockScorer, WordScores


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class LanguageModel(Featuring, Generative[LanguageModelingTask]):  # type: ignore[misc]
    """A language model, or an ensemble of several, with its vocabulary.

        m = seqjax.load("runs/lm")
        m.sample("Once upon a", sampling=True, sampling_topk=10)   # the text going on
        m.score(["Once upon a time"])                              # one Hypothesis a text
        m.log_probs([[2, 8, 15]])                                  # [1, 3, V]
    """

    task: LanguageModelingTask  # pyright: ignore[reportIncompatibleVariableOverride]
    inputs_name: ClassVar[str] = "prompts"
    evaluation_options: ClassVar[frozenset[str]] = frozenset((
        "tokens_per_sample", "sample_break_mode", "add_bos_token", "context_window",
        "post_process", "on_words", "word_stats", "softmax_batch"))

    def description(self, options: dict[str, Any]) -> list[str]:
        target = min(m.max_target_positions for m in self.models)
        return [*super().description(options),
                f"at most {target} tokens with the prompt (the model's)"]

    def fused(self, lm: Loaded) -> Loaded:
        """Raises ConfigError: a language model has no second one."""
        raise ConfigError(
            f"{self.name}: is a language model itself, and takes no lm: several of "
            "them, joined by colons, make an ensemble")

    def language_model(self) -> protocol.LanguageModel:
        if len(self.models) != 1:
            return super().language_model()
        return self.models[0]

    def split(self, data: str, subset: str) -> Split:
        """Raises ConfigError: a split has no prompts."""
        raise ConfigError(
            "--data: a language model continues prompts, which --input has; for its perplexity "
            "on a split see python -m seqjax.evaluate")

    def evaluate(
        self, subset: str = "test", *, data: str | None = None,
        max_tokens: int = evaluation.MAX_TOKENS, batch_size: int | None = None,
        too_long: str | None = None, tokens_per_sample: int | None = None,
        sample_break_mode: str | None = None, add_bos_token: bool | None = None,
        context_window: int = 0, post_process: str | None = None,
        on_words: Callable[[str], object] | None = None, word_stats: bool = False,
        softmax_batch: int | None = None,
    ) -> Evaluated:
        """Loss and perplexity of a split, what fairseq-eval-lm says; of an ensemble, whose
        probabilities are averaged, too.

        Args:
          data: folder (None: the one that it was trained on).
          max_tokens, batch_size: size of a batch.
          too_long: a block over the models' limit: left out and counted (`skip`, None), or an
            `error`.
          tokens_per_sample, sample_break_mode, add_bos_token: of the blocks, the context
            included (None: as it was trained).
          context_window: tokens of earlier blocks that every block may see.
          post_process: `@@ `: pieces make words, and words are counted.
          on_words: gets a line for each block as it is scored: its words and their
            log-probabilities.
          word_stats: the result has a line for each word.
          softmax_batch: tokens whose distribution is computed at a time.

        Raises:
          FileNotFoundError: there is no such split.
          ConfigError: no such folder, or another model's; blocks that cannot be scored.
        """
        task = evaluation.with_blocks(
            self.task, context_window=context_window, data=data,
            tokens_per_sample=tokens_per_sample, sample_break_mode=sample_break_mode,
            add_bos_token=add_bos_token)
        scorer = BlockScorer(self.models, max_tokens=max_tokens, batch_size=batch_size,
                             softmax_batch=softmax_batch, too_long=too_long or "skip")
        words = WordScores(task.vocab, post_process=post_process)
        return evaluation.perplexity_of_split(
            task, scorer, words, self.params, subset, context_window=context_window,
            on_words=on_words, word_stats=word_stats)

    def sample(self, prompts: str | Sequence[str], **options: Any) -> Any:
        """The best continuation of each text, which it begins with; of an empty text, what the
        model says unasked.

        Args:
          prompts: a string, or strings.
          **options: fields of `GenerationConfig`, and what `stream` takes; `beam` is 1 where
            not given.

        Returns:
          A string for a string, a list for a list.
        """
        return self._best(prompts, {"beam": 1, **options})

    def generate(self, prompts: Sequence[Input], **options: Any) -> list[list[Hypothesis]]:
        """At most `nbest` continuations of each prompt, best first.

        Args:
          prompts: texts, or lists of ids without eos; outputs begin with them, and they
            count towards lengths.
          **options: fields of `GenerationConfig`, and what `stream` takes.
        """
        return self._all(prompts, options)

    def stream(
        self, prompts: Sequence[Input], *, prefixes: Sequence[Input] | None = None,
        numbers: Sequence[int] | None = None, plan: Sequence[Sequence[int]] | None = None,
        constraints: None = None,
        allowed: TokenTrie | Sequence[TokenTrie] | None = None,
        prefix_allowed_tokens_fn: AllowedTokens | None = None,
        too_long: str = "error", decode_blank: bool = True, **options: Any,
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """As `generate`, one prompt at a time as batches finish, with its place.

        Args:
          numbers: what each prompt's random samples depend on (default: its place).
          plan: places of the prompts that share a batch; results depend on it with
            `padded_source_len` only.
          allowed, prefix_allowed_tokens_fn: as a `Translator` takes them; they must permit
            the tokens of the prompts.
          too_long: what becomes of a prompt after which nothing has room: an `error`;
            `truncate`: its first tokens are taken; `skip`: it gets no hypothesis.
          decode_blank: a blank prompt is gone on from, from nothing (False: its output is
            blank).
        """
        prompts = arguments.inputs(
            prompts, name="prompts", size=len(self.task.vocab), empty=True)
        if prefixes is not None:
            raise ConfigError("a language model's inputs are its prefixes; give no others")
        if constraints is not None:
            raise ConfigError("constraints are for translation; a language model takes none, "
                              "as in fairseq")
        decoder = self.decoder(**options)
        starts, rest = self._split([self.encoded(p) for p in prompts])
        chosen = self.select(rest, decoder=decoder,
                             rules=Rules(too_long=too_long, decode_blank=decode_blank))
        for i in chosen.blank:
            yield i, blank_hypotheses(self.task.vocab.eos, nbest=decoder.config.nbest)
        for i in chosen.skipped:
            yield i, []
        for part in by_place(chosen, lambda: decoder.stream(
            self._prepared(decoder), chosen.sources, prefixes=chosen.prefixes,
            numbers=of_selected(chosen, range(len(prompts)) if numbers is None else numbers),
            forms=of_selected(chosen, [
                TargetForm(start=start, eos=self.task.vocab.eos) for start in starts]),
            plan=None if plan is None else kept_plan(plan, chosen),
            allowed=allowed if isinstance(allowed, TokenTrie) else of_selected(chosen, allowed),
            prefix_allowed_tokens_fn=at_places(prefix_allowed_tokens_fn, chosen),
        )):
            for index, found in zip(part.indices, part.hypotheses, strict=True):
                place = chosen.places[index]
                if self._own_start:
                    found = [_begun(h, starts[place]) for h in found]
                yield place, [with_text(self.task, h) for h in found]

    @property
    def _own_start(self) -> bool:
        """Whether prompts begin with the first token that the model reads."""
        return self.task.config.prompt_start is not None

    def _split(self, prompts: Sequence[Encoded]) -> tuple[list[int], list[Encoded]]:
        """The first token that the model reads of each prompt, and what follows it."""
        if not self._own_start:
            return [self.task.first_token] * len(prompts), list(prompts)
        starts = [int(p.ids[0]) if len(p.ids) else self.task.vocab.bos for p in prompts]
        return starts, [dataclasses.replace(p, ids=p.ids[1:]) for p in prompts]

    def score(self, texts: Sequence[Input]) -> list[Hypothesis]:
        """How probable each text is, its final eos left out as in fairseq; `score` is the
        mean per token.

        Args:
          texts: texts, or lists of ids without eos.
        """
        texts = arguments.inputs(texts, name="texts", size=len(self.task.vocab), empty=True)
        starts = [self._prompt(text) for text in texts]
        for index, ids in enumerate(starts):
            if len(ids) < 1 + self._own_start:
                what = "has one token alone" if len(ids) else "is empty"
                raise ValueError(f"score: text {index} {what}")
        found = []
        if self._own_start:  # whose own probability no model says
            previous, starts = [ids[:-1] for ids in starts], [ids[1:] for ids in starts]
        else:
            previous = [np.concatenate([[self.task.first_token], ids[:-1]]) for ids in starts]
        for ids, part in zip(starts, self._each_log_probs(previous), strict=True):
            scores = part[np.arange(len(ids)), ids]
            finite.check_scores(scores, f"score: text {len(found)}")
            found.append(with_text(self.task, hypothesis.Hypothesis(
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
        prev_output_tokens = arguments.inputs(
            prev_output_tokens, name="prev_output_tokens", size=len(self.task.vocab), texts=False)
        longest = max((len(p) for p in prev_output_tokens), default=0)
        out = np.zeros((len(prev_output_tokens), longest, self.task.output_size), np.float32)
        for row, part in enumerate(self._each_log_probs(prev_output_tokens)):
            out[row, : len(part)] = part
            finite.check_scores(part, f"log_probs: row {row}")
        return out

    def _each_log_probs(self, previous: Sequence[Ids]) -> Iterator[np.ndarray]:
        """[T, V] for each row, in order."""
        limit = min(model.max_target_positions for model in self.models)
        for start in range(0, len(previous), 16):
            rows = previous[start : start + 16]
            tokens = padded(rows, rows=16, pad=self.models[0].pad, limit=limit)
            found = np.asarray(self._log_probs(self.params, tokens))
            yield from (part[: len(row)] for part, row in zip(found, rows, strict=False))

    @functools.cached_property
    def _log_probs(self) -> Callable[..., jax.Array]:
        def log_probs(params: Params, prev: jax.Array) -> jax.Array:
            each = [
                jax.nn.log_softmax(model.features(p, prev).logits(), axis=-1)
                for model, p in zip(self.models, params, strict=True)
            ]
            return mean_log_probs(each)

        return jax.jit(log_probs)

    def settings(self, *, references: bool = False, **options: Any) -> GenerationConfig:
        """As of every model that generates.

        Raises:
          ConfigError: also for `first_tokens`, which prompts are.
        """
        found = super().settings(references=references, **options)
        if found.first_tokens is not None:
            raise ConfigError(
                f"generation.first_tokens: {found.first_tokens}, but a language model's outputs "
                "begin with their prompt: put them there")
        return found

    def _new_decoder(self, settings: GenerationConfig) -> Decoder:
        return Decoder(
            self.models, settings, unk=self.task.vocab.unk, bos=self.task.first_token,
        )

    def encoded(self, x: Input) -> Encoded:
        """A prompt with its ids, without eos."""
        if isinstance(x, Encoded):
            return x
        if isinstance(x, str):
            begin = np.array(self.task.config.prompt_start or (), np.int32)
            return Encoded(ids=np.append(begin, self.encode(x)[:-1]), text=x)
        return Encoded(ids=np.asarray(x, np.int32))

    def select(
        self, inputs: Sequence[Encoded], *, decoder: Decoder, rules: Rules,
        prefixes: None = None, constraints: None = None,
    ) -> Selection:
        return select_prompts(
            inputs, decoder=decoder, rules=rules, first_token=self.task.first_token)

    def _prompt(self, x: Input) -> np.ndarray:
        return self.encoded(x).ids

    def _feature_ids(self, x: Any, name: str) -> np.ndarray:
        """A text as the model reads it; ids are what it reads."""
        if not isinstance(x, (str, Encoded)):
            return super()._feature_ids(x, name)
        prompt = self._prompt(x)
        return prompt if self._own_start else np.concatenate([[self.task.first_token], prompt])


def _begun(h: hypothesis.Hypothesis, start: int) -> hypothesis.Hypothesis:
    """The hypothesis with the first token of its prompt, which cost nothing."""
    return dataclasses.replace(
        h, tokens=np.append(np.int32(start), h.tokens),
        positional_scores=np.append(np.float32(0), h.positional_scores))
