"""`python -m seqjax.preprocess`: text -> a data folder, as fairseq-preprocess makes it.

With fairseq's flags and text that is already split into words or pieces, the stores and
dictionaries are fairseq's byte for byte. Beyond that it takes raw text (`--tokenizer`),
tab-separated files and TensorFlow datasets (`--source`). docs/data.md has examples.
`python -m seqjax.preprocess audio DIR` lists recordings (`commands.prepare_audio`), `s2t` makes
tables of a corpus of speech (`commands.prepare_s2t`); `features`, `kmeans` and `labels` make labels
of their frames (`commands.prepare_clusters`), `ngram` a language model of a text
(`commands.prepare_ngram`).

The command line is checked here and the result put in its place; the steps are in
`data.prepare`. Everything is written to a hidden folder inside the destination first, so
that the data are there whole or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from seqjax import cli, locking, signals, tasks
from seqjax.data import (
    binarize,
    compression,
    folder,
    make_tokenizers,
    prepare,
    prepare_sentences,
    sources,
    tokenizers,
)
from seqjax.data.dictionaries import digest
from seqjax.data.indexed import IndexedDatasetError
from seqjax.data.tokenizers import files
from seqjax.data.vocabulary import Vocabulary, VocabularyError

_LOCK = "preprocess.lock"
_SENTENCEPIECE_OPTIONS = ("model_type", "character_coverage")
_FILE_FLAGS = [f for f in files.FILE_FLAGS if f not in ("bpe_codes", "sentencepiece_model")]
"""fairseq's, beside those that have a line of their own."""

