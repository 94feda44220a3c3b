"""fairseq's checkpoints to ours and back, and its commands to configurations.

    python -m seqjax.convert model.pt DIR --data data-bin      # a folder of ours
    python -m seqjax.convert DIR model.pt                      # a file that fairseq loads
    python -m seqjax.convert args 'fairseq-train data-bin --arch transformer ...'
    python -m seqjax.convert args model.pt                     # the run that wrote it
    python -m seqjax.convert keys model.pt                     # what becomes of its tensors

`args` prints a file for configs/ that does the same, and names every flag that it could not
honour. Nothing is written until all of it is known to be good; tensors keep their bits.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from seqjax import cli, locking
from seqjax.commands import fairseq
from seqjax.config import ConfigError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(prog="python -m seqjax.convert", description=__doc__,
                        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source",
                        help="model.pt, a work folder or checkpoint, or the word args or keys")
    parser.add_argument("target", nargs="+",
                        help="what to write; after args: fairseq's command, or a .pt; after "
                             "keys: a checkpoint")
    parser.add_argument("--data", help="folder with the dictionaries of a .pt")
    parser.add_argument("--bpe", help="subwords of a .pt, where it does not say")
    parser.add_argument("--tokenizer", help="tokenizer of a .pt, where it does not say")
    fairseq.add_tokenizer_flags(parser.add_argument_group("fairseq's flags of tokenizers"))
    parser.add_argument("--which", choices=("best", "last"), default="best",
                        help="of a work folder, which checkpoint (default best)")
    parser.add_argument("--no-verify", dest="verify", action="store_false",
                        help="read what differs from its checksums, or is not finite, as it is")
    parser.add_argument("--optimizer-state", action="store_true",
                        help="to fairseq: moments and update count as well, so that "
                             "fairseq-train goes on from it")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["args"] and len(words) > 1:
        # fairseq's own flags follow, quoted or not.
        rest = words[1:]
        return argparse.Namespace(source="args", target=rest)
    return parser.parse_args(words)


def main(arguments: Sequence[str] | None = None) -> int | None:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["keys"]:
        from seqjax.commands import keys

        return keys.main(words[1:])
    args = parse(words)
    if args.source == "args":
        print(_configuration(args.target), end="")
        return None
    if len(args.target) != 1:
        raise ConfigError("give one thing to read and one to write: model.pt DIR or DIR model.pt")
    target = args.target[0]

    from seqjax.interop.fairseq.files import is_pt

    if is_pt(args.source):
        if target.endswith(".pt"):
            raise ConfigError(f"{target}: a .pt is converted to a folder; name one without .pt")
        if args.optimizer_state:
            raise ConfigError("--optimizer-state is for writing a .pt; to go on training from one "
                              "here: python -m seqjax.train --config.resume_from=model.pt")
        with locking.hold(locking.output_lock(target), what=target):
            _to_folder(args, target)
        return None
    if not os.path.exists(args.source):
        raise FileNotFoundError(f"{args.source}: no such file or folder")
    if not target.endswith(".pt"):
        raise ConfigError(f"{target}: a folder of seqjax is converted to a file NAME.pt")
    for flag in ("data", "bpe", "tokenizer", *fairseq.tokenizer_options(args)):
        if getattr(args, flag):
            flag = flag.replace("_", "-")
            raise ConfigError(f"--{flag} is for reading a .pt; {args.source} holds its own")
    with locking.hold(locking.output_lock(target), what=target):
        _to_pt(args, target)
    return None


def _configuration(words: Sequence[str]) -> str:
    """The text of a configuration file."""
    from seqjax import settings
    from seqjax.interop.fairseq import checkpoint as fairseq_weights
    from seqjax.interop.fairseq import config as fairseq_config
    from seqjax.interop.fairseq import files as fairseq_files
    from seqjax.interop.fairseq import recipe as fairseq_recipe
    from seqjax.interop.fairseq.recipe_sections import COMPOUNDING
    from seqjax.interop.torch.files import read_pt

    # One word is a whole quoted command; several are a command that the shell has split.
    command = words[0] if len(words) == 1 else _quoted(words)
    if len(words) == 1 and " " not in command and fairseq_files.is_pt(command):
        tree = read_pt(command)
        if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
            raise ConfigError(f"{command}: not a fairseq checkpoint")
        try:
            recipe = fairseq_recipe.from_fairseq(
                fairseq_config.from_checkpoint(tree), stored=fairseq_weights.stored_config(tree))
        except ConfigError as error:
            raise type(error)(f"{command}: {error}") from None
        title = f"The run of fairseq's that wrote {os.path.basename(command)}."
    else:
        recipe = fairseq_recipe.from_command(command)
        title = "A command of fairseq's as a configuration of seqjax.\n\n    " + " ".join(
            command.replace("\\\n", " ").split())
    settings.resolve(recipe.raw)  # whatever is wrong with a value shows now
    if COMPOUNDING in recipe.notes:
        print(f"note: {COMPOUNDING}", file=sys.stderr)
    for line in recipe.unsupported:
        print(f"not honoured: {line}", file=sys.stderr)
    if recipe.unneeded:
        flags = ", ".join(line.split(":")[0] for line in recipe.unneeded)
        print(f"nothing to set for: {flags} (the file says why)", file=sys.stderr)
    return fairseq_recipe.render(recipe, title=title)


def _quoted(words: Sequence[str]) -> str:
    import shlex

    return shlex.join(words)


def _to_folder(args: argparse.Namespace, target: str) -> None:
    """A checkpoint folder of ours, to be used and to be fine-tuned from."""
    from seqjax.interop.fairseq import folder as fairseq_folder

    folder = fairseq_folder.write_folder(
        args.source, target, data=args.data, bpe=args.bpe,
        tokenizer=args.tokenizer, tokenizer_options=fairseq.tokenizer_options(args),
        verify=args.verify)
    print(f"{folder}: written")


def _to_pt(args: argparse.Namespace, target: str) -> None:
    """A `.pt` that fairseq loads."""
    from seqjax import checkpoints
    from seqjax.interop.fairseq import folder as fairseq_folder

    folder = checkpoints.find(args.source, which=args.which)
    fairseq_folder.write_file(
        args.source, target, which=args.which,
        optimizer_state=args.optimizer_state, verify=args.verify)
    others = "best" if args.which == "last" else "last"
    print(f"{target}: written, of {folder} (--which {others} may be another)")


if __name__ == "__main__":
    cli.run(main)
