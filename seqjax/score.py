"""Score a file of hypotheses against a file of references.

    python -m seqjax.score --sys hyp.de --ref ref.de --metric sacrebleu chrf ter
    python -m seqjax.score --sys hyp.tok.de --ref ref.tok.de      # fairseq-score's BLEU4 line
    python -m seqjax.score --sys hyp.txt --ref ref.txt --metric wer cer
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from seqjax import cli
from seqjax.config import ConfigError
from seqjax.data import sources
from seqjax.tasks import metrics


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """fairseq-score's flags, and `--metric`."""
    parser = cli.Parser(prog="python -m seqjax.score", description=__doc__,
                        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-s", "--sys", default="-", help="hypotheses, one a line; - is stdin")
    parser.add_argument("-r", "--ref", required=True, help="references, one a line; - is stdin")
    parser.add_argument("--metric", nargs="+", choices=sorted(metrics.METRICS),
                        help="default: bleu, fairseq's BLEU of tokenised text")
    parser.add_argument("-o", "--order", type=int, help="bleu: longest n-gram (default 4)")
    parser.add_argument("--ignore-case", action="store_true")
    parser.add_argument("--sacrebleu", action="store_true", help="the same as --metric sacrebleu")
    parser.add_argument("--sentence-bleu", action="store_true",
                        help="one line a sentence; of bleu with one more match, and n-gram, of "
                             "every length above 1, as fairseq smooths it")
    parser.add_argument("--tokenize", help="sacrebleu's tokenizer (default 13a; of wer: none)")
    parser.add_argument("--no-punctuation", action="store_true",
                        help="wer: leave out words of punctuation alone, behind --tokenize")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    names = _metrics(args)
    if args.sys == args.ref == sources.STDIN:
        raise ConfigError("--sys - --ref -: stdin can be only one of them")
    references = sources.read_text(args.ref)
    hypotheses = sources.read_text(args.sys)
    if len(hypotheses) != len(references):
        raise ConfigError(
            f"{args.sys} has {len(hypotheses)} lines, {args.ref} {len(references)}: they must "
            "match line by line"
        )
    if args.sentence_bleu:
        for number, pair in enumerate(zip(hypotheses, references, strict=True)):
            print(f"{number} {_score(names[0], [pair[0]], [pair[1]], args).text}")
        return
    found = [_score(name, hypotheses, references, args) for name in names]
    if args.json:
        print(json.dumps({s.name: {"score": s.score, "signature": s.signature} for s in found}))
        return
    for score in found:
        print(score.text + (f"  [{score.signature}]" if score.signature else ""))


def _metrics(args: argparse.Namespace) -> list[str]:
    """The metrics that are asked for.

    Raises:
      ConfigError: flags that none of them takes, or that exclude each other.
    """
    if args.sacrebleu and args.metric and args.metric != ["sacrebleu"]:
        raise ConfigError("--sacrebleu is the same as --metric sacrebleu: name all metrics there")
    names = args.metric or (["sacrebleu"] if args.sacrebleu else ["bleu"])
    for flag, given, takers in (("--order", args.order is not None, ["bleu"]),
                                ("--tokenize", args.tokenize is not None, ["sacrebleu", "wer"]),
                                ("--no-punctuation", args.no_punctuation, ["wer"])):
        if given and not set(takers) & set(names):
            raise ConfigError(f"{flag} is of --metric {' or '.join(takers)}, and "
                              f"{' '.join(names)} takes none")
    if args.order is not None and args.order < 1:
        raise ConfigError(f"--order {args.order}: the longest n-gram has 1 word or more")
    if args.sentence_bleu and args.json:
        raise ConfigError("--sentence-bleu prints lines: leave out --json")
    if args.sentence_bleu and len(names) > 1:
        raise ConfigError(f"--sentence-bleu prints one metric: keep one of {' '.join(names)}")
    return names


def _score(
    name: str, hypotheses: Sequence[str], references: Sequence[str], args: argparse.Namespace
) -> metrics.Score:
    options: dict[str, Any] = {"lowercase": args.ignore_case}
    if name == "bleu":
        options |= {"order": args.order or 4, "smooth": args.sentence_bleu}
    if name == "sacrebleu":
        options["tokenize"] = args.tokenize or "13a"
    if name == "wer":
        options |= {"tokenize": args.tokenize or "none", "punctuation": not args.no_punctuation}
    return metrics.METRICS[name](hypotheses, references, **options)


if __name__ == "__main__":
    cli.run(main)
