"""The sections of a configuration that fairseq's values come to.

Values that are written differently, and fairseq's defaults where ours are others.
"""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from seqjax import losses, models, tasks
from seqjax.config import (
    BatchingConfig,
    ConfigError,
    DataclassInstance,
    GenerationConfig,
    ModelSection,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    build,
    resolve_model,
    to_plain,
)
from seqjax.interop.fairseq import flags as fairseq_flags
from seqjax.interop.fairseq.conditions import SEARCH
from seqjax.interop.fairseq.config import FairseqConfig, model_config
from seqjax.interop.fairseq.restore import restore_options
from seqjax.models.overrides import kept_layers, with_layers
from seqjax.training.metrics import is_maximized

COMPOUNDING = (
    "--scale-parameter with --lr: fairseq multiplies the scales of all tensors so far into the "
    "rate of each (a mistake of its optimizer's), so most of its tensors hardly moved. Here each "
    "tensor has its own scale, the rule that was meant: updates are larger, and lr may have to "
    "be lower.")
"""What becomes of Adafactor with an outer rate."""
Raw = dict[str, dict[str, Any]]


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


def whole(value: Any) -> int:
    """A count, however it is written."""
    return int(float(value))


VALUES: dict[str, Callable[[Any], Any]] = {
    "lr": _numbers, "update_freq": _numbers, "adam_betas": _literal, "adafactor_eps": _literal,
    "phase_ratio": _literal, "warmup_updates": whole, "warmup_steps": whole,
    "total_num_update": whole, "max_update": whole, "max_epoch": whole,
    "patience": lambda v: max(whole(v), 0), "log_interval": whole,
    "beta1": _literal, "momentum": _literal, "max_valid_steps": lambda v: whole(v) + 1,
}
"""fairseq's value -> ours; others are read as they are."""
SPECIAL = {
    "max_tokens", "batch_size", "distributed_world_size", "disable_validation", "eval_bleu",
    "eval_bleu_args", "eval_bleu_print_samples", "keep_interval_updates", "keep_last_epochs",
    "keep_best_checkpoints", "keep_interval_updates_pattern", "tensorboard_logdir", "fp16",
    "bf16", "memory_efficient_fp16", "memory_efficient_bf16", "amp", "valid_subset",
    "finetune_from_model", "restore_file", "checkpoint_activations", "seed", "beam",
    "save_interval", "save_interval_updates", "no_epoch_checkpoints", "optimizer_overrides",
    "maximize_best_checkpoint_metric", "validate_after_updates",
}
"""Flags that are handled one by one, by `fill`."""


def _known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in dataclasses.fields(cls)}
    return {k: v for k, v in values.items() if k in names}


_SHOWN = {"lr", "max_update", "warmup_updates", "adam_betas", "label_smoothing", "max_tokens"}
"""Written even where they are our defaults: readers look for them."""


def _differing(section: DataclassInstance, default: DataclassInstance) -> dict[str, Any]:
    """Fields of a dataclass that differ from another's, as plain data, and those to show."""
    a, b = to_plain(section), to_plain(default)
    return {k: v for k, v in a.items() if v != b[k] or k in _SHOWN}


# ---- sections ----


def fill(
    raw: Raw, flat: Mapping[str, Any], *, model: ModelSection | Mapping[str, Any],
    names: Mapping[str, str],
    notes: list[str],
) -> None:
    """Completes the sections, in which values are already that are the same in both.

    Args:
      raw: the sections by name; changed in place.
      flat: fairseq's values by name.
      model: the model section, or fairseq's keys of the model.
      names: of the task, criterion, optimizer and lr_scheduler.
      notes: gets what a reader must know.

    Raises:
      ConfigError: values that contradict each other.
    """
    _task(flat, raw, names["task"], notes)
    _model(flat, model, raw, names["criterion"], notes)
    _loss(flat, raw, names["criterion"])
    _optimization(flat, raw, names, notes)
    _batching(flat, raw, notes)
    _validation(flat, raw, notes)
    _checkpoints(flat, raw, notes)
    _precision(flat, raw, notes)


