"""fairseq's state dicts as our parameters, and back, bit for bit.

A plan lists for every parameter of a model the tensors in fairseq's file that it is made of
(`plan`); reading and writing are loops over it. What differs between model families is in
the families' tables. Every name in a file is used or reported, all together in one table.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import models
from seqjax.config import ConfigError
from seqjax.interop.fairseq.config import (
    FairseqConfig,
    TaskFacts,
    from_checkpoint,
    model_config,
    task_facts,
)
from seqjax.interop.torch.files import drop_pages, read_pt
from seqjax.interop.torch.pickle_machine import CheckpointError
from seqjax.models.overrides import Kept, kept_layers, override, prune, with_layers
from seqjax.models.parts.configs import LAYERS_TO_KEEP
from seqjax.models.tables import SAME, TRANSPOSED, State, Transform, WeightNames, any_of

Params = dict[str, Any]


class WeightsError(CheckpointError):
    """The weights do not fit the model; the message is a table of all that is wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairseqCheckpoint:
    """A fairseq checkpoint, ready to use here."""

    config: Any
    """The model's dataclass (`seqjax.models.CONFIGS`)."""
    params: Params = dataclasses.field(repr=False)
    """float32 numpy arrays as the model's `init` makes them."""
    source_vocab_size: int
    target_vocab_size: int
    task: TaskFacts
    fairseq: FairseqConfig
    """Everything that the file says about how it was trained, in fairseq's keys."""
    dtypes: dict[str, str]
    """fairseq name -> dtype in the file, where it was not float32."""
    kept: State = dataclasses.field(repr=False)
    """Entries of the file that hold no parameter, and names as they were: for `to_state`."""
    extra: dict[str, Any] = dataclasses.field(repr=False)
    """The rest of the file: extra_state, optimizer_history, last_optimizer_state, ..."""


