"""An interpreter of pickle byte code that cannot run anything.

Python's own `pickle` imports whatever a file names and calls it. This machine builds only
plain containers, scalars and the inert records below; a name in the file is looked up in a
table of *our* functions (`resolve`) and never imported, so that a hostile file can at worst
be refused. Bytes of pickle protocols 2 to 5 go in, objects come out; torch's tensors come in
through `resolve` and `persistent`.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from typing import Any, NoReturn


class CheckpointError(ValueError):
    """A checkpoint file that cannot be read; the message says why."""


class CorruptCheckpointError(CheckpointError):
    """Truncated, contradictory or not in the format it claims to be in."""


class UnsafeCheckpointError(CheckpointError):
    """Asks for something that a checkpoint has no need of, such as calling a function."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What an honest checkpoint stays far below; `None` for no field: all are finite."""

    operations: int = 20_000_000
    """Pickle instructions in one stream."""
    pickle_bytes: int = 1 << 30
    """Bytes of one pickle stream (tensors are stored outside of it)."""
    integer_bytes: int = 64
    """Bytes of one integer."""
    depth: int = 100
    """Nesting of containers in the result."""
    nodes: int = 50_000_000
    """Values in the result, counting a value again wherever it is referred to."""
    expansion: int = 256 << 20
    """Bytes that may be made out of nothing: views that are larger than their storage,
    copies of strings; compressed members beyond 64 times their stored size."""


@dataclasses.dataclass
class Budget:
    """Bytes left that a file may claim beyond its own size."""

    left: int

    def charge(self, size: int, what: str) -> None:
        """Takes `size` bytes off.

        Raises:
          UnsafeCheckpointError: when nothing is left.
        """
        self.left -= size
        if self.left < 0:
            raise UnsafeCheckpointError(f"{what} asks for far more memory than the file holds")


@dataclasses.dataclass(frozen=True, eq=False)
class Global:
    """A name found in a pickle, with what we do when it is called; never the named object."""

    name: str
    """`module.qualified_name`."""
    call: Callable[..., Any] | None = None
    """Our stand-in; None: the name may be mentioned but not called."""
    member: bool = False
    """Whether `getattr(this, 'NAME')` is an enum member (how some Pythons pickle enums)."""


@dataclasses.dataclass(kw_only=True, eq=False)
class Record:
    """An instance of a class that we do not have: its name and what it was given."""

    name: str
    args: tuple = ()
    state: Any = None
    items: dict = dataclasses.field(default_factory=dict)
    elements: list = dataclasses.field(default_factory=list)
    build: Callable[[Record, Any], None] | None = None
    """What BUILD does instead of keeping `state`."""


_KEY_TYPES = (str, int, float, bool, bytes, type(None))


def is_key(value: Any) -> bool:
    """Whether a value may be a dictionary key or set element: scalars and flat tuples."""
    if isinstance(value, tuple):
        return all(isinstance(v, _KEY_TYPES) for v in value)
    return isinstance(value, _KEY_TYPES)


def brief(value: Any) -> str:
    """A value from a file for an error message: short whatever it is (printing a container
    could take forever)."""
    if isinstance(value, (str, bytes)):
        return repr(value[:40])
    if isinstance(value, (int, float)):
        return repr(value)[:40]
    return f"a {type(value).__name__}"


