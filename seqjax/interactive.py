"""Translate what is typed or piped in, as it comes.

    python -m seqjax.interactive --checkpoint runs/demo
    python -m seqjax.interactive --checkpoint runs/demo --input test.en --buffer-size 64
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from seqjax import cli
from seqjax.config import ConfigError, GenerationConfig
from seqjax.generate import (
    add_demand_flags,
    add_line_flags,
    add_model_flags,
    add_search_flags,
    alignment_options,
    check_can_align,
    check_demand_flags,
    check_line_flags,
    demands_of,
    load_options,
    plain_result,
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m seqjax.interactive", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_flags(parser)
    parser.add_argument("--data", help="folder with the dictionaries of fairseq's .pt files")
    parser.add_argument("--input", default="-", help="file to read; - is stdin (default)")
    parser.add_argument("--buffer-size", type=int, default=1,
                        help="read this many lines before translating them together")
    parser.add_argument("--format", choices=("text", "fairseq"), default="text",
                        help="text: the translation alone. fairseq: S-, W-, C-, H-, D- and P- "
                             "lines")
    add_line_flags(parser)
    add_search_flags(parser)
    add_demand_flags(parser)
    args = parser.parse_args(arguments)
    if args.buffer_size < 1:
        parser.error(f"--buffer-size {args.buffer_size}: it is 1 or more")
    check_line_flags(args, parser)
    check_demand_flags(args, parser)
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    size = args.buffer_size
    batch_size = getattr(args, "batch_size", None)
    if batch_size is not None and batch_size > size:
        raise ConfigError(f"--batch-size {batch_size} is more than --buffer-size {size}")
    if args.input == "-":
        _translate_all(args, sys.stdin, size)
        return
    try:
        file = open(args.input, encoding="utf-8")  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        raise ConfigError(f"--input {args.input}: no such file") from None
    with file:
        _translate_all(args, file, size)


def _translate_all(args: argparse.Namespace, file: TextIO, size: int) -> None:
    from seqjax import hub
    from seqjax.tasks import demands

    aligning = alignment_options(args)
    model = hub.load(args.checkpoint, lm=args.lm_path, **load_options(args))
    check_can_align(model, aligning)
    options = cli.given_fields(args, GenerationConfig)
    model.decoder(**options)  # contradictions show before the first line
    options |= aligning
    asked = demands_of(args, model, None)
    if file.isatty():
        print("Type a sentence and press return; end with ctrl-d.", file=sys.stderr)
    number = 0
    for lines in _buffers(file, size):
        constraints = None
        if args.constraints:
            lines, constraints = demands.split_lines(lines, first=number + 1)
            asked = demands_of(args, model, constraints)
        begun = time.monotonic()
        found = model.generate(lines, **options, **asked)
        seconds = time.monotonic() - begun
        for place, (line, hypotheses) in enumerate(zip(lines, found, strict=True)):
            if args.format == "text":
                print(hypotheses[0].text, flush=True)
            else:
                _print_fairseq(model, number, line, hypotheses, args, seconds / len(lines),
                               None if constraints is None else constraints[place])
            number += 1


def _buffers(file: TextIO, size: int) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in file:
        lines.append(line.rstrip("\n"))
        if len(lines) == size:
            yield lines
            lines = []
    if lines:
        yield lines


def _print_fairseq(
    model: Any, number: int, line: str, hypotheses: list[Any], args: argparse.Namespace,
    seconds: float, constraints: list[str] | None,
) -> None:
    from seqjax.interop import fairseq_output

    plain = [plain_result(h) for h in hypotheses]
    for text in fairseq_output.sentence_lines(
        model.task, number, line, None, plain, post_process=args.post_process,
        timing=f"{seconds:.3f}\tseconds", constraints=constraints,
        alignment=args.print_alignment,
    ):
        print(text, flush=True)


if __name__ == "__main__":
    cli.run(main)
