"""What fairseq recorded for tiny wav2vec 2.0 models (scripts/record_wav2vec2.py)."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np

from seqjax import models
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.losses.base import Forward, LossOutput
from seqjax.losses.wav2vec import compute
from seqjax.losses.wav2vec_config import Wav2VecConfig
from seqjax.models.parts.audio import Drawn
from seqjax.models.protocol import Source

FOLDER = pathlib.Path(__file__).parents[1] / "goldens" / "wav2vec2"
CASES = ("group_norm", "layer_norm", "quantized_input", "two_quantizers", "continuous")


@dataclasses.dataclass(frozen=True)
class Golden:
    """One recorded case and our model of it."""

    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    state: dict[str, np.ndarray]
    checkpoint: fairseq_weights.FairseqCheckpoint
    model: Any

    @property
    def params(self) -> Any:
        return jax.tree.map(jnp.asarray, self.checkpoint.params)

    @property
    def source(self) -> Source:
        samples = jnp.asarray(self.arrays["samples"], jnp.float32)
        lengths = jnp.asarray(self.arrays["lengths"])
        return Source(values=samples, mask=jnp.arange(samples.shape[1]) < lengths[:, None])

    @property
    def drawn(self) -> Any:
        """A `Drawn`."""
        arrays = {name: jnp.asarray(self.arrays[name]) for name in (
            "mask", "negatives", "channels") if name in self.arrays}
        codebook, n = self.arrays.get("codebook"), self.model.config.codebook_negatives
        if codebook is not None:  # fairseq reads its flat list as [n, B, M]
            rows = len(self.arrays["lengths"])
            order = codebook.reshape(n, rows, -1).transpose(1, 2, 0)
            arrays["codebook_negatives"] = jnp.asarray(order)
        return Drawn(**arrays)

    @property
    def options(self) -> Wav2VecConfig:
        weights, keys = self.about["options"]["loss_weights"], self.about["options"]["log_keys"]
        return Wav2VecConfig(loss_weights=tuple(weights), log_keys=tuple(keys))

    def loss(self, params: Any, source: Source, drawn: Drawn, **how: Any) -> LossOutput:
        aux = self.model.pretrain(params, source, drawn, **how)
        return compute(Forward(aux=aux), {}, self.options, update=jnp.int32(0))


@functools.cache
def load(name: str) -> Golden:
    """The case of that name."""
    about, arrays, state = family_goldens.recorded(FOLDER / f"{name}.npz")
    checkpoint = fairseq_weights.from_tree({"cfg": {"model": about["model"]}, "model": state})
    model = models.build(
        checkpoint.config, source_vocab_size=0, target_vocab_size=0, compute_dtype=jnp.float32)
    return Golden(arrays, about, state, checkpoint, model)


def with_config(golden: Golden, **changes: Any) -> Golden:
    cfg = dataclasses.replace(golden.model.config, **changes)
    return dataclasses.replace(golden, model=dataclasses.replace(golden.model, config=cfg))


def check_pass(golden: Golden, kind: str, **how: Any) -> None:
    """What the criterion logged of a pass, and the norm of the gradient of every parameter."""
    said = golden.about[kind]

    @jax.jit
    def run(params: Any) -> Any:
        def loss(params: Any) -> tuple[jax.Array, LossOutput]:
            found = golden.loss(params, golden.source, golden.drawn, **how)
            return found.sum, found

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, found), gradient = jax.device_get(run(golden.params))
    np.testing.assert_allclose(value, said["loss"], rtol=1e-5)
    assert found.weight == said["log"]["sample_size"]
    log = {k: v for k, v in said["log"].items() if k not in ("sample_size", "correct", "count")}
    log |= {"accuracy": said["log"]["correct"]}
    assert found.metrics.keys() == log.keys()
    for name, (total, _) in found.metrics.items():
        np.testing.assert_allclose(total, log[name], rtol=1e-5, err_msg=name)
    theirs = fairseq_weights.to_state(
        gradient, golden.checkpoint.config, source_vocab_size=0, target_vocab_size=0)
    for name, norm in said["grads"].items():
        ours = np.linalg.norm(theirs[name].ravel())
        np.testing.assert_allclose(ours, norm, rtol=1e-4, atol=1e-5, err_msg=name)
    for name in theirs.keys() - said["grads"].keys() - set(
            models.fairseq_table("wav2vec2").names.copies(golden.checkpoint.config)):
        assert not theirs[name].any(), name
