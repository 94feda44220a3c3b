"""What a decoding job is: its inputs, from text or a data folder, and what tells it apart.

It knows the command line's values and loaded models; search and output are others' business.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqjax.config import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be decoded."""

    inputs: list[Any]
    """Texts, or arrays of ids."""
    references: list[np.ndarray] | None = None
    """Target ids of a data folder's split."""
    order: Sequence[int]
    """The order in which `--format fairseq` prints."""
    prefixes: list[np.ndarray] | None = None
    batches: list[list[int]] | None = None
    """fairseq's batches, where results depend on them."""
    constraints: list[list[str]] | None = None
    """Phrases that the outputs of each input must contain."""
    padding: list[int] | None = None
    """On the left of each input in fairseq's batch, where what fairseq prints depends on it."""


def text_job(args: argparse.Namespace, texts: list[str]) -> Job:
    """The lines of a text, with the phrases that follow each of them."""
    from seqjax.tasks import demands

    constraints = None
    if args.constraints:
        texts, constraints = demands.split_lines(texts)
    return Job(inputs=texts, order=range(len(texts)), constraints=constraints)


def data_job(args: argparse.Namespace, model: Any) -> Job:
    """A split of a data folder, printed in the order of fairseq's batches."""
    from seqjax.config import BatchingConfig
    from seqjax.data import planning
    from seqjax.interop import fairseq_output
    from seqjax.tasks.language_modeling import LanguageModelingTask

    if isinstance(model.task, LanguageModelingTask):
        raise ConfigError(
            "--data: a language model continues prompts, which --input has; for its perplexity "
            "on a split see python -m seqjax.evaluate"
        )
    task = dataclasses.replace(
        model.task, config=dataclasses.replace(model.task.config, data=args.data)
    )
    task.check_folder(args.data)
    dataset = task.dataset(args.subset, need_target=False)
    rows = [dataset.sentence(i) for i in range(len(dataset))]
    plan = planning.make_plan(
        dataset.lengths, train=False, seed=1, shuffle_ties=args.subset != "test",
        batching=BatchingConfig(
            mode="fairseq", max_tokens=getattr(args, "max_tokens", 12000),
            max_sentences=getattr(args, "batch_size", None),
            required_batch_size_multiple=args.required_batch_size_multiple,
            skip_invalid_size_inputs_valid_test=False,
        ),
    )
    references = None if dataset.target is None else [row[1] for row in rows]
    size = getattr(args, "prefix_size", 0)
    for flag, wanted in (("--prefix-size", size), ("--score-reference", args.score_reference)):
        if wanted and references is None:
            raise ConfigError(f"{flag} needs targets, which {args.data} has not")
    epoch = plan.epoch(1)
    grouped = [epoch.ids[a:b] for a, b in itertools.pairwise(epoch.bounds.tolist())]
    batches = None
    if getattr(args, "padded_source_len", False):
        batches = [ids.tolist() for ids in grouped]
    padding = None
    turned = model.config.model.name in fairseq_output.TURNED
    if turned and args.print_alignment and args.format == "fairseq":
        padding = _left_padding(grouped, dataset.lengths.source)
    return Job(
        inputs=[row[0] for row in rows], references=references, batches=batches, padding=padding,
        order=_printed_order(grouped, dataset.lengths.source),
        prefixes=[r[:size] for r in references] if size and references else None,
    )


def _printed_order(batches: list[np.ndarray], lengths: np.ndarray) -> list[int]:
    """Sentences batch by batch, each sorted as fairseq's collater sorts it on a CPU."""
    from seqjax.data.introsort import falling_order

    order: list[int] = []
    for ids in batches:  # each by falling length; fairseq sorts what rises
        ids = ids[np.argsort(lengths[ids], kind="stable")]
        order += ids[falling_order(lengths[ids])].tolist()
    return order


def _left_padding(batches: list[np.ndarray], lengths: np.ndarray) -> list[int]:
    """How far each sentence is from the longest of its batch, by its number."""
    padding = np.zeros(len(lengths), np.int64)
    for ids in batches:
        padding[ids] = lengths[ids].max(initial=0) - lengths[ids]
    return padding.tolist()


def fingerprint(args: argparse.Namespace, model: Any, job: Job, options: dict) -> str:
    """One line that tells jobs apart whose results differ."""
    digest = hashlib.sha256()
    for item in job.inputs:
        digest.update((item if isinstance(item, str) else item.tobytes().hex()).encode() + b"\n")
    about = {
        "inputs": digest.hexdigest(), "checkpoint": os.path.abspath(args.checkpoint),
        "which": args.which, "model": model.identity, "dtype": args.dtype,
        "options": {k: options[k] for k in sorted(options)},
    }
    if job.constraints is not None:
        about["constraints"] = [args.constraints, _digest(json.dumps(job.constraints).encode())]
    if args.allowed_outputs:
        with open(args.allowed_outputs, "rb") as file:
            about["allowed"] = _digest(file.read())
    return json.dumps(about, sort_keys=True, default=str)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
