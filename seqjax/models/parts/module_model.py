"""What models share on the way from parameters and layers to `protocol`'s models.

A family made of a Linen module says which one, and how it decodes step by step; the output layer,
adaptive or not, is here.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.config import ModelSection
from seqjax.models.parts import adaptive, outputs
from seqjax.models.parts.adaptive import (
    band_ends,
    check_input_widths,
    check_softmax_widths,
)
from seqjax.models.parts.keys import (
    EncoderDecoderKeys,
    LanguageModelKeys,
)
from seqjax.models.parts.layers import dropout
from seqjax.models.protocol import (
    Cache,
    Encoded,
    Features,
    Params,
    Project,
    Projection,
    Source,
    Weights,
    token_source,
)

PAD = 1
EOS = 2
"""fairseq's ids, where `models.build` is told no others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizedModel:
    """What every model is made from (`models.build`)."""

    config: ModelSection
    source_vocab_size: int
    """Entries of the dictionary that is read."""
    target_vocab_size: int
    """What is predicted; of a language model smaller with a truncated output dictionary."""
    compute_dtype: DTypeLike = jnp.float32
    """Type of matrix products and activations; statistics and logits stay float32."""
    pad: int = PAD
    """Id of padding; behind the last word's where no symbol pads."""
    eos: int = EOS
    """Id of the end of a sentence."""
    any_special_ids: ClassVar[bool] = False
    """Whether `pad` and `eos` may be others than fairseq's."""
    shares_rows: ClassVar[bool] = False
    """Whether short sentences are best read several in a row, as `segments`: attention works on
    all positions at once, so that nothing is lost by longer rows and padding is saved."""

    @property
    def max_target_positions(self) -> int:
        config: Any = self.config  # of a model that only reads, it has no such key
        return config.max_target_positions

    @property
    def _output_ends(self) -> tuple[int, ...] | None:
        """Ends of the clusters of the adaptive softmax (None: an ordinary softmax)."""
        cutoff = getattr(self.config, "adaptive_softmax_cutoff", None)
        if cutoff is None:
            return None
        return band_ends(cutoff, self.target_vocab_size, key="adaptive_softmax_cutoff")

    @property
    def _softmax_dropout(self) -> float:
        """Of an adaptive softmax, where there can be one."""
        return getattr(self.config, "adaptive_softmax_dropout", 0.0)

    def _check_softmax(self, width: int, factor: float) -> None:
        """Raises ValueError for clusters that do not fit the dictionary, and warns of those that
        get nothing of `width` dimensions."""
        ends = self._output_ends
        if ends is not None:
            check_softmax_widths(width, factor, len(ends))

    def _check_joined(self, keys: str) -> None:
        """Raises ValueError where one embedding should serve two dictionaries."""
        shares = getattr(self.config, "shares_input", False)
        if shares and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                f"config.model: {keys} a joined dictionary; the source has "
                f"{self.source_vocab_size} entries, the target {self.target_vocab_size} "
                "(preprocess with --joined-dictionary)"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModuleModel(SizedModel):
    """A model whose parameters and arithmetic of whole rows are a Linen module's, and whose
    single steps are the functions `prepare`, `start`, `step` and `grow` of a module of its
    family."""

    _decoding: ClassVar[Any]
    """That module."""

    @property
    def _module(self) -> nn.Module:
        """With methods `decode` and, for an encoder-decoder, `encode`."""
        raise NotImplementedError

    def _apply(
        self, params: Params, rng: jax.Array | None, half: int, *args: Any, method: str
    ) -> Any:
        """Encoder and decoder (`half` 0 and 1) drop out independently."""
        rngs = None if rng is None else {"dropout": jax.random.fold_in(rng, half)}
        return self._module.apply({"params": params}, *args, rngs=rngs, method=method)

    def _table(self, params: Params) -> Any:
        """The decoder's embedding: [V, D], or the bands of an adaptive one."""
        raise NotImplementedError

    @property
    def _ties_output(self) -> bool:
        """Whether an ordinary output projection is the embedding."""
        raise NotImplementedError

    def _own_output(self) -> int | None:
        """Columns of an output projection of its own."""
        own = self._output_ends is None and not self._ties_output
        return self.target_vocab_size if own else None

    def _projection(
        self, params: Params, key: jax.Array | None = None
    ) -> tuple[Projection, Project]:
        """The output layer's arrays, and what computes with them.

        Args:
          key: for dropout inside an adaptive softmax (None: none).
        """
        decoder = params["decoder"]
        if self._output_ends is not None:
            tied = self._table(params) if adaptive.ties_softmax(self.config) else None
            projection = adaptive.output_projection(
                decoder["adaptive_softmax"], tied, ends=self._output_ends, key=key,
                dropout=self._softmax_dropout,
            )
            return projection, adaptive.log_probs
        bias = decoder.get("output_bias")
        if self._ties_output:
            if bias is None:
                return self._table(params), outputs.project_table
            return {"table": self._table(params), "bias": bias}, outputs.project_tied
        kernel = decoder["output_projection"]["kernel"]
        if bias is None:
            return kernel, outputs.project_kernel
        return {"kernel": kernel, "bias": bias}, outputs.project_biased

    def _features(
        self, params: Params, hidden: jax.Array, rng: jax.Array | None,
        attention: jax.Array | None = None,
    ) -> Features:
        """Decoder states with their output layer, and an adaptive softmax's dropout."""
        key = None
        if rng is not None and self._output_ends is not None:
            key = jax.random.fold_in(rng, 2)
            hidden = dropout(hidden, self._softmax_dropout, jax.random.fold_in(rng, 3))
        projection, project = self._projection(params, key)
        return Features(
            hidden=hidden, projection=projection, project=project, attention=attention)

    def prepare(self, params: Params) -> Weights:
        return self._decoding.prepare(
            self.config, params["decoder"], dtype=self.compute_dtype, table=self._table(params),
            projection=self._projection(params), pad=self.pad,
        )

    def start(
        self, weights: Weights, encoded: Encoded | None, *, rows: int, beam: int, capacity: int,
    ) -> Cache:
        return self._decoding.start(
            self.config, weights, encoded, rows=rows, beam=beam, capacity=capacity)

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        return self._decoding.step(
            self.config, weights, tokens, cache, position=position, ancestors=ancestors)

    def grow(self, cache: Cache, *, capacity: int) -> Cache:
        return self._decoding.grow(cache, capacity=capacity)

    def reorder(self, cache: Cache, parents: jax.Array) -> Cache:
        del parents  # history is found through the ancestor table
        return cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModuleEncoderDecoder(ModuleModel):
    """The first half of a `protocol.EncoderDecoder`: whole sequences."""

    config: EncoderDecoderKeys

    @property
    def max_source_positions(self) -> int:
        return self.config.max_source_positions

    def init(self, rng: jax.Array) -> Params:
        dummy = jnp.full((1, 1), self.eos, jnp.int32)
        source = token_source(dummy, pad=self.pad)
        return self._module.init({"params": rng}, source, dummy)["params"]

    def encode(
        self, params: Params, source: Source, *, rng: jax.Array | None = None,
    ) -> Encoded:
        return self._apply(params, rng, 0, source, method="encode")

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """See `protocol`; with the attention of all layers and heads, where there is one."""
        hidden, attention = self._apply(
            params, rng, 1, prev_output_tokens, encoded, segments, method="decode"
        )
        return self._features(params, hidden, rng, attention)

    def _table(self, params: Params) -> jax.Array:
        side = "encoder" if self.config.shares_input else "decoder"
        return params[side]["embed_tokens"]["embedding"]

    @property
    def _ties_output(self) -> bool:
        return self.config.ties_output


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModuleLanguageModel(ModuleModel):
    """The first half of a `protocol.LanguageModel`, with fairseq's adaptive input and
    adaptive softmax."""

    config: LanguageModelKeys

    def __post_init__(self) -> None:
        cfg = self.config
        tied = cfg.share_decoder_input_output_embed or cfg.tie_adaptive_weights
        if tied and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                "config.model: a shared embedding predicts every entry of the dictionary "
                f"({self.source_vocab_size}), not the first {self.target_vocab_size}; unset "
                "share_decoder_input_output_embed and tie_adaptive_weights, or "
                "task.output_dictionary_size"
            )
        if self._input_ends is not None:
            check_input_widths(
                cfg.adaptive_input_dim, cfg.adaptive_input_factor, len(self._input_ends))
            if self.pad != PAD:
                raise ValueError(
                    f"config.model.adaptive_input: padding is {PAD} there, as in fairseq's "
                    f"dictionaries, and {self.pad} in this vocabulary")
        self._check_softmax(cfg.output_dim, cfg.adaptive_softmax_factor)

    @property
    def _input_ends(self) -> tuple[int, ...] | None:
        """Ends of the bands of the adaptive input (None: an ordinary embedding)."""
        cutoff = self.config.adaptive_input_cutoff
        if not self.config.adaptive_input or cutoff is None:
            return None
        return band_ends(cutoff, self.source_vocab_size, key="adaptive_input_cutoff")

    @property
    def _ends(self) -> dict[str, Any]:
        """What a `DecoderEnds` is told of its ends."""
        return dict(
            vocab_size=self.source_vocab_size, output_size=self._own_output(),
            output_ends=self._output_ends, input_ends=self._input_ends, pad=self.pad)

    @property
    def _ties_output(self) -> bool:
        return self.config.share_decoder_input_output_embed

    def init(self, rng: jax.Array) -> Params:
        dummy = jnp.full((1, 1), self.eos, jnp.int32)
        return self._module.init({"params": rng}, dummy)["params"]

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """See `protocol`."""
        del encoded  # there is no source
        hidden: Any = self._apply(params, rng, 1, prev_output_tokens, segments, method="decode")
        return self._features(params, hidden, rng)

    def _table(self, params: Params) -> Any:
        embedding = params["decoder"]["embed_tokens"]
        if self._input_ends is None:
            return embedding["embedding"]
        return adaptive.input_table(embedding, self._input_ends)
