"""fairseq's optimizer state as ours, and back.

torch keeps moments by number, in the order in which the model registers its parameters;
that is the order of the names in the file, without buffers and without the further names of
tied parameters. A moment has its parameter's shape, so that it is carried over as if it
were one, through the same tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.config import ConfigError, ModelSection, OptimizerConfig
from seqjax.interop.fairseq.checkpoint import Stored, describe, plan_of
from seqjax.interop.fairseq.keys import classes
from seqjax.interop.weights import Plan, WeightsError, to_params, to_state
from seqjax.models.tables import State, WeightNames, any_of

SLOTS = {"adam": ("exp_avg", "exp_avg_sq"), "nag": ("momentum_buffer",),
         "sgd": ("momentum_buffer",)}
"""Optimizer -> names of its moments, the same here and there."""


def read_state(
    tree: Mapping[str, Any], *, name: str, momentum: float | None = None
) -> dict[str, Any]:
    """Our optimizer state (host arrays) from the contents of a checkpoint.

    Args:
      tree: as `read_pt` gives it.
      name, momentum: our optimizer (`config.optimizer`).

    Raises:
      ConfigError: the file holds none, or that of another optimizer.
    """
    history = (tree.get("optimizer_history") or [{}])[-1]
    # Where the versions before it was called so kept it.
    saved = tree.get("last_optimizer_state") or history.get("optimizer") or tree.get("optimizer")
    if not isinstance(saved, Mapping) or not saved.get("param_groups"):
        raise ConfigError(_NO_STATE)
    if name not in SLOTS:
        raise ConfigError(f"the state of {name} cannot be carried over from fairseq; start from "
                          "the weights with config.init_from instead")
    _check_class(tree, name)
    wanted = slots(name, momentum)
    state = saved.get("state") or {}
    numbers = [i for group in saved["param_groups"] for i in group["params"]]
    states = [state.get(i, {}) for i in numbers]
    stored = describe(tree)
    plan = stored.plan()
    names, unused = _parameter_names(tree["model"], plan)
    apart = len(states) == len(names)
    idle = any_of(plan.names.idle)
    # Moments of what no gradient has reached are zeros where there are none.
    still = {n for n, one in zip(names, states, strict=True)
             if not one and idle.fullmatch(n)} if apart else set()
    known = [one for i, one in enumerate(states)
             if not apart or names[i] not in unused | still]
    _check_slots(known, wanted, name, saved["param_groups"][0])

    def values(slot: str) -> list[np.ndarray | None]:
        found = [one.get(slot) for one in states]
        return [np.zeros(tree["model"][n].shape, np.float32) if n in still - unused else value
                for n, value in zip(names, found, strict=True)] if apart else found

    moments = {
        slot: to_params(_named(tree["model"], names, unused, values(slot), stored=stored,
                               plan=plan), plan)
        for slot in wanted}
    reached = [one for i, one in enumerate(states) if not (apart and idle.fullmatch(names[i]))]
    steps = {int(np.asarray(one["step"])) for one in reached if "step" in one}
    if len(steps) > 1:
        raise ConfigError(f"its parameters were updated {sorted(steps)} times: they must agree")
    count = steps.pop() if steps else updates(tree)
    result = {"count": np.asarray(count, np.int32), **moments}
    if name == "nag":
        group = saved["param_groups"][0]
        result["lr_old"] = np.asarray(group.get("lr_old", group["lr"]), np.float32)
    return result


_NO_STATE = ("it holds no optimizer state (saved with --no-save-optimizer-state, or stripped): "
             "start from its weights with config.init_from instead")


def slots(name: str, momentum: float | None) -> tuple[str, ...]:
    """Moments of an optimizer of `SLOTS`: sgd without momentum has none."""
    return () if name == "sgd" and not momentum else SLOTS[name]


def _check_class(tree: Mapping[str, Any], name: str) -> None:
    """nag and sgd have moments of one name; the file says by whose class they were made."""
    history = tree.get("optimizer_history") or [{}]
    made = str(history[-1].get("optimizer_name"))
    other = {cls: known for known, cls in classes("optimizer").items()}.get(made, name)
    if other != name:
        raise ConfigError(f"its optimizer is {other} ({made}), not {name}: set "
                          f"config.optimizer.name={other}, or start from its weights with "
                          "config.init_from")


def _check_slots(
    known: Sequence[Mapping[str, Any]], wanted: Sequence[str], name: str,
    group: Mapping[str, Any],
) -> None:
    """Raises ConfigError where the moments of the parameters are not the optimizer's."""
    held = sorted({k for one in known for k, v in one.items() if isinstance(v, np.ndarray)
                   and v.ndim})
    lacking = [s for s in wanted if not all(one.get(s) is not None for one in known)]
    if not lacking and (wanted or not held):
        return
    if name == "sgd" and group.get("momentum") is not None and held in ([], ["momentum_buffer"]):
        raise ConfigError(f"it was trained by sgd with a momentum of {group['momentum']:g}: set "
                          f"config.optimizer.momentum={group['momentum']:g}, or start from its "
                          "weights with config.init_from")
    if not held and wanted:
        raise ConfigError(_NO_STATE)
    raise ConfigError(
        f"its optimizer state has no {', '.join(lacking) or 'place here'}: it was not trained "
        f"with {name} (it has {', '.join(held) or 'nothing'})")


def updates(tree: Mapping[str, Any]) -> int:
    """Updates that the checkpoint was trained for."""
    history = tree.get("optimizer_history") or [{}]
    return int(history[-1].get("num_updates", 0))


