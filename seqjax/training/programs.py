"""The compiled programs of a run: one update for every shape of a batch, and validations."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any

import jax
import numpy as np

from seqjax.data.epoch_plan import Shape
from seqjax.data.pipeline import Batch
from seqjax.training import compilation, sharding
from seqjax.training.failures import out_of_memory_explained
from seqjax.training.parts import Parts
from seqjax.training.progress import Reporter
from seqjax.training.state import TrainState
from seqjax.training.validation import batch_spec


class Programs:
    """Updates by the shape of their batch: (state, arrays, epoch) -> (new state, metrics).

    The state that is given is donated: its buffers become the new one's.
    """

    def __init__(self, parts: Parts, abstract: TrainState) -> None:
        """
        Args:
          abstract: shapes and shardings of the state.
        """
        self._parts, self._abstract = parts, abstract
        placed = jax.tree.map(lambda x: x.sharding, abstract)
        self._update = jax.jit(parts.step_fn, donate_argnums=0, out_shardings=(placed, None))
        self._epoch = jax.ShapeDtypeStruct(
            (), np.int32, sharding=sharding.replicated(parts.mesh))
        self._compiled: dict[Hashable, jax.stages.Compiled] = {}

    def compile_planned(self, out: Reporter, *, cache: str | None) -> None:
        """All programs that the plans of training and validation need, with progress.

        Args:
          cache: folder where compiled programs are kept (None: there is none), to be named.

        Raises:
          ConfigError: the largest update does not fit into a device's memory.
        """
        parts = self._parts
        largest = max((shape for _, shape in parts.plan.shapes), key=lambda s: s.tokens)
        checked = False

        def done(key: Any, program: jax.stages.Compiled, left: int) -> None:
            nonlocal checked
            if key[0] != "valid" and not checked and key[1] == largest:
                checked = True
                self._check_memory(program, key, out)

        jobs: dict[Hashable, compilation.Job] = {
            (groups, shape): self._job(groups, shape) for groups, shape in parts.plan.shapes}
        if parts.validator:
            jobs |= parts.validator.jobs(self._abstract)
        began, counter = time.monotonic(), compilation.CompilationCounter()
        out.say(f"compiling {len(jobs)} shapes ...")
        with out_of_memory_explained(parts.config):
            self._compiled = compilation.compile_all(jobs, conclude=False, on_done=done)
        where = f"{counter.cached} of them from {cache}" if cache else "no cache"
        out.say(f"compiled {len(jobs)} shapes in {compilation.seconds_since(began)} ({where})")
        if parts.validator:
            parts.validator.take(self._compiled)

    def has(self, batch: Batch) -> bool:
        """Whether the update of this batch is compiled."""
        return (batch.groups, batch.shape) in self._compiled

    def compile(self, batch: Batch) -> None:
        """Compiles the update of a batch whose shape was not planned."""
        job = self._job(batch.groups, batch.shape)
        self._compiled[batch.groups, batch.shape] = job.function.lower(*job.arguments).compile()

    def of(self, batch: Batch) -> jax.stages.Compiled:
        """The update of this batch, which must be compiled."""
        return self._compiled[batch.groups, batch.shape]

    def _job(self, groups: int, shape: Shape) -> compilation.Job:
        parts = self._parts
        spec = batch_spec(parts.dataset, shape, parts.mesh, packed=parts.plan.packed,
                          groups=groups)
        return compilation.Job(function=self._update, size=2**40 + shape.tokens,
                               arguments=(self._abstract, spec, self._epoch))

    def _check_memory(
        self, program: jax.stages.Compiled, key: tuple[int, Shape], out: Reporter
    ) -> None:
        memory = compilation.memory_of(program)
        if memory is not None:
            out.say(f"largest update ({key[0]} x {tuple(key[1])}): {memory}")
            compilation.check_memory(memory, what="The largest update",
                                     max_tokens=self._parts.config.batching.max_tokens)
