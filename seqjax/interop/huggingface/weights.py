"""A folder of Hugging Face's in, a model section and parameters out; and parameters as the
tensors that transformers loads.

Here a family's table is looked up; what then becomes of every tensor is `seqjax.interop.weights`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import models
from seqjax.checkpoints import CheckpointError
from seqjax.config import ConfigError, ModelSection
from seqjax.interop import weights
from seqjax.interop.weights import Params, Plan
from seqjax.models.overrides import resolved
from seqjax.models.tables import HuggingFaceTable, State
from seqjax.settings import resolve

PAD = 1
"""fairseq's, which models have without being told."""
_BUFFERS = re.compile(r"(?:.*\.)?(?:position_ids|token_type_ids)")
"""Numbers that count up, which transformers kept beside the weights until 2023."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """Which of our families a folder's model is one of."""

    family: str
    """`config.model.name`."""
    place: str
    """`module:OBJECT` of the table."""
    table: HuggingFaceTable = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """A folder's model, as its configuration and its weights say it together."""

    kind: Kind
    config: ModelSection
    """The model's dataclass."""
    state: State = dataclasses.field(repr=False)
    """Its tensors under the names of the table."""
    plan: Plan = dataclasses.field(repr=False)
    """What they must be."""
    source_vocab_size: int
    target_vocab_size: int

    def params(self) -> Params:
        """float32 arrays as the model's `init` makes them.

        Raises:
          WeightsError: the weights do not fit the model.
        """
        return weights.to_params(self.state, self.plan)

    def dtypes(self) -> dict[str, str]:
        """Types of the tensors that are not float32."""
        return {k: v.dtype.name for k, v in self.state.items() if v.dtype != np.float32}

    def kept(self) -> State:
        """Tensors that hold no parameter of ours."""
        return {k: np.array(v) for k, v in self.state.items() if self.plan.ignored.fullmatch(k)}


def kind_of(hf: Mapping[str, Any]) -> Kind:
    """The family of a `config.json`.

    Raises:
      ConfigError: there is none; it lists those that there are.
    """
    tables = models.huggingface_tables()
    wanted = hf.get("model_type")
    known = sorted({name for _, _, table in tables for name in table.model_types})
    if not isinstance(wanted, str):
        raise ConfigError(f"config.json has no model_type; known ones are {', '.join(known)}")
    found = [(f, p, t) for f, p, t in tables if wanted in t.model_types]
    if not found:
        raise ConfigError(f"model_type: {wanted!r} is unknown; known ones are {', '.join(known)}")
    classes = hf.get("architectures") or []
    if not isinstance(classes, list):
        raise ConfigError(f"architectures: {classes!r} is no list of names of classes")
    fitting = [one for one in found if not classes or set(classes) & set(one[2].architectures)]
    if not fitting:
        there = sorted({name for _, _, table in found for name in table.architectures})
        raise ConfigError(f"architectures: {' '.join(map(str, classes))}: of {wanted!r}, "
                          f"{', '.join(there)} are here")
    family, place, table = fitting[0]
    return Kind(family=family, place=place, table=table)


def describe(hf: Mapping[str, Any], tensors: State) -> Stored:
    """A folder's model from its `config.json` and its tensors.

    Raises:
      ConfigError: no model of ours, or a key that cannot be honoured.
      CheckpointError: tensors of another vocabulary than the configuration's.
      WeightsError: no embedding.
    """
    kind = kind_of(hf)
    names = kind.table.names
    config = resolve({"model": {"name": kind.family, **kind.table.config_from(hf)}}).model
    state, config = names.upgrade(_today(tensors, kind.table.prefix), config)
    state = _owners(state, names.copies(config))
    try:
        source, target = names.vocabulary(state)
    except KeyError as error:
        raise weights.WeightsError(f"the weights have no {error.args[0]}") from None
    for key, size in zip(kind.table.vocabularies, (source, target), strict=True):
        said = hf.get(key) if key else None
        if said is not None and said != size:
            raise CheckpointError(f"config.json says {key} {said}, but the embedding has {size} "
                                  "rows: they are of two models")
    pad = hf.get("pad_token_id", kind.table.special.get("pad_token_id"))
    plan = plan_of(config, kind, source_vocab_size=source, target_vocab_size=target,
                   pad=target if pad is None else pad)
    return Stored(kind=kind, config=config, state=state, plan=plan,
                  source_vocab_size=source, target_vocab_size=target)


