"""fairseq's speech-to-text transformers, as the rest of the project sees them: features of audio
and parameters in, states of whole sequences or of single steps out (`protocol.EncoderDecoder`)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from seqjax.models.parts.module_model import ModuleEncoderDecoder
from seqjax.models.protocol import Encoded, Extra, Params, Source
from seqjax.models.s2t_transformer.config import S2TConformerConfig, SpeechConfig
from seqjax.models.s2t_transformer.conformer import RUNNING
from seqjax.models.s2t_transformer.modules import SpeechToText
from seqjax.models.transformer import decoding


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechToTextModel(ModuleEncoderDecoder):
    """`protocol.EncoderDecoder` that reads frames of features."""

    config: SpeechConfig
    any_special_ids: ClassVar[bool] = True
    _decoding: ClassVar[Any] = decoding

    def __post_init__(self) -> None:
        cfg = self.config
        if cfg.ties_output and cfg.input_dim != cfg.output_dim:
            raise ValueError(
                "config.model: a shared output projection needs decoder_output_dim "
                f"({cfg.output_dim}) equal to the embedding's width ({cfg.input_dim})")
        self._check_softmax(cfg.output_dim, cfg.adaptive_softmax_factor)

    @functools.cached_property
    def _module(self) -> SpeechToText:  # type: ignore[override]
        return SpeechToText(
            self.config, self.target_vocab_size, self._own_output(), self._output_ends,
            self.compute_dtype, self.pad)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """See `protocol.FrameReader`."""
        return (self.config.frame_width,)

    @property
    def least_frames(self) -> int:
        """See `protocol.FrameReader`."""
        return 1

    def init(self, rng: jax.Array) -> Params:
        """See `protocol`."""
        source = Source(values=jnp.zeros((1, 4, *self.frame_shape)), mask=jnp.ones((1, 4), bool))
        tokens = jnp.full((1, 1), self.eos, jnp.int32)
        return self._module.init({"params": rng}, source, tokens)["params"]

    def encode(
        self, params: Params, source: Source, *, rng: jax.Array | None = None,
        update: jax.Array | int | None = None,
    ) -> Encoded:
        """States of fewer frames than the source has, and which of them are real.

        Args:
          source: features [B, S, F], padding behind them.
          update: updates done so far, for `encoder_freezing_updates` (None: it is trained).
        """
        if source.values.ndim != 3 or source.values.shape[2:] != self.frame_shape:
            raise ValueError(
                f"features {list(source.values.shape)} are not [B, S, {self.frame_shape[0]}], "
                "what config.model.input_feat_per_channel and input_channels say")
        encoded = self._apply(params, rng, 0, source, method="encode")
        frozen = self.config.encoder_freezing_updates
        if update is None or not frozen:
            return encoded
        out = jnp.where(
            update < frozen, jax.lax.stop_gradient(encoded.out), encoded.out)
        return encoded.replace(out=out)

    def settled(
        self, params: Params, extra: Extra, *, before: Params, update: jax.Array
    ) -> Params:
        """See `protocol.Settling`: an encoder that is not trained yet stays as it is."""
        frozen = self.config.encoder_freezing_updates
        if frozen:
            kept = jax.tree.map(lambda new, old: jnp.where(update < frozen, old, new),
                                params["encoder"], before["encoder"])
            if "ctc_proj" in kept:  # behind the encoder, which alone is frozen
                kept["ctc_proj"] = params["encoder"]["ctc_proj"]
            params = {**params, "encoder": kept}
        return over(params, extra)

    def ctc_logits(self, params: Params, encoded: Encoded) -> jax.Array:
        """Float32 [B, T, V] of every frame of what `encode` gave; the blank is word 0.

        Raises:
          ValueError: the model has no such projection.
        """
        if not self.config.ctc_weight > 0:
            raise ValueError("config.model.ctc_weight: 0, so that there is no CTC projection")
        logits: Any = self._module.apply({"params": params}, encoded.out, method="ctc_logits")
        return logits

    def encoder_states(self, params: Params, source: Source) -> jax.Array:
        """See `protocol.Layered`."""
        return self._apply(params, None, 0, source, method="encoder_states")

    def decoder_states(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None,
    ) -> jax.Array:
        """See `protocol.LayeredStepper`."""
        return self._apply(
            params, None, 1, prev_output_tokens, encoded, segments, method="decoder_states")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConformerModel(SpeechToTextModel):
    """`protocol.Stateful`: running statistics of its batch norms are among the parameters, where
    every micro-batch of training changes them (`advanced`), and no gradient."""

    config: S2TConformerConfig

    def init_extra(self, params: Params) -> Extra:
        """See `protocol.Stateful`: what no gradient reaches, as part of the parameters' tree."""
        layers = params["encoder"]["layers"]
        kept = {"conv_module": {"batch_norm": {
            name: layers["conv_module"]["batch_norm"][name] for name in RUNNING}}}
        if self.config.rotates:
            kept["self_attn"] = {"rotary_emb": layers["self_attn"]["rotary_emb"]}
        return {"encoder": {"layers": kept}}

    def advanced(self, extra: Extra, encoded: Encoded) -> Extra:
        """`extra` after a batch that `encode` was given with a key; without, as it was."""
        if encoded.state is None:
            return extra
        running = extra["encoder"]["layers"]["conv_module"]["batch_norm"]
        new = {"conv_module": {"batch_norm": encoded.state.into(running)}}
        return over(extra, {"encoder": {"layers": new}})


def over(tree: Any, other: Any) -> Any:
    """A tree with the leaves that another one has in their place."""
    if not isinstance(other, dict):
        return other
    return {key: over(value, other[key]) if key in other else value
            for key, value in tree.items()}
