"""What a decoding job is: its inputs, from text or a data folder, and what tells it apart.

The command line's values and loaded models go in; inputs as text and ids come out, to be
searched, and a fingerprint to go on by.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seqjax import models
from seqjax.commands.flags import decodes_blank, search_options
from seqjax.config import ConfigError
from seqjax.generation.errors import InputError

if TYPE_CHECKING:  # they import JAX
    from seqjax.generation.decoder import Decoder
    from seqjax.hub.generative import Generative
    from seqjax.hub.inputs import Rules, Selection
    from seqjax.tasks.inputs import Encoded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be decoded."""

    inputs: list[Any]
    """Texts, or arrays of ids."""
    name: str
    """What messages call number {} of them, counted from 1."""
    rules: Rules
    """What becomes of blank inputs and of those that are too long."""
    sources: list[Encoded] = dataclasses.field(default_factory=list)
    """The inputs as the model reads them (`prepared`)."""
    references: list[np.ndarray] | None = None
    """Target ids of a data folder's split."""
    order: Sequence[int]
    """The order in which `--format fairseq` prints."""
    prefixes: list[np.ndarray] | None = None
    batches: list[list[int]] | None = None
    """fairseq's batches, where results depend on them."""
    constraints: list[list[str]] | None = None
    """Phrases that the outputs of each input must contain."""
    phrases: list[list[np.ndarray]] | None = None
    """The same as ids (`prepared`)."""
    skipped: dict[int, str] = dataclasses.field(default_factory=dict)
    """Inputs that are left out (`prepared`) -> why."""
    truncated: dict[int, str] = dataclasses.field(default_factory=dict)
    """Inputs that are cut (`prepared`) -> why."""
    blank: list[int] = dataclasses.field(default_factory=list)
    """Inputs whose output is blank (`prepared`)."""
    padding: list[int] | None = None
    """On the left of each input in fairseq's batch, where what fairseq prints depends on it."""

    @contextlib.contextmanager
    def naming(self, numbers: Sequence[int] | None = None) -> Iterator[None]:
        """Errors about an input name it as the user knows it.

        Args:
          numbers: of the inputs in a call (default: all).

        Raises:
          ConfigError: instead of an `InputError`.
        """
        try:
            yield
        except InputError as error:
            number = error.index if numbers is None else numbers[error.index]
            raise ConfigError(error_line(error, self.name.format(number + 1))) from None

    def summary(self) -> list[str]:
        """Lines about inputs that were not decoded as they are, or not as they look."""
        from seqjax.tasks.inputs import decomposed_note

        found = decomposed_note([self.name.format(i + 1) for i, source in enumerate(self.sources)
                                 if source.decomposed])
        for which, what in ((self.skipped, "were too long and are left out, their output is "
                             "empty"), (self.truncated, "were too long and have been cut")):
            if which:
                first = min(which)
                found.append(f"{len(which)} of {len(self.inputs)} inputs {what} (the first: "
                             f"{self.name.format(first + 1)} {which[first]})")
        return found


def error_line(error: InputError, name: str) -> str:
    """What is wrong with an input, and which option helps."""
    from seqjax.hub.inputs import TooLongError

    if isinstance(error, TooLongError):
        return (f"{error.named(name)}: --too-long truncate cuts it, --too-long skip leaves its "
                "output empty")
    return error.named(name)


def rules_of(args: argparse.Namespace) -> Rules:
    """What becomes of blank inputs and of those that are too long."""
    from seqjax.hub.inputs import Rules

    return Rules(too_long=args.too_long, decode_blank=decodes_blank(args))


def prepared(
    job: Job, model: Generative, decoder: Decoder, *, score: bool = False
) -> Job:
    """The job with its inputs tokenised, and sorted before anything is computed.

    Args:
      decoder: `model.decoder(**options)`.
      score: the references are to be scored.

    Raises:
      ConfigError: an input that cannot be decoded, by its name.
    """
    from seqjax.tasks import output_constraints

    sources = [model.encoded(x) for x in job.inputs]
    phrases = None
    if job.constraints is not None:
        phrases = output_constraints.phrase_ids(model.task, job.constraints)
    with job.naming():
        if score:
            chosen = pairs_to_score(job, model, sources)
        else:
            chosen = model.select(sources, decoder=decoder, rules=job.rules,
                                  prefixes=job.prefixes, constraints=phrases)
    return dataclasses.replace(job, sources=sources, phrases=phrases, skipped=chosen.skipped,
                               truncated=chosen.truncated, blank=chosen.blank)


