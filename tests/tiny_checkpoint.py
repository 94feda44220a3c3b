"""A work folder with one checkpoint of an untrained tiny model: quick to make, real to load."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from tiny_run import raw_config, resolve

from seqjax import checkpoints, models, tasks
from seqjax import config as configuration
from seqjax.config import Config
from seqjax.training import optimizers, state
from seqjax.training.checkpoints import Checkpoints


def write_checkpoint(
    workdir: pathlib.Path, data: pathlib.Path, *, seed: int = 0, **sections: Any
) -> pathlib.Path:
    """Saves a model for the data folder `data`, its configuration changed by `sections`; gives the
    work folder."""

    def sharper(params: Any) -> Any:
        # Random output layers are so flat that ties decide; sharper ones make a fair test.
        params["decoder"]["output_projection"]["kernel"] *= 8
        return params

    return write_untrained(workdir, resolve(raw_config(data, **sections)), seed=seed,
                           changed=sharper)


def write_untrained(
    workdir: pathlib.Path, config: Config, *, seed: int = 0, scale: float = 1.0,
    changed: Callable[[Any], Any] | None = None,
) -> pathlib.Path:
    """Saves a model of a resolved configuration, its parameters multiplied by `scale` and then
    `changed`; gives the work folder."""
    task = tasks.setup(config)
    model = models.build(config.model, **task.vocab_sizes, compute_dtype=jnp.float32)
    params = jax.tree.map(lambda x: scale * x, jax.jit(model.init)(jax.random.key(seed)))
    params = changed(params) if changed else params
    plain = {**configuration.to_plain(config), "task": configuration.to_plain(task.config)}
    with Checkpoints(workdir, config.checkpoint) as store:
        store.save(
            state.new_state(params, optimizers.make_optimizer(config.optimizer)),
            checkpoints.Record(step=1, data={"epoch": 1, "batch": 0}),
            config=plain, assets=task.assets(),
        )
    return workdir


def write_language_model(
    workdir: pathlib.Path, dictionary: pathlib.Path, *, positions: int = 64
) -> pathlib.Path:
    """An untrained language model with this dictionary; its data folder is beside it."""
    data = workdir.with_name(workdir.name + "-data")
    data.mkdir(exist_ok=True)
    shutil.copy(dictionary, data / "dict.txt")
    config = resolve({
        "task": {"name": "language_modeling", "data": str(data)},
        "model": {"name": "transformer_lm", "decoder_embed_dim": 8, "decoder_ffn_embed_dim": 8,
                  "decoder_layers": 1, "decoder_attention_heads": 2,
                  "max_target_positions": positions}})
    return write_untrained(workdir, config, seed=7, scale=4.0)
