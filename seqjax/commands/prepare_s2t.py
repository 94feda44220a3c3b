"""`python -m seqjax.preprocess s2t ROOT`: a corpus of speech becomes tables of speech to text.

    python -m seqjax.preprocess s2t LibriSpeech --layout librispeech --dest librispeech \\
        --vocab-size 10000 --specaugment ld
    python -m seqjax.preprocess s2t must-c/en-de --layout mustc --task st --dest mustc.en-de \\
        --vocab-size 8000

The corpus as it is unpacked, or manifests of `preprocess audio` with a line of text a recording,
in; what fairseq's examples/speech_to_text make of it out: tables, archives of filterbanks, a
dictionary, a tokenizer and `config.yaml`. Archives that are there already are kept, so that a
command that was killed goes on behind the last split that was done.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from seqjax import cli
from seqjax.config import ConfigError
from seqjax.data import whole_files
from seqjax.data.audio import preparing, preparing_s2t, s2t_corpora
from seqjax.data.audio.reading import AudioError, Reading
from seqjax.data.sources import SourceError

if TYPE_CHECKING:  # it imports JAX
    from seqjax.data.audio.s2t_store import Store, Stored

_STATISTICS = "gcmvn.npz"
Corpus = dict[str, list[s2t_corpora.Utterance]]
"""Utterances of each split."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = cli.Parser(
        prog="python -m seqjax.preprocess s2t", allow_abbrev=False,
        description="Make tables of speech to text of a corpus.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = result.add_argument_group("corpus").add_argument
    add("root", metavar="ROOT", help="folder of the corpus")
    add("--layout", choices=["librispeech", "mustc", "manifest"], required=True,
        help="how it lies there. librispeech: SPLIT/**/*.trans.txt beside .flac. mustc: "
        "data/SPLIT/txt and wav, in a folder en-XX. manifest: SPLIT.tsv of preprocess audio, and "
        "a line a recording in SPLIT.KIND")
    add("--splits", metavar="A,B", help="which (default: all that are there)")
    add("--task", choices=["asr", "st"], default="asr",
        help="mustc: transcripts or translations are the targets")
    add("--text", metavar="KIND", help="manifest: end of the names of the files with texts (wrd)")
    add("--case", choices=["keep", "lower", "upper"],
        help="of texts (default: lower of librispeech, else keep)")
    add("--no-punctuation", action="store_true",
        help="keep letters, digits and apostrophes of texts only")
    add("--min-frames", type=int, default=5, metavar="N", help="leave shorter ones out")
    add("--max-frames", type=int, default=3000, metavar="N",
        help="leave longer ones out of training (0: none)")
    add = result.add_argument_group("what is written").add_argument
    add("--dest", "--destdir", default=".", metavar="OUT", help="folder to write")
    add("--store", choices=["features", "flac", "files"], default="features",
        help="features: filterbanks, in an archive a split. flac: sound, likewise. files: "
        "recordings stay where they are (not of mustc, whose are whole talks)")
    add("--vocab-type", choices=["unigram", "bpe", "char"], default="unigram",
        help="pieces of the text of splits that begin with train")
    add("--vocab-size", type=int, default=8000, metavar="N",
        help="entries of the dictionary (but for char)")
    add("--specaugment", choices=["lb", "ld", "sm", "ss", "none"], default="lb",
        help="what training masks")
    add("--cmvn", choices=["utterance", "global"], default="utterance",
        help="whose means and deviations features are normalised by: global: of training's "
        "(--store features)")
    add = result.add_argument_group("files").add_argument
    add("--on-bad", choices=["error", "skip"], default="error",
        help="recordings that cannot be used")
    add("--sample-rate", type=int, default=16000, metavar="N", help="that recordings must have")
    add("--resample", action="store_true", help="bring others to it")
    add("--workers", type=int, default=0, metavar="N", help="files read at the same time (0: as "
        "many as there are cores)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit status."""
    args = parser().parse_args(argv)
    _check_options(args)
    corpus, kind = _corpus(args), args.task if args.layout == "mustc" else ""
    vocabulary = preparing_s2t.corpus_vocabulary(  # before sound is read: sizes may be wrong
        preparing_s2t.Pieces(kind=args.vocab_type, size=args.vocab_size), kind=kind,
        train=[u.text for name, part in corpus.items() if name.startswith("train") for u in part])
    os.makedirs(args.dest, exist_ok=True)
    tables = _tables(args, corpus)
    features = preparing_s2t.Features(
        root="" if args.store == "files" else os.path.realpath(args.dest),
        sample_rate=args.sample_rate, specaugment=args.specaugment,
        statistics=_statistics(args, tables) if args.cmvn == "global" else None)
    for path in preparing_s2t.write_corpus(
            args.dest, tables, vocabulary=vocabulary, features=features, kind=kind):
        print(path)
    for name, part in tables.items():
        hours = sum(x.frames for x in part) / 360_000
        print(f"{name}: {len(part)} utterances, {hours:.2f} hours")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    if args.layout != "mustc" and args.task != "asr":
        raise ConfigError("--task st goes with --layout mustc; of a manifest, --text says which "
                          "lines are the targets")
    if args.layout != "manifest" and args.text is not None:
        raise ConfigError("--text goes with --layout manifest")
    if args.layout == "mustc" and args.store == "files":
        raise ConfigError("--store files: MuST-C's recordings are whole talks, of which utterances "
                          "are parts: store features or flac")
    if args.cmvn == "global" and args.store != "features":
        raise ConfigError("--cmvn global: statistics are those of stored features: "
                          "--store features")
    if args.min_frames < 1 or args.max_frames < 0:
        raise ConfigError("--min-frames is 1 or more, --max-frames 0 or more")
    if args.sample_rate < 1:
        raise ConfigError(f"--sample-rate {args.sample_rate}: is not positive")


def _corpus(args: argparse.Namespace) -> Corpus:
    """What the corpus says of its utterances; no sound is read."""
    names = args.splits.split(",") if args.splits else s2t_corpora.splits_of(
        args.root, args.layout)
    if not any(name.startswith("train") for name in names):
        raise ConfigError(f"--splits {','.join(names)}: none begins with train, of whose text the "
                          "dictionary is made")
    form = preparing.TextForm(
        case=args.case or ("lower" if args.layout == "librispeech" else "keep"),
        punctuation=not args.no_punctuation)
    found = {name: _split(args, name) for name in names}
    return {name: [dataclasses.replace(u, text=form(u.text)) for u in part]
            for name, part in found.items()}


def _split(args: argparse.Namespace, name: str) -> list[s2t_corpora.Utterance]:
    if args.layout == "librispeech":
        return s2t_corpora.librispeech(args.root, name)
    if args.layout == "manifest":
        return s2t_corpora.listed(args.root, name, args.text or "wrd")
    source, _, target = os.path.basename(os.path.realpath(args.root)).partition("-")
    if not target:
        raise SourceError(f"{args.root}: MuST-C's folders are called en-de, en-fr, ...")
    return s2t_corpora.mustc(args.root, name, source if args.task == "asr" else target)


def _tables(args: argparse.Namespace, corpus: Corpus) -> dict[str, list[Stored]]:
    """Utterances of each split that are used; says how many are not, and why."""
    progress, lock = cli.Progress(sum(map(len, corpus.values())), unit="utterances"), (
        threading.Lock())

    def tell(count: int) -> None:
        with lock:
            progress.add(count)

    store = _store(args, tell)
    tables, bad = {}, []
    for name, utterances in corpus.items():
        stored, wrong = store.put(name, utterances)
        bad += wrong
        tables[name] = _filtered(args, name, stored)
    progress.close()
    if bad:
        print(f"skipped {len(bad)} utterances; the first: {bad[0]}", file=sys.stderr)
    empty = [name for name, part in tables.items() if not part]
    if empty:
        raise SourceError(f"{args.root}: no utterance of {empty[0]} can be used")
    return tables


def _filtered(args: argparse.Namespace, name: str, stored: list[Stored]) -> list[Stored]:
    most = args.max_frames if name.startswith("train") and args.max_frames else None
    short = [x for x in stored if x.frames < args.min_frames]
    long = [x for x in stored if most is not None and x.frames > most]
    empty = [x for x in stored if not x.utterance.text]
    out = {id(x) for x in (*short, *long, *empty)}
    if out:
        print(f"{name}: left out: {len(short)} below {args.min_frames} frames, {len(long)} above "
              f"{most or 'any'}, {len(empty)} without text", file=sys.stderr)
    return [x for x in stored if id(x) not in out]


def _store(args: argparse.Namespace, tell: preparing.Tell) -> Store:
    from seqjax.data.audio.s2t_store import Store

    reading = Reading(sample_rate=args.sample_rate, resample=args.resample, on_bad=args.on_bad,
                      workers=args.workers)
    return Store(folder=args.dest, kind=args.store, reading=reading, tell=tell,
                 compute=lambda rows: _filterbanks(rows, args.sample_rate))


def _filterbanks(rows: list[np.ndarray], sample_rate: int) -> list[np.ndarray]:
    """[T, 80] of samples [N] each, compiled for a few lengths."""
    import jax
    import jax.numpy as jnp

    from seqjax.data.audio.filterbank import FBANK, fbank
    from seqjax.hub import waveforms

    options = dataclasses.replace(FBANK, sample_rate=sample_rate)
    found = [np.zeros((0, options.num_mel_bins), np.float32)] * len(rows)
    for some, samples, real in waveforms.batches(rows):
        lengths = real.sum(1, dtype=np.int32)
        values, frames = jax.device_get(
            fbank(jnp.asarray(samples), jnp.asarray(lengths), options))
        for row, place in enumerate(some):
            found[place] = values[row, :frames[row]]
    return found


def _statistics(args: argparse.Namespace, tables: dict[str, list[Stored]]) -> str:
    """Writes means and deviations of training's features; gives the file's name."""
    from seqjax.data.audio.s2t_store import statistics

    paths = [os.path.join(args.dest, x.audio) for name, part in tables.items()
             if name.startswith("train") for x in part]
    progress = cli.Progress(len(paths), unit="utterances measured")
    try:
        found = statistics(paths, threads=Reading(workers=args.workers).threads, tell=progress.add)
    except AudioError as error:
        raise SourceError(str(error)) from None
    progress.close()
    file = io.BytesIO()
    np.savez(file, mean=found["mean"], std=found["std"])
    whole_files.write(os.path.join(args.dest, _STATISTICS), file.getvalue())
    return _STATISTICS
