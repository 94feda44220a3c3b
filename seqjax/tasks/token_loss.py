"""The loss of predicted tokens: which one a configuration means, and whether it can be.

What translation and language modelling share. It knows models by their protocol.
"""

from __future__ import annotations

from typing import Any

import jax

from seqjax.config import Config, ConfigError
from seqjax.losses.adaptive import AdaptiveLossConfig, adaptive_loss
from seqjax.losses.base import LossOutput
from seqjax.losses.cross_entropy import cross_entropy
from seqjax.models.protocol import Features


def check(config: Config) -> None:
    """Refuses an adaptive loss of a model without an adaptive softmax.

    Raises:
      ConfigError: naming both keys.
    """
    cutoffs = getattr(config.model, "adaptive_softmax_cutoff", None)
    if isinstance(config.loss, AdaptiveLossConfig) and cutoffs is None:
        raise ConfigError(
            "config.loss.name: adaptive_loss is for a model with adaptive_softmax_cutoff; "
            "set that, or loss.name=cross_entropy"
        )


def token_loss(
    features: Features, target: jax.Array, *, config: Any, pad: int,
    positions: jax.Array | None = None, sentences: jax.Array | None = None,
) -> LossOutput:
    """The loss that `config` names, of decoder states.

    Args:
      target: [B, T]; `pad` is not scored.
      positions: [B, T] of packed rows, each token's in its sentence.
      sentences: float32 scalar, their number (default: rows that hold a token).
    """
    if isinstance(config, AdaptiveLossConfig):
        return adaptive_loss(
            features.hidden, features.projection, target, config=config, pad=pad,
            sentences=sentences,
        )
    return cross_entropy(
        features.hidden, features.projection, features.project, target, config=config, pad=pad,
        positions=positions, sentences=sentences,
    )
