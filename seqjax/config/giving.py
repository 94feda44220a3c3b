"""What keys of models and tasks give to losses: said where the key is declared.

    load_alignments: bool = field(default=False, metadata=gives("alignments", losses_only=True))

A loss says by the same names what it needs (`losses.Loss.needs`); `check_needs` compares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from seqjax.config.building import ConfigError
from seqjax.config.sections import Config

_GIVES = "gives"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Gift:
    what: str
    losses_only: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Key:
    """A key that can give something, and whether it does."""

    name: str
    given: bool
    losses_only: bool


def gives(what: str, *, losses_only: bool = False) -> dict[str, Any]:
    """Metadata of a field: when it is set (to anything but None, False or nothing), losses are
    given `what`.

    Args:
      losses_only: nobody else reads it, so that it is a mistake to set it for a loss that does
        not need it.
    """
    return {_GIVES: _Gift(what=what, losses_only=losses_only)}


def _keys(config: Config) -> dict[str, _Key]:
    """What is given -> the key of this configuration's model or task that can give it."""
    found = {}
    for section in ("model", "task"):
        values = getattr(config, section)
        for field in dataclasses.fields(values):
            gift = field.metadata.get(_GIVES)
            if gift is not None:
                found[gift.what] = _Key(
                    name=f"config.{section}.{field.name}", losses_only=gift.losses_only,
                    given=bool(getattr(values, field.name)))
    return found


def check_needs(
    config: Config, needs: Iterable[str], *, known: Mapping[str, Iterable[str]]
) -> None:
    """Refuses a loss that needs what the model and the task do not give, and keys that give to
    no loss.

    Args:
      needs: of the configured loss.
      known: the same of every loss that could be chosen, by name.

    Raises:
      ConfigError: naming the keys and what else to do.
    """
    keys, needs, name = _keys(config), set(needs), config.loss.name
    given = {what for what, key in keys.items() if key.given}
    others = [other for other, wanted in sorted(known.items()) if set(wanted) <= given]
    without = f"give config.loss.name another loss ({', '.join(others)})"
    for what in sorted(needs - given):
        if what in keys:
            raise ConfigError(f"config.loss.name: {name} needs {what}, which {keys[what].name} "
                              f"gives; set that, or {without}")
        raise ConfigError(
            f"config.loss.name: {name} needs {what}, which neither the model {config.model.name} "
            f"nor the task {config.task.name} can give; {without}")
    for what in sorted(given - needs):
        key = keys[what]
        if key.losses_only:
            users = [other for other, wanted in sorted(known.items()) if what in set(wanted)]
            raise ConfigError(
                f"{key.name}: gives {what}, and only a loss that needs them reads them "
                f"({', '.join(users)}), not {name}; set config.loss.name to one, or leave "
                f"{key.name} out")
