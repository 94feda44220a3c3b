"""What every model offers, and the containers that cross its border.

Search, losses, tasks and training know models by this file alone.

Axis letters, here and everywhere: B batch, S source, T target, V vocabulary, D model,
F feed-forward, H heads, K head size, L layers, W beam width, C cache capacity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seqjax.config import ModelSection

Params = Any
"""Nested dict of arrays; like layers are stacked on axis 0 under `layers`."""
Weights = Any
"""What `prepare` made of parameters: their values in the layout decoding wants."""
Cache = Any
"""Pytree of a model's decoding state; a model's own business."""
Extra = Any
"""Pytree of what a model keeps beside its parameters (`Stateful`); {} of most."""
Projection = Any
"""Pytree of an output layer's arrays: a table, or what its own projection reads."""
Project = Callable[[Projection, jax.Array], jax.Array]
"""(projection, [..., D]) -> float32 logits [..., V]."""


@struct.dataclass
class Source:
    """What an encoder reads. Which positions are real is said here once, for whoever asks."""

    values: jax.Array
    """[B, S] int32 ids, or floats: [B, S, F] features, [B, S] samples."""
    mask: jax.Array
    """[B, S] bool: true on real positions."""
    segments: jax.Array | None = None
    """[B, S] int32, when several sources share a row (packing)."""
    second: jax.Array | None = None
    """[B, S] bool: true on the second text of a pair, for models that tell it from the first."""
    isolated: bool = struct.field(pytree_node=False, default=False)
    """Whether every row comes out as it does alone, whatever it is batched with. Otherwise
    encoders whose convolutions run over frames of features take padding for frames of zeros, as
    fairseq's do, up to the end of the longest row."""

    @property
    def visible_segments(self) -> jax.Array | None:
        """`segments` with 0 on padding, which nobody sees, wherever it stands."""
        return None if self.segments is None else jnp.where(self.mask, self.segments, 0)


def token_source(
    tokens: jax.Array, *, pad: int, segments: jax.Array | None = None
) -> Source:
    """Text as a `Source`: `tokens` [B, S] int32, all but `pad` real."""
    return Source(values=tokens, mask=tokens != pad, segments=segments)


def sentence_source(
    tokens: jax.Array, *, pad: int, eos: int, segments: jax.Array | None = None
) -> Source:
    """Rows of one text or of a pair as a `Source`: `tokens` [B, S] int32.

    In `<s> a </s> b </s>` all behind the first eos is the second text. Where a further eos stands
    between them, as RoBERTa has it, texts are not told apart. With `segments` [B, S] a row has
    several of them.
    """
    real, ends = tokens != pad, tokens == eos
    before = jnp.cumsum(ends, axis=1) - ends
    next_one = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)), constant_values=pad)
    behind_it = jnp.pad(tokens[:, 2:], ((0, 0), (0, 2)), constant_values=pad)[:, : tokens.shape[1]]
    if segments is None:
        own = jnp.ones((1, 1, 1), bool)
    else:
        own = segments[:, :, None] == segments[:, None]
        begins = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
        before -= jax.lax.cummax(jnp.where(begins, before, 0), axis=1)
    separated = ends & (before == 0) & (next_one == eos) & (behind_it != pad)
    second = real & (before > 0) & ~jnp.any(own & separated[:, None], axis=-1)
    return Source(values=tokens, mask=real, segments=segments, second=second)


