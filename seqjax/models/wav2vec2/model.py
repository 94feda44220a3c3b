"""wav2vec 2.0 as the rest of the project sees it: waveforms to states, and pretraining.

`Wav2Vec2Model` is a `protocol.Encoder`; `pretrain` gives what the contrastive loss reads.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from seqjax.models.parts import masking
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_config import frame_count, receptive_field
from seqjax.models.parts.bert_init import bert_init
from seqjax.models.protocol import Encoded, Params, Source
from seqjax.models.wav2vec2.config import Wav2Vec2Config
from seqjax.models.wav2vec2.modules import Wav2Vec2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wav2Vec2Model:
    """`protocol.Encoder` for fairseq's `wav2vec2`."""

    config: Wav2Vec2Config
    compute_dtype: DTypeLike = jnp.float32
    """Type of matrix products and activations; norms, softmaxes and cosines are float32."""
    source_vocab_size: int = 0
    target_vocab_size: int = 0
    """There are no words."""
    pad: int = 0
    """What padding is filled with; `Source.mask` says where it is."""

    @property
    def _module(self) -> Wav2Vec2:
        return Wav2Vec2(self.config, self.compute_dtype)

    @property
    def max_source_positions(self) -> int:
        """Longest row, in frames."""
        return self.config.max_positions

    def frames(self, samples: int) -> int:
        """T, of a batch of rows of `samples`."""
        found = frame_count(samples, self.config.conv_layers)
        return found - found % self.config.crop_seq_to_multiple

    def real_frames(self, lengths: np.ndarray, *, samples: int) -> np.ndarray:
        """[B] frames that `encode` marks as real in rows of `lengths` [B] samples, padded to
        `samples`; 0 in a row that is too short for one."""
        found = frame_count(np.asarray(lengths), self.config.conv_layers)
        return np.minimum(found, self.frames(samples))

    def init(self, rng: jax.Array) -> Params:
        """Fresh float32 parameters, with fairseq's initialisation."""
        own, layers = jax.random.split(rng)
        long = receptive_field(self.config.conv_layers) * 2 * self.config.crop_seq_to_multiple
        samples = jnp.zeros((1, long), jnp.float32)
        params = self._module.init({"params": own}, samples)["params"]
        encoder = params["encoder"]
        encoder["layers"] = bert_init(encoder["layers"], layers, pad=self.pad)
        return params

    def encode(
        self, params: Params, source: Source, *, drawn: Drawn | None = None,
        rng: jax.Array | None = None, update: jax.Array | int | None = None,
    ) -> Encoded:
        """The last layer's states.

        Args:
          source: waveforms [B, N] and their mask, padding behind the samples.
          drawn: frames and channels to mask (None: none).
          rng: for dropout and, of quantized inputs, Gumbel noise (None: neither).
          update: updates done so far, for the temperature of that noise.

        Returns:
          States [B, T, D] and which of them are of real frames; a row too short for a frame
          has none.
        """
        self._check(source, drawn)
        found = self._apply(params, source, drawn or Drawn(), rng, update, method="states")
        return Encoded(out=found["x"], mask=found["real"])

    def pretrain(
        self, params: Params, source: Source, drawn: Drawn, *,
        rng: jax.Array | None = None, update: jax.Array | int | None = None,
    ) -> dict[str, jax.Array]:
        """What the loss `wav2vec` reads, of M masked frames of each row; M is said by the shape
        of `drawn.negatives`.

        Returns:
          logits: float32 [B, M, 1 + K], the true target's in front; -inf for negatives that
            are the same as it.
          masked: [B, M] bool, false where a row has fewer masked frames.
          real: [B, T] bool, frames that are no padding.
          features_pen: mean square of the features.
          prob_perplexity, code_perplexity, num_vars, temp: of the targets' quantizer, or the
            inputs', if there is one.
        """
        self._check(source, drawn)
        self._check_negatives(drawn)
        return self._apply(params, source, drawn, rng, update, method="pretrain")

    def draw(
        self, lengths: np.ndarray, rng: np.random.Generator, *, samples: int,
        count: int | None = None,
    ) -> Drawn:
        """What pretraining needs for a batch, by the configuration's keys; on the host.

        Args:
          lengths: [B] samples of each row; a row without a frame has no mask.
          samples: N, of the batch.
          count: M, masked frames that are compared (None: as many as a row has that has most).
            In a row that has more, some are left as they are.

        Returns:
          numpy arrays.

        Raises:
          ValueError: a row so short that nothing would be left of it.
        """
        cfg, frames = self.config, self.frames(samples)
        sizes = self.real_frames(lengths, samples=samples).tolist()
        mask = masking.draw_mask(
            masking.frame_spans(cfg), sizes, frames, rng, same=cfg.require_same_masks,
            share_kept=cfg.mask_dropout)
        count = int(mask.sum(axis=1).max()) if count is None else count
        masking.thin_out(mask, count, rng)
        at = [np.flatnonzero(row) for row in mask]
        if cfg.negatives_from_everywhere:
            own = [row * frames + found for row, found in enumerate(at)]
            candidates = [row * frames + np.arange(size) for row, size in enumerate(sizes)]
        else:
            own = [row * count + np.arange(len(found)) for row, found in enumerate(at)]
            candidates = own
        negatives = masking.draw_negatives(
            candidates, own, count, rng, same_row=cfg.num_negatives,
            any_row=cfg.cross_sample_negatives)
        channels, codes, width = None, None, cfg.encoder_embed_dim
        if cfg.mask_channel_prob > 0:
            channels = masking.draw_mask(
                masking.channel_spans(cfg), [width] * len(sizes), width, rng)
        if cfg.codebook_negatives:
            entries = cfg.latent_vars**cfg.latent_groups
            codes = rng.integers(
                0, entries, (len(sizes), count, cfg.codebook_negatives), np.int32)
        return Drawn(mask=mask, negatives=negatives, channels=channels, codebook_negatives=codes)

    def _apply(
        self, params: Params, source: Source, drawn: Drawn, rng: jax.Array | None,
        update: jax.Array | int | None, *, method: str,
    ) -> Any:
        rngs = None
        if rng is not None:
            rngs = {name: jax.random.fold_in(rng, i) for i, name in enumerate((
                "dropout", "gumbel"))}
        return self._module.apply(
            {"params": params}, source.values, source.mask, drawn, update, rngs=rngs,
            method=method)

    def _check(self, source: Source, drawn: Drawn | None) -> None:
        """Raises ValueError for shapes that do not fit one another."""
        cfg, (rows, samples) = self.config, source.values.shape
        frames = self.frames(samples)
        if frames < 1:
            raise ValueError(
                f"a batch of {samples} samples has no frame; this model's first needs "
                f"{receptive_field(cfg.conv_layers)} (crop_seq_to_multiple "
                f"{cfg.crop_seq_to_multiple})")
        if frames > cfg.max_positions:
            raise ValueError(
                f"{samples} samples are {frames} frames, over config.model.max_positions "
                f"{cfg.max_positions}")
        if drawn is None:
            return
        for name, width in (("mask", frames), ("channels", cfg.encoder_embed_dim)):
            array = getattr(drawn, name)
            if array is not None and array.shape != (rows, width):
                raise ValueError(
                    f"{name} {list(array.shape)} is not [{rows}, {width}], for {samples} samples")

    def _check_negatives(self, drawn: Drawn) -> None:
        cfg = self.config
        if not cfg.negatives:
            raise ValueError(
                "pretraining needs negatives: set config.model.num_negatives or "
                "cross_sample_negatives")
        if drawn.mask is None or drawn.negatives is None:
            raise ValueError("pretraining needs masked frames and their negatives")
        rows, width = drawn.negatives.shape
        count, frames = width // cfg.negatives, drawn.mask.shape[1]
        if rows != drawn.mask.shape[0] or width % cfg.negatives or not 0 < count <= frames:
            raise ValueError(
                f"negatives [{rows}, {width}] are not {cfg.negatives} for each of up to {frames} "
                f"masked frames of {drawn.mask.shape[0]} rows")
        wanted = (rows, count, cfg.codebook_negatives)
        if cfg.codebook_negatives and (
                drawn.codebook_negatives is None or drawn.codebook_negatives.shape != wanted):
            raise ValueError(f"pretraining needs codebook_negatives {list(wanted)}")

