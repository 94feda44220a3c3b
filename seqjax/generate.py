"""Decode a file, or a split of a data folder, with a trained model.

    python -m seqjax.generate --checkpoint runs/demo --input test.en --output test.hyp.de
    python -m seqjax.generate --checkpoint runs/demo --input - --output - --format jsonl
    python -m seqjax.generate --checkpoint runs/demo --data data-bin --subset test --format fairseq

Plain text comes out detokenised and in the order of the input. A job that is killed goes
on where it was when it is started again: finished sentences are kept beside the output,
in OUTPUT.part, until the output is complete.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from seqjax import cli
from seqjax.config import ConfigError, GenerationConfig
from seqjax.generation.journal import Journal

FORMATS = ("text", "jsonl", "fairseq")
SCORERS = ("bleu", "chrf", "sacrebleu", "ter")


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


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m seqjax.generate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_flags(parser)
    parser.add_argument("--input", help="text to decode, one sentence a line; - is stdin")
    parser.add_argument("--data", help="data folder to decode a split of, instead of --input; "
                                       "with --input, the dictionaries of fairseq's .pt files")
    parser.add_argument("--subset", "--gen-subset", help="split of --data (default test)")
    parser.add_argument("--output", default="-", help="file to write; - is stdout")
    parser.add_argument("--format", choices=FORMATS,
                        help="text: the best translation, detokenised. jsonl: n-best with "
                             "scores. fairseq: S-, T-, H-, D- and P- lines (default: text)")
    add_line_flags(parser)
    group = parser.add_argument_group("with --data and --format fairseq")
    group.add_argument("--scoring", choices=SCORERS,
                       help="what the last line says (default bleu)")
    group.add_argument("--sacrebleu", action="store_const", const="sacrebleu", dest="scoring",
                       help="the same as --scoring sacrebleu")
    group.add_argument("--score-reference", action="store_true",
                       help="score the split's targets instead of decoding")
    group.add_argument("--required-batch-size-multiple", type=int, metavar="N",
                       help="of fairseq's batches, in whose order is printed (default 8)")
    add_search_flags(parser)
    add_demand_flags(parser)
    args = parser.parse_args(arguments)
    args.format = args.format or "text"
    _check_flags(args, parser)
    check_line_flags(args, parser)
    args.subset = args.subset or "test"
    args.required_batch_size_multiple = args.required_batch_size_multiple or 8
    return args


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
            args.format != "fairseq" and not getattr(args, "padded_source_len", False)
        ):
            parser.error("--required-batch-size-multiple: only --data with --format fairseq, or "
                         "with --padded-source-len, has fairseq's batches")
    if args.constraints and args.input is None:
        parser.error("--constraints needs --input: phrases follow the source, after tabs")
    if args.score_reference and (args.constraints or args.allowed_outputs or args.lm_path):
        parser.error("--score-reference searches nothing: leave out --constraints, "
                     "--allowed-outputs and --lm-path")
    check_demand_flags(args, parser)
    if args.score_reference and args.replace_unk:
        parser.error("--replace-unk: with --score-reference nothing is generated in which words "
                     "could be unknown")
    if args.scoring and (args.format != "fairseq" or args.input is not None):
        parser.error("--scoring is for --data with --format fairseq; python -m seqjax.score "
                     "judges files of text")


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Which model; shared with `seqjax.interactive`."""
    parser.add_argument("--checkpoint", "--path", required=True,
                        help="work folder, checkpoint, or fairseq's .pt; several joined by : make "
                             "an ensemble")
    parser.add_argument("--which", choices=("best", "last"), default="best",
                        help="of a work folder, which checkpoint (default best)")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--bpe", help="subwords of a .pt, where it does not say: subword_nmt, "
                                      "fastbpe, sentencepiece; their file is beside it")
    parser.add_argument("--tokenizer", help="tokenizer of a .pt, where it does not say: moses")
    parser.add_argument("--model-overrides", type=cli.python_dict, metavar="DICT",
                        help="keys of the model that are to be others than it was trained with: "
                             "\"{'decoder_layers_to_keep': '0,2,4'}\"")


def load_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `hub.load` is told of the flags of `add_model_flags`; and `data`."""
    return {"data": args.data, "which": args.which, "dtype": args.dtype, "bpe": args.bpe,
            "tokenizer": args.tokenizer, "model_overrides": args.model_overrides}


def add_line_flags(parser: argparse.ArgumentParser) -> None:
    """How lines are printed; shared with `seqjax.interactive`."""
    parser.add_argument("--post-process", "--remove-bpe", nargs="?", const="@@ ", default=None,
                        help="fairseq format: join pieces into words (subword_nmt, "
                             "sentencepiece, ...; alone: '@@ ')")
    parser.add_argument("--print-alignment", nargs="?", const="hard", choices=("hard", "soft"),
                        help="which source token each token belongs to, from attention: pairs, "
                             "or (soft) all of the attention; A- lines, or in jsonl")
    parser.add_argument("--replace-unk", nargs="?", const=True, default=False, metavar="FILE",
                        help="put the source word that it is aligned with in place of an unknown "
                             "word, or what FILE (preprocess --alignfile) has for that word")


def check_line_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses what the chosen format cannot show."""
    if args.post_process and args.format != "fairseq":
        parser.error("--post-process is for --format fairseq, whose lines show pieces; text is "
                     "always joined and detokenised")
    if (args.format == "text" and getattr(args, "nbest", 1) > 1
            and not getattr(args, "sampling", False)):
        parser.error("--nbest: text is the best hypothesis alone; --format fairseq (or, of "
                     "seqjax.generate, jsonl) shows them all")
    if args.print_alignment and args.format == "text":
        parser.error("--print-alignment needs a format that shows alignments: --format fairseq"
                     " (or, of seqjax.generate, jsonl)")


