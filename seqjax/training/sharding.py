"""Where arrays live: the device mesh, and one table of parameter path -> partition.

The table is here; a family whose projections have other names gives rules of its own
(`Family.partition`), which come first inside `own_rules`. Batches are split by rows
over ('data', 'fsdp'); parameters and optimizer state by the table below.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from seqjax.config import ConfigError, MeshConfig
from seqjax.losses.rows import RowSplit
from seqjax.models.parts.position_split import PositionSplit
from seqjax.models.protocol import Params

AXES = ("data", "fsdp", "tensor")
ROW_AXES = ("data", "fsdp")
Tree = Any
"""Pytree of arrays: parameters, a whole state, a batch."""
"""Over which rows of a batch are split."""

Rules = tuple[tuple[str, tuple[str | None, ...]], ...]
"""Regular expressions of parameter paths, each with the mesh axes of the last dimensions."""

RULES: Rules = (
    # First match wins; a spec is of the last axes, those before it (layers) are whole.
    # Column-parallel: outputs split over `tensor` ...
    (r"(q_proj|k_proj|v_proj|fc1|output_projection)/kernel$", ("fsdp", "tensor")),
    (r"adaptive_softmax/(head|tail_\d+/out)/kernel$", ("fsdp", "tensor")),
    (r"(q_proj|k_proj|v_proj|fc1)/bias$", ("tensor",)),
    # ... row-parallel: inputs split, partial sums added up.
    (r"(out_proj|fc2)/kernel$", ("tensor", "fsdp")),
    (r"(kernel|weight_v)$", (None, "fsdp")),
    (r"embed_positions/embedding$", (None, "fsdp")),
    (r"embedding$", ("tensor", "fsdp")),
    (r"", ()),
)

_own: contextvars.ContextVar[Rules] = contextvars.ContextVar("own rules", default=())
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def own_rules(rules: Rules) -> Iterator[None]:
    """Inside, a family's rules come before `RULES`. Decorates a function that is traced, too.

    Raises:
      ConfigError: a rule names an axis that no mesh has.
    """
    for pattern, axes in rules:
        unknown = [axis for axis in axes if axis is not None and axis not in AXES]
        if unknown:
            raise ConfigError(f"partition of {pattern!r}: no mesh has the axis {unknown[0]!r}; "
                              f"there are {', '.join(AXES)}")
    token = _own.set(rules)
    try:
        yield
    finally:
        _own.reset(token)


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh ('data', 'fsdp', 'tensor') over all devices, or over those given.

    Raises:
      ConfigError: the sizes do not multiply up to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = {axis: getattr(config, axis) for axis in AXES}
    wanted = " x ".join(f"{axis}={size}" for axis, size in sizes.items())
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise ConfigError(
            f"config.mesh: {wanted}; sizes are 1 or more, and one of them may be -1 (what is left)"
        )
    known = math.prod(size for size in sizes.values() if size != -1)
    here = f"{len(devices)} {devices[0].platform} device{'s' if len(devices) > 1 else ''}"
    if open_axes:
        if len(devices) % known:
            raise ConfigError(
                f"config.mesh: {wanted} does not divide the {here}; {known} must be a divisor"
            )
        sizes[open_axes[0]] = len(devices) // known
    elif known != len(devices):
        raise ConfigError(
            f"config.mesh: {wanted} needs {known} devices, but there are {here}; "
            "set one axis to -1 to take what is left"
        )
    shape = tuple(sizes.values())
    return jax.make_mesh(shape, AXES, devices=devices, axis_types=(AxisType.Auto,) * 3)


def path_name(path: tuple[Any, ...]) -> str:
    """`encoder/layers/fc1/kernel` for a key path of `jax.tree_util`."""
    return "/".join(
        str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path
    )


def spec_for(
    name: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh
) -> tuple[PartitionSpec, bool]:
    """The partition of one parameter by the table, or by the family's own rules before it.

    Returns:
      The spec, and whether an axis of it was dropped because the size does not divide.
    """
    rule = next(spec for pattern, spec in (*_own.get(), *RULES) if re.search(pattern, name))
    if len(rule) > len(shape):
        return PartitionSpec(), False
    axes: list[str | None] = [None] * (len(shape) - len(rule)) + list(rule)
    dropped = False
    for i, axis in enumerate(axes):
        if axis is not None and shape[i] % mesh.shape[axis]:
            axes[i], dropped = None, True
    while axes and axes[-1] is None:
        axes.pop()
    return PartitionSpec(*axes), dropped


def shardings(tree: Tree, mesh: Mesh) -> Tree:
    """A NamedSharding per leaf of a tree of arrays or shapes.

    Optimizer state inherits: its paths end as the parameters' do. Leaves whose rank
    differs from what a rule is for (factored moments, counters) are whole on every device.
    """
    dropped: list[str] = []

    def leaf(path: tuple[Any, ...], x: Any) -> NamedSharding:
        name, shape = path_name(path), tuple(x.shape)
        spec, fell_back = spec_for(name, shape, mesh)
        if fell_back:
            dropped.append(f"{name} {list(shape)}")
        return NamedSharding(mesh, spec)

    result = jax.tree_util.tree_map_with_path(leaf, tree)
    if dropped:
        more = f" and {len(dropped) - 3} more" if len(dropped) > 3 else ""
        _log.info("not divisible by the mesh, so kept whole on an axis: %s%s",
                  ", ".join(dropped[:3]), more)
    return result


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, *, rows_axis: int = 0) -> NamedSharding:
    """Rows, which are axis `rows_axis`, split over ('data', 'fsdp')."""
    return NamedSharding(mesh, PartitionSpec(*[None] * rows_axis, ROW_AXES))


def mesh_of(tree: Tree) -> AbstractMesh | None:
    """The mesh that arrays, or what is traced in their place, lie on; None: one device, or
    a mesh that is not `make_mesh`'s."""
    for x in jax.tree.leaves(tree):
        mesh = jax.typeof(x).sharding.mesh
        if mesh.axis_names == AXES and mesh.size > 1:
            return mesh
    return None


