"""What every model's weights must be, whatever it computes: how they begin, how fairseq spells and
numbers them, how they lie on a mesh. A recorded case in, a failed assertion out."""

from __future__ import annotations

import functools
import json
import re

import jax
import numpy as np
from family_goldens import FOLDER, PAD, Golden

from seqjax import models
from seqjax.config import MeshConfig, OptimizerConfig
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.interop.fairseq import optimizer_state
from seqjax.models.tables import any_of
from seqjax.training import sharding


def check_shapes(golden: Golden) -> None:
    """Fresh parameters have the recorded names and shapes."""
    fresh = jax.eval_shape(golden.model.init, jax.random.key(0))
    assert jax.tree.map(lambda x: x.shape, fresh) == jax.tree.map(
        np.shape, golden.checkpoint.params)
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(fresh))


def check_init(golden: Golden) -> None:
    """Each parameter is drawn for itself, by the key alone; padding has no vector."""
    init = jax.jit(golden.model.init)
    fresh, other = (jax.device_get(init(jax.random.key(i))) for i in (0, 1))
    drawn: dict[tuple[int, ...], list[tuple[str, np.ndarray]]] = {}
    for (path, value), theirs in zip(
            jax.tree_util.tree_leaves_with_path(fresh), jax.tree.leaves(other), strict=True):
        name = sharding.path_name(path)
        assert np.isfinite(value).all(), name
        if name.endswith("embedding"):
            assert not value[PAD].any(), f"{name}: padding has a vector"
        if name.endswith(("kernel", "embedding", "weight_v")):
            assert not np.array_equal(value, theirs), f"{name} does not depend on the key"
            for i, layer in enumerate(value if "layers" in name.split("/") else value[None]):
                assert layer.std() > 0, name
                drawn.setdefault(layer.shape, []).append((f"{name}[{i}]", layer))
    for same in drawn.values():
        for i, (name, value) in enumerate(same):
            for earlier, theirs in same[:i]:
                assert not np.array_equal(value, theirs), f"{name} and {earlier} are one draw"


def check_round_trip(golden: Golden) -> None:
    """Writing what was read gives every tensor back, bit for bit, with its type; and so, by name
    and shape, without anything that the file had beside the weights."""
    checkpoint = golden.checkpoint
    stored = golden.stored
    write = functools.partial(
        fairseq_weights.to_state, checkpoint.params, checkpoint.config, **golden.sizes)
    state = write(kept=checkpoint.kept, dtypes=checkpoint.dtypes)
    if not stored.kept:  # a file that is pruned as it is read is another one when written
        today = spelled_as_today(golden)
        wanted = golden.state if today else stored.state
        copies = models.fairseq_table(golden.config.name).names.copies(golden.config)
        assert wanted.keys() <= state.keys()  # older files have no further names of tied tensors
        assert state.keys() - wanted.keys() <= (set() if today else copies.keys())
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
    ignored, unused, buffers = (
        any_of(part) for part in (table.ignored, table.unused, table.buffers))
    copies = table.copies(golden.config)
    names = [name for name in golden.state if name not in copies and not buffers.fullmatch(
        name) and (unused.fullmatch(name) or not ignored.fullmatch(name))]
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
    r"classification_heads/\w+/dense/kernel": (None, "fsdp"),
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
            axes = sum(n > 1 for n in value.shape) - ("layers" in name.split("/"))
            assert axes < 2, (
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
