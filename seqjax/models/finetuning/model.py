"""Models that say of every frame which symbol is heard, as the rest of the project sees them:
waveforms to states, states to scores of symbols.

`CtcModel` is what a `protocol.MaskedLanguageModel` is, over frames in place of words.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.models.finetuning.config import FinetuningConfig
from seqjax.models.finetuning.modules import Ctc
from seqjax.models.parts import masking
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_model import WaveformModel, with_statistics
from seqjax.models.parts.block_frames import block_frames
from seqjax.models.parts.layers import project
from seqjax.models.protocol import Encoded, Extra, Features, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetunedModel(WaveformModel):
    """What models have that begin with a pretrained encoder."""

    config: FinetuningConfig  # type: ignore[assignment]

    def real_frames(self, lengths: np.ndarray, *, samples: int) -> np.ndarray:
        """See `WaveformModel.real_frames`; by HuBERT's rule of models that were made of one."""
        if not self.config.blocks:
            return super().real_frames(lengths, samples=samples)
        return block_frames(np.asarray(lengths), self.frames(samples), self.config.conv_layers)

    def draw(
        self, lengths: np.ndarray, rng: np.random.Generator, *, samples: int
    ) -> Drawn:
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
        sizes = self.real_frames(lengths, samples=samples).tolist()
        mask = None
        if cfg.mask_prob > 0:
            mask = masking.draw_mask(
                masking.frame_spans(cfg), sizes, self.frames(samples), rng,
                same=getattr(cfg, "require_same_masks", True),
                share_kept=getattr(cfg, "mask_dropout", 0.0))
        return Drawn(mask=mask, channels=self._channels(len(sizes), rng))

    def settled(
        self, params: Params, extra: Extra, *, before: Params, update: jax.Array
    ) -> Params:
        """See `protocol.Settling`: statistics of a batch norm stay as they are."""
        del extra, update
        return with_statistics(params, before)

    @property
    def _encoder_path(self) -> tuple[str, ...]:
        return ("w2v_encoder", "w2v_model")

    def _encoder_params(self, params: Params) -> Params:
        for part in self._encoder_path:
            params = params[part]
        return params

    def adopt(self, pretrained: Params, fresh: Params) -> Params:
        """Fresh parameters with an encoder's in their place; what it was pretrained with beside
        these is left out. Parameters of this model stay as they are."""
        found: Any = pretrained
        for part in self._encoder_path:
            found = found.get(part) if isinstance(found, dict) else None
        if found is not None:
            return pretrained

        def put(tree: Params, path: tuple[str, ...]) -> Params:
            if path:
                return {**tree, path[0]: put(tree[path[0]], path[1:])}
            return {name: pretrained[name] for name in tree}

        return put(fresh, self._encoder_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Projects states to scores of symbols, with what is added to the blank's; a function of
    arrays that jit can tell from others."""

    weight: float
    mode: str

    def __call__(self, projection: Any, hidden: jax.Array) -> jax.Array:
        """(kernel and bias, [..., D]) -> float32 [..., V]."""
        logits = project(projection, hidden).astype(jnp.float32)
        if self.weight == 0:
            return logits
        blank = logits[..., 0] + self.weight if self.mode == "add" else self.weight
        return logits.at[..., 0].set(blank)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CtcModel(FinetunedModel):
    """fairseq's `wav2vec_ctc` and `hubert_ctc`: an encoder, and a linear layer onto
    `target_vocab_size` symbols, of which number 0 is the blank."""

    @property
    def _module(self) -> nn.Module:
        return Ctc(self.config, self.config.blocks, self.target_vocab_size, self.compute_dtype)  # type: ignore[arg-type]

    def features(self, params: Params, encoded: Encoded) -> Features:
        """States [B, T, D] of every frame and how they become scores of symbols; which frames
        are real, `encoded.mask` says."""
        cfg: Any = self.config
        return Features(
            hidden=encoded.out, projection=params["w2v_encoder"]["proj"],
            project=Scores(weight=cfg.blank_weight, mode=cfg.blank_mode))


