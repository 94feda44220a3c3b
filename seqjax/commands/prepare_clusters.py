"""HuBERT's labels: `python -m seqjax.preprocess features | kmeans | labels`.

    python -m seqjax.preprocess features data/train.tsv --dest mfcc
    python -m seqjax.preprocess kmeans mfcc --split train --clusters 100 --dest mfcc/km.npy
    python -m seqjax.preprocess labels mfcc --split train --kmeans mfcc/km.npy --dest data
    python -m seqjax.preprocess features data/train.tsv --dest layer6 --checkpoint runs/hubert1 \\
        --layer 6

Manifests in; shards of features, centres, `.km` and `dict.km.txt` out. A command that is killed
goes on where it was. docs/speech.md leads through both iterations of the recipe.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seqjax import cli
from seqjax.config import ConfigError
from seqjax.data import whole_files
from seqjax.data.audio import clustering
from seqjax.data.audio.shards import Shards, part

if TYPE_CHECKING:  # it imports JAX
    from seqjax.hub.speech import Speech

_HOUR = 3600


def features_parser() -> argparse.ArgumentParser:
    """The command line of `features`."""
    parser = cli.Parser(
        prog="python -m seqjax.preprocess features", allow_abbrev=False,
        description="Features of every recording of a manifest, in shards: MFCCs with deltas, or "
                    "the states of a layer of a model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("manifest", metavar="SPLIT.tsv")
    add("--dest", required=True, metavar="FOLDER", help="where the shards go")
    add("--checkpoint", metavar="PATH", help="a run or .pt whose states are the features, instead "
        "of MFCCs")
    add("--layer", type=int, metavar="N", help="of --checkpoint: the output of which layer, from 1")
    add("--sample-rate", type=int, default=16000, metavar="N", help="of MFCCs; a model has its own")
    add("--shards", type=int, metavar="N", help="how many (default: one for each hour of sound)")
    add("--shard", type=int, metavar="I", help="make this one alone, from 0: several computers "
        "share the work")
    return parser


def kmeans_parser() -> argparse.ArgumentParser:
    """The command line of `kmeans`."""
    parser = cli.Parser(
        prog="python -m seqjax.preprocess kmeans", allow_abbrev=False,
        description="Clusters of features, by scikit-learn's k-means of mini-batches.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("features", metavar="FOLDER", help="that preprocess features made")
    add("--split", default="train", metavar="SPLIT")
    add("--clusters", type=int, required=True, metavar="K", help="100 of MFCCs, 500 of a layer")
    add("--dest", required=True, metavar="FILE.npy", help="where the centres go")
    add("--percent", type=float, default=-1.0, metavar="SHARE",
        help="share of the recordings that are looked at, in (0, 1]; -1: all")
    add("--seed", type=int, default=0, metavar="N")
    add("--n-init", type=int, default=20, metavar="N", help="beginnings that are tried")
    return parser


def labels_parser() -> argparse.ArgumentParser:
    """The command line of `labels`."""
    parser = cli.Parser(
        prog="python -m seqjax.preprocess labels", allow_abbrev=False,
        description="The cluster of every frame: SPLIT.KIND and dict.KIND.txt.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("features", metavar="FOLDER", help="that preprocess features made")
    add("--split", default="train", metavar="SPLIT")
    add("--kmeans", required=True, metavar="FILE.npy", help="that preprocess kmeans made")
    add("--dest", required=True, metavar="FOLDER", help="where the manifests are")
    add("--kind", default="km", metavar="KIND", help="end of the file's name")
    return parser


def features_main(argv: Sequence[str] | None = None) -> int:
    """Runs `features`; gives the exit status."""
    args = features_parser().parse_args(argv)
    if (args.layer is None) != (args.checkpoint is None):
        raise ConfigError("--checkpoint and --layer go together")
    from seqjax.data.audio.manifests import AudioManifest

    manifest = AudioManifest.read(args.manifest)
    about, rate, compute = _how(args)
    hours = int(manifest.frames.sum()) / rate / _HOUR
    count = args.shards or max(1, round(hours))
    if not 1 <= count <= len(manifest) or not 0 <= (args.shard or 0) < count:
        raise ConfigError(f"--shards {count}, --shard {args.shard}: there are {len(manifest)} "
                          "recordings; shards are counted from 0")
    split = os.path.splitext(os.path.basename(args.manifest))[0]
    shards = Shards(folder=args.dest, split=split, count=count)
    shards.begin({**about, "recordings": len(manifest), "list": manifest.digest})
    progress = cli.Progress(len(manifest), unit="recordings")
    for shard in range(count) if args.shard is None else (args.shard,):
        places = part(len(manifest), shard=shard, shards=count)
        if not shards.done(shard):
            shards.write(shard, compute(manifest, places))
        progress.add(len(places))
    progress.close()
    print(f"{args.dest}: {split}, {len(manifest)} recordings in {count} shards")
    return 0


Compute = Callable[[Any, Sequence[int]], list[np.ndarray]]
"""(manifest, places in it) -> features [T, D] of each recording."""


def _how(args: argparse.Namespace) -> tuple[dict[str, Any], int, Compute]:
    """What is computed, samples in a second, and how it is computed."""
    if args.checkpoint is None:
        rate = args.sample_rate
        return ({"features": "mfcc", "sample_rate": rate}, rate,
                lambda manifest, places: _mfcc(manifest, places, rate))
    from seqjax import hub
    from seqjax.hub.speech import Speech

    model = hub.load(args.checkpoint, quiet=True)
    if not isinstance(model, Speech):
        raise ConfigError(f"--checkpoint {args.checkpoint}: is no model of waveforms")
    about = {"features": f"layer {args.layer}", "checkpoint": model.identity}

    def compute(manifest: Any, places: Sequence[int]) -> list[np.ndarray]:
        return _states(model, manifest, places, layer=args.layer)

    return about, model.task.config.sample_rate, compute


def _samples(manifest: Any, places: Sequence[int], rate: int) -> list[np.ndarray]:
    """Samples of recordings; errors name their lines."""
    from seqjax.data.audio.reading import AudioError, Reading, in_parallel, read_samples

    reading = Reading(sample_rate=rate, resample=True)

    def one(place: int) -> np.ndarray:
        try:
            return read_samples(manifest.file(place), reading, said=int(manifest.frames[place]))
        except AudioError as error:
            raise error.at(manifest.place(place)) from None

    return in_parallel(one, list(places), reading.threads)


def _mfcc(manifest: Any, places: Sequence[int], rate: int) -> list[np.ndarray]:
    import jax

    from seqjax.data.audio.filterbank import hubert_mfcc
    from seqjax.hub import waveforms

    rows = _samples(manifest, places, rate)
    found: list[Any] = [None] * len(rows)
    run = jax.jit(lambda samples, lengths: hubert_mfcc(samples, lengths, rate))
    for some, samples, real in waveforms.batches(rows):
        values, frames = run(samples, real.sum(axis=1, dtype=np.int32))
        values, frames = np.asarray(values), np.asarray(frames)
        for row, place in enumerate(some):
            found[place] = values[row, :frames[row]]
    return found


def _states(
    model: Speech, manifest: Any, places: Sequence[int], *, layer: int
) -> list[np.ndarray]:
    rows = _samples(manifest, places, model.task.config.sample_rate)
    least = model.models[0].receptive_field
    long = [i for i, row in enumerate(rows) if len(row) >= least]
    states = model.extract_features([rows[i] for i in long], layer=layer) if long else []
    width = states[0].shape[1] if states else model.models[0].config.encoder_embed_dim
    found = [np.zeros((0, width), np.float32)] * len(rows)  # of those without a frame
    for i, values in zip(long, states, strict=True):
        found[i] = values
    return found


def kmeans_main(argv: Sequence[str] | None = None) -> int:
    """Runs `kmeans`; gives the exit status."""
    args = kmeans_parser().parse_args(argv)
    if args.clusters < 1 or args.n_init < 1:
        raise ConfigError("--clusters, --n-init: they are 1 or more")
    if not (args.percent < 0 or 0 < args.percent <= 1):
        raise ConfigError(f"--percent {args.percent}: a share in (0, 1], or -1 for all")
    if not args.dest.endswith(".npy"):
        raise ConfigError(f"--dest {args.dest}: name a file that ends in .npy")
    shards = Shards.find(args.features, args.split)
    if os.path.isfile(args.dest):
        if len(clustering.load_centres(args.dest)) != args.clusters:
            raise ConfigError(f"--dest {args.dest}: other centres are there; name another file")
        print(f"{args.dest}: is there already", file=sys.stderr)
        return 0
    frames = clustering.sample(shards, percent=args.percent, seed=args.seed)
    centres = clustering.learn(frames, clusters=args.clusters, seed=args.seed,
                               restarts=args.n_init)
    clustering.save_centres(args.dest, centres)
    near = frames[:: max(len(frames) // 100_000, 1)]
    lost = ((near - centres[clustering.nearest(near, centres)]) ** 2).sum(1).mean()
    print(f"{args.dest}: {args.clusters} clusters of {len(frames)} frames, mean squared distance "
          f"{lost:.4g}")
    return 0


def labels_main(argv: Sequence[str] | None = None) -> int:
    """Runs `labels`; gives the exit status."""
    args = labels_parser().parse_args(argv)
    if not os.path.isdir(args.dest):
        raise ConfigError(f"--dest {args.dest}: no such folder")
    shards, centres = Shards.find(args.features, args.split), clustering.load_centres(args.kmeans)
    lines: list[str] = []
    for shard in range(shards.count):
        frames, starts = shards.read(shard)
        if frames.shape[1] != centres.shape[1]:
            raise ConfigError(f"--kmeans {args.kmeans}: centres of {centres.shape[1]} features, "
                              f"but frames in {args.features} have {frames.shape[1]}")
        found = clustering.nearest(frames, centres).astype(str)
        lines += [" ".join(found[a:b]) + "\n"
                  for a, b in zip(starts[:-1], starts[1:], strict=True)]
    path = os.path.join(args.dest, f"{args.split}.{args.kind}")
    whole_files.write(path, "".join(lines).encode())
    symbols = "".join(f"{i} 1\n" for i in range(len(centres)))
    whole_files.write(os.path.join(args.dest, f"dict.{args.kind}.txt"), symbols.encode())
    print(path)
    return 0
