"""Configuration: `ml_collections` files and `--config.key=value` become frozen dataclasses.

This module owns the sections that every run has and the machinery that builds any
section from plain data, rejecting unknown keys (naming the nearest) and wrong types.
It knows no model, task or loss: their dataclasses live beside their code and are passed
to `resolve` as literal dicts.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import importlib.util
import json
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchingConfig:
    """How sentences become batches of a few static shapes."""

    mode: Literal["packed", "bucketed", "fairseq", "fairseq_packed"] = "bucketed"
    """`packed`: several sentences a row, one compiled shape. `bucketed`: one sentence a
    row, a small menu of shapes. `fairseq`: exactly fairseq's batches in its order.
    `fairseq_packed`: fairseq's updates, each packed into rows; the same sums with far less
    padding when `update_freq` is more than 1."""
    max_tokens: int | None = 4096
    """Tokens in one micro-batch of the whole mesh (fairseq's `--max-tokens` times the
    number of its workers), counted on the longer side, padding included."""
    max_sentences: int | None = None
    """Rows in one micro-batch (fairseq's `--batch-size`)."""
    required_batch_size_multiple: int = 8
    """Row counts are multiples of this; a mesh needs a multiple of data*fsdp."""
    num_shapes: int = 8
    """`bucketed`: at most this many (rows, source, target) shapes."""
    pack_length: int = 256
    """`packed`: tokens in a row, on each side."""
    length_multiple: int = 8
    """Padded lengths are multiples of this."""
    skip_invalid_size_inputs_valid_test: bool = False
    """Drop over-long validation sentences (with a count) instead of raising."""
    backend: Literal["auto", "tfdata", "numpy"] = "auto"
    """Who assembles and prefetches training batches; `auto` is tf.data if installed."""
    prefetch: int = 2
    """Batches that are kept ready ahead of the step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The update (fairseq's `optimization` group)."""

    lr: tuple[float, ...] = (5e-4,)
    """Peak learning rate; several values are one per epoch (`schedule.name=fixed`)."""
    max_update: int = 0
    """Stop after this many updates (0: no limit)."""
    max_epoch: int = 0
    """Stop after this many epochs (0: no limit)."""
    stop_time_hours: float = 0.0
    """Stop after this many hours of training, this and earlier runs together (0: no limit)."""
    stop_min_lr: float = -1.0
    """Stop when the learning rate falls to this."""
    update_freq: tuple[int, ...] = (1,)
    """Micro-batches accumulated into one update; several values are one per epoch."""
    clip_norm: float = 0.0
    """Clip the global gradient norm to this (0: off)."""
    sentence_avg: bool = False
    """Normalise gradients by sentences instead of target tokens."""
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 on GPU and TPU, float32 on CPU. Parameters stay float32."""
    nan_patience: int = 0
    """Updates with a non-finite gradient that are skipped before training stops."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimizer, with fairseq's names and arithmetic."""

    name: Literal["adam", "nag", "adafactor", "sgd"] = "adam"
    adam_betas: tuple[float, float] = (0.9, 0.98)
    adam_eps: float = 1e-8
    weight_decay: float = 0.0
    """Decoupled, on every parameter, as fairseq does."""
    momentum: float | None = None
    """nag (None: 0.99) and sgd (None: 0)."""
    adafactor_eps: tuple[float, float] = (1e-30, 1e-3)
    clip_threshold: float = 1.0
    """adafactor: threshold of the root mean square of the update."""
    decay_rate: float = -0.8
    """adafactor: exponent of the second moment's decay."""
    beta1: float | None = None
    """adafactor: first moment's decay (None: no first moment)."""
    scale_parameter: bool = False
    relative_step: bool = False
    warmup_init: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning-rate schedule, with fairseq's names and formulas."""

    name: Literal["inverse_sqrt", "polynomial_decay", "fixed", "cosine", "tri_stage"] = (
        "inverse_sqrt"
    )
    warmup_updates: int = 4000
    warmup_init_lr: float = -1.0
    """Where warm-up starts (negative: 0, but `min_lr` for cosine)."""
    end_learning_rate: float = 0.0
    """polynomial_decay: where it ends."""
    power: float = 1.0
    total_num_update: int = 0
    """polynomial_decay: length in updates (0: `train.max_update`)."""
    force_anneal: int | None = None
    """fixed: shrink the rate every epoch from this epoch on."""
    lr_shrink: float = 0.1
    """fixed, cosine: factor of each annealing."""
    min_lr: float = 0.0
    """cosine."""
    lr_period_updates: float = -1
    """cosine: updates of the first period (negative: all after warm-up)."""
    t_mult: float = 1.0
    """cosine: growth of the period."""
    hold_steps: int = 0
    decay_steps: int = 0
    phase_ratio: tuple[float, ...] | None = None
    """tri_stage: shares of warm-up, hold and decay in `train.max_update`; sums to 1."""
    init_lr_scale: float = 0.01
    final_lr_scale: float = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidConfig:
    """When to validate and what to watch."""

    every_epochs: int = 1
    every_updates: int = 0
    """Also every so many updates (0: off)."""
    at_checkpoints: bool = False
    """Also whenever `checkpoint.every_updates` saves, as fairseq does."""
    after_updates: int = 0
    """No validation, and no saving by `checkpoint.every_updates`, before this many updates."""
    subset: str = "valid"
    max_batches: int = 0
    """Only the first so many batches (0: all)."""
    decode: bool = True
    """Translate `decode_sentences` of the subset and report sacreBLEU."""
    decode_sentences: int = 500
    """First so many sentences of the subset (0: all)."""
    samples: int = 2
    """Translations that are shown at each validation."""
    metric: str = "loss"
    """Metric of the best checkpoint and of patience: loss, nll_loss, ppl, bleu, ..."""
    maximize: bool | None = None
    """Whether a higher metric is better (None: as the metric is, of bleu, chrf and accuracy)."""
    patience: int = 0
    """Stop after so many validations without improvement (0: off)."""
    enabled: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What is kept in the work folder."""

    every_updates: int = 0
    """Save every so many updates (0: only at validations)."""
    every_epochs: int = 0
    """Save at the end of every so many epochs, and no longer at every validation (0: at every
    validation)."""
    keep_last: int = 2
    """The newest checkpoints kept, of whatever kind; at least one."""
    keep_last_epochs: int = 0
    """Beside them, the newest so many from ends of epochs (negative: all of them)."""
    keep_interval_updates: int = 0
    """Beside them, the newest so many that `every_updates` saved inside an epoch (negative:
    all of them)."""
    keep_best: int = 1
    """Best checkpoints kept, by `valid.metric`."""
    keep_every_updates: int = 0
    """Checkpoints whose update is a multiple of this are kept for good (0: none)."""
    asynchronous: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Device mesh ('data', 'fsdp', 'tensor'); one axis may be -1: what is left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What people see."""

    interval_updates: int = 100
    interval_seconds: float = 10.0
    """A console line at the latest after this many seconds (0: by updates only)."""
    tensorboard: bool = True
    """Write TensorBoard curves when `tensorboard` is installed."""
    compilation_cache: str | None = "auto"
    """Folder of compiled programs; `auto`: the user's cache folder; None: off."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Search options, with fairseq's names and defaults."""

    beam: int = 5
    nbest: int = 1
    max_len_a: float = 0.0
    max_len_b: int = 200
    min_len: int = 1
    """Hypothesis tokens (eos included) before which eos is not allowed."""
    lenpen: float = 1.0
    unkpen: float = 0.0
    temperature: float = 1.0
    lm_weight: float = 0.0
    """What log-probabilities of a language model are multiplied by (with `--lm-path`)."""
    unnormalized: bool = False
    """Do not divide scores by length."""
    match_source_len: bool = False
    no_repeat_ngram_size: int = 0
    prefix_size: int = 0
    """Force this many tokens of the reference (generate with a data folder)."""
    sampling: bool = False
    sampling_topk: int = -1
    sampling_topp: float = -1.0
    diverse_beam_groups: int = -1
    diverse_beam_strength: float = 0.5
    diversity_rate: float = -1.0
    """Siblings penalty."""
    padded_source_len: bool = False
    """Let `max_len_a` multiply the batch's padded source length, as fairseq does, instead
    of each sentence's own; and let diverse beams look up a sentence's number among the rows
    of the batch, as it does. With it, results depend on the batch."""
    seed: int = 1
    max_tokens: int = 12000
    """Source tokens of one decoding batch, padding included."""
    batch_size: int | None = None
    """Sentences of one decoding batch at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One training run, resolved: every key has its value."""

    task: Any
    """A dataclass of `seqjax.tasks.CONFIGS`, chosen by `task.name`."""
    model: Any
    """A dataclass of `seqjax.models.CONFIGS`, chosen by `model.name` or `model.arch`."""
    loss: Any
    """A dataclass of `seqjax.losses.CONFIGS`, chosen by `loss.name`."""
    seed: int = 1
    init_from: str | None = None
    """Start from these weights, with a fresh optimizer (fine-tuning)."""
    resume_from: str | None = None
    """Continue another run's checkpoint: weights, optimizer, schedule, place in the data."""
    resume_reset: tuple[Literal["optimizer", "dataloader"], ...] = ()
    """What `resume_from` leaves behind: `optimizer` begins with fresh moments and at update 0
    of the schedule, `dataloader` with the first batch of epoch 1."""
    train: TrainConfig = TrainConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    batching: BatchingConfig = BatchingConfig()
    valid: ValidConfig = ValidConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    log: LogConfig = LogConfig()
    generation: GenerationConfig = GenerationConfig()


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known word, or the list of all known ones."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known)}."


def coerce(value: Any, annotation: Any, path: str) -> Any:
    """`value` (plain data, or text from a command line) as the annotated type.

    Raises:
      ConfigError: naming `path`, the type wanted and the value given.
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    wrong = ConfigError(f"{path}: expected {type_name(annotation)}, got {value!r}")
    if annotation is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            if type(None) in args:
                return None
        for arg in args:
            if arg is not type(None):
                try:
                    return coerce(value, arg, path)
                except ConfigError:
                    continue
        raise wrong
    if origin is Literal:
        if value in args:
            return value
        raise ConfigError(f"{path}: {value!r} is not one of {', '.join(map(str, args))}."
                          + nearest(str(value), [str(a) for a in args]))
    if origin is tuple:
        return _coerce_tuple(value, args, path, wrong)
    if origin is dict or annotation is dict:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                raise wrong from None
        if isinstance(value, Mapping):
            return dict(value)
        raise wrong
    if annotation is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise wrong
    if annotation in (int, float):
        return _coerce_number(value, annotation, wrong)
    if annotation is str:
        if isinstance(value, (str, pathlib.Path)):
            return str(value)
        raise wrong
    if dataclasses.is_dataclass(annotation):
        return build(typing.cast(type, annotation), value, path)
    raise TypeError(f"{path}: unsupported annotation {annotation!r}")


def _coerce_tuple(value: Any, args: tuple, path: str, wrong: ConfigError) -> tuple:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith(("[", "(")):
            text = text[1:-1]
        value = [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise wrong
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(coerce(v, args[0], path) for v in value)
    if len(args) != len(value):
        raise wrong
    return tuple(coerce(v, a, path) for v, a in zip(value, args, strict=True))


def _coerce_number(value: Any, kind: type, wrong: ConfigError) -> int | float:
    if isinstance(value, bool):
        raise wrong
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            raise wrong from None
    if isinstance(value, int) or (kind is float and isinstance(value, float)):
        return kind(value)
    raise wrong


def type_name(annotation: Any) -> str:
    """A type as people write it: `int | None`, `tuple[float, ...]`."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def build(cls: type, values: Any, path: str = "config") -> Any:
    """An instance of the dataclass `cls` from a mapping; every key must be a field.

    Raises:
      ConfigError: an unknown key (with the nearest known one) or a wrong type.
    """
    if dataclasses.is_dataclass(values) and isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: expected a section with keys, got {values!r}")
    hints = _hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}
    for key in values:
        if key not in names:
            raise ConfigError(f"{path}.{key}: unknown key.{nearest(key, names)}")
    return cls(**{k: coerce(v, hints[k], f"{path}.{k}") for k, v in values.items()})


