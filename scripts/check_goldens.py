"""Compares seqjax with what fairseq computed, for every model of a folder of goldens.

    python scripts/check_goldens.py FOLDER [NAME ...]

FOLDER holds one folder per model with `checkpoint.pt` and `forward.npz` (the collated batch
under `sample/`, `lprobs`, `loss`, `grad_norm/PARAMETER`, and what the model returned under
`net_output/`, of which its attention to the source is compared; of features of audio the encoder's
states too; of waveforms in place of `lprobs` the states `features`, the scores `net_output/x`, and
`drawn/`, the masks and negatives). Prints one line per model; exits with 1 if a model differs. A
model is run by what it can do (`models.protocol`), its loss is that of the criterion that it was
trained with; no family is known by name.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import losses, models
from seqjax.config import ConfigError
from seqjax.interop.fairseq.checkpoint import FairseqCheckpoint, load_fairseq, to_state
from seqjax.losses.base import Forward
from seqjax.models.parts.audio import Drawn
from seqjax.models.protocol import (
    Encoder,
    Features,
    Params,
    Read,
    Source,
    encode_tokens,
    source_attention,
    token_source,
)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import packed

PAD = 1
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How far a model is from what was recorded; every number should be below 1e-4."""

    lprobs: float
    """Largest absolute difference of a log-probability on an unpadded position, of features of
    audio also of an encoder's state; of a model of waveforms, of a state or of a masked frame's
    score."""
    loss: float
    """Relative."""
    grad_norm: float
    """Largest relative difference of a parameter's gradient norm. Where the true gradient is
    zero (biases of keys: softmax does not see them) both are rounding noise: below 1e-7 of
    the norm of all gradients together."""
    parameter: str
    """The parameter of `grad_norm`."""
    attention: float
    """Largest absolute difference of attention to a source token (0 without attention)."""

    @property
    def ok(self) -> bool:
        return max(self.lprobs, self.loss, self.grad_norm, self.attention) <= TOLERANCE


def right_padded(rows: np.ndarray, pad: int) -> np.ndarray:
    """Rows padded on the left, padded on the right."""
    result = np.full_like(rows, pad)
    for row, new in zip(rows, result, strict=True):
        kept = row[row != pad]
        new[:len(kept)] = kept
    return result.astype(np.int32)


def loss_config(checkpoint: FairseqCheckpoint) -> Any:
    """The criterion that the checkpoint was trained with."""
    values = dict(checkpoint.task.criterion)
    cls = losses.CONFIGS[values.pop("_name")]
    known = {f.name for f in dataclasses.fields(cls)}
    return cls(**{k: v for k, v in values.items() if k in known})


def compare_gradients(
    grads: Params, checkpoint: FairseqCheckpoint, recorded: Mapping[str, np.ndarray]
) -> tuple[float, str]:
    """The largest relative difference of a norm, and whose it is."""
    state = to_state(
        grads, checkpoint.config, source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size, kept={})
    wanted = {k.removeprefix("grad_norm/"): float(recorded[k])
              for k in recorded if k.startswith("grad_norm/")}
    absent = sorted(set(wanted) - set(state))
    if absent or not wanted:
        return float("inf"), f"no gradient of {absent}"
    zero = 1e-7 * float(np.sqrt(sum(v * v for v in wanted.values())))
    worst, name = 0.0, ""
    for parameter, norm in wanted.items():
        found = float(np.linalg.norm(np.asarray(state[parameter], np.float64)))
        if norm < zero and found < zero:
            continue
        difference = abs(found - norm) / norm
        if not difference <= worst:
            worst, name = difference, parameter
    return worst, name


def compare_attention(
    found: np.ndarray | None, recorded: Mapping[str, np.ndarray], target: np.ndarray, *,
    turned: bool,
) -> float:
    """The largest difference on real positions.

    Args:
      found: [B, T, S], sources padded on the right.
      turned: recorded ones too, for all that `src_tokens` are padded on the left.
    """
    keys = [k for k in recorded if k in ("net_output/1", "net_output/1/attn/0")]
    if not keys:
        return 0.0
    if found is None:
        return float("inf")
    worst = 0.0
    for row, tokens in enumerate(recorded["sample/net_input/src_tokens"]):
        real = np.sort(tokens != PAD)[::-1] if turned else tokens != PAD
        wanted = recorded[keys[0]][row][target[row] != PAD][:, real]
        ours = found[row][target[row] != PAD][:, :wanted.shape[1]]
        worst = max(worst, float(np.abs(ours - wanted).max()))
    return worst


