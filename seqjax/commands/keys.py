"""`python -m seqjax.convert keys`: a checkpoint's name goes in, its tensors come out on stdout,
one a line, with the parameters that they become."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from seqjax import checkpoints, cli, hub, tasks
from seqjax.config import ConfigError
from seqjax.interop import listing
from seqjax.interop.fairseq.checkpoint import describe, plan_of
from seqjax.interop.fairseq.files import is_pt
from seqjax.interop.fairseq.folder import check_dictionaries
from seqjax.interop.fairseq.optimizer_state import in_module_order
from seqjax.interop.huggingface import places, weights
from seqjax.interop.huggingface.files import read_config, read_tensors
from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.pickle_machine import CheckpointError
from seqjax.interop.weights import to_state

DESCRIPTION = """Every tensor of a checkpoint, its type and shape, the parameter that it becomes
and how, or why it becomes none; of a folder of ours, what fairseq is given for it.
Lines that begin with ! do not fit the model: the exit status is 1 then, and 2 where the
model is not one that is known."""


def main(words: Sequence[str]) -> int:
    """Prints the table; returns the exit status."""
    parser = cli.Parser(prog="python -m seqjax.convert keys", description=DESCRIPTION,
                        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="model.pt, a folder of Hugging Face's or hf:org/name, or a "
                                       "work folder or checkpoint of ours")
    parser.add_argument("--which", choices=("best", "last"),
                        help="of a work folder, which checkpoint (default best)")
    parser.add_argument("--json", action="store_true",
                        help="a JSON object a line, with the table's columns as keys")
    args = parser.parse_args(list(words))
    error = None
    args.source = places.resolve(args.source)
    others = is_pt(args.source) or places.is_folder(args.source)
    if others and args.which:
        raise ConfigError(f"--which is for a work folder; {args.source} is one checkpoint")
    if is_pt(args.source):
        found, error = _of_file(args.source)
    elif others:
        found, error = _of_huggingface(args.source)
    else:
        found = _of_folder(args.source, which=args.which or "best")
    if args.json:
        for row in listing.plain(found):
            print(json.dumps(row))
    else:
        for line in listing.lines(found):
            print(line)
    sys.stdout.flush()
    print(listing.totals(found), file=sys.stderr)
    if error is not None:
        print(f"error: {args.source}: {error}", file=sys.stderr)
        return 2
    return int(not all(row.fits for row in found))


def _of_file(path: str) -> tuple[list[listing.Row], Exception | None]:
    """Rows of a `.pt`, and why there is no model to compare them with, if there is none."""
    tree = read_pt(path)
    if not isinstance(tree, Mapping) or not isinstance(tree.get("model"), Mapping):
        raise CheckpointError(f"{path}: not a fairseq checkpoint: it has no `model`")
    weights: Mapping[str, Any] = tree["model"]
    try:
        stored = describe(tree)
        return listing.rows(weights, stored.state, stored.plan(), kept=stored.kept), None
    except (ConfigError, CheckpointError) as error:
        return listing.unplanned(weights), error


def _of_huggingface(path: str) -> tuple[list[listing.Row], Exception | None]:
    """Rows of a folder of Hugging Face's, as those of a `.pt`."""
    tensors = read_tensors(path)
    try:
        stored = weights.describe(read_config(path), tensors)
        return listing.rows(tensors, stored.state, stored.plan), None
    except (ConfigError, CheckpointError) as error:
        return listing.unplanned(tensors), error


def _of_folder(path: str, *, which: str) -> list[listing.Row]:
    """Rows of what a folder of ours is to fairseq."""
    folder = checkpoints.find(path, which=which)
    config = hub.resolve(checkpoints.read_config(folder))
    task = tasks.from_assets(config, checkpoints.read_assets(folder))
    check_dictionaries(task, path)
    plan = plan_of(config.model, **task.vocab_sizes)
    state = to_state(checkpoints.read_params(folder, verify=False), plan)
    state = in_module_order(state, plan)
    return listing.rows(state, state, plan)
