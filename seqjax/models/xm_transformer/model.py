"""fairseq's `xm_transformer`, as the rest of the project sees it: waveforms and parameters in,
states of whole sequences or of single steps out (`protocol.EncoderDecoder`)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.models.parts import masking
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_config import frame_count, receptive_field
from seqjax.models.parts.bert_init import bert_init
from seqjax.models.parts.module_model import ModuleEncoderDecoder
from seqjax.models.protocol import Cache, Encoded, Extra, Features, Params, Source, Weights
from seqjax.models.transformer import decoding
from seqjax.models.xm_transformer.config import XMTransformerConfig
from seqjax.models.xm_transformer.modules import XMTransformer
from seqjax.models.xm_transformer.training import gated, kept, trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class XMTransformerModel(ModuleEncoderDecoder):
    """`protocol.EncoderDecoder` that reads samples."""

    config: XMTransformerConfig
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
    def _module(self) -> XMTransformer:  # type: ignore[override]
        return XMTransformer(
            self.config, self.target_vocab_size, self._own_output(), self._output_ends,
            self.compute_dtype, self.pad)

    @property
    def max_source_positions(self) -> int:
        """Longest source, in samples."""
        layers = self.config.conv_layers
        hop = int(np.prod([layer.stride for layer in layers]))
        return receptive_field(layers) + hop * (self.config.max_source_positions - 1) + hop - 1

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """See `protocol.FrameReader`."""
        return ()

    @property
    def least_frames(self) -> int:
        """See `protocol.FrameReader`."""
        return receptive_field(self.config.conv_layers)

    def init(self, rng: jax.Array) -> Params:
        """See `protocol`."""
        own, layers = jax.random.split(rng)
        samples = jnp.zeros((1, 2 * self.least_frames), jnp.float32)
        tokens = jnp.full((1, 1), self.eos, jnp.int32)
        params = self._module.init({"params": own}, samples, tokens)["params"]
        encoder = params["encoder"]["w2v_encoder"]["w2v_model"]["encoder"]
        encoder["layers"] = bert_init(encoder["layers"], layers, pad=self.pad)
        return params

    def encode(
        self, params: Params, source: Source, *, drawn: Drawn | None = None,
        rng: jax.Array | None = None, update: jax.Array | int | None = None,
    ) -> Encoded:
        """States of few frames, and which of them are real.

        Args:
          source: waveforms [B, N], padding behind the samples.
          drawn: frames and channels to mask (None: none).
          update: updates done so far, for what is not trained yet (None: an evaluation).
        """
        if source.values.ndim != 2 or source.values.shape[1] < self.least_frames:
            raise ValueError(
                f"waveforms {list(source.values.shape)} are not [B, N] with at least "
                f"{self.least_frames} samples, of which the first frame is made")
        if update is not None:
            params = gated(params, trained(self.config, params, update))
        return self._apply(
            params, rng, 0, source.values, source.mask, drawn or Drawn(), update,
            source.isolated, method="encode")

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """See `protocol`."""
        params = gated(params, trained(self.config, params, 0))
        return super().features(
            params, prev_output_tokens, encoded, segments=segments, rng=rng)

    def settled(
        self, params: Params, extra: Extra, *, before: Params, update: jax.Array
    ) -> Params:
        """See `protocol.Settling`: what is not trained stays as it is."""
        del extra
        return kept(params, before, trained(self.config, params, update))

    def draw(self, lengths: np.ndarray, rng: np.random.Generator, *, samples: int) -> Drawn:
        """The masks of a batch of training, by the configuration's keys; on the host. None
        without `apply_mask`.

        Args:
          lengths: [B] samples of each row; a row without a frame has no mask.
          samples: N, of the batch.

        Raises:
          ValueError: a row so short that nothing would be left of it.
        """
        cfg = self.config
        if not cfg.apply_mask:
            return Drawn()
        sizes = frame_count(np.asarray(lengths), cfg.conv_layers).tolist()
        mask = channels = None
        if cfg.mask_prob > 0:
            mask = masking.draw_mask(
                masking.frame_spans(cfg), sizes, frame_count(samples, cfg.conv_layers), rng,
                same=cfg.require_same_masks, share_kept=cfg.mask_dropout)
        if cfg.mask_channel_prob > 0:
            width = cfg.encoder_embed_dim
            channels = masking.draw_mask(
                masking.channel_spans(cfg), [width] * len(sizes), width, rng)
        return Drawn(mask=mask, channels=channels)

    def decoder_states(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None,
    ) -> jax.Array:
        """See `protocol.LayeredStepper`."""
        return self._apply(
            params, None, 1, prev_output_tokens, encoded, segments, method="decoder_states")

    # Single steps are a transformer's, by the section of the decoder alone.

    def prepare(self, params: Params) -> Weights:
        return decoding.prepare(
            self.config.decoder_section, params["decoder"], dtype=self.compute_dtype,
            table=self._table(params), projection=self._projection(params), pad=self.pad)

    def start(
        self, weights: Weights, encoded: Encoded | None, *, rows: int, beam: int, capacity: int,
    ) -> Cache:
        return decoding.start(
            self.config.decoder_section, weights, encoded, rows=rows, beam=beam,
            capacity=capacity)

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        return decoding.step(
            self.config.decoder_section, weights, tokens, cache, position=position,
            ancestors=ancestors)