def known_columns(features: Features, target: np.ndarray) -> jax.Array:
    """[1 or B, 1 or T, V] bool: what fairseq computes of the log-probabilities when it is
    given the targets: with an adaptive softmax, of each tail only the targets' own."""
    ends = getattr(features.projection, "ends", None)
    if ends is None:
        return jnp.ones((1, 1, 1), bool)
    column = np.searchsorted(ends, np.arange(ends[-1]), side="right")
    wanted = np.searchsorted(ends, target, side="right")
    return jnp.asarray((column == 0) | (column == wanted[..., None]))


def read(inputs: Mapping[str, np.ndarray]) -> Read:
    """The sources of a batch: ids, or frames of features."""
    sources = inputs["src_tokens"]
    if np.issubdtype(sources.dtype, np.integer):
        return right_padded(sources, PAD)
    real = np.arange(sources.shape[1]) < inputs["src_lengths"][:, None]
    return Source(values=jnp.asarray(sources), mask=jnp.asarray(real))


def encoder_distance(encoded: Any, recorded: Mapping[str, np.ndarray]) -> float:
    """The largest difference of a state of the encoder, of real frames; infinite where other
    ones are real."""
    wanted = recorded["encoder_out/encoder_out/0"].swapaxes(0, 1)
    padding = recorded.get("encoder_out/encoder_padding_mask/0")
    real = np.ones(wanted.shape[:2], bool) if padding is None else ~padding
    out, mask = (np.asarray(x)[:, :wanted.shape[1]] for x in (encoded.out, encoded.mask))
    if not np.array_equal(mask, real) or np.asarray(encoded.mask).sum() != real.sum():
        return float("inf")
    return float(np.abs(out - wanted)[real].max())


def forward_pass(model: Any, params: Params, inputs: Mapping[str, np.ndarray]) -> Forward:
    """What a model of text makes of a batch: of a source and previous tokens, of previous tokens
    alone (a language model's `src_tokens`), or of masked sentences."""
    tokens = inputs["src_tokens"]
    if "prev_output_tokens" in inputs:
        encoded = encode_tokens(model, params, read(inputs))
        features = model.features(params, inputs["prev_output_tokens"], encoded)
        return Forward(features=features, encoded=encoded)
    if isinstance(model, Encoder):
        encoded = model.encode(params, token_source(jnp.asarray(tokens), pad=PAD))
        return Forward(features=model.features(params, encoded), encoded=encoded)
    return Forward(features=model.features(params, tokens))


def compare_text(
    checkpoint: FairseqCheckpoint, recorded: Mapping[str, np.ndarray]
) -> Difference:
    """Log-probabilities, loss and gradients of a model of text."""
    name, kinds = checkpoint.config.name, {"i": np.int32, "f": np.float32}
    model = models.build(
        checkpoint.config, source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size, compute_dtype=jnp.float32)
    inputs = {k.rpartition("/")[2]: np.asarray(recorded[k], kinds[recorded[k].dtype.kind])
              for k in recorded if k.startswith("sample/net_input/")}
    hears = np.issubdtype(inputs["src_tokens"].dtype, np.floating)
    target = recorded["sample/target"].astype(np.int32)
    config = loss_config(checkpoint)
    compute = losses.LOSSES[config.name].function

    @jax.jit
    def run(params: Params) -> tuple[Any, Any]:
        def loss(params: Params) -> tuple[jax.Array, Any]:
            forward = forward_pass(model, params, inputs)
            features: Any = forward.features
            value = compute(
                dataclasses.replace(forward, target=jnp.asarray(target), pad=PAD), {}, config,
                update=jnp.int32(0)).sum
            known = known_columns(features, target)
            attention = None if features.attention is None else source_attention(features)
            encoded = forward.encoded if hears else None
            return value, (jax.nn.log_softmax(features.logits()), known, attention, encoded)
        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, (lprobs, known, attention, encoded)), grads = jax.device_get(run(checkpoint.params))
    everywhere = "prev_output_tokens" not in inputs and isinstance(model, Encoder)
    scored = inputs["src_tokens"] if everywhere else target
    real = np.broadcast_to((scored != PAD)[..., None] & known, lprobs.shape)
    worst, parameter = compare_gradients(grads, checkpoint, recorded)
    apart = encoder_distance(encoded, recorded) if hears else 0.0
    return Difference(
        lprobs=max(apart, float(np.abs(lprobs - recorded["lprobs"])[real].max())),
        loss=abs(float(value) / recorded["loss"].item() - 1),
        grad_norm=worst, parameter=parameter,
        attention=compare_attention(
            attention, recorded, target, turned=models.family(name).turns_padding))


def read_waveforms(recorded: Mapping[str, np.ndarray]) -> Source:
    """The batch of samples, and which of them are real."""
    samples = recorded["sample/net_input/source"]
    padding = recorded.get("sample/net_input/padding_mask", np.zeros(samples.shape, bool))
    return Source(values=jnp.asarray(samples), mask=jnp.asarray(~padding))


