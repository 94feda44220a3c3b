"""What `python -m seqjax.preprocess --tokenizer` asks for -> a tokenizer for each language.

It is trained on the text, or made of files: of a SentencePiece model, of BPE codes, of GPT-2's or
BERT's vocabulary, of a Hugging Face folder, which brings its dictionaries as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seqjax.data import sources, tokenizers
from seqjax.data.tokenizers import files, folders
from seqjax.data.vocabulary import Vocabulary

TRAINED = ("sentencepiece", "subword_nmt")
DEFAULT_VOCAB_SIZE = 8000
KINDS = sorted(tokenizers.TOKENIZERS.keys() - {"unicode", "marian", "fsmt"})
"""Of `--tokenizer`; Marian's and FSMT's come out of `hf:FOLDER`."""

Lang = str | None
Texts = dict[str, dict[Lang, str]]
"""Split (`train`, `train1`, `valid`, ...) -> language -> file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """Tokenizers of one kind."""

    tokenizers: Mapping[Lang, tokenizers.Tokenizer]
    shared: bool = False
    """Whether one file is for all languages."""
    vocabularies: Mapping[Lang, Vocabulary] | None = None
    """Where the tokenizer's ids are the dictionary's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes tokenizers for the languages of a folder.

    Args:
      args: the command line.
      langs: the texts' names; all but `args.target_lang` are the source's.
      codes: of each, the language whose rules are Moses'.
      log: takes a line that says what is done.
    """

    args: argparse.Namespace
    langs: Sequence[Lang]
    codes: Mapping[Lang, str]
    log: Callable[[str], None]

    def make(self, kind: str, texts: Texts) -> Made:
        """Tokenizers of a kind, trained on `texts` if they are to be.

        Raises:
          TokenizerError: a file that is missing, or is something else; too little text.
        """
        args = self.args
        if kind == "unicode":
            form = tokenizers.UnicodeTokenizer(form=args.normalize)
            return Made(tokenizers=dict.fromkeys(self.langs, form))
        if kind == "moses":
            # Its rules are of languages: those of pt-BR and en_XX are Portuguese and English.
            return Made(tokenizers={
                lang: tokenizers.MosesTokenizer(lang=re.split("[-_]", self.codes[lang])[0])
                for lang in self.langs})
        if kind not in files.KINDS:
            return Made(tokenizers={lang: tokenizers.TOKENIZERS[kind]() for lang in self.langs})
        if kind == "hf":
            return self._of_folders()
        if given_files(args, kind):
            return self._of_files(kind)
        trained: dict[Lang, tokenizers.Tokenizer] = {}
        groups = [self.langs] if args.joined_dictionary else [[lang] for lang in self.langs]
        for group in groups:
            trained.update(dict.fromkeys(group, self._train(kind, group, texts)))
        return Made(tokenizers=trained, shared=args.joined_dictionary)

    def _of_files(self, kind: str) -> Made:
        """Of one path, of one a language, or of the files that flags name."""
        args = self.args
        path = args.tokenizer_path or args.bpe_codes or args.sentencepiece_model
        options = vars(args)
        if path:
            for one in () if args.tokenizer_path else self._paths(path):
                sources.require_file(one)
            made = [files.in_place(kind, one, options) for one in self._paths(path)]
        else:
            for part in files.KINDS[kind].parts:
                sources.require_file(options[part.flag])
            found, _ = files.find(kind, options, places=())
            made = [files.read(kind, found, options)]
        shared = len(made) == 1
        return Made(tokenizers=dict(zip(self.langs, self._each(made), strict=True)), shared=shared)

    def _of_folders(self) -> Made:
        """Of a `tokenizer.json` or a folder of Hugging Face's, or of one a language."""
        found = [folders.of_folder(path) for path in self._paths(self.args.tokenizer_path)]
        made: dict[Lang, tokenizers.Tokenizer] = {}
        vocabularies: dict[Lang, Vocabulary] = {}
        for lang, one in zip(self.langs, self._each(found), strict=True):
            target = lang is not None and lang == self.args.target_lang
            made[lang] = one.target if target else one.source
            vocabularies[lang] = one.vocabularies()[target]
        first, *others = vocabularies.values()
        if self.args.joined_dictionary and any(first != other for other in others):
            raise tokenizers.TokenizerError(
                f"--tokenizer hf:{self.args.tokenizer_path}: source and target have vocabularies "
                "of their own: leave out --joined-dictionary")
        same, *rest = made.values()
        return Made(tokenizers=made, shared=all(same == other for other in rest),
                    vocabularies=vocabularies)

    def _paths(self, path: str) -> list[str]:
        paths = path.split(",")
        if len(paths) not in (1, len(self.langs)):
            raise tokenizers.TokenizerError(f"{path}: expected one, or one per language")
        return paths

    def _each(self, made: list[Any]) -> list[Any]:
        """One for each language."""
        return made * (len(self.langs) // len(made))

    def _train(self, kind: str, langs: Sequence[Lang], texts: Texts) -> tokenizers.Tokenizer:
        size = self.args.vocab_size or DEFAULT_VOCAB_SIZE
        paths = [texts[s][lang] for lang in langs for s in texts if s.startswith("train")]
        total = sum(map(sources.count_lines, paths))
        every = -(-total // self.args.tokenizer_sentences)
        lines = sources.iterate_lines(paths, every=every)
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


def given_files(args: argparse.Namespace, kind: str | None) -> bool:
    """Whether the command line names files of this kind of tokenizer."""
    parts = files.KINDS[kind].parts if kind in files.KINDS else ()
    return bool(args.tokenizer_path or any(getattr(args, p.flag, None) for p in parts if p.flag))