KNOWN_ERRORS = (
    locking.LockedError,
    prepare.PreprocessError,
    sources.SourceError,
    compression.CompressionError,
    tokenizers.TokenizerError,
    VocabularyError,
    IndexedDatasetError,
    folder.FolderError,
    binarize.WorkerError,
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = cli.Parser(
        prog="python -m seqjax.preprocess",
        description="Turn text into a data folder. Flags are fairseq-preprocess's, and more."
        " `preprocess audio DIR` lists recordings instead; `preprocess s2t`, `features`, `kmeans`,"
        " `labels` and `ngram` prepare speech, too: see `preprocess audio --help`.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_fairseq_flags(result)
    group = result.add_argument_group("raw text")
    add = group.add_argument
    add("--normalize", choices=tokenizers.UNICODE_FORMS,
        help="write all text in this Unicode form first (nfc: a letter and its accent are one"
        " character)")
    add("--tokenizer", metavar="KIND[:PATH]",
        help="cut raw text into pieces; without it, white space separates them already. KIND: "
        + ", ".join(make_tokenizers.KINDS) + ". PATH: its file, or the folder with its files "
        "(hf:FOLDER or hf:org/name brings the dictionary too); SRC,TGT for two")
    add("--moses", action="store_true", help="split into words with Moses before --tokenizer")
    add("--vocab-size", type=int, metavar="N",
        help=f"pieces of a tokenizer that is trained here ({make_tokenizers.DEFAULT_VOCAB_SIZE})")
    add("--bpe-codes", metavar="FILE", help="use these subword-nmt codes; SRC,TGT for two files")
    add("--sentencepiece-model", metavar="FILE", help="use this model; SRC,TGT for two files")
    for flag in _FILE_FLAGS:
        add(_spelled(flag), metavar="FILE", help=f"of --tokenizer {files.kind_of_flags([flag])}")
    for flag in files.SWITCH_FLAGS:
        add(_spelled(flag), action="store_true", default=None,
            help=f"of --tokenizer {files.kind_of_flags([flag])}")
    add("--model-type", choices=["unigram", "bpe"], help="kind of SentencePiece model (unigram)")
    add("--character-coverage", type=float, metavar="SHARE",
        help="share of characters with a SentencePiece piece of their own (1.0)")
    add("--tokenizer-sentences", type=int, default=2_000_000, metavar="N",
        help="train a tokenizer on at most about N lines, evenly spread")
    group = result.add_argument_group("source")
    add = group.add_argument
    add("--source", default="files", metavar="KIND",
        help="files: one per language, PREFIX.LANG. tsv: --trainpref and so on name"
        " tab-separated files. tfds:NAME: a TensorFlow dataset, tfds:FOLDER one that TFDS built")
    add("--tsv-columns", metavar="I,J", help="columns of source and target, from 0 (0,1); of"
        " sentences with labels those of the inputs, then that of the label")
    add("--tsv-test-columns", metavar="I,J",
        help="columns of the inputs in --testpref, whose sentences have no labels")
    add("--tsv-header", action="store_true", help="the first line of each file names the columns")
    add("--tfds-source-key", metavar="KEY", help="feature with the source text")
    add("--tfds-target-key", metavar="KEY", help="feature with the target text")
    add("--tfds-data-dir", metavar="DIR", help="where TFDS keeps its datasets")
    add("--tfds-download", action="store_true", help="let TFDS download the dataset")
    group = result.add_argument_group(
        "sentences with labels", "--task sentence_prediction reads PREFIX.input0, for pairs"
        " PREFIX.input1, and PREFIX.label (or --source tsv, or --source glue:FOLDER/RTE, GLUE's"
        " tables as they are downloaded) and writes input0/, input1/ and label/; --task"
        " sentence_ranking reads a context and candidates")
    add = group.add_argument
    add("--task", choices=sorted(tasks.TASKS), help="what the folder is for")
    add("--regression-target", action="store_true", help="labels are numbers")
    add("--label-scale", type=float, metavar="X", help="divide these by X")
    return result


def _labelled() -> dict[str, str]:
    """Tasks of sentences with labels -> what these are."""
    return {name: entry.labels for name, entry in tasks.TASKS.items() if entry.labels}


def _add_fairseq_flags(result: argparse.ArgumentParser) -> None:
    add = result.add_argument_group("as in fairseq").add_argument
    add("-s", "--source-lang", metavar="SRC", help="source language")
    add("-t", "--target-lang", metavar="TGT", help="target language")
    add("--trainpref", metavar="FP", help="prefix of training files, before .LANG; a,b for more")
    add("--validpref", metavar="FP", help="prefix of validation files; a,b make valid and valid1")
    add("--testpref", metavar="FP", help="prefix of test files; a,b make test and test1")
    add("--destdir", metavar="DIR", default="data-bin", help="folder to write")
    add("--joined-dictionary", action="store_true", help="one dictionary for both languages")
    add("--only-source", action="store_true", help="one language only")
    add("--srcdict", metavar="FP", help="use this source dictionary")
    add("--tgtdict", metavar="FP", help="use this target dictionary")
    add("--thresholdsrc", type=int, default=0, metavar="N", help="drop source words seen less")
    add("--thresholdtgt", type=int, default=0, metavar="N", help="drop target words seen less")
    add("--nwordssrc", type=int, default=-1, metavar="N", help="size of the source dictionary")
    add("--nwordstgt", type=int, default=-1, metavar="N", help="size of the target dictionary")
    add("--padding-factor", type=int, default=8, metavar="N",
        help="pad dictionary sizes to a multiple of this")
    add("--workers", type=int, default=1, metavar="N", help="number of processes")
    add("--dict-only", action="store_true", help="make the dictionaries only")
    add("--align-suffix", metavar="SUFFIX", help="binarize alignments PREFIX.SUFFIX too")
    add("--alignfile", metavar="FILE", help="make a dictionary of aligned words from this file")
    add("--dataset-impl", choices=["mmap"], default="mmap", help="format of the stores")


_OTHERS = {
    "audio": "seqjax.commands.prepare_audio:main",
    "features": "seqjax.commands.prepare_clusters:features_main",
    "kmeans": "seqjax.commands.prepare_clusters:kmeans_main",
    "labels": "seqjax.commands.prepare_clusters:labels_main",
    "ngram": "seqjax.commands.prepare_ngram:main",
    "s2t": "seqjax.commands.prepare_s2t:main",
}
"""What the first word on the command line may be, for data of another kind."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words and words[0] in _OTHERS:
        module, _, name = _OTHERS[words[0]].partition(":")
        return getattr(importlib.import_module(module), name)(words[1:])
    arguments = parser()
    args = arguments.parse_args(argv)
    args.tokenizer_path = None
    if args.tokenizer and ":" in args.tokenizer:
        args.tokenizer, _, args.tokenizer_path = args.tokenizer.partition(":")
    try:
        if args.tokenizer == "hf" and args.tokenizer_path:
            args.tokenizer_path = ",".join(map(_of_hub, args.tokenizer_path.split(",")))
        _run(args, arguments)
    except KNOWN_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        text = str(error)
        if error.strerror:  # the system's words, not ours; a full disk comes without a name
            text = f"{error.filename or args.destdir}: {error.strerror}"
        print(f"error: {text}", file=sys.stderr)
        return 2
    return 0


def _run(args: argparse.Namespace, arguments: argparse.ArgumentParser) -> None:
    _check_options(args)
    log = _Log()
    with _staging(args.destdir) as stage, binarize.Workers(
        args.workers, say=_say_progress
    ) as workers:
        if args.task in _labelled():
            _write_sentences(args, _changed(args, arguments), stage=stage, workers=workers, log=log)
            return
        raw = prepare.gather(args, stage, say=_say_progress)
        langs = prepare.languages(args)
        _check_destination(args, langs)
        job = prepare.Job(args=args, langs=langs, stage=stage, workers=workers, log=log)
        job.check(raw)
        log(f"{time.strftime('%Y-%m-%d %H:%M:%S')} preprocess {_changed(args, arguments)}")
        tokenized = job.tokenize(raw)
        texts, trained = tokenized.texts, tokenized.specs
        _check_tokenizers(args.destdir, job.out, trained)
        vocabularies = job.vocabularies(tokenized)
        if tokenized.vocabularies is not None:
            _check_same_dictionaries(args.destdir, vocabularies)
        splits = {} if args.dict_only else job.binarize(texts, vocabularies)
        if not args.dict_only:
            job.align(raw, texts, vocabularies)
        manifest = folder.Manifest(
            source_lang=args.source_lang,
            target_lang=args.target_lang,
            joined_dictionary=args.joined_dictionary,
            tokenizers={lang or "": spec for lang, spec in trained.items()},
            splits=splits,
            vocabularies={lang or "": len(v) for lang, v in vocabularies.items()},
            dictionaries={lang or "": digest(v) for lang, v in vocabularies.items()},
            options=_changed(args, arguments),
        )
        folder.save_manifest(job.out, _merged(folder.load_manifest(args.destdir), manifest))
        _publish(job.out, args.destdir)
        log(f"Wrote preprocessed data to {args.destdir}")
        log.save(os.path.join(args.destdir, "preprocess.log"))


def _of_hub(path: str) -> str:
    """The folder of `org/name`, of the Hugging Face Hub or its cache; any other path as it is.

    Raises:
      PreprocessError: there is no such model.
    """
    names = path.split("/")
    if os.path.exists(path) or len(names) != 2 or not all(names) or os.path.isdir(names[0]) or (
            names[0].startswith((".", "~"))):
        return path
    from seqjax.checkpoints import CheckpointError
    from seqjax.interop.huggingface import places

    try:
        return places.resolve(f"{places.SCHEME}{path}")
    except CheckpointError as error:
        raise prepare.PreprocessError(f"--tokenizer {error}") from None


def _write_sentences(
    args: argparse.Namespace, options: dict[str, object], *, stage: str,
    workers: binarize.Workers, log: _Log,
) -> None:
    """Sentences with labels, in a folder that has none yet."""
    there = os.path.join(args.destdir, "input0")
    if os.path.exists(there):
        raise prepare.PreprocessError(
            f"{there} exists already. Choose another --destdir, or remove the old data")
    log(f"{time.strftime('%Y-%m-%d %H:%M:%S')} preprocess {options}")
    out = prepare_sentences.write(args, stage, workers=workers, log=log, options=options,
                                  ranked=_labelled()[args.task] == "places")
    _publish(out, args.destdir)
    log(f"Wrote preprocessed data to {args.destdir}")
    log.save(os.path.join(args.destdir, "preprocess.log"))


def _merged(before: folder.Manifest | None, new: folder.Manifest) -> folder.Manifest:
    """What the folder holds after more was added to it."""
    if before is None:
        return new
    same = (before.source_lang, before.target_lang) == (new.source_lang, new.target_lang)
    return dataclasses.replace(
        new,
        tokenizers={**before.tokenizers, **new.tokenizers},
        splits={**before.splits, **new.splits} if same else new.splits,
        vocabularies={**before.vocabularies, **new.vocabularies},
        dictionaries={**before.dictionaries, **new.dictionaries},
    )


class _Log:
    """Lines on the terminal that `preprocess.log` keeps."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def save(self, path: str) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in self.lines))


def _say_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _changed(args: argparse.Namespace, arguments: argparse.ArgumentParser) -> dict[str, object]:
    return {k: v for k, v in vars(args).items() if v != arguments.get_default(k)}


def _check_options(args: argparse.Namespace) -> None:
    """Options that contradict each other, or that nothing would read."""

    def refuse(condition: object, message: str) -> None:
        if condition:
            raise prepare.PreprocessError(message)

    kind, joined = args.tokenizer, args.joined_dictionary
    if args.task in _labelled():
        refuse(args.workers < 1, "--workers must be 1 or more")
        prepare_sentences.check_options(args, refuse, ranked=_labelled()[args.task] == "places")
        _check_tokenizer_options(args, kind, refuse)
        return
    refuse(args.regression_target or args.label_scale or args.tsv_test_columns or args.tsv_header,
           "--regression-target, --label-scale, --tsv-test-columns and --tsv-header go with --task")
    kind_of_source = args.source.partition(":")[0]
    refuse(args.workers < 1, "--workers must be 1 or more")
    refuse(args.tokenizer_sentences < 1, "--tokenizer-sentences must be 1 or more")
    refuse(kind_of_source not in ("files", "tsv", "tfds") or args.source == "tfds",
           f"--source {args.source}: expected files, tsv or tfds:NAME")
    refuse(joined and args.only_source, "--joined-dictionary and --only-source do not go together")
    refuse(joined and args.srcdict and args.tgtdict,
           "--joined-dictionary takes --srcdict or --tgtdict, not both")
    refuse(args.only_source and args.tgtdict, "--tgtdict and --only-source do not go together")
    refuse(args.source_lang and args.source_lang == args.target_lang,
           f"--source-lang and --target-lang are both {args.source_lang!r}")
    if kind_of_source != "tfds":
        refuse(not args.only_source and not (args.source_lang and args.target_lang),
               "--source-lang and --target-lang are needed (or --only-source)")
        refuse(not (args.trainpref or args.validpref or args.testpref or args.dict_only),
               "there is nothing to read: give --trainpref, --validpref or --testpref")
        refuse(args.tfds_source_key or args.tfds_target_key or args.tfds_data_dir
               or args.tfds_download, "--tfds-... options go with --source tfds:NAME")
        refuse(not args.trainpref and not prepare.given_dictionaries(args),
               "--trainpref is needed to make a dictionary from (or give --srcdict"
               f"{'' if args.only_source else ' and --tgtdict'})")
    else:
        refuse(args.trainpref or args.validpref or args.testpref,
               "--trainpref, --validpref and --testpref do not go with --source tfds:NAME")
    refuse(kind_of_source != "tsv" and args.tsv_columns, "--tsv-columns goes with --source tsv")
    refuse(kind_of_source != "files" and (args.align_suffix or args.alignfile),
           "alignments go with --source files")
    refuse(args.only_source and (args.align_suffix or args.alignfile),
           "alignments need two languages")
    refuse((args.alignfile or args.align_suffix) and args.tokenizer,
           "alignments are of words as they are in the text: leave out --tokenizer")
    refuse(args.alignfile and "," in (args.trainpref or ","), "--alignfile needs one --trainpref")
    _check_tokenizer_options(args, kind, refuse)


def _check_tokenizer_options(
    args: argparse.Namespace, kind: str | None, refuse: Callable[[object, str], None]
) -> None:
    refuse(kind is not None and kind not in make_tokenizers.KINDS,
           f"--tokenizer {kind}: unknown. Known: {', '.join(make_tokenizers.KINDS)}")
    path = args.tokenizer_path
    refuse(path is not None and kind not in files.KINDS,
           f"--tokenizer {kind} is made of no file: leave out :{path}")
    for flag in (*files.FILE_FLAGS, *files.SWITCH_FLAGS):
        owner = files.kind_of_flags([flag])
        refuse(getattr(args, flag) is not None and kind != owner,
               f"{_spelled(flag)} goes with --tokenizer {owner}")
        refuse(getattr(args, flag) is not None and path and flag in files.FILE_FLAGS,
               f"--tokenizer {kind}:{path} and {_spelled(flag)}: give one")
    for name in _SENTENCEPIECE_OPTIONS:
        refuse(getattr(args, name) is not None and kind != "sentencepiece",
               f"{_spelled(name)} goes with --tokenizer sentencepiece")
    given = make_tokenizers.given_files(args, kind)
    needed = files.KINDS[kind].parts if kind in files.KINDS else ()
    refuse(needed and not given and kind not in make_tokenizers.TRAINED,
           f"--tokenizer {kind} needs {' and '.join(part.names[0] for part in needed)}: give "
           f"--tokenizer {kind}:FOLDER" + "".join(
               f"{' or' if k == 0 else ''} {_spelled(part.flag)} FILE"
               for k, part in enumerate(needed) if part.flag))
    for part in needed if given and not path else ():
        refuse(getattr(args, part.flag) is None,
               f"--tokenizer {kind} needs {_spelled(part.flag)} too")
    model = path or args.bpe_codes or args.sentencepiece_model
    refuse(model and "," in model and args.joined_dictionary,
           "--joined-dictionary needs one tokenizer model for both languages")
    _check_trained(args, kind, kind in make_tokenizers.TRAINED and not given, refuse)
    own = kind == "hf"
    refuse(own and (args.srcdict or args.tgtdict),
           "--srcdict and --tgtdict do not go with --tokenizer hf: its ids are the dictionary's")
    refuse(own and (max(args.nwordssrc, args.nwordstgt, args.thresholdsrc, args.thresholdtgt) > 0
                    or args.padding_factor != 8),
           "--nwords..., --threshold... and --padding-factor do not go with --tokenizer hf: its "
           "vocabulary is taken as it is")
    refuse(args.moses and kind == "moses", "--moses and --tokenizer moses are the same: give one")


def _check_trained(
    args: argparse.Namespace, kind: str | None, trained: bool,
    refuse: Callable[[object, str], None],
) -> None:
    """Options of a tokenizer that is trained here, and those that do not go with one."""
    refuse(args.vocab_size is not None and not trained,
           "--vocab-size is for a tokenizer that is trained here: --tokenizer sentencepiece or"
           " subword_nmt without a model; --nwordssrc and --nwordstgt limit dictionaries")
    refuse(args.model_type and not trained or args.character_coverage and not trained,
           "--model-type and --character-coverage are for a model that is trained here")
    refuse(trained and (args.srcdict or args.tgtdict),
           f"--srcdict and --tgtdict list the pieces of another {kind} model than the one that"
           " would be trained now: give that model, with "
           + ("--sentencepiece-model" if kind == "sentencepiece" else "--bpe-codes"))
    refuse(trained and args.source.partition(":")[0] != "tfds" and not args.trainpref,
           f"--tokenizer {kind} is trained on --trainpref: give it, or a model")


def _spelled(flag: str) -> str:
    return f"--{flag.replace('_', '-')}"


@contextlib.contextmanager
def _staging(destdir: str) -> Iterator[str]:
    """A hidden folder in the destination, removed in any case."""
    created = not os.path.isdir(destdir)
    os.makedirs(destdir, exist_ok=True)
    stage = os.path.join(destdir, f".preprocess.tmp{os.getpid()}")

    def remove() -> None:
        shutil.rmtree(stage, ignore_errors=True)
        if created and not set(os.listdir(destdir)) - {_LOCK}:
            shutil.rmtree(destdir)

    with (
        locking.hold(os.path.join(destdir, _LOCK), what=f"--destdir {destdir}"),
        signals.advice("interrupted: nothing was written", cleanup=remove),
    ):
        os.makedirs(os.path.join(stage, "out"))
        try:
            yield stage
        finally:
            remove()


def _publish(out: str, destdir: str) -> None:
    # The manifest last: it vouches for everything else.
    for name in sorted(os.listdir(out), key=lambda name: (name == folder.MANIFEST, name)):
        os.replace(os.path.join(out, name), os.path.join(destdir, name))


def _check_destination(args: argparse.Namespace, langs: list[prepare.Lang]) -> None:
    """Refuses to replace a dictionary, without which the stores there are worthless."""
    if args.tokenizer == "hf":
        return  # it will be the same, or `_check_same_dictionaries` says so
    for lang, given, flag in zip(
        langs, (args.srcdict, args.tgtdict), ("--srcdict", "--tgtdict"), strict=False
    ):
        path = folder.dict_path(args.destdir, lang)
        given = given or (args.joined_dictionary and (args.srcdict or args.tgtdict))
        if os.path.exists(path) and not given:
            raise prepare.PreprocessError(
                f"{path} exists already. Choose another --destdir, remove the old data, or add to"
                f" it with its own dictionary: {flag} {path}"
            )


def _check_same_dictionaries(
    destdir: str, vocabularies: Mapping[prepare.Lang, Vocabulary]
) -> None:
    """Refuses another dictionary than that of the stores that are there."""
    for lang, vocabulary in vocabularies.items():
        for path in (folder.dict_path(destdir, lang),
                     os.path.join(destdir, folder.whole_name(lang))):
            if os.path.exists(path) and folder.load_dictionary(destdir, lang) != vocabulary:
                raise prepare.PreprocessError(
                    f"{path} exists already, and is not the vocabulary of this tokenizer: choose "
                    "another --destdir, or remove the old data")


def _check_tokenizers(destdir: str, out: str, specs: Mapping[prepare.Lang, dict]) -> None:
    """Refuses to cut further text of a folder otherwise than what is there: the folder has one
    tokenizer a language, by which texts will be read."""
    before = folder.load_tokenizers(destdir)
    for lang, spec in specs.items():
        there, now = before.get(lang or ""), folder.load_tokenizer(out, spec)
        if there is not None and there != now:
            raise prepare.PreprocessError(
                f"{destdir} holds {lang or 'text'} cut by {there!r}, but this would be cut by"
                f" {now!r}: give the options and models of that run, or another --destdir")


if __name__ == "__main__":
    cli.run(main)
