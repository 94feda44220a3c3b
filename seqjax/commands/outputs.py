"""Results as the lines of an output, and the output as a file that is whole or not there.

Results as plain data and the job that they are of go in, lines come out.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seqjax.commands.jobs import Job
from seqjax.config import ConfigError
from seqjax.data import sources
from seqjax.generation.journal import write_whole

if TYPE_CHECKING:  # it imports JAX
    from seqjax.hub.generative import Generative, Hypothesis


def plain_result(h: Hypothesis) -> dict[str, Any]:
    """A hypothesis as JSON can hold it, with what was asked for."""
    result = {"tokens": h.tokens.tolist(), "score": h.score, "text": h.text,
              "positional_scores": [float(x) for x in h.positional_scores]}
    if h.words is not None:
        result["words"] = h.words
    if h.alignment is not None:
        result["alignment"] = h.alignment
    if h.attention is not None:
        result["attention"] = h.attention.tolist()
    if getattr(h, "times", None) is not None:
        result["times"] = [dataclasses.asdict(word) for word in h.times]  # type: ignore[attr-defined]
    return result


def render(
    args: argparse.Namespace, model: Generative, job: Job,
    results: list[list[dict[str, Any]]], *, beam: int,
) -> Iterator[str]:
    """The lines of the output.

    Args:
      beam: as it was searched with, which fairseq's last line says.
    """
    from seqjax.interop.fairseq import output as fairseq_output

    if args.format == "text":
        for hypotheses in results:
            yield sources.one_line(hypotheses[0]["text"]) if hypotheses else ""
    elif args.format == "jsonl":
        for index, hypotheses in enumerate(results):
            source = job.inputs[index]
            text = source if isinstance(source, str) else model.task.decode_source(source)
            asked: dict[str, Any] = {}
            if job.constraints is not None:
                asked["constraints"] = job.constraints[index]
            for name, which in (("skipped", job.skipped), ("truncated", job.truncated)):
                if index in which:
                    asked[name] = which[index]
            yield json.dumps({"id": index, "source": text, **asked, "hypotheses": hypotheses},
                             ensure_ascii=False)
    else:
        for index in job.order:
            reference = None if job.references is None else job.references[index]
            yield from fairseq_output.sentence_lines(
                model.task, index, job.sources[index].ids, reference, results[index],
                post_process=args.post_process, alignment=args.print_alignment,
                constraints=None if job.phrases is None else job.phrases[index],
                padding=None if job.padding is None else job.padding[index],
            )
        if job.references is not None:
            yield fairseq_output.final_line(
                model.task,
                [(job.references[i], results[i][0]) for i in job.order if results[i]],
                subset=args.subset, beam=beam, scoring=args.scoring or "bleu",
                post_process=args.post_process,
            )


def check_output(path: str) -> None:
    """Refuses an output that could not be written, before anything is computed."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise ConfigError(f"--output {path}: is a folder")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError(f"--output {path}: is no file that could be replaced when the output is "
                          "complete; write to stdout (--output -) instead")
    if not os.path.isdir(folder):
        raise ConfigError(f"--output {path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"--output {path}: cannot write to the folder {folder}")


def utf8_stdout() -> None:
    """Text goes out as it came in, whatever the locale."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def write(path: str, lines: Iterator[str]) -> None:
    """All lines, to a file at once or to stdout."""
    if path == "-":
        utf8_stdout()
        for line in lines:
            print(line)
        return
    write_whole(path, (line + "\n" for line in lines))
