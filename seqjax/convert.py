"""fairseq's checkpoints and Hugging Face's to ours and back, and fairseq's commands to
configurations.

    python -m seqjax.convert model.pt DIR --data data-bin      # a folder of ours
    python -m seqjax.convert DIR model.pt                      # a file that fairseq loads
    python -m seqjax.convert DIR --to hf OUT                   # a folder that transformers loads
    python -m seqjax.convert HF_DIR --to fairseq model.pt      # of DIR, HF_DIR, hf:org/name, a .pt
    python -m seqjax.convert HF_DIR DIR                        # a folder of ours
    python -m seqjax.convert args 'fairseq-train data-bin --arch transformer ...'
    python -m seqjax.convert args model.pt                     # the run that wrote it
    python -m seqjax.convert keys model.pt                     # what becomes of its tensors

`args` prints a file for configs/ that does the same, and names every flag that it could not
honour. Nothing is written until all of it is known to be good; tensors keep their bits.
"""

from __future__ import annotations

import argparse
import os
import re
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
                        help="model.pt, a work folder or checkpoint, a folder of Hugging Face's "
                             "or hf:org/name, or the word args or keys")
    parser.add_argument("target", nargs="+",
                        help="what to write; after args: fairseq's command, or a .pt; after "
                             "keys: a checkpoint")
    parser.add_argument("--to", choices=("hf", "fairseq", "seqjax"),
                        help="whose the target is (default: NAME.pt fairseq's, a folder ours)")
    parser.add_argument("--max-shard-size", default="5GB", metavar="SIZE",
                        help="with --to hf: weights of more bytes are several files (default 5GB)")
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
    from seqjax.interop.huggingface import places

    args.source = places.resolve(args.source)
    if args.to is not None or places.is_folder(args.source):
        with locking.hold(locking.output_lock(target), what=target):
            _between(args, target)
        return None
    if args.max_shard_size != "5GB":
        raise ConfigError("--max-shard-size is for --to hf")
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


def _between(args: argparse.Namespace, target: str) -> None:
    """From whichever toolkit to whichever."""
    from seqjax import checkpoints
    from seqjax.interop import reading
    from seqjax.interop.fairseq import folder as fairseq_folder
    from seqjax.interop.fairseq.files import is_pt
    from seqjax.interop.huggingface import folder as hf_folder
    from seqjax.interop.huggingface import places

    to = args.to or ("fairseq" if target.endswith(".pt") else "seqjax")
    _check_between(args, target, to=to, of_pt=is_pt(args.source),
                   ours=not is_pt(args.source) and not places.is_folder(args.source))
    whole = reading.read(args.source, which=args.which, data=args.data, bpe=args.bpe,
                         tokenizer=args.tokenizer, verify=args.verify)
    if to == "hf":
        hf_folder.write_folder(whole, target, max_shard_size=_bytes(args.max_shard_size))
    elif to == "seqjax":
        target = os.fspath(fairseq_folder.save_folder(
            target, whole.config, whole.params, whole.assets))
    else:
        record = whole.record or checkpoints.Record(step=0, data={"epoch": 1, "batch": 0})
        config = hf_folder.as_fairseq(whole.config)
        task = fairseq_folder.save_file(
            target, config, whole.params, whole.assets, name=whole.name, record=record)
        for name in fairseq_folder.save_dictionaries(task, os.path.dirname(target) or "."):
            print(f"{name}: written", file=sys.stderr)
    print(f"{target}: written, of {whole.name}")


def _check_between(
    args: argparse.Namespace, target: str, *, to: str, of_pt: bool, ours: bool
) -> None:
    """Refuses what has no meaning for these two."""
    if to == ("seqjax" if ours else "fairseq" if of_pt else ""):
        raise ConfigError(f"{args.source}: is {'seqjax' if ours else 'fairseq'}'s already")
    if (to == "fairseq") != target.endswith(".pt"):
        raise ConfigError(f"{target}: fairseq's checkpoints are called NAME.pt, and those of no "
                          "other toolkit")
    if args.optimizer_state:
        raise ConfigError("--optimizer-state is for a work folder that becomes a .pt (DIR "
                          "model.pt, without --to)")
    for flag in ("data", "bpe", "tokenizer"):
        if getattr(args, flag) and not of_pt:
            raise ConfigError(f"--{flag} is for reading a .pt; {args.source} holds its own")
    if args.which != "best" and not ours:
        raise ConfigError(f"--which is for a work folder; {args.source} is one checkpoint")
    if args.max_shard_size != "5GB" and to != "hf":
        raise ConfigError("--max-shard-size is for --to hf")


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20,
          "GIB": 1 << 30}


def _bytes(size: str) -> int:
    """`5GB` as a number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", size.strip())
    if found is None or found[2].upper() not in _UNITS or float(found[1]) <= 0:
        raise ConfigError(f"--max-shard-size: {size!r}; give a number and a unit: 500MB, 5GB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


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
