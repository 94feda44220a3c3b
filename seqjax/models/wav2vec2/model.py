"""wav2vec 2.0 as the rest of the project sees it: waveforms to states, and pretraining.

`Wav2Vec2Model` is a `protocol.Encoder`; `pretrain` gives what the contrastive loss reads.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from seqjax.models.parts import masking
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_model import WaveformModel
from seqjax.models.protocol import Params, Source
from seqjax.models.wav2vec2.config import Wav2Vec2Config
from seqjax.models.wav2vec2.modules import Wav2Vec2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wav2Vec2Model(WaveformModel):
    """`protocol.Encoder` for fairseq's `wav2vec2`."""

    config: Wav2Vec2Config

    @property
    def _module(self) -> Wav2Vec2:
        return Wav2Vec2(self.config, self.compute_dtype)

    @property
    def _frame_multiple(self) -> int:
        return self.config.crop_seq_to_multiple

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
        return self._run(
            params, source, drawn, rng=rng, update=update, method="pretrain")

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
        channels, codes = self._channels(len(sizes), rng), None
        if cfg.codebook_negatives:
            entries = cfg.latent_vars**cfg.latent_groups
            codes = rng.integers(
                0, entries, (len(sizes), count, cfg.codebook_negatives), np.int32)
        return Drawn(mask=mask, negatives=negatives, channels=channels, codebook_negatives=codes)

    def _check_negatives(self, drawn: Drawn) -> None:
        cfg = self.config
        if not cfg.pretraining_heads:
            raise ValueError("config.model.pretraining_heads: False, but pretraining needs them")
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

