"""Phrases that an output must contain, and how far a hypothesis has come with them.

The host packs each sentence's phrases into arrays of a common shape; on the device a
hypothesis is where it stands in them. Two ways of counting, both fairseq's:

- `Ordered`: the phrases in the order given, one long sequence with gaps between phrases.
- `Unordered`: in any order, a trie whose nodes count how often they were passed.

How candidates are chosen by it is in `constrained`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seqjax.config import ConfigError
from seqjax.generation.errors import InputError
from seqjax.generation.processors import Packed

Phrases = Sequence[Sequence[int] | np.ndarray]
"""What one output must contain: ids without eos."""
Memory = Any
"""Pytree of where hypotheses stand."""
Array = Any
"""A `jax.Array`; of NumPy where it is packed."""
NONE = -1
"""Stands for no token."""
LEAST = 4
"""Arrays are not made smaller than this, nor other than powers of two: few shapes."""


@struct.dataclass
class Moves:
    """What the next token does to each hypothesis. J is static."""

    tokens: jax.Array
    """[B, W, J] int32: tokens that matter, NONE where there are fewer than J."""
    wanted: jax.Array
    """[B, W, J] bool: tokens that search must look at, however improbable."""
    banks: jax.Array
    """[B, W, J] int32: tokens of constraints that are met once this one is taken."""
    other: jax.Array
    """[B, W] int32: the same for any other token."""

    def at(self, tokens: jax.Array, beams: jax.Array) -> jax.Array:
        """[B, N] banks once hypotheses `beams` took `tokens` (both [B, N])."""
        take = lambda x: jnp.take_along_axis(x, beams[..., None], axis=1)  # noqa: E731
        same = take(self.tokens) == tokens[..., None]
        listed = jnp.where(same, take(self.banks), 0).sum(-1)
        return jnp.where(same.any(-1), listed, jnp.take_along_axis(self.other, beams, axis=1))


class Progress(Protocol):
    """How far hypotheses have come; a frozen dataclass, compiled in.

    `packed` is what `pack` made, with leading axis B; `memory` has leading axes B, W.
    """

    def size(self, phrases: Sequence[Phrases]) -> tuple[int, ...]:
        """A size of arrays that has room for any of them."""
        ...

    def pack(self, phrases: Sequence[Phrases], *, size: tuple[int, ...], rows: int) -> Packed:
        """Numpy arrays of [rows, ...] of this size."""
        ...

    def start(self, packed: Packed, *, beam: int) -> Memory:
        """The memory of hypotheses without tokens."""
        ...

    def moves(self, packed: Packed, memory: Memory) -> Moves:
        """What each next token would do."""
        ...

    def finished(self, packed: Packed, memory: Memory) -> jax.Array:
        """[B, W] bool: all constraints are met."""
        ...

    def span(self, packed: Packed) -> jax.Array:
        """[B] int32: the bank that fairseq takes for the highest."""
        ...

    def follow(
        self, packed: Packed, memory: Memory, *, parents: jax.Array, tokens: jax.Array
    ) -> Memory:
        """The memory after slots took over hypotheses `parents` and added `tokens`, [B, W]."""
        ...


def check(
    constraints: Sequence[Phrases], *, pad: int, eos: int, bos: int, vocabulary: int,
) -> None:
    """Refuses phrases that no output can contain.

    Raises:
      ValueError: naming sentence and phrase, from 0.
    """
    names = {bos: "the start of the sentence", eos: "the end of the sentence", pad: "padding"}
    for index, phrases in enumerate(constraints):
        for number, phrase in enumerate(phrases):
            where = f"constraint {number}"
            if not len(phrase):
                raise InputError(index, f"{where} is empty: leave it out", separator=", ")
            for token in np.asarray(phrase).tolist():
                if token in names:
                    raise InputError(index, f"{where} contains {names[token]} (id {token}), "
                                     "which stands inside no output", separator=", ")
                if not 0 <= token < vocabulary:
                    raise InputError(index, f"{where} contains the id {token}, but the "
                                     f"vocabulary has {vocabulary} entries", separator=", ")


def check_lengths(constraints: Sequence[Phrases], limits: np.ndarray) -> None:
    """Refuses constraints that are longer than the output may be.

    Raises:
      ValueError: naming the sentence, from 0.
    """
    for index, (phrases, limit) in enumerate(zip(constraints, limits, strict=True)):
        needed = sum(map(len, phrases))
        if needed > limit:
            raise InputError(
                index, f"its constraints have {needed} tokens, but its output may have "
                f"at most {limit}: raise max_len_b or give fewer constraints", separator=": ")


def progress_of(order: str) -> Progress:
    """The way of counting.

    Raises:
      ConfigError: another word than ordered or unordered.
    """
    if order not in PROGRESS:
        raise ConfigError(f"constraint_order: {order!r} is not one of {', '.join(PROGRESS)}")
    return PROGRESS[order]


def size_for(count: int) -> int:
    """The smallest size of an array that holds `count` entries."""
    return max(LEAST, 1 << max(0, count - 1).bit_length())


# ---- in order ----


@struct.dataclass
class PackedSequence:
    """Phrases one after the other. N is the largest number of tokens."""

    tokens: Array
    """[B, N] int32, NONE behind the last."""
    ends: Array
    """[B, N] bool: last token of a phrase."""
    length: Array
    """[B] int32."""


@dataclasses.dataclass(frozen=True)
class Ordered:
    """fairseq's `OrderedConstraintState`; the memory is the number of tokens met, [B, W].

    Who leaves a phrase in its middle begins again with the first phrase of all.
    """

    name: ClassVar[str] = "ordered"

    def size(self, phrases: Sequence[Phrases]) -> tuple[int, ...]:
        return (size_for(max((sum(map(len, each)) for each in phrases), default=0)),)

    def pack(
        self, phrases: Sequence[Phrases], *, size: tuple[int, ...], rows: int,
    ) -> PackedSequence:
        tokens = np.full((rows, *size), NONE, np.int32)
        ends, length = np.zeros((rows, *size), bool), np.zeros(rows, np.int32)
        for row, each in enumerate(phrases):
            for phrase in each:
                begin, length[row] = length[row], length[row] + len(phrase)
                tokens[row, begin:length[row]] = phrase
                ends[row, length[row] - 1] = True
        return PackedSequence(tokens=tokens, ends=ends, length=length)

    def start(self, packed: PackedSequence, *, beam: int) -> jax.Array:
        return jnp.zeros((packed.length.shape[0], beam), jnp.int32)

    def moves(self, packed: PackedSequence, memory: jax.Array) -> Moves:
        finished = self.finished(packed, memory)
        place = jnp.minimum(memory, packed.tokens.shape[1] - 1)
        following = jnp.where(finished, NONE, jnp.take_along_axis(packed.tokens, place, axis=1))
        first = jnp.where(packed.tokens[:, :1] == following, NONE, packed.tokens[:, :1])
        # Between phrases, before the first and after the last, any token may come.
        before = jnp.take_along_axis(packed.ends, jnp.maximum(memory - 1, 0), axis=1)
        between = finished | (memory == 0) | before
        return Moves(
            tokens=jnp.stack([following, first], axis=-1),
            wanted=jnp.stack([following != NONE, (first != NONE) & (memory > 1)], axis=-1),
            banks=jnp.stack([memory + 1, jnp.where(between, memory, 1)], axis=-1),
            other=jnp.where(between, memory, 0))

    def finished(self, packed: PackedSequence, memory: jax.Array) -> jax.Array:
        return memory == packed.length[:, None]

    def span(self, packed: PackedSequence) -> jax.Array:
        return packed.length

    def follow(
        self, packed: PackedSequence, memory: jax.Array, *, parents: jax.Array, tokens: jax.Array,
    ) -> jax.Array:
        return self.moves(packed, memory).at(tokens, parents)


# ---- in any order ----


@struct.dataclass
class PackedTrie:
    """Tries with a common number of nodes N and of tokens J; node 0 is the root.

    A child is 0 where there is none.
    """

    tokens: Array
    """[B, N, J] int32: tokens on the edges from the root and from each node, NONE behind."""
    child: Array
    """[B, N, J] int32: where each token leads from the node."""
    restart: Array
    """[B, N, J] int32: where it leads from the root."""
    capacity: Array
    """[B, N] int32: phrases that go through the node."""
    terminal: Array
    """[B, N] int32: phrases that end in it."""
    path: Array
    """[B, N, N] bool: the nodes from the root (not counted) to this one (counted)."""
    depth: Array
    """[B, N] int32."""
    span: Array
    """[B] int32: different tokens."""


@struct.dataclass
class Visits:
    """Where hypotheses are in their tries, and where they have been."""

    node: jax.Array
    """[B, W] int32."""
    generated: jax.Array
    """[B, W, N] int32: how often each node was passed."""
    completed: jax.Array
    """[B, W, N] int32: phrases that ended there and were left behind."""


@dataclasses.dataclass(frozen=True)
class Unordered:
    """fairseq's `UnorderedConstraintState`; the memory is `Visits`.

    A token leads to a child that is still needed; else the phrase is left, and what was
    passed since the last end of a phrase no longer counts, and the token leads from the
    root to a child that is still needed; else to the root.
    """

    name: ClassVar[str] = "unordered"

    def size(self, phrases: Sequence[Phrases]) -> tuple[int, ...]:
        nodes, width = 1, 1
        for trie in map(_Trie, phrases):
            nodes, width = max(nodes, len(trie.children)), max(width, trie.most_tokens())
        return size_for(nodes), size_for(width)

    def pack(
        self, phrases: Sequence[Phrases], *, size: tuple[int, ...], rows: int,
    ) -> PackedTrie:
        nodes, width = size
        edges = lambda: np.zeros((rows, nodes, width), np.int32)  # noqa: E731
        counts = lambda: np.zeros((rows, nodes), np.int32)  # noqa: E731
        packed = PackedTrie(
            tokens=np.full((rows, nodes, width), NONE, np.int32), child=edges(), restart=edges(),
            capacity=counts(), terminal=counts(), path=np.zeros((rows, nodes, nodes), bool),
            depth=counts(), span=np.zeros(rows, np.int32))
        for row, each in enumerate(phrases):
            _Trie(each).write(packed, row)
        return packed

    def start(self, packed: PackedTrie, *, beam: int) -> Visits:
        shape = (packed.span.shape[0], beam)
        nothing = jnp.zeros((*shape, packed.depth.shape[1]), jnp.int32)
        return Visits(node=jnp.zeros(shape, jnp.int32), generated=nothing, completed=nothing)

    def moves(self, packed: PackedTrie, memory: Visits) -> Moves:
        _, _, goes, restarts = self._ways(packed, memory)
        tokens = _at(packed.tokens, memory.node)
        bank = memory.generated.sum(-1)
        left = bank - self._left(packed, memory)[0].sum(-1)
        return Moves(
            tokens=tokens, wanted=tokens != NONE, other=left,
            banks=jnp.where(goes, bank[..., None] + 1,
                            left[..., None] + restarts.astype(jnp.int32)))

    def finished(self, packed: PackedTrie, memory: Visits) -> jax.Array:
        # The phrase that ends here counts, though it may go on to become a longer one.
        ends = _at(packed.terminal, memory.node) > _at(memory.completed, memory.node, own=True)
        return memory.completed.sum(-1) + ends == packed.capacity[:, :1]

    def span(self, packed: PackedTrie) -> jax.Array:
        return packed.span

    def follow(
        self, packed: PackedTrie, memory: Visits, *, parents: jax.Array, tokens: jax.Array,
    ) -> Visits:
        memory = jax.tree.map(
            lambda x: jnp.take_along_axis(x, parents.reshape(*parents.shape, *[1] * (x.ndim - 2)),
                                          axis=1), memory)
        child, restart, goes, restarts = self._ways(packed, memory)
        taken = _at(packed.tokens, memory.node) == tokens[..., None]
        one = lambda x, where: jnp.where(where & taken, x, 0).sum(-1)  # noqa: E731
        stays = (goes & taken).any(-1)
        node = jnp.where(stays, one(child, goes), one(restart, restarts))
        passed, ended = self._left(packed, memory)
        leaves = ~stays[..., None]
        nodes = jnp.arange(packed.depth.shape[1])
        entered = (node[..., None] == nodes) & (nodes > 0)
        return Visits(node=node, generated=memory.generated - (passed & leaves) + entered,
                      completed=memory.completed + (ended & leaves))

    def _ways(
        self, packed: PackedTrie, memory: Visits,
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """[B, W, J] for each token: the child, the root's child, whether it goes to the one
        or, else, to the other."""
        free = memory.generated < packed.capacity[:, None]  # [B, W, N]; children are not full
        child = _at(packed.child, memory.node)
        restart = _at(packed.restart, memory.node)
        open_ = lambda x: (x > 0) & jnp.take_along_axis(free, x, axis=2)  # noqa: E731
        goes = open_(child)
        return child, restart, goes, open_(restart) & ~goes

    def _left(self, packed: PackedTrie, memory: Visits) -> tuple[jax.Array, jax.Array]:
        """[B, W, N] for who leaves the path: nodes that no longer count as passed, and the
        node whose phrase is met now."""
        path = _at(packed.path, memory.node)
        depth = packed.depth[:, None]
        ends = path & (packed.terminal[:, None] > memory.completed)
        last = jnp.where(ends, depth, 0).max(-1, keepdims=True)
        return path & (depth > last), ends & (depth == last)


def _at(table: jax.Array, node: jax.Array, *, own: bool = False) -> jax.Array:
    """`table` [B, N, ...] at nodes [B, W]; `own`: each hypothesis has its own, [B, W, N]."""
    if own:
        return jnp.take_along_axis(table, node[..., None], axis=2)[..., 0]
    return jnp.take_along_axis(table, node.reshape(*node.shape, *[1] * (table.ndim - 2)), axis=1)


class _Trie:
    """One sentence's phrases on the host."""

    def __init__(self, phrases: Phrases) -> None:
        self.children: list[dict[int, int]] = [{}]
        self.paths: list[tuple[int, ...]] = [()]
        self.capacity, self.terminal = [0], [0]
        for phrase in phrases:
            node = 0
            self.capacity[0] += 1
            for token in np.asarray(phrase).tolist():
                node = self.children[node].get(token) or self._add(node, token)
                self.capacity[node] += 1
            self.terminal[node] += 1

    def _add(self, parent: int, token: int) -> int:
        node = self.children[parent][token] = len(self.children)
        self.children.append({})
        self.paths.append((*self.paths[parent], node))
        self.capacity.append(0)
        self.terminal.append(0)
        return node

    def most_tokens(self) -> int:
        """The largest number of tokens that matter in one node."""
        return max(len(children.keys() | self.children[0].keys()) for children in self.children)

    def write(self, packed: PackedTrie, row: int) -> None:
        """Fills a row of the arrays."""
        count = len(self.children)
        packed.capacity[row, :count] = self.capacity
        packed.terminal[row, :count] = self.terminal
        packed.depth[row, :count] = [len(path) for path in self.paths]
        packed.span[row] = len({token for each in self.children for token in each})
        for node, children in enumerate(self.children):
            packed.path[row, node, list(self.paths[node])] = True
            tokens = sorted(children.keys() | self.children[0].keys())
            packed.tokens[row, node, :len(tokens)] = tokens
            packed.child[row, node, :len(tokens)] = [children.get(t, 0) for t in tokens]
            packed.restart[row, node, :len(tokens)] = [self.children[0].get(t, 0) for t in tokens]


PROGRESS: dict[str, Progress] = {each.name: each for each in (Ordered(), Unordered())}
