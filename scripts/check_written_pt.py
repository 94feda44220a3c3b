"""Asks a real torch whether it reads what `seqjax.interop.torch.writer` writes.

Two environments: seqjax writes, torch (which seqjax never imports) reads.

    python scripts/check_written_pt.py write FILE     # with seqjax: FILE.pt and FILE.npz
    python scripts/check_written_pt.py read FILE      # with torch and numpy
    python scripts/check_written_pt.py same OLD NEW   # with torch: two checkpoints' `model`
"""

from __future__ import annotations

import sys

import numpy as np


def write(stem: str) -> None:
    """A file with tensors of every dtype and layout, and what they hold."""
    import ml_dtypes

    from seqjax.interop.torch.names import DTYPES
    from seqjax.interop.torch.writer import write_pt

    tensors = {name: np.arange(6).reshape(2, 3).astype(dtype) for name, dtype in DTYPES.items()}
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensors |= {"transposed": base.T, "strided": base[:, ::2], "empty": base[:0],
                "scalar": np.array(3.5), "tied_in": base[0], "tied_out": base[0]}
    write_pt(f"{stem}.pt", {"model": tensors, "numbers": [1, -(2**70), 0.1, True, None, "ü"],
                            "nested": {"keys": {0: (1, (2,))}, "raw": b"\x00\xff"}})
    small = (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
    np.savez(f"{stem}.npz", **{
        k: v.astype(np.float64) if v.dtype in small else v for k, v in tensors.items()})


def read(stem: str) -> None:
    """Loads it with `weights_only=True` and compares."""
    import torch

    tree = torch.load(f"{stem}.pt", weights_only=True)
    mapped = torch.load(f"{stem}.pt", weights_only=True, mmap=True)
    assert tree["numbers"] == [1, -(2**70), 0.1, True, None, "ü"], tree["numbers"]
    assert tree["nested"] == {"keys": {0: (1, (2,))}, "raw": b"\x00\xff"}, tree["nested"]
    assert tree["model"]["tied_in"].data_ptr() == tree["model"]["tied_out"].data_ptr()
    with np.load(f"{stem}.npz") as expected:
        assert set(tree["model"]) == set(expected)
        for name in expected:
            for tensor in (tree["model"][name], mapped["model"][name]):
                if isinstance(getattr(torch, name, None), torch.dtype):
                    assert tensor.dtype == getattr(torch, name), name
                if tensor.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
                    tensor = tensor.double()
                np.testing.assert_array_equal(tensor.numpy(), expected[name], name)
    print(f"torch {torch.__version__} reads all {len(tree['model'])} tensors")


def same(old: str, new: str) -> None:
    """Whether two checkpoints hold the same weights, bit for bit."""
    import torch

    a, b = (torch.load(path, weights_only=False)["model"] for path in (old, new))
    assert set(a) == set(b), set(a) ^ set(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
        assert a[name].numpy().tobytes() == b[name].numpy().tobytes(), name
    print(f"all {len(a)} tensors are the same, bit for bit")


if __name__ == "__main__":
    {"write": write, "read": read, "same": same}[sys.argv[1]](*sys.argv[2:])
