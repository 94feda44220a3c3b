"""Fair comparisons: both sides in processes of their own, pinned alike, taking turns.

Knows no toolkit: sides are classes named by `module:Class`, run by `worker.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


class BenchmarkError(RuntimeError):
    """A benchmark that cannot run here; the message says what is missing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line chose."""

    quick: bool = False
    """Small sizes and two rounds: shows that it runs, measures nothing."""
    pairs: int = 5
    """Rounds of each side."""
    cores: int = 1
    """Cores that each side is pinned to."""
    tiny: bool = False
    """GPU benchmarks: sizes that a CPU can run, in float32."""

    @property
    def rounds(self) -> int:
        return 2 if self.quick else self.pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One call of one side."""

    result: Any
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Units of work per wall second; `result["work"]` says how many."""
        return self.result["work"] / self.wall


@dataclasses.dataclass(kw_only=True)
class Row:
    """One line of the table."""

    id: str
    workload: str
    metric: str
    ours: float
    ours_spread: tuple[float, float] | None = None
    opponent: str | None = None
    theirs: float | None = None
    theirs_spread: tuple[float, float] | None = None
    ratio: float | None = None
    ratio_spread: tuple[float, float] | None = None
    ratio_cpu: float | None = None
    """The same ratio by CPU seconds, for machines that others use too."""
    bound: float | None = None
    """What the hardware would allow."""
    bound_of: Literal["ratio", "ours"] = "ratio"
    """What the bound bounds."""
    bound_why: str = ""
    floor: float | None = None
    """What this project promises at least."""
    checks: list[str] = dataclasses.field(default_factory=list)
    """How equal work was checked, and what came out."""


class Worker:
    """A side in its own process."""

    def __init__(self, name: str, side: str, *, cores: Sequence[int], args: dict[str, Any]):
        self.name = name
        env = dict(os.environ)
        for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            env[key] = str(len(cores))
        env["OMP_WAIT_POLICY"] = "PASSIVE"
        env["PYTHONPATH"] = str(ROOT)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", ",".join(map(str, cores))],
            cwd=ROOT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        self.made = self._ask({"make": side, "args": args})

    def call(self, method: str, **args: Any) -> Sample:
        return self._ask({"call": method, "args": args})

    def _ask(self, request: dict[str, Any]) -> Sample:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise BenchmarkError(f"{self.name}: its process ended with {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(f"{self.name}: {answer['error']}")
        return Sample(**answer)

    def close(self) -> None:
        self._process.communicate(timeout=60)


def pick_cores(count: int) -> list[int]:
    """The last `count` cores that this process may use."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    if count > len(allowed):
        raise BenchmarkError(f"--cores {count}: this process may use {len(allowed)}")
    return allowed[-count:]


@contextlib.contextmanager
def workers(options: Options, **sides: tuple[str, dict[str, Any]]) -> Iterator[dict[str, Worker]]:
    """Starts every side (`name=("module:Class", args)`), one after the other."""
    cores = pick_cores(options.cores)
    started: dict[str, Worker] = {}
    try:
        for name, (side, args) in sides.items():
            started[name] = Worker(name, side, cores=cores, args=args)
        yield started
    finally:
        for worker in started.values():
            worker.close()


def take_turns(
    sides: dict[str, Worker], method: str, *, rounds: int, args: Sequence[dict[str, Any]]
) -> dict[str, list[Sample]]:
    """A/B/A/B: round i calls every side with `args[i % len(args)]`."""
    samples: dict[str, list[Sample]] = {name: [] for name in sides}
    for index in range(rounds):
        for name, worker in sides.items():
            samples[name].append(worker.call(method, **args[index % len(args)]))
    return samples


def timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Sample:
    """One call in this process (GPU benchmarks: one process owns the device)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*args, **kwargs)
    return Sample(
        result=result, wall=time.perf_counter() - wall, cpu=time.process_time() - cpu
    )


def spread(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def compare(row: Row, ours: Sequence[Sample], theirs: Sequence[Sample]) -> Row:
    """Fills in medians, spreads and the ratio of rates, pair by pair."""
    mine, other = [s.rate for s in ours], [s.rate for s in theirs]
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    by_cpu = [
        (a.result["work"] / a.cpu) / (b.result["work"] / b.cpu)
        for a, b in zip(ours, theirs, strict=True) if a.cpu > 0 and b.cpu > 0
    ]
    return dataclasses.replace(
        row,
        ours=statistics.median(mine), ours_spread=spread(mine),
        theirs=statistics.median(other), theirs_spread=spread(other),
        ratio=statistics.median(ratios), ratio_spread=spread(ratios),
        ratio_cpu=statistics.median(by_cpu) if by_cpu else None,
    )


def environment() -> dict[str, Any]:
    """What the numbers depend on."""
    versions = {}
    for package in (
            "jax", "jaxlib", "numpy", "flax", "torch", "ctranslate2", "transformers"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    model, flags = _cpu()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": versions,
        "cpu": model,
        "cpu_flags": [f for f in wanted if f in flags],
        "cores": os.cpu_count(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
    }


def _cpu() -> tuple[str, set[str]]:
    info = pathlib.Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine(), set()
    fields: dict[str, str] = {}
    for line in info.read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields.get("model name", platform.machine()), set(fields.get("flags", "").split())


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


def save(
    name: str, rows: Sequence[Row], *, device: str, options: Options, before: dict[str, Any]
) -> pathlib.Path:
    """Writes `benchmarks/results/NAME-DEVICE.json`; quick runs get a name of their own.

    Args:
      before: `environment()` at the start: the load average is what others caused.
    """
    RESULTS.mkdir(exist_ok=True)
    suffix = "-quick" if options.quick or options.tiny else ""
    path = RESULTS / f"{name}-{device}{suffix}.json"
    path.write_text(json.dumps(
        {
            "name": name, "device": device, "options": dataclasses.asdict(options),
            "environment": before, "rows": [dataclasses.asdict(r) for r in rows],
        },
        indent=1,
    ) + "\n")
    return path


def show(row: Row) -> str:
    """A row in one line of a console."""
    text = f"{row.id}  {row.workload}: {row.ours:,.4g} {row.metric}"
    if row.theirs is not None:
        text += f"; {row.opponent} {row.theirs:,.4g}"
    if row.ratio is not None:
        text += f"; ratio {row.ratio:.2f}"
    if row.ratio_spread is not None:
        low, high = row.ratio_spread
        text += f" ({low:.2f} to {high:.2f})"
    if row.bound is not None:
        text += f"; bound {row.bound:,.3g}" + (f" {row.metric}" if row.bound_of == "ours" else "")
    if row.floor is not None:
        text += f"; promised {row.floor:g}"
    return "\n      ".join([text, *row.checks])