@struct.dataclass
class Encoded:
    """What the encoder says of a batch of sources."""

    out: jax.Array
    """[B, S, D]."""
    mask: jax.Array
    """[B, S] bool: true on real positions."""
    segments: jax.Array | None = None
    """[B, S] int32, 0 on padding, when several sources share a row (packing)."""
    state: Any = None
    """What else a family's decoder needs: the family's own, nobody else reads it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordProjection:
    """An output layer whose every array has an entry for each word, so that logits of some
    words need only their entries; losses then take it in blocks."""

    function: Project
    """See `Features.project`."""
    vocabulary_axis: int
    """Of every array: where it has an entry for each word."""

    def __call__(self, projection: Projection, hidden: jax.Array) -> jax.Array:
        return self.function(projection, hidden)


def by_word(vocabulary_axis: int) -> Callable[[Callable], WordProjection]:
    """Makes a function a `WordProjection`."""
    return lambda function: WordProjection(function=function, vocabulary_axis=vocabulary_axis)


@struct.dataclass
class Features:
    """The decoder's last hidden states and how to get logits from any slice of them.

    Losses project in chunks, so that [B, T, V] need never exist at once.
    """

    hidden: jax.Array
    """[B, T, D]."""
    projection: Projection
    """Pytree of the output layer's arrays."""
    project: Project = struct.field(pytree_node=False)
    """(projection, [..., D]) -> float32 logits [..., V]; best a `WordProjection`."""
    attention: jax.Array | None = None
    """Attention to the source [L, B, H, T, S] of those layers and heads that the model tells
    of, or None without; see `source_attention`."""

    def logits(self, temperature: float = 1.0) -> jax.Array:
        """[B, T, V] float32, divided by a temperature.

        A projection that has a method `tempered` says itself what that means: an adaptive
        softmax, which tempers its head and each of its tails by itself, as fairseq does.
        """
        if temperature == 1.0:
            return self.project(self.projection, self.hidden)
        if hasattr(self.projection, "tempered"):
            return self.project(self.projection.tempered(temperature), self.hidden)
        return tempered(self.project(self.projection, self.hidden), temperature)


def tempered(logits: jax.Array, temperature: float) -> jax.Array:
    """Logits [..., V] divided by a temperature, the largest moved to 0 before.

    Compilers fuse a product and a difference into one rounding. Were logits divided as they
    are, their own logarithm of the sum of exponentials could be less than the largest of
    them, and a log-probability above 0: by 1e-3 at a temperature of 1e-3. What is never above
    0 stays so.
    """
    return (logits - logits.max(axis=-1, keepdims=True)) / temperature


def source_attention(features: Features) -> jax.Array:
    """[B, T, S] float32: how much each target position looks at each source position when
    it predicts its token: the mean over the heads of the last layer that `features` tell of,
    which is what fairseq's models return.

    Raises:
      ValueError: the model gives no attention to the source.
    """
    if features.attention is None:
        raise ValueError(
            "this model has no attention to the source to make alignments of (of a "
            "transformer_align, config.model.alignment_layer must be one of its layers)")
    return features.attention[-1].astype(jnp.float32).mean(axis=1)


class Model(Protocol):
    """What every model has: static configuration; parameters are never stored."""

    @property
    def config(self) -> ModelSection:
        """Its section of the configuration."""
        ...

    @property
    def pad(self) -> int:
        """Id of padding."""
        ...

    def init(self, rng: jax.Array) -> Params:
        """Fresh float32 parameters, with fairseq's initialisation."""
        ...


ModelT = TypeVar("ModelT", bound=Model)


@runtime_checkable
class Encoder(Model, Protocol):
    """A model that reads: arrays in and out. `rng=None` means deterministic (no dropout)."""

    def encode(
        self, params: Params, source: Source, *, rng: jax.Array | None = None,
    ) -> Encoded:
        """States of every position of `source`, which is padded on the right."""
        ...

    @property
    def max_source_positions(self) -> int: ...


@runtime_checkable
class Layered(Protocol):
    """A model that reads and tells of the states between its layers."""

    def encoder_states(self, params: Params, source: Source) -> jax.Array:
        """[L + 1, B, S, D]: embeddings as the first layer reads them, then the output of every
        layer; a norm behind the last, which `Encoder.encode` applies, is not in it, as in
        fairseq's `encoder_states`. No dropout."""
        ...


@runtime_checkable
class LayeredStepper(Protocol):
    """A model that writes and tells of the states between its decoder's layers."""

    def decoder_states(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None,
    ) -> jax.Array:
        """[L + 1, B, T, D], as `Layered.encoder_states`: fairseq's `inner_states`."""
        ...