def _task(flat: Mapping[str, Any], raw: Raw, name: str, notes: list[str]) -> None:
    entry = tasks.of_fairseq(name)
    assert entry is not None and entry.fairseq is not None  # `fairseq_names.check` has said so
    cls, name = entry.config, entry.name
    said = entry.fairseq.completed(flat)
    given = {k: v for k, v in _known(cls, said).items() if v is not None and k != "name"}
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
    flat: Mapping[str, Any], given: ModelSection | Mapping[str, Any], raw: Raw, criterion: str,
    notes: list[str],
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
) -> ModelSection:
    """The model that fairseq builds of a command's keys."""
    arch = str(flat["arch"])
    family, _ = models.ARCHS.get(arch, (None, None))
    own = {f.name for f in dataclasses.fields(models.CONFIGS[family])} if family else set()
    typed = {k: v if k in own else _literal(v) for k, v in given.items()}
    found = model_config(FairseqConfig(arch=arch, model=typed, groups={}))
    built = models.fairseq_table(found.name).as_trained(found, criterion)
    for field in dataclasses.fields(found):
        before, after = getattr(found, field.name), getattr(built, field.name)
        if before != after and field.name in given:
            notes.append(f"fairseq takes no notice of --{field.name.replace('_', '-')} here: its "
                         f"{arch} is built without it.")
    if "init_from" not in restore_options(flat).raw:  # nothing to choose from: fewer layers
        built = with_layers(built, {k: len(v) for k, v in kept_layers(built).items()})
    return built


def _loss(flat: Mapping[str, Any], raw: Raw, name: str) -> None:
    values = losses.fairseq_defaults(name) | {
        k: v for k, v in _known(losses.CONFIGS[name], flat).items() if v is not None}
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
            values[ours] = whole(flat[theirs]) * world
            if values[ours] < 1:
                raise ConfigError(f"--{theirs.replace('_', '-')} {flat[theirs]}: give 1 or more")
    if values["max_tokens"] is None and "max_sentences" not in values:
        raise ConfigError("fairseq-train: give --max-tokens or --batch-size")
    if world > 1:
        notes.append(f"--max-tokens and --batch-size are of one GPU in fairseq and of the whole "
                     f"mesh here: they are multiplied by the {world} workers "
                     "(--distributed-world-size, the launcher or CUDA_VISIBLE_DEVICES).")
    elif not flat.get("distributed_world_size"):
        notes.append("fairseq uses every GPU it sees, each with --max-tokens; batching.max_tokens "
                     "is of the whole mesh: multiply it by their number.")
    if tasks.TASKS[raw["task"]["name"]].own_order:
        values["mode"] = "bucketed"
        notes.append("fairseq's batches of several languages are others in every epoch; here they "
                     "are on a menu of shapes (batching.mode=bucketed).")
    else:
        notes.append("batching.mode=fairseq makes its very batches; bucketed or packed (the other "
                     "modes) pad less and train faster.")
    built = build(BatchingConfig, {**raw["batching"], **values}, "batching")
    raw["batching"] = {**_differing(built, BatchingConfig()), "mode": values["mode"]}


def _validation(flat: Mapping[str, Any], raw: Raw, notes: list[str]) -> None:
    section = raw["valid"]
    decode = bool(flat.get("eval_bleu") or flat.get("eval_wer")
                  or raw["loss"]["name"] == "ctc")  # which always counts errors
    if whole(flat.get("validate_after_updates") or 0) > 0:
        section["after_updates"] = whole(flat["validate_after_updates"])
    if flat.get("disable_validation"):
        after = {k: v for k, v in section.items() if k == "after_updates"}
        section.clear()
        section |= {"enabled": False, **after}
        return
    section["decode"] = decode
    if decode:
        section["decode_sentences"] = 0
        section["samples"] = 2 if flat.get("eval_bleu_print_samples") else 0
        known = {f.name for f in dataclasses.fields(GenerationConfig)}
        given = _search(flat)
        raw["generation"] = {k: v for k, v in given.items() if k in known}
        for key in sorted(set(given) - known):
            notes.append(f"--eval-bleu-args: {key} is not an option here.")
    _best(flat, raw, decode, notes)
    if flat.get("valid_subset") not in (None, "valid"):
        first, *more = str(flat["valid_subset"]).split(",")
        section["subset"] = first
        if more:
            notes.append(f"--valid-subset {flat['valid_subset']}: one split is watched, {first}; "
                         "python -m seqjax.evaluate takes the others.")
    if int(flat.get("save_interval_updates") or 0) > 0 and not flat.get("no_save"):
        section["at_checkpoints"] = True  # fairseq validates whenever it saves
    for key, usual in (("every_epochs", 1), ("every_updates", 0), ("patience", 0)):
        if key in section and int(section[key]) == usual:
            del section[key]


