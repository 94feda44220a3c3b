"""A model that keeps more than parameters, its task and its loss, as a user would write them:
named in configurations as `stateful_toy:Model`, `stateful_toy:Task`, `stateful_toy:Loss`.

The model has an EMA teacher, updated once an update from the parameters as data2vec's is by
fairseq's `set_num_updates`, and the running mean of its states, updated once a micro-batch as
batch normalisation's is. The loss pulls its states towards the teacher's, more with every
update.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from toy_models import ToyModel

from seqjax.config import gives
from seqjax.losses import COUNTS, Metric
from seqjax.losses.base import LossOutput
from seqjax.models.protocol import Encoded, Features
from seqjax.tasks.translation import TranslationConfig, TranslationTask

MOMENTUM = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    name: str = "stateful_toy:Model"
    width: int = 8
    ema_decay: float = dataclasses.field(default=0.75, metadata=gives("teacher"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(ToyModel):
    """States of a target token: its predecessor's and the source's embeddings, less the mean.
    It does not decode as it is trained: no test asks for that."""

    Config = ModelConfig
    config: ModelConfig  # type: ignore[assignment]
    source_vocab_size: int
    target_vocab_size: int
    compute_dtype: object

    def init(self, rng):
        a, b, c = jax.random.split(rng, 3)
        size, width = (self.source_vocab_size, self.target_vocab_size), self.config.width
        return {"source": {"embedding": jax.random.normal(a, (size[0], width))},
                "target": {"embedding": jax.random.normal(b, (size[1], width))},
                "out": {"kernel": jax.random.normal(c, (width, size[1]))}}

    def init_extra(self, params):
        return {"teacher": params, "at": jnp.int32(-1), "mean": jnp.zeros(self.config.width)}

    def encode(self, params, source, *, rng=None, update=None):
        out = params["source"]["embedding"][source.values] * source.mask[..., None]
        return Encoded(out=out, mask=source.mask)

    def features(self, params, prev_output_tokens, encoded, *, segments=None, rng=None):
        states = params["target"]["embedding"][prev_output_tokens]
        states = jnp.tanh(states + encoded.out.mean(1, keepdims=True))
        if rng is not None:
            states = states * jax.random.bernoulli(rng, 0.9, states.shape) / 0.9
        return Features(hidden=states, projection=params["out"]["kernel"],
                        project=lambda kernel, hidden: hidden @ kernel)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig(TranslationConfig):
    name: str = "stateful_toy:Task"  # type: ignore[assignment]


class Task(TranslationTask):
    """Translation that hands the model's state on."""

    Config = TaskConfig

    def forward(self, model, params, batch, rng=None, update=None, extra=None):
        teacher, mean, at = extra["teacher"], extra["mean"], extra["at"]
        if rng is not None:
            new, decay = update != at, model.config.ema_decay
            teacher = jax.tree.map(
                lambda t, p: jnp.where(new, decay * t + (1 - decay) * p, t),
                teacher, jax.lax.stop_gradient(params))
            at = update
        taught = super().forward(model, teacher, batch)
        found = super().forward(model, params, batch, rng)
        states = found.features.hidden
        if rng is not None:
            real = (batch["target"] != model.pad)[..., None]
            now = jnp.sum(states * real, (0, 1)) / jnp.maximum(real.sum(), 1)
            mean = MOMENTUM * mean + (1 - MOMENTUM) * jax.lax.stop_gradient(now)
        return found.replace(
            features=found.features.replace(hidden=states - mean),
            aux={"states": states, "taught": taught.features.hidden},
            extra={"teacher": teacher, "at": at, "mean": mean})


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    name: str = "stateful_toy:Loss"
    pull_updates: int = 4
    """Updates until the pull towards the teacher is whole."""


class Loss:
    Config = LossConfig
    METRICS = {
        **COUNTS, "loss": Metric(base2=True, like_loss=True), "pull": Metric(format="{:.4f}"),
        "agreement": Metric(percent=True, maximize=True), "update": Metric(format="{:.0f}"),
    }
    NEEDS = frozenset({"teacher"})

    @staticmethod
    def compute(forward, batch, config, *, update):
        del batch
        features, target = forward.tokens()
        real = target != forward.pad
        lprobs = jax.nn.log_softmax(features.project(features.projection, features.hidden))
        nll = -jnp.take_along_axis(lprobs, target[..., None], -1)[..., 0]
        far = jnp.square(forward.aux["states"] - forward.aux["taught"]).sum(-1)
        share = jnp.minimum(1.0, update / config.pull_updates)
        total = jnp.where(real, nll + share * far, 0.0).sum()
        tokens = real.sum(dtype=jnp.float32)
        one = jnp.float32(1)
        metrics = {
            "loss": (total, tokens), "pull": (share, one), "update": (update, one),
            "agreement": (jnp.where(real, far < 1, False).sum(dtype=jnp.float32), tokens),
            "ntokens": (tokens, one),
            "nsentences": (real.any(1).sum(dtype=jnp.float32), one),
        }
        return LossOutput(sum=total, weight=tokens, metrics=metrics)
