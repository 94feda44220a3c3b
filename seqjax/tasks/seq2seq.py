"""Text to text in whatever form a model was trained: tokens around the words, said by keys.

Hugging Face's sequence-to-sequence models are of this task: BART, Marian, mBART, M2M-100, NLLB.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, Self, cast

from seqjax.config import Config, ConfigError
from seqjax.data.tokenizers import Tokenizer
from seqjax.tasks import assets, metrics
from seqjax.tasks.entry import TaskEntry
from seqjax.tasks.forms import Forms
from seqjax.tasks.language_tokens import LanguageTokenTask, check_known
from seqjax.tasks.translation import TranslationConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig(TranslationConfig):
    """Sources and targets with symbols around their words. In templates `...` are the words,
    `{source}` and `{target}` the tokens of the languages; all else are symbols of the
    vocabulary."""

    name: Literal["seq2seq"] = "seq2seq"  # type: ignore[assignment]
    """Chooses the task."""
    source_form: str = "... </s>"
    """What the encoder reads: `<s> ... </s>`, `{source} ... </s>`, `... </s> {source}`, ..."""
    target_form: str = "... </s>"
    """What the decoder learns to predict."""
    decoder_start: str = "</s>"
    """What the decoder reads first: `</s>`, `<pad>`, `{target}`, ..."""
    decoder_first: str = ""
    """What every output begins with, because it is forced: nothing, `<s>`, `{target}`, ..."""
    decoder_end: str = "</s>"
    """What ends an output."""
    ids_as_given: bool = False
    """Sources that are ids are read as they are, as by transformers, and not put into
    `source_form`."""
    langs: tuple[str, ...] = ()
    """Languages that the model knows; empty: one direction, and no language tokens."""
    lang_tok: str = "{}"
    """The symbol of a language, its code in the place of `{}`: `{}` where the codes are
    symbols (`en_XX`, `eng_Latn`), `__{}__`, `[{}]`, `>>{}<<`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seq2SeqTask(LanguageTokenTask):
    """One direction; `translating` gives the others of `langs`."""

    Config: ClassVar[type] = Seq2SeqConfig
    config: Seq2SeqConfig

    @property
    def takes_ids_as_given(self) -> bool:
        """As the configuration says."""
        return self.config.ids_as_given

    @classmethod
    def setup(cls, config: Config) -> Self:
        """Reads what the data folder says of vocabularies and tokenizers.

        Raises:
          ConfigError: there is no such folder, or it does not fit the templates.
        """
        made = super().setup(config)
        if made.langs:
            for key in ("source_lang", "target_lang"):
                check_known(made.langs, key, getattr(made, key), of="langs")
        made._check_forms()
        made._check_alignments()
        return made

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        cfg = cast(Seq2SeqConfig, config.task)
        source, target = assets.unpack_sides(
            files, (cfg.source_lang or "", cfg.target_lang or ""))
        made = cls(
            config=cfg, source_lang=cfg.source_lang or "", target_lang=cfg.target_lang or "",
            source_vocab=source, target_vocab=target,
            source_tokenizer=_tokenizer(files, cfg.source_lang or "", "source"),
            target_tokenizer=_tokenizer(files, cfg.target_lang or "", "target"))
        made._check_forms()
        return made

    def assets(self) -> dict[str, bytes]:
        """Files from which `from_assets` makes this task again: of both sides together where
        they are alike."""
        sides = (("source", self.source_vocab, self.source_tokenizer),
                 ("target", self.target_vocab, self.target_tokenizer))
        files: dict[str, bytes] = {}
        same_words = self.source_vocab == self.target_vocab
        for name, vocabulary, tokenizer in sides:
            files |= assets.pack_vocabulary("" if same_words else name, vocabulary)
            if tokenizer is not None:
                same = self.source_tokenizer is self.target_tokenizer
                files |= assets.pack_tokenizer("" if same else name, tokenizer)
        return files

    @property
    def forms(self) -> Forms:
        cfg = self.config
        return Forms(source=cfg.source_form, target=cfg.target_form, start=cfg.decoder_start,
                     first=cfg.decoder_first, end=cfg.decoder_end)

    @property
    def langs(self) -> tuple[str, ...]:
        return self.config.langs

    def symbol_of(self, lang: str) -> str:
        return self.config.lang_tok.replace("{}", lang)

    def _check_forms(self) -> None:
        """Templates that no vocabulary can fulfil are found at once, in any direction."""
        if "{}" not in self.config.lang_tok:
            raise ConfigError(f"config.task.lang_tok: {self.config.lang_tok!r}: write the "
                              "language's code as {}")
        some = self.translating(self.source_lang or (self.langs or [None])[0],
                                self.target_lang or (self.langs or [None])[-1])
        _ = some.source_frame, some.target_frame, some.target_form


def _tokenizer(files: Mapping[str, bytes], lang: str, side: str) -> Tokenizer | None:
    for name in dict.fromkeys((side, "", lang)):
        found = assets.unpack_tokenizer(name, files)
        if found is not None:
            return found
    return None


ENTRY = TaskEntry(
    name="seq2seq", config=Seq2SeqConfig, task="seqjax.tasks.seq2seq:Seq2SeqTask",
    facade=Seq2SeqTask.facade, metrics=metrics.BLEU, huggingface="encoder-decoder")