def compare_waveforms(
    checkpoint: FairseqCheckpoint, recorded: Mapping[str, np.ndarray]
) -> Difference:
    """States, scores of candidates, loss and gradients of a model that reads waveforms: one that
    is pretrained with negatives or with labels of frames, or says which symbols are heard."""
    model = models.build(
        checkpoint.config, source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size, compute_dtype=jnp.float32)
    source, config = read_waveforms(recorded), loss_config(checkpoint)
    compute = losses.LOSSES[config.name].function

    def drawn(index: int) -> Drawn:
        return Drawn(**{kind: jnp.asarray(recorded[f"drawn/{kind}_{index}"]) for kind in (
            "mask", "negatives") if f"drawn/{kind}_{index}" in recorded})

    labels = [jnp.asarray(recorded[k]) for k in sorted(recorded) if "target_list/" in k]

    def forward(params: Params, index: int) -> Forward:
        if not hasattr(model, "pretrain"):
            encoded = model.encode(params, source)
            return Forward(features=model.features(params, encoded), encoded=encoded,
                           target=jnp.asarray(recorded["sample/target"]), pad=PAD)
        more = (labels,) if labels else ()
        return Forward(aux=model.pretrain(params, source, drawn(index), *more))

    @jax.jit
    def run(params: Params) -> tuple[Any, Any]:
        def loss(params: Params) -> tuple[jax.Array, Any]:
            found = compute(forward(params, 0), {}, config, update=jnp.int32(0))
            return found.sum, found
        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, said), grads = jax.device_get(run(checkpoint.params))
    states = jax.jit(model.encode)(checkpoint.params, source)
    apart = [_apart(np.asarray(states.out), recorded["features"])]
    if "net_output/x" in recorded:
        scores = jax.jit(forward, static_argnums=1)(checkpoint.params, 1).aux["logits"]
        apart.append(_apart(np.asarray(scores).transpose(2, 0, 1), recorded["net_output/x"]))
    if "net_output/encoder_out" in recorded:
        features = model.features(checkpoint.params, states)
        scores = np.asarray(features.logits())
        # fairseq writes blanks into the scores of padded frames.
        real = np.asarray(states.mask)
        apart.append(_apart(scores[real], recorded["net_output/encoder_out"].swapaxes(0, 1)[real]))
    if "net_output/padding_mask" in recorded:
        apart.append(float((~recorded["net_output/padding_mask"] != states.mask).any()))
    apart += [abs(float(total) / max(abs(float(recorded[f"log/{name}"])), 1e-9) - 1)
              for name, (total, _) in said.metrics.items()
              if f"log/{name}" in recorded and float(recorded[f"log/{name}"])]
    worst, parameter = compare_gradients(grads, checkpoint, recorded)
    return Difference(
        lprobs=max(apart), loss=abs(float(value) / recorded["loss"].item() - 1), grad_norm=worst,
        parameter=parameter, attention=0.0)


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference of a finite number; infinite where others are finite."""
    finite = np.isfinite(theirs)
    if ours.shape != theirs.shape or (finite != np.isfinite(ours)).any():
        return float("inf")
    return float(np.abs(ours[finite] - theirs[finite]).max())


def compare(folder: pathlib.Path) -> Difference:
    """One golden.

    Raises:
      ConfigError: a family that is not here yet, or one that reads neither text nor waveforms.
    """
    checkpoint = load_fairseq(folder / "checkpoint.pt")
    with np.load(folder / "forward.npz") as recorded:
        if "sample/net_input/src_tokens" in recorded:
            return compare_text(checkpoint, recorded)
        if "sample/net_input/source" in recorded:
            return compare_waveforms(checkpoint, dict(recorded))
        raise ConfigError(f"{folder}: {checkpoint.config.name} reads neither text nor waveforms")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare seqjax with recorded fairseq output.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="only these models")
    args = parser.parse_args(arguments)
    folders = sorted(p.parent for p in packed.unpacked(args.folder).glob("*/forward.npz")
                     if not args.names or p.parent.name in args.names)
    if not folders:
        print(f"error: {args.folder}: no goldens (NAME/forward.npz)", file=sys.stderr)
        return 2
    print(f"{'model':<28}{'lprobs':>10}{'loss':>10}{'attention':>11}{'grad norm':>11}"
          "  worst gradient")
    failed = 0
    for folder in folders:
        try:
            found = compare(folder)
        except ConfigError as error:
            print(f"{folder.name:<28}skipped: {str(error).partition(': ')[2][:120]}")
            continue
        failed += not found.ok
        print(f"{folder.name:<28}{found.lprobs:>10.1e}{found.loss:>10.1e}"
              f"{found.attention:>11.1e}{found.grad_norm:>11.1e}"
              f"  {found.parameter}{'' if found.ok else '  DIFFERS'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
