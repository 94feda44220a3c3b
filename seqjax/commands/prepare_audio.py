"""`python -m seqjax.preprocess audio DIR`: a folder of recordings becomes manifests and labels.

The command line in; `train.tsv`, `valid.tsv` and, with `--transcripts`, `.wrd`, `.ltr` and
dictionaries out, as fairseq's examples/wav2vec make them. docs/speech.md has examples.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections import Counter
from collections.abc import Sequence

from seqjax import cli
from seqjax.config import ConfigError
from seqjax.data.audio import preparing, preparing_s2t, reading
from seqjax.data.sources import SourceError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = cli.Parser(
        prog="python -m seqjax.preprocess audio",
        description="List the recordings of a folder, and their transcripts.", allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = result.add_argument_group("as fairseq's wav2vec_manifest.py").add_argument
    add("root", metavar="DIR", help="folder with the recordings, and folders below it")
    add("--dest", "--destdir", default=".", metavar="OUT", help="folder to write")
    add("--valid-percent", type=float, default=0.01, metavar="SHARE",
        help="share of the recordings (0 to 1) for validation; 0: no valid.tsv")
    add("--ext", default="flac", metavar="EXT", help="how the files' names end: flac, wav, ogg")
    add("--seed", type=int, default=42, metavar="N", help="of the draw between both")
    add("--path-must-contain", metavar="TEXT", help="leave files without it in their path out")
    add("--split", metavar="NAME", help="all recordings are of this split (not in fairseq): of "
        "corpora that say which; dictionaries that are there already are kept")
    add = result.add_argument_group("transcripts").add_argument
    add("--transcripts", metavar="FILE", help="a line a recording, its name and its text; or a "
        "folder with *.trans.txt: write .wrd, .ltr and dict.ltr.txt too")
    add("--case", choices=["keep", "lower", "upper"], default="keep", help="of their letters")
    add("--no-punctuation", action="store_true",
        help="keep letters, digits and apostrophes only")
    add = result.add_argument_group(
        "speech to text", "write tables and config.yaml instead, as fairseq's "
        "examples/speech_to_text do").add_argument
    add("--s2t", action="store_true", help="do so; needs --transcripts")
    add("--vocab-type", choices=["unigram", "bpe", "char"], default="unigram",
        help="pieces of the text")
    add("--vocab-size", type=int, default=1000, metavar="N",
        help="entries of the dictionary (but for char)")
    add("--specaugment", choices=["lb", "ld", "sm", "ss", "none"], default="lb",
        help="what training masks")
    add = result.add_argument_group("files").add_argument
    add("--on-bad", choices=["error", "skip"], default="error",
        help="files that cannot be read, are empty, or (with --transcripts) have no text")
    add("--sample-rate", type=int, metavar="N", help="files of another rate are bad, too")
    add("--workers", type=int, default=0, metavar="N", help="files read at the same time (0: as "
        "many as there are cores)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit status."""
    args = parser().parse_args(argv)
    _check_options(args)
    transcripts = None if args.transcripts is None else preparing.read_transcripts(args.transcripts)
    found = _scan(args)
    texts = _texts(found.recordings, transcripts, preparing.TextForm(
        case=args.case, punctuation=not args.no_punctuation))
    recordings = _usable(args, found, texts)
    os.makedirs(args.dest, exist_ok=True)
    parts = {args.split: recordings} if args.split else preparing.split(
        recordings, valid_percent=args.valid_percent, seed=args.seed)
    if not parts.get("train", True):
        raise ConfigError(f"--valid-percent {args.valid_percent} leaves none of {len(recordings)} "
                          "recordings for training")
    for path in _write(args, found.root, parts, texts):
        print(path)
    for name, part in parts.items():
        print(f"{name}: {len(part)} recordings, {_hours(part)}")
    if not args.s2t:
        _say_rates(recordings)
    return 0


