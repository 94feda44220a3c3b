"""Flags that several verbs share, and what they come to: which model, how it searches, what
outputs must be like.

JAX is imported only once flags have been checked.
"""

from __future__ import annotations

import argparse
import typing
from typing import TYPE_CHECKING, Any

from seqjax import cli
from seqjax.commands import fairseq, languages
from seqjax.config import ConfigError, GenerationConfig
from seqjax.data import sources
from seqjax.generation.ctc.options import CTCOptions

if TYPE_CHECKING:  # they import JAX
    from seqjax.hub.generative import Generative
    from seqjax.hub.loaded import Loaded


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Which model."""
    parser.add_argument("--checkpoint", "--path", required=True,
                        help="work folder, checkpoint, or fairseq's .pt; several joined by : make "
                             "an ensemble")
    parser.add_argument("--which", choices=("best", "last"), default="best",
                        help="of a work folder, which checkpoint (default best)")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--no-verify", dest="verify", action="store_false",
                        help="load what differs from its checksums, or is not finite, as it is")
    parser.add_argument("--bpe", help="subwords of a .pt, where it does not say: subword_nmt, "
                                      "fastbpe, sentencepiece, gpt2, bert, hf_byte_bpe, byte_bpe; "
                                      "their files are beside it, or named")
    parser.add_argument("--tokenizer", help="tokenizer of a .pt, where it does not say: moses")
    parser.add_argument("--model-overrides", type=cli.python_dict, metavar="DICT",
                        help="keys of the model that are to be others than it was trained with: "
                             "\"{'decoder_layers_to_keep': '0,2,4'}\"")
    fairseq.add_model_flags(parser)


def load_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `hub.load` is told of the flags of `add_model_flags`; and `data`."""
    return {"data": args.data, "which": args.which, "dtype": args.dtype, "bpe": args.bpe,
            "tokenizer": args.tokenizer, "model_overrides": args.model_overrides,
            "tokenizer_options": fairseq.tokenizer_options(args), "verify": args.verify,
            "task_overrides": languages.overrides(args), "quiet": True}


def load(args: argparse.Namespace, *, lm: str | None = None) -> Loaded:
    """The checkpoints of `add_model_flags` and `--data`, as `hub.load` gives them."""
    from seqjax import hub

    return languages.chosen(args, hub.load(args.checkpoint, lm=lm, **load_options(args)))


def load_generative(args: argparse.Namespace) -> Generative:
    """The model of a verb that generates, with its `--lm-path`.

    Raises:
      ConfigError: it generates nothing, or has no source that words could be aligned with.
    """
    ngram = is_ngram(args.lm_path)
    model = load(args, lm=None if ngram else args.lm_path)
    if ngram and not _recognises(model):
        raise ConfigError(f"--lm-path {args.lm_path}: n-gram models are for recognisers by CTC, "
                          f"and {args.checkpoint} is a model of {model.task.config.name}")
    if not model.generates:
        raise ConfigError(
            f"{args.checkpoint}: is a model of the task {model.task.config.name}, which generates "
            "no text; its loss on a split: python -m seqjax.evaluate")
    if (args.print_alignment or args.replace_unk) and not model.aligns:
        raise ConfigError("--print-alignment, --replace-unk: a language model has no source to "
                          "align its words with")
    return typing.cast("Generative", model)


_NGRAMS = (".arpa", ".arpa.gz", ".bin", ".binary", ".klm")
_SHARED = ("beam", "nbest", "lm", "lm_weight")
"""Options of CTC whose flags other searches have as well."""


def is_ngram(path: str | None) -> bool:
    """Whether the language model of that path is one of n-grams."""
    return path is not None and path.endswith(_NGRAMS)


def _recognises(model: Loaded) -> bool:
    """Whether it is a recogniser by CTC."""
    return hasattr(type(model), "ctc_options")


def search_options(args: argparse.Namespace, model: Loaded) -> dict[str, Any]:
    """The options of a search that were given, as `decoder` of the model takes them.

    Raises:
      ConfigError: flags of CTC, and another model.
    """
    options = cli.given_fields(args, GenerationConfig)
    more = {name: value for name, value in cli.given_fields(args, CTCOptions).items()
            if name not in _SHARED}
    if _recognises(model):
        return {**options, **more, **({"lm": args.lm_path} if args.lm_path else {})}
    given = [f"--{name.replace('_', '-')}" for name in more]
    given += ["--timestamps"] if getattr(args, "timestamps", False) else []
    if given:
        raise ConfigError(f"{', '.join(given)}: for recognisers by CTC, and {args.checkpoint} is a "
                          f"model of {model.task.config.name}")
    return options


def add_generation_flags(parser: argparse.ArgumentParser) -> None:
    """What becomes of lines, how they are printed, how is searched, what outputs must be like."""
    _add_search_flags(parser)
    _add_constraint_flags(parser)
    group = parser.add_argument_group(
        "recognition by CTC", "beside --beam, --nbest, --lm-path (an .arpa file, or a binary of "
        "KenLM's) and --lm-weight (default 2); without any of these the best symbol of every frame")
    cli.add_fields(group, CTCOptions, leave_out=_SHARED)


