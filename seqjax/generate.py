"""Decode a file, or a split of a data folder, with a trained model.

    python -m seqjax.generate --checkpoint runs/demo --input test.en --output test.hyp.de
    python -m seqjax.generate --checkpoint runs/demo --input - --output - --format jsonl
    python -m seqjax.generate --checkpoint runs/demo --data data-bin --subset test --format fairseq
    ls *.wav | python -m seqjax.generate --checkpoint runs/asr --input -    # paths of recordings

Plain text comes out detokenised and in the order of the input. A job that is killed goes
on where it was when it is started again: finished sentences are kept beside the output,
in OUTPUT.part, until the output is complete.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from seqjax import cli, locking, signals
from seqjax.commands import fairseq, flags
from seqjax.commands.jobs import Job, data_job, fingerprint, pairs_to_score, prepared, text_job
from seqjax.commands.outputs import check_output, plain_result, render, write
from seqjax.config import GenerationConfig
from seqjax.data import sources
from seqjax.generation.journal import Journal

if TYPE_CHECKING:  # they import JAX
    from seqjax.hub.generative import Generative
    from seqjax.hub.translator import Translator

FORMATS = ("text", "jsonl", "fairseq")
SCORERS = ("bleu", "chrf", "sacrebleu", "ter")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(prog="python -m seqjax.generate", description=__doc__,
                        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_model_flags(parser)
    parser.add_argument("--input", help="text to decode, one sentence a line; - is stdin")
    parser.add_argument("--data", help="data folder to decode a split of, instead of --input; "
                                       "with --input, the dictionaries of fairseq's .pt files")
    parser.add_argument("--subset", "--gen-subset", help="split of --data (default test)")
    parser.add_argument("--output", help="file to write; - is stdout (default)")
    parser.add_argument("--results-path", metavar="FOLDER",
                        help="fairseq's name of --output FOLDER/generate-SUBSET.txt")
    parser.add_argument("--format", choices=FORMATS,
                        help="text: the best translation, detokenised. jsonl: n-best with "
                             "scores. fairseq: S-, T-, H-, D- and P- lines (default: text)")
    flags.add_line_flags(parser)
    parser.add_argument("--timestamps", action="store_true",
                        help="jsonl: when words are said, in seconds, of recognisers by CTC")
    group = parser.add_argument_group("with --data and --format fairseq")
    group.add_argument("--scoring", choices=SCORERS,
                       help="what the last line says (default bleu)")
    group.add_argument("--sacrebleu", action="store_const", const="sacrebleu", dest="scoring",
                       help="the same as --scoring sacrebleu")
    group.add_argument("--score-reference", action="store_true",
                       help="score the split's targets instead of decoding")
    group.add_argument("--required-batch-size-multiple", type=int, metavar="N",
                       help="of fairseq's batches, in whose order is printed (default 8)")
    flags.add_generation_flags(parser)
    args = fairseq.parse(parser, arguments, command="G")
    args.format = args.format or "text"
    _results_path(args, parser)
    _check_flags(args, parser)
    flags.check_generation_flags(args, parser)
    args.subset = args.subset or "test"
    args.required_batch_size_multiple = args.required_batch_size_multiple or 8
    return args


def _results_path(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.results_path is None:
        args.output = args.output or "-"
        return
    if args.output is not None:
        parser.error("--results-path and --output are two places for one output: keep one")
    os.makedirs(args.results_path, exist_ok=True)
    args.output = os.path.join(args.results_path, f"generate-{args.subset or 'test'}.txt")


def _check_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.input is None and args.data is None:
        parser.error("give either --input FILE or --data FOLDER")
    if args.input is not None and args.data is not None and not any(
        os.path.isfile(path) or path.endswith(".pt") for path in args.checkpoint.split(os.pathsep)
    ):
        parser.error("give either --input FILE or --data FOLDER (both only for a .pt of fairseq, "
                     "whose dictionaries are in --data)")
    if args.input is not None and args.score_reference:
        parser.error("--score-reference needs targets: --data FOLDER instead of --input "
                     "(seqjax.load(...).score takes texts)")
    if args.input is not None and args.subset:
        parser.error("--subset is of --data; with --input there are no splits")
    multiple = args.required_batch_size_multiple
    if multiple is not None:
        if multiple < 1:
            parser.error(f"--required-batch-size-multiple {multiple}: it is 1 or more")
        if args.input is not None or (
            args.format != "fairseq"
            and not cli.asked_fields(args, GenerationConfig).padded_source_len
        ):
            parser.error("--required-batch-size-multiple: only --data with --format fairseq, or "
                         "with --padded-source-len, has fairseq's batches")
    if args.constraints and args.input is None:
        parser.error("--constraints needs --input: phrases follow the source, after tabs")
    if args.score_reference and (args.constraints or args.allowed_outputs or args.lm_path):
        parser.error("--score-reference searches nothing: leave out --constraints, "
                     "--allowed-outputs and --lm-path")
    if args.score_reference and args.replace_unk:
        parser.error("--replace-unk: with --score-reference nothing is generated in which words "
                     "could be unknown")
    if args.timestamps and args.format != "jsonl":
        parser.error("--timestamps is for --format jsonl, which shows them")
    if args.scoring and (args.format != "fairseq" or args.input is not None):
        parser.error("--scoring is for --data with --format fairseq; python -m seqjax.score "
                     "judges files of text")


def main(arguments: Sequence[str] | None = None) -> None:
    words = list(sys.argv[1:] if arguments is None else arguments)
    args = parse(words)
    command = shlex.join(["python", "-m", "seqjax.generate", *words])
    if args.output == "-":
        _run(args)
        return
    check_output(args.output)
    if os.path.exists(args.output) and not args.quiet:
        print(f"{args.output}: exists, and is replaced when this job is done", file=sys.stderr)
    # Two jobs on one output would mix their lines in OUTPUT.part.
    with (
        locking.hold(locking.output_lock(args.output), what=f"--output {args.output}"),
        signals.advice(f"finished sentences are kept in {args.output}.part; to go on: {command}"),
    ):
        _run(args)


def _run(args: argparse.Namespace) -> None:
    """The job, once nobody else works on its output."""
    texts = None if args.input is None else sources.read_text(args.input)

    aligning = flags.alignment_options(args)
    model = flags.load_generative(args)  # JAX is imported once the cheap checks have passed
    options = flags.search_options(args, model)
    fairseq.say_loaded(args, model, options)
    job = text_job(args, texts) if texts is not None else data_job(args, model)
    if job.padding is not None:
        aligning["alignment"] = "soft"  # to be read as fairseq reads it
    decoder = model.decoder(references=job.references is not None, **options)
    if args.score_reference:
        _say_what_scoring_needs_not(options)
    job = prepared(job, model, decoder, score=args.score_reference)
    constraints = flags.output_constraints(args, model, job.phrases)
    options |= aligning
    journal = None
    # fairseq's batches, padding and all, are decoded whole or not at all.
    if args.output != "-" and not args.score_reference and job.batches is None:
        journal = Journal.open(
            args.output + ".part", header=fingerprint(args, model, job, options),
            total=len(job.inputs))
    try:
        if args.score_reference:
            results = _score(cast("Translator", model), job, aligning.get("alignment"), options)
        else:
            results = _decode(model, job, {**options, **constraints}, journal, quiet=args.quiet)
    finally:
        if journal is not None:
            journal.close()
    lines = render(args, model, job, results, beam=decoder.config.beam)
    if args.quiet and args.format == "fairseq":
        lines = iter(list(lines)[-1:] if job.references is not None else ())
    write(args.output, lines)
    if journal is not None:
        os.remove(journal.path)
    for line in job.summary():
        print(line, file=sys.stderr)


def _decode(
    model: Generative, job: Job, options: dict[str, Any], journal: Journal | None, *, quiet: bool
) -> list[list[dict[str, Any]]]:
    """Plain results of every input, those of an earlier run included."""
    found = dict(journal.found) if journal else {}
    todo = [i for i in range(len(job.inputs)) if i not in found]
    progress = None
    if not quiet:
        progress = cli.Progress(len(job.inputs), unit="sentences", done=len(found))
    if job.batches is not None:
        options = {**options, "plan": job.batches}
    if job.phrases is not None:
        options = {**options, "constraints": [job.phrases[i] for i in todo]}
    stream = model.stream(
        [job.sources[i] for i in todo], numbers=todo,
        prefixes=None if job.prefixes is None else [job.prefixes[i] for i in todo],
        too_long=job.rules.too_long, decode_blank=job.rules.decode_blank, **options
    )
    with job.naming(todo):
        for place, hypotheses in stream:
            index = todo[place]
            found[index] = [plain_result(h) for h in hypotheses]
            if journal:
                journal.add(index, found[index])
            if progress:
                progress.add(1)
    if progress:
        progress.close()
    return [found[i] for i in range(len(job.inputs))]


def _say_what_scoring_needs_not(options: dict[str, Any]) -> None:
    """fairseq's commands bring along what the search would need."""
    idle = [f"--{name.replace('_', '-')}" for name in options if name not in _SIZES]
    if idle:
        print(f"{', '.join(idle)}: no effect with --score-reference, which searches nothing",
              file=sys.stderr)


_SIZES = ("max_tokens", "batch_size")


def _score(
    model: Translator, job: Job, alignment: str | None, options: dict[str, Any]
) -> list[list[dict[str, Any]]]:
    """The references as if they had been found, with their scores."""
    chosen = pairs_to_score(job, model, job.sources)
    sizes = {name: options.get(name) for name in _SIZES}
    assert chosen.prefixes is not None
    found = model.score(chosen.sources, chosen.prefixes, alignment=alignment, **sizes)
    results: list[list[dict[str, Any]]] = [[] for _ in job.inputs]
    for place, h in zip(chosen.places, found, strict=True):
        results[place] = [plain_result(h)]
    return results


if __name__ == "__main__":
    cli.run(main)
