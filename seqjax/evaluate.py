"""How well a trained model predicts a text: loss and perplexity.

    python -m seqjax.evaluate --checkpoint runs/demo --data data-bin --subset test
    python -m seqjax.evaluate --checkpoint runs/lm --data data-bin --subset test
    python -m seqjax.evaluate --checkpoint model.pt --data data-bin --subset valid \\
        --tokens-per-sample 512 --context-window 400 --post-process '@@ ' --output-word-stats

Of a translation model what fairseq-validate says: the loss that it was trained with, on a
split. Of a language model what fairseq-eval-lm says, with its flags and its last line;
`--output-word-probs` and `--output-word-stats` print its lines as well, and several
checkpoints joined by : average their probabilities.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seqjax import cli
from seqjax.commands import fairseq, flags
from seqjax.commands.outputs import utf8_stdout
from seqjax.config import ConfigError

if TYPE_CHECKING:  # it imports JAX
    from seqjax.hub.loaded import Loaded


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(prog="python -m seqjax.evaluate", description=__doc__,
                        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_model_flags(parser)
    parser.add_argument("--data", help="data folder (default: the one it was trained on)")
    parser.add_argument("--subset", "--gen-subset", "--valid-subset", default="test",
                        help="split (default test)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    group = parser.add_argument_group("language models", "default: as the model was trained")
    group.add_argument("--tokens-per-sample", type=int, help="tokens of a block, context included")
    group.add_argument("--sample-break-mode", choices=("none", "complete", "complete_doc", "eos"))
    group.add_argument("--add-bos-token", action="store_true", default=None,
                       help="put <s> in front of every block (it is not scored)")
    group.add_argument("--context-window", type=int, default=0,
                       help="tokens of earlier blocks that every block may see")
    group.add_argument("--post-process", "--remove-bpe", nargs="?", const="@@ ", default=None,
                        help="score whole words of pieces marked by '@@ '")
    group.add_argument("--output-word-probs", action="store_true",
                        help="print each block's words and their log-probabilities")
    group.add_argument("--output-word-stats", action="store_true",
                        help="print each word: count, sum of log-probabilities, whether it is "
                             "made of pieces, the same sum of the words after it, their count")
    parser.add_argument("--max-tokens", type=int, help="positions of a batch (default 36000)")
    parser.add_argument("--batch-size", "--max-sentences", type=int,
                        help="sentences or blocks of a batch")
    group.add_argument("--softmax-batch", type=int,
                        help="tokens whose distribution is computed at a time, to save memory")
    parser.add_argument("--too-long", choices=("error", "skip"),
                        help="a sentence or block with more tokens than the model takes: an "
                             "error (default of translation), or left out and counted (default "
                             "of language models, as fairseq-eval-lm does)")
    parser.add_argument("--skip-invalid-size-inputs-valid-test", action="store_const",
                        const="skip", dest="too_long", help="the same as --too-long skip")
    args = fairseq.parse(parser, arguments, command="VE")
    if args.context_window < 0:
        parser.error(f"--context-window {args.context_window}: it cannot be negative")
    for name, value in (("max_tokens", args.max_tokens), ("batch_size", args.batch_size),
                        ("softmax_batch", args.softmax_batch),
                        ("tokens_per_sample", args.tokens_per_sample)):
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: it is 1 or more")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    model = flags.load(args)
    options = _options(args, model)
    fairseq.say_loaded(args, model, {})
    utf8_stdout()
    found = model.evaluate(args.subset, data=args.data, too_long=args.too_long, **options)
    if not args.quiet:
        print(f"Evaluated {found.tokens:,} tokens in {found.seconds:.1f}s "
              f"({found.tokens / max(found.seconds, 1e-3):.2f} tokens/s)", file=sys.stderr)
    for line in found.notes:
        print(line, file=sys.stderr)
    for line in found.lines:
        print(line)
    if args.json:
        print(json.dumps({"subset": args.subset, "tokens": found.tokens, **found.values}))
    else:
        print(found.text)


_OF_SOME = {
    "tokens_per_sample": "tokens_per_sample", "sample_break_mode": "sample_break_mode",
    "add_bos_token": "add_bos_token", "context_window": "context_window",
    "post_process": "post_process", "output_word_probs": "on_words",
    "output_word_stats": "word_stats", "softmax_batch": "softmax_batch"}
"""Flags of the group "language models" -> the options of `evaluate` that they are; which of them
a model takes, its facade says."""


def _options(args: argparse.Namespace, model: Loaded) -> dict[str, Any]:
    """What `evaluate` of the model is told beside the split.

    Raises:
      ConfigError: flags that mean nothing of this model.
    """
    given = {flag: option for flag, option in _OF_SOME.items() if getattr(args, flag)}
    foreign = ["--" + flag.replace("_", "-") for flag, option in given.items()
               if option not in model.evaluation_options]
    if foreign:
        raise ConfigError(f"{', '.join(foreign)}: for language models only, and {args.checkpoint} "
                          f"is a model of {model.task.config.name}")
    options = {option: getattr(args, flag) for flag, option in given.items()}
    if args.output_word_probs:
        options["on_words"] = print
    sizes = {name: getattr(args, name) for name in ("max_tokens", "batch_size")}
    return options | {name: size for name, size in sizes.items() if size is not None}


if __name__ == "__main__":
    cli.run(main)
