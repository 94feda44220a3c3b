"""Text files: what a line is, checks before work, cutting into spans."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pytest

from seqjax.data import compression
from seqjax.data.sources import (
    SourceError,
    check_parallel,
    count_lines,
    iterate_lines,
    read_lines,
    split_spans,
    split_tsv,
)

TEXTS = {
    "plain": b"one\ntwo\nthree\n",
    "no newline at the end": b"one\ntwo",
    "empty lines": b"\n\none\n\n",
    "carriage returns": b"one\rtwo\r\nthree\r\r\nfour",
    "separators that end no line": "a\u2028b\u0085c\x0bd\x0ce\x1cf\n\u2029\n".encode(),
    "wide": ("ü€𝄞" * 40 + "\n").encode() * 30,
    "a mark at the start": b"\xef\xbb\xbfone\n",
}


def text_mode(path) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return list(file)


@pytest.mark.parametrize("name", TEXTS)
def test_lines_are_text_mode_lines(tmp_path, name: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(TEXTS[name])
    expected = text_mode(path)
    assert [line for lines in read_lines(path) for line in lines] == expected
    assert count_lines(path) == len(expected)
    assert list(iterate_lines([path])) == [line.rstrip("\n") for line in expected]
    for at_least in (1, 2, 3, 7, 50):
        spans = split_spans(path, max_bytes=1 << 20, at_least=at_least)
        assert [line for s in spans for lines in read_lines(path, s) for line in lines] == expected
        assert (spans[0].start, spans[-1].end) == (0, path.stat().st_size)
        assert len(spans) <= at_least


def test_lines_across_blocks(tmp_path) -> None:
    """Line ends and characters that blocks of a megabyte cut in two."""
    path = tmp_path / "text"
    path.write_bytes(b"a" * ((1 << 20) - 1) + b"\r\n" + b"b" * ((1 << 20) - 2) + "ü\n".encode())
    assert count_lines(path) == 2
    assert [len(line) for lines in read_lines(path) for line in lines] == [1 << 20, 1 << 20]


def test_span_size(tmp_path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"0123456789\n" * 100)
    assert len(split_spans(path, max_bytes=110, at_least=1)) == 10


def test_every_kth_line(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("".join(f"{name}{i}\n" for i in range(5)))
    paths = [str(tmp_path / name) for name in ("a", "b")]
    assert list(iterate_lines(paths, every=3)) == ["a0", "a3", "b1", "b4"]


def test_not_utf8_names_the_line(tmp_path) -> None:
    path = tmp_path / "latin"
    path.write_bytes("grün\rgrün\n".encode() + b"x\ngr\xfcn\nmore\n")
    with pytest.raises(SourceError, match=r"latin: line 4 is not UTF-8 \(byte 0xfc\).*iconv"):
        count_lines(path)
    path.write_bytes(b"ok\ncut short \xc3")
    with pytest.raises(SourceError, match="line 2 is not UTF-8"):
        count_lines(path)
    path.write_bytes(b"ok\n" * 700_000 + b"\xff\n")
    with pytest.raises(SourceError, match="line 700001 is not UTF-8"):
        count_lines(path)


def test_missing_and_empty(tmp_path) -> None:
    (tmp_path / "train.de").write_bytes(b"")
    with pytest.raises(SourceError, match=r"train\.de: empty file \(0 lines\)"):
        count_lines(tmp_path / "train.de")
    with pytest.raises(FileNotFoundError, match=r"train\.en: no such file \(there is train\.de\)"):
        count_lines(tmp_path / "train.en")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        count_lines(tmp_path / "nowhere" / "train.en")
    with pytest.raises(SourceError, match="is a folder"):
        count_lines(tmp_path)


def test_parallel_files(tmp_path) -> None:
    (tmp_path / "a").write_text("1\n2\n")
    (tmp_path / "b").write_text("1\n2")
    (tmp_path / "c").write_text("1\n2\n3\n")
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert check_parallel([a, b]) == 2
    with pytest.raises(SourceError, match=r"a has 2 lines, but .*c has 3"):
        check_parallel([a, b, c])


def test_tsv(tmp_path) -> None:
    path, outputs = tmp_path / "x.tsv", [str(tmp_path / "s"), str(tmp_path / "t")]
    path.write_text('hello\t"hallo\tx\r\nyes\tja\ty', encoding="utf-8")
    assert split_tsv(str(path), [0, 1], outputs) == 2
    assert (tmp_path / "s").read_text() == "hello\nyes\n"
    assert (tmp_path / "t").read_text() == '"hallo\nja\n'
    path.write_text("hello\thallo\nyes\n")
    with pytest.raises(SourceError, match=r"x\.tsv: line 2 has 1 columns.*column 1 is wanted"):
        split_tsv(str(path), [0, 1], outputs)


PACKED = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("name", ["text.gz", "text"])
def test_compressed_files_are_unpacked(tmp_path, kind: str, name: str) -> None:
    """By their first bytes: the name does not matter."""
    path, plain = tmp_path / name, tmp_path / "plain"
    content = "".join(f"line {i} ü\r\n" for i in range(30_000)).encode()
    plain.write_bytes(content)
    path.write_bytes(PACKED[kind](content))
    assert count_lines(path) == 30_000
    assert list(iterate_lines([path])) == list(iterate_lines([plain]))
    spans = split_spans(path, max_bytes=1000, at_least=4)
    assert [line for s in spans for lines in read_lines(path, s) for line in lines] == [
        line for lines in read_lines(plain) for line in lines]
    path.write_bytes(PACKED[kind](b"good\nb\xe4d\n"))
    with pytest.raises(SourceError, match=f"{name}: line 2 is not UTF-8"):
        count_lines(path)
    path.write_bytes(PACKED[kind](content)[:-20])
    with pytest.raises(compression.CompressionError, match=f"{name}: the compressed file is damag"):
        count_lines(path)


def test_other_compressions_are_named(tmp_path) -> None:
    path = tmp_path / "text.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd rest")
    with pytest.raises(compression.CompressionError, match="unpack it first: zstd -d"):
        count_lines(path)
