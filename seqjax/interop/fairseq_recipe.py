"""How fairseq trained, as a configuration of ours: of a command line or of a checkpoint.

`fairseq_flags` says what each flag is called here; this file has the values that differ,
and fairseq's defaults where ours are others. What cannot be honoured is named, never lost.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import pprint
from collections.abc import Callable, Mapping
from typing import Any

from seqjax import losses, models, tasks
from seqjax.config import (
    BatchingConfig,
    Config,
    ConfigError,
    GenerationConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    build,
    nearest,
    resolve_model,
    to_plain,
)
from seqjax.interop import fairseq_flags
from seqjax.interop.fairseq_config import FairseqConfig, model_config
from seqjax.interop.families import FAMILIES
from seqjax.models.overrides import kept_layers, with_layers

COMPOUNDING = (
    "--scale-parameter with --lr: fairseq multiplies the scales of all tensors so far into the "
    "rate of each (a mistake of its optimizer's), so most of its tensors hardly moved. Here each "
    "tensor has its own scale, the rule that was meant: updates are larger, and lr may have to "
    "be lower.")
"""What becomes of Adafactor with an outer rate."""
EVERYTHING = 10_000
"""`checkpoint.keep_last` where fairseq keeps every epoch."""
Raw = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run of fairseq's, here."""

    raw: dict[str, Any]
    """Sparse configuration, as `hub.resolve` takes it."""
    notes: tuple[str, ...]
    """What a reader must know: one sentence each."""
    unsupported: tuple[str, ...]
    """Flags that could not be honoured, with the reason."""


def from_command(text: str) -> Recipe:
    """`fairseq-train ...` as a configuration.

    Raises:
      ConfigError: another command, an unknown flag, an architecture or a task that is not here.
    """
    command = fairseq_flags.parse(text)
    if command.program != "fairseq-train":
        raise ConfigError(f"{command.program}: only fairseq-train becomes a configuration; the "
                          "flags of the other commands have the same names here")
    values = dict(command.given)
    if "arch" not in values:
        raise ConfigError("fairseq-train: --arch is needed")
    try:
        return _recipe({**values, "data": command.data or ""}, model=values)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:  # a number that is none, JSON that is none
        raise ConfigError(f"fairseq-train: a value cannot be read: {error}") from None


def from_fairseq(
    config: FairseqConfig, *, stored: Any = None, data: str | None = None
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
    flat: Mapping[str, Any], *, model: Mapping[str, Any], stored: Any = None
) -> Recipe:
    table = fairseq_flags.table()
    raw: Raw = {"task": {}, "model": {}, "loss": {}, "optimizer": {}, "schedule": {},
                "train": {}, "batching": {}, "valid": {}, "checkpoint": {}, "log": {},
                "generation": {}}
    notes: list[str] = []
    names = {"task": flat.get("task") or "translation",
             "criterion": flat.get("criterion") or "cross_entropy",
             "optimizer": flat.get("optimizer") or "adam",
             "lr_scheduler": flat.get("lr_scheduler") or "fixed"}
    for flag in table:
        value = flat.get(flag.dest)
        section, _, key = flag.key.partition(".")
        if value is None or flag.dest in names or section not in raw or not key.isidentifier():
            continue
        if section in ("model", "task", "loss", "generation") or flag.dest in _SPECIAL:
            continue
        try:
            raw[section][key] = _VALUES.get(flag.dest, lambda v: v)(value)
        except (ValueError, TypeError):
            raise ConfigError(f"{flag.names[0]}: cannot read {value!r}") from None
    _task(flat, raw, names["task"], notes)
    _model(flat, model if stored is None else stored, raw, names["criterion"], notes)
    _loss(flat, raw, names["criterion"])
    _optimization(flat, raw, names, notes)
    _batching(flat, raw, notes)
    _validation(flat, raw, notes)
    _checkpoints(flat, raw)
    _precision(flat, raw, notes)
    result: dict[str, Any] = {k: v for k, v in raw.items() if v}
    result["seed"] = int(flat.get("seed") or 1)
    result |= _beginning(flat)
    return Recipe(raw=result, notes=tuple(notes),
                  unsupported=tuple(fairseq_flags.unsupported(flat, table)))


