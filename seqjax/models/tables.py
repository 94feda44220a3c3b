"""The tables in which a family says how another toolkit spells its keys and its weights.

Data alone: what reads and writes by them is in `seqjax.interop`.

By default a parameter is found under its own path: `encoder/layers/fc1/kernel` stacks
`encoder.layers.N.fc1.weight`, transposed. A family states the exceptions.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

State = dict[str, np.ndarray]
"""A state dict: names and arrays, in the file's order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transform:
    """torch's layout <-> ours, for the array of one layer. Must be a view or a new array."""

    name: str = "reshaped"
    """For listings: what becomes of theirs."""
    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


SAME = Transform(name="same", ours=lambda x: x, theirs=lambda x: x)
TRANSPOSED = Transform(name="transposed", ours=lambda x: x.T, theirs=lambda x: x.T)
"""[out, in] <-> [in, out]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigKeys:
    """How one family's configuration is read from fairseq's."""

    refused: Mapping[str, tuple[Any, ...]]
    """fairseq switches that we do not have -> values under which they are off. Absent and
    None always are."""
    dropped: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    """Likewise, for switches of training that leave no trace in the weights: a warning."""
    check: Callable[[Mapping[str, Any]], None] = lambda given: None
    """Raises ConfigError, or warns, for what is not told by the value of one key alone."""
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Older name -> today's, which is used where the latter is absent or zero."""
    derive: Callable[[dict[str, Any], set[str]], None] = lambda values, explicit: None
    """Fills in what fairseq's architecture functions derive from other keys; told which
    keys the file itself gave."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightNames:
    """Another toolkit's names for the weights of one family of models."""

    vocabulary: Callable[[State], tuple[int, int]]
    """Entries of the source and target dictionaries, from the (upgraded) weights. May raise
    KeyError where they are missing."""
    upgrade: Callable[[State, Any], tuple[State, Any]] = lambda state, config: (state, config)
    """Old names to today's, in a new dict; may change the configuration as well (fairseq's
    `version` rules). Raises ConfigError for what cannot be carried over."""
    ignored: tuple[str, ...] = ()
    """Regular expressions of whole names that hold no parameter; they are kept for export."""
    unused: tuple[str, ...] = ()
    """Those of them that fairseq registers as parameters all the same, and never uses: they have
    a number in the optimizer's state, but no moments."""
    idle: tuple[str, ...] = ()
    """Regular expressions of parameters that no gradient reaches under some tasks, such as heads
    that are not trained: torch makes no moments of them, or leaves those there are as they are."""
    copies: Callable[[Any], Mapping[str, str]] = lambda config: {}
    """Names under which fairseq writes a tied tensor once more -> the name that we read."""
    constants: Callable[[Any], State] = lambda config: {}
    """Entries without parameter that fairseq expects to find."""
    empty: Callable[[Any, int], State] = lambda config, target_vocab_size: {}
    """Parameters of fairseq's that have no element, and no place here."""
    renames: tuple[tuple[str, str], ...] = ()
    """Regular expression and replacement on names made from our paths; all are applied."""
    transforms: tuple[tuple[str, Transform], ...] = ()
    """Regular expression of fairseq names and the layout to use; the first wins over the
    default (kernels transposed, the rest as they are)."""
    stacks: tuple[str, ...] = ("layers",)
    """Path parts under which like layers are stacked on axis 0."""
    order: tuple[str, ...] = ()
    """Parts of names between dots, in the order in which modules register them: torch numbers
    an optimizer's moments by it. Numbers are in order by themselves."""
    chosen: tuple[str, ...] = ()
    """Parts behind which stands a name that users chose, as heads have; these are in the order of
    the alphabet."""
    place: Callable[[str], tuple[int, ...] | None] = lambda part: None
    """The place among its siblings of a part that no list can name, one with a number in it;
    None: `order` tells."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairseqTable:
    """All that a family has to say about fairseq's files."""

    keys: ConfigKeys
    """How the configuration is read."""
    names: WeightNames
    """How the weights are called."""
    check_export: Callable[[Any], None] = lambda config: None
    """Raises ConfigError for a configuration that fairseq has no model for."""
    arch: Callable[[Any], str] = lambda config: config.arch or config.name
    """The architecture that a file names: one that fairseq has, and whose function leaves a model
    as it is whose keys are all said."""
    unsaid: tuple[str, ...] = ()
    """Keys of ours that no file of fairseq's has: what they say, its weights say."""
    as_trained: Callable[[Any, str], Any] = lambda config, criterion: config
    """The configuration that fairseq-train makes of these keys under a criterion, where there
    are no weights yet that would tell (see `upgrade`)."""


def any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """One expression for all of a family's, which matches nothing where there are none."""
    return re.compile("|".join(patterns) or r"(?!)")
