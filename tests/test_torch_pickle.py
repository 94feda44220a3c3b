"""torch's files are read as torch reads them, in both formats, and what we write reads back.

The files in `goldens/torch_files` were written by torch (`scripts/record_torch_files.py`).
"""

from __future__ import annotations

import json
import pathlib

import ml_dtypes
import numpy as np
import pytest

from seqjax.interop.torch_pickle import drop_pages, read_pt

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