# ---- values ----


def _literal(value: Any) -> Any:
    """`(0.9, 0.98)` and `[1, 2]`, which fairseq evaluates; other text as it is."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _numbers(value: Any) -> list[Any]:
    """`0.1,0.2`, `[0.1]` or `0.1` as a list."""
    found = _literal(value)
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _whole(value: Any) -> int:
    return int(float(value))


_VALUES: dict[str, Callable[[Any], Any]] = {
    "lr": _numbers, "update_freq": _numbers, "adam_betas": _literal, "adafactor_eps": _literal,
    "phase_ratio": _literal, "warmup_updates": _whole, "warmup_steps": _whole,
    "total_num_update": _whole, "max_update": _whole, "max_epoch": _whole,
    "patience": lambda v: max(_whole(v), 0), "log_interval": _whole,
    "beta1": _literal, "momentum": _literal, "max_valid_steps": lambda v: _whole(v) + 1,
}
"""fairseq's value -> ours; others are read as they are."""
_SPECIAL = {
    "max_tokens", "batch_size", "distributed_world_size", "disable_validation", "eval_bleu",
    "eval_bleu_args", "eval_bleu_print_samples", "keep_interval_updates", "keep_last_epochs",
    "keep_best_checkpoints", "keep_interval_updates_pattern", "tensorboard_logdir", "fp16",
    "bf16", "memory_efficient_fp16", "memory_efficient_bf16", "amp", "valid_subset",
    "finetune_from_model", "restore_file", "checkpoint_activations", "seed", "beam",
    "required_seq_len_multiple",
}
"""Handled one by one below."""


def _known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in dataclasses.fields(cls)}
    return {k: v for k, v in values.items() if k in names}


_SHOWN = {"lr", "max_update", "warmup_updates", "adam_betas", "label_smoothing", "max_tokens"}
"""Written even where they are our defaults: readers look for them."""


def _differing(section: Any, default: Any) -> dict[str, Any]:
    """Fields of a dataclass that differ from another's, as plain data, and those to show."""
    a, b = to_plain(section), to_plain(default)
    return {k: v for k, v in a.items() if v != b[k] or k in _SHOWN}


# ---- sections ----


def _task(flat: Mapping[str, Any], raw: Raw, name: str, notes: list[str]) -> None:
    if name not in tasks.CONFIGS:
        raise ConfigError(f"task {name!r} is not here." + nearest(name, tasks.CONFIGS))
    cls = tasks.CONFIGS[name]
    given = {k: v for k, v in _known(cls, flat).items() if v is not None and k != "name"}
    if int(given.get("upsample_primary", 1)) < 1:
        given.pop("upsample_primary")
    split = given.get("shorten_data_split_list")
    if split is not None:
        given["shorten_data_split_list"] = [x for x in str(split).split(",") if x]
    if flat.get("eval_bleu_remove_bpe"):
        given["post_process"] = flat["eval_bleu_remove_bpe"]
    if ":" in str(given.get("data", "")):
        notes.append("fairseq takes one folder of the data an epoch, in turn; here "
                     "preprocess all of it into one folder.")
    raw["task"] = {"name": name, **_differing(build(cls, {**given, "name": name}, "task"),
                                              cls(name=name))}


def _model(
    flat: Mapping[str, Any], given: Any, raw: Raw, criterion: str, notes: list[str]
) -> None:
    """The model section: of a checkpoint's dataclass, or of the keys of a command."""
    arch = str(flat["arch"])
    if isinstance(given, Mapping):
        given = _built(flat, given, criterion, notes)
    usual = resolve_model({"arch": arch}, models=models.CONFIGS, archs=models.ARCHS)
    raw["model"] = {"arch": arch, **_differing(given, usual)}
    if flat.get("checkpoint_activations") and hasattr(given, "remat"):
        raw["model"]["remat"] = "full"


