"""How this process gets its memory from the system. Called before anything is computed.

A step of a CPU asks for some hundred MB of temporary memory and gives them back. glibc gives them
back to the system, which clears every page again before it hands it out for the next step: up to a
sixth of a step's time (docs/decisions/0014). Kept, they cost nothing but that the process stays as
large as it once was.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""glibc's numbers, in `malloc.h`."""
_MOST = (1 << 31) - 1
_OTHERS = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES",
           "LD_PRELOAD")


def keep_freed() -> bool:
    """Keeps what was freed for the next step, where the C library is glibc and the environment says
    nothing of how it is to allocate (`MALLOC_ARENA_MAX`, `GLIBC_TUNABLES`, ...).

    Large blocks come from the one arena that grows, whichever thread asks: those of other threads
    have no room for them, and would map them anew each time.

    Returns:
      Whether it is so.
    """
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in _OTHERS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(option, value) for option, value in (
        (_ARENA_MAX, 1), (_MMAP_THRESHOLD, _MOST), (_TRIM_THRESHOLD, _MOST)))
