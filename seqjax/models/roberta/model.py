"""RoBERTa: from masked sentences to states of every token, and to the words behind the masks.

The encoder is the transformer's; of its own RoBERTa has the head for masked language modelling,
heads that classify sentences, and the way in which it begins.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.config import ConfigError
from seqjax.models.parts import heads
from seqjax.models.parts.bert_init import DEVIATION, bert_init
from seqjax.models.parts.initializers import fan_in_uniform
from seqjax.models.parts.layers import LayerNorm, Linear, activation
from seqjax.models.parts.module_model import PAD, SizedModel
from seqjax.models.parts.outputs import project_tied
from seqjax.models.protocol import Encoded, Features, Params, Source, token_source
from seqjax.models.roberta.config import RobertaConfig
from seqjax.models.transformer.modules import Encoder


class MaskedLMHead(nn.Module):
    """fairseq's `RobertaLMHead`, up to the projection onto the vocabulary."""

    dim: int
    vocab_size: int
    activation_fn: str
    tied: bool
    """The projection is the embedding."""
    dtype: DTypeLike
    eps: float
    """Of the norm."""

    def setup(self) -> None:
        self.dense = Linear(self.dim, self.dim, dtype=self.dtype)
        self.layer_norm = LayerNorm(self.dim, self.eps)
        if not self.tied:
            self.weight = self.param(
                "weight", fan_in_uniform(self.dim), (self.vocab_size, self.dim))
        self.bias = self.param("bias", nn.initializers.zeros_init(), (self.vocab_size,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """States [..., D] in front of the projection, from the encoder's."""
        return self.layer_norm(activation(self.activation_fn)(self.dense(x)))


class TypedEncoder(Encoder):
    """A transformer's encoder of tokens of several kinds: of a pair whose texts are told apart
    (`Source.second`), the second text's are of the second kind."""

    def setup(self) -> None:
        super().setup()
        cfg = cast(RobertaConfig, self.config)
        self.token_types = self.param(
            "token_types", nn.initializers.normal(DEVIATION),
            (cfg.token_types, cfg.encoder_embed_dim))

    def embedded(self, source: Source) -> jax.Array:
        first, cfg = self.token_types[0], cast(RobertaConfig, self.config)
        if source.second is None or not cfg.marks_pairs or cfg.token_types < 2:
            return super().embedded(source) + first
        return super().embedded(source) + jnp.where(
            source.second[..., None], self.token_types[1], first)


class RobertaEncoder(nn.Module):
    """fairseq's `RobertaEncoder`: a transformer's encoder with the head on top."""

    config: RobertaConfig
    vocab_size: int
    dtype: DTypeLike
    pad: int = PAD

    def setup(self) -> None:
        cfg = self.config
        encoder = TypedEncoder if cfg.token_types else Encoder
        self.sentence_encoder = encoder(cfg, self.dtype, self.vocab_size, pad=self.pad)
        if not cfg.masked_lm_head:
            return
        self.lm_head = MaskedLMHead(
            cfg.encoder_embed_dim, self.vocab_size, cfg.activation_fn,
            not cfg.untie_weights_roberta, self.dtype, cfg.layer_norm_eps)


class Roberta(nn.Module):
    """Parameters, and the way through the encoder and through the head."""

    config: RobertaConfig
    vocab_size: int
    dtype: DTypeLike = jnp.float32
    pad: int = PAD

    def setup(self) -> None:
        self.encoder = RobertaEncoder(self.config, self.vocab_size, self.dtype, self.pad)

    def encode(self, source: Source) -> Encoded:
        return self.encoder.sentence_encoder(source)

    def encoder_states(self, source: Source) -> jax.Array:
        return self.encoder.sentence_encoder.hidden_states(source)

    def head(self, states: jax.Array) -> jax.Array:
        return self.encoder.lm_head(states)

    def __call__(self, source: Source) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        states = self.encode(source).out
        return self.head(states) if self.config.masked_lm_head else states


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobertaModel(SizedModel):
    """`protocol.MaskedLanguageModel` and `protocol.SentenceClassifier` for fairseq's RoBERTa."""

    config: RobertaConfig
    any_special_ids: ClassVar[bool] = True
    shares_rows: ClassVar[bool] = True
    decodes_source: ClassVar[bool] = False

    @property
    def marks_pairs(self) -> bool:
        """Whether it tells the second text of a pair from the first."""
        return self.config.marks_pairs

    @functools.cached_property
    def _module(self) -> Roberta:
        return Roberta(self.config, self.source_vocab_size, self.compute_dtype, self.pad)

    @property
    def max_source_positions(self) -> int:
        return self.config.max_positions

    def init(self, rng: jax.Array) -> Params:
        """Begun as BERT is, but for an output layer of its own and heads, which torch begins."""
        source = token_source(jnp.full((1, 1), self.eos, jnp.int32), pad=self.pad)
        params = self._module.init({"params": rng}, source)["params"]
        params = bert_init(params, jax.random.fold_in(rng, 1), pad=self.pad)
        return heads.with_fresh_heads(
            params, self.config, jax.random.fold_in(rng, 2), width=self.config.encoder_embed_dim)

    def encode(
        self, params: Params, source: Source, *, rng: jax.Array | None = None,
    ) -> Encoded:
        """See `protocol`."""
        rngs = None if rng is None else {"dropout": rng}
        found: Any = self._module.apply({"params": params}, source, rngs=rngs, method="encode")
        return found

    def encoder_states(self, params: Params, source: Source) -> jax.Array:
        """See `protocol.Layered`."""
        found: Any = self._module.apply({"params": params}, source, method="encoder_states")
        return found

    def features(self, params: Params, encoded: Encoded) -> Features:
        """See `protocol`.

        Raises:
          ConfigError: there is no head for masked words.
        """
        if not self.config.masked_lm_head:
            raise ConfigError("this model has no head that predicts masked words (it was loaded "
                              "from weights without one: config.model.masked_lm_head)")
        hidden: Any = self._module.apply({"params": params}, encoded.out, method="head")
        encoder = params["encoder"]
        own = self.config.untie_weights_roberta
        table = encoder["lm_head"]["weight"] if own else (
            encoder["sentence_encoder"]["embed_tokens"]["embedding"])
        projection = {"table": table, "bias": encoder["lm_head"]["bias"]}
        return Features(hidden=hidden, projection=projection, project=project_tied)

    def class_logits(
        self, params: Params, head: str, source: Source, *, rng: jax.Array | None = None,
    ) -> jax.Array:
        """See `protocol`; of the state of the first token, `<s>`."""
        states = self.encode(params, source, rng=rng).out[:, 0]
        key = None if rng is None else jax.random.fold_in(rng, 2)
        return heads.logits(self.config, params, head, states, key)
