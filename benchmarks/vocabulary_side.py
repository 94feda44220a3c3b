"""A side of C15: one training step of a language model, its output layer taken in blocks or
whole (runs in a worker of its own)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import config as configs
from seqjax import models
from seqjax.losses.configs import CrossEntropyConfig
from seqjax.losses.cross_entropy import cross_entropy
from seqjax.training import optimizers, schedules, state, train_step

_EVERYTHING = 1 << 40
"""Elements of logits: more than there are."""


class Step:
    """Updates on random tokens.

    Args:
      vocabulary: V.
      dim: width of two layers, whose feed-forward network is four times wider.
      rows, length: of the one batch.
      plain: all logits exist at once.
    """

    def __init__(self, *, vocabulary: int, dim: int, rows: int, length: int, plain: bool):
        config = models.CONFIGS["transformer_lm"](
            decoder_embed_dim=dim, decoder_ffn_embed_dim=4 * dim, decoder_layers=2,
            decoder_attention_heads=8, share_decoder_input_output_embed=True, dropout=0.0)
        self.model = models.build(
            config, source_vocab_size=vocabulary, target_vocab_size=vocabulary,
            compute_dtype=jnp.float32)
        self.loss = CrossEntropyConfig(logits_budget=_EVERYTHING) if plain else CrossEntropyConfig()
        optimizer = optimizers.make_optimizer(configs.OptimizerConfig())
        schedule = schedules.make_schedule(
            configs.ScheduleConfig(name="fixed", warmup_updates=0), lr=(5e-4,))
        tokens = np.random.default_rng(5).integers(4, vocabulary, (1, rows, length + 1))
        self.batch = {"source": tokens[..., :-1].astype(np.int32),
                      "target": tokens[..., 1:].astype(np.int32)}
        self.state = state.new_state(jax.jit(self.model.init)(jax.random.key(1)), optimizer)
        step = train_step.make_train_step(self._loss, optimizer, schedule, seed=1)
        self.step: Any = jax.jit(step, donate_argnums=0).lower(
            self.state, self.batch, 1).compile()

    def _loss(self, params: Any, extra: Any, batch: Any, rng: Any, update: Any) -> Any:
        del update
        features = self.model.features(params, batch["source"], rng=rng)
        return cross_entropy(
            features.hidden, features.projection, features.project, batch["target"],
            config=self.loss, pad=self.model.pad), extra

    def memory(self) -> dict[str, int]:
        """Bytes that the step needs beside its arguments and results."""
        return {"temporary": self.step.memory_analysis().temp_size_in_bytes}

    def losses(self, *, count: int) -> dict[str, list[float]]:
        """Of this many updates."""
        found = []
        for _ in range(count):
            self.state, metrics = self.step(self.state, self.batch, 1)
            found.append(float(metrics["loss"][0]))
        return {"losses": found}

    def updates(self, *, count: int) -> dict[str, int]:
        for _ in range(count):
            self.state, _ = self.step(self.state, self.batch, 1)
        jax.block_until_ready(self.state)
        return {"work": count * self.batch["target"].size}
