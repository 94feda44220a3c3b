"""Recorded fairseq training runs, repeated: loss, gradient norm and rate at every update.

    python scripts/check_traces.py GOLDENS [--kinks] [--noise]

GOLDENS has trace_*/ and the data folders. Feeds the recorded micro-batches from the recorded
start through our training step and prints the largest relative differences, the largest
difference of the end weights, and whether our own iterator gives the same batches.

Key biases have no true gradient (softmax does not see them): their gradient is rounding
noise, which Adam and Adafactor scale up to full steps; they are left out of the end weights.

A ReLU has a kink at zero: an input within its own rounding error of zero is on or off by chance,
its unit gets a gradient or none, and Adam and Adafactor make a full step of even a small one.
Two correct programs part there (docs/decisions/0006-traces-part-at-kinks.md). Two ways to see it:

--kinks: an update whose gradient norm is not the recorded one is tried again with SHIFTS, at
most 8e-7, added to the inputs of all ReLUs, and the closest is kept: what is left is what such
chance does not explain. `shifted` counts these updates.
--noise: the start is also moved by one rounding error, and the last column says how far that
alone carries our own end weights.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import hub, models, tasks
from seqjax.config import Config
from seqjax.data.epoch_plan import Shape
from seqjax.data.pipeline import DataState, places
from seqjax.data.planning import make_plan
from seqjax.interop.fairseq.checkpoint import load_fairseq
from seqjax.models.parts import decoder_layer, layers
from seqjax.training.metrics import averages
from seqjax.training.objective import loss_function, loss_of
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.sharding import path_name
from seqjax.training.state import new_state
from seqjax.training.train_step import METRICS, make_train_step

FLAGS: dict[str, tuple[str, str]] = {
    "--optimizer": ("optimizer", "name"), "--adam-betas": ("optimizer", "adam_betas"),
    "--adam-eps": ("optimizer", "adam_eps"), "--weight-decay": ("optimizer", "weight_decay"),
    "--lr": ("train", "lr"), "--clip-norm": ("train", "clip_norm"),
    "--max-update": ("train", "max_update"), "--sentence-avg": ("train", "sentence_avg"),
    "--lr-scheduler": ("schedule", "name"), "--warmup-updates": ("schedule", "warmup_updates"),
    "--warmup-init-lr": ("schedule", "warmup_init_lr"),
    "--total-num-update": ("schedule", "total_num_update"),
    "--end-learning-rate": ("schedule", "end_learning_rate"), "--min-lr": ("schedule", "min_lr"),
    "--lr-period-updates": ("schedule", "lr_period_updates"), "--t-mult": ("schedule", "t_mult"),
    "--lr-shrink": ("schedule", "lr_shrink"), "--phase-ratio": ("schedule", "phase_ratio"),
    "--final-lr-scale": ("schedule", "final_lr_scale"),
    "--max-tokens": ("batching", "max_tokens"), "--batch-size": ("batching", "max_sentences"),
    "--update-freq": ("train", "update_freq"), "--seed": ("", "seed"),
    "--criterion": ("loss", "name"), "--label-smoothing": ("loss", "label_smoothing"),
    "--task": ("task", "name"), "-s": ("task", "source_lang"), "-t": ("task", "target_lang"),
    "--tokens-per-sample": ("task", "tokens_per_sample"),
    "--sample-break-mode": ("task", "sample_break_mode"),
}


def config_of(args: list[str], goldens: pathlib.Path, model: Any) -> Config:
    """The configuration of a recorded command; the model's is the checkpoint's."""
    raw: dict[str, Any] = {
        "task": {"data": str(goldens / args[0])}, "schedule": {"warmup_updates": 0}, "model": {},
        "batching": {"mode": "fairseq", "max_tokens": None}}
    for flag, value in zip(args, [*args[1:], "--"], strict=True):
        if flag in FLAGS:
            section, key = FLAGS[flag]
            given: Any = "true" if value.startswith("--") else value
            if given.startswith("("):
                given = ast.literal_eval(given)
            (raw.setdefault(section, {}) if section else raw)[key] = given
    if raw["schedule"]["name"] == "inverse_sqrt":
        raw["schedule"].setdefault("warmup_updates", "4000")
    raw.setdefault("optimizer", {}).setdefault("adam_betas", (0.9, 0.999))
    raw["model"] = {"name": model.name}
    return hub.resolve(raw)


SHIFTS = (0.0, 1e-7, -1e-7, 2e-7, -2e-7, 4e-7, -4e-7, 8e-7, -8e-7)
CLOSE = 8e-7
"""Relative difference of a gradient norm that rounding makes anyway."""
NAMES = ("loss", "nll_loss", "gnorm", "lr")


@contextlib.contextmanager
def relu_shifted(shift: float) -> Iterator[None]:
    """What is traced inside has `shift` added to the inputs of all ReLUs."""

    def activation(name: str) -> Callable[[jax.Array], jax.Array]:
        known = layers.activation(name)
        return (lambda x: known(x + shift)) if name == "relu" and shift else known

    decoder_layer.activation = activation
    try:
        yield
    finally:
        decoder_layer.activation = layers.activation


class Repeated:
    """A recorded run, to be repeated from any start."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.trace = json.loads((folder / "trace.json").read_text())
        self.start, self.end = (load_fairseq(folder / name) for name in ("start.pt", "end.pt"))
        config = config_of(self.trace["args"], folder.parent, self.start.config)
        task = tasks.setup(config)
        model = models.build(self.start.config, **task.vocab_sizes, compute_dtype=jnp.float32)

        self._metrics = {**loss_of(config.loss).metrics, **METRICS}
        self.optimizer = make_optimizer(config.optimizer)
        self._step = make_train_step(
            loss_function(task, model, config.loss, sentence_avg=config.train.sentence_avg),
            self.optimizer,
            make_schedule(config.schedule, lr=config.train.lr,
                          max_update=config.train.max_update),
            seed=1, clip_norm=config.train.clip_norm)
        self._compiled: dict[float, Any] = {}
        dataset = task.train_dataset()
        self.same_batches = same_batches(dataset, config, self.trace["steps"])
        self.batches = recorded_batches(dataset, self.trace["steps"])

    def step(self, shift: float, *args: Any) -> tuple[Any, dict[str, float]]:
        """One update; the state, and the averages of its metrics."""
        if shift not in self._compiled:
            # A function of its own, or the other shift's trace would be found and taken.
            self._compiled[shift] = jax.jit(lambda *args: self._step(*args))
        with relu_shifted(shift):
            state, sums = self._compiled[shift](*args)
        return state, averages(jax.device_get(sums), self._metrics)

    def run(self, params: Any, shifts: tuple[float, ...]) -> tuple[dict[str, float], Any, int]:
        """The largest relative differences, the end weights, and how many updates were
        shifted."""
        worst = dict.fromkeys(NAMES, 0.0)
        shifted = 0
        state = new_state(jax.tree.map(jnp.asarray, params), self.optimizer)
        for recorded, batch in zip(self.trace["steps"], self.batches, strict=True):
            tried = []
            for shift in shifts:
                after, ours = self.step(shift, state, batch, recorded["epoch"])
                tried.append((abs(ours["gnorm"] / recorded["gnorm"] - 1), shift, after, ours))
                if tried[-1][0] < CLOSE:
                    break
            _, shift, state, ours = min(tried, key=lambda t: t[0])
            shifted += shift != 0
            for name in NAMES:
                if np.isfinite(recorded[name]):
                    worst[name] = max(worst[name], abs(ours[name] / recorded[name] - 1))
        return worst, state.params, shifted


