"""seqjax's side of the comparisons (runs in a worker of its own).

Uses what `seqjax.train` and `seqjax.generate` use: the task's loss, the compiled train
step, the plan of batches, the decoder.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import synthetic, workloads
from benchmarks.sizes import SIZES, Arrays, Size
from seqjax import config as configs
from seqjax import models
from seqjax.data import pipeline, planning
from seqjax.data.pairs import PairDataset
from seqjax.generation.decoder import Decoder
from seqjax.generation.teacher_forcing import previous_tokens
from seqjax.losses.cross_entropy import LabelSmoothedCrossEntropyConfig, cross_entropy
from seqjax.models.protocol import encode_tokens, token_source
from seqjax.models.transformer.config import TransformerConfig
from seqjax.training import optimizers, schedules, state, train_step


def model_config(size: Size, *, dropout: float = 0.0) -> TransformerConfig:
    """The transformer of a benchmark's size."""
    values: dict[str, Any] = {}
    for side, layers in (("encoder", size.encoder_layers), ("decoder", size.decoder_layers)):
        values |= {
            f"{side}_embed_dim": size.dim, f"{side}_ffn_embed_dim": size.ffn,
            f"{side}_layers": layers, f"{side}_attention_heads": size.heads,
        }
    return TransformerConfig(dropout=dropout, share_all_embeddings=True, **values)


def build(size: Size, *, dropout: float = 0.0, dtype: Any = jnp.float32) -> Any:
    return models.build(
        model_config(size, dropout=dropout), source_vocab_size=size.vocab,
        target_vocab_size=size.vocab, compute_dtype=dtype,
    )


def params_of(arrays: Arrays) -> dict[str, Any]:
    """seqjax's parameters from arrays under fairseq's names: kernels are transposed,
    layers stacked."""
    flat: dict[tuple[str, ...], Any] = {}
    layers: dict[tuple[str, ...], dict[int, np.ndarray]] = {}
    for name, value in arrays.items():
        *path, kind = name.split(".")
        if kind == "weight" and path[-1] == "embed_tokens":
            kind = "embedding"
        elif kind == "weight" and path[-1].endswith("layer_norm"):
            kind = "scale"
        elif kind == "weight":
            kind, value = "kernel", value.T
        if "layers" in path:
            at = path.index("layers")
            key = (*path[: at + 1], *path[at + 2 :], kind)
            layers.setdefault(key, {})[int(path[at + 1])] = value
        else:
            flat[(*path, kind)] = value
    for key, parts in layers.items():
        flat[key] = np.stack([parts[i] for i in range(len(parts))])
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        node = tree
        for part in key[:-1]:
            node = node.setdefault(part, {})
        node[key[-1]] = jnp.asarray(value)
    return tree


def loss_function(model: Any, *, smoothing: float = 0.1) -> train_step.LossFn:
    """The translation task's loss without a data folder."""
    loss_config = LabelSmoothedCrossEntropyConfig(label_smoothing=smoothing)

    def loss(params: Any, extra: Any, batch: Any, rng: jax.Array | None, update: Any) -> Any:
        del update
        segments = batch.get("target_segments")
        source = token_source(
            batch["source"], pad=model.pad, segments=batch.get("source_segments"))
        encoded = model.encode(params, source, rng=rng)
        previous = previous_tokens(batch["target"], segments, pad=model.pad, start=model.eos)
        features = model.features(params, previous, encoded, segments=segments, rng=rng)
        return cross_entropy(
            features.hidden, features.projection, features.project, batch["target"],
            config=loss_config, pad=model.pad,
        ), extra

    return loss


