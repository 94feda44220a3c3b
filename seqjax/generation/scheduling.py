"""Keeps batches full while their sentences finish one by one.

A batch is as slow as its longest output: near the end most rows idle. So a batch stops
now and then; sentences that are done leave, and what is left of batches that stand at the
same step is moved together, until a full batch goes on and the others are gone. That
changes neither results (rows do not see each other) nor the number of compiled shapes.

Started searches (`Run`) of batches go in, sentences that are done come out.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from seqjax.generation.beam_search import Search
from seqjax.generation.hypothesis import Hypothesis
from seqjax.generation.processors import Sentences, Tables
from seqjax.generation.search_state import SearchState, hypotheses
from seqjax.models.protocol import Cache, Weights

IN_FLIGHT = 2
"""Runs that are on the device at a time: one works while the host reads the other."""
STRIDE = 8
"""Steps between two looks at what is done."""
FULL_ENOUGH = 0.75
"""Share of rows with which a run goes on at once."""
MOST_WAITING = 3
"""Runs that wait for company at a time; each holds a cache."""
FREE = -1
"""Owner of a row without a sentence."""


@dataclasses.dataclass(kw_only=True, eq=False)
class Run:
    """Sentences that are searched together, and where they stand."""

    search: Search
    weights: tuple[Weights, ...]
    sentences: Sentences
    caches: tuple[Cache, ...]
    state: SearchState
    owners: np.ndarray
    """[rows]: number of the sentence in the input, FREE on rows without one."""
    capacities: list[int]
    """Capacities that its sentences may need, this one first."""
    tables: Tables = None
    """What the strategy knows of all sentences alike; the same arrays in all runs."""
    position: int = 0
    """Steps made once what was dispatched is done (fewer if all sentences end before)."""

    @property
    def live(self) -> int:
        """Rows with a sentence."""
        return int((self.owners != FREE).sum())

    @property
    def place(self) -> tuple[int, ...]:
        """Runs of the same place can be moved together."""
        shapes = [x.shape for x in jax.tree.leaves((self.caches, self.sentences))]
        return (self.position, *(n for shape in shapes for n in shape))

    def dispatch(self) -> None:
        """Sends the next steps to the device; does not wait for them."""
        if self.position == self.capacities[0]:
            self.capacities = self.capacities[1:]
            self.caches, self.state = self.search.grow(
                self.caches, self.state, capacity=self.capacities[0])
        self.position = next_stop(self.position, self.capacities[0])
        self.caches, self.state = self.search.chunk(
            self.weights, self.sentences, self.caches, self.state, np.int32(self.position),
            tables=self.tables)

    def settle(self, *, nbest: int) -> list[tuple[int, list[Hypothesis]]]:
        """Waits; the sentences that are done leave their rows and are returned."""
        done = np.asarray(self.state.done) & (self.owners != FREE)
        rows = np.flatnonzero(done)
        if not len(rows):
            return []
        found = hypotheses(jax.device_get(self.state), rows=rows, nbest=nbest,
                           eos=self.search.options.rules.eos)
        numbers = self.owners[rows]
        self.owners[rows] = FREE
        return [(int(i), h) for i, h in zip(numbers, found, strict=True)]

    def take_in(self, other: Run) -> None:
        """Moves as many of the other run's sentences as fit into free rows."""
        to = np.flatnonzero(self.owners == FREE)
        of = np.flatnonzero(other.owners != FREE)
        count = min(len(to), len(of))
        to, of = to[:count], of[:count]
        source = np.arange(len(self.owners))
        source[to] = of
        moved = np.zeros(len(self.owners), bool)
        moved[to] = True
        self.caches, self.state, self.sentences = self.search.move(
            (self.caches, self.state, self.sentences),
            (other.caches, other.state, other.sentences), source, moved)
        self.owners[to], other.owners[of] = other.owners[of], FREE
        self.capacities = max(self.capacities, other.capacities, key=len)


def next_stop(position: int, capacity: int) -> int:
    """Where a run looks up next: every STRIDE steps and when its cache is full."""
    return min(capacity, (position // STRIDE + 1) * STRIDE)


def run_all(
    fresh: Iterable[Run], *, nbest: int,
) -> Iterator[list[tuple[int, list[Hypothesis]]]]:
    """Runs everything; yields sentences as they finish, in groups that are never empty.

    Args:
      fresh: runs before their first step; they are taken as there is room for them.
      nbest: hypotheses of a sentence.
    """
    fresh = iter(fresh)
    in_flight: collections.deque[Run] = collections.deque()
    waiting: dict[tuple[int, ...], Run] = {}
    more = True
    while True:
        while more and len(in_flight) < IN_FLIGHT:
            run = next(fresh, None)
            more = run is not None
            if run is not None:
                _resume(run, in_flight)
        if len(waiting) > MOST_WAITING or (waiting and not in_flight):
            # The one furthest behind: it meets the others on its way.
            _resume(waiting.pop(min(waiting, key=lambda place: place[0])), in_flight)
        if not in_flight:
            return
        run = in_flight.popleft()
        if found := run.settle(nbest=nbest):
            yield found
        _part(run, in_flight, waiting)


def _resume(run: Run, in_flight: collections.deque[Run]) -> None:
    run.dispatch()
    in_flight.append(run)


def _part(
    run: Run, in_flight: collections.deque[Run], waiting: dict[tuple[int, ...], Run],
) -> None:
    """Sends a run on, lets it wait, or has it taken in by one that waits."""
    if run.live and (partner := waiting.pop(run.place, None)):
        partner.take_in(run)
        if partner.live >= FULL_ENOUGH * len(partner.owners):
            _resume(partner, in_flight)
        else:
            waiting[partner.place] = partner
    if not run.live:
        return
    if run.live >= FULL_ENOUGH * len(run.owners):
        _resume(run, in_flight)
    else:
        waiting[run.place] = run
