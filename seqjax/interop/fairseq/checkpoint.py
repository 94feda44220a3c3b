"""fairseq's checkpoints in, a model section and parameters out; and parameters as its state dict.

Here a family's table is looked up and the configuration is read; what then becomes of every
tensor is `seqjax.interop.weights`.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import models
from seqjax.config import ConfigError, ModelSection
from seqjax.interop import weights
from seqjax.interop.fairseq.config import (
    FairseqConfig,
    TaskArgs,
    from_checkpoint,
    model_config,
    task_args,
)
from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.pickle_machine import CheckpointError
from seqjax.interop.weights import Params, Plan, WeightsError, plan
from seqjax.models.overrides import Kept, kept_layers, override, prune, with_layers
from seqjax.models.parts.configs import LAYERS_TO_KEEP
from seqjax.models.tables import State


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairseqCheckpoint:
    """A fairseq checkpoint, ready to use here."""

    config: ModelSection
    """The model's dataclass (`seqjax.models.CONFIGS`)."""
    params: Params = dataclasses.field(repr=False)
    """float32 numpy arrays as the model's `init` makes them."""
    source_vocab_size: int
    target_vocab_size: int
    task: TaskArgs
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
    stored = describe(tree, overrides=overrides)
    state, config, kept = stored.state, stored.config, stored.kept
    plan = stored.plan()
    params = weights.to_params(state, plan)
    return FairseqCheckpoint(
        config=with_layers(config, {k: len(v) for k, v in kept.items()}),
        params=prune(params, kept),
        source_vocab_size=stored.source_vocab_size, target_vocab_size=stored.target_vocab_size,
        task=task_args(stored.fairseq), fairseq=_without_pruning(stored.fairseq),
        dtypes={k: v.dtype.name for k, v in state.items() if v.dtype != np.float32},
        kept={k: np.array(v) for k, v in state.items() if plan.ignored.fullmatch(k)},
        extra={k: v for k, v in tree.items() if k not in ("model", "cfg", "args")},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """A checkpoint's model as its configuration and its weights say it together."""

    config: ModelSection
    """The model's dataclass, of all layers that the file holds."""
    kept: Kept
    """Layers that are to stay, where not all are."""
    state: State
    """Its weights under today's names."""
    source_vocab_size: int
    target_vocab_size: int
    fairseq: FairseqConfig
    """What the file says of its run."""

    def plan(self) -> Plan:
        """What its weights must be."""
        return plan_of(self.config, source_vocab_size=self.source_vocab_size,
                       target_vocab_size=self.target_vocab_size)


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
    fairseq = from_checkpoint(tree)
    config = model_config(fairseq)
    config, kept = override(config, overrides or {})
    names = models.fairseq_table(config.name).names
    try:
        state, config = names.upgrade(_arrays_only(_flat(tree["model"], names.nested)), config)
        source, target = names.vocabulary(state)
    except KeyError as error:
        raise WeightsError(f"the checkpoint's model has no {error.args[0]}") from None
    config, kept = _stored_layers(state, config, kept)
    return Stored(config=config, kept=kept, state=state, source_vocab_size=source,
                  target_vocab_size=target, fairseq=fairseq)


def stored_config(tree: Mapping[str, Any]) -> ModelSection:
    """The model section of a checkpoint, layers that its configuration leaves out left out."""
    stored = describe(tree)
    return with_layers(stored.config, {k: len(v) for k, v in stored.kept.items()})


def _stored_layers(state: State, config: ModelSection, kept: Kept) -> tuple[ModelSection, Kept]:
    """The model section with the layers that a file that is to be pruned holds, and those to
    keep, in which `kept` is over what the file says.

    A file that was trained with a choice of layers holds no others: nothing is left to do.
    """
    counts, result = {}, dict(kept)
    for side, layers in kept_layers(config).items():
        inside = re.compile(rf"{side}\.(?:\w+\.)?layers\.(\d+)\.")
        numbers = {m[1] for n in state if (m := inside.match(n))}
        counts[side] = len(numbers)
        if len(layers) != len(numbers):
            result.setdefault(side, tuple(sorted(layers)))
    return with_layers(config, counts), result


def _without_pruning(fairseq: FairseqConfig) -> FairseqConfig:
    """What a file says of itself, but for layers to leave out, which have been."""
    gone = LAYERS_TO_KEEP.values()
    model = {k: v for k, v in fairseq.model.items() if k not in gone}
    return dataclasses.replace(fairseq, model=model)


def _flat(state: Mapping[str, Any], nested: Collection[str]) -> dict[str, Any]:
    """Dicts of tensors as tensors, `NAME.KEY`."""
    found = {k: v for k, v in state.items() if k not in nested}
    for name in nested:
        found |= {f"{name}.{key}": value for key, value in (state.get(name) or {}).items()}
    return found


def _arrays_only(state: Mapping[str, Any]) -> State:
    wrong = [str(k) for k, v in state.items() if not isinstance(v, np.ndarray)]
    if wrong:
        raise WeightsError(f"entries of the checkpoint's `model` that are not tensors: {wrong[:9]}")
    return dict(state)


def plan_of(config: ModelSection, *, source_vocab_size: int, target_vocab_size: int) -> Plan:
    """What a file of fairseq's holds of the model of a configuration.

    Raises:
      ConfigError: its checkpoints cannot be converted.
    """
    names = models.fairseq_table(config.name).names
    model = models.build(
        config, source_vocab_size=source_vocab_size, target_vocab_size=target_vocab_size,
        compute_dtype=jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return plan(shapes, names, config=config, target_vocab_size=target_vocab_size,
                table=str(models.family(config.name).fairseq))


def to_state(
    params: Mapping[str, Any], config: ModelSection, *, source_vocab_size: int,
    target_vocab_size: int, kept: State | None = None, dtypes: Mapping[str, str] | None = None,
) -> State:
    """The state dict that fairseq loads (see `weights.to_state`), tied copies and versions
    included."""
    return weights.to_state(
        params, plan_of(config, source_vocab_size=source_vocab_size,
                        target_vocab_size=target_vocab_size), kept=kept, dtypes=dtypes)