def _built(
    flat: Mapping[str, Any], given: Mapping[str, Any], criterion: str, notes: list[str]
) -> Any:
    """The model that fairseq builds of a command's keys."""
    arch = str(flat["arch"])
    family, _ = models.ARCHS.get(arch, (None, None))
    own = {f.name for f in dataclasses.fields(models.CONFIGS[family])} if family else set()
    typed = {k: v if k in own else _literal(v) for k, v in given.items()}
    found = model_config(FairseqConfig(arch=arch, model=typed, groups={}),
                         {name: f.keys for name, f in FAMILIES.items()})
    built = FAMILIES[found.name].as_trained(found, criterion)
    for field in dataclasses.fields(found):
        before, after = getattr(found, field.name), getattr(built, field.name)
        if before != after and field.name in given:
            notes.append(f"fairseq takes no notice of --{field.name.replace('_', '-')} here: its "
                         f"{arch} is built without it.")
    if "init_from" not in _beginning(flat):  # nothing to choose from: fewer layers
        built = with_layers(built, {k: len(v) for k, v in kept_layers(built).items()})
    return built


def _loss(flat: Mapping[str, Any], raw: Raw, name: str) -> None:
    if name not in losses.CONFIGS:
        raise ConfigError(f"criterion {name!r} is not here." + nearest(name, losses.CONFIGS))
    values = {k: v for k, v in _known(losses.CONFIGS[name], flat).items() if v is not None}
    if "smoothed" in name:
        values.setdefault("label_smoothing", 0.0)
    built = build(losses.CONFIGS[name], {**values, "name": name}, "loss")
    raw["loss"] = {"name": name, **_differing(built, losses.CONFIGS[name]())}


def _optimization(
    flat: Mapping[str, Any], raw: Raw, names: Mapping[str, str], notes: list[str]
) -> None:
    optimizer, schedule = names["optimizer"], names["lr_scheduler"]
    raw["optimizer"]["name"], raw["schedule"]["name"] = optimizer, schedule
    if not flat.get("optimizer"):
        notes.append("fairseq was given no --optimizer; this is adam.")
    raw["optimizer"].setdefault("adam_betas", (0.9, 0.999))
    raw["schedule"].setdefault("warmup_updates", 4000 if schedule == "inverse_sqrt" else 0)
    raw["train"].setdefault("lr", [0.25])
    for section, cls in (("optimizer", OptimizerConfig), ("schedule", ScheduleConfig),
                         ("train", TrainConfig)):
        values = {k: v for k, v in raw[section].items() if v is not None}
        built = build(cls, values, section)
        kept = _differing(built, cls())
        named = {"name": values["name"]} if "name" in values else {}
        raw[section] = {**named, **kept}
    if optimizer != "adam":
        raw["optimizer"].pop("adam_betas", None)
    found = raw["optimizer"]
    if optimizer == "adafactor" and found.get("scale_parameter") and not found.get(
            "relative_step"):
        notes.append(COMPOUNDING)


def _batching(flat: Mapping[str, Any], raw: Raw, notes: list[str]) -> None:
    """fairseq's own batches in its own order, so that a run can be compared."""
    world = int(flat.get("distributed_world_size") or 1)
    values: dict[str, Any] = {"mode": "fairseq", "max_tokens": None}
    for theirs, ours in (("max_tokens", "max_tokens"), ("batch_size", "max_sentences")):
        if flat.get(theirs):
            values[ours] = _whole(flat[theirs]) * world
    if values["max_tokens"] is None and "max_sentences" not in values:
        raise ConfigError("fairseq-train: give --max-tokens or --batch-size")
    if world > 1:
        notes.append(f"--max-tokens and --batch-size are of one GPU in fairseq and of the whole "
                     f"mesh here: they are multiplied by the {world} workers.")
    elif not flat.get("distributed_world_size"):
        notes.append("fairseq uses every GPU it sees, each with --max-tokens; batching.max_tokens "
                     "is of the whole mesh: multiply it by their number.")
    notes.append("batching.mode=fairseq makes its very batches; bucketed or packed (the other "
                 "modes) pad less and train faster.")
    built = build(BatchingConfig, {**raw["batching"], **values}, "batching")
    raw["batching"] = {**_differing(built, BatchingConfig()), "mode": "fairseq"}