def alignment_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `hub.Translator.stream` is told of alignments and unknown words."""
    options: dict[str, Any] = {}
    if args.print_alignment:
        options["alignment"] = args.print_alignment
    if isinstance(args.replace_unk, str):
        from seqjax.tasks.replace_unk import load_dictionary

        options["replace_unk"] = load_dictionary(args.replace_unk)
    elif args.replace_unk:
        options["replace_unk"] = True
    return options


def check_can_align(model: Any, options: dict[str, Any]) -> None:
    """Refuses alignments of a model without a source."""
    if options and not hasattr(model, "align"):
        raise ConfigError("--print-alignment, --replace-unk: a language model has no source to "
                          "align its words with")


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Every field of `GenerationConfig`."""
    group = parser.add_argument_group("search", "fairseq's names and defaults")
    cli.add_fields(group, GenerationConfig)


def add_demand_flags(parser: argparse.ArgumentParser) -> None:
    """What outputs must be like, and what else scores them; shared with
    `seqjax.interactive`."""
    group = parser.add_argument_group("demands")
    group.add_argument("--constraints", nargs="?", const="ordered",
                       choices=("ordered", "unordered"),
                       help="outputs contain the phrases that follow the source in each line, "
                            "after tabs: in that order (default), or in any")
    group.add_argument("--allowed-outputs", metavar="FILE",
                       help="outputs are lines of this file")
    group.add_argument("--lm-path", metavar="PATH",
                       help="language model, with the same target vocabulary, whose "
                            "log-probabilities times --lm-weight are added")


