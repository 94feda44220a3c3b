"""What a compiled program does on each device, read from its text: multiplications of its
products, loop bodies times their trips (XLA's own cost analysis counts a body once), and
what it moves between devices."""

from __future__ import annotations

import dataclasses
import math
import re

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_RESULT = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"^(\w+)\[([\d,]*)\]")
_DOT = re.compile(r" dot\((?:\w+\[[\d,]*\]\S* )?%?([\w.\-]+),.*?lhs_contracting_dims=\{([\d,]*)\}")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_MOVED = re.compile(r" (all-gather|all-to-all|collective-permute)(?:-start)?\(")
_SHAPES = re.compile(r"(\w+)\[([\d,]*)\]")


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Move:
    """A collective that hands arrays on unchanged (sums are not listed)."""

    kind: str
    shape: tuple[int, ...]
    """Of the result on one device, without axes of size 1."""
    floating: bool


class CompiledWork:
    """Of a program as `compiled.as_text()` gives it."""

    def __init__(self, text: str) -> None:
        self._bodies: dict[str, list[str]] = {}
        self._entry = current = ""
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = head[2]
                self._bodies[current] = []
                self._entry = current if head[1] else self._entry
            elif current and line.startswith(" "):
                self._bodies[current].append(line)
        self._known: dict[str, float] = {}
        self.multiplications = self._cost(self._entry)
        self.moves = [move for body in self._bodies.values() for line in body
                      for move in _moves(line)]

    def _cost(self, name: str) -> float:
        """Of one computation; of a conditional, its dearest branch."""
        if name in self._known:
            return self._known[name]
        shapes: dict[str, tuple[int, ...]] = {}
        total = 0.0
        for line in self._bodies.get(name, ()):
            result = _RESULT.match(line)
            array = _ARRAY.match(result[2]) if result else None
            if result and array:
                shapes[result[1]] = _sizes(array[2])
                if dot := _DOT.search(result[2]):
                    summed = [shapes[dot[1]][axis] for axis in _sizes(dot[2])]
                    total += math.prod(shapes[result[1]]) * math.prod(summed)
            trips = _TRIPS.search(line) if " while(" in line else None
            times = int(trips[1]) if trips else 1
            total += times * sum(self._cost(called) for called in _CALLED.findall(line))
            branches = [one.strip(" %") for listed, single in _BRANCHES.findall(line)
                        for one in (listed or single).split(",")]
            total += max((self._cost(branch) for branch in branches), default=0.0)
        self._known[name] = total
        return total


def _moves(line: str) -> list[Move]:
    found = _MOVED.search(line)
    if not found:
        return []
    results = line[: found.start()].partition(" = ")[2]
    return [
        Move(kind=found[1], shape=tuple(n for n in _sizes(sizes) if n > 1),
             floating=dtype.startswith(("f", "bf")))
        for dtype, sizes in _SHAPES.findall(results)
    ]
