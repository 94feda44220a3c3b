"""What a family of models says of itself. Cheap to import: strings name what is heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One family of models, under one `config.model.name`."""

    name: str
    """`config.model.name`."""
    config: type
    """Its section of a configuration, a frozen dataclass."""
    archs: Mapping[str, Mapping[str, Any]]
    """fairseq's architecture names (`config.model.arch`) -> the defaults that they change."""
    model: str
    """`module:Class` of what `models.build` makes: an implementation of one of the protocols
    of `models.protocol`."""
    fairseq: str | None = None
    """`module:OBJECT` of its `tables.FairseqTable` (None: its `.pt` files cannot be read)."""
    huggingface: tuple[str, ...] = ()
    """`module:OBJECT` of each of its `tables.HuggingFaceTable`; in writing the first one is taken
    that can say the model's configuration."""
    partition: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    """Regular expression of parameter paths and the mesh axes of their last dimensions, for
    projections whose names `training.sharding.RULES` does not know; these come first."""
    waveforms: bool = False
    """Whether its models read samples of sound, and no words."""
    turns_padding: bool = False
    """Whether fairseq's encoder turns its padding from the left to the right, so that the
    attention that it prints begins with what is padding elsewhere."""
