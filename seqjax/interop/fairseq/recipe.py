"""How fairseq trained, as a configuration of ours: of a command line or of a checkpoint.

`fairseq_flags` says what each flag is called here, `recipe_sections` what its value means.
What cannot be honoured is named, never lost.
"""

from __future__ import annotations

import dataclasses
import pprint
import re
import warnings
from collections.abc import Mapping
from typing import Any

from seqjax import models, tasks
from seqjax.config import (
    Config,
    ConfigError,
    ModelSection,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    build,
)
from seqjax.interop.fairseq import command as fairseq_command
from seqjax.interop.fairseq import conditions as fairseq_conditions
from seqjax.interop.fairseq import flags as fairseq_flags
from seqjax.interop.fairseq import names as fairseq_names
from seqjax.interop.fairseq import recipe_sections
from seqjax.interop.fairseq.config import FairseqConfig
from seqjax.interop.fairseq.restore import restore_options
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run of fairseq's, here."""

    raw: dict[str, Any]
    """Sparse configuration, as `settings.resolve` takes it."""
    notes: tuple[str, ...]
    """What a reader must know: one sentence each."""
    unsupported: tuple[str, ...]
    """Flags that could not be honoured, with the reason."""
    unneeded: tuple[str, ...] = ()
    """Flags that ask for nothing here, with the reason: what they are for in fairseq is not
    needed, or is another command's, or they are without effect beside the others."""


def from_command(text: str) -> Recipe:
    """`fairseq-train ...` as a configuration.

    Raises:
      ConfigError: another command, an unknown flag, an architecture or a task that is not here.
    """
    command = fairseq_command.parse(text)
    if command.program != "fairseq-train":
        raise ConfigError(f"{command.program}: only fairseq-train becomes a configuration; the "
                          "flags of the other commands have the same names here")
    values = dict(command.given)
    if command.workers and (command.forced or "distributed_world_size" not in values):
        values["distributed_world_size"] = command.workers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of checkpoints; flags are named one by one
            recipe = _recipe({**values, "data": command.data or ""}, model=values)
        _check(recipe.raw)
    except (ValueError, TypeError) as error:  # also a number that is none, JSON that is none
        ours = isinstance(error, ConfigError) or str(error).startswith("config.")
        text = str(error).replace("the checkpoint's model", "the model")
        raise ConfigError("fairseq-train: " + ("" if ours else "a value cannot be read: ")
                          + _with_flags(text, values)) from None
    variables = sorted({w for v in (*values.values(), command.data) if isinstance(v, str)
                        for w in re.findall(r"\$\{?\w+\}?", v)})
    if variables:
        recipe = dataclasses.replace(recipe, notes=(
            *recipe.notes, f"Variables of a shell are not known here: {', '.join(variables)}."))
    return dataclasses.replace(recipe, unsupported=(*command.foreign, *recipe.unsupported))


def _check(raw: Mapping[str, Any]) -> None:
    """What would be found out when training begins, and is known now."""
    def section(name: str, cls: type) -> Any:
        return build(cls, raw.get(name, {}), f"config.{name}")

    train = section("train", TrainConfig)
    make_schedule(section("schedule", ScheduleConfig), lr=train.lr, max_update=train.max_update)
    make_optimizer(section("optimizer", OptimizerConfig))


def _with_flags(message: str, given: Mapping[str, Any]) -> str:
    """A message about our keys, with the flags that set them."""
    words = set(re.findall(r"[\w.]+", message.replace("config.", "")))
    flags = [f.names[0] for f in fairseq_flags.table() if f.dest in given
             and f.names[0] not in message
             and words & {f.key, f"{f.key.partition('.')[0]}.{f.dest}", f"model.{f.dest}",
                          f.dest if "_" in f.dest else f.key}]
    return message + (f" ({', '.join(flags)})" if flags else "")


def from_fairseq(
    config: FairseqConfig, *, stored: ModelSection | None = None, data: str | None = None
) -> Recipe:
    """The run that wrote a checkpoint.

    Args:
      stored: its model section, of which the weights say a part (`stored_config`); without
        it the section is what fairseq-train makes of the keys.
      data: data folder, if not the one that fairseq was given.
    """
    flat: dict[str, Any] = {}
    for group, values in config.groups.items():
        flat |= {k: v for k, v in values.items() if not k.startswith("_")
                 and not (isinstance(v, str) and v.startswith(("${", "???")))}
        flat[group] = values.get("_name")
    flat |= {"arch": config.arch, "data": data or flat.get("data") or ""}
    return _recipe(flat, model=config.model, stored=stored)


