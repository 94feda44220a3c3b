"""data2vec for waveforms as the rest of the project sees it: waveforms to states, and pretraining
by a teacher that is a moving average of the encoder.

`Data2VecAudioModel` is a `protocol.Encoder` and `protocol.Stateful`; `pretrain` gives what the
loss `model` reads.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.models.data2vec_audio.config import Data2VecAudioConfig
from seqjax.models.data2vec_audio.modules import Data2VecAudio
from seqjax.models.parts import masking
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_model import WaveformModel
from seqjax.models.protocol import Extra, Params, Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data2VecAudioModel(WaveformModel):
    """`protocol.Encoder` for fairseq's `data2vec_audio`."""

    config: Data2VecAudioConfig

    @property
    def _module(self) -> Data2VecAudio:
        return Data2VecAudio(self.config, self.compute_dtype)

    def init_extra(self, params: Params) -> Extra:
        """See `protocol.Stateful`: the teacher, and the update that it is of."""
        return {"encoder": jax.tree.map(jnp.asarray, params["encoder"]), "update": jnp.int32(0)}

    def pretrain(
        self, params: Params, extra: Extra, source: Source, drawn: Drawn, *,
        rng: jax.Array | None = None, update: jax.Array | int | None = None,
    ) -> tuple[dict[str, Any], Extra]:
        """What the loss `model` reads, and the state with the teacher of this update.

        Args:
          extra: as `init_extra` or the pass before gave it.
          drawn: with `mask` [B, T].
          update: updates done before: the teacher takes up the parameters that each of them left,
            once (None: it stays as it is).

        Returns:
          losses: {regression: the sum over masked frames}.
          sample_size: their number.
          target_var, pred_var: how much targets and predictions differ from frame to frame.
          ema_decay: of the teacher, times 1000.
          real: [B, T] bool, frames that are no padding.
        """
        self._check(source, drawn)
        if drawn.mask is None or not self.config.pretraining_heads:
            raise ValueError("pretraining needs masked frames and the projection behind the "
                             "encoder: config.model.mask_prob, pretraining_heads")
        teacher, decay = self._teacher(params, extra, update)
        found = self._run(
            params, source, drawn, teacher["encoder"], rng=rng, update=update,
            method="pretrain")
        return {**found, "ema_decay": decay * 1000}, teacher

    def _teacher(
        self, params: Params, extra: Extra, update: jax.Array | int | None
    ) -> tuple[Extra, jax.Array]:
        """The state at an update, and the decay there."""
        now = extra["update"] if update is None else jnp.asarray(update, jnp.int32)
        decay = self.decay(now)
        moved = now != extra["update"]

        def step(path: Any, old: jax.Array, new: jax.Array) -> jax.Array:
            own = self.config.ema_layers_only and path[0].key == "pos_conv"
            new = jax.lax.stop_gradient(new).astype(old.dtype)
            mixed = new if own else decay * old + (1 - decay) * new
            return jnp.where(moved, mixed, old)

        return {"encoder": jax.tree_util.tree_map_with_path(
            step, extra["encoder"], params["encoder"]), "update": now}, decay

    def decay(self, update: jax.Array) -> jax.Array:
        """Float32: how much of the teacher stays at an update."""
        cfg = self.config
        if cfg.ema_decay == cfg.ema_end_decay:
            return jnp.float32(cfg.ema_decay)
        left = 1 - update.astype(jnp.float32) / max(cfg.ema_anneal_end_step, 1)
        annealed = cfg.ema_end_decay - (cfg.ema_end_decay - cfg.ema_decay) * left
        return jnp.where(update >= cfg.ema_anneal_end_step, cfg.ema_end_decay, annealed)

    def draw(
        self, lengths: np.ndarray, rng: np.random.Generator, *, samples: int
    ) -> Drawn:
        """What pretraining needs for a batch, by the configuration's keys; on the host.

        Args:
          lengths: [B] samples of each row; a row without a frame has no mask.
          samples: N, of the batch.

        Returns:
          numpy arrays.

        Raises:
          ValueError: a row so short that nothing would be left of it.
        """
        cfg = self.config
        sizes = self.real_frames(lengths, samples=samples).tolist()
        spans = dataclasses.replace(masking.frame_spans(cfg), least=1)
        mask = masking.draw_mask(
            spans, sizes, self.frames(samples), rng, same=cfg.require_same_masks,
            share_kept=cfg.mask_dropout)
        return Drawn(mask=mask, channels=self._channels(len(sizes), rng))
