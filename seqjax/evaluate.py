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
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from seqjax import cli
from seqjax.commands import fairseq
from seqjax.commands.flags import add_model_flags, load_options
from seqjax.commands.outputs import utf8_stdout
from seqjax.config import ConfigError
from seqjax.console import compiling


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(prog="python -m seqjax.evaluate", description=__doc__,
                        formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_flags(parser)
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
    parser.add_argument("--max-tokens", type=int, default=36000, help="positions of a batch")
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
    for name in ("max_tokens", "batch_size", "softmax_batch", "tokens_per_sample"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: it is 1 or more")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    from seqjax.tasks.language_modeling import LanguageModelingTask  # imports JAX

    found = load(args)
    fairseq.say_loaded(args, found, {})
    utf8_stdout()
    if isinstance(found.task, LanguageModelingTask):
        lines = language_model_lines(args, found.task, found.models, found.params)
    else:
        lines = translation_lines(args, found)
    for line in lines:
        print(line)


_OF_LANGUAGE_MODELS = ("tokens_per_sample", "sample_break_mode", "add_bos_token", "context_window",
                       "post_process", "output_word_probs", "output_word_stats", "softmax_batch")
_FIRST = ("loss", "nll_loss", "ppl")


def translation_lines(args: argparse.Namespace, found: Any) -> Iterator[str]:
    """The line of a translation model's evaluation.

    Raises:
      ConfigError: flags of language models; several checkpoints; no such data.
    """
    from seqjax.training.validation import held_out

    given = ["--" + n.replace("_", "-") for n in _OF_LANGUAGE_MODELS if getattr(args, n)]
    if given:
        raise ConfigError(f"{', '.join(given)}: for language models only, and {args.checkpoint} "
                          f"is a model of {found.task.config.name}")
    if len(found.models) > 1:
        raise ConfigError("the loss of an ensemble is not defined: give one checkpoint "
                          "(seqjax.generate --score-reference scores with several)")
    data = args.data or found.task.config.data
    if not data or not os.path.isdir(data):
        raise ConfigError(f"--data {data or ''}: name the folder with the preprocessed text")
    task = dataclasses.replace(
        found.task, config=dataclasses.replace(found.task.config, data=data))
    task.check_folder(data)
    skipped = _over_limits(args, task, found.models[0])
    began = _clock()
    values, tokens = held_out(
        task, found.models[0], found.params[0], args.subset, loss=found.config.loss,
        max_tokens=args.max_tokens,
        batch_size=args.batch_size, sentence_avg=found.config.train.sentence_avg,
        skip_too_long=args.too_long == "skip")
    values = {k: values[k] for k in sorted(values, key=lambda k: (k not in _FIRST, k))}
    if not args.quiet:
        _say_speed(tokens, _clock() - began)
    for line in skipped:
        print(line, file=sys.stderr)
    if args.json:
        yield json.dumps({"subset": args.subset, "tokens": tokens, **values})
    else:
        from seqjax.training.metrics import shown
        from seqjax.training.objective import loss_of

        texts = shown(values, loss_of(found.config.loss).metrics)
        yield " | ".join([args.subset, *(f"{k} {v}" for k, v in texts.items())])


def _over_limits(args: argparse.Namespace, task: Any, model: Any) -> list[str]:
    """What is said at the end of sentences that are left out.

    Raises:
      ConfigError: there are some, and `--too-long skip` was not given.
    """
    lengths, over = task.dataset(args.subset).lengths, {}
    for name, side, limit in zip(("source", "target"), (lengths.source, lengths.target),
                                 task.max_positions(model), strict=True):
        if side is not None and limit is not None:
            for i in np.flatnonzero(side > limit).tolist():
                over.setdefault(i, f"has a {name} of {side[i]} tokens, but the model takes at "
                                f"most {limit}")
    if not over:
        return []
    first = min(over)
    named = f"{task.config.data}, {args.subset}, sentence {first + 1} {over[first]}"
    if args.too_long != "skip":
        raise ConfigError(f"{named}: --too-long skip leaves such sentences out")
    return [f"{len(over)} of {len(lengths)} sentences were too long and are left out (the first: "
            f"{named})"]


def language_model_lines(
    args: argparse.Namespace, task: Any, models: Sequence[Any], params: Sequence[Any]
) -> Iterator[str]:
    """The lines of a language model's evaluation, as they are found."""
    from seqjax.tasks.perplexity import BlockScorer, WordScores

    task = with_blocks(task, args)
    task.check_folder(task.config.data)
    length = task.config.tokens_per_sample
    blocks = task.dataset(args.subset)
    words = WordScores(task.vocab, post_process=args.post_process)
    scorer = BlockScorer(
        models, max_tokens=args.max_tokens, batch_size=args.batch_size,
        softmax_batch=args.softmax_batch, too_long=args.too_long or "skip",
    )
    began, tokens = _clock(), 0
    for block in scorer.score(
        params, blocks, tokens_per_sample=length, context_window=args.context_window
    ):
        found = words.add(block, statistics=args.output_word_stats)
        tokens += len(block.tokens)
        if args.output_word_probs:
            yield f"{block.index} " + "\t".join(f"{word} [{prob:2f}]" for word, prob in found)
    _say_speed(tokens, _clock() - began)
    if args.output_word_stats:
        yield from map(str, words.by_count())
    if args.json:
        yield json.dumps({"subset": args.subset, "tokens": tokens, "loss": words.loss,
                          "ppl": words.perplexity})
    else:
        yield f"Loss (base 2): {words.loss:.4f}, Perplexity: {words.perplexity:.2f}"


def _clock() -> float:
    """Seconds; those in which programs are compiled are not among them."""
    return time.monotonic() - compiling.seconds()


def _say_speed(tokens: int, seconds: float) -> None:
    print(f"Evaluated {tokens:,} tokens in {seconds:.1f}s "
          f"({tokens / max(seconds, 1e-3):.2f} tokens/s)", file=sys.stderr)


def with_blocks(task: Any, args: argparse.Namespace) -> Any:
    """The task with the command line's blocks, shorter by the context as fairseq's are."""
    values = {
        name: getattr(args, name)
        for name in ("data", "tokens_per_sample", "sample_break_mode", "add_bos_token")
        if getattr(args, name) is not None
    }
    length = values.get("tokens_per_sample", task.config.tokens_per_sample)
    if args.context_window >= length:
        raise ConfigError(
            f"--context-window {args.context_window} leaves nothing of --tokens-per-sample "
            f"{length} to be scored"
        )
    values["tokens_per_sample"] = length - args.context_window
    config = dataclasses.replace(task.config, **values)
    if not config.data or not os.path.isdir(config.data):
        raise ConfigError(f"--data {config.data or ''}: name the folder with the preprocessed text")
    return dataclasses.replace(task, config=config)


def load(args: argparse.Namespace) -> Any:
    """The checkpoints, as `hub.load` gives them."""
    from seqjax import hub  # imports JAX

    return hub.load(args.checkpoint, **load_options(args))


if __name__ == "__main__":
    cli.run(main)
