"""What a fairseq checkpoint says about itself: old `args` and new `cfg` as one plain form.

fairseq up to 0.10 stored one flat Namespace, later ones a tree of groups whose `model` group
may itself be such a Namespace. Both become a `FairseqConfig`; which model keys exist is asked
of the family's dataclass.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
import warnings
from collections.abc import Mapping
from typing import Any

from seqjax import losses, models
from seqjax.config import ConfigError, ModelSection, build
from seqjax.interop.fairseq import names as fairseq_names
from seqjax.interop.fairseq.keys import boolean

_GROUPS = ("task", "criterion", "optimizer", "lr_scheduler", "tokenizer", "bpe", "scoring",
           "optimization", "dataset", "checkpoint", "common", "generation", "eval_lm", "ema")
_MISSING = "???"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairseqConfig:
    """A checkpoint's configuration in fairseq's own keys, whichever form it was stored in."""

    arch: str
    """Architecture, or the model's registered name where the file has only that."""
    model: dict[str, Any]
    """The model's keys, flat (`encoder.embed_dim` of newer files is `encoder_embed_dim`)."""
    groups: dict[str, dict[str, Any]]
    """fairseq's groups. A flat Namespace is every group at once, as fairseq itself reads it,
    with `_name` set to the component chosen (None: none)."""

    def name(self, group: str) -> str | None:
        """The component chosen in a group: `name('task')` is 'translation'."""
        return self.groups.get(group, {}).get("_name")

    def get(self, group: str, key: str, default: Any = None) -> Any:
        """A key of a group; `default` where absent or None."""
        value = self.groups.get(group, {}).get(key)
        return default if value is None or value == _MISSING else value

    def flat(self) -> dict[str, Any]:
        """Model, tokenizer, subword model, criterion and task as one namespace; the components'
        names stand under their groups', as in fairseq's older form."""
        args: dict[str, Any] = {}
        for group in ("tokenizer", "bpe", "criterion", "task"):
            values = dict(self.groups.get(group, {}))
            args[group] = values.pop("_name", None)
            args |= {k: v for k, v in values.items() if k not in args}
        return {**self.model, **args}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskArgs:
    """What one needs besides the weights to use the model."""

    task: str | None
    source_lang: str | None
    target_lang: str | None
    left_pad_source: bool
    left_pad_target: bool
    truncate_source: bool
    tokenizer: dict[str, Any] | None
    """`{'_name': 'moses', ...}` with its options."""
    bpe: dict[str, Any] | None
    """`{'_name': 'subword_nmt', 'bpe_codes': ...}` with its options."""
    criterion: dict[str, Any]
    """`_name` and its options, such as label_smoothing."""


def from_checkpoint(tree: Mapping[str, Any]) -> FairseqConfig:
    """The configuration of a checkpoint's contents (as `read_pt` gives them).

    Raises:
      ConfigError: it holds none.
    """
    cfg, args = tree.get("cfg"), tree.get("args")
    if isinstance(cfg, Mapping) and cfg.get("model") is not None:
        return _from_groups(cfg)
    if isinstance(args, Mapping):
        return _from_namespace(args)
    raise ConfigError(
        "the checkpoint holds neither `cfg` nor `args`: it is not one that fairseq-train wrote")


def _from_groups(cfg: Mapping[str, Any]) -> FairseqConfig:
    tree = _interpolated(dict(cfg))
    model = _flat(tree["model"])
    arch = model.get("arch") or model.get("_name")
    if not isinstance(arch, str):
        raise ConfigError("the checkpoint's `cfg.model` names no architecture")
    groups = {}
    for group in _GROUPS:
        value = tree.get(group)
        if isinstance(value, str):
            value = {"_name": value}
        groups[group] = dict(value) if isinstance(value, Mapping) else {}
    return FairseqConfig(arch=arch, model=model, groups=groups)


def _from_namespace(args: Mapping[str, Any]) -> FairseqConfig:
    arch = args.get("arch")
    if not isinstance(arch, str):
        raise ConfigError("the checkpoint's `args` name no `arch`")
    groups = {}
    for group in _GROUPS:
        name = args.get(group)
        groups[group] = {**args, "_name": name if isinstance(name, str) else None}
    for side in ("source", "target"):  # one key for both before 0.5
        if args.get("max_positions") and f"max_{side}_positions" not in args:
            args = {**args, f"max_{side}_positions": args["max_positions"]}
    groups["task"]["_name"] = args.get("task") or fairseq_names.USUAL["task"]
    groups["criterion"]["_name"] = args.get("criterion") or fairseq_names.USUAL["criterion"]
    return FairseqConfig(arch=arch, model=dict(args), groups=groups)


