"""The steps of `python -m seqjax.preprocess --task TASK` for tasks of sentences with labels: from
files, tab-separated tables or GLUE's folders to `input0/ input1/ label/`.

The folder is what fairseq's recipe for GLUE makes by one call of fairseq-preprocess for each input
and one for the labels, byte for byte with its dictionary and pieces.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from seqjax.data import binarize, folder, prepare, sources
from seqjax.data.dictionaries import digest
from seqjax.data.make_tokenizers import Lang, Texts
from seqjax.data.prepare import PreprocessError
from seqjax.data.vocabulary import Vocabulary

LABEL = "label"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlueTask:
    """Where a table of GLUE's has its columns, from 0."""

    inputs: tuple[int, ...]
    label: int
    test_inputs: tuple[int, ...] | None = None
    """Of the test split, if its columns are others."""
    dev_label: int | None = None
    """Of the validation splits, if it is another."""
    header: bool = True
    """Whether training and validation have a line of names; the test split always has."""
    width: int | None = None
    """Columns of a line; others are left out of training and validation, with a count."""
    splits: tuple[tuple[str, str], ...] = (("train", "train"), ("dev", "valid"), ("test", "test"))
    """Name of a table -> of a split."""
    scale: float | None = None
    """Labels are numbers, and are divided by this."""


GLUE = {
    "QQP": GlueTask(inputs=(3, 4), label=5, test_inputs=(1, 2), width=6),
    "MNLI": GlueTask(inputs=(8, 9), label=11, dev_label=15, splits=(
        ("train", "train"), ("dev_matched", "valid"), ("dev_mismatched", "valid1"),
        ("test_matched", "test"), ("test_mismatched", "test1"))),
    "QNLI": GlueTask(inputs=(1, 2), label=3),
    "MRPC": GlueTask(inputs=(3, 4), label=0),
    "RTE": GlueTask(inputs=(1, 2), label=3),
    "STS-B": GlueTask(inputs=(7, 8), label=9, scale=5.0),
    "SST-2": GlueTask(inputs=(0,), label=1, test_inputs=(1,)),
    "CoLA": GlueTask(inputs=(3,), label=1, test_inputs=(1,), header=False),
}
"""GLUE's name of a task, as its folder is called -> its tables."""


def check_options(
    args: argparse.Namespace, refuse: Callable[[object, str], None], *, ranked: bool
) -> None:
    """Refuses options that contradict each other, or that nothing would read.

    Args:
      ranked: labels are places of the right candidate.
    """
    kind, _, place = args.source.partition(":")
    refuse(kind not in ("files", "tsv", "glue"),
           f"--source {args.source}: --task {args.task} reads files, tsv or glue:FOLDER")
    for name in ("source_lang", "target_lang", "only_source", "tgtdict", "align_suffix",
                 "alignfile", "dict_only"):
        refuse(getattr(args, name), f"--{name.replace('_', '-')} does not go with --task "
                                    f"{args.task}")
    given = any((args.trainpref, args.validpref, args.testpref))
    if kind == "glue":
        name = os.path.basename(os.path.normpath(place))
        refuse(name not in GLUE, f"--source {args.source}: name one of GLUE's folders: "
                                 + ", ".join(GLUE))
        refuse(given, "--trainpref, --validpref and --testpref do not go with --source glue:FOLDER")
        refuse(args.regression_target or args.label_scale or ranked,
               "--source glue:FOLDER says by itself what the labels are")
    else:
        refuse(not args.trainpref, "--trainpref is needed: its labels are the classes")
    refuse(kind != "tsv" and (args.tsv_columns or args.tsv_test_columns or args.tsv_header),
           "--tsv-columns, --tsv-test-columns and --tsv-header go with --source tsv")
    refuse(kind == "tsv" and not args.tsv_columns,
           "--tsv-columns I,J,K: name the columns of the inputs, and then that of the label")
    refuse(args.label_scale is not None and not args.regression_target,
           "--label-scale goes with --regression-target")
    refuse(args.label_scale == 0, "--label-scale must not be 0")
    refuse(args.regression_target and ranked,
           f"--regression-target does not go with --task {args.task}")


# ---- what there is to read ----


def gather(args: argparse.Namespace, raw: str, *, log: binarize.Say) -> Texts:
    """Split -> `input0`, `input1`, ... and, where there are labels, `label` -> file of lines.

    Raises:
      PreprocessError, sources.SourceError: naming the file, the line or the option.
    """
    os.makedirs(raw)
    if args.source.startswith("glue:"):
        return _of_glue(args.source.partition(":")[2], raw, log=log)
    texts: Texts = {}
    for split in prepare.SPLITS:
        prefixes = getattr(args, f"{split}pref")
        for k, prefix in enumerate(prefixes.split(",") if prefixes else []):
            name = f"{split}{k or ''}"
            read = _of_table if args.source == "tsv" else _of_files
            texts[name] = read(prefix, split, args, os.path.join(raw, name))
    return texts