def load_fairseq(
    path: str | os.PathLike[str], *, plain_modules: Collection[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> FairseqCheckpoint:
    """A fairseq `.pt` as configuration and parameters, without torch or fairseq.

    Args:
      path: the file.
      plain_modules: packages of your own whose classes the file may hold (see `read_pt`).
      overrides: keys of the model that are to be others than the file says, and which
        layers of it to keep (see `models.overrides`).

    Raises:
      FileNotFoundError, CheckpointError: the file cannot be read.
      ConfigError: its model is not one that we have.
      WeightsError: its weights do not fit its model.
    """
    tree = read_pt(path, plain_modules=plain_modules)
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
        raise CheckpointError(f"{path}: not a fairseq checkpoint: it has no `model`")
    try:
        return from_tree(tree, overrides=overrides)
    except (ConfigError, CheckpointError) as error:
        raise type(error)(f"{path}: {error}") from None


def from_tree(
    tree: Mapping[str, Any], *, overrides: Mapping[str, Any] | None = None
) -> FairseqCheckpoint:
    """`load_fairseq` for contents that have been read already."""
    fairseq = from_checkpoint(tree)
    stored = describe(tree, overrides=overrides)
    state, config, kept = stored.state, stored.config, stored.kept
    source, target = stored.source_vocab_size, stored.target_vocab_size
    params = to_params(state, config, source_vocab_size=source, target_vocab_size=target)
    ignored = any_of(models.fairseq_table(config.name).names.ignored)
    return FairseqCheckpoint(
        config=with_layers(config, {k: len(v) for k, v in kept.items()}),
        params=prune(params, kept),
        source_vocab_size=source, target_vocab_size=target,
        task=task_facts(fairseq), fairseq=_without_pruning(fairseq),
        dtypes={k: v.dtype.name for k, v in state.items() if v.dtype != np.float32},
        kept={k: np.array(v) for k, v in state.items() if ignored.fullmatch(k)},
        extra={k: v for k, v in tree.items() if k not in ("model", "cfg", "args")},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """A checkpoint's model as its configuration and its weights say it together."""

    config: Any
    """The model's dataclass, of all layers that the file holds."""
    kept: Kept
    """Layers that are to stay, where not all are."""
    state: State
    """Its weights under today's names."""
    source_vocab_size: int
    target_vocab_size: int


def describe(
    tree: Mapping[str, Any], *, overrides: Mapping[str, Any] | None = None
) -> Stored:
    """The one road from a checkpoint to its configuration, on which whatever uses a checkpoint
    goes: keys, as fairseq reads them, and then what only the weights tell (final norms, an
    adaptive softmax, layers).

    Raises:
      ConfigError: its model is not one that we have.
      WeightsError: entries that are no tensors, or no embedding.
    """
    config = model_config(from_checkpoint(tree))
    config, kept = override(config, overrides or {})
    names = models.fairseq_table(config.name).names
    try:
        state, config = names.upgrade(_arrays_only(tree["model"]), config)
        source, target = names.vocabulary(state)
    except KeyError as error:
        raise WeightsError(f"the checkpoint's model has no {error.args[0]}") from None
    config, kept = _stored_layers(state, config, kept)
    return Stored(config=config, kept=kept, state=state, source_vocab_size=source,
                  target_vocab_size=target)


def stored_config(tree: Mapping[str, Any]) -> Any:
    """The model section of a checkpoint, layers that its configuration leaves out left out."""
    stored = describe(tree)
    return with_layers(stored.config, {k: len(v) for k, v in stored.kept.items()})


def _stored_layers(state: State, config: Any, kept: Kept) -> tuple[Any, Kept]:
    """The model section with the layers that a file that is to be pruned holds, and those to
    keep, in which `kept` is over what the file says.

    A file that was trained with a choice of layers holds no others: nothing is left to do.
    """
    counts, result = {}, dict(kept)
    for side, layers in kept_layers(config).items():
        numbers = {m[1] for n in state if (m := re.match(rf"{side}\.layers\.(\d+)\.", n))}
        counts[side] = len(numbers)
        if len(layers) != len(numbers):
            result.setdefault(side, tuple(sorted(layers)))
    return with_layers(config, counts), result


def _without_pruning(fairseq: FairseqConfig) -> FairseqConfig:
    """What a file says of itself, but for layers to leave out, which have been."""
    gone = LAYERS_TO_KEEP.values()
    model = {k: v for k, v in fairseq.model.items() if k not in gone}
    return dataclasses.replace(fairseq, model=model)


def _arrays_only(state: Mapping[str, Any]) -> State:
    wrong = [str(k) for k, v in state.items() if not isinstance(v, np.ndarray)]
    if wrong:
        raise WeightsError(f"entries of the checkpoint's `model` that are not tensors: {wrong[:9]}")
    return dict(state)


# ---- the plan ----


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One parameter of ours and where fairseq keeps it."""

    path: tuple[str, ...]
    shape: tuple[int, ...]
    """Ours."""
    names: tuple[str, ...]
    """fairseq's: one per layer where the parameter is stacked."""
    stacked: bool
    transform: Transform

    @functools.cached_property
    def theirs(self) -> tuple[int, ...]:
        """Shape of each of fairseq's tensors."""
        one = self.shape[1:] if self.stacked else self.shape
        return self.transform.theirs(np.broadcast_to(np.zeros((), np.bool_), one)).shape


_STRIP = 32 << 20  # bytes copied before their pages are let go of
_LEAVES = {"kernel": ("weight", TRANSPOSED), "scale": ("weight", SAME),
           "embedding": ("weight", SAME), "bias": ("bias", SAME)}


def plan(config: Any, *, source_vocab_size: int, target_vocab_size: int) -> list[Entry]:
    """Every parameter of the model and fairseq's names for it, in a fixed order."""
    table = models.fairseq_table(config.name).names
    model = models.build(
        config, source_vocab_size=source_vocab_size, target_vocab_size=target_vocab_size,
        compute_dtype=jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return [_entry(path, tuple(leaf.shape), table) for path, leaf in _leaves(shapes)]


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


def to_params(
    state: State, config: Any, *, source_vocab_size: int, target_vocab_size: int
) -> Params:
    """Parameters (new float32 arrays) from a state dict with today's names.

    Memory-mapped tensors are let go of as they are copied, so that the peak is one copy.

    Raises:
      WeightsError: missing, unexpected, misshapen or contradictory tensors, in one table.
    """
    table = models.fairseq_table(config.name).names
    entries = plan(
        config, source_vocab_size=source_vocab_size, target_vocab_size=target_vocab_size)
    empty = table.empty(config, target_vocab_size)
    _check(state, entries, table, config, empty=empty)
    params: Params = {}
    for entry in entries:
        value = np.empty(entry.shape, np.float32)
        for layer, name in enumerate(entry.names):
            target = value[layer] if entry.stacked else value
            _copy(target, entry.transform.ours(state[name]))
        drop_pages(state[entry.names[0]])
        _put(params, entry.path, value)
    return params


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


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    return functools.reduce(lambda node, part: node[part], path, tree)


def _check(
    state: State, entries: list[Entry], names: WeightNames, config: Any, *, empty: State
) -> None:
    wanted = {name: entry.theirs for entry in entries for name in entry.names}
    wanted |= {name: value.shape for name, value in empty.items()}
    ignored = any_of(names.ignored)
    copies = names.copies(config)
    rows: list[tuple[str, str, str]] = []
    for name, shape in wanted.items():
        if name not in state:
            rows.append(("missing", name, f"wanted {list(shape)}"))
        elif state[name].shape != shape:
            rows.append(("misshapen", name, f"has {list(state[name].shape)}, wanted {list(shape)}"))
        elif state[name].dtype.kind not in "fV":  # V: bfloat16 and other kinds numpy lacks
            rows.append(("wrong type", name, f"has {state[name].dtype}"))
    for name, value in state.items():
        if name in wanted or ignored.fullmatch(name):
            continue
        if name not in copies:
            rows.append(("unexpected", name, f"has {list(value.shape)}"))
        elif copies[name] in state and not _equal(value, state[copies[name]]):
            rows.append(("untied", name, f"differs from {copies[name]}, its copy by the config"))
    if rows:
        width = max(len(name) for _, name, _ in rows)
        table = "\n".join(f"  {kind:<11}{name:<{width}}  {what}" for kind, name, what in rows)
        raise WeightsError(f"{len(rows)} weights do not fit the {config.name} model:\n{table}")


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    same = a.__array_interface__["data"] == b.__array_interface__["data"]
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return (same and a.strides == b.strides) or bool(np.array_equal(a, b))


# ---- writing ----


def to_state(
    params: Mapping[str, Any], config: Any, *, source_vocab_size: int, target_vocab_size: int,
    kept: State | None = None, dtypes: Mapping[str, str] | None = None,
) -> State:
    """The state dict that fairseq loads, tied copies and versions included.

    Args:
      params: as the model's `init` makes them.
      kept, dtypes: of the checkpoint that the parameters came from, if they did: restores
        its other entries and its precision.

    Returns:
      float32 arrays (or of `dtypes`), in fairseq's layout; tied ones are the same array.
      Most are views of `params`.
    """
    table, dtypes = models.fairseq_table(config.name).names, dtypes or {}
    state: State = dict(table.constants(config)) if kept is None else dict(kept)
    state |= {n: v.astype(jnp.dtype(dtypes[n])) if n in dtypes else v
              for n, v in table.empty(config, target_vocab_size).items()}
    for entry in plan(
            config, source_vocab_size=source_vocab_size, target_vocab_size=target_vocab_size):
        value = np.asarray(_at(params, entry.path))
        if value.shape != entry.shape:
            raise WeightsError(
                f"{'/'.join(entry.path)} has shape {value.shape}, the model wants {entry.shape}")
        for layer, name in enumerate(entry.names):
            one = entry.transform.theirs(value[layer] if entry.stacked else value)
            state[name] = one.astype(jnp.dtype(dtypes[name])) if name in dtypes else one
    for copy, owner in table.copies(config).items():
        if owner in state:  # a last cutoff that ends the vocabulary has no tail behind it
            state[copy] = state[owner]
    return state
