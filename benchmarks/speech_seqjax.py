"""seqjax's side of the comparisons of models of waveforms (runs in a worker of its own): folders of
Hugging Face's, loaded, trained and used as people do."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqjax
from benchmarks.speech_work import RATE, clips
from seqjax import config as configs
from seqjax import models
from seqjax.interop.huggingface.model import read_model
from seqjax.losses.wav2vec_config import Wav2VecConfig
from seqjax.models.parts import audio, extractor
from seqjax.settings import resolve
from seqjax.tasks.audio_pretraining import AudioPretrainingConfig, AudioPretrainingTask
from seqjax.training import (
    host_memory,
    objective,
    optimizers,
    schedules,
    state,
    train_step,
)


class Pretraining:
    """A wav2vec 2.0 in pretraining, by the task's forward pass, its loss and the train step."""

    def __init__(self, *, folder: str, rows: int, seconds: float):
        host_memory.keep_freed()  # as `python -m seqjax.train` does
        found = read_model(folder)
        self.model: Any = models.build(
            resolve(found.config).model, source_vocab_size=0, target_vocab_size=0,
            compute_dtype=jnp.float32)
        self.params = jax.tree.map(jnp.asarray, found.params)
        samples, self.seconds = int(seconds * RATE), rows * seconds
        lengths = np.full(rows, samples, np.int32)
        self.batch = {
            "source": np.stack(clips(lengths, seed=2)), "source_lengths": lengths,
            **self.model.draw_rows(lengths, np.arange(rows)[:, None], samples=samples)}
        self.optimizer = optimizers.make_optimizer(configs.OptimizerConfig())
        task: Any = AudioPretrainingTask(config=AudioPretrainingConfig(), seed=1)
        self.loss = objective.loss_function(
            task, self.model, Wav2VecConfig(loss_weights=(0.1, 10.0)))
        self.update = self._made(self.loss)
        self.state = self._fresh()

    def _made(self, loss: Any) -> Any:
        schedule = schedules.make_schedule(
            configs.ScheduleConfig(name="fixed", warmup_updates=0), lr=(5e-4,))
        return jax.jit(train_step.make_train_step(loss, self.optimizer, schedule, seed=1),
                       donate_argnums=0)

    def _fresh(self) -> state.TrainState:
        return state.new_state(jax.tree.map(jnp.array, self.params), self.optimizer)

    def drawn(self) -> dict[str, Any]:
        """What `speech_torch.Pretraining.take` takes."""
        drawn = self.model.drawn_of({k: jnp.asarray(v) for k, v in self.batch.items()})
        rows, per_frame = len(drawn.mask), self.model.config.negatives
        at, masked = audio.masked_positions(drawn.mask, drawn.negatives.shape[1] // per_frame)
        arrays = {"at": at, "masked": masked, "mask": drawn.mask,
                  "negatives": drawn.negatives.reshape(rows, -1, per_frame)}
        return {name: np.asarray(value).tolist() for name, value in arrays.items()}

    def _step(self, update: Any, state: Any) -> tuple[Any, float]:
        state, metrics = update(state, {k: v[None] for k, v in self.batch.items()}, 1)
        total, weight = metrics["loss"]
        return state, float(total) / float(weight)

    def losses(self, *, steps: int) -> dict[str, Any]:
        """Of updates without Gumbel noise, from the weights that the other side has."""
        update = self._made(lambda params, extra, batch, rng, n: self.loss(
            params, extra, batch, None, n))
        fresh, found = self._fresh(), []
        for _ in range(steps):
            fresh, loss = self._step(update, fresh)
            found.append(loss)
        return {"losses": found}

    def step(self, *, times: int) -> dict[str, Any]:
        """Whole updates; work is seconds of sound."""
        for _ in range(times):
            self.state, _ = self._step(self.update, self.state)
        return {"work": times * self.seconds}

    def front(self, *, times: int, full: bool = False) -> dict[str, Any]:
        """The convolutions over samples, forward and backward."""
        if not hasattr(self, "front_gradient"):
            cfg = self.model.config
            module = extractor.FeatureExtractor(cfg.conv_layers, cfg.extractor_mode, cfg.conv_bias)

            def total(params: Any, samples: jax.Array) -> jax.Array:
                found: Any = module.apply({"params": params}, samples)
                return jnp.square(found).sum()

            self.front_gradient = jax.jit(jax.value_and_grad(total))
        params, grads = self.params["feature_extractor"], None
        for _ in range(times):
            _, grads = jax.block_until_ready(self.front_gradient(params, self.batch["source"]))
        assert grads is not None
        kernels = [grads[f"conv_layers_{i}_0"]["kernel"] for i in range(7)]
        return {"work": times * self.seconds} | (
            {"shown": [_norm(g) for g in kernels]} if full else {})

    def positions(self, *, times: int, full: bool = False) -> dict[str, Any]:
        """The positional convolution, backward alone."""
        if not hasattr(self, "pull"):
            cfg = self.model.config
            module = audio.PositionalConvolution(
                cfg.encoder_embed_dim, cfg.conv_pos, cfg.conv_pos_groups)
            shape = (*self.batch["drawn_mask"].shape, cfg.encoder_embed_dim)
            x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
            forward = jax.jit(lambda params, x: jax.vjp(
                lambda params, x: module.apply({"params": params}, x), params, x)[1])
            self.pull = forward(self.params["encoder"]["pos_conv"], x)
            self.back = jax.jit(lambda pull, dy: pull(dy))
            self.dy = jnp.asarray(x[::-1])
        found: Any = None
        for _ in range(times):
            found = jax.block_until_ready(self.back(self.pull, self.dy))
        return {"work": times * self.seconds} | (
            {"shown": sorted(_norm(g) for g in jax.tree.leaves(found))}
            if full else {})


def _norm(gradient: jax.Array) -> float:
    return float(np.linalg.norm(np.asarray(gradient, np.float64)))


class Transcription:
    """`seqjax.load(FOLDER).transcribe(PATHS)`."""

    def __init__(self, *, folder: str):
        self.model: Any = seqjax.load(folder, quiet=True)
        self.paths = sorted(str(path) for path in pathlib.Path(folder).glob("*.wav"))

    def transcribe(self, *, first: int, last: int, full: bool = False) -> dict[str, Any]:
        """Some of the recordings; work is seconds of sound."""
        paths, seconds = self.paths[first:last], 0.0
        texts = self.model.transcribe(paths)
        for path in paths:
            seconds += float(path.rsplit("-", 1)[1].removesuffix(".wav")) / RATE
        return {"work": seconds} | ({"texts": texts} if full else {})