def _recipe(
    flat: Mapping[str, Any], *, model: Mapping[str, Any], stored: ModelSection | None = None
) -> Recipe:
    table = [flag for flag in fairseq_flags.table() if "T" in flag.commands]
    raw: recipe_sections.Raw = {
        "task": {}, "model": {}, "loss": {}, "optimizer": {}, "schedule": {}, "train": {},
        "batching": {}, "valid": {}, "checkpoint": {}, "log": {}, "generation": {}}
    notes: list[str] = []
    names = {kind: flat.get(kind) or usual for kind, usual in fairseq_names.USUAL.items()}
    fairseq_names.check({**names, "arch": str(flat["arch"])}, where="the run",
                        user_dir=bool(flat.get("user_dir")))
    flat = _older(flat, names["lr_scheduler"], notes)
    idle = [*fairseq_conditions.without_effect(flat, table), *_of_other_models(flat, table)]
    restore = restore_options(flat)
    raw["optimizer"] |= restore.optimizer
    for flag in table:
        value = flat.get(flag.dest)
        section, _, key = flag.key.partition(".")
        if value is None or flag.dest in names or section not in raw or not key.isidentifier():
            continue
        special = flag.dest in recipe_sections.SPECIAL
        if special or section in ("model", "task", "loss", "generation"):
            continue
        try:
            # What --optimizer-overrides says goes before the optimizer's own flags.
            raw[section].setdefault(key, recipe_sections.VALUES.get(flag.dest, lambda v: v)(value))
        except (ValueError, TypeError):
            raise ConfigError(f"{flag.names[0]}: cannot read {value!r}") from None
    recipe_sections.fill(raw, flat, names=names, notes=notes,
                         model=model if stored is None else stored)
    result: dict[str, Any] = {k: v for k, v in raw.items() if v}
    result["seed"] = 1 if flat.get("seed") is None else recipe_sections.whole(flat["seed"])
    result |= restore.raw
    # A validation's budget that is training's own asks for nothing.
    given = {k: v for k, v in flat.items() if v is not None
             and not (k.endswith("_valid") and v == flat.get(k.removesuffix("_valid")))}
    named = " ".join(idle)
    return Recipe(raw=result, notes=(*notes, *restore.notes),
                  unsupported=(*restore.unsupported, *fairseq_flags.unsupported(given, table),
                               *_refused_values(given)),
                  unneeded=(*idle, *(line for line in fairseq_flags.elsewhere(given, table)
                                     if line.split(":")[0] not in named)))


def _older(flat: Mapping[str, Any], schedule: str, notes: list[str]) -> dict[str, Any]:
    """Values by today's names where an older fairseq had others."""
    flat = dict(flat)
    if schedule not in ("cosine", "step") and flat.get("min_lr") is not None:
        value = flat.pop("min_lr")
        if flat.get("stop_min_lr") in (None, -1, -1.0):
            flat["stop_min_lr"] = value
            notes.append(f"--min-lr {value}: with {schedule}, what fairseq of before 0.10.1 "
                         "meant: training stops there (--stop-min-lr).")
        else:
            notes.append(f"--min-lr {value}: without effect beside --stop-min-lr.")
    for name in ("save_interval", "validate_interval", "log_interval"):
        if flat.get(name) is not None and recipe_sections.whole(flat[name]) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {flat[name]}: fairseq divides by it; "
                              "give 1 or more")
    return flat


def _of_other_models(flat: Mapping[str, Any], table: list[fairseq_flags.Flag]) -> list[str]:
    """Flags of the model that fairseq takes with this architecture and makes nothing of."""
    family, _ = models.ARCHS[str(flat["arch"])]
    own = {f"model.{f.name}" for f in dataclasses.fields(models.CONFIGS[family])}
    task = tasks.of_fairseq(str(flat.get("task") or fairseq_names.USUAL["task"]))
    if task is not None:  # a flag of both
        own |= {f"model.{f.name}" for f in dataclasses.fields(task.config)}
    return [f"{flag.shown(flat[flag.dest])}: without effect on a {family}" for flag in table
            if flag.key.startswith("model.") and flag.key not in own | {"model.arch"}
            and f"model.{flag.dest}" not in own and not flag.is_default(flat.get(flag.dest))]


def _refused_values(given: Mapping[str, Any]) -> list[str]:
    """Values of flags of which other values are harmless."""
    if str(given.get("ddp_backend")) == "slowmo":
        return ["--ddp-backend slowmo: local updates with occasional averaging; updates are "
                "always synchronous"]
    return []


# ---- as a file ----


def render(recipe: Recipe, *, title: str) -> str:
    """A file for configs/."""
    lines = [f'"""{title}', "", "Train with",
             "", "    python -m seqjax.train --config THIS_FILE.py --workdir runs/NAME", ""]
    lines += [*recipe.notes, ""]
    if recipe.unsupported:
        lines += ["Not honoured:", "", *(f"    {line}" for line in recipe.unsupported), ""]
    if recipe.unneeded:
        lines += ["Nothing to set for:", "", *(f"    {line}" for line in recipe.unneeded), ""]
    known = [f.name for f in dataclasses.fields(Config)]
    ordered = {k: recipe.raw[k] for k in known if k in recipe.raw}
    body = pprint.pformat(ordered, sort_dicts=False, width=92, indent=1)
    indented = "\n".join(("    " + line if i else line) for i, line in enumerate(
        body.splitlines()))
    text = "\n".join(lines).rstrip().replace("\\", "\\\\")
    return (f'{text}\n"""\n\nfrom ml_collections import ConfigDict\n\n\n'
            f"def get_config() -> ConfigDict:\n    return ConfigDict({indented})\n")