class Machine:
    """Runs one pickle stream out of a buffer.

    Args:
      data: the buffer; `start` is where the stream begins in it.
      resolve: (module, name) -> Global; raises UnsafeCheckpointError for unknown names.
      persistent: persistent id -> value.
    """

    def __init__(
        self, data: memoryview, *, start: int = 0, limits: Limits,
        resolve: Callable[[str, str], Global], persistent: Callable[[Any], Any],
    ):
        self.data = data
        self.position = start
        self.end = min(len(data), start + limits.pickle_bytes)
        self.limits = limits
        self.resolve = resolve
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value of the stream; `position` is then just behind it.

        Raises:
          CorruptCheckpointError, UnsafeCheckpointError: naming the instruction's place.
        """
        start = self.position
        try:
            return self._run()
        except CheckpointError as error:
            raise type(error)(f"{error} (byte {self.position - start} of the pickle)") from None
        except (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError,
                struct.error, RecursionError) as error:
            raise CorruptCheckpointError(
                f"the pickle stream is damaged at byte {self.position - start}:"
                f" {type(error).__name__}: {error}"
            ) from None

    def _run(self) -> Any:
        table, data = _TABLE, self.data
        for _ in range(self.limits.operations):
            if self.position >= self.end:
                raise CorruptCheckpointError("the pickle stream ends early (truncated file?)")
            code = data[self.position]
            self.position += 1
            if code == 0x2E:  # STOP
                if len(self.stack) != 1 or self.marks:
                    raise CorruptCheckpointError("the pickle stream leaves values on its stack")
                return self.stack.pop()
            action = table[code]
            if action is None:
                _refuse_code(code)
            action(self)
        raise UnsafeCheckpointError(
            f"the pickle stream has more than {self.limits.operations:,} instructions")

    # ---- reading ----

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        begin, end = self.position, self.position + size
        if size < 0 or end > self.end:
            raise CorruptCheckpointError(
                f"the pickle stream ends early: {size:,} bytes wanted,"
                f" {self.end - begin:,} left (truncated file?)")
        self.position = end
        return self.data[begin:end]

    def number(self, layout: struct.Struct) -> int:
        """The next little-endian number."""
        return layout.unpack(self.take(layout.size))[0]

    def line(self) -> str:
        """Text up to a newline, of at most 1000 characters."""
        window = bytes(self.data[self.position:min(self.position + 1000, self.end)])
        length = window.find(b"\n")
        if length < 0:
            raise CorruptCheckpointError("a name in the pickle stream has no end")
        self.position += length + 1
        return window[:length].decode("utf-8")

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def find(self, module: Any, name: Any) -> Global:
        """What stands for a name."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise CorruptCheckpointError("a global's name is not text")
        return self.resolve(module, name)

    # ---- building ----

    def call(self, function: Any, args: Any) -> Any:
        """REDUCE and NEWOBJ: one of our stand-ins on a tuple of plain values."""
        if not isinstance(function, Global):
            raise UnsafeCheckpointError(
                f"asks to call a {type(function).__name__}, which is not a name at all")
        if not isinstance(args, tuple):
            raise CorruptCheckpointError(f"arguments of {function.name} are not a tuple")
        if function.call is None:
            raise UnsafeCheckpointError(f"asks to call {function.name}")
        return function.call(*args)

    def store(self, target: Any, pairs: list[Any]) -> None:
        """SETITEMS."""
        if isinstance(target, Record):
            target = target.items
        elif type(target) is not dict:
            raise UnsafeCheckpointError(f"asks to set items of a {type(target).__name__}")
        if len(pairs) % 2:
            raise CorruptCheckpointError("a dictionary key without a value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not is_key(key):
                raise UnsafeCheckpointError(f"a dictionary key is a {type(key).__name__}")
            target[key] = value

    def extend(self, target: Any, values: list[Any]) -> None:
        """APPENDS and ADDITEMS."""
        if isinstance(target, Record):
            target.elements.extend(values)
        elif type(target) is list:
            target.extend(values)
        elif type(target) is set:
            target.update(checked_keys(values))
        else:
            raise UnsafeCheckpointError(f"asks to append to a {type(target).__name__}")

    def build(self, target: Any, state: Any) -> None:
        """BUILD: state of a record; attributes of a dictionary are dropped, and nothing of
        the file's choosing (`__setstate__`, `__dict__`) is ever touched."""
        if isinstance(target, Record):
            if target.build is not None:
                target.build(target, state)
            elif target.state is not None:
                raise CorruptCheckpointError(f"{target.name} gets its state twice")
            else:
                target.state = state
        elif type(target) is not dict or not isinstance(state, dict):
            raise UnsafeCheckpointError(f"asks to set the state of a {type(target).__name__}")


def checked_keys(values: Any) -> list[Any]:
    """`values` as a list, all of which may be set elements."""
    values = list(values)
    for value in values:
        if not is_key(value):
            raise UnsafeCheckpointError(f"a set element is a {type(value).__name__}")
    return values


def _refuse_code(code: int) -> NoReturn:
    name = _REFUSED.get(code)
    if name is None:
        raise CorruptCheckpointError(f"unknown pickle instruction {bytes([code])!r}")
    raise UnsafeCheckpointError(f"pickle instruction {name}, which no checkpoint needs")


_REFUSED = {
    0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER",
    ord("i"): "INST", ord("o"): "OBJ", ord("P"): "PERSID", ord("I"): "INT", ord("L"): "LONG",
    ord("F"): "FLOAT", ord("S"): "STRING", ord("V"): "UNICODE", ord("p"): "PUT", ord("g"): "GET",
}

_U1, _U2, _U4, _U8 = (struct.Struct(f"<{c}") for c in "BHIQ")
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")


def _proto(m: Machine) -> None:
    version = m.number(_U1)
    if not 2 <= version <= 5:
        raise CorruptCheckpointError(f"pickle protocol {version}; torch writes 2 to 5")


def _frame(m: Machine) -> None:
    size = m.number(_U8)
    if size > m.end - m.position:
        raise CorruptCheckpointError(f"a pickle frame of {size:,} bytes is longer than the file")


def _mark(m: Machine) -> None:
    m.marks.append(m.stack)
    m.stack = []


def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


def _integer(m: Machine, size: int) -> None:
    if size > m.limits.integer_bytes:
        raise UnsafeCheckpointError(f"an integer of {size:,} bytes")
    m.stack.append(int.from_bytes(m.take(size), "little", signed=True))


def _text(m: Machine, size: int) -> None:
    m.stack.append(str(m.take(size), "utf-8", "surrogatepass"))


def _old_text(m: Machine, size: int) -> None:
    raw = bytes(m.take(size))  # Python 2's str: text or bytes, which only its use tells
    try:
        m.stack.append(raw.decode("utf-8"))
    except UnicodeDecodeError:
        m.stack.append(raw)


def _tuple(m: Machine, size: int) -> None:
    if len(m.stack) < size:
        raise CorruptCheckpointError("the pickle's stack is empty")
    m.stack[-size:] = [tuple(m.stack[-size:])]


def _collect(m: Machine, kind: Callable[[list[Any]], Any]) -> None:
    values = m.pop_mark()  # before m.stack is looked at: it is another one then
    m.stack.append(kind(values))


def _reduce(m: Machine) -> None:
    args, function = m.stack.pop(), m.stack.pop()
    m.stack.append(m.call(function, args))


def _new_with_keywords(m: Machine) -> None:
    keywords, args, function = m.stack.pop(), m.stack.pop(), m.stack.pop()
    if keywords != {}:
        raise UnsafeCheckpointError("asks to make an object with keyword arguments")
    m.stack.append(m.call(function, args))


def _global(m: Machine) -> None:
    module = m.line()
    m.stack.append(m.find(module, m.line()))


def _stack_global(m: Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.stack.append(m.find(module, name))


def _set_item(m: Machine) -> None:
    pair = m.stack[-2:]
    del m.stack[-2:]
    m.store(m.stack[-1], pair)


def _set_items(m: Machine) -> None:
    pairs = m.pop_mark()
    m.store(m.stack[-1], pairs)


def _append(m: Machine) -> None:
    value = m.stack.pop()
    m.extend(m.stack[-1], [value])


def _extend(m: Machine) -> None:
    values = m.pop_mark()
    m.extend(m.stack[-1], values)


def _dict(m: Machine) -> None:
    pairs, made = m.pop_mark(), {}
    m.store(made, pairs)
    m.stack.append(made)


def _build(m: Machine) -> None:
    state = m.stack.pop()
    m.build(m.stack[-1], state)


_ACTIONS: dict[int, Callable[[Machine], Any]] = {
    0x80: _proto,
    0x95: _frame,
    ord("("): _mark,
    ord("0"): _pop,
    ord("1"): lambda m: m.pop_mark(),
    ord("2"): lambda m: m.stack.append(m.stack[-1]),
    ord("N"): lambda m: m.stack.append(None),
    0x88: lambda m: m.stack.append(True),
    0x89: lambda m: m.stack.append(False),
    ord("J"): lambda m: m.stack.append(m.number(_I4)),
    ord("K"): lambda m: m.stack.append(m.number(_U1)),
    ord("M"): lambda m: m.stack.append(m.number(_U2)),
    0x8A: lambda m: _integer(m, m.number(_U1)),
    0x8B: lambda m: _integer(m, m.number(_U4)),
    ord("G"): lambda m: m.stack.append(m.number(_F8)),
    ord("X"): lambda m: _text(m, m.number(_U4)),
    0x8C: lambda m: _text(m, m.number(_U1)),
    0x8D: lambda m: _text(m, m.number(_U8)),
    ord("T"): lambda m: _old_text(m, m.number(_U4)),
    ord("U"): lambda m: _old_text(m, m.number(_U1)),
    ord("B"): lambda m: m.stack.append(bytes(m.take(m.number(_U4)))),
    ord("C"): lambda m: m.stack.append(bytes(m.take(m.number(_U1)))),
    0x8E: lambda m: m.stack.append(bytes(m.take(m.number(_U8)))),
    0x96: lambda m: m.stack.append(bytes(m.take(m.number(_U8)))),  # bytearray: plain bytes
    ord(")"): lambda m: m.stack.append(()),
    ord("t"): lambda m: _collect(m, tuple),
    0x85: lambda m: _tuple(m, 1),
    0x86: lambda m: _tuple(m, 2),
    0x87: lambda m: _tuple(m, 3),
    ord("]"): lambda m: m.stack.append([]),
    ord("l"): lambda m: _collect(m, list),
    ord("}"): lambda m: m.stack.append({}),
    ord("d"): _dict,
    0x8F: lambda m: m.stack.append(set()),
    0x91: lambda m: _collect(m, lambda values: frozenset(checked_keys(values))),
    ord("a"): _append,
    ord("e"): _extend,
    0x90: _extend,
    ord("s"): _set_item,
    ord("u"): _set_items,
    ord("b"): _build,
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): _reduce,
    0x81: _reduce,  # NEWOBJ: our stand-ins make no difference
    0x92: _new_with_keywords,
    ord("Q"): lambda m: m.stack.append(m.persistent(m.stack.pop())),
    ord("q"): lambda m: m.memo.__setitem__(m.number(_U1), m.stack[-1]),
    ord("r"): lambda m: m.memo.__setitem__(m.number(_U4), m.stack[-1]),
    0x94: lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    ord("h"): lambda m: m.stack.append(m.memo[m.number(_U1)]),
    ord("j"): lambda m: m.stack.append(m.memo[m.number(_U4)]),
}
_TABLE = [_ACTIONS.get(code) for code in range(256)]
