"""The token store: layout byte for byte, damage reported."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest

from seqjax.data.indexed import (
    DTYPES,
    IndexedDataset,
    IndexedDatasetError,
    IndexedWriter,
    dtype_for,
    exists,
)

ROWS = [[5, 6, 2], [2], [7, 8, 9, 10, 2]]


def write(prefix, rows=ROWS, dtype=np.uint16) -> None:
    with IndexedWriter(prefix, dtype=dtype) as writer:
        for row in rows:
            writer.append(np.array(row, np.int64))


def test_layout(tmp_path) -> None:
    write(tmp_path / "s", [[258, 2], [3, 2]])
    assert (tmp_path / "s.bin").read_bytes() == b"\x02\x01\x02\x00\x03\x00\x02\x00"
    assert (tmp_path / "s.idx").read_bytes() == (
        b"MMIDIDX\x00\x00" + struct.pack("<QBQ", 1, 8, 2)
        + struct.pack("<ii", 2, 2) + struct.pack("<qq", 0, 4)
    )
    assert (tmp_path / "s.idx").stat().st_size == 50
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.bin", "s.idx"]


@pytest.mark.parametrize("dtype", [d for c, d in DTYPES.items() if c <= 5 or c >= 8])
def test_round_trip(tmp_path, dtype) -> None:
    write(tmp_path / "s", dtype=dtype)
    data = IndexedDataset(tmp_path / "s")
    assert len(data) == 3
    assert data.num_tokens == 9
    assert data.dtype == dtype
    assert data.lengths.dtype == np.int32
    assert data.lengths.tolist() == [3, 1, 5]
    assert data.offsets.tolist() == [0, 3, 4]
    assert data.starts(np.array([2, 0])).tolist() == [4, 0]
    assert data.tokens.tolist() == sum(ROWS, [])
    for i, row in enumerate(ROWS):
        assert data[i].dtype == np.int64
        assert data[i].tolist() == row
    with pytest.raises(IndexError, match="sentence 3 of 3"):
        data[3]
    with pytest.raises(ValueError, match="read-only"):
        data.tokens[0] = 1
    assert pickle.loads(pickle.dumps(data))[2].tolist() == ROWS[2]


@pytest.mark.parametrize("code_type", ["<f4", "<f8"])
def test_code_6_is_told_by_the_size(tmp_path, code_type) -> None:
    """float32 in some versions of fairseq, float64 in others."""
    flat = np.array(sum(ROWS, []), code_type)
    flat.tofile(tmp_path / "s.bin")
    lengths = np.array([len(r) for r in ROWS], "<i4")
    starts = (np.cumsum(lengths) - lengths).astype("<i8") * flat.itemsize
    header = b"MMIDIDX\x00\x00" + struct.pack("<QBQ", 1, 6, 3)
    (tmp_path / "s.idx").write_bytes(header + lengths.tobytes() + starts.tobytes())
    data = IndexedDataset(tmp_path / "s")
    assert data.dtype == np.dtype(code_type)
    assert data[2].tolist() == ROWS[2]


def test_extend_and_merge_equal_append(tmp_path) -> None:
    write(tmp_path / "a")
    with IndexedWriter(tmp_path / "b", dtype=np.uint16) as writer:
        writer.extend(np.array(sum(ROWS, [])), np.array([3, 1, 5]))
    write(tmp_path / "part0", ROWS[:1])
    write(tmp_path / "part1", [])
    write(tmp_path / "part2", ROWS[1:])
    with IndexedWriter(tmp_path / "c", dtype=np.uint16) as writer:
        for k in range(3):
            writer.merge(tmp_path / f"part{k}")
        assert (writer.num_sentences, writer.num_tokens) == (3, 9)
    for end in ("bin", "idx"):
        expected = (tmp_path / f"a.{end}").read_bytes()
        assert (tmp_path / f"b.{end}").read_bytes() == expected
        assert (tmp_path / f"c.{end}").read_bytes() == expected
    write(tmp_path / "wide", dtype=np.int64)
    with (
        pytest.raises(ValueError, match="wide holds int64"),
        IndexedWriter(tmp_path / "d", dtype=np.uint16) as writer,
    ):
        writer.merge(tmp_path / "wide")


def test_many_sentences_cross_the_index_chunks(tmp_path) -> None:
    lengths = np.arange(600_000) % 3
    with IndexedWriter(tmp_path / "s", dtype=np.uint8) as writer:
        writer.extend(np.zeros(lengths.sum()), lengths)
    data = IndexedDataset(tmp_path / "s")
    np.testing.assert_array_equal(data.lengths, lengths)
    np.testing.assert_array_equal(data.offsets, np.cumsum(lengths) - lengths)


def test_empty_store_and_empty_sentences(tmp_path) -> None:
    write(tmp_path / "none", [])
    assert len(IndexedDataset(tmp_path / "none")) == 0
    assert IndexedDataset(tmp_path / "none").tokens.shape == (0,)
    write(tmp_path / "hollow", [[], [4], []])
    assert [d.tolist() for d in map(IndexedDataset(tmp_path / "hollow").__getitem__, range(3))] == [
        [], [4], []
    ]


def test_nothing_is_left_after_an_error(tmp_path) -> None:
    with pytest.raises(RuntimeError), IndexedWriter(tmp_path / "s", dtype=np.uint16) as writer:
        writer.append(np.array([1, 2]))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_tokens_that_do_not_fit(tmp_path) -> None:
    with (
        pytest.raises(ValueError, match="does not fit into uint16"),
        IndexedWriter(tmp_path / "s", dtype=np.uint16) as writer,
    ):
        writer.append(np.array([70_000]))


def test_dtype_for() -> None:
    assert dtype_for(65_499) == np.uint16
    assert dtype_for(65_500) == np.uint32
    assert dtype_for(2**32 - 1) == np.int64
    assert dtype_for(None) == np.uint32


def test_missing_files(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing: no token store"):
        IndexedDataset(tmp_path / "nothing")
    write(tmp_path / "s")
    assert exists(tmp_path / "s")
    (tmp_path / "s.idx").rename(tmp_path / "kept")
    assert not exists(tmp_path / "s")
    with pytest.raises(FileNotFoundError, match=r"s\.idx: missing, though .*s\.bin is there"):
        IndexedDataset(tmp_path / "s")


@pytest.mark.parametrize(
    ("end", "change", "message"),
    [
        ("bin", lambda b: b[:-1], r"s\.bin: truncated: 18 bytes expected for 3.*, 17 found"),
        ("bin", lambda b: b + b"x", r"s\.bin: too long: 18 bytes expected.* 19 found"),
        ("bin", lambda b: b"", r"s\.bin: truncated: 18 bytes expected.* 0 found"),
        ("idx", lambda b: b[:-4], r"s\.idx: truncated: 62 bytes expected for 3.*, 58 found"),
        ("idx", lambda b: b[:20], r"s\.idx: truncated: 26 bytes of header expected, 20 found"),
        ("idx", lambda b: b + b[:8], r"s\.idx: too long: 62 bytes expected"),
        ("idx", lambda b: b"PARQUET" + b[7:], r"s\.idx: not an index.*PARQUET"),
        ("idx", lambda b: b"", r"s\.idx: not an index"),
        ("idx", lambda b: b[:9] + b"\x02" + b[10:], r"s\.idx: version 2, expected 1"),
        ("idx", lambda b: b[:17] + b"\x0b" + b[18:], r"s\.idx: token type 11 is unknown"),
    ],
)
def test_damage_is_reported(tmp_path, end, change, message) -> None:
    write(tmp_path / "s")
    path = tmp_path / f"s.{end}"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(IndexedDatasetError, match=message):
        IndexedDataset(tmp_path / "s")


def legacy(prefix, rows) -> None:
    flat = np.array(sum(rows, []), "<i4") + 1
    flat.tofile(f"{prefix}.bin")
    sizes = [len(r) for r in rows]
    header = b"TNTIDX\x00\x00" + struct.pack("<5Q", 1, 4, 4, len(rows), len(rows))
    arrays = [list(range(len(rows) + 1)), [0, *np.cumsum(sizes)], sizes]
    with open(f"{prefix}.idx", "wb") as file:
        file.write(header + b"".join(np.array(a, "<i8").tobytes() for a in arrays))


def test_legacy_format(tmp_path) -> None:
    legacy(tmp_path / "old", ROWS)
    data = IndexedDataset(tmp_path / "old")
    assert [data[i].tolist() for i in range(len(data))] == ROWS
    assert data.lengths.tolist() == [3, 1, 5]
    assert data.offsets.tolist() == [0, 3, 4]
    assert data.tokens.tolist() == sum(ROWS, [])
    index = (tmp_path / "old.idx").read_bytes()
    (tmp_path / "old.idx").write_bytes(index[:-8])
    with pytest.raises(IndexedDatasetError, match="truncated"):
        IndexedDataset(tmp_path / "old")
    (tmp_path / "old.idx").write_bytes(index)
    (tmp_path / "old.bin").write_bytes(b"\0" * 8)
    with pytest.raises(IndexedDatasetError, match="36 bytes expected for 3 sentences, 8 found"):
        IndexedDataset(tmp_path / "old")