def to_plain(config: Any) -> Any:
    """Dataclasses as nested dicts of JSON types; `resolve` reads them back."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (list, tuple)):
        return [to_plain(v) for v in config]
    if isinstance(config, Mapping):
        return {k: to_plain(v) for k, v in config.items()}
    return config


def load_file(path: str) -> dict[str, Any]:
    """Runs `get_config()` of a Python file; `file.py:argument` passes the argument.

    Returns:
      Plain nested dicts of the `ml_collections.ConfigDict` that it returned.
    """
    name, _, argument = path.partition(":")
    file = pathlib.Path(name)
    if not file.is_file():
        raise ConfigError(f"--config {name}: no such file")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{name}: defines no get_config()")
    config = module.get_config(argument) if argument else module.get_config()
    return config.to_dict() if hasattr(config, "to_dict") else dict(config)


def apply_overrides(raw: dict[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """`raw` with dotted keys set: `{'train.lr': '5e-4'}`."""
    result = to_plain(raw)
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"config.{dotted}: config.{parent} has no keys of its own")
        node[last] = value
    return result


def import_object(name: str, path: str) -> Any:
    """The object of `package.module:Object`, which a config may name instead of a family.

    Raises:
      ConfigError: there is no such module or object; `path` is the key that named it.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot import {name!r} ({error})") from None