class MaskedLanguageModel(Encoder, Protocol):
    """A model that reads, and says of every position which word stands or stood there."""

    def features(self, params: Params, encoded: Encoded) -> Features:
        """States [B, S, D] in front of the output layer, of what `encode` gave."""
        ...


class Stepper(Model, Protocol):
    """A model that writes: whole rows at once in training, position by position in search.

    With a source or without: `encoded` is what `Encoder.encode` gave, or None for a
    language model.
    """

    @property
    def eos(self) -> int:
        """Id of the end of a sentence."""
        ...

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """Teacher-forced states for `prev_output_tokens` [B, T], right-padded; `segments`
        [B, T] when packed."""
        ...

    def prepare(self, params: Params) -> Weights:
        """Parameters in the layout of `step` (unstacked layers, fused projections);
        done once, outside the decoding loop."""
        ...

    def start(
        self, weights: Weights, encoded: Encoded | None, *, rows: int, beam: int, capacity: int,
    ) -> Cache:
        """Empty decoding state of `rows` sentences, for `beam` hypotheses of each and
        `capacity` positions; keys and values of the source are computed here, once per
        sentence."""
        ...

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        """One position of every hypothesis.

        Args:
          tokens: [B, W] int32, the tokens at `position` (position 0 is bos/eos).
          cache: as `start` or the step before gave it; updated in place under jit.
          position: int32 scalar, 0-based.
          ancestors: [B, W, C] int32: the slot (0..W-1) in which position c of
            hypothesis w was computed; entries from `position` on must be w itself.

        Returns:
          Features with hidden [B, W, D] and the new cache.
        """
        ...

    def grow(self, cache: Cache, *, capacity: int) -> Cache:
        """The same state with room for `capacity` positions."""
        ...

    def reorder(self, cache: Cache, parents: jax.Array) -> Cache:
        """State after slot w continues slot `parents[b, w]`. Identity where history is
        found through `ancestors`; a gather where the state is small (recurrent)."""
        ...

    @property
    def max_target_positions(self) -> int: ...


class EncoderDecoder(Encoder, Stepper, Protocol):
    """A sequence-to-sequence model."""


