"""What recording scripts pack is what tests read; weights of a seed are the same everywhere."""

from __future__ import annotations

import numpy as np
import packed
from seeded_weights import seeded_state


def test_what_is_unpacked_is_what_was_packed(tmp_path):
    (tmp_path / "case" / "deep").mkdir(parents=True)
    contents = {"case/big.npz": b"header" * 2000, "case/deep/none": b"again" * 3000,
                "case/small.json": b"{}", "case/read.txt": b"text" * 4000}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    packed.pack(tmp_path)
    assert {f.name for f in tmp_path.rglob("*") if f.is_file()} == {
        "big.npz.xz", "none.xz", "small.json", "read.txt"}
    there = packed.unpacked(tmp_path)
    assert {str(f.relative_to(there)): f.read_bytes()
            for f in there.rglob("*") if f.is_file()} == contents
    assert packed.unpacked(tmp_path / "case" / "big.npz").read_bytes() == contents["case/big.npz"]
    assert packed.unpacked(tmp_path / "case" / "small.json").parent == tmp_path / "case"


def test_a_file_that_is_written_anew_replaces_its_packed_one(tmp_path):
    for data in (b"a" * 9000, b"b" * 9000, b"c"):
        (tmp_path / "file.pt").write_bytes(data)
        packed.pack(tmp_path)
        packed.unpacked.cache_clear()
        assert (packed.unpacked(tmp_path) / "file.pt").read_bytes() == data
    assert [f.name for f in tmp_path.iterdir()] == ["file.pt"]


def test_weights_of_a_seed():
    shapes = {"b.weight": (40, 50), "a.bias": (30,), "norm.weight": (40,), "scale": ()}
    state = seeded_state(shapes, 1)
    turned = seeded_state(dict(reversed(shapes.items())), 1)
    assert {name: value.shape for name, value in state.items()} == shapes
    for name, value in state.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, turned[name])
    assert (state["norm.weight"] > 0).all() and 0.1 < (state["b.weight"] @ np.ones(50)).std() < 2
    assert not np.array_equal(state["b.weight"], seeded_state(shapes, 2)["b.weight"])
