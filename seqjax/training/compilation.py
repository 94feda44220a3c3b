"""Compiling everything before the first step: in parallel, with progress, cached on disk.

Functions with the shapes of their arguments go in, compiled programs come out.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import jax
from jax.stages import Compiled

from seqjax.config import ConfigError
from seqjax.console import compiling


def enable_cache(setting: str | None) -> str | None:
    """Keeps compiled programs on disk, so that the next start is quick.

    Args:
      setting: a folder; `auto`: the user's cache folder, unless JAX was told one already;
        None: leave JAX as it is.

    Returns:
      The folder in use, or None.
    """
    before = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if setting is None:
        return before
    folder = before if setting == "auto" else setting
    if folder is None:
        folder = str(user_cache() / "seqjax" / "xla")
        try:  # programs in it are executed: nobody else may write there
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chmod(folder, 0o700)
        except OSError:
            return None
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def user_cache() -> pathlib.Path:
    """Where this platform keeps a user's caches."""
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library" / "Caches"
    if os.name == "nt":
        return pathlib.Path(os.environ.get("LOCALAPPDATA", pathlib.Path.home()))
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")


class CompilationCounter:
    """Counts every program that XLA is asked for in this process, and those of them that
    were read from the cache on disk."""

    _listening = False
    _total = 0
    _hits = 0

    def __init__(self) -> None:
        cls = CompilationCounter
        if not cls._listening:
            cls._listening = True
            jax.monitoring.register_event_duration_secs_listener(cls._heard)
            jax.monitoring.register_event_listener(cls._found)
        self._start, self._start_hits = cls._total, cls._hits

    @classmethod
    def _heard(cls, event: str, duration_secs: float, **kwargs: Any) -> None:
        if event.endswith("backend_compile_duration"):
            cls._total += 1

    @classmethod
    def _found(cls, event: str, **kwargs: Any) -> None:
        if event.endswith("compilation_cache/cache_hits"):
            cls._hits += 1

    @property
    def count(self) -> int:
        """Programs since this counter was made."""
        return CompilationCounter._total - self._start

    @property
    def cached(self) -> int:
        """Those of them that were not compiled but read."""
        return CompilationCounter._hits - self._start_hits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One program to be compiled: a jitted function and its abstract arguments."""

    function: Any
    arguments: tuple[Any, ...]
    size: int
    """The largest is compiled first."""


_TRACING = threading.Lock()


def _compiled(job: Job) -> Compiled:
    """One job's program. Traces come one after the other: they hold the GIL anyway, and flax, when
    it makes the class of a scanned layer, changes for a moment that of the layer, which another
    thread may read."""
    with _TRACING:
        lowered = job.function.lower(*job.arguments)
    return lowered.compile()


def compile_all(
    jobs: Mapping[Hashable, Job],
    *,
    threads: int | None = None,
    conclude: bool = True,
    on_done: Callable[[Hashable, Compiled, int], None] = lambda key, compiled, left: None,
) -> dict[Hashable, Compiled]:
    """Compiles all jobs, largest first, several at a time (XLA works outside the GIL).

    `console.compiling` says how many are done meanwhile.

    Args:
      conclude: have it say at the end how long they took.
      on_done: called with the key, the compiled program and the number still to come.
    """
    order = sorted(jobs, key=lambda key: -jobs[key].size)
    done: dict[Hashable, Compiled] = {}
    pool = ThreadPoolExecutor(threads or max(1, os.cpu_count() or 1))
    futures = {}
    with compiling.planned(len(jobs), conclude=conclude) as one_done:
        try:
            for key in order:
                futures[pool.submit(_compiled, jobs[key])] = key
            for future in as_completed(futures):
                key = futures[future]
                done[key] = future.result()
                one_done()
                on_done(key, done[key], len(jobs) - len(done))
        finally:  # after an error, or Ctrl-C, nobody waits for those that are under way
            pool.shutdown(wait=False, cancel_futures=True)
    return done


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a program needs on one device, and what there is."""

    arguments: int
    temporary: int
    available: int | None

    @property
    def needed(self) -> int:
        return self.arguments + self.temporary

    def __str__(self) -> str:
        has = f" of {self.available / 2**20:.0f}" if self.available else ""
        return (f"{self.needed / 2**20:.0f}{has} MiB a device "
                f"({self.arguments / 2**20:.0f} state and batch, "
                f"{self.temporary / 2**20:.0f} temporary)")


def memory_of(compiled: Compiled) -> Memory | None:
    """What a compiled program needs, where the backend says so."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    # Donated arguments are reused for results, so results count only beyond those.
    results = max(0, analysis.output_size_in_bytes - analysis.alias_size_in_bytes)
    return Memory(
        arguments=analysis.argument_size_in_bytes + results,
        temporary=analysis.temp_size_in_bytes, available=device_memory(),
    )


def device_memory() -> int | None:
    """Bytes of memory that programs may use on one device, if it can be known."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if device.platform == "cpu" and hasattr(os, "sysconf"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total // max(1, jax.local_device_count())
    return None


def check_memory(memory: Memory | None, *, what: str, max_tokens: int | None) -> None:
    """Refuses a program that cannot fit.

    Raises:
      ConfigError: with what is needed, what there is, and a budget that should fit.
    """
    if memory is None or memory.available is None or memory.needed <= memory.available:
        return
    room = (memory.available - memory.arguments) / max(memory.temporary, 1)
    advice = "use fewer parameters, or split them: config.mesh.fsdp"
    if room > 0.05 and max_tokens:
        smaller = int(max_tokens * room * 0.9) // 64 * 64
        advice = (f"try config.batching.max_tokens={smaller} with a larger "
                  "config.train.update_freq, or config.model.remat=dots")
    raise ConfigError(f"{what} needs {memory}, which does not fit; {advice}")


def seconds_since(start: float) -> str:
    """`12.3 s`."""
    return f"{time.monotonic() - start:.1f} s"