def _validation(flat: Mapping[str, Any], raw: Raw, notes: list[str]) -> None:
    section = raw["valid"]
    decode = bool(flat.get("eval_bleu"))
    if flat.get("disable_validation"):
        section.clear()
        section["enabled"] = False
        return
    section["decode"] = decode
    if decode:
        section["decode_sentences"] = 0
        options = flat.get("eval_bleu_args") or "{}"
        given = json.loads(options) if isinstance(options, str) else dict(options)
        known = {f.name for f in dataclasses.fields(GenerationConfig)}
        raw["generation"] = {k: v for k, v in given.items() if k in known}
        for key in sorted(set(given) - known):
            notes.append(f"--eval-bleu-args: {key} is not an option here.")
    if section.get("metric") in (None, "loss"):
        section.pop("metric", None)
    if flat.get("valid_subset") not in (None, "valid"):
        first, *more = str(flat["valid_subset"]).split(",")
        section["subset"] = first
        if more:
            notes.append(f"one split is watched, {first}; python -m seqjax.evaluate takes others.")
    every = int(flat.get("save_interval_updates") or 0)
    if every and not int(section.get("every_updates") or 0):
        section["every_updates"] = every  # fairseq validates whenever it saves
    for key, usual in (("every_epochs", 1), ("every_updates", 0), ("patience", 0)):
        if key in section and int(section[key]) == usual:
            del section[key]


def _checkpoints(flat: Mapping[str, Any], raw: Raw) -> None:
    def number(key: str) -> int:
        return int(flat.get(key) or -1)

    last = max(number("keep_last_epochs"), number("keep_interval_updates"))
    if last < 0:
        last = 1 if flat.get("no_epoch_checkpoints") else EVERYTHING
    section: dict[str, Any] = {"keep_last": last}
    if number("keep_best_checkpoints") > 1:
        section["keep_best"] = number("keep_best_checkpoints")
    if number("keep_interval_updates_pattern") > 0:
        section["keep_every_updates"] = number("keep_interval_updates_pattern")
    if int(flat.get("save_interval_updates") or 0):
        section["every_updates"] = int(flat["save_interval_updates"])
    raw["checkpoint"] = section
    raw["log"] = {k: v for k, v in raw["log"].items() if v != 100}


def _precision(flat: Mapping[str, Any], raw: Raw, notes: list[str]) -> None:
    half = [k for k in ("fp16", "bf16", "amp", "memory_efficient_fp16", "memory_efficient_bf16")
            if flat.get(k)]
    if half:
        notes.append(f"--{half[0].replace('_', '-')}: bfloat16 on GPU and TPU, float32 on a CPU "
                     "(train.compute_dtype=auto); no loss scale is needed.")
    else:
        raw["train"]["compute_dtype"] = "float32"


def _beginning(flat: Mapping[str, Any]) -> dict[str, str]:
    """Weights to begin with."""
    if flat.get("finetune_from_model"):
        return {"init_from": str(flat["finetune_from_model"])}
    file = flat.get("restore_file")
    if file and file != "checkpoint_last.pt":
        key = "init_from" if flat.get("reset_optimizer") else "resume_from"
        return {key: str(file)}
    return {}


# ---- as a file ----


def render(recipe: Recipe, *, title: str) -> str:
    """A file for configs/."""
    lines = [f'"""{title}', "", "Train with",
             "", "    python -m seqjax.train --config THIS_FILE.py --workdir runs/NAME", ""]
    lines += [*recipe.notes, ""]
    if recipe.unsupported:
        lines += ["Not honoured:", "", *(f"    {line}" for line in recipe.unsupported), ""]
    known = [f.name for f in dataclasses.fields(Config)]
    ordered = {k: recipe.raw[k] for k in known if k in recipe.raw}
    body = pprint.pformat(ordered, sort_dicts=False, width=92, indent=1)
    indented = "\n".join(("    " + line if i else line) for i, line in enumerate(
        body.splitlines()))
    text = "\n".join(lines).rstrip().replace("\\", "\\\\")
    return (f'{text}\n"""\n\nfrom ml_collections import ConfigDict\n\n\n'
            f"def get_config() -> ConfigDict:\n    return ConfigDict({indented})\n")
