"""What the device does at best, measured in the same run: matrix products and copies."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from benchmarks import harness

_GEMM = """
import os, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {int(core) for core in sys.argv[1].split(",")})
import numpy as np
n = 2048
a, b = np.ones((n, n), np.float32), np.ones((n, n), np.float32)
a @ b
best = 1e9
for _ in range(4):
    t = time.perf_counter(); a @ b; best = min(best, time.perf_counter() - t)
print(2 * n**3 / best)
"""


def cpu_gemm(*, cores: int) -> float:
    """Best float32 FLOP/s of a 2048-cubed NumPy product on `cores` pinned cores."""
    pinned = ",".join(map(str, harness.pick_cores(cores)))
    done = subprocess.run(
        [sys.executable, "-c", _GEMM, pinned], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def device(*, size: int, seconds: float = 1.0) -> dict[str, Any]:
    """The accelerator's bfloat16 matrix product and copy rates.

    Args:
      size: side of the square matrices; the copy moves `size * size` float32.

    Returns:
      `flops` (FLOP/s of the product), `bytes` (bytes/s read and written by a copy).
    """
    import jax
    import jax.numpy as jnp

    key = jax.random.key(0)
    a = jax.random.normal(key, (size, size), jnp.bfloat16)
    product = jax.jit(lambda a: a @ a)
    block = jax.random.normal(key, (size, size), jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return {
        "flops": 2 * size**3 / _best(product, a, seconds),
        "bytes": 2 * block.nbytes / _best(copy, block, seconds),
    }


def _best(function: Any, x: Any, seconds: float) -> float:
    """Seconds of one call, from batches of calls (dispatch is asynchronous)."""
    import jax

    jax.block_until_ready(function(x))
    best, calls, stop = float("inf"), 1, time.perf_counter() + seconds
    while time.perf_counter() < stop:
        start = time.perf_counter()
        y = None
        for _ in range(calls):
            y = function(x)
        jax.block_until_ready(y)
        spent = time.perf_counter() - start
        best = min(best, spent / calls)
        calls = min(64, calls * 2)
    return best