def _parameter_names(weights: Mapping[str, Any], plan: Plan) -> tuple[list[str], set[str]]:
    """Names of the parameters as the file has them, in the optimizer's order; and which of
    them fairseq never uses."""
    names = [n for n in weights if n not in plan.copies and not plan.buffers.fullmatch(n)
             and (plan.unused.fullmatch(n) or not plan.ignored.fullmatch(n))]
    return names, {n for n in names if plan.unused.fullmatch(n)}


def _named(
    weights: Mapping[str, Any], names: Sequence[str], unused: set[str],
    values: Sequence[np.ndarray | None], *, stored: Stored, plan: Plan,
) -> State:
    """One moment of every parameter, as if it were the parameter, under today's names."""
    if len(values) == 1 and len(names) > 1 and values[0] is not None and values[0].ndim == 1:
        # --fp16 keeps one flat master copy of all parameters, one after the other.
        ends = np.cumsum([weights[n].size for n in names])
        if ends[-1] == values[0].size:
            values = [part.reshape(weights[n].shape) for n, part in zip(
                names, np.split(values[0], ends[:-1]), strict=True)]
    if len(values) != len(names):
        raise ConfigError(f"its optimizer knows {len(values)} parameters, its model has "
                          f"{len(names)}")
    state: State = {n: np.asarray(v) for n, v in weights.items()
                    if n in unused or n not in set(names)}
    for name, value in zip(names, values, strict=True):
        if name in unused or value is None:
            continue
        if value.shape != weights[name].shape:
            raise ConfigError(f"the optimizer's state of {name} has shape {list(value.shape)}, "
                              f"the parameter {list(weights[name].shape)}")
        state[name] = np.asarray(value, np.float32)
    for copy, owner in plan.copies.items():
        if copy in state and owner in state:
            state[copy] = state[owner]
    for name in filter(plan.buffers.fullmatch, state):  # no gradient, no moments
        state[name] = np.zeros_like(state[name], np.float32)
    return plan.names.upgrade(state, stored.config)[0]


# ---- writing ----


def write_state(
    opt_state: Mapping[str, Any], config: ModelSection, *, optimizer: OptimizerConfig, lr: float,
    source_vocab_size: int, target_vocab_size: int,
) -> dict[str, Any]:
    """`last_optimizer_state` of a file for fairseq.

    Args:
      opt_state: ours, host arrays.
      config: of the model.
      optimizer: the `OptimizerConfig`.
      lr: learning rate of the last update.

    Raises:
      ConfigError: an optimizer or a model whose state fairseq would not take as it is.
    """
    if optimizer.name not in SLOTS:
        raise ConfigError(f"the state of {optimizer.name} cannot be written for fairseq; leave "
                          "out --optimizer-state")
    states: dict[int, dict[str, Any]] = {}
    plan = plan_of(config, source_vocab_size=source_vocab_size,
                   target_vocab_size=target_vocab_size)
    idle = [n for n in plan.constants if plan.unused.fullmatch(n)]
    names = registered(
        {n for n in (*plan.wanted, *idle) if n not in plan.copies
         and not plan.buffers.fullmatch(n)}, plan.names, title=plan.table)
    for slot in slots(optimizer.name, optimizer.momentum):
        named = to_state(opt_state[slot], plan, kept={})
        for number, name in enumerate(names):
            if name not in idle:
                states.setdefault(number, {})[slot] = named[name]
    group: dict[str, Any] = {"lr": lr, "weight_decay": optimizer.weight_decay}
    if optimizer.name == "adam":
        group |= {"betas": list(optimizer.adam_betas), "eps": optimizer.adam_eps,
                  "amsgrad": False}
        for one in states.values():
            one["step"] = int(opt_state["count"])
    elif optimizer.name == "nag":
        group |= {"momentum": 0.99 if optimizer.momentum is None else optimizer.momentum,
                  "lr_old": float(opt_state["lr_old"])}
    else:
        group |= {"momentum": optimizer.momentum or 0.0, "dampening": 0, "nesterov": False}
    return {"state": states,
            "param_groups": [{**group, "params": list(range(len(names)))}]}


def registered(names: Iterable[str], table: WeightNames, *, title: str) -> list[str]:
    """Names of a model's parameters in the order of fairseq's modules.

    Args:
      title: what errors call the table.

    Raises:
      WeightsError: a name with a part that the table's `order` lacks.
    """
    orders = [(re.compile(whole), _places(order)) for whole, order in (
        *table.orders, (r".*", table.order))]

    def place(name: str, part: str) -> tuple[int, ...]:
        if part.isdigit():
            return (int(part),)
        places = next(found for whole, found in orders if whole.fullmatch(name))
        found = places.get(part) or table.place(part)
        if found is None:
            raise WeightsError(
                f"{name}: {part!r} has no place in the order of fairseq's modules: {title} must "
                "name it in `order`")
        return found

    def places_of(name: str) -> list[tuple[int, ...]]:
        parts = name.split(".")
        return [tuple(part.encode()) if before in table.chosen else place(name, part)
                for before, part in zip(["", *parts], parts, strict=False)]

    return sorted(names, key=places_of)


def _places(order: Sequence[str]) -> dict[str, tuple[int, ...]]:
    return {part: (index,) for index, part in enumerate(order)}


def in_module_order(state: State, plan: Plan) -> State:
    """A state dict with its parameters in the order of fairseq's modules, in which
    `read_state` counts them; what is no parameter comes first."""
    known = {n for n in state
             if n in plan.wanted or n in plan.copies or plan.unused.fullmatch(n)}
    rest = [name for name in state if name not in known]
    order = registered(known, plan.names, title=plan.table)
    return {name: state[name] for name in (*rest, *order)}
