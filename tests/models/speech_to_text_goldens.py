"""What fairseq recorded for tiny speech-to-text models (scripts/record_speech_to_text.py)."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from seeded_weights import seeded_state

from seqjax import models
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.losses.base import Forward
from seqjax.losses.configs import LabelSmoothedCrossEntropyConfig
from seqjax.losses.cross_entropy import compute
from seqjax.losses.ctc import row_losses
from seqjax.models.protocol import Source

FOLDER = pathlib.Path(__file__).parents[1] / "goldens" / "seeded_speech"
SEED, WORDS, FEATURES = 7, 23, 8
LENGTHS, TARGETS = (37, 30, 22), (6, 7, 4)
SAMPLES = (413, 333, 190)


@dataclasses.dataclass(frozen=True)
class Golden:
    """One recorded case and our model of it."""

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    checkpoint: Any
    model: Any
    batch: dict[str, np.ndarray]

    @property
    def params(self) -> Any:
        return self.checkpoint.params

    @property
    def sizes(self) -> dict[str, Any]:
        return {"source_vocab_size": 0, "target_vocab_size": WORDS}

    def source(self, *, isolated: bool = False, wider: int = 0, rows: int = 0) -> Source:
        """The batch, perhaps with more padding, of further frames and of further rows."""
        values = self.batch["values"]
        values = np.pad(values, ((0, rows), (0, wider), (0, 0))[:values.ndim])
        lengths = np.pad(self.batch["lengths"], (0, rows))
        mask = np.arange(values.shape[1]) < lengths[:, None]
        return Source(values=jnp.asarray(values), mask=jnp.asarray(mask), isolated=isolated)


def batch(frame: tuple[int, ...]) -> dict[str, np.ndarray]:
    """As the script makes it."""
    stream, lengths = np.random.RandomState(SEED), np.array(LENGTHS if frame else SAMPLES)
    shape = (len(lengths), lengths.max(), *(frame or (1,)))
    values = stream.standard_normal(shape).astype(np.float32)
    real = np.arange(shape[1]) < lengths[:, None]
    target = stream.randint(4, WORDS, (len(TARGETS), max(TARGETS)))
    for row, length in zip(target, TARGETS, strict=True):
        row[length - 1:] = [2, *[1] * (len(row) - length)]
    prev = np.concatenate([np.full((len(target), 1), 2), target[:, :-1]], axis=1)
    prev[prev == 2] = 1
    prev[:, 0] = 2
    values = np.where(real[..., None], values, 0)
    return {"values": values if frame else values[..., 0], "lengths": lengths,
            "prev": prev.astype(np.int32), "target": target.astype(np.int32)}


def weights_of(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """The recorded state dict."""
    fixed = {"decoder.version": np.array([3], np.float32)}
    fixed |= {n: np.zeros((), np.int64) for n in shapes if n.endswith("num_batches_tracked")}
    drawn = seeded_state({n: tuple(s) for n, s in shapes.items() if n not in fixed}, SEED)
    return {n: fixed.get(n, drawn.get(n)) for n in shapes}


@functools.cache
def load(name: str) -> Golden:
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)
    about = json.loads(arrays.pop("about").item())
    state = weights_of(about["shapes"])
    if about["args"].get("share_decoder_input_output_embed"):
        state["decoder.output_projection.weight"] = state["decoder.embed_tokens.weight"]
    checkpoint = fairseq_weights.from_tree({"args": about["args"], "model": state})
    config = dataclasses.replace(checkpoint.config, scan_unroll=1)  # less to compile
    model = models.build(config, source_vocab_size=0, target_vocab_size=WORDS,
                         compute_dtype=jnp.float32)
    return Golden(about, arrays, state, checkpoint, model, batch(model.frame_shape))


def program(golden: Golden, *, key: Any = None, **source: Any) -> Any:
    """Compiled: parameters to ((loss, (states, log-probabilities, what encode gave)), gradient)."""
    config = LabelSmoothedCrossEntropyConfig(label_smoothing=0.1)
    model, given = golden.model, golden.batch

    @jax.jit
    def run(params: Any) -> Any:
        def loss(params: Any) -> Any:
            encoded = model.encode(params, golden.source(**source), rng=key, update=jnp.int32(0))
            features = model.features(params, given["prev"], encoded, rng=key)
            forward = Forward(features=features, target=jnp.asarray(given["target"]))
            value = compute(forward, {}, config, update=jnp.int32(0)).sum
            if weight := getattr(model.config, "ctc_weight", 0.0):
                value += weight * ctc(model, params, encoded, given)
            return value, (jax.nn.log_softmax(features.logits()), encoded)
        return jax.value_and_grad(loss, has_aux=True)(params)

    return run


def ctc(model: Any, params: Any, encoded: Any, given: dict[str, np.ndarray]) -> jax.Array:
    """The sum of the rows' losses, eos a letter as any other."""
    target = jnp.asarray(given["target"])
    return row_losses(model.ctc_logits(params, encoded), encoded.mask, target, target != 1,
                      zero_infinity=True).sum()


def check(golden: Golden, found: Any, told: dict[str, Any], *, states: str = "states") -> None:
    """A pass against what was recorded of it."""
    (loss, (lprobs, encoded)), gradient = jax.device_get(found)
    frames = golden.arrays["real"]
    np.testing.assert_array_equal(encoded.mask, frames)
    np.testing.assert_allclose(
        encoded.out[frames], golden.arrays[states][frames], atol=2e-5)
    if states == "states":
        real = golden.batch["target"] != 1
        np.testing.assert_allclose(lprobs[real], golden.arrays["lprobs"][real], atol=2e-5)
    np.testing.assert_allclose(loss, told["loss"], rtol=1e-5)
    theirs = fairseq_weights.to_state(gradient, golden.checkpoint.config, **golden.sizes)
    whole = np.sqrt(sum(v * v for v in told["grads"].values()))
    for name, norm in told["grads"].items():
        np.testing.assert_allclose(np.linalg.norm(theirs[name].ravel()), norm, rtol=1e-4,
                                   atol=1e-6 * whole, err_msg=name)
    tied = "decoder.output_projection.weight"
    for name in theirs.keys() - told["grads"].keys() - {"decoder.version", tied}:
        assert not np.any(theirs[name]), name  # no gradient there, none here
