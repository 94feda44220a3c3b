"""What every model must do, whatever its family: a recorded case in, a failed assertion out.

Cases enrol themselves (`family_goldens.names`); how a case is run is chosen by the methods that
its model has. Programs are compiled once a case and shared by the checks (`program`, `whole`).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
from family_goldens import FOLDER, PAD, Golden

from seqjax import models
from seqjax.config import MeshConfig, OptimizerConfig
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.interop.fairseq import optimizer_state
from seqjax.models.parts import configs
from seqjax.models.protocol import Encoder, encode_tokens, token_source
from seqjax.models.tables import any_of
from seqjax.training import sharding

Batch = dict[str, Any]
"""Arrays whose rows are sentences, padded on the right."""


# ---- how a model is run ----


@dataclasses.dataclass(frozen=True)
class Kind:
    """Models that are run the same way."""

    batch: Callable[[Golden], Batch]
    """What was recorded, as arrays of one row a sentence."""
    real: Callable[[Batch], np.ndarray]
    """[B, T] bool: the positions of `scores` that are no padding."""
    forward: Callable[..., Any]
    """(model, params, batch, rng=) -> Features."""
    loss: Callable[[Golden, Any, Batch], jax.Array]
    """(golden, features, batch) -> the summed loss that was recorded."""


def _ids(golden: Golden) -> Batch:
    return {k: jnp.asarray(golden.arrays[k], jnp.int32)
            for k in ("source", "prev", "target") if k in golden.arrays}


def _features(model: Any, params: Any, batch: Batch, *, rng: Any = None) -> Any:
    encoded = None
    if isinstance(model, Encoder):
        source = token_source(
            batch["source"], pad=PAD, segments=batch.get("source_segments"))
        encoded = model.encode(params, source, rng=rng)
    return model.features(
        params, batch["prev"], encoded, segments=batch.get("target_segments"), rng=rng)


def _targets(batch: Batch) -> np.ndarray:
    return np.asarray(batch["target"]) != PAD


def _token_loss(golden: Golden, features: Any, batch: Batch) -> jax.Array:
    return family_goldens.loss_of(golden, features, batch["target"])


ENCODER_DECODER = Kind(batch=_ids, real=_targets, forward=_features, loss=_token_loss)
LANGUAGE_MODEL = Kind(
    batch=lambda golden: {k: v for k, v in _ids(golden).items() if k != "source"},
    real=_targets, forward=_features, loss=_token_loss)


def kind_of(model: Any) -> Kind:
    """By what the model can do (`models.protocol`)."""
    return ENCODER_DECODER if isinstance(model, Encoder) else LANGUAGE_MODEL


def steps(model: Any) -> bool:
    """Whether it is decoded position by position."""
    return hasattr(model, "step")


def padded(batch: Batch, *, rows: int = 0, columns: int = 0) -> Batch:
    """With further rows and columns of padding."""
    return {k: jnp.pad(v, ((0, rows), (0, columns)), constant_values=PAD)
            for k, v in batch.items()}


def alone(batch: Batch, row: int) -> Batch:
    """One sentence without any padding."""
    return {k: v[row:row + 1, : int((np.asarray(v[row]) != PAD).sum())] for k, v in batch.items()}


def packed(golden: Golden, batch: Batch) -> Batch:
    """All sentences in one row, with a place of padding behind them."""
    result, masks = {}, {"source": np.asarray(batch.get("source", [[PAD]])) != PAD}
    masks["target"] = masks["prev"] = kind_of(golden.model).real(batch)
    for name, side in (("source", "source"), ("prev", "target"), ("target", "target")):
        if name not in batch:
            continue
        parts = [np.asarray(row)[mask]
                 for row, mask in zip(batch[name], masks[name], strict=True)]
        numbers = np.concatenate([np.full(len(p), i + 1) for i, p in enumerate(parts)])
        result[name] = np.pad(np.concatenate(parts), (0, 1), constant_values=PAD)[None]
        result[f"{side}_segments"] = np.pad(numbers, (0, 1))[None].astype(np.int32)
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
    kind = kind_of(golden.model)

    @jax.jit
    def run(params: Any, batch: Batch) -> Any:
        def loss(params: Any) -> Any:
            features = kind.forward(golden.model, params, batch)
            lprobs = jax.nn.log_softmax(features.logits())
            return kind.loss(golden, features, batch), (lprobs, features.attention)

        return jax.value_and_grad(loss, has_aux=True)(params)

    def found(params: Any, batch: Batch) -> Found:
        (loss, (lprobs, attention)), gradient = jax.device_get(run(params, batch))
        return Found(lprobs=lprobs, attention=attention, loss=loss, gradient=gradient)

    return found


@functools.cache
def scores(name: str) -> Callable[[Any, Batch], np.ndarray]:
    """(params, batch) -> log-probabilities, as decoding has them."""
    golden = family_goldens.load(name)
    kind = kind_of(golden.model)
    run = jax.jit(lambda params, batch: jax.nn.log_softmax(
        kind.forward(golden.model, params, batch).logits()))
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
    batch = kind_of(golden.model).batch(golden)
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
    return lprobs, kind_of(golden.model).real(batch)


# ---- the checks ----


def check_numbers(golden: Golden, found: Found) -> None:
    """Log-probabilities of every real position; the loss; the norm of its gradient for every
    parameter, under fairseq's names; attention, where it was recorded."""
    recorded = golden.arrays
    kind = kind_of(golden.model)
    real = kind.real(kind.batch(golden))
    rows = len(real)
    np.testing.assert_allclose(found.lprobs[:rows][real], recorded["lprobs"][real], atol=1e-5)
    np.testing.assert_allclose(found.loss, recorded["loss"], rtol=1e-5)
    theirs = fairseq_weights.to_state(found.gradient, golden.config, **golden.sizes)
    for name, norm in golden.gradients.items():
        ours = np.linalg.norm(theirs[name].ravel())
        np.testing.assert_allclose(ours, norm, rtol=1e-4, atol=1e-5, err_msg=name)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.gradient))
    if "attention" in recorded:
        ours = np.asarray(found.attention)[-1].mean(1)[:rows]
        np.testing.assert_allclose(ours[real], recorded["attention"][real], atol=1e-6)


