"""How models of each kind are run, and their programs, compiled once a case: a recorded case in,
what it computes out. A kind is told by the methods that a model has (`models.protocol`)."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
from family_goldens import PAD, Golden

from seqjax import models
from seqjax.losses.configs import MaskedLMConfig
from seqjax.losses.masked_lm import masked_lm
from seqjax.models.protocol import Encoder, token_source

Batch = dict[str, Any]
"""Arrays whose rows are sentences, padded on the right."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """Models of text that are run the same way."""

    arrays: Mapping[str, str]
    """Array of a batch -> the array that says how long its rows are."""
    scored: str
    """The array whose positions are scored."""
    forward: Callable[..., Any]
    """(model, params, batch, rng=) -> Features."""
    loss: Callable[[Golden, Any, Batch], jax.Array]
    """(golden, features, batch) -> the summed loss that was recorded."""

    def batch(self, golden: Golden) -> Batch:
        """What was recorded."""
        return {k: jnp.asarray(golden.arrays[k], jnp.int32) for k in self.arrays}

    def real(self, batch: Batch) -> np.ndarray:
        """[B, T] bool: the positions that are scored and are no padding."""
        return np.asarray(batch[self.scored]) != PAD


def _encode(model: Any, params: Any, batch: Batch, rng: Any) -> Any:
    if not isinstance(model, Encoder):
        return None
    source = token_source(batch["source"], pad=PAD, segments=batch.get("source_segments"))
    return model.encode(params, source, rng=rng)


def _write(model: Any, params: Any, batch: Batch, *, rng: Any = None) -> Any:
    return model.features(params, batch["prev"], _encode(model, params, batch, rng),
                          segments=batch.get("target_segments"), rng=rng)


def _read(model: Any, params: Any, batch: Batch, *, rng: Any = None) -> Any:
    return model.features(params, _encode(model, params, batch, rng))


def _token_loss(golden: Golden, features: Any, batch: Batch) -> jax.Array:
    return family_goldens.loss_of(golden, features, batch["target"])


def _masked_loss(golden: Golden, features: Any, batch: Batch) -> jax.Array:
    return masked_lm(
        features.hidden, features.projection, features.project, batch["target"],
        config=MaskedLMConfig(), pad=PAD, read=batch["source"] != PAD).sum


_TARGET = {"prev": "target", "target": "target"}
ENCODER_DECODER = Kind(
    arrays={"source": "source", **_TARGET}, scored="target", forward=_write, loss=_token_loss)
LANGUAGE_MODEL = Kind(arrays=_TARGET, scored="target", forward=_write, loss=_token_loss)
MASKED = Kind(arrays={"source": "source", "target": "source"}, scored="source", forward=_read,
              loss=_masked_loss)


def steps(model: Any) -> bool:
    """Whether it is decoded position by position."""
    return hasattr(model, "step")


def kind_of(model: Any) -> Kind | None:
    """How it is run; None: it reads or writes no text, or reads waveforms."""
    if models.family(model.config.name).waveforms:
        return None
    if steps(model):
        return ENCODER_DECODER if isinstance(model, Encoder) else LANGUAGE_MODEL
    return MASKED if hasattr(model, "features") else None


def kind(golden: Golden) -> Kind:
    """How a case is run that reads or writes text."""
    found = kind_of(golden.model)
    assert found is not None, golden.name
    return found


# ---- batches ----


def padded(batch: Batch, *, rows: int = 0, columns: int = 0) -> Batch:
    """With further rows and columns of padding."""
    return {k: jnp.pad(v, ((0, rows), (0, columns)), constant_values=PAD)
            for k, v in batch.items()}


def lengths(golden: Golden, batch: Batch) -> dict[str, np.ndarray]:
    """Array -> [B, T] bool, what of it is no padding."""
    return {k: np.asarray(batch[side]) != PAD for k, side in kind(golden).arrays.items()}


def alone(golden: Golden, batch: Batch, row: int) -> Batch:
    """One sentence without any padding."""
    real = lengths(golden, batch)
    return {k: v[row:row + 1, : int(real[k][row].sum())] for k, v in batch.items()}


def packed(golden: Golden, batch: Batch) -> Batch:
    """All sentences in one row, with a place of padding behind them."""
    result = {}
    for name, real in lengths(golden, batch).items():
        parts = [np.asarray(row)[mask] for row, mask in zip(batch[name], real, strict=True)]
        numbers = np.concatenate([np.full(len(p), i + 1) for i, p in enumerate(parts)])
        result[name] = np.pad(np.concatenate(parts), (0, 1), constant_values=PAD)[None]
        result[f"{kind(golden).arrays[name]}_segments"] = np.pad(
            numbers, (0, 1))[None].astype(np.int32)
    return {k: jnp.asarray(v) for k, v in result.items()}


# ---- programs, compiled once a case ----


@dataclasses.dataclass(frozen=True)
class Found:
    """What one pass over a batch gave."""

    lprobs: np.ndarray
    """[B, T, V]."""
    attention: np.ndarray | None
    """[L, B, H, T, S]."""
    loss: np.ndarray
    gradient: Any


def program(golden: Golden) -> Callable[[Any, Batch], Found]:
    """(params, batch) -> everything, of one compiled function."""
    how = kind(golden)

    @jax.jit
    def run(params: Any, batch: Batch) -> Any:
        def loss(params: Any) -> Any:
            features = how.forward(golden.model, params, batch)
            lprobs = jax.nn.log_softmax(features.logits())
            return how.loss(golden, features, batch), (lprobs, features.attention)

        return jax.value_and_grad(loss, has_aux=True)(params)

    def found(params: Any, batch: Batch) -> Found:
        (loss, (lprobs, attention)), gradient = jax.device_get(run(params, batch))
        return Found(lprobs=lprobs, attention=attention, loss=loss, gradient=gradient)

    return found


@functools.cache
def scores(name: str) -> Callable[[Any, Batch], np.ndarray]:
    """(params, batch) -> log-probabilities, as decoding has them."""
    golden = family_goldens.load(name)
    how = kind(golden)
    run = jax.jit(lambda params, batch: jax.nn.log_softmax(
        how.forward(golden.model, params, batch).logits()))
    return lambda params, batch: np.asarray(run(params, batch))


@functools.cache
def teacher_forced(name: str) -> Callable[[Any, Batch], Found]:
    """The program of a case, under the keys with which it was recorded."""
    golden = family_goldens.load(name)
    return program(golden.changed(**golden.teacher_forced))


@functools.cache
def batch_of(name: str) -> Batch:
    """The recorded batch, and rows of padding up to a multiple of four, which a mesh splits."""
    golden = family_goldens.load(name)
    batch = kind(golden).batch(golden)
    return padded(batch, rows=-len(next(iter(batch.values()))) % 4)


@functools.cache
def whole(name: str) -> Found:
    """What the case gives on `batch_of`."""
    return teacher_forced(name)(family_goldens.load(name).params, batch_of(name))


@functools.cache
def expected(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities [B, T, V] as decoding has them, and which are of real positions."""
    golden, batch = family_goldens.load(name), batch_of(name)
    lprobs = whole(name).lprobs
    if golden.teacher_forced:
        lprobs = scores(name)(golden.params, batch)
    return lprobs, kind(golden).real(batch)


