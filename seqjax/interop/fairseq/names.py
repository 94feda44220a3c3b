"""What fairseq registers under a name: told apart from names that nobody has.

`names.tsv` is recorded by `scripts/record_flags.py` from fairseq itself: its kinds of
component, their names, the model of each architecture, and the flags that a component adds
to a command line.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
from collections.abc import Iterable, Mapping
from typing import get_args, get_type_hints

from seqjax import losses, models, tasks
from seqjax.config import ConfigError, OptimizerConfig, ScheduleConfig, nearest

KINDS = {"task": "task", "arch": "architecture", "criterion": "criterion",
         "optimizer": "optimizer", "lr_scheduler": "lr-scheduler"}
"""fairseq's name of what a run chooses -> how it is called."""
USUAL = {"task": "translation", "criterion": "cross_entropy", "optimizer": "adam",
         "lr_scheduler": "fixed"}
"""What fairseq takes where a run does not choose. It has no usual optimizer; this is ours."""
_PLURAL = {"criterion": "criteria"}
_OTHERS = ("bpe", "tokenizer", "scoring")
"""Further components that add flags."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registered:
    """One name that fairseq knows."""

    model: str
    """Of an architecture: its model, whose flags it takes."""
    flags: frozenset[str]
    """First names of the flags that it adds."""


@functools.cache
def registered() -> Mapping[tuple[str, str], Registered]:
    """(kind, name) -> what fairseq has there."""
    file = importlib.resources.files("seqjax.interop.fairseq") / "names.tsv"
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    return {(kind, name): Registered(model=model, flags=frozenset(flags.split()))
            for kind, name, model, flags in rows}


def here() -> dict[str, list[str]]:
    """Kind -> the names that seqjax has."""
    return {"task": tasks.fairseq_names(), "arch": sorted(models.ARCHS),
            "criterion": sorted(losses.CONFIGS),
            "optimizer": sorted(get_args(get_type_hints(OptimizerConfig)["name"])),
            "lr_scheduler": sorted(get_args(get_type_hints(ScheduleConfig)["name"]))}


def check(chosen: Mapping[str, str], *, where: str, user_dir: bool = False) -> None:
    """Whether all components that a run of fairseq's chose are here.

    Args:
      chosen: kind -> name, as fairseq calls both (`lr_scheduler`: `inverse_sqrt`).
      where: what the message begins with: the command.
      user_dir: whether the command has names of its own (`--user-dir`).

    Raises:
      ConfigError: naming all that are missing, whether fairseq has them, and what is here.
    """
    known, ours = registered(), here()
    lines = []
    for kind, word in KINDS.items():
        name = chosen.get(kind)
        if name is None or name in ours[kind]:
            continue
        if (kind, name) in known or (kind == "arch" and ("model", name) in known):
            there = _families() if kind == "arch" else ", ".join(ours[kind])
            lines.append(f"{word} {name!r} of fairseq is not in seqjax yet; here: {there}")
        elif user_dir:
            lines.append(f"{word} {name!r} is not fairseq's but of --user-dir; name a part of your "
                         "own in the configuration as package.module:Object, see "
                         "docs/extending.md")
        else:
            theirs = [n for k, n in known if k == kind] + ours[kind]
            plural = _PLURAL.get(kind, word + "s")
            lines.append(f"there is no {word} {name!r}, here or in fairseq."
                         + nearest(name, theirs if _close(name, theirs) else ours[kind])
                         .replace(" Known:", f" Here are the {plural}"))
    if lines:
        raise ConfigError(f"{where}: " + "; ".join(lines))


def _close(name: str, known: Iterable[str]) -> bool:
    return "Did you mean" in nearest(name, known)


def _families() -> str:
    return "architectures of the families " + ", ".join(sorted(models.CONFIGS))


def accepted(chosen: Mapping[str, str], *, switches: Iterable[str] = ()) -> frozenset[str]:
    """First names of the flags that fairseq-train takes beside these components.

    Args:
      chosen: kind -> name.
      switches: flags of the command that bring flags of their own (`--use-bmuf`).
    """
    known = registered()
    pairs = [("command", "fairseq-train"), *(("switch", s) for s in switches),
             *((kind, name) for kind, name in chosen.items() if kind != "arch")]
    if "arch" in chosen:
        found = known.get(("arch", chosen["arch"]))
        pairs.append(("model", found.model if found else chosen["arch"]))
    return frozenset().union(*(known[p].flags for p in pairs if p in known))


def owners(flag: str) -> str:
    """`optimizer adam, cpu_adam`: what a flag belongs to."""
    found: dict[str, list[str]] = {}
    for (kind, name), entry in registered().items():
        if flag in entry.flags:
            found.setdefault(kind, []).append(name)
    return "; ".join(f"{KINDS.get(kind, kind)} {', '.join(names)}"
                     for kind, names in found.items())
