"""Recorded fairseq training runs, repeated: loss, gradient norm and rate at every update.

    python scripts/check_traces.py GOLDENS        # folder with trace_*/ and the data folders

Feeds the recorded micro-batches from the recorded start through our training step and
prints the largest relative differences, and the largest difference of the end weights.

Key biases have no true gradient (softmax does not see them): their gradient is rounding
noise, which Adam and Adafactor scale up to full steps; they are left out of the end weights.
A ReLU at its kink does the same to a whole run, a little later: with --noise the start is
also moved by one rounding error, and the last column says how far that alone carries our
own end weights. What fairseq's differ by is to be read against it.
"""

from __future__ import annotations

import argparse
import ast
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import hub, models, tasks
from seqjax.config import Config
from seqjax.data.epoch_plan import Shape
from seqjax.interop.fairseq_weights import load_fairseq
from seqjax.training.metrics import averages
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.sharding import path_name
from seqjax.training.state import new_state
from seqjax.training.train_step import make_train_step, sentence_average

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
    "--criterion": ("loss", "name"), "--label-smoothing": ("loss", "label_smoothing"),
    "--task": ("task", "name"), "-s": ("task", "source_lang"), "-t": ("task", "target_lang"),
    "--tokens-per-sample": ("task", "tokens_per_sample"),
    "--sample-break-mode": ("task", "sample_break_mode"),
}


def config_of(args: list[str], goldens: pathlib.Path, model: Any) -> Config:
    """The configuration of a recorded command; the model's is the checkpoint's."""
    raw: dict[str, Any] = {"task": {"data": str(goldens / args[0])}, "schedule": {
        "warmup_updates": 0}, "model": {}}
    for flag, value in zip(args, [*args[1:], "--"], strict=True):
        if flag in FLAGS:
            section, key = FLAGS[flag]
            given: Any = "true" if value.startswith("--") else value
            if given.startswith("("):
                given = ast.literal_eval(given)
            raw.setdefault(section, {})[key] = given
    if raw["schedule"]["name"] == "inverse_sqrt":
        raw["schedule"].setdefault("warmup_updates", "4000")
    raw.setdefault("optimizer", {}).setdefault("adam_betas", (0.9, 0.999))
    raw["model"] = {"name": model.name}
    return hub.resolve(raw)


def check(folder: pathlib.Path, *, noise: bool) -> bool:
    trace = json.loads((folder / "trace.json").read_text())
    start, end = (load_fairseq(folder / name) for name in ("start.pt", "end.pt"))
    config = config_of(trace["args"], folder.parent, start.config)
    task = tasks.setup(config)
    model = models.build(start.config, **task.vocab_sizes, compute_dtype=jnp.float32)

    def loss_fn(params: Any, batch: Any, rng: Any) -> Any:
        return task.loss(model, params, batch, rng)

    if config.train.sentence_avg:
        loss_fn = sentence_average(loss_fn)
    optimizer = make_optimizer(config.optimizer)
    schedule = make_schedule(config.schedule, lr=config.train.lr,
                             max_update=config.train.max_update)
    step = jax.jit(make_train_step(loss_fn, optimizer, schedule, seed=1,
                                   clip_norm=config.train.clip_norm))
    batches = recorded_batches(task.train_dataset(), trace["steps"])
    names = ("loss", "nll_loss", "gnorm", "lr")

    def run(params: Any) -> tuple[dict[str, float], Any]:
        worst = dict.fromkeys(names, 0.0)
        state = new_state(jax.tree.map(jnp.asarray, params), optimizer)
        for recorded, batch in zip(trace["steps"], batches, strict=True):
            state, sums = step(state, batch, recorded["epoch"])
            ours = averages(jax.device_get(sums))
            for name in names:
                if np.isfinite(recorded[name]):
                    worst[name] = max(worst[name], abs(ours[name] / recorded[name] - 1))
        return worst, state.params

    worst, params = run(start.params)
    weights = distance(params, end.params)
    good = max(*worst.values(), weights) < 1e-4
    shown = "  ".join(f"{name} {value:.1e}" for name, value in worst.items())
    line = (f"{'ok  ' if good else 'FAIL'} {folder.name:32} {len(trace['steps'])} updates  "
            f"{shown}  end weights {weights:.1e}")
    if noise:
        rng = np.random.default_rng(0)
        moved = jax.tree.map(
            lambda x: (x * (1 + 6e-8 * rng.choice([-1, 1], x.shape))).astype(np.float32),
            start.params)
        line += f"  one rounding error {distance(params, run(moved)[1]):.1e}"
    print(line, flush=True)
    return good


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
    parser.add_argument("--noise", action="store_true", help="see above; doubles the time")
    args = parser.parse_args()
    results = [check(folder, noise=args.noise) for folder in sorted(args.goldens.glob("trace_*"))]
    raise SystemExit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
