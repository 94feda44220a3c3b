"""What a model of waveforms is used with whose own task is not here: how samples are prepared, and
what the symbols are that it hears, where it hears any.

A checkpoint's section goes in; a task goes out for which there are no data, whose models
give features (`seqjax.hub.speech`) or transcripts (`seqjax.hub.recognizer`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Self

import numpy as np

from seqjax.config import Config, ConfigError
from seqjax.data.vocabulary import Vocabulary
from seqjax.tasks import assets
from seqjax.tasks.entry import TaskEntry

if TYPE_CHECKING:
    import jax

    from seqjax.config import GenerationConfig
    from seqjax.data.batches import Dataset
    from seqjax.data.dictionaries import Dictionary
    from seqjax.models.protocol import Encoder, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveformsConfig:
    """How waveforms are prepared for a model."""

    name: Literal["waveforms"] = "waveforms"
    """Chooses the task."""
    data: str = ""
    """There are none."""
    sample_rate: int = 16000
    """Samples of a second."""
    normalize: bool = False
    """Each waveform is given a mean of 0 and a variance of 1."""
    normalize_eps: float = 1e-5
    """Added to the variance: 1e-5 in fairseq, 1e-7 in transformers."""
    classes: int = 0
    """Symbols, or classes of labels, that the model knows."""
    blank: int = 0
    """Of a recogniser by CTC: the id that says nothing. In fairseq it is the first, in transformers
    that of padding."""
    word_delimiter: str | None = None
    """The symbol between words (None: there is none)."""
    lower_case: bool = False
    """Whether transcripts are lowered."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveformsTask:
    """See the module."""

    Config: ClassVar[type] = WaveformsConfig
    facade: ClassVar[str] = "seqjax.hub.recognizer:of_task"
    model_protocol: ClassVar[str] = "seqjax.models.protocol:Encoder"
    config: WaveformsConfig
    symbols: Vocabulary | None = None
    """What is heard (None: nobody said what it is)."""

    @classmethod
    def setup(cls, config: Config) -> Self:
        """See `Task.setup`.

        Raises:
          ConfigError: always: nothing can be trained.
        """
        raise ConfigError("config.task.name: waveforms: there are no data to train with; name the "
                          "task that the model is for")

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """See `Task.from_assets`."""
        task: Any = config.task
        try:
            return cls(config=task, symbols=assets.unpack_vocabulary("", files))
        except KeyError:
            return cls(config=task)

    def assets(self) -> dict[str, bytes]:
        """The symbols, if the model hears any."""
        return {} if self.symbols is None else assets.pack_vocabulary("", self.symbols)

    def with_config(self, **changes: Any) -> Self:
        """See `Task.with_config`."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **changes))

    # ---- symbols ----

    @property
    def vocab(self) -> Vocabulary:
        """Of the symbols.

        Raises:
          ConfigError: nobody said what they are.
        """
        if self.symbols is None:
            raise ConfigError("nothing says what the symbols of this model are")
        return self.symbols

    @property
    def blank(self) -> int:
        """See `WaveformsConfig`."""
        return self.config.blank

    @property
    def boundary(self) -> int | None:
        """Id of the symbol between words."""
        return self.vocab.indices.get(self.config.word_delimiter or "")

    def decode_target(self, ids: Sequence[int] | np.ndarray) -> str:
        """Ids of symbols, without blanks -> text, as transformers writes it: special symbols too,
        every delimiter a space."""
        text = "".join(" " if i == self.boundary else self.vocab[i] for i in map(int, ids)).strip()
        return text.lower() if self.config.lower_case else text

    said = decode_target

    @property
    def vocab_sizes(self) -> dict[str, int]:
        """See `Task.vocab_sizes`."""
        return {"source_vocab_size": 0, "target_vocab_size": self.config.classes}

    @property
    def dictionaries(self) -> Sequence[Dictionary]:
        """There are none."""
        return ()

    @property
    def languages(self) -> None:
        """It does not translate."""
        return None

    def check_folder(self, data: str) -> None:
        """See `Task.check_folder`."""
        self._no_data()

    def dataset(self, split: str, *, need_target: bool = True) -> NoReturn:
        """See `Task.dataset`; there is none."""
        self._no_data()

    def train_dataset(self) -> NoReturn:
        """See `Task.train_dataset`; there is none."""
        self._no_data()

    def max_positions(self, model: Encoder) -> tuple[int | None, int | None]:
        """Samples of the longest row."""
        return model.max_source_positions, None

    def too_long_advice(self, model: Encoder) -> str:
        """It depends on the rows."""
        return ""

    def forward(
        self, model: Encoder, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None,
    ) -> NoReturn:
        """There is nothing to learn."""
        self._no_data()

    def evaluator(
        self, model: Encoder, dataset: Dataset, *, generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> None:
        """There is nothing to measure."""

    def next_command(self, workdir: str, *, subset: str) -> list[str]:
        """There is no command."""
        return []

    def _no_data(self) -> NoReturn:
        raise ConfigError("this checkpoint's own task is not here: its model gives features of "
                          "waveforms (extract_features), and there are no data to evaluate it on")


ENTRY = TaskEntry(
    name="waveforms", config=WaveformsConfig, task="seqjax.tasks.waveforms:WaveformsTask",
    facade=WaveformsTask.facade, decodes=False, waveforms=True, huggingface="waveform")