def family_config(name: str, families: Mapping[str, type], path: str) -> type:
    """The dataclass of a named family, or the `Config` of a `package.module:Object`."""
    if ":" in name:
        found = import_object(name, path)
        if not dataclasses.is_dataclass(getattr(found, "Config", None)):
            raise ConfigError(f"{path}: {name!r} has no dataclass named Config")
        return found.Config
    if name not in families:
        raise ConfigError(f"{path}: {name!r} is unknown." + nearest(name, families))
    return families[name]


def resolve(
    raw: Mapping[str, Any],
    *,
    tasks: Mapping[str, type],
    models: Mapping[str, type],
    losses: Mapping[str, type],
    archs: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> Config:
    """The full configuration from sparse values.

    Args:
      raw: nested plain data, as `load_file` and `apply_overrides` give.
      tasks, models, losses: dataclass per name.
      archs: fairseq architecture name -> (model name, defaults that it changes).
        Explicit keys win over the architecture's, those over the dataclass's.

    Raises:
      ConfigError: an unknown key or name (with the nearest) or a wrong type.
    """
    raw = dict(raw)
    known = {f.name for f in dataclasses.fields(Config)}
    for key in raw:
        if key not in known:
            raise ConfigError(f"config.{key}: unknown key.{nearest(key, known)}")
    sections: dict[str, Any] = {}
    for section, families, default in (
        ("task", tasks, "translation"),
        ("loss", losses, "label_smoothed_cross_entropy"),
    ):
        values = dict(raw.pop(section, {}))
        name = values.setdefault("name", default)
        if name not in families:
            raise ConfigError(
                f"config.{section}.name: {name!r} is unknown." + nearest(name, families)
            )
        sections[section] = build(families[name], values, f"config.{section}")
    sections["model"] = resolve_model(raw.pop("model", {}), models=models, archs=archs)
    return build(Config, {**raw, **sections})


def resolve_model(
    raw: Mapping[str, Any],
    *,
    models: Mapping[str, type],
    archs: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> Any:
    """The model section: explicit keys over the architecture's over the family's.

    A family whose keys follow one another, where they are not given, says so in a method
    `follow(values)` of its dataclass.
    """
    values = dict(raw)
    arch = values.get("arch")
    defaults: Mapping[str, Any] = {}
    if arch is not None:
        if arch not in archs:
            raise ConfigError(f"config.model.arch: {arch!r} is unknown." + nearest(arch, archs))
        family, defaults = archs[arch]
        if values.setdefault("name", family) != family:
            raise ConfigError(
                f"config.model.name: {values['name']!r}, but arch {arch!r} is of {family!r}"
            )
    name = values.setdefault("name", "transformer")
    cls = family_config(name, models, "config.model.name")
    values = {**defaults, **values}
    getattr(cls, "follow", lambda values: None)(values)
    return build(cls, values, "config.model")
