"""The tables in which a family says how another toolkit spells its keys and its weights.

Data alone: what reads and writes by them is in `seqjax.interop`.

By default a parameter is found under its own path: `encoder/layers/fc1/kernel` stacks
`encoder.layers.N.fc1.weight`, transposed. A family states the exceptions.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from seqjax.config import ConfigError, ModelSection

State = dict[str, np.ndarray]
"""A state dict: names and arrays, in the file's order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transform:
    """torch's layout <-> ours, for the array of one layer. Must be a view or a new array."""

    name: str = "reshaped"
    """For listings: what becomes of theirs."""
    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


SAME = Transform(name="same", ours=lambda x: x, theirs=lambda x: x)
TRANSPOSED = Transform(name="transposed", ours=lambda x: x.T, theirs=lambda x: x.T)
"""[out, in] <-> [in, out]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigKeys:
    """How one family's configuration is read from fairseq's."""

    refused: Mapping[str, tuple[Any, ...]]
    """fairseq switches that we do not have -> values under which they are off. Absent and
    None always are."""
    dropped: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    """Likewise, for switches of training that leave no trace in the weights: a warning."""
    check: Callable[[Mapping[str, Any]], None] = lambda given: None
    """Raises ConfigError, or warns, for what is not told by the value of one key alone."""
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Older name -> today's, which is used where the latter is absent or zero."""
    merge: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda given: given
    """From the file's keys all of them on one level, where its files hold another model's
    configuration inside of theirs. Raises ConfigError where that is missing."""
    from_task: tuple[str, ...] = ()
    """Keys of ours that fairseq has in its task's section."""
    derive: Callable[[dict[str, Any], set[str]], None] = lambda values, explicit: None
    """Fills in what fairseq's architecture functions derive from other keys; told which
    keys the file itself gave."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightNames:
    """Another toolkit's names for the weights of one family of models."""

    vocabulary: Callable[[State], tuple[int, int]]
    """Entries of the source and target dictionaries, from the (upgraded) weights. May raise
    KeyError where they are missing."""
    upgrade: Callable[[State, Any], tuple[State, Any]] = lambda state, config: (state, config)
    """Old names to today's, in a new dict; may change the configuration as well (fairseq's
    `version` rules). Raises ConfigError for what cannot be carried over."""
    ignored: tuple[str, ...] = ()
    """Regular expressions of whole names that hold no parameter; they are kept for export."""
    nested: tuple[str, ...] = ()
    """Names under which fairseq keeps not a tensor but a dict of several, as of a teacher's; they
    are `NAME.KEY` here."""
    unused: tuple[str, ...] = ()
    """Those of them that fairseq registers as parameters all the same, and never uses: they have
    a number in the optimizer's state, but no moments."""
    idle: tuple[str, ...] = ()
    """Regular expressions of parameters that no gradient reaches under some tasks, such as heads
    that are not trained: torch makes no moments of them, or leaves those there are as they are."""
    copies: Callable[[Any], Mapping[str, str]] = lambda config: {}
    """Names under which fairseq writes a tied tensor once more -> the name that we read."""
    constants: Callable[[Any], State] = lambda config: {}
    """Entries without parameter that fairseq expects to find."""
    empty: Callable[[Any, int], State] = lambda config, target_vocab_size: {}
    """Parameters of fairseq's that have no element, and no place here."""
    renames: tuple[tuple[str, str], ...] = ()
    """Regular expression and replacement on names made from our paths; all are applied."""
    transforms: tuple[tuple[str, Transform], ...] = ()
    """Regular expression of fairseq names and the layout to use; the first wins over the
    default (kernels transposed, the rest as they are)."""
    stacks: tuple[str, ...] = ("layers",)
    """Path parts under which like layers are stacked on axis 0."""
    order: tuple[str, ...] = ()
    """Parts of names between dots, in the order in which modules register them: torch numbers
    an optimizer's moments by it. Numbers are in order by themselves."""
    orders: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Regular expression of whole names, and the order of their parts instead, for modules that
    register the same parts otherwise; parts that lead to them stand in both alike."""
    buffers: tuple[str, ...] = ()
    """Regular expressions of names that are parameters here and buffers there, as running
    statistics are: the optimizer has no number for them."""
    chosen: tuple[str, ...] = ()
    """Parts behind which stands a name that users chose, as heads have; these are in the order of
    the alphabet."""
    place: Callable[[str], tuple[int, ...] | None] = lambda part: None
    """The place among its siblings of a part that no list can name, one with a number in it;
    None: `order` tells."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairseqTable:
    """All that a family has to say about fairseq's files."""

    keys: ConfigKeys
    """How the configuration is read."""
    names: WeightNames
    """How the weights are called."""
    check_export: Callable[[Any], None] = lambda config: None
    """Raises ConfigError for a configuration that fairseq has no model for."""
    arch: Callable[[Any], str] = lambda config: config.arch or config.name
    """The architecture that a file names: one that fairseq has, and whose function leaves a model
    as it is whose keys are all said."""
    nest: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] = lambda config, args: {}
    """From the configuration and all that a file says: what else its files say, as `ConfigKeys.
    merge` reads it."""
    unsaid: tuple[str, ...] = ()
    """Keys of ours that no file of fairseq's has: what they say, its weights say, or
    `check_export` leaves them no choice."""
    as_trained: Callable[[Any, str], Any] = lambda config, criterion: config
    """The configuration that fairseq-train makes of these keys under a criterion, where there
    are no weights yet that would tell (see `upgrade`)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFaceKeys:
    """How the keys of a `config.json` become keys of `config.model`, and these them again."""

    ours: Mapping[str, tuple[str, ...]]
    """Key there -> the keys here that take its value (in writing the first one's is taken)."""
    defaults: Mapping[str, Any]
    """What transformers takes a key of `ours`, or of `fixed`, to be that the file does not say.
    One that is not here must be said."""
    fixed: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    """Key there -> the only values of it under which the model is one of ours."""
    spelled: Mapping[str, Mapping[Any, Any]] = dataclasses.field(default_factory=dict)
    """Key there -> its values there -> our values, where these are called otherwise. Of several
    of ours that are one value, the first is written."""
    always: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Keys here that every such model has, with these values. A model that has others cannot be
    written under this table."""

    def read(self, hf: Mapping[str, Any]) -> dict[str, Any]:
        """Keys of `config.model` from a `config.json`.

        Raises:
          ConfigError: a key is missing, or has a value that no model of ours has.
        """
        for key, values in self.fixed.items():
            found = hf.get(key, self.defaults.get(key))
            if found is not None and found not in values:
                raise ConfigError(
                    f"{key}: {found!r} is not supported, only "
                    f"{' or '.join(map(repr, values))}")
        result = dict(self.always)
        for key, own in self.ours.items():
            if key not in hf and key not in self.defaults:
                raise ConfigError(f"{key}: is missing")
            value = hf.get(key, self.defaults.get(key))
            spelled = self.spelled.get(key)
            if spelled is not None:
                if isinstance(value, list | dict) or value not in spelled:
                    raise ConfigError(f"{key}: {value!r} is not supported, only "
                                      f"{', '.join(map(repr, spelled))}")
                value = spelled[value]
            result |= dict.fromkeys(own, value)
        return result

    def write(self, config: ModelSection) -> dict[str, Any]:
        """Keys of a `config.json` from a resolved model section.

        Raises:
          ConfigError: a key has a value that no such model has.
        """
        for key, value in self.always.items():
            if getattr(config, key) != value:
                raise ConfigError(f"config.model.{key}: {getattr(config, key)!r}, where models of "
                                  f"this kind have {value!r}")
        result: dict[str, Any] = {}
        for key, own in self.ours.items():
            values = {name: getattr(config, name) for name in own}
            value = values[own[0]]
            if any(other != value for other in values.values()):
                raise ConfigError(f"config.model: {values} are one key there, {key}")
            spelled = self.spelled.get(key)
            if spelled is not None:
                there = [k for k, v in spelled.items() if v == value]
                if not there:
                    raise ConfigError(f"config.model.{own[0]}: {value!r} has no name there")
                value = there[0]
            result[key] = value
        return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFaceTable:
    """All that a family has to say about Hugging Face's folders of one kind."""

    model_types: tuple[str, ...]
    """`model_type` of the `config.json` files that it reads; the first is written, where the
    checkpoint does not remember another."""
    architectures: tuple[str, ...]
    """transformers' classes whose weights it reads; the first is written, where the checkpoint
    does not remember another."""
    config_from: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Keys of `config.model` (all but `name`) from a `config.json`, which may lack keys that
    have their default in transformers. Raises ConfigError naming a key that we cannot honour."""
    config_to: Callable[[Any], dict[str, Any]]
    """And back, from a resolved model section; without vocab_size and special ids. Raises
    ConfigError for a model that this kind cannot say: then the family's next table is asked."""
    names: WeightNames
    """How the weights are called by the classes with all parts, today: `model.encoder...`,
    `lm_head...`. `names.upgrade` brings older names, fused tensors and absent tied ones to
    these; of a buffer such as `final_logits_bias` it checks that it says nothing, or moves it.
    `names.copies` are the tied names that older files have and transformers 5 does not write."""
    architecture: Callable[[Any], str] | None = None
    """The class that a model section is written for; None: the first of `architectures`."""
    join: Callable[[State, Any], State] = lambda state, config: state
    """The tensors as transformers writes them from those under the names of `names` and the
    model section, where `names.upgrade` split one: its inverse."""
    prefix: str = ""
    """Begins the names of the parts without heads, with its dot (`model.`): the class without
    heads writes them without it, and they are read so too."""
    special: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    """What transformers takes `bos_token_id`, `pad_token_id`, `eos_token_id`, `unk_token_id` and
    `decoder_start_token_id` to be that the file does not say. A model without `pad_token_id`
    pads with an id behind its vocabulary."""
    vocabularies: tuple[str, str] = ("vocab_size", "vocab_size")
    """Keys of `config.json` that say how many entries the vocabularies have that are read and that
    are predicted ("": none does)."""
    kind: Literal[
        "encoder", "decoder", "encoder-decoder", "waveform", "speech"] = "encoder-decoder"
    """What such a model does: says which words are masked, goes on with a text, writes one to
    another, reads sound, or makes text of features of it. `tasks.of_huggingface` knows the task
    of each."""
    languages: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda hf: {}
    """Keys of `config.task` (`source_lang`, `target_lang`) of a `config.json` that says which
    languages its model is for; needed where its two sides have vocabularies of their own."""
    layout: str = "fairseq"
    """Where the ids of a SentencePiece model's pieces are, where the folder has nothing but
    that model: one of `seqjax.data.tokenizers.layouts`."""
    tokenizer_class: str = ""
    """transformers' class of the tokenizer of a folder that names none."""
    generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Defaults of its search where no `generation_config.json` says them, by the names there."""


def any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """One expression for all of a family's, which matches nothing where there are none."""
    return re.compile("|".join(patterns) or r"(?!)")
