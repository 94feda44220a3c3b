"""What a loaded model makes of texts or ids: ids, and hidden states of any layer. What all facades
of models of text have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.generation import finite
from seqjax.hub import arguments, rows, text_ids, word_features
from seqjax.hub.loaded import Loaded
from seqjax.hub.word_features import WordFeatures
from seqjax.models import protocol
from seqjax.models.parts.stack import layers_apart, layers_stacked
from seqjax.models.protocol import EncoderDecoder, Params, sentence_source
from seqjax.tasks.inputs import Encoded
from seqjax.tasks.protocol import TextTask


class Featuring(Loaded[TextTask]):
    """Part of a facade: fairseq's `encode`, `decode`, `extract_features` and
    `extract_features_aligned_to_words`, of one input or of a list of them."""

    def encode(self, text: Any, *more: str, no_separator: bool | None = None) -> Any:
        """Texts -> ids as the model reads them, with final eos.

        Models that are pretrained to read (RoBERTa, BART) are given `<s> a </s>`, and pairs as
        `<s> a </s> </s> b </s>` or, of models whose decoder reads them as well, `<s> a </s> b
        </s>`: fairseq's hub does so, whatever their task. All others read a text as their task
        puts it. The first text of a BART is cut to what the model takes, as in fairseq, with a
        warning; nothing else is cut.

        Args:
          text: a text; a list of texts, or of tuples of several that are joined.
          *more: further texts, joined with the first one.
          no_separator: True: no eos but its own behind each text; False: one more (None: as the
            model is used to it).

        Returns:
          [S] int32; a list of them for a list.

        Raises:
          ConfigError: several texts for a model that reads one.
        """
        if more:
            return self._encoded((text, *more), "text", no_separator)
        if isinstance(text, (list, tuple)) and not (isinstance(text, tuple) and _texts(text)):
            return [self._encoded(x, f"text[{i}]", no_separator) for i, x in enumerate(text)]
        return self._encoded(text, "text", no_separator)

    def decode(self, ids: Any) -> Any:
        """Ids [T] -> plain text; a list of rows of ids -> a list.

        Of a model that reads pairs, `<s>` in front is left out, and two eos in a row part texts:
        a list of them is what is given for such a row, as in fairseq.
        """
        found = arguments.listed(ids, name="ids", what="ids") if not _empty(ids) else None
        if found is None or found.single:
            return self._decoded(arguments.ids(ids, name="ids", size=None, empty=True))
        if not any(isinstance(x, (list, tuple, np.ndarray)) for x in found.items):
            return self._decoded(arguments.ids(ids, name="ids", size=None, empty=True))
        return [self._decoded(arguments.ids(x, name=f"ids[{i}]", size=None, empty=True))
                for i, x in enumerate(found.items)]

    def extract_features(self, inputs: Any, *, layer: int = -1, all: bool = False) -> Any:
        """Hidden states of each input; they do not depend on what else is in the list.

        Of a model that reads, its encoder's; of one whose decoder reads the sentence as well
        (BART), its decoder's, which was given the source with its last token in front, as
        fairseq's `extract_features`; of a language model, those that predict the next token.

        Args:
          inputs: a list of texts, of pairs of texts (tuples) or of lists of ids as `encode` makes
            them (of a language model: as `log_probs` takes them); or one of these alone.
          layer: 0: embeddings as the first layer reads them; k: the output of layer k; -1: the
            last states, with the norm behind the layers of models that have one there; -2, ...:
            counted from the last layer.
          all: all L + 1 states, embeddings first, without that norm: fairseq's
            `return_all_hiddens`.

        Returns:
          For each input [S, D] float32, S its ids; [L + 1, S, D] with `all`. For one input alone
          its array, not a list.

        Raises:
          ConfigError: several models; no such layer; a model that tells of its last states alone.
          ValueError: an input over the model's limit, by its number from 0; states that are not
            finite.
        """
        return self._extracted(inputs, layer=layer, every=all)

    def extract_features_aligned_to_words(
        self, text: Any, *, words: Sequence[str] | None = None, layer: int = -1,
        pieces: str = "sum",
    ) -> Any:
        """Features of the words of a text, made of those of its pieces.

        fairseq's words are those of spaCy, which `words` may be; without, words are what white
        space separates.

        Args:
          text: a text; a list of texts.
          words: of one text; together they are the text, but for white space.
          layer: see `extract_features`.
          pieces: `sum`: a word's are the sum of its pieces', of which one that is in several
            words gives each the same part: fairseq's; `mean`: the mean of its pieces'.

        Returns:
          `WordFeatures`: words, `<s>` first and `</s>` last where the model reads these, and
          [W, D] float32. A list of them for a list.

        Raises:
          ValueError: words that are not those of the text, or that cannot be found in its pieces.
        """
        arguments.choice(pieces, ("sum", "mean"), name="pieces")
        if isinstance(text, (list, tuple)):
            if words is not None:
                raise ValueError("words: are those of one text; give texts one by one")
            return [self.extract_features_aligned_to_words(x, layer=layer, pieces=pieces)
                    for x in text]
        text = arguments.text(text, name="text")
        places = word_features.align(self.task, text, words)
        ids = self._encoded(text, "text", None)
        features = self._features([ids], layer=layer, every=False)[0]
        return word_features.of_pieces(
            self.task, ids, features, places, mean=pieces == "mean")

    # ---- parts ----

    def _extracted(
        self, inputs: Any, *, layer: int = -1, every: bool = False, name: str = "inputs"
    ) -> Any:
        listed = arguments.listed(inputs, name=name)
        ids = [self._feature_ids(x, f"{name}[{i}]") for i, x in enumerate(listed.items)]
        found = self._features(ids, layer=layer, every=every, name=name)
        return found[0] if listed.single else found

    def _feature_ids(self, x: Any, name: str) -> np.ndarray:
        """One input as the ids that the model reads."""
        if isinstance(x, str) or isinstance(x, (tuple, list)) and x and _texts(x):
            return self._encoded(x, name, None, whole=True)
        if isinstance(x, Encoded):
            return x.ids
        return arguments.ids(x, name=name, size=len(self.task.source_vocab), texts=True)

    def _encoded(
        self, value: Any, name: str, no_separator: bool | None, *, whole: bool = False
    ) -> np.ndarray:
        """Ids of one text, or of several joined; `whole`: nothing is cut."""
        texts = [value] if isinstance(value, str) or not isinstance(value, (tuple, list)) else value
        texts = [arguments.text(x, name=name) for x in texts]
        separated = None if no_separator is None else not no_separator
        model = self.models[0]
        own = len(texts) == 2 and text_ids.around_pair(self.task, model) is not None
        if not text_ids.joins(self.task, model) or whole or own and separated is None:
            return text_ids.sentence_ids(self.task, model, texts, separated=separated)
        parts = text_ids.cut(self.task, model, texts, limit=self._feature_limit())
        return text_ids.framed(self.task, model, parts, separated=separated)

    def _decoded(self, ids: np.ndarray) -> Any:
        if text_ids.joins(self.task, self.models[0]):
            return text_ids.sentences_of(self.task, ids)
        return self.task.decode_target(ids)

    def _one_model(self, what: str) -> Any:
        model, *others = self.models
        if others:
            raise ConfigError(f"{what}: the hidden states of an ensemble are not defined: load one "
                              "checkpoint")
        return model

    def _feature_limit(self) -> int:
        """Tokens of the longest input."""
        limits = []
        for model in self.models:
            if protocol.reads(model):
                limits.append(model.max_source_positions)
            if _decodes(model):
                limits.append(model.max_target_positions)
        return min(limits)

    def _features(
        self, ids: Sequence[np.ndarray], *, layer: int, every: bool, name: str = "inputs"
    ) -> list[np.ndarray]:
        """States of each row of ids."""
        model = self._one_model("extract_features")
        rows.check_lengths(ids, limit=self._feature_limit(), name=name)
        states = self._states(layer, every)
        found: list[Any] = [None] * len(ids)
        moved = [np.roll(x, 1) for x in ids] if _decodes(model) and protocol.reads(model) else ids
        shared = getattr(model, "shares_rows", False)
        for layout in rows.layouts(ids, limit=self._feature_limit(), shared=shared):
            batch = layout.filled(ids, empty=model.pad), layout.filled(moved, empty=model.pad)
            part = np.asarray(states(*batch, layout.segments(ids) if shared else None))
            for place, row, start in layout.places:
                found[place] = part[..., row, start : start + len(ids[place]), :].copy()
                finite.check_scores(found[place], f"extract_features: input {place}")
        return found

    def _feature_passes(self) -> dict[Any, Any]:
        """Compiled passes of these models; others are begun where models were replaced."""
        kept = self.__dict__
        if kept.get("_feature_models") is not self.models:
            kept["_feature_models"], kept["_feature_programs"] = self.models, {}
        found: dict[Any, Any] = kept["_feature_programs"]
        return found

    def _states(self, layer: int, every: bool) -> Callable[..., jax.Array]:
        """The compiled pass to the states of a layer, or of all; kept for the next call. It takes
        what `states_of` takes behind the parameters."""
        model = self.models[0]
        programs = self._feature_passes()
        key = "all" if every else layer
        if key not in programs:
            if every or layer != -1:
                _check_layer(model, self.params[0], layer, every=every)
            programs[key] = jax.jit(lambda params, *batch: states_of(
                model, layers_stacked(params), *batch, layer=layer, every=every))
        return functools.partial(programs[key], self._feature_params())

    def _feature_params(self) -> Params:
        """The parameters as passes over whole rows read them fastest; kept for the next call."""
        params, passes = self.params[0], self._feature_passes()
        if getattr(self.models[0].config, "scan_unroll", 0):
            return params
        if passes.get("read from") is not params:
            passes["read from"], passes["params"] = params, layers_apart(params)
        return passes["params"]


def states_of(
    model: EncoderDecoder, params: Params, tokens: jax.Array, read: jax.Array,
    segments: jax.Array | None = None, *, layer: int = -1, every: bool = False,
) -> jax.Array:
    """States of `tokens`: [B, S, D] float32 of a layer (see `Featuring.extract_features`),
    [L + 1, B, S, D] of every one.

    Args:
      tokens: [B, S] int32.
      read: [B, S] int32: what a decoder reads of them.
      segments: [B, S] int32, where sentences share rows.
    """
    last = layer == -1 and not every
    encoded = None
    if protocol.reads(model):
        source = sentence_source(tokens, pad=model.pad, eos=model.eos, segments=segments)
        if not _decodes(model):
            found = model.encode(params, source).out if last else (
                model.encoder_states(params, source))  # type: ignore[attr-defined]
            return _chosen(found, layer, whole=last or every)
        encoded = model.encode(params, source)
    found = model.features(params, read, encoded, segments=segments).hidden if last else (
        cast(protocol.LayeredStepper, model).decoder_states(
            params, read, encoded, segments=segments))
    return _chosen(found, layer, whole=last or every)


def _chosen(states: jax.Array, layer: int, *, whole: bool) -> jax.Array:
    return (states if whole else states[layer]).astype(jnp.float32)


def _decodes(model: EncoderDecoder) -> bool:
    """Whether it is the decoder's states that are meant."""
    return not protocol.reads(model) or getattr(model, "decodes_source", False)


def _check_layer(model: EncoderDecoder, params: Params, layer: int, *, every: bool) -> None:
    """Refuses a layer that is not there, and models that do not tell of them.

    Raises:
      ConfigError: naming what there is.
    """
    dummy = jnp.full((1, 1), model.eos, jnp.int32)
    told = protocol.LayeredStepper if _decodes(model) else protocol.Layered
    if not isinstance(model, told):
        raise ConfigError(f"extract_features: models of {model.config.name!r} tell of their last "
                          "states alone (layer=-1)")
    if every:
        return
    count = jax.eval_shape(
        lambda p: states_of(model, p, dummy, dummy, every=True), params).shape[0]
    if isinstance(layer, bool) or not isinstance(layer, int) or not -count <= layer < count:
        raise ConfigError(f"layer: {layer!r}, but there are 0 (the embeddings) to {count - 1}, and "
                          f"-1 (the last states) to {-count}")


def _texts(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(x, str) for x in values)


def _empty(ids: Any) -> bool:
    return isinstance(ids, (list, tuple, np.ndarray)) and not len(ids)


__all__ = ["Featuring", "WordFeatures", "states_of"]