def check_attention(golden: Golden, found: Found, batch: Batch) -> None:
    """No attention to what is padding, as much as there is to what is not."""
    if found.attention is None:
        return
    padding = np.asarray(batch["source"]) == PAD
    _, rows, _, length, width = found.attention.shape
    assert (rows, width) == padding.shape and length == batch["target"].shape[1]
    # fairseq's convolutions give the mean over layers of which some do not attend.
    total = found.attention[0, 0, 0, 0].sum()
    assert 0 < total <= 1 + 1e-5
    for row, real in enumerate(kind_of(golden.model).real(batch)):
        mine = found.attention[:, row][:, :, real]
        np.testing.assert_allclose(mine.sum(-1), total, atol=1e-5)
        assert not mine[..., padding[row]].any()


def check_rows(name: str) -> None:
    """What else is in a batch, and how wide its padding is, changes nothing of a sentence."""
    golden, batch = family_goldens.load(name), batch_of(name)
    params, run = golden.params, scores(name)
    lprobs, real = expected(name)
    assert np.isfinite(whole(name).lprobs).all()

    def compare(ours: np.ndarray, row: int) -> None:
        end = real[row].nonzero()[0][-1] + 1
        np.testing.assert_allclose(
            ours[:end][real[row, :end]], lprobs[row, :end][real[row, :end]], atol=1e-5)

    compare(run(params, alone(batch, 2))[0], 2)
    order = np.array([2, 2, 0, 2, 1])
    mixed = padded({k: v[order] for k, v in batch.items()}, columns=3)
    for ours, row in zip(run(params, mixed), order, strict=True):
        compare(ours, row)