class Train:
    """Updates on seqjax's own batches of the synthetic corpus."""

    def __init__(self, *, size: str, pairs: int, max_tokens: int, dropout: float,
                 batching: dict[str, Any], bfloat16: bool = False):
        self.size, self.size_name = SIZES[size], size
        dtype = jnp.bfloat16 if bfloat16 else jnp.float32
        self.optimizer = optimizers.make_optimizer(configs.OptimizerConfig())
        schedule = schedules.make_schedule(
            configs.ScheduleConfig(name="fixed", warmup_updates=0), lr=(5e-4,)
        )

        def make(rate: float) -> Any:
            step = train_step.make_train_step(
                loss_function(build(self.size, dropout=rate, dtype=dtype)), self.optimizer,
                schedule, seed=1,
            )
            return jax.jit(step, donate_argnums=0)

        self.make = make
        self.step = make(dropout)
        self.state = self._fresh()
        corpus = synthetic.corpus(pairs, self.size.vocab)
        dataset = PairDataset(corpus.source, corpus.target)
        self.plan = planning.make_plan(
            dataset.lengths, configs.BatchingConfig(max_tokens=max_tokens, **batching), seed=1
        )
        epoch = self.plan.epoch(1)
        self.batches = []
        for index in range(len(epoch)):
            update = epoch.update(index)
            self.batches.append((pipeline.assemble(update, dataset)[0], update.ntokens))
        self.efficiency = epoch.efficiency

    def _fresh(self) -> state.TrainState:
        return state.new_state(params_of(workloads.weights(self.size_name)), self.optimizer)

    def compile(self) -> dict[str, Any]:
        """One update of each shape, so that none is compiled while the clock runs."""
        seen: dict[Any, int] = {}
        for index, (arrays, _) in enumerate(self.batches):
            seen.setdefault(tuple(a.shape for a in arrays.values()), index)
        for index in seen.values():
            self.updates(first=index, count=1)
        return {"shapes": len(seen), "efficiency": self.efficiency, "plan": self.plan.describe()}

    def updates(self, *, first: int, count: int) -> dict[str, Any]:
        """`count` updates from batch `first` on; work is real target tokens."""
        tokens, metrics = 0, None
        for index in range(first, first + count):
            arrays, real = self.batches[index % len(self.batches)]
            self.state, metrics = self.step(self.state, arrays, 1)
            tokens += real
        assert metrics is not None
        total, weight = metrics["loss"]
        return {"work": tokens, "loss": float(total) / float(weight)}

    def losses(self, *, rows: int, steps: int) -> dict[str, Any]:
        """Loss per token of `steps` updates on one batch, from the start, no dropout."""
        corpus = synthetic.corpus(rows, self.size.vocab, seed=7)
        arrays = {
            "source": synthetic.pad(corpus.source)[None],
            "target": synthetic.pad(corpus.target)[None],
        }
        step, fresh, losses = self.make(0.0), self._fresh(), []
        for _ in range(steps):
            fresh, metrics = step(fresh, arrays, 1)
            losses.append(float(metrics["loss"][0]) / float(metrics["loss"][1]))
        return {"losses": losses}


class Decode:
    """Beam search by the decoder that `seqjax.generate` uses."""

    def __init__(self, *, size: str, weights: str | None, bfloat16: bool = False):
        dtype = jnp.bfloat16 if bfloat16 else jnp.float32
        self.model = build(SIZES[size], dtype=dtype)
        self.params = params_of(workloads.weights(size, weights))
        self.decoders: dict[Any, tuple[Decoder, Any]] = {}

    def _decoder(self, job: workloads.Decoding) -> tuple[Decoder, Any]:
        """The decoder of a job's options, with its programs and prepared weights."""
        generation = configs.GenerationConfig(
            beam=job.beam, max_len_a=job.max_len_a, max_len_b=job.max_len_b,
            min_len=job.min_len, batch_size=job.batch,
        )
        if generation not in self.decoders:
            decoder = Decoder(self.model, generation)
            self.decoders[generation] = (decoder, decoder.prepare(self.params))
        return self.decoders[generation]

    def search(self, *, spec: dict[str, Any], full: bool = False) -> dict[str, Any]:
        """Decodes a workload; work is emitted tokens. `full` returns the hypotheses."""
        job = workloads.decoding(**spec)
        decoder, prepared = self._decoder(job)
        best = [h[0] for h in decoder.decode(prepared, job.sources)]
        result: dict[str, Any] = {"work": sum(len(b.tokens) for b in best)}
        if full:
            result["best"] = [b.tokens.tolist() for b in best]
            result["scores"] = [float(b.score) for b in best]
        return result

    def memory(self, *, spec: dict[str, Any]) -> dict[str, Any]:
        """Peak resident bytes of the process after one decode."""
        start = time.perf_counter()
        self.search(spec=spec)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"peak": peak, "seconds": time.perf_counter() - start}

    def cache_bytes(self, *, spec: dict[str, Any], capacity: int) -> dict[str, Any]:
        """Bytes of the decoding state of one batch at `capacity` positions."""
        job = workloads.decoding(**spec)
        source = jax.ShapeDtypeStruct((job.batch, max(map(len, job.sources))), jnp.int32)
        _, prepared = self._decoder(job)

        def start(params: Any, weights: Any, source: jax.Array) -> Any:
            encoded = encode_tokens(self.model, params, source)
            return self.model.start(
                weights, encoded, rows=source.shape[0], beam=job.beam, capacity=capacity)

        cache = jax.eval_shape(start, prepared.params[0], prepared.weights[0], source)
        return {"bytes": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache))}