def _of_files(
    prefix: str, split: str, args: argparse.Namespace, output: str
) -> dict[Lang, str]:
    """`PREFIX.input0`, `PREFIX.input1`, ... and `PREFIX.label`."""
    del args, output
    found: dict[Lang, str] = {"input0": prepare.existing(f"{prefix}.input0")}
    while os.path.isfile(path := prepare.existing(f"{prefix}.input{len(found)}")):
        found[f"input{len(found)}"] = path
    label = prepare.existing(f"{prefix}.{LABEL}")
    if os.path.isfile(label) or split != "test":
        found[LABEL] = label
    return found


def _of_table(
    path: str, split: str, args: argparse.Namespace, output: str
) -> dict[Lang, str]:
    *inputs, label = _numbers(args.tsv_columns, "--tsv-columns", at_least=2)
    labelled = True
    if split == "test" and args.tsv_test_columns:
        inputs = _numbers(args.tsv_test_columns, "--tsv-test-columns", at_least=1)
        labelled = False
    columns = {f"input{i}": column for i, column in enumerate(inputs)}
    return _split_table(path, columns | ({LABEL: label} if labelled else {}), output,
                        header=args.tsv_header)[0]


def _numbers(text: str, flag: str, *, at_least: int) -> list[int]:
    columns = text.split(",")
    if len(columns) < at_least or not all(column.isdecimal() for column in columns):
        raise PreprocessError(f"{flag} {text}: expected {at_least} or more numbers such as 0,1,2")
    return [int(column) for column in columns]


def _of_glue(place: str, raw: str, *, log: binarize.Say) -> Texts:
    task = GLUE[os.path.basename(os.path.normpath(place))]
    texts: Texts = {}
    for table, split in task.splits:
        path, test = os.path.join(place, f"{table}.tsv"), split.startswith("test")
        if test and not os.path.exists(path):
            log(f"note: {path}: there is none, so the folder gets no split {split}")
            continue
        inputs = task.test_inputs if test and task.test_inputs else task.inputs
        columns = {f"input{i}": column for i, column in enumerate(inputs)}
        if not test:
            dev = split.startswith("valid") and task.dev_label is not None
            columns[LABEL] = task.dev_label if dev else task.label  # type: ignore[assignment]
        texts[split], left = _split_table(
            path, columns, os.path.join(raw, split), header=task.header or test,
            width=None if test else task.width)
        if left:
            log(f"note: {path}: {left:,} lines without {task.width} columns are left out")
    return texts


def _split_table(
    path: str, columns: dict[str, int], output: str, *, header: bool, width: int | None = None,
) -> tuple[dict[Lang, str], int]:
    """Columns of a tab-separated table as files of lines; and how many lines were left out.

    Args:
      columns: name -> column, from 0.
      output: what the files' names begin with.
      header: leave out the first line.
      width: leave out lines of another number of columns.
    """
    sources.require_file(path)
    files: dict[Lang, str] = {name: f"{output}.{name}" for name in columns}
    handles = {name: open(file, "w", encoding="utf-8", newline="\n")  # noqa: SIM115
               for name, file in files.items()}
    left = 0
    try:
        for number, line in enumerate(sources.iterate_lines([path]), 1):
            cells = line.rstrip("\n").split("\t")
            if header and number == 1:
                continue
            if width is not None and len(cells) != width:
                left += 1
                continue
            if len(cells) <= max(columns.values()):
                raise sources.SourceError(
                    f"{path}: line {number} has {len(cells)} columns (tabs separate them), column "
                    f"{max(columns.values())} is wanted (counted from 0)")
            for name, column in columns.items():
                handles[name].write(cells[column] + "\n")
    finally:
        for handle in handles.values():
            handle.close()
    return files, left


# ---- what is written ----


class SentenceJob(prepare.Job):
    """The steps for inputs of one dictionary, each in a folder of its own. What stands for
    languages are `input0`, `input1`, ..., behind a language where rules are of one: `en-input0`."""

    def _save(self, vocabulary: Vocabulary, lang: Lang) -> None:
        place = os.path.join(self.out, _side(lang))
        os.makedirs(place, exist_ok=True)
        folder.save_dictionary(place, vocabulary)

    def _store(self, split: str, lang: Lang) -> str:
        return f"{_side(lang)}/{split}"


def _side(lang: Lang) -> str:
    """`input0` of what stands for a language."""
    return str(lang).rpartition("-")[2]


