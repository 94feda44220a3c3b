"""Masks filled by a loaded model: texts or ids with `<mask>` in them; words with their
probabilities, or whole texts with their scores, out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.generation import finite
from seqjax.hub import arguments, rows, text_ids
from seqjax.hub.generative import Hypothesis
from seqjax.hub.loaded import Loaded
from seqjax.models.protocol import Encoded, Features, Params, SentenceClassifier, sentence_source
from seqjax.tasks.protocol import TextTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Masked:
    """One input with masks."""

    text: str
    ids: np.ndarray


class Masked(Loaded[TextTask]):
    """Part of a facade of models whose head says which word stands where: fairseq's `fill_mask`
    of RoBERTa, and `log_probs`."""

    def fill_mask(self, inputs: Any, topk: int = 5) -> Any:
        """The most probable words in the place of the one mask of each input.

        Args:
          inputs: a text with `<mask>` in it, ids as `encode` makes them, or a list of these. What
            stands around the mask is tokenised by itself, as in fairseq.
          topk: how many.

        Returns:
          For each input (the text with the word in it, its probability, the word), best first, the
          word with a space in front where its pieces begin one. Special symbols are written as
          they are. For one input alone its list.

        Raises:
          ConfigError: a model without a head for masks, or whose vocabulary has none.
          ValueError: not exactly one mask, or more tokens than the model takes, by the input's
            number from 0.
        """
        model = self._with_head("fill_mask")
        topk = _count(topk, most=len(self.task.target_vocab))
        listed = arguments.listed(inputs, name="inputs", what="texts or lists of ids")
        mask = text_ids.mask_id(self.task)
        given = [_masked(self.task, model, x, place) for place, x in enumerate(listed.items)]
        for place, one in enumerate(given):
            count = int((one.ids == mask).sum())
            if count != 1:
                raise ValueError(f"inputs[{place}]: has {text_ids.MASKS[0]} {count} times, and one "
                                 "mask is filled: write it once")
        ids = [one.ids for one in given]
        rows.check_lengths(ids, limit=model.max_source_positions, name="inputs")
        found: list[Any] = [None] * len(ids)
        program = self._best_words(topk)
        for places, tokens in rows.batches(ids, pad=model.pad, limit=model.max_source_positions):
            scores, words = map(np.asarray, program(
                self.params, tokens, (tokens == mask).argmax(axis=1)))
            for row, place in enumerate(places):
                finite.check_scores(scores[row], f"fill_mask: input {place}")
                found[place] = [
                    self._filled(given[place].text, int(index), float(score))
                    for index, score in zip(words[row], scores[row], strict=True)]
        return found[0] if listed.single else found

    def log_probs(self, inputs: Any) -> np.ndarray:
        """Natural log-probabilities of every word in every place, of the head for masked words.

        Args:
          inputs: a list of lists of ids as `encode` makes them, or of texts; or one alone.

        Returns:
          [B, S, V] float32, S the longest input; zeros on padding. [S, V] for one alone.

        Raises:
          ConfigError: a model without such a head.
          ValueError: an input over the model's limit, by its number from 0.
        """
        model = self._with_head("log_probs")
        listed = arguments.listed(inputs, name="inputs")
        ids = [self._feature_ids(x, f"inputs[{i}]")  # type: ignore[attr-defined]
               for i, x in enumerate(listed.items)]
        rows.check_lengths(ids, limit=model.max_source_positions, name="inputs")
        longest = max(map(len, ids), default=0)
        out = np.zeros((len(ids), longest, len(self.task.target_vocab)), np.float32)
        program = self._program("log_probs", lambda: jax.jit(self._head_log_probs))
        for places, tokens in rows.batches(ids, pad=model.pad, limit=model.max_source_positions):
            part = np.asarray(program(self.params, tokens))
            for row, place in enumerate(places):
                out[place, : len(ids[place])] = part[row, : len(ids[place])]
                finite.check_scores(out[place], f"log_probs: input {place}")
        return out[0] if listed.single else out

    # ---- parts ----

    def _with_head(self, what: str) -> Any:
        """The first of the models, all of which have a head for masked words."""
        for model in self.models:
            if getattr(model, "step", None) or not getattr(model, "features", None) or (
                    not getattr(model.config, "masked_lm_head", True)):
                raise ConfigError(f"{what}: this model of {model.config.name!r} has no head that "
                                  "predicts masked words")
        return self.models[0]

    def _program(self, key: Any, make: Callable[[], Any]) -> Any:
        """A compiled pass; kept for the next call."""
        if self.__dict__.get("_head_models") is not self.models:
            self.__dict__.update(_head_models=self.models, _head_programs={})
        programs: dict[Any, Any] = self.__dict__["_head_programs"]
        if key not in programs:
            programs[key] = make()
        return programs[key]

    def _best_words(self, topk: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
        def best(
            params: tuple[Params, ...], tokens: jax.Array, places: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            def at_places(encoded: Encoded) -> Encoded:
                chosen = jnp.take_along_axis(encoded.out, places[:, None, None], axis=1)
                return Encoded(out=chosen, mask=encoded.mask[:, :1])

            lprobs = self._head_log_probs(params, tokens, at_places)[:, 0]
            scores, words = jax.lax.top_k(lprobs, topk)
            return jnp.exp(scores), words

        return self._program(("best", topk), lambda: jax.jit(best))

    def _head_log_probs(
        self, params: tuple[Params, ...], tokens: jax.Array,
        chosen: Callable[[Encoded], Encoded] = lambda encoded: encoded,
    ) -> jax.Array:
        """[B, S, V]; of several models, of their mean probability."""
        each = []
        for model, p in zip(self.models, params, strict=True):
            source = sentence_source(tokens, pad=model.pad, eos=model.eos)
            encoded = chosen(model.encode(p, source))
            features: Features = model.features(p, encoded)
            each.append(jax.nn.log_softmax(features.logits(), axis=-1))
        total = each[0] if len(each) == 1 else jax.nn.logsumexp(jnp.stack(each), axis=0) - (
            jnp.log(len(each)))
        return total

    def _filled(self, text: str, index: int, score: float) -> tuple[str, float, str]:
        word, spaced = text_ids.word_of(self.task, index)
        return text_ids.with_word(text, word, spaced=spaced), score, word


class Rewriting(Loaded[TextTask]):
    """Part of a facade of models that write whole texts: fairseq's `fill_mask` of BART."""

    generate: Callable[..., list[list[Hypothesis]]]
    decode: Callable[[Any], Any]

    def fill_mask(
        self, inputs: Any, topk: int = 5, *, match_source_len: bool = True, **options: Any
    ) -> Any:
        """The best texts in which masks are filled, as a beam search writes them.

        Args:
          inputs: a text with `<mask>` in it, once or more often, ids as `encode` makes them, or a
            list of these.
          topk: how many; the beam is as wide, at least.
          match_source_len: texts have as many tokens as the input; without, a mask may become
            several words.
          **options: fields of `GenerationConfig`, and what `generate` takes.

        Returns:
          For each input (text, score), best first. For one input alone its list.

        Raises:
          ConfigError: a model whose vocabulary has no mask.
          ValueError: an input without one, or with more tokens than the model takes, by its number
            from 0.
        """
        model, vocab = self.models[0], self.task.source_vocab
        mask = text_ids.mask_id(self.task)
        topk = _count(topk, most=None)
        listed = arguments.listed(inputs, name="inputs", what="texts or lists of ids")
        ids = [_masked(self.task, model, x, place).ids for place, x in enumerate(listed.items)]
        for place, row in enumerate(ids):
            if not np.any(row == mask):
                raise ValueError(f"inputs[{place}]: has no {text_ids.MASKS[0]} to fill: write it "
                                 "where words are missing")
        if options.get("too_long", "error") == "error":
            rows.check_lengths(ids, limit=model.max_source_positions, name="inputs")
        # fairseq's hub makes every output of such a model begin so.
        prefixes = [[vocab.bos]] * len(ids) if text_ids.joins(self.task, model) else None
        options = {"prefixes": prefixes, **options, "match_source_len": match_source_len,
                   "beam": max(topk, int(options.get("beam", 0))), "nbest": topk}
        found = [[(self.decode(h.tokens), h.score) for h in hypotheses]
                 for hypotheses in self.generate(ids, **options)]
        return found[0] if listed.single else found


def _masked(task: TextTask, model: SentenceClassifier, value: Any, place: int) -> _Masked:
    """One input of `fill_mask`."""
    if isinstance(value, str):
        return _Masked(text=value, ids=text_ids.masked_ids(task, model, value))
    ids = arguments.ids(value, name=f"inputs[{place}]", size=len(task.source_vocab), texts=True)
    text = text_ids.sentences_of(task, ids)
    return _Masked(text=text if isinstance(text, str) else " ".join(text), ids=ids)


def _count(topk: Any, *, most: int | None) -> int:
    """How many are asked for.

    Raises:
      ConfigError: fewer than 1, or more than there are.
    """
    if isinstance(topk, bool) or not isinstance(topk, int) or topk < 1:
        raise ConfigError(f"topk: {topk!r}; give 1 or more")
    if most is not None and topk > most:
        raise ConfigError(f"topk: {topk}, but the dictionary has {most} entries")
    return topk
