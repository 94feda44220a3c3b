"""How well a trained language model predicts a text: loss and perplexity.

    python -m seqjax.evaluate --checkpoint runs/lm --data data-bin --subset test
    python -m seqjax.evaluate --checkpoint model.pt --data data-bin --subset valid \\
        --tokens-per-sample 512 --context-window 400 --post-process '@@ ' --output-word-stats

What fairseq-eval-lm does, with its flags and its last line; `--output-word-probs` and
`--output-word-stats` print its lines as well. Several checkpoints joined by : average
their probabilities.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from seqjax import cli
from seqjax.config import ConfigError
from seqjax.generate import add_model_flags


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m seqjax.evaluate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_flags(parser)
    parser.add_argument("--data", help="data folder (default: the one it was trained on)")
    parser.add_argument("--subset", "--gen-subset", default="test", help="split (default test)")
    group = parser.add_argument_group("blocks", "default: as the model was trained")
    group.add_argument("--tokens-per-sample", type=int, help="tokens of a block, context included")
    group.add_argument("--sample-break-mode", choices=("none", "complete", "complete_doc", "eos"))
    group.add_argument("--add-bos-token", action="store_true", default=None,
                       help="put <s> in front of every block (it is not scored)")
    group.add_argument("--context-window", type=int, default=0,
                       help="tokens of earlier blocks that every block may see")
    parser.add_argument("--post-process", "--remove-bpe", nargs="?", const="@@ ", default=None,
                        help="score whole words of pieces marked by '@@ '")
    parser.add_argument("--output-word-probs", action="store_true",
                        help="print each block's words and their log-probabilities")
    parser.add_argument("--output-word-stats", action="store_true",
                        help="print each word: count, sum of log-probabilities, whether it is "
                             "made of pieces, the same sum of the words after it, their count")
    parser.add_argument("--max-tokens", type=int, default=36000, help="positions of a batch")
    parser.add_argument("--batch-size", "--max-sentences", type=int, help="blocks of a batch")
    parser.add_argument("--softmax-batch", type=int,
                        help="tokens whose distribution is computed at a time, to save memory")
    args = parser.parse_args(arguments)
    if args.context_window < 0:
        parser.error(f"--context-window {args.context_window}: it cannot be negative")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    from seqjax.tasks.language_modeling import LanguageModelingTask  # imports JAX

    task, models, params = load(args)
    if not isinstance(task, LanguageModelingTask):
        raise ConfigError(
            f"{args.checkpoint}: a model of {task.config.name}; perplexity is for language "
            "models (seqjax.generate and seqjax.score judge translations)"
        )
    for line in language_model_lines(args, task, models, params):
        print(line)


def language_model_lines(
    args: argparse.Namespace, task: Any, models: Sequence[Any], params: Sequence[Any]
) -> Iterator[str]:
    """The lines of a language model's evaluation, as they are found."""
    from seqjax.tasks.perplexity import BlockScorer, WordScores

    task = with_blocks(task, args)
    length = task.config.tokens_per_sample
    blocks = task.dataset(args.subset)
    words = WordScores(task.vocab, post_process=args.post_process)
    scorer = BlockScorer(
        models, max_tokens=args.max_tokens, batch_size=args.batch_size,
        softmax_batch=args.softmax_batch,
    )
    began, tokens = time.monotonic(), 0
    for block in scorer.score(
        params, blocks, tokens_per_sample=length, context_window=args.context_window
    ):
        found = words.add(block, statistics=args.output_word_stats)
        tokens += len(block.tokens)
        if args.output_word_probs:
            yield f"{block.index} " + "\t".join(f"{word} [{prob:2f}]" for word, prob in found)
    seconds = time.monotonic() - began
    print(f"Evaluated {tokens:,} tokens in {seconds:.1f}s ({tokens / seconds:.2f} tokens/s)",
          file=sys.stderr)
    if args.output_word_stats:
        yield from map(str, words.by_count())
    yield f"Loss (base 2): {words.loss:.4f}, Perplexity: {words.perplexity:.2f}"


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


def load(args: argparse.Namespace) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """Task, models and parameters of the checkpoints."""
    from seqjax import hub  # imports JAX

    found = hub.load(args.checkpoint, data=args.data, which=args.which, dtype=args.dtype)
    return found.task, found.models, found.params


if __name__ == "__main__":
    cli.run(main)
