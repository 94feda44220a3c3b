"""HuBERT as the rest of the project sees it: waveforms to states, and pretraining.

`HubertModel` is a `protocol.Encoder`; `pretrain` gives what the loss `hubert` reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seqjax.models.hubert.config import HubertConfig
from seqjax.models.hubert.modules import Hubert
from seqjax.models.parts import masking
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_model import WaveformModel, with_statistics
from seqjax.models.parts.block_frames import block_frames
from seqjax.models.protocol import Extra, Params, Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubertModel(WaveformModel):
    """`protocol.Encoder` for fairseq's `hubert`; `target_vocab_size` is the number of classes of
    all lists of labels together (0: it was not made to be trained with labels)."""

    config: HubertConfig

    def __post_init__(self) -> None:
        sizes = self.config.label_classes
        if sizes and self.target_vocab_size not in (0, sum(sizes)):
            raise ValueError(
                f"config.model.label_classes: {sizes} are {sum(sizes)} classes, but the "
                f"dictionaries have {self.target_vocab_size}")

    @property
    def _module(self) -> Hubert:
        return Hubert(self.config, self.compute_dtype, classes=self.target_vocab_size)

    def real_frames(self, lengths: np.ndarray, *, samples: int) -> np.ndarray:
        """[B] frames that `encode` marks as real in rows of `lengths` [B] samples, by HuBERT's
        rule: those of which some sample is real where the longest row is cut evenly."""
        return block_frames(np.asarray(lengths), self.frames(samples), self.config.conv_layers)

    def settled(
        self, params: Params, extra: Extra, *, before: Params, update: jax.Array
    ) -> Params:
        """See `protocol.Settling`: statistics of a batch norm stay as they are."""
        del extra, update
        return with_statistics(params, before)

    def pretrain(
        self, params: Params, source: Source, drawn: Drawn, labels: Sequence[jax.Array], *,
        rng: jax.Array | None = None, update: jax.Array | int | None = None,
    ) -> dict[str, Any]:
        """What the loss `hubert` reads.

        Args:
          drawn: with `mask` [B, T], T the frames that have labels (`labelled_frames`).
          labels: of each list [B, L] int32, at `config.label_rate`; -1 where a row has none.

        Returns:
          logits: of each list float32 [B, T, 1 + V], of the frame's own class in front; -inf for
            classes that are the same as it.
          masked, unmasked: [B, T] bool, which frames with labels are masked or not; without
            those that the configuration skips.
          real: [B, T] bool, frames that are no padding.
          features_pen: mean square of the features.
        """
        frames = self.labelled_frames(source.values.shape[1], [x.shape[1] for x in labels])
        self._check(source, drawn, frames)
        self._check_labels(labels)
        if drawn.mask is None:
            raise ValueError("pretraining needs masked frames: set config.model.mask_prob")
        return self._run(
            params, source, drawn, tuple(labels), rng=rng, update=update, method="pretrain")

    def final_proj(self, params: Params, states: jax.Array) -> jax.Array:
        """`states` [..., D] as they are compared with classes, [..., final_dim].

        Raises:
          ValueError: there is no projection, or one for each of several lists.
        """
        if not self.config.pretraining_heads:
            raise ValueError("final_proj: these weights have none")
        if self.config.projections > 1:
            raise ValueError(
                f"final_proj: this model has {self.config.projections}, one for each list of "
                "labels")
        found: Any = self._module.apply({"params": params}, states, method="projected")
        return found

    def labelled_frames(self, samples: int, labels: Sequence[int]) -> int:
        """Frames that are compared, of a batch of rows of `samples` with so many labels of each
        list."""
        return self.config.labelled_frames(self.frames(samples), min(labels))

    def draw(
        self, lengths: np.ndarray, rng: np.random.Generator, *, samples: int,
        labels: Sequence[int],
    ) -> Drawn:
        """What pretraining needs for a batch, by the configuration's keys; on the host.

        Args:
          lengths: [B] samples of each row; a row without a frame has no mask.
          samples: N, of the batch.
          labels: L, of the batch, of each list.

        Returns:
          numpy arrays.

        Raises:
          ValueError: a row so short that nothing would be left of it.
        """
        cfg = self.config
        frames = self.labelled_frames(samples, labels)
        sizes = block_frames(np.asarray(lengths), frames, cfg.conv_layers).tolist()
        mask = masking.draw_mask(masking.frame_spans(cfg), sizes, frames, rng)
        return Drawn(mask=mask, channels=self._channels(len(sizes), rng))

    def _check_labels(self, labels: Sequence[jax.Array]) -> None:
        cfg = self.config
        if not cfg.pretraining_heads or not self.target_vocab_size:
            raise ValueError("pretraining needs classes of labels, of which this model has none "
                             "(config.model.pretraining_heads, target_vocab_size)")
        wanted = max(len(cfg.label_classes), 1)
        if len(labels) != wanted:
            raise ValueError(f"{len(labels)} lists of labels, but config.model.label_classes is "
                             f"{cfg.label_classes}")
