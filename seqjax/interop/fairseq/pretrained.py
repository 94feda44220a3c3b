"""Configurations of models that begin with a pretrained encoder: sparse values in, the same with
the encoder's sizes and the checkpoint to begin with out.

fairseq's `w2v_path`; the checkpoint is fairseq's file or a folder of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqjax import checkpoints, models, settings
from seqjax.config import ConfigError, to_plain
from seqjax.interop.fairseq.config import from_checkpoint, model_config
from seqjax.interop.fairseq.files import is_pt
from seqjax.interop.torch.files import read_pt

_KEY = "config.model.w2v_path"


def complete(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Sparse values of a configuration, with what `model.w2v_path` means where there is one.

    Keys that are given stay as they are; `config.init_from` becomes the path, unless it is given,
    another run is continued, or `model.no_pretrained_weights` is set.

    Raises:
      FileNotFoundError, CheckpointError: no such checkpoint.
      ConfigError: keys that are given contradict it; waveforms that are normalised in one and not
        in the other.
    """
    model = dict(raw.get("model") or {})
    path = model.get("w2v_path")
    name = model.get("name") or models.ARCHS.get(model.get("arch", ""), (None,))[0]
    take = getattr(models.CONFIGS.get(name or ""), "of_pretrained", None)
    if not path or take is None:
        return dict(raw)
    section, normalize = _pretrained(path)
    form = take(section)
    wrong = [f"{key}: {model[key]!r}, but {path} has {value!r}" for key, value in form.items()
             if key in model and str(model[key]) != str(value)]
    if wrong:
        raise ConfigError(f"{_KEY}: config.model.{'; '.join(wrong)}")
    task = raw.get("task") or {}
    said = task.get("normalize", model.get("normalize"))
    if normalize is not None and said is not None and str(said).lower() != str(normalize).lower():
        raise ConfigError(f"config.task.normalize: {said}, but waveforms were "
                          f"{'' if normalize else 'not '}normalised for {path} ({_KEY})")
    if normalize is not None:
        model["normalize"] = normalize
    result = {**raw, "model": {**form, **model}}
    begun = raw.get("init_from") or raw.get("resume_from")
    if not begun and str(model.get("no_pretrained_weights", False)).lower() != "true":
        result["init_from"] = path
    return result


def _pretrained(path: str) -> tuple[Any, bool | None]:
    """The pretrained model's section, and whether waveforms were normalised for it, if it says."""
    if is_pt(path):
        tree = read_pt(path)
        try:
            said = from_checkpoint(tree)
            section = model_config(said)
        except ConfigError as error:
            raise ConfigError(f"{_KEY}: {path}: {error}") from None
        found = said.get("task", "normalize")
        return section, None if found is None else bool(found)
    config = settings.resolve(checkpoints.read_config(checkpoints.find(path)))
    found = to_plain(config.task).get("normalize")
    return config.model, found