def _today(tensors: State, prefix: str) -> State:
    """The tensors without what older files have beside them, norms by the names that they have
    today, and all parts under the names of the class with heads."""
    found = {re.sub(r"(LayerNorm|layer_norm)\.gamma$", r"\1.weight",
                    re.sub(r"(LayerNorm|layer_norm)\.beta$", r"\1.bias", name)): value
             for name, value in tensors.items() if not _BUFFERS.fullmatch(name)}
    if prefix and not any(name.startswith(prefix) for name in found):
        found = {prefix + name: value for name, value in found.items()}
    return found


def _owners(state: State, copies: Mapping[str, str]) -> State:
    """A tied tensor that is there under one of its other names alone, by the one that is read."""
    found = dict(state)
    for copy, owner in copies.items():
        if owner not in found and copy in found:
            found[owner] = found.pop(copy)
    return found


def plan_of(
    config: ModelSection, kind: Kind, *, source_vocab_size: int, target_vocab_size: int,
    **special_ids: int,
) -> Plan:
    """What a folder holds of the model of a configuration, under the names of a table.

    Args:
      **special_ids: as `models.build` takes them.
    """
    given = {name: value for name, value in special_ids.items() if (name, value) != ("pad", PAD)}
    model = models.build(
        config, source_vocab_size=source_vocab_size, target_vocab_size=target_vocab_size,
        compute_dtype=jnp.float32, **given)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return weights.plan(shapes, kind.table.names, config=config, table=kind.place,
                        target_vocab_size=target_vocab_size)


# ---- writing ----


def choose(config: ModelSection, *, place: str | None = None) -> Kind:
    """The table by which a model is written.

    Args:
      place: the one by which it was read, if it was: it comes first.

    Raises:
      ConfigError: there is none that can say the model; says why.
    """
    tables = models.huggingface_tables(config.name)
    if not tables:
        raise ConfigError(f"transformers has no model {config.name!r}, so that there are no "
                          "Hugging Face folders of it")
    reasons = []
    for family, where, table in sorted(tables, key=lambda one: one[1] != place):
        kind = Kind(family=family, place=where, table=table)
        try:
            table.config_to(resolved(config))
        except ConfigError as error:
            reasons.append(f"{table.model_types[0]}: {error}")
        else:
            return kind
    raise ConfigError("no model of transformers is this one: " + "; ".join(reasons))


def to_state(
    params: Mapping[str, Any], config: ModelSection, kind: Kind, *, source_vocab_size: int,
    target_vocab_size: int, kept: State | None = None, dtypes: Mapping[str, str] | None = None,
    with_heads: bool = True, **special_ids: int,
) -> State:
    """The tensors that transformers 5 writes for a model, tied ones once.

    Args:
      kept, dtypes: of the folder that the parameters came from, if they did.
      with_heads: of the class that has them; else those under `prefix` alone, without it.
      **special_ids: as `models.build` takes them.
    """
    plan = plan_of(config, kind, source_vocab_size=source_vocab_size,
                   target_vocab_size=target_vocab_size, **special_ids)
    state = weights.to_state(params, plan, kept=kept, dtypes=dtypes)
    state = {name: value for name, value in state.items() if name not in plan.copies}
    state = kind.table.join(state, config)
    if with_heads:
        return state
    prefix = kind.table.prefix
    return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