def check_packing(name: str) -> None:
    """Sentences that share a row give what they give alone: logits, loss and gradients."""
    golden = family_goldens.load(name)
    batch = kind_of(golden.model).batch(golden)
    together = teacher_forced(name)(golden.params, packed(golden, batch))
    lprobs, real = expected(name)
    np.testing.assert_allclose(together.lprobs[0, : real.sum()], lprobs[real], atol=2e-5)
    if golden.teacher_forced:
        return  # whole rows alone were recorded otherwise than decoding and packing are
    separate = whole(name)
    np.testing.assert_allclose(together.loss, separate.loss, rtol=1e-5)
    check_gradients(together.gradient, separate.gradient)


def check_gradients(ours: Any, wanted: Any) -> None:
    """Equal but for rounding, which is of the size of the whole gradient."""
    leaves = jax.tree_util.tree_leaves_with_path(wanted)
    norm = np.sqrt(sum(float((np.asarray(x) ** 2).sum()) for _, x in leaves))
    for (path, x), y in zip(leaves, jax.tree.leaves(ours), strict=True):
        distance = np.linalg.norm((np.asarray(y) - np.asarray(x)).ravel())
        assert distance <= 2e-5 * np.linalg.norm(np.ravel(x)) + 1e-6 * norm, (
            sharding.path_name(path))


def decode_all(golden: Golden, prev: jax.Array, *, beam: int = 2, capacity: int = 4) -> np.ndarray:
    """Log-probabilities [B, T, V] of position-by-position decoding.

    Every hypothesis changes its slot at every position: what is returned for a position was
    computed in a slot other than the position before it. The cache grows when it is full.
    """
    model, params = golden.model, golden.params
    batch = kind_of(model).batch(golden)
    rows, length = prev.shape

    @jax.jit
    def start(params: Any) -> tuple[Any, Any]:
        weights = model.prepare(params)
        encoded = encode_tokens(model, params, batch.get("source"))
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


def check_decoding(name: str) -> None:
    """Position by position as fairseq does it, and as the whole sequence at once."""
    golden = family_goldens.load(name)
    batch = kind_of(golden.model).batch(golden)
    found = decode_all(golden, batch["prev"])
    lprobs, real = expected(name)
    real = real[: len(found)]
    np.testing.assert_allclose(found[real], lprobs[: len(found)][real], atol=1e-5)
    if "step_lprobs" in golden.arrays:
        np.testing.assert_allclose(found[real], golden.arrays["step_lprobs"][real], atol=1e-5)


# ---- weights ----


def check_init(golden: Golden) -> Any:
    """Fresh parameters have the recorded names and shapes, and each is drawn for itself."""
    init = jax.jit(golden.model.init)
    fresh = jax.device_get(init(jax.random.key(0)))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(np.shape, golden.checkpoint.params)
    drawn: dict[tuple[int, ...], list[tuple[str, np.ndarray]]] = {}
    for path, value in jax.tree_util.tree_leaves_with_path(fresh):
        name = sharding.path_name(path)
        assert value.dtype == np.float32 and np.isfinite(value).all(), name
        if name.endswith("embedding"):
            assert not value[PAD].any(), f"{name}: padding has a vector"
        if name.endswith(("kernel", "embedding")):
            layers = value if "layers" in name.split("/") else value[None]
            for i, layer in enumerate(layers):
                assert layer.std() > 0, name
                drawn.setdefault(layer.shape, []).append((f"{name}[{i}]", layer))
    for same in drawn.values():
        for i, (name, value) in enumerate(same):
            for other, theirs in same[:i]:
                assert not np.array_equal(value, theirs), f"{name} and {other} are one draw"
    other = jax.device_get(init(jax.random.key(1)))
    changed = [not np.array_equal(a, b) for (p, a), b in zip(
        jax.tree_util.tree_leaves_with_path(fresh), jax.tree.leaves(other), strict=True)
        if sharding.path_name(p).endswith(("kernel", "embedding"))]
    assert all(changed)
    return fresh


