"""Files made to do harm, or damaged: each is refused with a clear error, and runs nothing.

The files are built by hand, so that they can hold what no honest writer writes.
"""

from __future__ import annotations

import functools
import io
import pathlib
import pickle
import struct
import sys
import time
import zipfile

import numpy as np
import pytest

from seqjax.interop.torch_pickle import (
    CheckpointError,
    CorruptCheckpointError,
    Limits,
    UnsafeCheckpointError,
    read_pt,
)

FILES = pathlib.Path(__file__).parent / "goldens" / "torch_files"


# ---- building files ----


def archive(path, stream, *, members=(), prefix="x/", method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(prefix + "data.pkl", stream)
        file.writestr(prefix + "version", "3\n")
        for name, data in members:
            file.writestr(name, data)
    return path


def legacy(path, stream, *, keys=(), storages=b""):
    header = b"".join(pickle.dumps(v, 2) for v in (
        0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(header + stream + pickle.dumps(list(keys), 2) + storages)
    return path


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value):
    raw = value.to_bytes(16, "little", signed=True)
    return b"\x8a\x10" + raw


def call(name, *arguments):
    """`module name` called with already encoded arguments."""
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


def program(body):
    return b"\x80\x02" + body + b"."


def tensor(*, numel=6, key="0", offset=0, shape=(2, 3), strides=(3, 1), kind="FloatStorage"):
    """A tensor over a storage, as torch writes it."""
    pid = b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text(
        "cpu") + number(numel) + b"tQ"
    sizes = b"(" + b"".join(map(number, shape)) + b"t"
    steps = b"(" + b"".join(map(number, strides)) + b"t"
    return call("torch._utils _rebuild_tensor_v2", pid, number(offset), sizes, steps, b"\x89",
                b"}")


class Evil:
    """Pickled by Python itself: a call of `function` when loaded."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


MARKER = "seqjax-hostile-file-was-here"


WATCHED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.remove", "os.mkdir",
           "os.rename", "socket.connect", "shutil.rmtree", "pickle.find_class")
_heard: list[str] | None = None


def _listen(event, arguments):
    """Python itself reports what is run (PEP 578), also when called from C."""
    if _heard is not None and event in WATCHED:
        _heard.append(event)


sys.addaudithook(_listen)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Fails the test if a command is run, a file made or Python's own unpickler used."""
    global _heard
    monkeypatch.chdir(tmp_path)
    _heard = []
    yield
    heard, _heard = _heard, None
    assert heard == []
    assert not (tmp_path / MARKER).exists()


# ---- code ----

HOSTILE_CODE = {
    "os.system": call("os system", text(f"touch {MARKER}")),
    "posix.system": call("posix system", text(f"touch {MARKER}")),
    "nt.system": call("nt system", text("x")),
    "subprocess.Popen": call("subprocess Popen", text(f"touch {MARKER}")),
    "builtins.eval": call("builtins eval", text(f"open({MARKER!r}, 'w')")),
    "__builtin__.eval": call("__builtin__ eval", text(f"open({MARKER!r}, 'w')")),
    "builtins.exec": call("builtins exec", text(f"open({MARKER!r}, 'w')")),
    "builtins.__import__": call("builtins __import__", text("os")),
    "builtins.open": call("builtins open", text(MARKER), text("w")),
    "importlib.import_module": call("importlib import_module", text("os")),
    "runpy": call("runpy run_path", text("x")),
    "torch.load": call("torch load", text("x")),
    "torch.hub.load": call("torch.hub load", text("x")),
    "numpy.load": call("numpy load", text("x")),
    "numpy f2py exec": call("numpy.testing._private.utils runstring", text("x"), b"}"),
    "operator.attrgetter": call("operator attrgetter", text("system")),
    "functools.partial": call("functools partial", b"cos\nsystem\n", text("x")),
    "copyreg reconstructor": call("copyreg _reconstructor", b"cos\nsystem\n"),
    "copyreg add_extension": call("copyreg add_extension", text("os"), text("system"), b"K\x01"),
    "copy_reg newobj": call("copy_reg __newobj__", b"cos\nsystem\n"),
    "qtensor": call("torch._utils _rebuild_qtensor"),
    "getattr of a module": call("builtins getattr", b"cos\n_wrap_close\n", text("system")),
    "getattr of a type": call("builtins getattr", b"cbuiltins\ndict\n", text("__class__")),
    "getattr of text": call("builtins getattr", text("x"), text("format")),
    "getattr chain": call("builtins getattr", call(
        "builtins getattr", b"cfairseq.tasks\nTask\n", text("__init__")), text("__globals__")),
    "type with three arguments": call("builtins type", text("X"), b")", b"}"),
    "call of an enum member": call(
        "builtins getattr", b"cfairseq.x\nY\n", text("z")) + b")R",
    "call of text": text("os.system") + b")R",
    "call of a result": call("collections OrderedDict") + b")R",
    "call of a storage class": call("torch FloatStorage", b"K\x05"),
    "new object": b"cos\nsystem\n)\x81",
    "new object with keywords": b"ccollections\nOrderedDict\n)}" + text("a") + b"K\x01s\x92",
    "nested reduce": call("collections OrderedDict", b"]" + call("os system", text("x")) + b"a"),
    "reduce in a tensor's hooks": call(
        "torch._utils _rebuild_parameter", tensor(), b"\x88", call("os system", text("x"))),
    "rebuild_from_type by another function": call(
        "torch._tensor _rebuild_from_type_v2", b"ccollections\nOrderedDict\n",
        b"ctorch\nTensor\n", b")", b"}"),
    "build on a global": b"ccollections\nOrderedDict\n}" + text("call") + b"K\x01sb",
    "build on text": text("x") + b"}b",
    "build on a list": b"]}b",
    "build on a tensor": tensor() + b"}b",
    "items of a global": b"ccollections\nOrderedDict\n" + text("a") + b"K\x01s",
    "items of a tuple": b")" + b"K\x00K\x01s",
    "append to a global": b"ccollections\nOrderedDict\nK\x01a",
    "append to text": text("x") + b"K\x01a",
    "a module as a dictionary key": b"}(ccollections\nOrderedDict\nK\x01u",
    "extension code 1": b"\x82\x01",
    "extension code 2": b"\x83\x01\x00",
    "extension code 4": b"\x84\x01\x00\x00\x00",
    "inst": b"(ios\nsystem\n",
    "obj": b"(cos\nsystem\no",
    "outside buffer": b"\x97",
    "text persistent id": b"Px\n",
    "protocol 0 integer": b"I1\n",
    "protocol 0 text": b"S'x'\n",
    "a module pickled whole": (
        b"(" + text("module") + b"cos\nsystem\n" + text("a") + text("b") + b"tQ"),
    "a persistent id of another kind": text("file:///etc/passwd") + b"Q",
    "stack global": text("os") + text("system") + b"\x93" + b"(" + text("x") + b"tR",
    "dotted stack global": text("fairseq") + text("os;system") + b"\x93",
    "dunder chain": text("collections") + text("OrderedDict.__init__.__globals__") + b"\x93",
    "encode with a codec": call("_codecs encode", text("x"), text("rot13")),
    "numpy object array": call("numpy dtype", text("O8"), b"\x89", b"\x88"),
    "numpy structured array": call("numpy dtype", text("f4,O"), b"\x89", b"\x88"),
    "subscript of an object": call("_operator getitem", b"}", text("a")),
}


@pytest.mark.parametrize("format_", [archive, legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", HOSTILE_CODE)
def test_nothing_is_run(name, format_, tmp_path, trap):
    storage = np.arange(6, dtype="<f4").tobytes()
    extra = {"members": [("x/data/0", storage)]} if format_ is archive else {
        "keys": ["0"] if b"FloatStorage" in HOSTILE_CODE[name] else [],
        "storages": struct.pack("<q", 6) + storage}
    path = format_(tmp_path / "evil.pt", program(HOSTILE_CODE[name]), **extra)
    with pytest.raises(CheckpointError) as caught:
        read_pt(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "subprocess.Popen", "torch.load"])
def test_the_refused_name_is_named(name, tmp_path, trap):
    path = archive(tmp_path / "evil.pt", program(HOSTILE_CODE[name]))
    with pytest.raises(UnsafeCheckpointError, match=name.replace(".", r"\.")):
        read_pt(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_that_python_would_run(protocol, tmp_path):
    """The attempts are real: Python's own `pickle` falls for them."""
    marker = tmp_path / MARKER
    touch = Evil(pathlib.Path.touch, marker)
    pickle.loads(pickle.dumps(touch, protocol))
    marker.unlink()
    for value in (touch, {"model": {"w": touch}}, [Evil(functools.partial, print, "x")],
                  Evil(getattr, Evil(__import__, "os"), "system")):
        path = archive(tmp_path / "evil.pt", pickle.dumps(value, protocol))
        with pytest.raises(UnsafeCheckpointError):
            read_pt(path)
    assert not marker.exists()


def test_setstate_and_attributes_are_inert(tmp_path, trap):
    """State of fairseq's classes is data, whatever its keys are called."""
    state = b"}" + text("__setstate__") + text("a") + b"s" + text("__class__") + text("b") + b"s"
    body = b"cfairseq.models\nEvil\n)\x81" + state + b"b"
    assert read_pt(archive(tmp_path / "a.pt", program(body))) == {
        "__setstate__": "a", "__class__": "b"}
    path = archive(tmp_path / "b.pt", program(body + b"}b"))
    with pytest.raises(CorruptCheckpointError, match="twice"):
        read_pt(path)


def test_own_classes_come_in_as_data_when_named(tmp_path):
    path = archive(tmp_path / "own.pt", program(
        b"cmy_lab.config\nMine\n)\x81}" + text("lr") + b"K\x05sb"))
    with pytest.raises(UnsafeCheckpointError, match=r"my_lab\.config\.Mine.*plain_modules"):
        read_pt(path)
    assert read_pt(path, plain_modules=["my_lab"]) == {"lr": 5}


# ---- lies about tensors ----

LIES = {
    "storage larger than its bytes": {"numel": 7},
    "storage far larger": {"numel": 1 << 47},
    "negative storage": {"numel": -1},
    "shape beyond the storage": {"shape": (2, 4), "strides": (4, 1)},
    "offset beyond the storage": {"offset": 1},
    "negative offset": {"offset": -1},
    "stride beyond the storage": {"strides": (4, 1)},
    "huge stride": {"strides": (1 << 62, 1)},
    "stride that wraps around": {"strides": ((1 << 64) - 3, 1)},
    "negative stride": {"strides": (-3, 1)},
    "negative shape": {"shape": (-2, 3)},
    "product that wraps around": {"shape": (1 << 33, 1 << 33), "strides": (0, 0)},
    "huge empty": {"shape": (0, 1 << 40, 1 << 40), "strides": (1, 1, 1)},
    "offset beyond an empty one": {"shape": (0,), "strides": (1,), "offset": 7},
    "fewer strides than sizes": {"strides": (1,)},
    "expanded beyond all memory": {"shape": (1 << 20, 1 << 20), "strides": (0, 0)},
    "wrong dtype": {"kind": "DoubleStorage"},
    "unknown storage class": {"kind": "QInt8Storage"},
    "missing storage": {"key": "1"},
    "key that climbs out": {"key": "../../../../etc/passwd"},
    "absolute key": {"key": "/etc/passwd"},
}


@pytest.mark.parametrize("format_", [archive, legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", LIES)
def test_lying_tensors(name, format_, tmp_path):
    storage = np.arange(6, dtype="<f4").tobytes()
    extra = {"members": [("x/data/0", storage)]} if format_ is archive else {
        "keys": ["0"], "storages": struct.pack("<q", 6) + storage}
    honest = format_(tmp_path / "honest.pt", program(tensor()), **extra)
    np.testing.assert_array_equal(read_pt(honest), np.arange(6, dtype="f4").reshape(2, 3))
    lying = format_(tmp_path / "lying.pt", program(tensor(**LIES[name])), **extra)
    with pytest.raises(CheckpointError):
        read_pt(lying)


def test_lying_counts_in_the_older_format(tmp_path):
    values = np.arange(6, dtype="<f4").tobytes()
    for count in (5, 7, -1, 1 << 62):
        path = legacy(tmp_path / "a.pt", program(tensor()), keys=["0"],
                      storages=struct.pack("<q", count) + values)
        with pytest.raises(CorruptCheckpointError, match="is said to hold"):
            read_pt(path)
    for keys in ([], ["1"], ["0", "0"], [0]):
        path = legacy(tmp_path / "a.pt", program(tensor()), keys=keys,
                      storages=2 * (struct.pack("<q", 6) + values))
        with pytest.raises(CorruptCheckpointError, match="storage"):
            read_pt(path)


def test_lying_views_in_the_older_format(tmp_path):
    def view(offset, size):
        pid = (b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
               + number(6) + b"(" + text("v") + number(offset) + number(size) + b"ttQ")
        body = call("torch._utils _rebuild_tensor", pid, b"K\x00", b"K\x02\x85", b"K\x01\x85")
        return legacy(tmp_path / "a.pt", program(body), keys=["0"],
                      storages=struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes())
    np.testing.assert_array_equal(read_pt(view(3, 2)), np.float32([3, 4]))
    for offset, size in ((5, 2), (-1, 2), (0, 7), (1 << 60, 2), (3, 1)):
        with pytest.raises(CorruptCheckpointError, match="within"):
            read_pt(view(offset, size))


def test_lying_numpy_arrays(tmp_path):
    def array(shape, raw, code="f8"):
        new = call("numpy.core.multiarray _reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85",
                   text("b"))
        kind = call("numpy dtype", text(code), b"\x89", b"\x88")
        sizes = b"(" + b"".join(map(number, shape)) + b"t"
        data = call("_codecs encode", text(raw), text("latin1"))
        return archive(tmp_path / "a.pt", program(new + b"(K\x01" + sizes + kind + b"\x89" + data
                                                  + b"tb"))
    assert read_pt(array((2,), "\0" * 16)).tolist() == [0, 0]
    for shape, raw in (((3,), "\0" * 16), ((1 << 60,), ""), ((-1,), "\0" * 8), ((2, 2), "\0" * 8)):
        with pytest.raises(CorruptCheckpointError):
            read_pt(array(shape, raw))


# ---- archives ----


@pytest.mark.parametrize("name", ["../evil", "x/../../evil", "/etc/passwd", "x\\..\\evil",
                                  "c:evil", "x/data/../../../evil"])
def test_paths_that_escape(name, tmp_path):
    path = archive(tmp_path / "a.pt", program(b"}"), members=[(name, b"x")])
    with pytest.raises(UnsafeCheckpointError, match="outside the archive"):
        read_pt(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt"]


def test_zip_bomb(tmp_path):
    """330 MB of zeros in 330 kB are refused before it is unpacked; modest ones are not."""
    body = program(tensor(numel=1 << 27, shape=(1 << 27,), strides=(1,)))
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", body)
        with file.open("x/data/0", "w") as member:
            for _ in range(330):
                member.write(bytes(1 << 20))
    with pytest.raises(UnsafeCheckpointError, match="memory"):
        read_pt(path)
    modest = archive(tmp_path / "b.pt", program(tensor()), members=[("x/data/0", bytes(24))],
                     method=zipfile.ZIP_DEFLATED)
    assert not read_pt(modest).any()


def test_many_small_bombs(tmp_path):
    """The limit is on all members together."""
    path, limits = tmp_path / "b.pt", Limits(expansion=16 << 20)
    for count in (2, 8):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for key in range(count):
                file.writestr(f"x/data/{key}", bytes(4 << 20))
            file.writestr("x/data.pkl", program(b"]" + b"".join(
                tensor(numel=1 << 20, shape=(1 << 20,), strides=(1,), key=str(k)) + b"a"
                for k in range(count))))
        if count == 2:
            assert len(read_pt(path, limits=limits)) == 2
        else:
            with pytest.raises(UnsafeCheckpointError, match="memory"):
                read_pt(path, limits=limits)


def test_bomb_with_a_lying_size(tmp_path):
    """The directory says 24 bytes, the data unpack to more."""
    path = archive(tmp_path / "a.pt", program(tensor()),
                   members=[("x/data/0", bytes(1 << 20))], method=zipfile.ZIP_DEFLATED)
    raw = path.read_bytes().replace(struct.pack("<I", 1 << 20), struct.pack("<I", 24))
    path.write_bytes(raw)
    with pytest.raises(UnsafeCheckpointError, match="24 bytes"):
        read_pt(path)


def test_overlapping_members(tmp_path):
    path = archive(tmp_path / "a.pt", program(b"}"), members=[("x/data/0", b"12345678"),
                                                             ("x/data/1", b"12345678")])
    raw = bytearray(path.read_bytes())
    entries = [i for i in range(len(raw)) if raw[i:i + 4] == b"PK\x01\x02"]
    first, second = entries[-2:]
    raw[second + 42:second + 46] = raw[first + 42:first + 46]  # both at the same place
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="overlap"):
        read_pt(path)


def test_members_twice_encrypted_or_absent(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path / "a.pt", program(b"}"), members=[("x/data.pkl", program(b"]"))])
    with pytest.raises(UnsafeCheckpointError, match="twice"):
        read_pt(path)
    path = archive(tmp_path / "b.pt", program(b"}"))
    raw = path.read_bytes()
    at = raw.index(b"PK\x01\x02")
    path.write_bytes(raw[:at + 8] + b"\x01\x00" + raw[at + 10:])
    with pytest.raises(CorruptCheckpointError, match="encrypted"):
        read_pt(path)
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as file:
        file.writestr("readme", "x")
    with pytest.raises(CorruptCheckpointError, match=r"no data\.pkl"):
        read_pt(tmp_path / "c.pt")
    path = archive(tmp_path / "d.pt", program(b"}"), members=[("y/data.pkl", program(b"}"))])
    with pytest.raises(CorruptCheckpointError, match=r"data\.pkl"):
        read_pt(path)


# ---- exhaustion ----


def laughs(levels, width=10):
    """A list of `width` references to a list of `width` references ..."""
    body = b"]" + b"q\x00"
    for level in range(levels):
        body += b"](" + b"h" + bytes([level]) + (b"h" + bytes([level])) * (width - 1) + b"e" + (
            b"q" + bytes([level + 1]))
    return body


EXHAUSTING = {
    "billion laughs": laughs(12),
    "laughs as a device name": call("torch device", laughs(12)),
    "laughs as a storage": b"(" + text("storage") + laughs(12) + b"tQ",
    "laughs as a persistent id": b"(" + laughs(12) + b"tQ",
    "laughs as a dictionary key": b"}(" + laughs(12) + b"K\x01u",
    "laughs as a dtype": call("numpy dtype", laughs(12)),
    "laughs as a shape": call("torch Size", laughs(12)),
    "deep nesting": b"]" * 200_000 + b"a" * 199_999,
    "deep tuples": b")" + b"\x85" * 200_000,
    "itself": b"]q\x00h\x00a",
    "itself in a tuple": b"]q\x00h\x00\x85a",
    "huge integer": b"\x8b" + struct.pack("<I", 1 << 30) + b"\xff" * 100,
    "large integer": b"\x8b" + struct.pack("<I", 5000) + b"\x7f" * 5000,
    "negative integer length": b"\x8b" + struct.pack("<i", -5) + b"x" * 10,
    "huge frame": b"\x95" + struct.pack("<Q", 1 << 63),
    "huge text": b"\x8d" + struct.pack("<Q", 1 << 62) + b"x",
    "huge bytes": b"\x8e" + struct.pack("<Q", (1 << 64) - 1) + b"x",
    "text with a negative length": b"X" + struct.pack("<i", -1) + b"x",
    "text that is not utf-8": b"X\x02\x00\x00\x00\xff\xfe",
    "copies of a long text": text("x" * 100_000) + b"q\x00" + b"c_codecs\nencode\nq\x01" + (
        b"h\x01h\x00\x85R" * 5000),
    "copies of a long list": b"](" + b"K\x01" * 50_000 + b"eq\x00" + b"cbuiltins\nset\nq\x01" + (
        b"h\x01h\x00\x85R" * 5000),
    "endless name": b"c" + b"a" * 5000,
    "pops of nothing": b"0",
    "tuple of nothing": b"\x87",
    "reduce of nothing": b"R",
    "unknown memo": b"h\x07",
    "marks left over": b"((K\x01",
    "values left over": b"K\x01K\x02",
    "unknown instruction": b"\xfe",
    "old protocol": b"\x80\x01",
    "future protocol": b"\x80\x09",
    "odd items": b"}(K\x01u",
}


@pytest.mark.parametrize("name", EXHAUSTING)
def test_exhausting_streams(name, tmp_path):
    path = archive(tmp_path / "a.pt", program(EXHAUSTING[name]))
    start = time.monotonic()
    with pytest.raises(CheckpointError):
        read_pt(path)
    assert time.monotonic() - start < 5


def test_limits_can_be_set(tmp_path):
    path = archive(tmp_path / "a.pt", program(b"]" + b"K\x01a" * 1000))
    assert len(read_pt(path)) == 1000
    with pytest.raises(UnsafeCheckpointError, match="instructions"):
        read_pt(path, limits=Limits(operations=500))
    with pytest.raises(CorruptCheckpointError, match="ends early"):
        read_pt(path, limits=Limits(pickle_bytes=500))


# ---- damage ----


@pytest.mark.parametrize("file", ["views.zip.pt", "views.legacy.pt", "config.legacy.pt",
                                  "config.protocol4.pt", "views.deflated.pt"])
def test_truncated_anywhere(file, tmp_path):
    whole = (FILES / file).read_bytes()
    for length in [*range(0, len(whole), max(1, len(whole) // 150)), len(whole) - 1]:
        path = tmp_path / "cut.pt"
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptCheckpointError):
            read_pt(path)


@pytest.mark.parametrize("file", ["views.zip.pt", "config.zip.pt", "config.legacy.pt",
                                  "config.protocol4.pt", "views.legacy.pt", "views.deflated.pt"])
def test_any_byte_changed(file, tmp_path, trap):
    """Changed bytes give an error of ours or other values, and never anything else."""
    whole = (FILES / file).read_bytes()
    rng = np.random.default_rng(7)
    path = tmp_path / "changed.pt"
    for _ in range(500):
        raw = bytearray(whole)
        for at in rng.integers(0, len(raw), size=rng.integers(1, 4)):
            raw[at] = rng.integers(0, 256)
        path.write_bytes(raw)
        try:
            read_pt(path)
        except CheckpointError:
            pass


@pytest.mark.parametrize("content, says", [
    (b"", "empty"),
    (b"<!DOCTYPE html><html>not found</html>", "HTML"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    (b"\x1f\x8b" + bytes(50), "gzip"),
    (b"\x80\x04K\x01." + bytes(50), "neither"),
    (bytes(257) + b"ustar" + bytes(300), "tar"),
])
def test_other_files(content, says, tmp_path):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=says):
        read_pt(tmp_path / "a.pt")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_pt(tmp_path / "a.pt")


def test_python_reads_the_honest_parts():
    """The builders above make well-formed streams: Python agrees with what they mean."""
    value = pickle.load(io.BytesIO(program(call("collections OrderedDict"))))
    assert value == {}