def _search(flat: Mapping[str, Any]) -> dict[str, Any]:
    """How validations search for outputs."""
    if flat.get("eval_wer"):
        nested = flat.get("eval_wer_config")
        given = {**flat, **(nested if isinstance(nested, Mapping) else {})}
        flags = {f.dest: f for f in fairseq_flags.table() if f.key.startswith("generation.")}
        return {flags[dest].key.partition(".")[2]: given[dest] for dest in SEARCH
                if not flags[dest].is_default(given.get(dest))}
    options = flat.get("eval_bleu_args") or "{}"
    return json.loads(options) if isinstance(options, str) else dict(options)


def _best(
    flat: Mapping[str, Any], raw: Raw, decode: bool, notes: list[str]
) -> None:
    """Which checkpoint is the best."""
    section = raw["valid"]
    metric = str(section.get("metric") or "loss")
    declared = {**losses.LOSSES[raw["loss"]["name"]].metrics,
                **tasks.TASKS[raw["task"]["name"]].metrics}
    if metric == "loss":
        section.pop("metric", None)
    if metric == "bleu" and not decode:
        raise ConfigError("--best-checkpoint-metric bleu: give --eval-bleu as well; without it "
                          "a validation has no BLEU, in fairseq neither")
    asked = hasattr(losses.CONFIGS[raw["loss"]["name"]](), "report_accuracy")
    if metric == "accuracy" and asked and not flat.get("report_accuracy"):
        raise ConfigError("--best-checkpoint-metric accuracy: give --report-accuracy as well")
    if flat.get("maximize_best_checkpoint_metric"):
        section["maximize"] = True
    elif is_maximized(metric, declared, chosen=None):
        notes.append(f"--best-checkpoint-metric {metric} without --maximize-best-checkpoint-metric "
                     f"keeps the checkpoint of the lowest {metric} in fairseq; here the highest "
                     "(valid.maximize=False for fairseq's).")


def _checkpoints(flat: Mapping[str, Any], raw: Raw, notes: list[str]) -> None:
    raw["log"] = {k: v for k, v in raw["log"].items() if v != 100}
    if flat.get("tensorboard_logdir"):
        notes.append(f"--tensorboard-logdir {flat['tensorboard_logdir']}: curves are written into "
                     "the work folder (log.tensorboard).")
    if flat.get("no_save"):
        raw["checkpoint"] = {"keep_last": 1}
        return

    def number(key: str, usual: int) -> int:
        return usual if flat.get(key) is None else int(flat[key])

    def newest(key: str) -> int:
        """How many of a kind fairseq keeps; all unless it is told a number above 0."""
        return number(key, -1) if number(key, -1) > 0 else -1

    section: dict[str, Any] = {"keep_last": 1}  # checkpoint_last
    if not flat.get("no_epoch_checkpoints"):
        section["keep_last_epochs"] = newest("keep_last_epochs")
    if number("save_interval_updates", 0) > 0:
        section["every_updates"] = number("save_interval_updates", 0)
        section["keep_interval_updates"] = newest("keep_interval_updates")
        pattern = number("keep_interval_updates_pattern", -1)
        if pattern > 0 and newest("keep_interval_updates") > 0:
            section["keep_every_updates"] = pattern
    if number("keep_best_checkpoints", -1) > 1:
        section["keep_best"] = number("keep_best_checkpoints", -1)
    epochs = number("save_interval", 1)
    usual = (number("validate_interval", 1) == 1
             and number("validate_interval_updates", 0) < 1)
    if epochs != 1 or not usual:  # fairseq's validations do not save by themselves
        section["every_epochs"] = epochs
    raw["checkpoint"] = section


def _precision(flat: Mapping[str, Any], raw: Raw, notes: list[str]) -> None:
    half = [k for k in ("fp16", "bf16", "amp", "memory_efficient_fp16", "memory_efficient_bf16")
            if flat.get(k)]
    if half:
        flags = ", ".join("--" + name.replace("_", "-") for name in half)
        notes.append(f"{flags}: bfloat16 on GPU and TPU, float32 on a CPU "
                     "(train.compute_dtype=auto); no loss scale is needed.")
    else:
        raw["train"]["compute_dtype"] = "float32"
