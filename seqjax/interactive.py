"""Translate what is typed or piped in, as it comes.

    python -m seqjax.interactive --checkpoint runs/demo
    python -m seqjax.interactive --checkpoint runs/demo --input test.en --buffer-size 64

Of a model of speech the lines are paths of recordings.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from seqjax import cli
from seqjax.commands import fairseq, flags, outputs
from seqjax.commands.jobs import error_line, line_name
from seqjax.config import ConfigError, GenerationConfig
from seqjax.console import compiling
from seqjax.data import compression, sources
from seqjax.generation.errors import InputError

if TYPE_CHECKING:  # they import JAX, or numpy
    import numpy as np

    from seqjax.hub.generative import Generative, Hypothesis
    from seqjax.tasks.inputs import Encoded


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(prog="python -m seqjax.interactive", description=__doc__,
                        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_model_flags(parser)
    parser.add_argument("--data", help="folder with the dictionaries of fairseq's .pt files")
    parser.add_argument("--input", default="-", help="file to read; - is stdin (default)")
    parser.add_argument("--buffer-size", type=int, default=1,
                        help="read this many lines before translating them together")
    parser.add_argument("--format", choices=("text", "fairseq"), default="text",
                        help="text: the translation alone. fairseq: S-, W-, C-, H-, D- and P- "
                             "lines")
    flags.add_line_flags(parser)
    flags.add_generation_flags(parser)
    args = fairseq.parse(parser, arguments, command="I")
    if args.buffer_size < 1:
        parser.error(f"--buffer-size {args.buffer_size}: it is 1 or more")
    flags.check_generation_flags(args, parser)
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    size = args.buffer_size
    batch_size = cli.asked_fields(args, GenerationConfig).batch_size
    if batch_size is not None and batch_size > size:
        raise ConfigError(f"--batch-size {batch_size} is more than --buffer-size {size}")
    if args.input == sources.STDIN:
        _translate_all(args, sources.stdin_bytes(), size)
        return
    sources.require_file(args.input)
    with compression.open_bytes(args.input) as file, compression.explained(args.input):
        _translate_all(args, file, size)


def _translate_all(args: argparse.Namespace, file: Any, size: int) -> None:
    aligning = flags.alignment_options(args)
    model = flags.load_generative(args)
    options = flags.search_options(args, model)
    model.decoder(**options)  # contradictions show before the first line
    fairseq.say_loaded(args, model, options)
    constraints = flags.output_constraints(args, model, None)
    options |= {**aligning, **constraints, "too_long": args.too_long,
                "decode_blank": flags.decodes_blank(args)}
    session = Session(args=args, model=model, options=options)
    outputs.utf8_stdout()
    if file.isatty() and not args.quiet:
        print("Type a sentence and press return; end with ctrl-d.", file=sys.stderr)
    name = "stdin" if args.input == sources.STDIN else args.input
    for lines in _buffers(sources.stream_lines(file, name=name), size):
        session.translate(lines)
    for line in session.summary():
        print(line, file=sys.stderr)


def _buffers(stream: Iterator[str], size: int) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if len(lines) == size:
            yield lines
            lines = []
    if lines:
        yield lines


@dataclasses.dataclass(kw_only=True)
class Session:
    """Lines that come one after the other. A line that cannot be decoded gets a message and
    an empty output; the next one is none the worse for it."""

    args: argparse.Namespace
    model: Generative
    options: dict[str, Any]
    number: int = 0
    """Lines so far."""
    left_out: int = 0
    """Of them, those with an empty output for what is wrong with them."""
    decomposed: list[str] = dataclasses.field(default_factory=list)
    """Names of those with unknown words in decomposed text."""

    def translate(self, lines: Sequence[str]) -> None:
        """Decodes and prints some lines."""
        begun = time.monotonic() - compiling.seconds()
        wrong: dict[int, str] = {}
        texts, phrases = self._parts(lines, wrong)
        inputs = [self._encoded(place, text, wrong) for place, text in enumerate(texts)]
        self.decomposed += [self._name(i) for i, x in enumerate(inputs) if x.decomposed]
        found = self._decode(inputs, phrases, wrong)
        seconds = (time.monotonic() - compiling.seconds() - begun) / len(lines)
        for place, hypotheses in enumerate(found):
            if place in wrong:
                print(f"{wrong[place]}; its output is empty", file=sys.stderr, flush=True)
            self.left_out += not hypotheses
            if self.args.format == "text":
                print(sources.one_line(hypotheses[0].text) if hypotheses else "", flush=True)
            else:
                self._print_fairseq(inputs[place], hypotheses, seconds,
                                    None if phrases is None else phrases[place])
            self.number += 1

    def _encoded(self, place: int, text: str, wrong: dict[int, str]) -> Encoded:
        """A line as the model reads it; of a recording that cannot be heard, nothing."""
        import numpy as np

        from seqjax.data.audio.reading import AudioError
        from seqjax.tasks.inputs import Encoded

        try:
            return self.model.encoded(text)
        except AudioError as error:
            wrong[place] = f"{self._name(place)}: {error}"
            return Encoded(ids=np.zeros(0, np.float32))

    def summary(self) -> list[str]:
        """What is said at the end."""
        from seqjax.tasks.inputs import decomposed_note

        notes = decomposed_note(self.decomposed)
        if not self.left_out:
            return notes
        return [*notes, f"{self.left_out} of {self.number} lines were left out, their output is "
                "empty"]

    def _name(self, place: int) -> str:
        return line_name(self.args.input).format(self.number + place + 1)

    def _parts(
        self, lines: Sequence[str], wrong: dict[int, str]
    ) -> tuple[list[str], list[list[np.ndarray]] | None]:
        """Sources, and the ids of the phrases that follow each of them."""
        from seqjax.tasks import output_constraints

        if not self.args.constraints:
            return list(lines), None
        texts, phrases = [""] * len(lines), [[]] * len(lines)
        for place, line in enumerate(lines):
            try:
                (texts[place],), (phrases[place],) = output_constraints.split_lines(
                    [line], first=self.number + place + 1, name=line_name(self.args.input))
            except ConfigError as error:
                wrong[place] = str(error)
        return texts, output_constraints.phrase_ids(self.model.task, phrases)

    def _decode(
        self, inputs: Sequence[Encoded], phrases: list[list[np.ndarray]] | None,
        wrong: dict[int, str],
    ) -> list[list[Hypothesis]]:
        """Hypotheses of each input; what is wrong with some is found before any is decoded."""
        found: list[list[Hypothesis]] = [[] for _ in inputs]
        while True:
            live = [i for i in range(len(inputs)) if i not in wrong]
            options = dict(self.options)
            if phrases is not None:
                options |= {"constraints": [phrases[i] for i in live],
                            "constraint_order": self.args.constraints}
            try:
                results = self.model.generate([inputs[i] for i in live], **options)
            except InputError as error:
                place = live[error.index]
                wrong[place] = error_line(error, self._name(place))
                continue
            for place, hypotheses in zip(live, results, strict=True):
                found[place] = hypotheses
            return found

    def _print_fairseq(
        self, source: Encoded, hypotheses: list[Hypothesis], seconds: float,
        phrases: list[np.ndarray] | None,
    ) -> None:
        from seqjax.interop.fairseq import output as fairseq_output

        plain = [outputs.plain_result(h) for h in hypotheses]
        for text in fairseq_output.sentence_lines(
            self.model.task, self.number, source.ids, None, plain,
            post_process=self.args.post_process, timing=f"{seconds:.3f}\tseconds",
            constraints=phrases, alignment=self.args.print_alignment,
        ):
            print(text, flush=True)


if __name__ == "__main__":
    cli.run(main)