def check_round_trip(golden: Golden) -> None:
    """Writing what was read gives every tensor back, bit for bit, with its type; and so, by name
    and shape, without anything that the file had beside the weights."""
    checkpoint = golden.checkpoint
    stored = golden.stored
    write = functools.partial(
        fairseq_weights.to_state, checkpoint.params, checkpoint.config, **golden.sizes)
    state = write(kept=checkpoint.kept, dtypes=checkpoint.dtypes)
    if not stored.kept:  # a file that is pruned as it is read is another one when written
        wanted = golden.state if spelled_as_today(golden) else stored.state
        assert state.keys() == wanted.keys()
        for name, value in wanted.items():
            assert state[name].dtype == value.dtype, name
            np.testing.assert_array_equal(state[name], value, err_msg=name)
        again = fairseq_weights.from_tree({**golden.tree, "model": state})
        jax.tree.map(np.testing.assert_array_equal, again.params, checkpoint.params)
        assert again.config == checkpoint.config
    bare = write()
    left_out = {n for n in state if n not in bare}
    assert all(state[n].size == 1 for n in left_out), left_out
    assert {n: v.shape for n, v in bare.items()} == {
        n: state[n].shape if n in state else v.shape for n, v in bare.items()}


def spelled_as_today(golden: Golden) -> bool:
    """Whether the file's names are those of fairseq today, and all of its layers stay."""
    return not golden.stored.kept and golden.state.keys() == golden.stored.state.keys()


def numbered(golden: Golden) -> tuple[list[str], list[str]]:
    """fairseq's parameters in the order in which its modules register them, which is that of the
    file, and those of them that no number is ever computed with."""
    table = models.fairseq_table(golden.config.name).names
    ignored, unused = any_of(table.ignored), any_of(table.unused)
    copies = table.copies(golden.config)
    names = [name for name in golden.state if name not in copies and (
        unused.fullmatch(name) or not ignored.fullmatch(name))]
    return names, [name for name in names if unused.fullmatch(name)]


def check_order(golden: Golden) -> None:
    """Names alone tell the order in which fairseq numbers an optimizer's moments."""
    names, _ = numbered(golden)
    table = models.fairseq_table(golden.config.name).names
    assert optimizer_state.registered(reversed(names), table, title=golden.name) == names


def check_moments(golden: Golden) -> None:
    """A moment of every parameter that is used goes both ways, bit for bit."""
    names, unused = numbered(golden)
    rng = np.random.default_rng(0)
    slots = ("exp_avg", "exp_avg_sq")
    moments = {
        number: {"step": 7, **{slot: rng.normal(size=golden.state[name].shape).astype(np.float32)
                               for slot in slots}}
        for number, name in enumerate(names) if name not in unused}
    saved = {"state": moments, "param_groups": [{"lr": 0.5, "params": list(range(len(names)))}]}
    tree = {**golden.tree, "last_optimizer_state": saved, "optimizer_history": []}
    ours = optimizer_state.read_state(tree, name="adam")
    assert int(ours["count"]) == 7
    back = optimizer_state.write_state(
        ours, golden.config, optimizer=OptimizerConfig(name="adam"), lr=0.5, **golden.sizes)
    assert back["param_groups"][0]["params"] == saved["param_groups"][0]["params"]
    assert back["state"].keys() == moments.keys()
    for number, one in moments.items():
        for slot in slots:
            np.testing.assert_array_equal(back["state"][number][slot], one[slot])


# ---- devices ----