def pairs_to_score(job: Job, model: Generative, sources: Sequence[Encoded]) -> Selection:
    """The pairs whose references are scored."""
    from seqjax.hub.inputs import select_pairs

    assert job.references is not None
    limits = (min(m.max_source_positions for m in model.models),
              min(m.max_target_positions for m in model.models))
    return select_pairs([x.ids for x in sources], job.references, limits=limits,
                        frames=(model.task.source_frame, model.task.target_frame),
                        rules=job.rules)


def text_job(args: argparse.Namespace, texts: list[str]) -> Job:
    """The lines of a text, with the phrases that follow each of them."""
    from seqjax.tasks import output_constraints

    constraints, name = None, line_name(args.input)
    if args.constraints:
        texts, constraints = output_constraints.split_lines(texts, name=name)
    return Job(inputs=texts, order=range(len(texts)), constraints=constraints, name=name,
               rules=rules_of(args))


def line_name(path: str | None) -> str:
    """What messages call a line of a file."""
    shown = "stdin" if path in (None, "-") else str(path).replace("{", "{{").replace("}", "}}")
    return shown + ", line {}"


def data_job(args: argparse.Namespace, model: Generative) -> Job:
    """A split of a data folder, printed in the order of fairseq's batches."""
    from seqjax.config import BatchingConfig
    from seqjax.data import planning

    split = model.split(args.data, args.subset)
    settings = model.settings(references=True, **search_options(args, model))
    rules = rules_of(args)
    skips = rules.too_long == "skip" and args.format == "fairseq"  # left out, as in fairseq
    limits = split.limits if skips else (None, None)
    plan = planning.make_plan(
        split.lengths, train=False, seed=1,
        shuffle_ties=args.subset != "test" or model.task.shuffles_test,
        max_source_positions=limits[0], max_target_positions=limits[1],
        batching=BatchingConfig(
            mode="fairseq", max_tokens=settings.max_tokens, max_sentences=settings.batch_size,
            required_batch_size_multiple=args.required_batch_size_multiple,
            skip_invalid_size_inputs_valid_test=skips,
        ),
    )
    references = split.references
    size = settings.prefix_size
    for flag, wanted in (("--prefix-size", size), ("--score-reference", args.score_reference)):
        if wanted and references is None:
            raise ConfigError(f"{flag} needs targets, which {args.data} has not")
    epoch = plan.epoch(1)
    grouped = [epoch.ids[a:b] for a, b in itertools.pairwise(epoch.bounds.tolist())]
    batches = None
    if settings.padded_source_len:
        batches = [ids.tolist() for ids in grouped]
    padding, lengths = None, split.lengths.source
    assert lengths is not None
    turned = models.family(model.config.model.name).turns_padding
    if turned and args.print_alignment and args.format == "fairseq":
        padding = _left_padding(grouped, lengths)
    name = f"{args.data}, {args.subset}, sentence ".replace("{", "{{").replace("}", "}}") + "{}"
    return Job(
        name=name, rules=rules,
        inputs=split.inputs, references=references, batches=batches, padding=padding,
        order=_printed_order(grouped, lengths),
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


def fingerprint(args: argparse.Namespace, model: Generative, job: Job, options: dict) -> str:
    """One line that tells jobs apart whose results differ."""
    digest = hashlib.sha256()
    for item in job.inputs:
        digest.update((item if isinstance(item, str) else item.tobytes().hex()).encode() + b"\n")
    about = {
        "inputs": digest.hexdigest(), "checkpoint": os.path.abspath(args.checkpoint),
        "which": args.which, "model": model.identity, "dtype": args.dtype,
        "options": {k: options[k] for k in sorted(options)},
        "rules": dataclasses.asdict(job.rules),
    }
    if job.constraints is not None:
        about["constraints"] = [args.constraints, _digest(json.dumps(job.constraints).encode())]
    if args.source_lang or args.target_lang:
        about["languages"] = model.task.languages
    if args.allowed_outputs:
        with open(args.allowed_outputs, "rb") as file:
            about["allowed"] = _digest(file.read())
    return json.dumps(about, sort_keys=True, default=str)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
