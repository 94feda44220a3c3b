"""Records the `.pt` files of `tests/goldens/torch_files` with a real torch and omegaconf.

Not part of seqjax: run it in an environment of its own with torch, numpy and omegaconf:

    python scripts/record_torch_files.py tests/goldens/torch_files

Every sample is written in both of torch's formats (and one by pickle protocol 4); beside it
`SAMPLE.npz` holds the tensors that a reader must find, by their path in the tree (bfloat16
and float8 as unsigned integers of the same bits), and `SAMPLE.json` the rest as plain data.
fairseq's classes are imitated by classes of the same names.
"""

from __future__ import annotations

import argparse
import collections
import enum
import io
import json
import pathlib
import sys
import types
import typing
import zipfile
from dataclasses import dataclass, field

import numpy as np
import torch
from omegaconf import OmegaConf


def _as_module(name: str, *classes: type) -> None:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    for cls in classes:
        cls.__module__, cls.__qualname__ = name, cls.__name__
        setattr(sys.modules[name], cls.__name__, cls)
    sys.modules[name].__dict__["typing"] = typing  # where annotations are looked up


class Choices(enum.Enum):
    c10d = "c10d"
    legacy = "legacy_ddp"


@dataclass
class ModelConfig:
    layers: int = 6
    dropout: float = 0.1
    lr: list[float] = field(default_factory=lambda: [0.5, 0.25])
    maybe: typing.Optional[int] = None  # noqa: UP045 - as fairseq writes it


class Dictionary:
    def __init__(self) -> None:
        self.symbols = ["<s>", "<pad>"]
        self.indices = {"<s>": 0, "<pad>": 1}


class AverageMeter:
    def __init__(self) -> None:
        self.sum = np.float64(1.5)
        self.count = 3


_as_module("fairseq.dataclass.constants", Choices)
_as_module("fairseq.models.transformer.transformer_config", ModelConfig)
_as_module("fairseq.data.dictionary", Dictionary)
_as_module("fairseq.meters", AverageMeter)


def dtypes() -> dict:
    """Every dtype, with the odd shapes."""
    tree: dict = {}
    for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
                 "uint8", "complex64", "complex128"):
        tree[name] = torch.arange(1, 7).reshape(2, 3).to(getattr(torch, name))
    tree["bool"] = torch.tensor([True, False, True])
    tree["scalar"] = torch.tensor(3.25)
    tree["empty"] = torch.zeros(0, 4)
    tree["special"] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    return tree


def dtypes_new() -> dict:
    """Those that have no storage class (and so only exist in the zip format)."""
    return {name: torch.tensor([1, 2, 3]).to(getattr(torch, name))
            for name in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")}


def views() -> dict:
    """Shared storages and strides."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tied = torch.ones(3, 2)
    return {
        "model": collections.OrderedDict(
            base=base, transposed=base.t(), row=base[2], column=base[:, 3],
            every_other=base[::2, 1::2], block=base[1:3, 2:5],
            expanded=torch.tensor([[1.0], [2.0]]).expand(2, 5),
            permuted=torch.arange(24, dtype=torch.int64).reshape(2, 3, 4).permute(2, 0, 1),
            tied_in=tied, tied_out=tied),
        "list": [base, (tied, [base[0, 1:]])],
        "parameter": torch.nn.Parameter(torch.full((2, 2), 0.5)),
        "module": torch.nn.Linear(2, 3).requires_grad_(False).state_dict(),
    }


def config() -> dict:
    """What fairseq puts beside the weights, of all its ages."""
    structured = OmegaConf.structured(ModelConfig)
    structured.dropout = 0.3
    tree = OmegaConf.create({"common": {"seed": 1, "fp16": False}, "list": [1, "two", None],
                             "link": "${common.seed}", "missing": "???"})
    groups = collections.defaultdict(list)
    groups["a"].append(1)
    return {
        "args": argparse.Namespace(arch="transformer", lr=[0.25], ddp_backend=Choices.legacy,
                                   nested=argparse.Namespace(beam=5)),
        "cfg": tree,
        "model_cfg": structured,
        "task_state": {"dictionary": Dictionary(), "meter": AverageMeter()},
        "numbers": {"np": np.float32(0.5), "np_int": np.int64(-3), "big": 2**70, "negative": -5,
                    "bool": np.bool_(True)},
        "arrays": {"c": np.arange(6, dtype=np.int32).reshape(2, 3),
                   "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
                   "big_endian": np.arange(3, dtype=">i2")},
        "kinds": {"dtype": torch.float16, "size": torch.Size([2, 3]), "device": torch.device("cpu"),
                  "set": {3}, "defaultdict": groups, "counter": collections.Counter("aab"),
                  "bytes": b"\x00\xff", "unicode": "Straße \U0001f600", "tuple": (1, (2, ()))},
        "weight": torch.tensor([1.0, 2.0]),
    }


CONFIG_EXPECTED = {
    "args": {"arch": "transformer", "lr": [0.25], "ddp_backend": "legacy_ddp",
             "nested": {"beam": 5}},
    "cfg": {"common": {"seed": 1, "fp16": False}, "list": [1, "two", None],
            "link": "${common.seed}", "missing": "???"},
    "model_cfg": {"layers": 6, "dropout": 0.3, "lr": [0.5, 0.25], "maybe": None},
    "task_state": {"dictionary": {"symbols": ["<s>", "<pad>"],
                                  "indices": {"<s>": 0, "<pad>": 1}},
                   "meter": {"sum": 1.5, "count": 3}},
    "numbers": {"np": 0.5, "np_int": -3, "big": 2**70, "negative": -5, "bool": True},
    "kinds": {"dtype": "torch.float16", "size": [2, 3], "device": "cpu", "set": [3],
              "defaultdict": {"a": [1]}, "counter": {"a": 2, "b": 1},
              "bytes": [0, 255], "unicode": "Straße \U0001f600", "tuple": [1, [2, []]]},
}


def arrays_of(tree: object, path: str = "") -> dict[str, np.ndarray]:
    """Tensors and arrays by their path."""
    if isinstance(tree, torch.Tensor):
        value = tree.detach()
        if value.dtype == torch.bfloat16:
            return {path: value.contiguous().view(torch.uint16).numpy()}
        if value.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            return {path: value.contiguous().view(torch.uint8).numpy()}
        return {path: value.numpy()}
    if isinstance(tree, np.ndarray):
        return {path: tree}
    items: typing.Iterable = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    found: dict[str, np.ndarray] = {}
    for key, value in items:
        found |= arrays_of(value, f"{path}/{key}" if path else str(key))
    return found


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (dtypes, dtypes_new, views, config):
        name, tree = make.__name__, make()
        torch.save(tree, folder / f"{name}.zip.pt")
        if make is not dtypes_new:
            torch.save(tree, folder / f"{name}.legacy.pt", _use_new_zipfile_serialization=False)
        np.savez_compressed(folder / f"{name}.npz", **arrays_of(tree))
    torch.save(config(), folder / "config.protocol4.pt", pickle_protocol=4)
    (folder / "config.json").write_text(
        json.dumps(CONFIG_EXPECTED, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    buffer = io.BytesIO()  # a zip file whose members somebody has compressed
    with zipfile.ZipFile(folder / "views.zip.pt") as old, \
            zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    (folder / "views.deflated.pt").write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main()