def _flat(model: object) -> dict[str, Any]:
    """`encoder: {embed_dim: 8}` as `encoder_embed_dim: 8`."""
    if not isinstance(model, Mapping):
        raise ConfigError("the checkpoint's `cfg.model` holds no keys")
    flat = {}
    for key, value in model.items():
        if key in ("encoder", "decoder", "quant_noise") and isinstance(value, Mapping):
            for inner, content in value.items():
                name = "embed_path" if inner == "path" else inner
                flat.setdefault(f"{key}_{name}", content)
        else:
            flat[key] = value
    return flat


def _interpolated(tree: dict[str, Any]) -> dict[str, Any]:
    """omegaconf's `${group.key}` replaced by what it refers to."""

    def look_up(path: str, depth: int) -> Any:
        node: Any = tree
        for part in path.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return None
            node = node[part]
        return resolve(node, depth + 1)

    def resolve(value: Any, depth: int) -> Any:
        if isinstance(value, str):
            link = re.fullmatch(r"\$\{([\w.]+)\}", value)
            if link is None:
                return value
            if depth > 20:
                raise ConfigError(f"the checkpoint's cfg refers in a circle: {value}")
            return look_up(link[1], depth)
        if isinstance(value, Mapping):
            return {k: resolve(v, depth) for k, v in value.items()}
        if isinstance(value, list):
            return [resolve(v, depth) for v in value]
        return value

    return resolve(tree, 0)


def task_args(config: FairseqConfig) -> TaskArgs:
    """Languages, padding side, tokenizer and criterion."""
    text = config.get
    return TaskArgs(
        task=config.name("task"),
        source_lang=text("task", "source_lang"),
        target_lang=text("task", "target_lang"),
        left_pad_source=boolean(text("task", "left_pad_source", True)),
        left_pad_target=boolean(text("task", "left_pad_target", False)),
        truncate_source=boolean(text("task", "truncate_source", False)),
        tokenizer=_component(config, "tokenizer", ("moses_", "source_lang", "target_lang")),
        bpe=_component(config, "bpe", ("bpe_", "sentencepiece_", "gpt2_", "vocab_bpe")),
        criterion=_component(
            config, "criterion",
            ("sentence_avg", *_loss_keys(config.name("criterion")))) or {},
    )


def _loss_keys(name: str | None) -> set[str]:
    """Keys of a loss, of all where it is not here; ours are named as fairseq's."""
    own = losses.CONFIGS.get(name or "")
    return {field.name for cls in (losses.CONFIGS.values() if own is None else [own])
            for field in dataclasses.fields(cls) if field.name != "name"}


def _component(
    config: FairseqConfig, group: str, prefixes: tuple[str, ...]
) -> dict[str, Any] | None:
    name, values = config.name(group), config.groups.get(group, {})
    if name is None:
        return None
    own = {k: v for k, v in values.items() if k.startswith(prefixes) and v not in (None, _MISSING)}
    return {"_name": name, **own}


# ---- model sections ----


def model_config(config: FairseqConfig) -> ModelSection:
    """The model section as the family's dataclass.

    Precedence: keys in the file, then the named architecture's, then the dataclass's.

    Raises:
      ConfigError: an unknown architecture, or switches that we do not have (all of them).
    """
    fairseq_names.check({"arch": config.arch}, where="the checkpoint")
    family, defaults = models.ARCHS[config.arch]
    rules = models.fairseq_table(family).keys
    shared = {key: config.get("task", key) for key in rules.from_task}
    given = {k: v for k, v in {**shared, **rules.merge(config.model)}.items()
             if v is not None and v != _MISSING}
    for old, new in rules.aliases.items():
        if given.get(old) and not given.get(new):
            given[new] = given[old]
    if wrong := _switched_on(given, rules.refused):
        raise ConfigError(f"the checkpoint's model uses what seqjax does not have: {wrong}")
    rules.check(given)
    if unused := _switched_on(given, rules.dropped):
        warnings.warn(
            "the checkpoint was trained with what seqjax does not have; its weights are used as"
            f" they are, further training goes without: {unused}", stacklevel=2)
    cls = models.CONFIGS[family]
    hints = typing.get_type_hints(cls)
    explicit = {
        name: _fitted(given[name], hints[name])
        for name in (f.name for f in dataclasses.fields(cls))
        if name not in ("name", "arch") and name in given
    }
    values = {**defaults, **explicit}
    rules.derive(values, set(explicit))
    return build(cls, {"name": family, "arch": config.arch, **values}, "config.model")


def _switched_on(given: Mapping[str, Any], switches: Mapping[str, tuple[Any, ...]]) -> str:
    on = [k for k, off in switches.items() if k in given and given[k] not in off]
    return ", ".join(f"{key}={given[key]!r}" for key in on)


def _fitted(value: Any, annotation: Any) -> Any:
    """fairseq's habits in types: booleans as text or 0 and 1, whole numbers as floats."""
    wanted = typing.get_args(annotation) if isinstance(
        annotation, types.UnionType) else (annotation,)
    if bool in wanted and isinstance(value, (int, str)):
        return boolean(value)
    if int in wanted and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.startswith("[") and annotation is not str:
        return value.strip("[]").split(",")
    return value
