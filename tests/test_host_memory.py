"""Memory that was freed is kept for the next step, in a process that asks for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
import numpy as np
from seqjax.training import host_memory

kept = sys.argv[1] == "keep" and host_memory.keep_freed()

def step():
    for _ in range(3):
        np.empty(100 << 20, np.uint8).fill(1)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(kept, faults())
"""


def run(how, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True,
        env={**{k: v for k, v in os.environ.items() if "MALLOC" not in k}, **environment})
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_was_freed_is_kept_for_the_next_step():
    kept, faults = run("keep")
    assert kept and faults < 100
    kept, faults = run("leave")
    assert not kept and faults > 100  # a page, or a huge one, at a time
    assert not run("keep", MALLOC_ARENA_MAX="2")[0]  # which somebody has decided
