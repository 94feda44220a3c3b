"""A state dict of another toolkit's in, our parameters out, and back, bit for bit.

A plan lists for every parameter of a model the tensors that it is made of there (`plan`, from
the shapes of the parameters and a table of names); reading and writing are loops over it. Every
name in a state dict is used or reported, all together in one table. Which toolkit and which
family it is, only the table says.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax.config import ModelSection
from seqjax.interop.torch.files import drop_pages
from seqjax.interop.torch.pickle_machine import CheckpointError
from seqjax.models.tables import SAME, TRANSPOSED, State, Transform, WeightNames, any_of

Params = dict[str, Any]


class WeightsError(CheckpointError):
    """The weights do not fit the model; the message is a table of all that is wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One parameter of ours and where the other toolkit keeps it."""

    path: tuple[str, ...]
    shape: tuple[int, ...]
    """Ours."""
    names: tuple[str, ...]
    """Theirs: one per layer where the parameter is stacked."""
    stacked: bool
    transform: Transform

    @functools.cached_property
    def theirs(self) -> tuple[int, ...]:
        """Shape of each of their tensors."""
        one = self.shape[1:] if self.stacked else self.shape
        return self.transform.theirs(np.broadcast_to(np.zeros((), np.bool_), one)).shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a state dict of one model holds."""

    model: str
    """What errors call the model."""
    names: WeightNames
    table: str
    """What errors call `names`."""
    entries: tuple[Entry, ...]
    """Its parameters, in a fixed order."""
    copies: Mapping[str, str]
    """Name under which a tied tensor is there once more -> the name that is read."""
    constants: State
    """Entries without a parameter of ours that belong there."""
    empty: State
    """Parameters of theirs that have no element."""

    @functools.cached_property
    def wanted(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of all that must be there."""
        found = {name: entry.theirs for entry in self.entries for name in entry.names}
        return found | {name: value.shape for name, value in self.empty.items()}

    @functools.cached_property
    def ignored(self) -> re.Pattern[str]:
        """Names that hold no parameter."""
        return any_of(self.names.ignored)

    @functools.cached_property
    def unused(self) -> re.Pattern[str]:
        """Those of them that are parameters there, never used."""
        return any_of(self.names.unused)

    @functools.cached_property
    def buffers(self) -> re.Pattern[str]:
        """Names of parameters that are buffers there."""
        return any_of(self.names.buffers)


def plan(
    shapes: Mapping[str, Any], names: WeightNames, *, config: ModelSection,
    table: str = "its table", target_vocab_size: int = 0,
) -> Plan:
    """What a state dict of a model holds.

    Args:
      shapes: tree of what has a shape, as the model's `init` makes it (`jax.eval_shape`).
      names: the other toolkit's.
      config: the model section, which says what is tied.
      table: where `names` is written, for errors.
      target_vocab_size: words that are predicted, where the model predicts words.
    """
    return Plan(
        model=config.name, names=names, table=table,
        entries=tuple(_entry(path, tuple(leaf.shape), names) for path, leaf in _leaves(shapes)),
        copies=names.copies(config), constants=names.constants(config),
        empty=names.empty(config, target_vocab_size))


_STRIP = 32 << 20  # bytes copied before their pages are let go of
_LEAVES = {"kernel": ("weight", TRANSPOSED), "scale": ("weight", SAME),
           "embedding": ("weight", SAME), "bias": ("bias", SAME)}


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _entry(path: tuple[str, ...], shape: tuple[int, ...], table: WeightNames) -> Entry:
    *modules, leaf = path
    suffix, transform = _LEAVES.get(leaf, (leaf, SAME))
    stacks = [i for i, part in enumerate(modules) if part in table.stacks]
    names = []
    for layer in range(shape[0] if stacks else 1):
        parts = [f"{p}.{layer}" if i in stacks else p for i, p in enumerate(modules)]
        name = ".".join([*parts, suffix])
        for pattern, replacement in table.renames:
            name = re.sub(pattern, replacement, name)
        names.append(name)
    for pattern, special in table.transforms:
        if names and re.fullmatch(pattern, names[0]):
            transform = special
            break
    return Entry(path=path, shape=shape, names=tuple(names), stacked=bool(stacks),
                 transform=transform)


# ---- reading ----


def to_params(state: State, plan: Plan) -> Params:
    """Parameters (new float32 arrays) from a state dict with the names of the plan.

    Memory-mapped tensors are let go of as they are copied, so that the peak is one copy.

    Raises:
      WeightsError: missing, unexpected, misshapen or contradictory tensors, in one table.
    """
    rows = misfits(state, plan)
    if rows:
        width = max(len(name) for _, name, _ in rows)
        text = "\n".join(f"  {kind:<11}{name:<{width}}  {what}" for kind, name, what in rows)
        raise WeightsError(f"{len(rows)} weights do not fit the {plan.model} model:\n{text}")
    params: Params = {}
    for entry in plan.entries:
        value = np.empty(entry.shape, np.float32)
        for layer, name in enumerate(entry.names):
            target = value[layer] if entry.stacked else value
            _copy(target, entry.transform.ours(state[name]))
        drop_pages(state[entry.names[0]])
        _put(params, entry.path, value)
    return params


def misfits(state: State, plan: Plan) -> list[tuple[str, str, str]]:
    """What keeps a state dict from being the model's: rows (kind, name, what is wrong)."""
    rows: list[tuple[str, str, str]] = []
    for name, shape in plan.wanted.items():
        if name not in state:
            rows.append(("missing", name, f"wanted {list(shape)}"))
        elif state[name].shape != shape:
            rows.append(("misshapen", name, f"has {list(state[name].shape)}, wanted {list(shape)}"))
        elif state[name].dtype.kind not in "fV":  # V: bfloat16 and other kinds numpy lacks
            rows.append(("wrong type", name, f"has {state[name].dtype}"))
    for name, value in state.items():
        if name in plan.wanted or plan.ignored.fullmatch(name):
            continue
        owner = plan.copies.get(name)
        if owner is None:
            rows.append(("unexpected", name, f"has {list(value.shape)}"))
        elif owner in state and not _equal(value, state[owner]):
            rows.append(("untied", name, f"differs from {owner}, its copy by the config"))
    return rows


def _copy(target: np.ndarray, source: np.ndarray) -> None:
    """`target[...] = source`, letting go of a mapped source's pages on the way.

    Strips are of the source's rows. A transposed matrix is copied 16 of them at a time,
    which stay in the cache: several times faster than all at once.
    """
    transposed = source.ndim == 2 and source.strides[0] < source.strides[1]
    if source.ndim == 0 or source.size == 0:
        target[...] = source
        return
    if transposed:
        target, source = target.T, source.T
    row = source[0].nbytes
    step = 16 if transposed else max(1, _STRIP // row)
    copied = 0
    for start in range(0, source.shape[0], step):
        target[start:start + step] = source[start:start + step]
        copied += step * row
        if copied >= _STRIP:
            drop_pages(source)
            copied = 0


def _put(tree: Params, path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    same = a.__array_interface__["data"] == b.__array_interface__["data"]
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return (same and a.strides == b.strides) or bool(np.array_equal(a, b))


# ---- writing ----


def to_state(
    params: Mapping[str, Any], plan: Plan, *,
    kept: State | None = None, dtypes: Mapping[str, str] | None = None,
) -> State:
    """The state dict that the other toolkit loads, tied copies and constants included.

    Args:
      params: as the model's `init` makes them.
      kept, dtypes: of the checkpoint that the parameters came from, if they did: restores
        its other entries and its precision.

    Returns:
      float32 arrays (or of `dtypes`), in their layout; tied ones are the same array. Most are
      views of `params`.

    Raises:
      WeightsError: a parameter is absent or has another shape than the model's.
    """
    dtypes = dtypes or {}
    state: State = dict(plan.constants if kept is None else kept)
    state |= {n: v.astype(jnp.dtype(dtypes[n])) if n in dtypes else v
              for n, v in plan.empty.items()}
    for entry in plan.entries:
        value = np.asarray(_at(params, entry.path))
        if value.shape != entry.shape:
            raise WeightsError(
                f"{'/'.join(entry.path)} has shape {value.shape}, the model wants {entry.shape}")
        for layer, name in enumerate(entry.names):
            one = entry.transform.theirs(value[layer] if entry.stacked else value)
            state[name] = one.astype(jnp.dtype(dtypes[name])) if name in dtypes else one
    for copy, owner in plan.copies.items():
        if owner in state:  # a last cutoff that ends the vocabulary has no tail behind it
            state[copy] = state[owner]
    return state


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if not isinstance(tree, Mapping) or part not in tree:
            raise WeightsError(f"there is no {'/'.join(path)}, which the model has")
        tree = tree[part]
    return tree
