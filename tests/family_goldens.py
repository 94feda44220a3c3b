"""What fairseq recorded for tiny models: names of cases in, tensors and our model of them out.

A case is `goldens/FAMILY/CASE.npz` (scripts/record_families.py and those beside it) or a folder
`goldens/FAMILY/CASE` with `checkpoint.pt` and `forward.npz` (scripts/record_transformer.py). Its
being there enrols it (`names`). What is checked on it is in `models/conformance.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import packed
from seeded_weights import seeded_state

from seqjax import models
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.interop.torch.files import read_pt
from seqjax.losses.adaptive import AdaptiveLossConfig, adaptive_loss
from seqjax.losses.cross_entropy import LabelSmoothedCrossEntropyConfig, cross_entropy
from seqjax.models.protocol import Encoder, encode_tokens

FOLDER = packed.unpacked(packed.GOLDENS)
PAD = 1
_ARGS = {"criterion": "label_smoothed_cross_entropy", "max_source_positions": 20,
         "max_target_positions": 20, "tokens_per_sample": 20}
"""What scripts/record_families.py gives every model beside its own `args`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Golden:
    """One recorded case and our model of it."""

    name: str
    """`FAMILY/CASE`."""
    arrays: dict[str, np.ndarray]
    """What was recorded besides: the batch, padded on the right, and what came of it."""
    tree: dict[str, Any]
    """The file that fairseq would have saved."""
    gradients: dict[str, float]
    """fairseq's name of a parameter -> norm of its gradient."""
    teacher_forced: dict[str, Any]
    """Keys of ours under which whole rows were recorded (fairseq's convolutions normalise
    kernels that are longer than a row otherwise than in decoding)."""
    stored: fairseq_weights.Stored
    """The model's section and weights as the file says them, under today's names."""
    config: Any
    """The model's section, layers that are left out left out."""
    model: Any

    @functools.cached_property
    def checkpoint(self) -> fairseq_weights.FairseqCheckpoint:
        """The file as it is read."""
        return fairseq_weights.from_tree(self.tree)

    @property
    def state(self) -> dict[str, np.ndarray]:
        """fairseq's tensors by name, in the order of the file."""
        return self.tree["model"]

    @property
    def is_lm(self) -> bool:
        return not isinstance(self.model, Encoder)

    @property
    def params(self) -> Any:
        return jax.tree.map(jnp.asarray, self.checkpoint.params)

    @property
    def sizes(self) -> dict[str, int]:
        """Of the dictionaries, as `models.build` and `to_state` take them."""
        return {"source_vocab_size": self.model.source_vocab_size,
                "target_vocab_size": self.model.target_vocab_size}

    def changed(self, **changes: Any) -> Golden:
        """The same weights under other keys of the model."""
        config = dataclasses.replace(self.config, **changes)
        return dataclasses.replace(
            self, config=config, model=dataclasses.replace(self.model, config=config))

    def batch(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """source, previous tokens, target."""
        source, prev, target = (
            jnp.asarray(self.arrays[k], jnp.int32) for k in ("source", "prev", "target"))
        return source, prev, target

    def features(self, params: Any, source: jax.Array, prev: jax.Array, **options: Any) -> Any:
        encoded = encode_tokens(self.model, params, source)
        return self.model.features(params, prev, encoded, **options)


def names(family: str = "*") -> list[str]:
    """Every recorded case, of a folder of goldens that is called as a family or as one of
    `models.PLACES`."""
    folders = sorted({*models.PLACES, *models.FAMILIES}) if family == "*" else [family]
    found = [path for folder in folders if FOLDER.joinpath(folder).is_dir()
             for path in FOLDER.joinpath(folder).iterdir()
             if path.suffix == ".npz" or path.joinpath("forward.npz").exists()]
    return sorted(f"{path.parent.name}/{path.stem}" for path in found)


@functools.cache
def load(name: str) -> Golden:
    """The case `FAMILY/CASE`."""
    read = _folder if FOLDER.joinpath(name).is_dir() else _file
    tree, arrays, about = read(FOLDER / name)
    gradients = dict(zip(about["grads"], arrays.pop("grads").tolist(), strict=True))
    return of(tree, name=name, arrays=arrays, gradients=gradients,
              teacher_forced=about.get("teacher_forced", {}))


def of(tree: dict[str, Any], **recorded: Any) -> Golden:
    """A file's contents with what was recorded of it (other fields of `Golden`)."""
    stored, config = fairseq_weights.describe(tree), fairseq_weights.stored_config(tree)
    model = models.build(
        config, source_vocab_size=stored.source_vocab_size,
        target_vocab_size=stored.target_vocab_size, compute_dtype=jnp.float32)
    return Golden(tree=tree, stored=stored, config=config, model=model, **recorded)


def recorded(
    file: pathlib.Path
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the recording scripts wrote: about, arrays, and the weights by name."""
    with np.load(file) as contents:
        arrays = dict(contents)
    about = json.loads(str(arrays.pop("about")))
    if "seed" in about:
        drawn = seeded_state(about["weights"], about["seed"])
        return about, arrays, {name: drawn[name] for name in about["weights"]}
    flat, state, at = arrays.pop("weights"), {}, 0
    for key, shape in about["weights"].items():
        size = int(np.prod(shape))
        state[key] = flat[at : at + size].reshape(shape)
        at += size
    return about, arrays, state


def _file(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    about, arrays, state = recorded(path.with_name(path.name + ".npz"))
    if "model" in about:  # fairseq's dataclass, and gradients of two passes
        norms = about["eval"]["grads"]
        arrays["grads"] = np.array(list(norms.values()))
        tree = {"cfg": {"model": about["model"], "task": about.get("task", {})}, "model": state}
        return tree, arrays, {"grads": list(norms)}
    beside = _ARGS if "prev" in arrays else {"task": "masked_lm"}
    args = {**beside, "arch": about["arch"], **about["args"]}
    return {"args": args, "model": state}, arrays, about


def _folder(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    with np.load(path / "forward.npz") as file:
        recorded = dict(file)
    inputs = {k.rpartition("/")[2]: v for k, v in recorded.items() if k.startswith("sample/")}
    arrays = {
        "source": right_padded(inputs["src_tokens"]), "prev": inputs["prev_output_tokens"],
        "target": inputs["target"], "lprobs": recorded["lprobs"], "loss": recorded["loss"]}
    norms = {k.removeprefix("grad_norm/"): v for k, v in recorded.items() if "grad_norm/" in k}
    arrays["grads"] = np.array(list(norms.values()))
    return read_pt(path / "checkpoint.pt"), arrays, {"grads": list(norms)}


def right_padded(rows: np.ndarray) -> np.ndarray:
    """Rows padded on the left, padded on the right."""
    return np.stack([np.roll(row, -(row == PAD).sum()) for row in rows])


def loss_of(golden: Golden, features: Any, target: jax.Array) -> jax.Array:
    """The loss that was recorded."""
    if getattr(golden.config, "adaptive_softmax_cutoff", None) is not None:
        return adaptive_loss(
            features.hidden, features.projection, target, config=AdaptiveLossConfig(), pad=PAD
        ).sum
    return cross_entropy(
        features.hidden, features.projection, features.project, target,
        config=LabelSmoothedCrossEntropyConfig(), pad=PAD,
    ).sum


def decode_all(golden: Golden, prev: jax.Array, *, beam: int = 2, capacity: int = 4) -> np.ndarray:
    """Log-probabilities [B, T, V] of position-by-position decoding.

    Every hypothesis changes its slot at every position: what is returned for a position was
    computed in a slot other than the position before it. The cache grows when it is full.
    """
    model, params = golden.model, golden.params
    source = None if golden.is_lm else golden.batch()[0]
    rows, length = prev.shape

    @jax.jit
    def start(params: Any) -> tuple[Any, Any]:
        weights = model.prepare(params)
        encoded = None if source is None else encode_tokens(model, params, source)
        return weights, model.start(
            weights, encoded, rows=rows, beam=beam, capacity=capacity)

    weights, cache = start(params)
    step, result = jax.jit(model.step), []
    for t in range(length):
        if t == capacity:
            capacity *= 2
            cache = model.grow(cache, capacity=capacity)
        mine = t % beam  # the slot of the true sequence; the others hold a wrong one
        tokens = jnp.where(jnp.arange(beam) == mine, prev[:, t, None], 3)
        held = np.array([c % beam for c in range(capacity)])
        table = np.where(np.arange(beam)[:, None] == mine, held, (held + 1) % beam)
        table[:, t:] = np.arange(beam)[:, None]
        if t:
            parents = jnp.where(jnp.arange(beam) == mine, (t - 1) % beam, t % beam)
            cache = model.reorder(cache, jnp.broadcast_to(parents, (rows, beam)))
        ancestors = jnp.broadcast_to(jnp.asarray(table, jnp.int32), (rows, beam, capacity))
        features, cache = step(
            weights, tokens, cache, position=jnp.int32(t), ancestors=ancestors
        )
        result.append(jax.nn.log_softmax(features.logits())[:, mine])
    return np.stack(result, axis=1)
