"""C10, the data pipeline on one core, and C13, how many shapes an epoch compiles.

C10: 60,000 synthetic pairs in a memory-mapped store; one epoch is planned, materialised and
put on the device, by the plain iterator or by tf.data; real tokens of both sides per second.
`run()` and `shapes()` return plain dicts; `python -m benchmarks.c10_data` prints both. Needs
no opponent: fairseq's collater was measured at 0.54 M tokens/s on such a core.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import synthetic
from seqjax.config import BatchingConfig
from seqjax.data import indexed
from seqjax.data.epoch_plan import Lengths
from seqjax.data.pairs import PairDataset
from seqjax.data.pipeline import TrainIterator
from seqjax.data.planning import make_plan

ROOT = pathlib.Path(__file__).resolve().parent.parent
VOCAB = 32768
GATE, GOAL, MOONSHOT = 4.0, 8.0, 15.0
"""M tokens/s."""


def run(*, pairs: int = 60000, rounds: int = 5, core: int | None = None) -> dict[str, Any]:
    """C10 in a process of its own, pinned to one core.

    Returns:
      `{"M tokens/s": {way: {"median", "min", "max", "cpu_median"}}, "menu seconds": ...}`
      for packed, bucketed and fairseq with the plain iterator (`packed numpy`, ...), and
      packed and bucketed with tf.data (`packed tfdata`, ...) where it is installed.
    """
    if core is None:
        core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0

    def pin() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.c10_data", "measure", str(pairs), str(rounds)],
        cwd=ROOT, env=environment, check=True, text=True, stdout=subprocess.PIPE,
        preexec_fn=pin,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(pairs: int, rounds: int) -> dict[str, Any]:
    """What `run` does, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        data = _store(pathlib.Path(folder), pairs)
        ways = [(mode, "numpy") for mode in ("packed", "bucketed", "fairseq")]
        if _has_tensorflow():
            ways += [("packed", "tfdata"), ("bucketed", "tfdata")]
        results: dict[str, list[dict[str, float]]] = {f"{m} {b}": [] for m, b in ways}
        for round_ in range(rounds + 1):
            for mode, backend in ways:
                sample = _epoch(data, mode, backend)
                if round_:  # the first round warms the page cache
                    results[f"{mode} {backend}"].append(sample)
    return {
        "pairs": pairs,
        "rounds": rounds,
        "M tokens/s": {way: _summary(samples) for way, samples in results.items()},
        "menu seconds": {
            way: statistics.median(s["menu"] for s in samples)
            for way, samples in results.items()
        },
        "gate": GATE, "goal": GOAL, "moonshot": MOONSHOT,
    }


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _store(folder: pathlib.Path, pairs: int) -> PairDataset:
    corpus = synthetic.corpus(pairs, VOCAB)
    for lang, sentences in (("de", corpus.source), ("en", corpus.target)):
        prefix = folder / f"train.de-en.{lang}"
        with indexed.IndexedWriter(prefix, dtype=indexed.dtype_for(VOCAB)) as writer:
            for sentence in sentences:
                writer.append(sentence)
    return PairDataset.load(folder, "train", source_lang="de", target_lang="en")


def _epoch(data: PairDataset, mode: Any, backend: str) -> dict[str, float]:
    """Plan, materialise and put one epoch, from the end of the one before on.

    The menu of shapes is chosen, and tf.data set up, once a run: `menu` is the former's time.
    """
    import jax

    start = time.perf_counter()
    plan = make_plan(data.lengths, BatchingConfig(mode=mode), seed=1)
    menu = time.perf_counter() - start
    if backend == "tfdata":
        from seqjax.data.tfdata import TfDataIterator

        batches: Any = TfDataIterator(plan, data)
    else:
        batches = TrainIterator(plan, data)
    tokens, wall, cpu = 0, 0.0, 0.0
    with batches:
        for batch in batches:
            on_device = jax.device_put(batch.arrays)
            tokens += batch.ntokens + batch.source_tokens
            if batch.last:
                jax.block_until_ready(on_device)
                if batch.epoch == 2:
                    break
                tokens, wall, cpu = 0, time.perf_counter(), time.process_time()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"rate": tokens / wall / 1e6, "cpu_rate": tokens / cpu / 1e6, "menu": menu}


def _summary(samples: list[dict[str, float]]) -> dict[str, float]:
    rates = [s["rate"] for s in samples]
    return {
        "median": statistics.median(rates), "min": min(rates), "max": max(rates),
        "cpu_median": statistics.median(s["cpu_rate"] for s in samples),
    }


def shapes(*, pairs: int = 60000) -> dict[str, Any]:
    """C13: compiled shapes and token efficiency of an epoch of training."""
    source, target = synthetic.lengths(pairs)
    lengths = Lengths(source=source.astype(np.int32), target=target.astype(np.int32))
    found: dict[str, Any] = {}
    for name, config in (
        ("train packed", BatchingConfig(mode="packed")),
        ("train bucketed", BatchingConfig(mode="bucketed")),
        ("train bucketed 16", BatchingConfig(mode="bucketed", num_shapes=16)),
        ("train fairseq_packed", BatchingConfig(mode="fairseq_packed")),
        ("train fairseq 64", BatchingConfig(mode="fairseq", num_shapes=64)),
    ):
        epoch = make_plan(lengths, config, seed=1).epoch(1)
        found[name] = {"shapes": len(epoch.update_shapes()), "efficiency": epoch.efficiency}
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(int(sys.argv[2]), int(sys.argv[3]))))
    else:
        print(json.dumps({"c10": run(), "c13": shapes()}, indent=2))
