"""A folder of Hugging Face's in, its JSON files and its tensors out; and these as such a folder.

Weights are `model.safetensors`, `pytorch_model.bin`, or the shards that an index beside them
names. Which model they are of is not known here.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.checkpoints import CheckpointError
from seqjax.interop.torch.files import read_pt
from seqjax.models.tables import State

CONFIG, GENERATION = "config.json", "generation_config.json"
SAFETENSORS, TORCH = "model.safetensors", "pytorch_model.bin"
_INDEX = ".index.json"
_ELSEWHERE = {
    "tf_model.h5": "TensorFlow", "flax_model.msgpack": "Flax", "model.ckpt.index": "TensorFlow",
    "rust_model.ot": "Rust",
}
"""Weights of other toolkits."""
_SHARDS = re.compile(r"(model|pytorch_model)-\d{5}-of-\d{5}\.(safetensors|bin)")


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether it is a folder of Hugging Face's: one with a `config.json`, or with weights that
    are called as theirs are."""
    root = pathlib.Path(path)
    ours = ("about", "checkpoints")  # a work folder has a config.json, too
    if not root.is_dir() or any((root / name).is_dir() for name in ours):
        return False
    names = (CONFIG, SAFETENSORS, SAFETENSORS + _INDEX, TORCH, TORCH + _INDEX)
    return any((root / name).is_file() for name in names)


def read_json(folder: str | os.PathLike[str], name: str) -> dict[str, Any] | None:
    """A JSON file of the folder as a dict; None where there is none.

    Raises:
      CheckpointError: it is not JSON, or no object.
    """
    path = pathlib.Path(folder) / name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds a {type(found).__name__}, where an object belongs")
    return found


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """`config.json`.

    Raises:
      CheckpointError: there is none, or it is not JSON.
    """
    found = read_json(folder, CONFIG)
    if found is None:
        raise CheckpointError(f"{folder}: has no {CONFIG}, which says what model its weights are")
    return found


def read_tensors(folder: str | os.PathLike[str]) -> State:
    """Every tensor of the folder, in the type in which it is stored.

    Raises:
      CheckpointError: there are no weights, a shard is missing, or a file is damaged.
    """
    root = pathlib.Path(folder)
    for name in (SAFETENSORS, TORCH):
        if (root / name).is_file():
            return _read(root / name)
        if (root / (name + _INDEX)).is_file():
            return _read_shards(root, name + _INDEX)
    shards = sorted(f.name for f in root.iterdir() if _SHARDS.fullmatch(f.name))
    if shards:
        index = (SAFETENSORS if shards[0].endswith("safetensors") else TORCH) + _INDEX
        raise CheckpointError(f"{folder}: has {shards[0]}, but no {index}, which says what is in "
                              "each shard")
    others = [name for name in _ELSEWHERE if (root / name).is_file()]
    if others:
        raise CheckpointError(
            f"{folder}: has weights of {_ELSEWHERE[others[0]]} alone ({others[0]}), which are not "
            f"read: save them with transformers as {SAFETENSORS}")
    raise CheckpointError(f"{folder}: has no weights: no {SAFETENSORS} or {TORCH}, and no index "
                          "of shards of either")


def _read(path: pathlib.Path) -> State:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    tree = read_pt(path)
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: holds no names and tensors")
    wrong = [str(k) for k, v in tree.items() if not isinstance(v, np.ndarray)]
    if wrong:
        raise CheckpointError(f"{path}: entries that are no tensors: {', '.join(wrong[:9])}")
    return dict(tree)


def _read_safetensors(path: pathlib.Path) -> State:
    import safetensors

    found: State = {}
    name = ""
    try:
        with safetensors.safe_open(os.fspath(path), framework="np") as file:
            for name in file.keys():  # noqa: SIM118 -- it is no dict
                found[name] = file.get_tensor(name)
    except (safetensors.SafetensorError, TypeError, KeyError, AttributeError) as error:
        what = f"{name}: " if name else ""
        raise CheckpointError(f"{path}: {what}cannot be read as safetensors ({error}): it is "
                              "damaged, or not a whole download") from None
    return found


def _read_shards(root: pathlib.Path, index: str) -> State:
    """The tensors that an index places, each from its shard."""
    places = (read_json(root, index) or {}).get("weight_map")
    if not isinstance(places, dict) or not places or not all(
            isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{root / index}: has no weight_map of names and files")
    shards = sorted(set(places.values()))
    for shard in shards:
        if os.path.basename(shard) != shard:
            raise CheckpointError(f"{root / index}: names {shard}, which is no file of its folder")
    missing = [shard for shard in shards if not (root / shard).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(
            f"{root}: the shard {missing[0]}{more} of {len(shards)} is missing, which {index} "
            "names: fetch it again")
    found: State = {}
    for shard in shards:
        tensors = _read(root / shard)
        absent = [n for n, place in places.items() if place == shard and n not in tensors]
        if absent:
            raise CheckpointError(f"{root / shard}: has no {absent[0]}, which {index} places there")
        found |= tensors
    return found


# ---- writing ----


def write_json(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """A JSON file as transformers writes it: keys in order, indented by two."""
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    pathlib.Path(path).write_text(text, encoding="utf-8")


def write_tensors(
    folder: str | os.PathLike[str], state: Mapping[str, np.ndarray], *, max_shard_size: int
) -> list[str]:
    """`model.safetensors`, or shards of at most so many bytes (unless one tensor is larger) with
    their index.

    Returns:
      Names of the files that were written.
    """
    from safetensors.numpy import save_file

    root = pathlib.Path(folder)
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, value in state.items():
        if shards[-1] and size + value.nbytes > max_shard_size:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += value.nbytes
    count = len(shards)
    names = [SAFETENSORS] if count == 1 else [
        f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    for name, shard in zip(names, shards, strict=True):
        whole = {k: np.ascontiguousarray(v) for k, v in shard.items()}
        save_file(whole, root / name, metadata={"format": "pt"})
    if count == 1:
        return names
    total = sum(v.nbytes for v in state.values())
    places = {k: name for name, shard in zip(names, shards, strict=True) for k in shard}
    write_json(root / (SAFETENSORS + _INDEX),
               {"metadata": {"total_size": total}, "weight_map": places})
    return [*names, SAFETENSORS + _INDEX]
