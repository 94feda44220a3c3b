"""The steps of `python -m seqjax.preprocess`, from files of text to the files of a data folder.

Texts are a table of files; each step reads one and makes another, or the folder's files.
The command line, its checks and what is put where at the end are `preprocess`'s matter.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import unicodedata

from seqjax.data import binarize, compression, folder, sources, tokenizers
from seqjax.data.vocabulary import UNK, Vocabulary

SPLITS = ("train", "valid", "test")
TRAINED = ("sentencepiece", "subword_nmt")
DEFAULT_VOCAB_SIZE = 8000

Lang = str | None
Texts = dict[str, dict[Lang, str]]
"""Split (`train`, `train1`, `valid`, ...) -> language -> file."""


class PreprocessError(ValueError):
    """Options that do not go together, or a destination that cannot be used."""


def given_dictionaries(args: argparse.Namespace) -> bool:
    """Whether every dictionary is given, so that none has to be made."""
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

    def tokenize(self, texts: Texts) -> tuple[Texts, dict[Lang, dict]]:
        """Makes the tokenizers and applies them.

        Each is trained on what the one before it made of the text.

        Returns:
          The tokenized files, and what the manifest says of each language's tokenizer.
        """
        kinds = (["unicode"] if self.args.normalize else []) + (
            ["moses"] if self.args.moses else []) + (
            [self.args.tokenizer] if self.args.tokenizer else []
        )
        other_forms = self._other_forms(texts)
        parts: dict[Lang, list[tokenizers.Tokenizer]] = {lang: [] for lang in self.langs}
        for number, kind in enumerate(kinds):
            made = self._make(kind, texts)
            texts = self._apply(texts, made, os.path.join(self.stage, f"tokenized{number}"))
            for lang in self.langs:
                parts[lang].append(made[lang])
        for lang, path, count, number, line in other_forms:
            composed = unicodedata.normalize("NFC", line)
            if _pieces(line, parts[lang]) != _pieces(composed, parts[lang]):
                self.log(f"note: {path}: {count:,} lines are not in Unicode's composed form (NFC),"
                         f" the first is line {number}: their words are other words than the same"
                         " in NFC. --normalize nfc makes them the same")
        model = self.args.bpe_codes or self.args.sentencepiece_model
        shared = self.args.joined_dictionary or bool(model and "," not in model)
        return texts, {
            lang: folder.save_tokenizer(
                self.out, tokenizers.chain(made), tag="" if shared or not lang else f".{lang}"
            )
            for lang, made in parts.items()
            if made
        }

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

    def _make(self, kind: str, texts: Texts) -> dict[Lang, tokenizers.Tokenizer]:
        if kind == "unicode":
            return dict.fromkeys(
                self.langs, tokenizers.UnicodeTokenizer(form=self.args.normalize))
        if kind == "moses":
            # Its rules are of languages: those of pt-BR and en_XX are Portuguese and English.
            return {lang: tokenizers.MosesTokenizer(lang=re.split("[-_]", lang or "en")[0])
                    for lang in self.langs}
        if kind not in TRAINED:
            return {lang: tokenizers.TOKENIZERS[kind]() for lang in self.langs}
        given = self.args.bpe_codes or self.args.sentencepiece_model
        if given:
            return self._read_models(kind, given.split(","))
        trained: dict[Lang, tokenizers.Tokenizer] = {}
        groups = [self.langs] if self.args.joined_dictionary else [[lang] for lang in self.langs]
        for group in groups:
            tokenizer = self._train(kind, group, texts)
            trained.update(dict.fromkeys(group, tokenizer))
        return trained

    def _read_models(self, kind: str, paths: list[str]) -> dict[Lang, tokenizers.Tokenizer]:
        if len(paths) not in (1, len(self.langs)):
            raise PreprocessError(f"{','.join(paths)}: expected one model, or one per language")
        key = "codes" if kind == "subword_nmt" else "model"
        made = []
        for path in paths:
            sources.require_file(path)
            with compression.open_bytes(path) as file, compression.explained(path):
                data = file.read()
            try:
                made.append(tokenizers.from_state({"kind": kind, key: data}))
            except tokenizers.TokenizerError as error:
                raise tokenizers.TokenizerError(f"{path}: {error}") from None
        return dict(zip(self.langs, made * (len(self.langs) // len(made)), strict=True))

    def _train(self, kind: str, langs: list[Lang], texts: Texts) -> tokenizers.Tokenizer:
        size = self.args.vocab_size or DEFAULT_VOCAB_SIZE
        files = [texts[s][lang] for lang in langs for s in texts if s.startswith("train")]
        total = sum(map(sources.count_lines, files))
        every = -(-total // self.args.tokenizer_sentences)
        lines = sources.iterate_lines(files, every=every)
        label = "+".join(lang or "text" for lang in langs)
        self.log(f"[{label}] training {kind}: {size} pieces, {-(-total // every):,} sentences")
        if kind == "subword_nmt":
            return tokenizers.train_subword_nmt(lines, vocab_size=size, say=self.log)
        return tokenizers.train_sentencepiece(
            lines,
            vocab_size=size,
            model_type=self.args.model_type or "unigram",
            character_coverage=self.args.character_coverage or 1.0,
        )

    def _apply(self, texts: Texts, made: dict[Lang, tokenizers.Tokenizer], where: str) -> Texts:
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

    def vocabularies(self, texts: Texts) -> dict[Lang, Vocabulary]:
        """Builds or loads the dictionaries, and writes them."""
        args = self.args
        if args.joined_dictionary:
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
        for lang, vocabulary in made.items():
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
