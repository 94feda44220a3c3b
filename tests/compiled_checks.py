"""Reads compiled programs: does the search move its cache?

A copy of the cache at each step costs more than the step itself. XLA updates a buffer in
place when it can prove that nobody reads the old one; this looks at the text of what was
compiled, so that a test can say so.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence

_INSTRUCTION = re.compile(
    r"^\s*(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>\(.*?\)|\S+) (?P<op>[\w\-]+)"
    r"\((?P<rest>.*)$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) .*\{$")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
_NO_WORK = {"parameter", "get-tuple-element", "tuple", "bitcast", "while", "optimization-barrier",
            "conditional", "opt-barrier"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instruction:
    """One line of a compiled program."""

    name: str
    op: str
    shape: str
    """`f32[2,3]{1,0}`, or a tuple in parentheses."""
    operands: tuple[str, ...]
    called: str | None
    """The computation that a fusion or a call runs."""
    is_root: bool
    line: str

    @property
    def elements(self) -> int:
        """Elements of its result; 0 for tuples."""
        found = re.match(r"^\w+\[([\d,]*)\]", self.shape)
        if not found:
            return 0
        return math.prod(int(d) for d in found[1].split(",") if d)


Program = dict[str, dict[str, Instruction]]
"""Computation -> name -> instruction."""


def parse(compiled_text: str) -> Program:
    """The text of `jitted.lower(...).compile().as_text()`."""
    program: Program = {}
    current: dict[str, Instruction] = {}
    for line in compiled_text.splitlines():
        if not line.startswith(" ") and (start := _COMPUTATION.match(line)):
            current = program.setdefault(start["name"], {})
        elif found := _INSTRUCTION.match(line):
            arguments = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", found["rest"].split("), ")[0])
            called = _CALLED.search(found["rest"])
            current[found["name"]] = Instruction(
                name=found["name"], op=found["op"], shape=found["shape"],
                operands=tuple(re.findall(r"%([\w.\-]+)", arguments)),
                called=called[1] if called else None, is_root=bool(found["root"]),
                line=line.strip())
    return program


def updates_in_place(instruction: Instruction, program: Program) -> bool:
    """Whether it is, or runs nothing but, a dynamic-update-slice of a buffer that it got."""
    if instruction.op in ("fusion", "call") and instruction.called in program:
        inside = program[instruction.called]
        root = next(i for i in inside.values() if i.is_root)
        return _writes_parameter(root, inside, program)
    return instruction.op == "dynamic-update-slice"


def _writes_parameter(root: Instruction, inside: dict[str, Instruction], program: Program) -> bool:
    while root.op == "bitcast":
        root = inside[root.operands[0]]
    if root.op in ("fusion", "call"):
        return updates_in_place(root, program)
    if root.op != "dynamic-update-slice":
        return False
    buffer = inside[root.operands[0]]
    while buffer.op == "bitcast":
        buffer = inside[buffer.operands[0]]
    return buffer.op == "parameter"


def cache_copies(compiled_text: str, cache_shapes: Iterable[Sequence[int]]) -> list[str]:
    """The instructions that make a whole new array of a cache's size, in any layout or type.

    Args:
      compiled_text: of the optimised program.
      cache_shapes: shapes of the buffers that must stay where they are.
    """
    sizes = {math.prod(shape) for shape in cache_shapes}
    program = parse(compiled_text)
    inner = {i.called for body in program.values() for i in body.values()
             if i.op == "fusion" and i.called}
    return [
        instruction.line[:300]
        for name, body in program.items() if name not in inner
        for instruction in body.values()
        if instruction.elements in sizes and instruction.op not in _NO_WORK
        and not updates_in_place(instruction, program)
    ]


def assert_no_cache_copy(compiled_text: str, cache_shapes: Iterable[Sequence[int]]) -> None:
    """Fails if the program copies, gathers, pads or transposes a cache.

    Raises:
      AssertionError: with the offending instructions, or if there is no in-place update
        of any such buffer (then the shapes are wrong, and the check would see nothing).
    """
    shapes = [tuple(shape) for shape in cache_shapes]
    copies = cache_copies(compiled_text, shapes)
    if copies:
        raise AssertionError("the cache is copied:\n" + "\n".join(copies))
    program = parse(compiled_text)
    for shape in shapes:
        size = math.prod(shape)
        if not any(i.elements == size and updates_in_place(i, program)
                   for body in program.values() for i in body.values()):
            raise AssertionError(f"nothing of the size of {shape} is updated in place")
