"""The steps of `python -m seqjax.preprocess`, from files of text to the files of a data folder.

Texts are a table of files; each step reads one and makes another, or the folder's files.
The command line, its checks and what is put where at the end are `preprocess`'s matter.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import unicodedata
from collections.abc import Mapping
from typing import Any

from seqjax.data import binarize, compression, folder, sources, tokenizers
from seqjax.data.make_tokenizers import Lang, Maker, Texts
from seqjax.data.tokenizers import fit
from seqjax.data.vocabulary import UNK, Vocabulary

SPLITS = ("train", "valid", "test")


class PreprocessError(ValueError):
    """Options that do not go together, or a destination that cannot be used."""


def given_dictionaries(args: argparse.Namespace) -> bool:
    """Whether every dictionary is given, so that none has to be made of text."""
    if args.tokenizer == "hf":
        return True
    if args.joined_dictionary:
        return bool(args.srcdict or args.tgtdict)
    return bool(args.srcdict and (args.tgtdict or args.only_source))


def languages(args: argparse.Namespace) -> list[Lang]:
    """The languages of the folder, source first; None is a nameless one."""
    return [args.source_lang] if args.only_source else [args.source_lang, args.target_lang]


def gather(args: argparse.Namespace, stage: str, *, say: binarize.Say) -> Texts:
    """The files to read; for sources that are no files of lines, after writing such."""
    raw = os.path.join(stage, "raw")
    os.makedirs(raw)
    if args.source.startswith("tfds:"):
        return _gather_tfds(args, raw, say)
    texts: Texts = {}
    langs = languages(args)
    for split in SPLITS[:1] if args.dict_only else SPLITS:
        prefixes = getattr(args, f"{split}pref")
        for k, prefix in enumerate(prefixes.split(",") if prefixes else []):
            name = f"{split}{k or ''}"
            if args.source == "tsv":
                outputs = [os.path.join(raw, f"{name}.{lang or 'txt'}") for lang in langs]
                sources.split_tsv(prefix, _columns(args), outputs)
            else:
                outputs = [existing(f"{prefix}.{lang}" if lang else prefix) for lang in langs]
            texts[name] = dict(zip(langs, outputs, strict=True))
    return texts


def existing(path: str) -> str:
    """The path, or where there is no such file that of a compressed one beside it."""
    if not os.path.exists(path):
        for suffix in compression.SUFFIXES:
            if os.path.isfile(path + suffix):
                return path + suffix
    return path


def _columns(args: argparse.Namespace) -> list[int]:
    number = 1 if args.only_source else 2
    text = args.tsv_columns or ",".join(map(str, range(number)))
    columns = text.split(",")
    if len(columns) != number or not all(column.isdecimal() for column in columns):
        raise PreprocessError(f"--tsv-columns {text}: expected {number} numbers such as 0,1")
    return [int(column) for column in columns]


def _gather_tfds(args: argparse.Namespace, raw: str, say: binarize.Say) -> Texts:
    from seqjax.data import tfds_source

    keys = [args.tfds_source_key] if args.only_source else [
        args.tfds_source_key, args.tfds_target_key
    ]
    corpus = tfds_source.open_corpus(
        args.source.partition(":")[2], langs=languages(args), keys=keys,
        data_dir=args.tfds_data_dir, download=args.tfds_download,
    )
    args.source_lang = corpus.langs[0]
    if not args.only_source:
        args.target_lang = corpus.langs[1]
    texts: Texts = {}
    for split in SPLITS[:1] if args.dict_only else SPLITS:
        if split not in corpus.splits:
            if split == "train" and not given_dictionaries(args):
                raise PreprocessError(f"{args.source}: has no split train to make dictionaries of")
            continue
        outputs = [os.path.join(raw, f"{split}.{lang or 'txt'}") for lang in corpus.langs]
        number = tfds_source.write_text(corpus, split, outputs)
        say(f"{args.source}: {split}: {number:,} examples")
        texts[split] = dict(zip(corpus.langs, outputs, strict=True))
    return texts


def _pieces(line: str, parts: list[tokenizers.Tokenizer]) -> list[str]:
    return (tokenizers.chain(parts).encode(line) if parts else line).split()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenized:
    """Texts in pieces, and what made the pieces."""

    texts: Texts
    tokenizers: Mapping[Lang, tokenizers.Tokenizer]
    """Empty where text is in pieces already."""
    specs: Mapping[Lang, dict[str, Any]]
    """What the manifest says of them."""
    vocabularies: Mapping[Lang, Vocabulary] | None
    """Those of the tokenizers, where their ids are the dictionaries'."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The steps, and what they share."""

    args: argparse.Namespace
    langs: list[Lang]
    stage: str
    workers: binarize.Workers
    log: binarize.Say

    @property
    def out(self) -> str:
        return os.path.join(self.stage, "out")

    def check(self, texts: Texts) -> None:
        """Every file is there, is text and has as many lines as its partner."""
        args = self.args
        alignments = self._alignments(texts)
        if args.align_suffix and not alignments:
            raise FileNotFoundError(
                f"--align-suffix {args.align_suffix}: there is no {args.trainpref}."
                f"{args.align_suffix} nor one for validation or test"
            )
        for split, files in texts.items():
            together = list(files.values())
            if split in alignments:
                together.append(alignments[split])
            if split == "train" and args.alignfile:
                together.append(args.alignfile)
            sources.check_parallel(together)
        for path in (args.srcdict, args.tgtdict):
            if path:
                sources.require_file(path)

    def _alignments(self, texts: Texts) -> dict[str, str]:
        found = {}
        if self.args.align_suffix:
            for split, files in texts.items():
                prefix = files[self.args.source_lang].rpartition(f".{self.args.source_lang}")[0]
                path = existing(f"{prefix}.{self.args.align_suffix}")
                if os.path.exists(path):
                    found[split] = path
        return found

    def tokenize(self, texts: Texts) -> Tokenized:
        """Makes the tokenizers and applies them.

        Each is trained on what the one before it made of the text.
        """
        kinds = (["unicode"] if self.args.normalize else []) + (
            ["moses"] if self.args.moses else []) + (
            [self.args.tokenizer] if self.args.tokenizer else []
        )
        other_forms = self._other_forms(texts)
        maker = Maker(args=self.args, langs=self.langs, log=self.log,
                      codes={lang: self._code(lang) for lang in self.langs})
        parts: dict[Lang, list[tokenizers.Tokenizer]] = {lang: [] for lang in self.langs}
        shared, vocabularies = self.args.joined_dictionary, None
        for number, kind in enumerate(kinds):
            made = maker.make(kind, texts)
            where = os.path.join(self.stage, f"tokenized{number}")
            texts = self._apply(texts, made.tokenizers, where)
            shared, vocabularies = shared or made.shared, made.vocabularies
            for lang in self.langs:
                parts[lang].append(made.tokenizers[lang])
        for lang, path, count, number, line in other_forms:
            composed = unicodedata.normalize("NFC", line)
            if _pieces(line, parts[lang]) != _pieces(composed, parts[lang]):
                self.log(f"note: {path}: {count:,} lines are not in Unicode's composed form (NFC),"
                         f" the first is line {number}: their words are other words than the same"
                         " in NFC. --normalize nfc makes them the same")
        chains = {lang: tokenizers.chain(made) for lang, made in parts.items() if made}
        specs = {
            lang: folder.save_tokenizer(
                self.out, made, tag="" if shared or not lang else f".{lang}")
            for lang, made in chains.items()
        }
        return Tokenized(texts=texts, tokenizers=chains, specs=specs, vocabularies=vocabularies)

    def _other_forms(self, texts: Texts) -> list[tuple[Lang, str, int, int, str]]:
        """(language, file, lines not in NFC, number of the first and itself) of files that
        have such; says which begin with a mark that is no word."""
        found = []
        for files in texts.values():
            for lang, path in files.items():
                count, first = 0, (0, "")
                for number, line in enumerate(sources.iterate_lines([path]), 1):
                    if number == 1 and line.startswith("\ufeff"):
                        self.log(f"note: {path} begins with a byte-order mark (U+FEFF), which is"
                                 " part of its first word, as in fairseq: remove it")
                    if not unicodedata.is_normalized("NFC", line):
                        count += 1
                        first = first if count > 1 else (number, line)
                if count:
                    found.append((lang, path, count, *first))
        return found

    def _code(self, lang: Lang) -> str:
        """The language whose rules are Moses'."""
        return lang or "en"

    def _apply(self, texts: Texts, made: Mapping[Lang, tokenizers.Tokenizer], where: str) -> Texts:
        os.makedirs(where)
        result: Texts = {}
        for split, files in texts.items():
            result[split] = {}
            for lang, path in files.items():
                output = os.path.join(where, f"{split}.{lang or 'txt'}")
                binarize.tokenize_text(path, output, made[lang], workers=self.workers)
                result[split][lang] = output
                if path.startswith(self.stage):
                    os.remove(path)
        return result

    def vocabularies(self, tokenized: Tokenized) -> dict[Lang, Vocabulary]:
        """Builds or loads the dictionaries, or takes those of the tokenizers, and writes them.

        Raises:
          TokenizerError: a given dictionary is not of the tokenizer's pieces.
        """
        args, texts = self.args, tokenized.texts
        if tokenized.vocabularies is not None:
            made = dict(tokenized.vocabularies)
        elif args.joined_dictionary:
            if args.nwordstgt > 0 or args.thresholdtgt > 0:
                self.log("note: --nwordstgt and --thresholdtgt mean nothing beside"
                         " --joined-dictionary: --nwordssrc and --thresholdsrc count")
            given = args.srcdict or args.tgtdict
            made = dict.fromkeys(
                self.langs,
                self._vocabulary(given, self.langs, texts, args.thresholdsrc, args.nwordssrc),
            )
        else:
            options = zip(
                self.langs, (args.srcdict, args.tgtdict), (args.thresholdsrc, args.thresholdtgt),
                (args.nwordssrc, args.nwordstgt), strict=False,
            )
            made = {
                lang: self._vocabulary(given, [lang], texts, threshold, nwords)
                for lang, given, threshold, nwords in options
            }
        paths = (args.srcdict or args.joined_dictionary and args.tgtdict, args.tgtdict)
        given = dict(zip(self.langs, paths, strict=False))
        for lang, vocabulary in made.items():
            path = given.get(lang)
            if path and lang in tokenized.tokenizers:
                fit.check(tokenized.tokenizers[lang], vocabulary, where=path)
            self._save(vocabulary, lang)
            self.log(f"[{lang}] Dictionary: {len(vocabulary)} types")
        return made

    def _vocabulary(
        self, given: str | None, langs: list[Lang], texts: Texts, threshold: int, nwords: int
    ) -> Vocabulary:
        if given:
            return Vocabulary.load(given)
        return binarize.build_vocabulary(
            [texts[split][lang] for lang in langs for split in texts if split.startswith("train")],
            threshold=threshold,
            nwords=nwords,
            padding_factor=self.args.padding_factor,
            workers=self.workers,
        )

    def binarize(self, texts: Texts, vocabularies: dict[Lang, Vocabulary]) -> dict[str, dict]:
        """Writes the stores; gives what the manifest says of them."""
        splits: dict[str, dict] = {split: {} for split in texts}
        for lang in self.langs:
            for split, files in texts.items():
                name = self._store(split, lang)
                summary = binarize.binarize_text(
                    files[lang], os.path.join(self.out, name), vocabularies[lang],
                    workers=self.workers,
                )
                share = 100 * summary.unknown / summary.tokens
                self.log(f"[{lang}] {split}: {summary.sentences} sents, {summary.tokens} tokens,"
                         f" {share:.3}% replaced (by {UNK})")
                splits[split][lang or ""] = {"file": name, **dataclasses.asdict(summary)}
        return splits

    def _save(self, vocabulary: Vocabulary, lang: Lang) -> None:
        folder.save_dictionary(self.out, vocabulary, lang)

    def _store(self, split: str, lang: Lang) -> str:
        args = self.args
        return folder.store_name(
            split, source=args.source_lang, target=args.target_lang, lang=lang
        )

    def align(self, raw: Texts, texts: Texts, vocabularies: dict[Lang, Vocabulary]) -> None:
        """Writes alignments (`--align-suffix`) and the dictionary of `--alignfile`."""
        args = self.args
        pair = f"{args.source_lang}-{args.target_lang}"
        for split, path in self._alignments(raw).items():
            prefix = os.path.join(self.out, f"{split}.align.{pair}")
            self.log(f"[alignments] {path}: {binarize.binarize_alignments(path, prefix)} lines")
        if args.alignfile:
            source, target = self.langs
            words = binarize.alignment_dictionary(
                args.alignfile, texts["train"][source], texts["train"][target],
                vocabularies=(vocabularies[source], vocabularies[target]),
            )
            path = os.path.join(self.out, f"alignment.{pair}.txt")
            with open(path, "w", encoding="utf-8", newline="\n") as file:
                file.write("".join(f"{first} {second}\n" for first, second in words))
