"""Our models as checkpoints that fairseq itself loads, written without torch.

fairseq gets the older form of its configuration, one flat Namespace: every fairseq since
2018 reads it, and it needs none of fairseq's classes. Optimizer state is not written.
"""

from __future__ import annotations

import argparse
import collections
import os
from collections.abc import Collection, Mapping
from typing import Any

from seqjax import models
from seqjax.config import ModelSection, to_plain
from seqjax.interop.fairseq.checkpoint import plan_of
from seqjax.interop.fairseq.keys import GROUPS, chosen_types, model_of, spelled
from seqjax.interop.fairseq.names import USUAL
from seqjax.interop.fairseq.optimizer_state import in_module_order
from seqjax.interop.torch.writer import write_pt
from seqjax.interop.weights import to_state
from seqjax.models.overrides import resolved
from seqjax.models.parts.configs import ORIGIN, RUNTIME, kind
from seqjax.models.tables import State

_ALWAYS = {"task": USUAL["task"], "criterion": USUAL["criterion"], "left_pad_source": True,
           "left_pad_target": False, "tokenizer": None, "bpe": None}


def save_fairseq(
    path: str | os.PathLike[str], params: Mapping[str, Any], config: ModelSection, *,
    source_vocab_size: int, target_vocab_size: int, extra_args: Mapping[str, Any],
    kept: State | None = None, dtypes: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Writes a `.pt` for fairseq, whole or not at all.

    Args:
      path: an existing file is replaced.
      params, config: of the model.
      extra_args: fairseq's own keys for the rest: `source_lang`, `target_lang`, `bpe`, `criterion`
        with its options, ...; they may also hold keys of the model, which `config` overrides.
        Values are spelled as fairseq wants them (`fairseq_keys`).
      kept, dtypes: of the checkpoint that the parameters came from, if they did (`to_state`).
      extra: `extra_state` and the like.

    Raises:
      ConfigError: a model that fairseq cannot build.
      WeightsError: parameters of another shape than the model's.
    """
    args = namespace(config, extra_args)
    plan = plan_of(config, source_vocab_size=source_vocab_size,
                   target_vocab_size=target_vocab_size)
    state = in_module_order(to_state(params, plan, kept=kept, dtypes=dtypes), plan)
    write_pt(path, {
        "args": argparse.Namespace(**args), "cfg": None,
        "model": _nested(state, plan.names.nested), "criterion": None,
        "optimizer_history": [{
            "criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {},
            "num_updates": 0}],
        "task_state": {}, "extra_state": {}, "last_optimizer_state": None, **(extra or {}),
    })


def _nested(state: State, names: Collection[str]) -> collections.OrderedDict[str, Any]:
    """The state dict with `NAME.KEY` as dicts of their own."""
    found: collections.OrderedDict[str, Any] = collections.OrderedDict()
    for key, value in state.items():
        name, _, inner = key.partition(".")
        if name in names:
            found.setdefault(name, collections.OrderedDict())[inner] = value
        else:
            found[key] = value
    return found


def namespace(config: ModelSection, extra_args: Mapping[str, Any]) -> dict[str, Any]:
    """The flat Namespace that a file says to fairseq.

    Nothing is left to its architecture functions, which run for some models and not for
    others: keys that follow others are written with the value that they come to.

    Raises:
      ConfigError: a model that fairseq cannot build.
    """
    table = models.fairseq_table(config.name)
    table.check_export(config)
    ours = {k: v for k, v in to_plain(resolved(config)).items()
            if k not in ("name", *table.unsaid)
            and kind(type(config), k) not in (RUNTIME["kind"], ORIGIN["kind"])}
    args = {**_ALWAYS, **extra_args, **ours, "arch": table.arch(config)}
    for key, value in ours.items():
        if value is None:  # its own default holds
            del args[key]
    if ours.get("adaptive_softmax_cutoff") is not None:
        args["criterion"] = "adaptive_loss"  # by which some models know that they have it
    args |= table.nest(config, args)
    chosen = {group: args.get(group) for group in GROUPS if group != "model"}
    return spelled(args, chosen_types({**chosen, "model": model_of(args["arch"])}))