# ---- which cases stand for a family ----


@functools.cache
def by_family() -> dict[str, list[str]]:
    """`config.model.name` -> its cases."""
    result: dict[str, list[str]] = {}
    for name in family_goldens.names():
        result.setdefault(family_goldens.load(name).config.name, []).append(name)
    return result


def _parameters(name: str) -> set[str]:
    """Names of the weights, whatever their layer."""
    return {re.sub(r"\d+", "N", key) for key in family_goldens.load(name).stored.state}


def _products(name: str) -> set[str]:
    """Matrices and what is multiplied beside them, whatever their side: no biases, no norms."""
    state = family_goldens.load(name).stored.state
    return {re.sub(r"\d+", "N", ".".join(key.split(".")[-2:])) for key, value in state.items()
            if value.ndim > 1 or not key.endswith(("weight", "bias"))}


def covering(cases: list[str], parts: Callable[[str], set[str]] = _parameters) -> list[str]:
    """Few cases that have every parameter of a family between them, the richest first."""
    left: set[str] = set().union(*map(parts, cases))
    chosen: list[str] = []
    while left:
        chosen.append(max(cases, key=lambda name: len(parts(name) & left)))
        left -= parts(chosen[-1])
    return chosen


def covering_products(cases: list[str]) -> list[str]:
    """Few cases that have every kind of matrix of a family between them."""
    return covering(cases, _products)