@runtime_checkable
class FrameReader(Encoder, Protocol):
    """A model that reads audio: frames of features, or samples."""

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Of one frame: (F,) of features, () of samples."""
        ...

    @property
    def least_frames(self) -> int:
        """What the shortest source has that can be encoded."""
        ...


class MaskedFrameReader(FrameReader, Protocol):
    """One of waveforms, of which frames or channels may be masked. The masks are drawn on the host,
    and go with the batch."""

    @property
    def receptive_field(self) -> int:
        """Samples that one frame is made of."""
        ...

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        ...

    def frames(self, samples: int) -> int:
        """Of a row of samples."""
        ...

    @property
    def max_frames(self) -> int:
        """Of the longest row."""
        ...

    def draw_rows(
        self, lengths: np.ndarray, seeds: np.ndarray, *, samples: int,
        labels: Sequence[int] = (),
    ) -> dict[str, np.ndarray]:
        """Arrays [B, ...] of what is drawn for rows of `lengths` [B] samples in a batch of
        `samples`, each by its own whole numbers `seeds` [B, n]; `labels`: width of each list of
        labels of frames."""
        ...

    def drawn_of(self, batch: Mapping[str, jax.Array]) -> Any:
        """What the model is given of a batch with these arrays (`drawn`)."""
        ...


class WaveformPretrainer(MaskedFrameReader, Protocol):
    """A model of waveforms that learns from these alone, or from labels of frames."""

    def pretrain(self, params: Params, *inputs: Any, **options: Any) -> Any:
        """What the loss of its kind reads (`Forward.aux`): of a source and what was drawn, and of
        a `Stateful` model, its state in front of these, with the new state; of one of labels, a
        list of them behind."""
        ...


class SpeechToText(FrameReader, Stepper, Protocol):
    """A sequence-to-sequence model that reads audio."""


class LanguageModel(Stepper, Protocol):
    """A decoder without a source. It is generated from as an `EncoderDecoder` is, with
    prefix tokens after the first token, which is eos (or bos where it was trained so)."""


def reads(model: object) -> bool:
    """Whether a model has an encoder; a language model has none."""
    return isinstance(model, Encoder)


def writes(model: object) -> bool:
    """Whether a model writes, symbol by symbol."""
    return hasattr(model, "step")


Read = jax.Array | np.ndarray | Source
"""Sources as searches hand them on: token ids [B, S], or of audio a `Source`."""


def encode_tokens(model: Encoder | Stepper, params: Params, tokens: Read) -> Encoded | None:
    """What a model makes of sources: nothing if it is a language model, which reads none."""
    if not isinstance(model, Encoder):
        return None
    if not isinstance(tokens, Source):
        tokens = token_source(jnp.asarray(tokens), pad=model.pad)
    return model.encode(params, tokens)


class SentenceClassifier(Encoder, Protocol):
    """A model with heads that classify whole sentences, or put a number to them."""

    decodes_source: ClassVar[bool]
    """Whether a decoder reads the sentence as well, whose last state the heads read: fairseq's
    `--add-prev-output-tokens`. Such models are written to be given pairs with one eos between
    them, others with two (`encode` of fairseq's hub)."""

    @property
    def eos(self) -> int:
        """Id of the end of a text."""
        ...

    def class_logits(
        self, params: Params, head: str, source: Source, *, rng: jax.Array | None = None,
    ) -> jax.Array:
        """Float32 logits [B, C] of a head of `config.classification_heads` (name -> C) for
        `source`, sentences with their final eos that are padded on the right.

        Raises:
          ValueError: there is no such head.
        """
        ...


@runtime_checkable
class Adopting(Protocol):
    """A model around an encoder that is pretrained by itself, as another family's."""

    def adopt(self, pretrained: Params, fresh: Params) -> Params:
        """Fresh parameters, a pretrained encoder's in their place; or this model's as they are."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A model that keeps something from update to update that is not learned by gradient: an
    EMA teacher, batch statistics. Training keeps it in `TrainState.extra`.

    Its task hands `extra` to the forward pass and gives the new one in `losses.base.Forward`.
    In training the pass is called once a micro-batch, each with what the one before left; what
    is to happen once an update (fairseq's `set_num_updates`) asks whether the update number is
    another than the one that it has kept. Without `rng` it is an evaluation, and what it gives
    is not kept.
    """

    @property
    def config(self) -> ModelSection:
        """See `Model.config`."""
        ...

    def init_extra(self, params: Params) -> Extra:
        """A pytree of arrays for fresh parameters; its form never changes. Leaves whose names
        end as parameters' do are split over devices as those are. Works under jit."""
        ...


@runtime_checkable
class Settling(Protocol):
    """A model some of whose parameters are not the optimizer's to change, always or for a while:
    running statistics, which its forward pass makes in training and reads in evaluation; what is
    frozen, which weight decay must not move either. If it is `Stateful` too, all of its state is
    among its parameters: `init_extra` of a checkpoint's gives it."""

    def settled(
        self, params: Params, extra: Extra, *, before: Params, update: jax.Array
    ) -> Params:
        """The parameters as they are to be after an update. Works under jit.

        Args:
          params: what the optimizer made of them.
          extra: after the update (`Stateful`; {} of most).
          before: the parameters before it.
          update: int32 scalar, updates applied before this one.
        """
        ...


def segment_positions(segments: jax.Array) -> jax.Array:
    """0-based position of every token in its own segment; `segments` [B, T]."""
    index = jnp.broadcast_to(jnp.arange(segments.shape[1]), segments.shape)
    previous = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    starts = jnp.where(segments != previous, index, 0)
    return index - jax.lax.cummax(starts, axis=1)