def _check_options(args: argparse.Namespace) -> None:
    if not 0.0 <= args.valid_percent <= 1.0:
        raise ConfigError(f"--valid-percent {args.valid_percent}: a share between 0 and 1")
    if args.transcripts is None and (args.no_punctuation or args.case != "keep" or args.s2t):
        raise ConfigError("--case, --no-punctuation and --s2t go with --transcripts")
    default = parser().get_default
    if args.split and (args.valid_percent != default("valid_percent") or args.s2t):
        raise ConfigError(f"--split {args.split}: goes with neither --valid-percent nor --s2t")
    for name in ("vocab_type", "vocab_size", "specaugment"):
        if getattr(args, name) != default(name) and not args.s2t:
            raise ConfigError(f"--{name.replace('_', '-')} goes with --s2t")


def _write(
    args: argparse.Namespace, root: str, parts: dict[str, list[preparing.Recording]],
    texts: dict[str, str] | None,
) -> list[str]:
    """Paths of what was written."""
    if args.s2t and texts is not None:
        return preparing_s2t.write_tables(
            args.dest, root, parts, texts, specaugment=args.specaugment,
            pieces=preparing_s2t.Pieces(kind=args.vocab_type, size=args.vocab_size))
    written = [preparing.write_manifest(args.dest, name, root, part)
               for name, part in parts.items()]
    if texts is not None:
        paths, unknown = preparing.write_labels(
            args.dest, {name: [texts[r.name] for r in part] for name, part in parts.items()},
            keep=bool(args.split))
        written += paths
        if unknown:
            print(f"note: {args.dest}/dict.ltr.txt has no {' '.join(unknown)}, which are unknown "
                  "symbols there", file=sys.stderr)
    return written


def _scan(args: argparse.Namespace) -> preparing.Found:
    paths = preparing.find_files(args.root, args.ext, must_contain=args.path_must_contain)
    reading.library("soundfile")
    progress, lock = cli.Progress(len(paths), unit="files"), threading.Lock()

    def tell(count: int) -> None:
        with lock:
            progress.add(count)

    threads = reading.Reading(workers=args.workers).threads
    found = preparing.scan(args.root, paths, threads=threads, tell=tell)
    progress.close()
    return found


def _texts(
    recordings: Sequence[preparing.Recording], transcripts: dict[str, str] | None,
    form: preparing.TextForm,
) -> dict[str, str] | None:
    """Texts by names of recordings, of those that have one."""
    if transcripts is None:
        return None
    found = {r.name: preparing.text_of(r, transcripts) for r in recordings}
    written = {name: form(text) for name, text in found.items() if text is not None}
    return {name: text for name, text in written.items() if text}


def _usable(
    args: argparse.Namespace, found: preparing.Found, texts: dict[str, str] | None
) -> list[preparing.Recording]:
    """Recordings without those that are bad, which are an error or are counted."""
    bad, good = [str(error) for error in found.bad], []
    for recording in found.recordings:
        path = os.path.join(found.root, recording.name)
        if args.sample_rate and recording.rate != args.sample_rate:
            bad.append(f"{path}: {recording.rate} samples a second, not {args.sample_rate}")
        elif texts is not None and recording.name not in texts:
            bad.append(f"{path}: has no text in {args.transcripts}")
        else:
            good.append(recording)
    if bad and args.on_bad == "error":
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise SourceError(f"{bad[0]}{more}; leave such files out with --on-bad skip")
    if bad:
        print(f"skipped {len(bad)} files; the first: {bad[0]}", file=sys.stderr)
    if not good:
        raise SourceError(f"{found.root}: no file can be used")
    return good


def _hours(recordings: Sequence[preparing.Recording]) -> str:
    seconds = sum(r.samples / r.rate for r in recordings)
    return f"{seconds / 3600:.2f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _say_rates(recordings: Sequence[preparing.Recording]) -> None:
    rates = Counter(r.rate for r in recordings)
    if set(rates) != {16000}:
        said = ", ".join(f"{count} of {rate} Hz" for rate, count in rates.most_common())
        print(f"note: {said}: set sample_rate to that, or resample to true, where they are used",
              file=sys.stderr)