def check_demand_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses flags that do not go together."""
    if args.constraints and args.allowed_outputs:
        parser.error("--constraints and --allowed-outputs exclude each other: keep one")
    if args.lm_path and not hasattr(args, "lm_weight"):
        parser.error("--lm-path needs --lm-weight: its default, 0, changes nothing")


def demands_of(
    args: argparse.Namespace, model: Any, constraints: list[list[str]] | None
) -> dict[str, Any]:
    """What `stream` and `generate` take of these flags."""
    found: dict[str, Any] = {}
    if constraints is not None:
        found |= {"constraints": constraints, "constraint_order": args.constraints}
    if args.allowed_outputs:
        lines = _read_input(args.allowed_outputs)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise ConfigError(f"{args.allowed_outputs}: line {number} is empty; each line is "
                                  "one permitted output")
        if not lines:
            raise ConfigError(f"{args.allowed_outputs}: empty, so no output is permitted")
        found["allowed"] = model.trie(lines)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    if args.output != "-":
        _check_output(args.output)
    texts = None if args.input is None else _read_input(args.input)
    if texts == []:
        raise ConfigError(f"{args.input}: empty, nothing to decode")

    from seqjax import hub  # JAX is imported once the cheap checks have passed

    aligning = alignment_options(args)
    model = hub.load(args.checkpoint, lm=args.lm_path, **load_options(args))
    check_can_align(model, aligning)
    options = cli.given_fields(args, GenerationConfig)
    job = _text_job(args, texts) if texts is not None else _data_job(args, model)
    if job.padding is not None:
        aligning["alignment"] = "soft"  # to be read as fairseq reads it
    demands = demands_of(args, model, job.constraints)
    decoder = model.decoder(references=job.references is not None, **options)
    if args.score_reference:
        _say_what_scoring_needs_not(options)
    decoder.check_sources([len(model.source_ids(x)) for x in job.inputs])
    options |= aligning
    journal = None
    # fairseq's batches, padding and all, are decoded whole or not at all.
    if args.output != "-" and not args.score_reference and job.batches is None:
        journal = Journal.open(
            args.output + ".part", header=_fingerprint(args, model, job, options),
            total=len(job.inputs))
    try:
        if args.score_reference:
            results = _score(model, job, aligning.get("alignment"), options)
        else:
            results = _decode(model, job, {**options, **demands}, journal)
    finally:
        if journal is not None:
            journal.close()
    _write(args.output, _render(args, model, job, results))
    if journal is not None:
        os.remove(journal.path)


def _read_input(path: str) -> list[str]:
    from seqjax.data import sources

    if path == "-":
        return [line.rstrip("\n") for line in sys.stdin]
    sources.count_lines(path)  # finds what is wrong with it
    return list(sources.iterate_lines([path]))


def _text_job(args: argparse.Namespace, texts: list[str]) -> Job:
    from seqjax.tasks import demands

    constraints = None
    if args.constraints:
        texts, constraints = demands.split_lines(texts)
    return Job(inputs=texts, order=range(len(texts)), constraints=constraints)


def _data_job(args: argparse.Namespace, model: Any) -> Job:
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
    settings = model.decoder(references=True, **cli.given_fields(args, GenerationConfig)).config
    plan = planning.make_plan(
        dataset.lengths, train=False, seed=1, shuffle_ties=args.subset != "test",
        batching=BatchingConfig(
            mode="fairseq", max_tokens=settings.max_tokens, max_sentences=settings.batch_size,
            required_batch_size_multiple=args.required_batch_size_multiple,
            skip_invalid_size_inputs_valid_test=False,
        ),
    )
    references = None if dataset.target is None else [row[1] for row in rows]
    size = settings.prefix_size
    for flag, wanted in (("--prefix-size", size), ("--score-reference", args.score_reference)):
        if wanted and references is None:
            raise ConfigError(f"{flag} needs targets, which {args.data} has not")
    epoch = plan.epoch(1)
    grouped = [epoch.ids[a:b] for a, b in itertools.pairwise(epoch.bounds.tolist())]
    batches = None
    if settings.padded_source_len:
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


def _fingerprint(args: argparse.Namespace, model: Any, job: Job, options: dict) -> str:
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


def _decode(
    model: Any, job: Job, options: dict[str, Any], journal: Journal | None
) -> list[list[dict[str, Any]]]:
    """Plain results of every input, those of an earlier run included."""
    found = dict(journal.found) if journal else {}
    todo = [i for i in range(len(job.inputs)) if i not in found]
    progress = cli.Progress(len(job.inputs), unit="sentences", done=len(found))
    if job.batches is not None:
        options = {**options, "plan": job.batches}
    if job.constraints is not None:
        options = {**options, "constraints": [job.constraints[i] for i in todo]}
    stream = model.stream(
        [job.inputs[i] for i in todo], numbers=todo,
        prefixes=None if job.prefixes is None else [job.prefixes[i] for i in todo], **options
    )
    for place, hypotheses in stream:
        index = todo[place]
        found[index] = [plain_result(h) for h in hypotheses]
        if journal:
            journal.add(index, found[index])
        progress.add(1)
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
    model: Any, job: Job, alignment: str | None, options: dict[str, Any]
) -> list[list[dict[str, Any]]]:
    """The references as if they had been found, with their scores."""
    assert job.references is not None
    sizes = {name: options.get(name) for name in _SIZES}
    found = model.score(job.inputs, job.references, alignment=alignment, **sizes)
    return [[plain_result(h)] for h in found]


def plain_result(h: Any) -> dict[str, Any]:
    """A hypothesis as JSON can hold it, with what was asked for."""
    result = {"tokens": h.tokens.tolist(), "score": h.score, "text": h.text,
              "positional_scores": [float(x) for x in h.positional_scores]}
    if h.words is not None:
        result["words"] = h.words
    if h.alignment is not None:
        result["alignment"] = h.alignment
    if h.attention is not None:
        result["attention"] = h.attention.tolist()
    return result


def _render(
    args: argparse.Namespace, model: Any, job: Job, results: list[list[dict[str, Any]]]
) -> Iterator[str]:
    """The lines of the output."""
    from seqjax.interop import fairseq_output

    if args.format == "text":
        for hypotheses in results:
            yield hypotheses[0]["text"]
    elif args.format == "jsonl":
        for index, hypotheses in enumerate(results):
            source = job.inputs[index]
            text = source if isinstance(source, str) else model.task.decode_source(source)
            asked = {} if job.constraints is None else {"constraints": job.constraints[index]}
            yield json.dumps({"id": index, "source": text, **asked, "hypotheses": hypotheses},
                             ensure_ascii=False)
    else:
        for index in job.order:
            reference = None if job.references is None else job.references[index]
            yield from fairseq_output.sentence_lines(
                model.task, index, job.inputs[index], reference, results[index],
                post_process=args.post_process, alignment=args.print_alignment,
                constraints=None if job.constraints is None else job.constraints[index],
                padding=None if job.padding is None else job.padding[index],
            )
        if job.references is not None:
            yield fairseq_output.final_line(
                model.task, [(job.references[i], results[i][0]) for i in job.order],
                subset=args.subset, beam=getattr(args, "beam", model.config.generation.beam),
                scoring=args.scoring or "bleu", post_process=args.post_process,
            )


def _check_output(path: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise ConfigError(f"--output {path}: is a folder")
    if not os.path.isdir(folder):
        raise ConfigError(f"--output {path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"--output {path}: cannot write to the folder {folder}")


def _write(path: str, lines: Iterator[str]) -> None:
    """All lines, to a file at once or to stdout."""
    if path == "-":
        for line in lines:
            print(line)
        return
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


if __name__ == "__main__":
    cli.run(main)
