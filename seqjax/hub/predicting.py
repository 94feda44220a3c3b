"""Classification by a loaded model: from texts, pairs of texts or ids, and the name of a head, to
log-probabilities of its classes. What facades of models with heads have in common."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.generation import finite
from seqjax.hub import arguments, text_ids
from seqjax.hub import rows as rows_of_ids
from seqjax.hub.loaded import Loaded
from seqjax.models.parts import heads
from seqjax.models.parts.heads_config import HEADS, REGRESSION, SEVERAL
from seqjax.models.protocol import sentence_source
from seqjax.tasks.protocol import TextTask, class_names

Sentence = str | Sequence[str] | Sequence[int] | np.ndarray
"""A text, a pair of texts (or more), or ids."""


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Predicting(Loaded[TextTask]):
    """Part of a facade whose models may have classification heads: fairseq's `predict` and
    `register_classification_head`."""

    @property
    def classification_heads(self) -> Mapping[str, int]:
        """Name of each head -> its classes, or values of a regression."""
        return dict(getattr(self.models[0].config, HEADS, {}))

    def class_names(self, head: str) -> tuple[str, ...]:
        """What the classes of a head are called, in the order of `predict`'s columns; empty where
        nothing says."""
        config = self._classifier(head).config
        if head in config.classification_labels:
            return tuple(config.classification_labels[head])
        mine = getattr(self.task.config, "classification_head_name", None) == head
        return class_names(self.task) if mine else ()

    def predict(
        self, head: str, inputs: Sequence[Sentence] | Sentence, *, return_logits: bool = False
    ) -> np.ndarray:
        """What a head says of each input; that does not depend on what else is in the list.

        Args:
          head: its name.
          inputs: a list of texts, of pairs of texts (tuples) or of ids as they are trained on:
            from `<s>` to the last `</s>`. One alone is a list of one.
          return_logits: logits instead of log-probabilities.

        Returns:
          [N, C] float32: natural log-probabilities of the classes (of a head of which several
          may hold at once, of each by itself); of a regression, and of a head of one output, the
          values themselves.

        Raises:
          ConfigError: there is no such head; several models.
          ValueError: an input over the model's limit, or without eos where one is read, by its
            number from 0; values that are not finite.
        """
        model = self._classifier(head)
        rows = [self._sentence_ids(x, place) for place, x in enumerate(
            arguments.listed(inputs, name="inputs").items)]
        limit = self._class_limit()
        for place, ids in enumerate(rows):
            if len(ids) > limit:
                raise ValueError(f"inputs[{place}]: has {len(ids)} tokens, but the model takes at "
                                 f"most {limit}")
            if model.decodes_source and not np.any(ids == model.eos):
                raise ValueError(f"inputs[{place}]: has no eos ({model.eos}), at which the "
                                 "classification head reads")
        read = self._reading(head, return_logits)
        found = np.zeros((len(rows), model.config.classification_heads[head]), np.float32)
        for part, source in rows_of_ids.batches(rows, pad=model.pad, limit=limit):
            logits = np.asarray(self._class_logits(head)(self.params[0], source))[: len(part)]
            found[part] = read(logits)
        for place in range(len(rows)):
            finite.check_scores(found[place], f"predict: input {place}")
        return found

    def register_classification_head(
        self, name: str, num_classes: int, *, inner_dim: int | None = None
    ) -> None:
        """Gives the model a new head, whose weights are drawn as for training: fairseq's method of
        this name. One of the same name is replaced, with a warning where it had other sizes.

        Args:
          num_classes: classes, or values of a regression.
          inner_dim: inner width (None: the encoder's).

        Raises:
          ConfigError: several models; a model that can have no heads; sizes below 1.
        """
        model = self._able()
        old, width = model.config, model.config.encoder_embed_dim
        inner = {k: v for k, v in old.classification_inner_dims.items() if k != name}
        inner |= {} if inner_dim in (None, width) else {name: inner_dim}
        others = {key: {k: v for k, v in getattr(old, key).items() if k != name}
                  for key in ("classification_labels", "classification_problems")}
        try:
            new = dataclasses.replace(
                old, classification_heads={**old.classification_heads, name: num_classes},
                classification_inner_dims=inner, **others)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"register_classification_head: {error}") from None
        before = old.classification_heads.get(name)
        if before is not None and (before, old.inner_dim(name, width=width)) != (
                num_classes, new.inner_dim(name, width=width)):
            warnings.warn(f"the classification head {name!r} had {before} classes and is replaced "
                          f"by one of {num_classes}", stacklevel=2)
        fresh = heads.with_fresh_heads(
            {}, new, jax.random.key(self.config.seed, impl="threefry2x32"), width=width)[HEADS]
        params = self.params[0]
        self.params = ({**params, HEADS: {**params.get(HEADS, {}), name: fresh[name]}},)
        self.models = (dataclasses.replace(model, config=new),)
        self.config = dataclasses.replace(self.config, model=new)
        self.__dict__.pop("_class_programs", None)

    # ---- parts ----

    def _able(self) -> Any:
        """The one model, which can have heads."""
        model, *others = self.models
        if others:
            raise ConfigError("classification by an ensemble is not defined: load one checkpoint")
        if getattr(model, "class_logits", None) is None:
            raise ConfigError(f"models of {model.config.name!r} have no classification heads")
        return model

    def _classifier(self, head: str) -> Any:
        model = self._able()
        if head not in model.config.classification_heads:
            raise ConfigError(heads.missing(head, model.config))
        return model

    def _reading(self, head: str, as_they_are: bool) -> Callable[[np.ndarray], Any]:
        """What becomes of logits [B, C]."""
        config = self.task.config
        problem = self.models[0].config.classification_problems.get(head)
        mine = getattr(config, "classification_head_name", None) == head
        if mine and getattr(config, "regression_target", False):
            problem = REGRESSION
        if as_they_are or problem == REGRESSION:
            return lambda logits: logits
        if problem == SEVERAL:
            return jax.nn.log_sigmoid
        return jax.nn.log_softmax if self.classification_heads[head] > 1 else lambda logits: logits

    def _class_limit(self) -> int:
        model = self.models[0]
        limits = [model.max_source_positions]
        return min(limits + ([model.max_target_positions] if model.decodes_source else []))

    def _sentence_ids(self, value: Any, place: int) -> np.ndarray:
        """One input as ids."""
        if isinstance(value, str):
            value = (value,)
        if isinstance(value, (tuple, list)) and value and all(isinstance(x, str) for x in value):
            return text_ids.sentence_ids(self.task, self._able(), value)
        return arguments.ids(value, name=f"inputs[{place}]", size=len(self.task.source_vocab),
                             texts=True)

    def _class_logits(self, head: str) -> Callable[[Any, Any], jax.Array]:
        """The compiled pass of a head; kept for the next call."""
        programs: dict[str, Any] = self.__dict__.setdefault("_class_programs", {})
        if head not in programs:
            model = self.models[0]
            programs[head] = jax.jit(lambda params, source: model.class_logits(
                params, head, sentence_source(jnp.asarray(source), pad=model.pad, eos=model.eos)))
        return programs[head]