SPLIT: dict[str, tuple[str | None, ...]] = {
    "(q_proj|k_proj|v_proj|fc1|output_projection)/kernel": ("fsdp", "tensor"),
    "(out_proj|fc2)/kernel": ("tensor", "fsdp"),
    "embed_tokens/embedding": ("tensor", "fsdp"),
    "embed_positions/embedding": (None, "fsdp"),
    "project_(in|out)_dim/kernel": (None, "fsdp"),
    r"adaptive_softmax/(head|tail_\d/out)/kernel": ("fsdp", "tensor"),
    r"adaptive_softmax/(class_proj|tail_\d/proj)/kernel": (None, "fsdp"),
    r"embeddings_\d/embed/embedding": ("tensor", "fsdp"),
    r"embeddings_\d/proj/kernel": (None, "fsdp"),
}
"""End of a parameter's path (a regular expression) -> how its last axes lie on a mesh, for the
names that families share. What a family calls its own is in `goldens/FAMILY/mesh.json`."""


def own_split(place: str) -> dict[str, tuple[str | None, ...]]:
    """What the folder of goldens says of the names of its family."""
    path = FOLDER / place / "mesh.json"
    if not path.exists():
        return {}
    return {k: tuple(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}


def check_split(golden: Golden) -> None:
    """Every projection, by its name, lies on a mesh as it is said to."""
    place = golden.name.partition("/")[0]
    table = {**SPLIT, **own_split(place)}
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    rules = models.family(golden.config.name).partition
    for path, value in jax.tree_util.tree_leaves_with_path(golden.checkpoint.params):
        name = sharding.path_name(path)
        found = {spec for end, spec in table.items() if re.search(f"(^|/)({end})$", name)}
        assert len(found) < 2, f"{name}: {found}"
        if not found:
            vector = value.ndim - ("layers" in name.split("/")) < 2
            assert vector, (
                f"nothing says how {name} {list(value.shape)} lies on a mesh: name it in "
                f"goldens/{place}/mesh.json")
            continue
        wanted = found.pop()
        # As it would lie were it large: sizes of tiny models do not divide.
        with sharding.own_rules(rules):
            spec = tuple(sharding.spec_for(name, tuple(8 * n for n in value.shape), mesh)[0])
        spec += (None,) * (value.ndim - len(spec))
        assert spec == (None,) * (value.ndim - len(wanted)) + wanted, (
            f"{name} lies as {spec}, wanted {wanted}")


def check_mesh(name: str) -> None:
    """Parameters and rows spread over a mesh (2, 2, 2) give what one device gives."""
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    golden = family_goldens.load(name)
    params = golden.params
    with sharding.own_rules(models.family(golden.config.name).partition):
        spread = jax.device_put(params, sharding.shardings(params, mesh))
    batch = jax.device_put(batch_of(name), sharding.batch_sharding(mesh))
    there, here = teacher_forced(name)(spread, batch), whole(name)
    np.testing.assert_allclose(there.loss, here.loss, rtol=1e-5)
    check_gradients(there.gradient, here.gradient)


# ---- what chance and the compiler may change ----


def _keys(config: Any, metadata: Mapping[str, str]) -> list[str]:
    """Keys that are declared to be of this kind."""
    return [f.name for f in dataclasses.fields(config) if f.metadata == metadata]


def rates(config: Any) -> list[str]:
    """Keys that say how much is dropped in training."""
    hints = typing.get_type_hints(type(config))
    return [key for key in _keys(config, configs.TRAINING_ONLY)
            if hints[key] in (float, float | None)]


def noisy(golden: Golden, params: Any, **given: float) -> Callable[[Any, Batch], Any]:
    """(key, batch) -> log-probabilities, with these rates and no other. Rates that follow another
    one where they are None do so."""
    fields = {f.name: f.default for f in dataclasses.fields(golden.config)}
    quiet = {rate: None if given and fields[rate] is None else 0.0
             for rate in rates(golden.config)}
    golden = golden.changed(**{**quiet, **given})
    kind = kind_of(golden.model)

    def run(key: Any, batch: Batch) -> Any:
        return jax.nn.log_softmax(kind.forward(golden.model, params, batch, rng=key).logits())

    return jax.jit(run)


SWITCHES = {"adaptive_softmax_dropout": {
    "adaptive_softmax_cutoff": (8, 14), "adaptive_softmax_factor": 2.0}}
"""What a rate needs to mean anything, for families of which no case was recorded with it."""


def check_rate(cases: Sequence[str], rate: str) -> None:
    """A rate changes what one of a family's cases computes, with a key alone."""
    key = jax.random.key(3)
    variants = [(golden := family_goldens.load(name), golden.params) for name in cases]
    if rate in SWITCHES:
        switched = variants[0][0].changed(**SWITCHES[rate])
        variants.append((switched, switched.model.init(key)))
    for golden, params in variants:
        batch = batch_of(golden.name)
        run, quiet = noisy(golden, params, **{rate: 0.8}), noisy(golden, params)
        if str(jax.make_jaxpr(run)(key, batch)) != str(jax.make_jaxpr(quiet)(key, batch)):
            break  # the first in which the rate is read at all
    else:
        raise AssertionError(f"{rate} is read in no case")
    real = kind_of(golden.model).real(batch)
    off = np.abs(run(key, batch) - quiet(None, batch))[real]
    assert off.max() > 1e-3, f"{rate} drops nothing"


def check_dropout(name: str) -> None:
    """All rates together: of the key alone, other for other keys and rows, none without a key
    and none at rate 0."""
    golden, batch = family_goldens.load(name), batch_of(name)
    names = rates(golden.config)
    make = functools.partial(noisy, golden, golden.params)
    run, key = make(**dict.fromkeys(names, 0.3)), jax.random.key(3)
    lprobs, real = (x[0] for x in expected(name))
    same = {k: v[np.array([0, 0, 0, 0])] for k, v in batch.items()}
    one, other = run(key, same), run(jax.random.key(4), same)
    assert np.abs(one - other)[:, real].max() > 1e-3
    assert np.abs(one[0] - one[1])[real].max() > 1e-3
    traced_anew = make(**dict.fromkeys(names, 0.3))
    np.testing.assert_array_equal(traced_anew(key, same), one)
    for without in (run(None, same), make()(key, same)):
        np.testing.assert_allclose(without[0][real], lprobs[real], atol=1e-5)


COMPILED = {"remat": ("full", "dots"), "scan_unroll": (1, 2), "time_unroll": (2, 3)}
"""Keys that say how a model is compiled, and two values beside the default."""


def check_runtime(name: str, which: int) -> None:
    """How it is compiled changes no number and no gradient."""
    golden = family_goldens.load(name)
    changes = {key: COMPILED[key][which] for key in _keys(golden.config, configs.RUNTIME)}
    other = golden.changed(**changes, **golden.teacher_forced)
    check_numbers(other, program(other)(golden.params, batch_of(name)))


def check_half_precision(name: str) -> None:
    """bfloat16 activations stay near, and logits are float32 all the same."""
    golden, batch = family_goldens.load(name), batch_of(name)
    kind = kind_of(golden.model)
    half = dataclasses.replace(golden.model, compute_dtype=jnp.bfloat16)
    hidden, logits = jax.jit(lambda params: (
        (f := kind.forward(half, params, batch)).hidden, f.logits()))(golden.params)
    assert hidden.dtype == jnp.bfloat16 and logits.dtype == jnp.float32
    lprobs, real = expected(name)
    off = np.abs(jax.nn.log_softmax(logits)[real] - lprobs[real])
    assert 0 < off.max() < 0.25 and off.mean() < 0.05


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


def covering(cases: list[str]) -> list[str]:
    """Few cases that have every parameter of a family between them, the richest first."""
    left, chosen = set().union(*map(_parameters, cases)), []
    while left:
        chosen.append(max(cases, key=lambda name: len(_parameters(name) & left)))
        left -= _parameters(chosen[-1])
    return chosen
