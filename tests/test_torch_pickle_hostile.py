"""Files that hold what no honest checkpoint holds: each is refused with a clear error, and
nothing that they name is looked up or called.

The guard refuses every name that is not on its list, so a harmless stand-in with harmless
arguments shows as much as any other; limits are tested by lowering them. The files are
built by hand.
"""

from __future__ import annotations

import io
import pathlib
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.pickle_machine import (
    CheckpointError,
    CorruptCheckpointError,
    Limits,
    UnsafeCheckpointError,
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


STANDIN = "seqjax_standin"
"""A module that exists while these tests run and is on nobody's list."""

called = call(f"{STANDIN} record", text("x"))


@pytest.fixture
def trap(monkeypatch):
    """What was called of the stand-in module; fails the test if that was anything."""
    calls = []
    module = types.ModuleType(STANDIN)
    module.record = lambda *arguments: calls.append(arguments)
    module.Thing = type("Thing", (), {"__module__": STANDIN, "method": module.record})
    monkeypatch.setitem(sys.modules, STANDIN, module)
    yield calls
    assert calls == []


# ---- code ----

# Every way in which a pickle refers to a name and uses it, with a name that is not listed.
UNLISTED = {
    "a function, called": called,
    "a class, made": f"c{STANDIN}\nThing\n".encode() + b")\x81",
    "a name, only mentioned": f"c{STANDIN}\nrecord\n".encode(),
    "by names on the stack": text(STANDIN) + text("record") + b"\x93" + b")R",
    "an attribute of a class": text(STANDIN) + text("Thing.method") + b"\x93" + b")R",
    "within a list": call("collections OrderedDict", b"]" + called + b"a"),
    "among a tensor's hooks": call("torch._utils _rebuild_parameter", tensor(), b"\x88", called),
    "by the instruction OBJ": b"(" + f"c{STANDIN}\nThing\n".encode() + b"o",
    "in a package of torch": call("torch.seqjax_standin record", text("x")),
    "in a package of numpy": call("numpy.seqjax_standin record", text("x")),
    "in Python's builtins": call("builtins abs", b"K\x01"),
    "in Python 2's builtins": call("__builtin__ abs", b"K\x01"),
    "in Python's library": call("math sqrt", b"K\x04"),
    "a whole module in the file": (
        b"(" + text("module") + f"c{STANDIN}\nThing\n".encode() + text("a") + text("b") + b"tQ"),
}

# Names that are on the list, used otherwise than a checkpoint uses them; and instructions
# that no checkpoint has.
MISUSED = {
    "an attribute of a type": call("builtins getattr", b"cbuiltins\nset\n", text("pop")),
    "an attribute of text": call("builtins getattr", text("x"), text("upper")),
    "an attribute by a dotted name": (
        text("collections") + text("OrderedDict.copy") + b"\x93"),
    "a name with a semicolon": text("fairseq") + text("a;b") + b"\x93",
    "a type with three arguments": call("builtins type", text("X"), b")", b"}"),
    "a call of an enum member": call("builtins getattr", b"cfairseq.x\nY\n", text("z")) + b")R",
    "a call of text": text("x") + b")R",
    "a call of a result": call("collections OrderedDict") + b")R",
    "a call of a storage class": call("torch FloatStorage", b"K\x05"),
    "an object with keywords": b"ccollections\nOrderedDict\n)}" + text("a") + b"K\x01s\x92",
    "a tensor made by something else": call(
        "torch._tensor _rebuild_from_type_v2", b"ccollections\nOrderedDict\n",
        b"ctorch\nTensor\n", b")", b"}"),
    "a quantised tensor": call("torch._utils _rebuild_qtensor"),
    "state of a name": b"ccollections\nOrderedDict\n}" + text("a") + b"K\x01sb",
    "state of text": text("x") + b"}b",
    "state of a list": b"]}b",
    "state of a tensor": tensor() + b"}b",
    "items of a name": b"ccollections\nOrderedDict\n" + text("a") + b"K\x01s",
    "items of a tuple": b")" + b"K\x00K\x01s",
    "append to a name": b"ccollections\nOrderedDict\nK\x01a",
    "append to text": text("x") + b"K\x01a",
    "a name as a dictionary key": b"}(ccollections\nOrderedDict\nK\x01u",
    "extension code of one byte": b"\x82\x01",
    "extension code of two bytes": b"\x83\x01\x00",
    "extension code of four bytes": b"\x84\x01\x00\x00\x00",
    "the instruction INST": b"(icollections\nOrderedDict\n",
    "a buffer outside the file": b"\x97",
    "a persistent id that is text": b"Px\n",
    "a persistent id of another kind": text("elsewhere") + b"Q",
    "an integer of protocol 0": b"I1\n",
    "text of protocol 0": b"S'x'\n",
    "another codec": call("_codecs encode", text("x"), text("rot13")),
    "an array of objects": call("numpy dtype", text("O8"), b"\x89", b"\x88"),
    "an array of structures": call("numpy dtype", text("f4,O"), b"\x89", b"\x88"),
    "an item of an object": call("_operator getitem", b"}", text("a")),
}


def with_a_storage(format_, path, body):
    """A file of `body`, with six values for the tensors that it has."""
    storage = np.arange(6, dtype="<f4").tobytes()
    if format_ is archive:
        return archive(path, program(body), members=[("x/data/0", storage)])
    keys = ["0"] if b"FloatStorage" in body else []
    return legacy(path, program(body), keys=keys, storages=struct.pack("<q", 6) + storage)


@pytest.mark.parametrize("format_", [archive, legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", UNLISTED)
def test_names_that_are_not_listed(name, format_, tmp_path, trap):
    path = with_a_storage(format_, tmp_path / "a.pt", UNLISTED[name])
    with pytest.raises(UnsafeCheckpointError, match="not on the list") as caught:
        read_pt(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("format_", [archive, legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", MISUSED)
def test_listed_names_otherwise_used(name, format_, tmp_path):
    path = with_a_storage(format_, tmp_path / "a.pt", MISUSED[name])
    with pytest.raises(CheckpointError) as caught:
        read_pt(path)
    assert str(path) in str(caught.value)


def test_the_refused_name_is_named(tmp_path, trap):
    path = archive(tmp_path / "a.pt", program(called))
    with pytest.raises(UnsafeCheckpointError, match=rf"'{STANDIN}\.record'.*nothing was run"):
        read_pt(path)


def test_the_stand_in_would_be_called(trap):
    """The attempts are real: Python's own `pickle` makes the same call."""
    pickle.loads(program(called))
    assert trap == [("x",)]
    trap.clear()


def test_setstate_and_attributes_are_inert(tmp_path):
    """State of fairseq's classes is data, whatever its keys are called."""
    state = b"}" + text("__setstate__") + text("a") + b"s" + text("__class__") + text("b") + b"s"
    body = b"cfairseq.models\nModel\n)\x81" + state + b"b"
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
    "negative storage": {"numel": -1},
    "shape beyond the storage": {"shape": (2, 4), "strides": (4, 1)},
    "offset beyond the storage": {"offset": 1},
    "negative offset": {"offset": -1},
    "stride beyond the storage": {"strides": (4, 1)},
    "stride of more bits than any": {"strides": (1 << 62, 1)},
    "negative stride": {"strides": (-3, 1)},
    "negative shape": {"shape": (-2, 3)},
    "offset beyond an empty one": {"shape": (0,), "strides": (1,), "offset": 7},
    "fewer strides than sizes": {"strides": (1,)},
    "wrong dtype": {"kind": "DoubleStorage"},
    "unknown storage class": {"kind": "QInt8Storage"},
    "missing storage": {"key": "1"},
    "key that is a path": {"key": "../0"},
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


def test_a_view_larger_than_its_storage_has_a_limit(tmp_path):
    """torch's `expand` makes such; by how much they may exceed the file is limited."""
    path = archive(tmp_path / "a.pt", program(tensor(shape=(64, 64), strides=(0, 0))),
                   members=[("x/data/0", np.arange(6, dtype="<f4").tobytes())])
    assert read_pt(path).shape == (64, 64)
    with pytest.raises(UnsafeCheckpointError, match="memory"):
        read_pt(path, limits=Limits(expansion=1000))


def test_lying_counts_in_the_older_format(tmp_path):
    values = np.arange(6, dtype="<f4").tobytes()
    for count in (5, 7, -1):
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
    for offset, size in ((5, 2), (-1, 2), (0, 7), (3, 1)):
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
    for shape, raw in (((3,), "\0" * 16), ((-1,), "\0" * 8), ((2, 2), "\0" * 8)):
        with pytest.raises(CorruptCheckpointError):
            read_pt(array(shape, raw))


# ---- archives ----


@pytest.mark.parametrize("name", ["../beside", "x/../../beside", "/beside", "x\\..\\beside",
                                  "c:beside"])
def test_members_that_point_outside(name, tmp_path):
    path = archive(tmp_path / "a.pt", program(b"}"), members=[(name, b"x")])
    with pytest.raises(UnsafeCheckpointError, match="outside the archive"):
        read_pt(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt"]


def zeros(path, *, members):
    """A compressed archive of `members` tensors of 64 KiB of zeros each."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for key in range(members):
            file.writestr(f"x/data/{key}", bytes(1 << 16))
        file.writestr("x/data.pkl", program(b"]" + b"".join(
            tensor(numel=1 << 14, shape=(1 << 14,), strides=(1,), key=str(k)) + b"a"
            for k in range(members))))
    return path


def test_compressed_members_have_a_limit(tmp_path):
    """What they take unpacked is limited, all together, before any is unpacked."""
    path = zeros(tmp_path / "a.pt", members=8)
    assert len(read_pt(path)) == 8
    with zipfile.ZipFile(path) as file:
        unpacked = sum(info.file_size for info in file.infolist())
    enough = unpacked - 64 * path.stat().st_size
    assert len(read_pt(path, limits=Limits(expansion=enough))) == 8
    with pytest.raises(UnsafeCheckpointError, match="memory"):
        read_pt(path, limits=Limits(expansion=enough - 1))


def test_a_member_of_another_size_than_said(tmp_path):
    path = archive(tmp_path / "a.pt", program(tensor()),
                   members=[("x/data/0", bytes(1 << 10))], method=zipfile.ZIP_DEFLATED)
    raw = path.read_bytes().replace(struct.pack("<I", 1 << 10), struct.pack("<I", 24))
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


# ---- limits, and broken streams ----


def repeated(levels, width=4):
    """A list of `width` references to a list of `width` references ..."""
    body = b"]" + b"q\x00"
    for level in range(levels):
        body += b"](" + b"h" + bytes([level]) + (b"h" + bytes([level])) * (width - 1) + b"e" + (
            b"q" + bytes([level + 1]))
    return body


LIMITED = {
    "values": (
        b"(" + repeated(3) + b"l", Limits(nodes=50), "too many values"),
    "depth of lists": (b"]" * 20 + b"a" * 19, Limits(depth=10), "10 deep"),
    "depth of tuples": (b")" + b"\x85" * 20, Limits(depth=10), "10 deep"),
    "bytes of an integer": (
        b"\x8a\x08" + b"\x01" * 8, Limits(integer_bytes=4), "an integer of 8 bytes"),
    "copies of a text": (
        text("x" * 1000) + b"q\x00" + b"c_codecs\nencode\nq\x01" + b"(" + b"h\x01h\x00\x85R" * 5
        + b"l", Limits(expansion=1000), "memory"),
    "copies of a list": (
        b"](" + b"K\x01" * 500 + b"eq\x00" + b"cbuiltins\nset\nq\x01" + b"("
        + b"h\x01h\x00\x85R" * 5 + b"l", Limits(expansion=1000), "memory"),
    "instructions": (b"]" + b"K\x01a" * 100, Limits(operations=50), "instructions"),
    "bytes of the stream": (b"]" + b"K\x01a" * 100, Limits(pickle_bytes=50), "ends early"),
}


@pytest.mark.parametrize("name", LIMITED)
def test_limits(name, tmp_path):
    """Each is kept when it is lowered to what a small harmless file exceeds."""
    body, limits, says = LIMITED[name]
    path = archive(tmp_path / "a.pt", program(body))
    with pytest.raises(CheckpointError, match=says):
        read_pt(path, limits=limits)
    if name.startswith(("instr", "bytes", "depth of lists")):
        assert read_pt(path) is not None  # within the limits that hold otherwise


BROKEN = {
    "a list that holds itself": b"]q\x00h\x00a",
    "a list that holds itself in a tuple": b"]q\x00h\x00\x85a",
    "a list as a device name": call("torch device", repeated(2)),
    "a list as a storage": b"(" + text("storage") + repeated(2) + b"tQ",
    "a list as a persistent id": b"(" + repeated(2) + b"tQ",
    "a list as a dictionary key": b"}(" + repeated(2) + b"K\x01u",
    "a list as a dtype": call("numpy dtype", repeated(2)),
    "a list as a shape": call("torch Size", repeated(2)),
    "an integer longer than the file": b"\x8b" + struct.pack("<I", 60) + b"\xff" * 10,
    "an integer of negative length": b"\x8b" + struct.pack("<i", -5) + b"x" * 10,
    "a frame longer than the file": b"\x95" + struct.pack("<Q", 1000),
    "text longer than the file": b"\x8d" + struct.pack("<Q", 1000) + b"x",
    "bytes longer than the file": b"\x8e" + struct.pack("<Q", 1000) + b"x",
    "text of negative length": b"X" + struct.pack("<i", -1) + b"x",
    "text that is not UTF-8": b"X\x02\x00\x00\x00\xff\xfe",
    "a name without an end": b"c" + b"a" * 5000,
    "a pop of nothing": b"0",
    "a tuple of nothing": b"\x87",
    "a call of nothing": b"R",
    "a reference to nothing": b"h\x07",
    "marks left over": b"((K\x01",
    "values left over": b"K\x01K\x02",
    "an unknown instruction": b"\xfe",
    "an old protocol": b"\x80\x01",
    "a future protocol": b"\x80\x09",
    "a key without a value": b"}(K\x01u",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_streams(name, tmp_path):
    path = archive(tmp_path / "a.pt", program(BROKEN[name]))
    with pytest.raises(CheckpointError):
        read_pt(path)


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
