"""torch's files are read as torch reads them, in both formats, and what we write reads back.

The files in `goldens/torch_files` were written by torch (`scripts/record_torch_files.py`).
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import pathlib
import pickletools
import zipfile

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from seqjax.interop.torch.files import drop_pages, read_pt
from seqjax.interop.torch.writer import write_pt

FILES = pathlib.Path(__file__).parent / "goldens" / "torch_files"


def arrays_of(tree, path=""):
    """Arrays by their path, the exotic dtypes as unsigned integers of the same bits."""
    if isinstance(tree, np.ndarray):
        if tree.dtype == ml_dtypes.bfloat16:
            return {path: np.ascontiguousarray(tree).view(np.uint16)}
        if tree.dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
            return {path: np.ascontiguousarray(tree).view(np.uint8)}
        return {path: tree}
    items = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    found = {}
    for key, value in items:
        found |= arrays_of(value, f"{path}/{key}" if path else str(key))
    return found


def plain(tree):
    """Everything but the arrays, as JSON would hold it."""
    if isinstance(tree, dict):
        return {k: plain(v) for k, v in tree.items() if not isinstance(v, np.ndarray)}
    if isinstance(tree, (list, tuple, set, bytes)):
        return [plain(v) for v in tree]
    return tree


@pytest.mark.parametrize("file", sorted(p.name for p in FILES.glob("*.pt")))
def test_tensors_equal_torchs(file):
    found = arrays_of(read_pt(FILES / file))
    with np.load(FILES / f"{file.split('.')[0]}.npz") as expected:
        assert sorted(found) == sorted(expected)
        for name in expected:
            assert found[name].dtype == expected[name].dtype, name
            assert found[name].shape == expected[name].shape, name
            assert found[name].tobytes() == expected[name].tobytes(), name


@pytest.mark.parametrize("file", ["config.zip.pt", "config.legacy.pt", "config.protocol4.pt"])
def test_configs_become_plain_data(file):
    tree = read_pt(FILES / file)
    expected = json.loads((FILES / "config.json").read_text(encoding="utf-8"))
    found = plain({k: v for k, v in tree.items() if k not in ("arrays", "weight")})
    assert found == expected
    assert type(tree["kinds"]["tuple"]) is tuple and type(tree["kinds"]["set"]) is set
    assert type(tree["numbers"]["np"]) is float and type(tree["numbers"]["np_int"]) is int


@pytest.mark.parametrize("file", ["views.zip.pt", "views.legacy.pt"])
def test_sharing_and_mapping_survive(file):
    tree = read_pt(FILES / file)
    model = tree["model"]
    assert np.shares_memory(model["base"], model["transposed"])
    assert np.shares_memory(model["tied_in"], model["tied_out"])
    assert not np.shares_memory(model["base"], model["tied_in"])
    assert model["base"].strides == (24, 4) and model["transposed"].strides == (4, 24)
    assert not model["base"].flags.writeable
    before = model["base"].copy()
    drop_pages(model["base"])
    np.testing.assert_array_equal(model["base"], before)


def test_only_used_tensors_are_read():
    """Nothing is copied: arrays lie in the map of the file, wherever they start."""
    base = read_pt(FILES / "views.zip.pt")["model"]["base"]
    chain = base
    while isinstance(chain, np.ndarray) and chain.base is not None:
        assert not chain.flags.owndata
        chain = chain.base
    assert type(chain).__name__ in ("mmap", "memoryview")


# ---- writing ----


def every_kind():
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    tied = np.ones((2, 2), np.float32)
    return {
        "model": collections.OrderedDict(
            base=base, transposed=base.T, half=base.astype(np.float16),
            brain=base.astype(ml_dtypes.bfloat16), long=np.arange(3), flags=np.array([True, False]),
            swapped=np.arange(3, dtype=">i4"), scalar=np.array(2.5, np.float32),
            empty=np.zeros((0, 3), np.float32), wide=np.arange(3, dtype=np.uint32),
            tied_in=tied, tied_out=tied, on_device=jnp.arange(4.0),
            special=np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)),
        "numbers": [1, -1, 2**40, -(2**63), 2**63, 0.1, np.float64(0.25), np.int32(7), True, None],
        "text": ("", "Straße \U0001f600", ("nested", [])),
        "keys": {0: "zero", (1, 2): "tuple"},
        "raw": b"\x00\xff",
    }


def test_written_files_read_back(tmp_path):
    tree = every_kind()
    write_pt(tmp_path / "a.pt", tree)
    found = read_pt(tmp_path / "a.pt")
    assert found["numbers"] == tree["numbers"]
    assert (found["text"], found["keys"], found["raw"]) == (
        tree["text"], tree["keys"], tree["raw"])
    for name, value in tree["model"].items():
        value = np.asarray(value)
        value = value.astype(value.dtype.newbyteorder("="))
        assert found["model"][name].dtype == value.dtype, name
        assert found["model"][name].shape == value.shape, name
        assert found["model"][name].tobytes() == value.tobytes(), name
    assert np.shares_memory(found["model"]["tied_in"], found["model"]["tied_out"])
    assert not np.shares_memory(found["model"]["base"], found["model"]["transposed"])
    starts = [v.__array_interface__["data"][0] % 64 for v in found["model"].values() if v.size]
    assert set(starts) == {0}  # aligned, so that nobody need copy them


def test_recorded_files_survive_a_round_trip(tmp_path):
    """Bit for bit, and twice the same file."""
    for file in ("dtypes.zip.pt", "dtypes_new.zip.pt", "views.legacy.pt"):
        tree = read_pt(FILES / file)
        write_pt(tmp_path / "a.pt", tree)
        write_pt(tmp_path / "b.pt", tree)
        assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
        before, after = arrays_of(tree), arrays_of(read_pt(tmp_path / "a.pt"))
        assert before.keys() == after.keys()
        for name in before:
            assert before[name].dtype == after[name].dtype
            assert before[name].tobytes() == after[name].tobytes(), name


def test_namespaces_are_written(tmp_path):
    write_pt(tmp_path / "a.pt", {"args": argparse.Namespace(arch="transformer", lr=[0.5])})
    assert read_pt(tmp_path / "a.pt") == {"args": {"arch": "transformer", "lr": [0.5]}}


@pytest.mark.parametrize("value, says", [
    ({"a": [1, {2}]}, r"set at a\[1\]"), ({"a": object()}, "object at a"),
    (np.array(["x"]), "array of <U1"), ({"a": {"b": np.array([None])}}, r"object at a\.b"),
    ({frozenset(): 1}, "frozenset as a key"),
])
def test_what_cannot_be_written_is_refused_and_leaves_nothing(value, says, tmp_path):
    (tmp_path / "a.pt").write_bytes(b"before")
    with pytest.raises(TypeError, match=says):
        write_pt(tmp_path / "a.pt", value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    assert (tmp_path / "a.pt").read_bytes() == b"before"


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a.pt").write_bytes(b"before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_pt(tmp_path / "a.pt", every_kind())
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.pt", b"before")]


def test_written_pickles_are_what_weights_only_takes(tmp_path):
    """Only the names and instructions that `torch.load(weights_only=True)` knows (2.13)."""
    write_pt(tmp_path / "a.pt", every_kind())
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        assert file.testzip() is None
        assert file.read("archive/version") == b"3\n"
        operations = list(pickletools.genops(file.read("archive/data.pkl")))
    names = {arg for op, arg, _ in operations if op.name == "GLOBAL"}
    assert names <= {
        "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "_codecs encode",
        "torch._utils _rebuild_tensor_v3", "torch.storage UntypedStorage", "torch uint32",
        *(f"torch {kind}Storage" for kind in ("Float", "Half", "BFloat16", "Long", "Bool", "Int"))}
    assert {op.name for op, _, _ in operations} <= {
        "PROTO", "GLOBAL", "EMPTY_DICT", "EMPTY_LIST", "MARK", "TUPLE", "SETITEMS", "APPENDS",
        "REDUCE", "BINPERSID", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "LONG1",
        "BINFLOAT", "BINUNICODE", "STOP"}
