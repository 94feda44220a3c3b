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

from seqjax import models
from seqjax.config import ConfigError
from seqjax.interop.fairseq.checkpoint import (
    describe,
    plan,
    to_params,
    to_state,
)
from seqjax.interop.fairseq.keys import classes
from seqjax.models.tables import State, any_of

SLOTS = {"adam": ("exp_avg", "exp_avg_sq"), "nag": ("momentum_buffer",),
         "sgd": ("momentum_buffer",)}
"""Optimizer -> names of its moments, the same here and there."""
_INSIDE = (
    "encoder", "decoder", "embed_tokens", "project_in_dim", "embed_positions",
    "layernorm_embedding", "lstm", "encoder_hidden_proj", "encoder_cell_proj", "layers",
    "c_attn", "w_resid", "self_attn", "attn_ln", "self_attn_layer_norm", "linear1", "conv",
    "linear2", "conv_layer_norm", "encoder_attn", "encoder_attn_layer_norm", "ffn_layernorm",
    "fc1", "projections", "convolutions", "attention", "additional_fc", "fc2", "fc3",
    "layer_norm1", "layer_norm2", "final_layer_norm")
_OUTPUT = ("project_out_dim", "adaptive_softmax", "output_projection", "fc_out")
_LEAVES = (
    "in_projection", "out_projection", "input_proj", "output_proj", "embeddings", "head", "tail",
    "word_proj", "class_proj",
    "k_proj", "v_proj", "q_proj", "out_proj", "weight_ih", "weight_hh", "weight",
    "conv_bias", "weight_linear", "bias", "bias_ih", "bias_hh", "weight_g", "weight_v")
_ORDER = (*_INSIDE, "layer_norm", *_OUTPUT, *_LEAVES)
"""Parts of names in the order in which fairseq's modules register them."""
_LIGHTCONV_ORDER = (*_INSIDE, *_OUTPUT, "layer_norm", *_LEAVES)
"""The same of `lightconv` and its language model."""


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
    names, unused = _parameter_names(tree)
    known = [one for i, one in enumerate(states)
             if len(states) != len(names) or names[i] not in unused]
    _check_slots(known, wanted, name, saved["param_groups"][0])
    moments = {slot: _as_params(tree, names, unused, [one.get(slot) for one in states])
               for slot in wanted}
    steps = {int(np.asarray(one["step"])) for one in states if "step" in one}
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


def _parameter_names(tree: Mapping[str, Any]) -> tuple[list[str], set[str]]:
    """Names of the parameters as the file has them, in the optimizer's order; and which of
    them fairseq never uses."""
    config = describe(tree).config
    table = models.fairseq_table(config.name).names
    ignored, unused = any_of(table.ignored), any_of(table.unused)
    copies = table.copies(config)
    names = [n for n in tree["model"] if n not in copies
             and (unused.fullmatch(n) or not ignored.fullmatch(n))]
    return names, {n for n in names if unused.fullmatch(n)}


def _as_params(
    tree: Mapping[str, Any], names: Sequence[str], unused: set[str],
    values: Sequence[np.ndarray | None],
) -> dict[str, Any]:
    """One moment of every parameter as a tree like the parameters'."""
    weights = tree["model"]
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
    stored = describe(tree)
    table = models.fairseq_table(stored.config.name).names
    for copy, owner in table.copies(stored.config).items():
        if copy in state and owner in state:
            state[copy] = state[owner]
    state, _ = table.upgrade(state, stored.config)
    return to_params(state, stored.config, source_vocab_size=stored.source_vocab_size,
                     target_vocab_size=stored.target_vocab_size)


# ---- writing ----


def write_state(
    opt_state: Mapping[str, Any], config: Any, *, optimizer: Any, lr: float,
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
    table = models.fairseq_table(config.name).names
    copies, unused = table.copies(config), any_of(table.unused)
    idle = [n for n in table.constants(config) if unused.fullmatch(n)]
    known = {n for entry in plan(
        config, source_vocab_size=source_vocab_size, target_vocab_size=target_vocab_size)
        for n in entry.names}
    known |= set(table.empty(config, target_vocab_size))
    names = registered({*known, *idle} - set(copies), family=config.name)
    for slot in slots(optimizer.name, optimizer.momentum):
        named = to_state(opt_state[slot], config, source_vocab_size=source_vocab_size,
                         target_vocab_size=target_vocab_size, kept={})
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


def registered(names: Iterable[str], *, family: str) -> list[str]:
    """Names of a model's parameters in the order of fairseq's modules."""
    order = _order(family)

    def place(part: str) -> int:
        if part.isdigit():
            return int(part)
        lstm = _LSTM.fullmatch(part)
        if lstm is None:
            return order.index(part)
        kind = 2 * (lstm[1] == "bias") + (lstm[2] == "hh")
        return 8 * int(lstm[3]) + 4 * bool(lstm[4]) + kind

    return sorted(names, key=lambda name: [place(part) for part in name.split(".")])


def in_module_order(state: State, *, family: str) -> State:
    """A state dict with its parameters in the order of fairseq's modules, in which
    `read_state` counts them; what is no parameter comes first."""
    order = _order(family)
    known = {name for name in state if all(
        part.isdigit() or part in order or _LSTM.fullmatch(part) for part in name.split("."))}
    rest = [name for name in state if name not in known]
    return {name: state[name] for name in (*rest, *registered(known, family=family))}


def _order(family: str) -> tuple[str, ...]:
    return _LIGHTCONV_ORDER if family.startswith("lightconv") else _ORDER


_LSTM = re.compile(r"(weight|bias)_(ih|hh)_l(\d+)(_reverse)?")
"""Parameters of torch's LSTM."""