def check_generation_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses flags that do not go together; makes one of those that say the same."""
    _check_input_flags(args, parser)
    _check_line_flags(args, parser)
    _check_constraint_flags(args, parser)


def add_line_flags(parser: argparse.ArgumentParser) -> None:
    """What becomes of lines that are too long or blank, and how lines are printed."""
    _add_input_flags(parser)
    parser.add_argument("--post-process", "--remove-bpe", nargs="?", const="@@ ", default=None,
                        help="fairseq format: join pieces into words (subword_nmt, "
                             "sentencepiece, ...; alone: '@@ ')")
    parser.add_argument("--print-alignment", nargs="?", const="hard", choices=("hard", "soft"),
                        help="which source token each token belongs to, from attention: pairs, "
                             "or (soft) all of the attention; A- lines, or in jsonl")
    parser.add_argument("--replace-unk", nargs="?", const=True, default=False, metavar="FILE",
                        help="put the source word that it is aligned with in place of an unknown "
                             "word, or what FILE (preprocess --alignfile) has for that word")


def _add_input_flags(parser: argparse.ArgumentParser) -> None:
    """What becomes of lines that are too long or blank."""
    parser.add_argument("--too-long", choices=("error", "truncate", "skip"),
                        help="a line with more tokens than the model takes: an error (default); "
                             "truncate: its first tokens are taken; skip: its output is an empty "
                             "line. They are counted at the end")
    parser.add_argument("--decode-blank", action="store_true",
                        help="decode blank lines too, as --format fairseq does, and let a "
                             "language model go on from nothing; else they come out blank")
    parser.add_argument("--skip-invalid-size-inputs-valid-test", action="store_true",
                        help="the same as --too-long skip")
    parser.add_argument("--truncate-source", action="store_true",
                        help="the same as --too-long truncate")


def _check_input_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Makes one of the flags that say what becomes of long lines."""
    asked = {"--too-long " + args.too_long: args.too_long} if args.too_long else {}
    if args.skip_invalid_size_inputs_valid_test:
        asked["--skip-invalid-size-inputs-valid-test"] = "skip"
    if args.truncate_source:
        asked["--truncate-source"] = "truncate"
    if len(set(asked.values())) > 1:
        parser.error(f"{' and '.join(asked)} contradict each other: keep one")
    args.too_long = next(iter(asked.values()), "error")


def decodes_blank(args: argparse.Namespace) -> bool:
    """Whether blank inputs are searched with: fairseq's lines are printed as fairseq would."""
    return args.decode_blank or args.format == "fairseq"


def _check_line_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses what the chosen format cannot show."""
    if args.post_process and args.format != "fairseq":
        parser.error("--post-process is for --format fairseq, whose lines show pieces; text is "
                     "always joined and detokenised")
    asked = cli.asked_fields(args, GenerationConfig)
    if args.format == "text" and asked.nbest > 1 and not asked.sampling:
        parser.error("--nbest: text is the best hypothesis alone; --format fairseq (or, of "
                     "seqjax.generate, jsonl) shows them all")
    if args.print_alignment and args.format == "text":
        parser.error("--print-alignment needs a format that shows alignments: --format fairseq"
                     " (or, of seqjax.generate, jsonl)")


def alignment_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `Translator.stream` is told of alignments and unknown words."""
    options: dict[str, Any] = {}
    if args.print_alignment:
        options["alignment"] = args.print_alignment
    if isinstance(args.replace_unk, str):
        from seqjax.tasks.replace_unk import load_dictionary

        options["replace_unk"] = load_dictionary(args.replace_unk)
    elif args.replace_unk:
        options["replace_unk"] = True
    if getattr(args, "timestamps", False):
        options["timestamps"] = True
    return options


def _add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Every field of `GenerationConfig`."""
    group = parser.add_argument_group("search", "fairseq's names and defaults")
    cli.add_fields(group, GenerationConfig)
    group.add_argument("--max-sentences", dest="batch_size", type=int, metavar="X",
                       default=argparse.SUPPRESS, help="the same as --batch-size")


def _add_constraint_flags(parser: argparse.ArgumentParser) -> None:
    """What outputs must be like, and what else scores them."""
    group = parser.add_argument_group("constraints of outputs")
    group.add_argument("--constraints", nargs="?", const="ordered",
                       choices=("ordered", "unordered"),
                       help="outputs contain the phrases that follow the source in each line, "
                            "after tabs: in that order (default), or in any")
    group.add_argument("--allowed-outputs", metavar="FILE",
                       help="outputs are lines of this file")
    group.add_argument("--lm-path", metavar="PATH",
                       help="language model, with the same target vocabulary, whose "
                            "log-probabilities times --lm-weight are added")


def _check_constraint_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses flags that do not go together."""
    if args.constraints and args.allowed_outputs:
        parser.error("--constraints and --allowed-outputs exclude each other: keep one")
    neural = args.lm_path and not is_ngram(args.lm_path)
    if neural and "lm_weight" not in cli.given_fields(args, GenerationConfig):
        parser.error("--lm-path needs --lm-weight: its default, 0, changes nothing")


def output_constraints(
    args: argparse.Namespace, model: Generative, constraints: list[list[Any]] | None
) -> dict[str, Any]:
    """What `stream` and `generate` take of these flags."""
    found: dict[str, Any] = {}
    if constraints is not None:
        found |= {"constraints": constraints, "constraint_order": args.constraints}
    if args.allowed_outputs:
        lines = sources.read_text(args.allowed_outputs)
        for number, line in enumerate(lines, 1):
            if sources.is_blank(line):
                raise ConfigError(f"{args.allowed_outputs}: line {number} is empty; each line is "
                                  "one permitted output")
        found["allowed"] = model.trie(lines)
    return found