def row_split(
    mesh: AbstractMesh | None, params: Params = None, used: Params = None
) -> RowSplit | None:
    """How losses are told over what rows are split, and where output layers are.

    Args:
      used: `gathered(params)`.
    """
    if mesh is None:
        return None
    pairs = zip(jax.tree.leaves(used), jax.tree.leaves(params), strict=True)
    return RowSplit(
        mesh=mesh, axes=ROW_AXES, shared_axis="fsdp", vocabulary_axis="tensor",
        stored=tuple((whole, stored) for whole, stored in pairs if whole is not stored),
    )


def gathered(params: Params, mesh: AbstractMesh | None) -> Params:
    """Parameters as computation uses them: whole along `fsdp`, whose devices have rows of
    their own; without this, the compiler may move activations instead. Their gradients are
    split again.

    Args:
      params: tree of arrays inside a jitted function, split by the table.
    """
    if mesh is None or mesh.shape["fsdp"] == 1:
        return params

    def leaf(path: tuple[Any, ...], x: Any) -> Any:
        spec = spec_for(path_name(path), tuple(x.shape), mesh)[0]
        if "fsdp" not in spec:
            return x
        whole = PartitionSpec(*(None if axis == "fsdp" else axis for axis in spec))
        return _between(NamedSharding(mesh, spec), NamedSharding(mesh, whole))(x)

    return jax.tree_util.tree_map_with_path(leaf, params)


def stored(tree: Tree, mesh: AbstractMesh | None) -> Tree:
    """Arrays as they lie between updates, inside a jitted function: split by the table."""
    if mesh is None:
        return tree
    return jax.tree_util.tree_map_with_path(
        lambda path, x: jax.lax.with_sharding_constraint(
            x, NamedSharding(mesh, spec_for(path_name(path), tuple(x.shape), mesh)[0])), tree)


def _between(stored: NamedSharding, used: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    """Identity whose result lies as `used` and whose gradient lies as `stored`."""
    constrain = jax.lax.with_sharding_constraint

    @jax.custom_vjp
    def move(x: jax.Array) -> jax.Array:
        return constrain(x, used)

    move.defvjp(lambda x: (move(x), None), lambda _, g: (constrain(constrain(g, used), stored),))
    return move


def position_split(mesh: AbstractMesh | None) -> PositionSplit | None:
    """Activations between the products of layers are whole along `tensor`, or split by
    position where these divide."""
    if mesh is None or mesh.shape["tensor"] == 1:
        return None
    size = mesh.shape["tensor"]

    def lying(*axes: str | None) -> Callable[[jax.Array], jax.Array]:
        """Of the last two axes of an array."""
        def constrain(x: jax.Array) -> jax.Array:
            sizes = zip(axes, x.shape[-2:], strict=True)
            if x.ndim < 3 or any(axis is not None and n % size for axis, n in sizes):
                return x
            rows = [PartitionSpec.UNCONSTRAINED] * (x.ndim - 2)
            place = NamedSharding(mesh, PartitionSpec(*rows, *axes))
            return jax.lax.with_sharding_constraint(x, place)
        return constrain

    return PositionSplit(
        part=lying("tensor", None), whole=lying(None, None), features=lying(None, "tensor"))


def rows_multiple(mesh: Mesh) -> int:
    """What the number of rows of a batch must be a multiple of."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def place(
    arrays: Mapping[str, np.ndarray], mesh: Mesh, *, rows: int | None = None, rows_axis: int = 0
) -> dict[str, jax.Array]:
    """This process's rows of a batch on the devices, as part of the global arrays.

    Args:
      arrays: host arrays whose axis `rows_axis` holds this process's rows.
      rows: rows of the whole batch, over all processes (None: as many as here).
    """
    sharding = batch_sharding(mesh, rows_axis=rows_axis)
    if jax.process_count() == 1:
        return jax.device_put(dict(arrays), sharding)
    placed = {}
    for name, x in arrays.items():
        shape = list(x.shape)
        shape[rows_axis] = rows if rows is not None else shape[rows_axis]
        placed[name] = jax.make_array_from_process_local_data(sharding, x, tuple(shape))
    return placed
