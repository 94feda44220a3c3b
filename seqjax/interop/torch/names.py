"""What stands for each name that an honest torch or fairseq checkpoint mentions.

The table below is the whole of it; any other name is refused. Tensors become `Tensor`
(a storage and a layout, checked against the storage's size), config objects become inert
records, which `plain` turns into dicts, lists and scalars at the end. Storages are found by
`files`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any

import ml_dtypes
import numpy as np

from seqjax.interop.torch.pickle_machine import (
    Budget,
    CorruptCheckpointError,
    Global,
    Limits,
    Record,
    UnsafeCheckpointError,
    brief,
    checked_keys,
)

DTYPES: dict[str, np.dtype] = {
    name: np.dtype(kind)
    for name, kind in {
        "float64": np.float64, "float32": np.float32, "float16": np.float16,
        "bfloat16": ml_dtypes.bfloat16, "int64": np.int64, "int32": np.int32,
        "int16": np.int16, "int8": np.int8, "uint8": np.uint8, "uint16": np.uint16,
        "uint32": np.uint32, "uint64": np.uint64, "bool": np.bool_,
        "complex64": np.complex64, "complex128": np.complex128,
        "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
    }.items()
}
"""torch's dtype names as numpy's."""

STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
}
"""torch's storage classes and what they hold."""

_PLAIN_PACKAGES = ("fairseq", "omegaconf", "fairseq_cli")


@dataclasses.dataclass(eq=False)
class Storage:
    """A run of values in the file; `array` is filled in once its place is known."""

    dtype: np.dtype
    size: int
    """Values, not bytes."""
    array: np.ndarray | None = None
    """[size], of `dtype`."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A layout over a storage, already checked to lie within it."""

    storage: Storage
    dtype: np.dtype
    offset: int
    """In values of `dtype`."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In values of `dtype`."""

    def array(self) -> np.ndarray:
        """The values: a view of the storage, no copy."""
        base = self.storage.array
        if base is None:
            raise CorruptCheckpointError("a tensor's storage is not in the file")
        size = self.dtype.itemsize
        return np.ndarray(  # checks the bounds once more
            self.shape, self.dtype, buffer=base, offset=self.offset * size,
            strides=tuple(s * size for s in self.strides))


def _checked_numbers(values: Any, what: str) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > 32:
        raise CorruptCheckpointError(f"a tensor's {what} is not a tuple of at most 32 numbers")
    for value in values:
        if type(value) is not int or not 0 <= value < 1 << 48:
            raise CorruptCheckpointError(f"a tensor's {what} holds {brief(value)}")
    return tuple(values)


