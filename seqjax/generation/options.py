"""Which options of a search have an effect where they are used. None is ignored in silence.

A call's own options are refused where they could change nothing; those that a model brings
along from its training give way. Where fairseq's users are used to giving both of two options
of which one decides, that is said once. Values that no search can use, and strategies that
exclude each other, are refused by `beam_search.check`.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from typing import Any

from seqjax import config as configuration
from seqjax.config import ConfigError, GenerationConfig

_log = logging.getLogger(__name__)
_DEFAULTS = GenerationConfig()


def without_effect(config: GenerationConfig) -> dict[str, str]:
    """Options that change nothing beside the others -> why. They are refused."""
    found = {}
    if not config.sampling:
        found["seed"] = "nothing is drawn without sampling=True"
    if config.diverse_beam_groups < 2:
        found["diverse_beam_strength"] = "it needs diverse_beam_groups=2 or more"
    if config.rules == "fairseq":
        found |= dict.fromkeys(("early_stopping", "force_eos"), "it needs rules=transformers")
    if config.sampling_topp > 0 and config.rules == "fairseq":
        found["sampling_topk"] = "sampling_topp decides where both are given; keep one"
    return found


def overridden(config: GenerationConfig) -> dict[str, str]:
    """Options over whose heads another one decides, as in fairseq -> which."""
    found = {}
    if config.unnormalized:
        found["lenpen"] = "unnormalized scores are not divided by any length"
    if config.match_source_len:
        found |= dict.fromkeys(("max_len_a", "max_len_b", "min_len"),
                               "match_source_len makes outputs as long as their source")
    return found


def _build(inherited: GenerationConfig, given: Mapping[str, Any]) -> GenerationConfig:
    return configuration.build(
        GenerationConfig, {**configuration.to_plain(inherited), **given}, "generation")


@functools.lru_cache(maxsize=64)
def _built(
    inherited: GenerationConfig, given: tuple[tuple[str, type, Any], ...]
) -> GenerationConfig:
    """The same for the options of the last calls, with their types: True is not 1."""
    return _build(inherited, {name: value for name, _, value in given})


def settle(
    inherited: GenerationConfig, given: Mapping[str, Any], *, references: bool = False,
) -> GenerationConfig:
    """The options of one call.

    Args:
      inherited: those that the model was trained with.
      given: those of the call, by name.
      references: there are targets whose first tokens `prefix_size` can force.

    Raises:
      ConfigError: an unknown option or a wrong type; a given option that can have no effect;
        `prefix_size` without references, wherever it is from.
    """
    plain = all(isinstance(x, (str, int, float, type(None))) for x in given.values())
    config = (_built(inherited, tuple((k, type(x), x) for k, x in given.items())) if plain else
              _build(inherited, given))
    if config.prefix_size > 0 and not references:
        raise ConfigError(
            f"generation.prefix_size: {config.prefix_size}, but there are no references here "
            "whose first tokens it could force: generate --data DIR has them; in Python give "
            "a translation model prefixes=[...]; or leave it at 0")
    give_way = {}
    for name, why in {**without_effect(config), **overridden(config)}.items():
        value, default = getattr(config, name), getattr(_DEFAULTS, name)
        if value == default:
            continue
        if name not in given:
            give_way[name] = default
        elif name in without_effect(config):
            raise ConfigError(f"generation.{name}: {value} would change nothing: {why}")
        else:
            _say_once(f"generation.{name}: {value} has no effect, as in fairseq: {why}")
    return dataclasses.replace(config, **give_way)


def own(config: GenerationConfig) -> dict[str, Any]:
    """What a configuration says beyond the defaults."""
    return {name: value for name, value in vars(config).items()
            if value != getattr(_DEFAULTS, name)}


@functools.lru_cache(maxsize=64)
def _say_once(message: str) -> None:
    _log.warning(message)