def write(
    args: argparse.Namespace, stage: str, *, workers: binarize.Workers, log: binarize.Say,
    options: dict[str, object], ranked: bool,
) -> str:
    """Makes the whole folder.

    Args:
      stage: a folder to work in.
      options: of the command line, for the manifest.
      ranked: labels are places of the right candidate.

    Returns:
      Where it is, to be put in its place.

    Raises:
      PreprocessError, sources.SourceError: naming the file, the line or the option.
    """
    texts = gather(args, os.path.join(stage, "raw"), log=log)
    langs = _inputs(texts, args, ranked=ranked)
    args = argparse.Namespace(**{
        **vars(args), "source_lang": None, "target_lang": None, "joined_dictionary": True})
    code = "en-" if args.moses or args.tokenizer == "moses" else ""
    job = SentenceJob(args=args, langs=[code + lang for lang in langs], stage=stage,
                      workers=workers, log=log)
    job.check(texts)
    labels = {split: files[LABEL] for split, files in texts.items() if LABEL in files}
    words: Texts = {split: {code + lang: files[lang] for lang in langs}
                    for split, files in texts.items()}
    tokenized = job.tokenize(words)
    vocabularies = job.vocabularies(tokenized)
    splits = job.binarize(tokenized.texts, vocabularies)
    named = {_side(lang): vocabulary for lang, vocabulary in vocabularies.items()}
    scale = _scale(args)
    if scale is None and not ranked:
        named[LABEL] = _write_classes(labels, job)
    else:
        _write_numbers(labels, os.path.join(job.out, LABEL), scale=scale,
                       candidates=len(langs) - 1 if ranked else None)
    folder.save_manifest(job.out, folder.Manifest(
        source_lang=None, target_lang=None, joined_dictionary=True, splits=splits,
        tokenizers={"": tokenized.specs[job.langs[0]]} if tokenized.specs else {},
        vocabularies={name: len(v) for name, v in named.items()},
        dictionaries={name: digest(v) for name, v in named.items()}, options=options))
    return job.out


def _inputs(texts: Texts, args: argparse.Namespace, *, ranked: bool) -> tuple[str, ...]:
    """Names of the inputs, of which all splits must have the same."""
    found = {split: tuple(str(name) for name in files if name != LABEL)
             for split, files in texts.items()}
    if "train" not in found:
        raise PreprocessError("there is no training split, whose labels are the classes")
    for split, names in found.items():
        if names != found["train"]:
            raise PreprocessError(f"{split} has {', '.join(names)}, but train has "
                                  f"{', '.join(found['train'])}")
    if ranked and len(found["train"]) < 3:
        raise PreprocessError(
            f"--task {args.task}: there are only {', '.join(found['train'])}: input0 is the "
            "context, input1, input2, ... are the candidates")
    return found["train"]


def _scale(args: argparse.Namespace) -> float | None:
    """What labels that are numbers are divided by; None: they are no numbers."""
    if args.source.startswith("glue:"):
        return GLUE[os.path.basename(os.path.normpath(args.source.partition(":")[2]))].scale
    return (args.label_scale or 1.0) if args.regression_target else None


def _labels(path: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line of a file of labels."""
    for number, line in enumerate(sources.iterate_lines([path]), 1):
        yield number, line.strip()


def _write_classes(labels: dict[str, str], job: SentenceJob) -> Vocabulary:
    """The labels' stores and their dictionary, made as fairseq-preprocess makes it."""
    known: set[str] = set()
    for split in sorted(labels, key=lambda split: not split.startswith("train")):
        for number, label in _labels(labels[split]):
            if len(label.split()) != 1:
                raise PreprocessError(f"{labels[split]}: line {number} is {label!r}; a label is "
                                      "one word")
            if split.startswith("train"):
                known.add(label)
            elif label not in known:
                raise PreprocessError(
                    f"{labels[split]}: line {number} has the label {label!r}, which no sentence "
                    f"of the training split has; there are {_few(sorted(known))}")
    vocabulary = binarize.build_vocabulary(
        [path for split, path in labels.items() if split.startswith("train")],
        padding_factor=job.args.padding_factor, workers=job.workers)
    place = os.path.join(job.out, LABEL)
    os.makedirs(place, exist_ok=True)
    vocabulary.save(folder.dict_path(place))
    job.log(f"[{LABEL}] Dictionary: {len(vocabulary)} types; {len(known)} classes: "
            f"{_few([s for s in vocabulary.symbols if s in known])}")
    for split, path in labels.items():
        binarize.binarize_text(path, os.path.join(place, split), vocabulary, workers=job.workers)
    return vocabulary


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _write_numbers(
    labels: dict[str, str], place: str, *, scale: float | None, candidates: int | None
) -> None:
    """`SPLIT.label`: numbers as fairseq's recipe writes them (awk's `%.6g`), or places of
    candidates."""
    os.makedirs(place, exist_ok=True)
    for split, path in labels.items():
        lines = (_number(path, *line, scale=scale, candidates=candidates)
                 for line in _labels(path))
        _write_lines(os.path.join(place, f"{split}.{LABEL}"), lines)


def _number(
    path: str, number: int, text: str, *, scale: float | None, candidates: int | None
) -> str:
    try:
        if candidates is None:
            return " ".join(f"{float(word) / (scale or 1.0):.6g}" for word in text.split() or [""])
        if 0 <= int(text) < candidates:
            return str(int(text))
    except ValueError:
        pass
    wanted = "a number" if candidates is None else (
        f"the place of the right one of {candidates} candidates, from 0")
    raise PreprocessError(f"{path}: line {number} is {text!r}; expected {wanted}")


def _write_lines(path: str, lines: Iterable[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