class Names:
    """The table of known names of one file.

    Args:
      budget: what views larger than their storage are charged to.
      plain_modules: packages beside fairseq's whose classes become plain data.
    """

    def __init__(self, *, budget: Budget, plain_modules: Collection[str] = ()):
        self._budget = budget
        self._plain = tuple(_PLAIN_PACKAGES) + tuple(plain_modules)
        calls: dict[str, Callable[..., Any] | None] = {
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_tensor_v3": self.tensor_of_dtype,
            "torch._utils._rebuild_parameter": lambda data, *_: _tensor_only(data),
            "torch._utils._rebuild_parameter_with_state": lambda data, *_: _tensor_only(data),
            "torch._tensor._rebuild_from_type_v2": self.tensor_of_type,
            "torch.Tensor": None,
            "torch.nn.parameter.Parameter": None,
            "torch.storage.UntypedStorage": None,
            "torch.Size": lambda sizes=(): _checked_numbers(sizes, "size"),
            "torch.device": _device,
            "collections.OrderedDict": self.mapping,
            "collections.defaultdict": lambda factory=None, items=(): self.mapping(items),
            "collections.Counter": self.mapping,
            "argparse.Namespace": lambda: Record(name="argparse.Namespace"),
            "builtins.getattr": _enum_member,
            "builtins.type": _type_of_none,
            "builtins.set": self.hashed(set),
            "builtins.frozenset": self.hashed(frozenset),
            "builtins.bytearray": self.raw,
            "builtins.bytes": self.raw,
            "builtins.complex": lambda real, imag: complex(float(real), float(imag)),
            "_codecs.encode": self.encode,
            "_operator.getitem": _subscript,
            "pathlib.PosixPath": _path,
            "pathlib.PurePosixPath": _path,
            "pathlib.WindowsPath": _path,
            "numpy.dtype": _dtype,
            "numpy.ndarray": None,
        }
        for core in ("numpy.core", "numpy._core"):
            calls[f"{core}.multiarray._reconstruct"] = _new_array
            calls[f"{core}.multiarray.scalar"] = _scalar
            calls[f"{core}.numeric._frombuffer"] = _array_from_buffer
        for name in "object int float str bool list tuple dict long unicode".split():
            calls[f"builtins.{name}"] = None
        for module in ("torch", "torch.cuda"):
            calls |= {f"{module}.{name}": None for name in STORAGES}
        calls |= {f"torch.{name}": None for name in DTYPES}
        self._table = {name: Global(name, call) for name, call in calls.items()}

    def resolve(self, module: str, name: str) -> Global:
        """What stands for `module.name`.

        Raises:
          UnsafeCheckpointError: it is not on the list.
        """
        module = {"__builtin__": "builtins", "torch._C._nn": "torch"}.get(module, module)
        full = f"{module}.{name}"
        known = self._table.get(full)
        if known is not None:
            return known
        if module == "typing":
            return Global(full)
        if module.split(".")[0] in self._plain and all(p.isidentifier() for p in full.split(".")):
            return Global(full, lambda *args: Record(name=full, args=args), member=True)
        raise UnsafeCheckpointError(
            f"refers to {full[:200]!r}, which is not on the list of what a checkpoint may hold;"
            " nothing was run. If it is a class of your own whose attributes are wanted as plain"
            " data, name its package in `plain_modules`")

    def tensor(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *ignored: Any,
        dtype: np.dtype | None = None,
    ) -> Tensor:
        """`_rebuild_tensor_v2`: a view of a storage, which must contain it."""
        if not isinstance(storage, Storage):
            raise CorruptCheckpointError("a tensor's storage is not a storage")
        dtype = dtype or storage.dtype
        available = storage.size * storage.dtype.itemsize // dtype.itemsize
        (offset,) = _checked_numbers((offset,), "storage offset")
        shape = _checked_numbers(shape, "shape")
        strides = _checked_numbers(strides, "stride")
        if len(shape) != len(strides):
            raise CorruptCheckpointError(f"a tensor of shape {shape} has strides {strides}")
        count = math.prod(shape)
        if count:
            last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
            fits = last < available
        else:
            strides = (0,) * len(shape)
            fits = offset <= available
        if not fits or math.prod(max(n, 1) for n in shape) >= 1 << 56:
            raise CorruptCheckpointError(
                f"a tensor of shape {shape} and strides {strides} from value {offset} on does"
                f" not lie within its storage of {available} values")
        if count > available:  # expanded or overlapping: cheap as a view, not once copied
            self._budget.charge(count * dtype.itemsize, f"a tensor of shape {shape}")
        return Tensor(storage=storage, dtype=dtype, offset=offset, shape=shape, strides=strides)

    def tensor_of_dtype(
        self, storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any,
        dtype: Any, *ignored: Any,
    ) -> Tensor:
        """`_rebuild_tensor_v3`: over an untyped storage."""
        name = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else ""
        if name not in DTYPES:
            raise CorruptCheckpointError("a tensor's dtype is not a dtype")
        return self.tensor(storage, offset, shape, strides, dtype=DTYPES[name])

    def tensor_of_type(self, function: Any, kind: Any, args: Any, state: Any) -> Tensor:
        """`_rebuild_from_type_v2`: a tensor or parameter with Python attributes, which are
        dropped."""
        allowed = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_parameter")
        if not isinstance(function, Global) or not function.name.startswith(allowed):
            raise UnsafeCheckpointError("asks to rebuild a tensor by something else")
        assert function.call is not None
        return _tensor_only(function.call(*args))

    def mapping(self, items: Any = ()) -> dict:
        """Dictionaries of all kinds: most come empty and get their items later."""
        self._budget.charge(64 * len(items), "a dictionary")
        pairs = items.items() if isinstance(items, dict) else items
        return {checked_keys([key])[0]: value for key, value in pairs}

    def hashed(self, kind: type) -> Callable[..., Any]:
        """set and frozenset."""
        def make(values: Any = ()) -> Any:
            self._budget.charge(64 * len(values), "a set")
            return kind(checked_keys(values))
        return make

    def encode(self, text: Any, encoding: Any = "utf-8") -> bytes:
        """How protocol 2 writes bytes: as text in latin-1."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
            raise UnsafeCheckpointError("asks for an encoding other than latin-1")
        self._budget.charge(len(text), "a byte string")
        return text.encode(encoding)

    def raw(self, value: Any = b"", *encoding: Any) -> bytes:
        """bytes and bytearray."""
        if isinstance(value, bytes):
            return value
        if isinstance(value, list):
            self._budget.charge(len(value), "a byte string")
            return bytes(value)
        return self.encode(value, *encoding)


def _tensor_only(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise CorruptCheckpointError("a parameter holds no tensor")
    return value


def _enum_member(owner: Any, name: Any) -> str:
    if not isinstance(owner, Global) or not owner.member or not isinstance(name, str):
        raise UnsafeCheckpointError(
            f"asks for getattr of {getattr(owner, 'name', type(owner).__name__)}")
    return name


def _type_of_none(*args: Any) -> Global:
    if args != (None,):
        raise UnsafeCheckpointError("asks to call builtins.type")
    return Global("builtins.NoneType")


def _subscript(origin: Any, args: Any) -> Global:
    if not isinstance(origin, Global) or not origin.name.startswith(("typing.", "builtins.")):
        raise UnsafeCheckpointError("asks for an item of something that is not a type")
    return Global(f"{origin.name}[...]")


def _device(kind: Any, *index: Any) -> str:
    if not isinstance(kind, str) or not all(isinstance(i, int) for i in index) or len(index) > 1:
        raise CorruptCheckpointError("a device's name")
    return ":".join([kind[:40], *map(str, index)])


def _path(*parts: Any) -> str:
    if not all(isinstance(p, str) for p in parts) or sum(map(len, parts)) > 10_000:
        raise CorruptCheckpointError("a path is not made of text")
    return "/".join(parts).replace("//", "/")


# ---- numpy ----


def _dtype(code: Any, align: Any = False, copy: Any = True) -> Record:
    record = Record(name="numpy.dtype", build=_set_byte_order)
    text = code.decode("ascii") if isinstance(code, bytes) else code
    if not isinstance(text, str) or len(text) > 8 or text.lstrip("<>|=")[:1] not in "?biufcSU":
        raise UnsafeCheckpointError(f"a numpy array of dtype {brief(code)}")
    record.state = np.dtype(text)
    if record.state.kind not in "biufcSU":
        raise UnsafeCheckpointError(f"a numpy array of dtype {text!r}")
    return record


def _set_byte_order(record: Record, state: Any) -> None:
    if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "=", b"<", b">"):
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        record.state = record.state.newbyteorder(order)
    else:
        raise CorruptCheckpointError("a numpy dtype's state")


def _dtype_of(value: Any) -> np.dtype:
    if not isinstance(value, Record) or not isinstance(value.state, np.dtype):
        raise CorruptCheckpointError("a numpy array's dtype is not a dtype")
    return value.state


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, str):  # Python 2
        return value.encode("utf-8")
    if not isinstance(value, bytes):
        raise CorruptCheckpointError("a numpy array's data are not bytes")
    return value


def _filled(shape: Any, dtype: np.dtype, fortran: bool, data: Any) -> np.ndarray:
    raw, shape = _bytes_of(data), _checked_numbers(shape, "shape")
    if len(raw) != math.prod(shape) * dtype.itemsize or dtype.itemsize == 0:
        raise CorruptCheckpointError(
            f"a numpy array of shape {shape} and dtype {dtype} has {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _new_array(*args: Any) -> Record:
    return Record(name="numpy.ndarray", build=_fill_array)


def _fill_array(record: Record, state: Any) -> None:
    _, shape, dtype, fortran, data = state
    record.state = _filled(shape, _dtype_of(dtype), bool(fortran), data)


def _scalar(dtype: Any, data: Any) -> Any:
    return _filled((), _dtype_of(dtype), False, data).item()


def _array_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Record:
    record = _new_array()
    record.state = _filled(shape, _dtype_of(dtype), order == "F", data)
    return record


# ---- plain data ----


class Plain:
    """Turns what a machine built into dicts, lists, tuples, sets, scalars and arrays.

    What was shared in the file stays shared (tied tensors are one memory). Attributes of
    namespaces and config classes become dict keys; omegaconf nodes are unwrapped; enums
    become their value, classes and dtypes their name.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._done: dict[int, tuple[Any, Any, int]] = {}  # id -> (kept alive, result, nodes)
        self._open: set[int] = set()

    def __call__(self, value: Any) -> Any:
        """The plain value.

        Raises:
          CorruptCheckpointError: a container holds itself, or nests too deeply.
          UnsafeCheckpointError: references multiply into more values than `limits.nodes`.
        """
        return self._convert(value, 0)[0]

    def _convert(self, value: Any, depth: int) -> tuple[Any, int]:
        if value is None or isinstance(value, (str, int, float, bytes, complex)):
            return value, 1
        key = id(value)
        if key in self._done:
            _, result, nodes = self._done[key]
            return result, nodes
        if key in self._open:
            raise CorruptCheckpointError("a container in the file holds itself")
        if depth > self._limits.depth:
            raise UnsafeCheckpointError(f"containers nest more than {self._limits.depth} deep")
        self._open.add(key)
        result, nodes = self._fresh(value, depth + 1)
        self._open.discard(key)
        if nodes > self._limits.nodes:
            raise UnsafeCheckpointError("references in the file multiply into too many values")
        self._done[key] = (value, result, nodes)
        return result, nodes

    def _fresh(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, Tensor):
            return value.array(), 1
        if isinstance(value, dict):
            parts = {k: self._convert(v, depth) for k, v in value.items()}
            return {k: v for k, (v, _) in parts.items()}, 1 + sum(n for _, n in parts.values())
        if isinstance(value, (list, tuple)):
            parts = [self._convert(v, depth) for v in value]
            values = [v for v, _ in parts]
            made = values if isinstance(value, list) else tuple(values)
            return made, 1 + sum(n for _, n in parts)
        if isinstance(value, (set, frozenset)):
            return set(value), 1 + len(value)
        if isinstance(value, Record):
            return self._convert_record(value, depth)
        if isinstance(value, Global):
            return value.name, 1
        if isinstance(value, Storage):
            raise CorruptCheckpointError("a bare storage that no tensor uses")
        raise CorruptCheckpointError(f"a {type(value).__name__} in the result")

    def _convert_record(self, record: Record, depth: int) -> tuple[Any, int]:
        state = record.state
        if isinstance(state, (np.ndarray, np.dtype)):
            return (state if isinstance(state, np.ndarray) else str(state)), 1
        if isinstance(state, tuple) and len(state) == 2:  # (__dict__, slots)
            state = {k: v for part in state if isinstance(part, dict) for k, v in part.items()}
        if isinstance(state, dict):
            if record.name.startswith("omegaconf."):
                for wrapped in ("_content", "_val"):
                    if wrapped in state:
                        return self._convert(state[wrapped], depth)
            return self._convert({**state, **record.items}, depth)
        if record.elements:
            return self._convert(record.elements, depth)
        if record.items or not record.args:
            return self._convert(record.items, depth)
        if len(record.args) == 1:
            return self._convert(record.args[0], depth)
        return self._convert(list(record.args), depth)
