"""What goes wrong in an update, explained: the device out of memory, a gradient not finite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

from seqjax.config import Config, ConfigError
from seqjax.data.pipeline import Batch
from seqjax.training.metrics import Sums


class TrainingError(ConfigError):
    """Training cannot go on; the message says why and what to try."""


@contextlib.contextmanager
def out_of_memory_explained(config: Config) -> Iterator[None]:
    """Says of a program that needs more memory than the device has which keys to change.

    Raises:
      TrainingError: instead of JAX's error.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as e:
        if "RESOURCE_EXHAUSTED" not in str(e):
            raise
        first = str(e).splitlines()[0][:300]
        raise TrainingError(
            f"the device is out of memory ({first}); try a smaller config.batching.max_tokens "
            f"(it is {config.batching.max_tokens}) with a larger config.train.update_freq, "
            "config.model.remat=dots, or config.mesh.fsdp"
        ) from e


def skipped_update(config: Config, sums: Sums, batch: Batch) -> str:
    """A warning about an update whose gradient was not finite; "" if it was.

    Args:
      sums: metrics of the update, on the host.
      batch: the update's.

    Raises:
      TrainingError: more than `train.nan_patience` of them came in a row.
    """
    skipped = int(sums["skipped"][0])
    if not skipped:
        return ""
    ids = batch.ids[batch.ids >= 0].tolist()
    few = f"{ids[:16]}" + (f" and {len(ids) - 16} more" if len(ids) > 16 else "")
    text = (f"epoch {batch.epoch}, update {batch.step + 1} of it: the gradient is not finite "
            f"(norm {float(sums['gnorm'][0])}); the update was skipped. Training sentences {few}")
    if skipped > config.train.nan_patience:
        raise TrainingError(
            f"{text}\n{skipped} in a row is more than train.nan_patience="
            f"{config.train.nan_patience}: lower train.lr, set train.clip_norm, or look at these "
            "sentences; the last checkpoint is from before"
        )
    return f"warning: {text}"