def check(folder: pathlib.Path, *, noise: bool, kinks: bool) -> bool:
    """Prints one line; whether all is within 1e-4."""
    run = Repeated(folder)
    worst, params, shifted = run.run(run.start.params, SHIFTS if kinks else SHIFTS[:1])
    weights = distance(params, run.end.params)
    good = max(*worst.values(), weights) < 1e-4 and run.same_batches
    shown = "  ".join(f"{name} {value:.1e}" for name, value in worst.items())
    same = "same" if run.same_batches else "DIFFER"
    line = (f"{'ok  ' if good else 'FAIL'} {folder.name:32} {len(run.trace['steps'])} updates  "
            f"{shown}  end weights {weights:.1e}  batches {same}")
    if kinks:
        line += f"  shifted {shifted}"
    if noise:
        rng = np.random.default_rng(0)
        moved = jax.tree.map(
            lambda x: (x * (1 + 6e-8 * rng.choice([-1, 1], x.shape))).astype(np.float32),
            run.start.params)
        line += f"  one rounding error {distance(params, run.run(moved, SHIFTS[:1])[1]):.1e}"
    print(line, flush=True)
    return good


def same_batches(dataset: Any, config: Config, steps: list[dict[str, Any]]) -> bool:
    """Whether our own iterator gives the same sentences, update by update and micro-batch by
    micro-batch. Sentences of one length may change places within a micro-batch."""
    plan = make_plan(dataset.lengths, config.batching, seed=config.seed,
                     update_freq=config.train.update_freq)
    for step, (epoch, index) in zip(steps, places(plan, DataState()), strict=False):
        update = epoch.update(index)
        group = update.rows // update.shape.rows
        ours = [sorted(update.ids[group == g].tolist()) for g in range(update.groups)]
        if update.epoch != step["epoch"] or [g for g in ours if g] != [
                sorted(ids) for ids in step["ids"]]:
            return False
    return True


def recorded_batches(dataset: Any, steps: list[dict[str, Any]]) -> list[dict[str, np.ndarray]]:
    """The micro-batches of every update, all in one shape."""
    lengths = dataset.lengths
    widest = [int(np.max(lengths.side(s), initial=0)) for s in ("source", "target")]
    shape = Shape(max(len(ids) for s in steps for ids in s["ids"]), *widest)
    groups = max(len(s["ids"]) for s in steps)
    batches = []
    for step in steps:
        micro = [dataset.materialise(np.array(ids, np.int64), np.arange(len(ids), dtype=np.int32),
                                     shape)
                 for ids in step["ids"] + [[]] * (groups - len(step["ids"]))]
        batches.append({name: np.stack([m[name] for m in micro]) for name in micro[0]})
    return batches


def distance(a: Any, b: Any) -> float:
    """Largest absolute difference of a parameter, key biases left out."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for (path, x), y in pairs
               if not path_name(path).endswith("k_proj/bias"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goldens", type=pathlib.Path)
    parser.add_argument("--kinks", action="store_true", help="see above")
    parser.add_argument("--noise", action="store_true", help="see above; doubles the time")
    args = parser.parse_args()
    results = [check(folder, noise=args.noise, kinks=args.kinks)
               for folder in sorted(args.goldens.glob("trace_*"))]
    raise SystemExit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
