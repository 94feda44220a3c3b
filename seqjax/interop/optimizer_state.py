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

from seqjax.config import ConfigError
from seqjax.interop.fairseq_config import from_checkpoint, model_config
from seqjax.interop.fairseq_weights import FAMILIES, State, to_params, to_state

SLOTS = {"adam": ("exp_avg", "exp_avg_sq"), "nag": ("momentum_buffer",),
         "sgd": ("momentum_buffer",)}
"""Optimizer -> names of its moments, the same here and there."""
_ORDER = ("encoder", "decoder", "embed_tokens", "project_in_dim", "embed_positions",
          "layernorm_embedding", "layers", "layer_norm", "project_out_dim", "adaptive_softmax",
          "output_projection", "c_attn", "w_resid", "self_attn", "attn_ln",
          "self_attn_layer_norm", "encoder_attn", "encoder_attn_layer_norm", "ffn_layernorm",
          "fc1", "fc2", "final_layer_norm",
          "k_proj", "v_proj", "q_proj", "out_proj", "weight", "bias")
"""Parts of names in the order in which fairseq's transformers register them."""
_ORDERED_FAMILIES = ("transformer", "transformer_align", "transformer_lm")


def read_state(tree: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Our optimizer state (host arrays) from the contents of a checkpoint.

    Args:
      tree: as `read_pt` gives it.
      name: our optimizer (`config.optimizer.name`).

    Raises:
      ConfigError: the file holds none, or that of another optimizer.
    """
    saved = tree.get("last_optimizer_state")
    if not isinstance(saved, Mapping) or not saved.get("state"):
        raise ConfigError("it holds no optimizer state (saved with --no-save-optimizer-state, or "
                          "stripped): start from its weights with config.init_from instead")
    if name not in SLOTS:
        raise ConfigError(f"the state of {name} cannot be carried over from fairseq; start from "
                          "the weights with config.init_from instead")
    numbers = [i for group in saved["param_groups"] for i in group["params"]]
    states = [saved["state"].get(i, {}) for i in numbers]
    names = _parameter_names(tree)
    lacking = [s for s in SLOTS[name] if not all(s in one for one in states)]
    if lacking:
        raise ConfigError(
            f"its optimizer state has no {', '.join(lacking)}: it was not trained with {name} "
            f"(it has {', '.join(sorted(states[0])) or 'nothing'})")
    moments = {slot: _as_params(tree, names, [one[slot] for one in states])
               for slot in SLOTS[name]}
    steps = {int(np.asarray(one["step"])) for one in states if "step" in one}
    if len(steps) > 1:
        raise ConfigError(f"its parameters were updated {sorted(steps)} times: they must agree")
    count = steps.pop() if steps else updates(tree)
    result = {"count": np.asarray(count, np.int32), **moments}
    if name == "nag":
        group = saved["param_groups"][0]
        result["lr_old"] = np.asarray(group.get("lr_old", group["lr"]), np.float32)
    return result


def updates(tree: Mapping[str, Any]) -> int:
    """Updates that the checkpoint was trained for."""
    history = tree.get("optimizer_history") or [{}]
    return int(history[-1].get("num_updates", 0))


def _parameter_names(tree: Mapping[str, Any]) -> list[str]:
    """Names of the parameters as the file has them, in the optimizer's order."""
    config = model_config(from_checkpoint(tree), {k: f.keys for k, f in FAMILIES.items()})
    family = FAMILIES[config.name]
    ignored = re.compile("|".join(family.ignored) or r"(?!)")
    copies = family.copies(config)
    return [n for n in tree["model"] if not ignored.fullmatch(n) and n not in copies]


def _as_params(
    tree: Mapping[str, Any], names: Sequence[str], values: Sequence[np.ndarray]
) -> dict[str, Any]:
    """One moment of every parameter as a tree like the parameters'."""
    weights = tree["model"]
    if len(values) == 1 and len(names) > 1 and values[0].ndim == 1:
        # --fp16 keeps one flat master copy of all parameters, one after the other.
        ends = np.cumsum([weights[n].size for n in names])
        if ends[-1] == values[0].size:
            values = [part.reshape(weights[n].shape) for n, part in zip(
                names, np.split(values[0], ends[:-1]), strict=True)]
    if len(values) != len(names):
        raise ConfigError(f"its optimizer knows {len(values)} parameters, its model has "
                          f"{len(names)}")
    state: State = {n: np.asarray(v) for n, v in weights.items() if n not in set(names)}
    for name, value in zip(names, values, strict=True):
        if value.shape != weights[name].shape:
            raise ConfigError(f"the optimizer's state of {name} has shape {list(value.shape)}, "
                              f"the parameter {list(weights[name].shape)}")
        state[name] = np.asarray(value, np.float32)
    fairseq = from_checkpoint(tree)
    config = model_config(fairseq, {k: f.keys for k, f in FAMILIES.items()})
    family = FAMILIES[config.name]
    for copy, owner in family.copies(config).items():
        if copy in state and owner in state:
            state[copy] = state[owner]
    state, config = family.upgrade(state, config)
    source, target = family.vocabulary(state)
    return to_params(state, config, source_vocab_size=source, target_vocab_size=target)


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
    if optimizer.name not in SLOTS or SLOTS[optimizer.name][0] not in opt_state:
        raise ConfigError(f"the state of {optimizer.name} cannot be written for fairseq; leave "
                          "out --optimizer-state")
    if config.name not in _ORDERED_FAMILIES or getattr(config, "adaptive_input", False) or getattr(
            config, "adaptive_softmax_cutoff", None):
        raise ConfigError(
            "optimizer state can be written for transformer and transformer_lm without adaptive "
            f"layers only, not for this {config.name}; leave out --optimizer-state")
    states: dict[int, dict[str, Any]] = {}
    copies = FAMILIES[config.name].copies(config)
    for slot in SLOTS[optimizer.name]:
        named = to_state(opt_state[slot], config, source_vocab_size=source_vocab_size,
                         target_vocab_size=target_vocab_size, kept={})
        for number, name in enumerate(registered(n for n in named if n not in copies)):
            states.setdefault(number, {})[slot] = named[name]
    group: dict[str, Any] = {"lr": lr, "weight_decay": optimizer.weight_decay}
    if optimizer.name == "adam":
        group |= {"betas": list(optimizer.adam_betas), "eps": optimizer.adam_eps,
                  "amsgrad": False}
        for one in states.values():
            one["step"] = int(opt_state["count"])
    else:
        group["momentum"] = 0.99 if optimizer.momentum is None else optimizer.momentum
        if "lr_old" in opt_state:
            group["lr_old"] = float(opt_state["lr_old"])
    return {"state": states, "param_groups": [{**group, "params": list(states)}]}


def registered(names: Iterable[str]) -> list[str]:
    """Names of a transformer's parameters in the order of fairseq's modules."""

    def key(name: str) -> list[int]:
        return [int(p) if p.isdigit() else _ORDER.index(p) for p in name.split(".")]

    return sorted(names, key=key)
