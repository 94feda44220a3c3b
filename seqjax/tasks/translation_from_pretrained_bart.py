"""fairseq's `translation_from_pretrained_bart`: fine-tuning mBART on one pair of languages.

From sentence pairs of a data folder to sources `words </s> [src]` and targets
`words </s> [tgt]`. Decoding begins with `[tgt]`, and ends with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, cast

from seqjax.config import Config, ConfigError
from seqjax.data import folder
from seqjax.data.vocabulary import Vocabulary
from seqjax.tasks import metrics
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.forms import Forms
from seqjax.tasks.language_tokens import LanguageTokenTask, add_symbols, check_known
from seqjax.tasks.translation import TranslationConfig

NAME = "translation_from_pretrained_bart"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromPretrainedBartConfig(TranslationConfig):
    """fairseq's `translation_from_pretrained_bart`."""

    name: Literal["translation_from_pretrained_bart"] = NAME  # type: ignore[assignment]
    """Chooses the task."""
    langs: tuple[str, ...] = ()
    """All languages of the pretraining, in its order, which decides the ids of their tokens
    `[en_XX]`; they stand behind the words of `dict.txt`, and `<mask>` behind them."""
    prepend_bos: bool = False
    """Sentences begin with `<s>`, too."""


def added(section: Mapping[str, Any], data: str = "") -> tuple[str, ...]:
    """What the task puts behind the words of a dictionary, whatever the folder."""
    del data
    return (*(f"[{lang}]" for lang in section.get("langs") or ()), "<mask>")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromPretrainedBartTask(LanguageTokenTask):
    """One language pair of a model that was pretrained on many."""

    Config: ClassVar[type] = FromPretrainedBartConfig
    shuffles_test: ClassVar[bool] = True
    config: FromPretrainedBartConfig

    @classmethod
    def setup(cls, config: Config) -> Self:
        """Reads what the data folder says of vocabularies and tokenizers.

        Raises:
          ConfigError: there is no such folder, or it holds no pair of languages of `langs`.
        """
        cfg = cast(FromPretrainedBartConfig, config.task)
        if not cfg.langs:
            raise ConfigError("config.task.langs: name the languages of the pretraining, in its "
                              "order (fairseq's --langs)")
        made = super().setup(config)
        for key, lang in (("source_lang", made.source_lang), ("target_lang", made.target_lang)):
            check_known(cfg.langs, key, lang, of="langs")
        made._check_alignments()
        return made

    @classmethod
    def load_dictionary(cls, cfg: TranslationConfig, lang: str) -> Vocabulary:
        """The words of a language, its languages' tokens, `<mask>`."""
        return add_symbols(folder.load_dictionary(cfg.data, lang), added(vars(cfg)))

    @property
    def forms(self) -> Forms:
        words = "<s> ..." if self.config.prepend_bos else "..."
        return Forms(source=f"{words} </s> {{source}}", target=f"{words} </s> {{target}}",
                     start="{target}", end="{target}")

    @property
    def langs(self) -> tuple[str, ...]:
        return self.config.langs

    def symbol_of(self, lang: str) -> str:
        return f"[{lang}]"


_ALWAYS = {
    "dataset_impl": None, "eval_bleu": False, "eval_bleu_args": "{}", "eval_bleu_detok": "space",
    "eval_bleu_detok_args": "{}", "eval_bleu_print_samples": False, "eval_bleu_remove_bpe": None,
    "eval_tokenized_bleu": False, "num_batch_buckets": 0, "required_seq_len_multiple": 1,
}
ENTRY = TaskEntry(
    name=NAME, config=FromPretrainedBartConfig,
    task=f"seqjax.tasks.{NAME}:FromPretrainedBartTask", facade=FromPretrainedBartTask.facade,
    metrics=metrics.BLEU,
    fairseq=FairseqTask(name=NAME, languages=("source_lang", "target_lang"),
                        added=lambda section, data: added(section), always=_ALWAYS))
