"""One side of a comparison, alone in its process: `python -m benchmarks.worker CORES`,
pinned to those cores (`0,1`) before any toolkit counts them.

Reads JSON requests from standard input, one a line, and answers each with one line:
first `{"make": "module:Class", "args": {...}}`, then any number of
`{"call": "method", "args": {...}}`. Answers carry the result and the wall and CPU
seconds that the call took. What the side prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in sys.argv[1].split(",")})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    side: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            wall, cpu = time.perf_counter(), time.process_time()
            if "make" in request:
                module, _, name = request["make"].partition(":")
                side = getattr(importlib.import_module(module), name)(**request["args"])
                result = None
            else:
                result = getattr(side, request["call"])(**request["args"])
            answer = {
                "result": result,
                "wall": time.perf_counter() - wall,
                "cpu": time.process_time() - cpu,
            }
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
