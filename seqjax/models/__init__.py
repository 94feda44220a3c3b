"""Sequence models. A family's name goes in, its configuration, its tables and its model come
out; all of it is derived from what each family says of itself (`family.Family`).

To add a family: write its folder (or file), and name it in `PLACES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqjax.config import ConfigError, ModelSection, import_object
from seqjax.models.family import Family

if TYPE_CHECKING:
    from jax.typing import DTypeLike

    from seqjax.models.tables import FairseqTable, HuggingFaceTable

PLACES = ("transformer", "lstm", "fconv", "lightconv", "bart", "roberta", "wav2vec2", "mbart",
          "m2m", "marian", "fsmt", "bert", "xglm", "gpt2", "opt", "hubert",
          "data2vec_audio", "s2t_transformer", "xm_transformer")
"""Modules of this folder that have a tuple `FAMILIES`. The one registration."""


def _families() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for place in PLACES:
        for family in importlib.import_module(f"seqjax.models.{place}").FAMILIES:
            if family.name in found:
                raise RuntimeError(f"two families of models are called {family.name!r}")
            found[family.name] = family
    return found


FAMILIES: Mapping[str, Family] = _families()
"""`config.model.name` -> what the family says of itself."""

CONFIGS: Mapping[str, type] = {name: family.config for name, family in FAMILIES.items()}
"""`config.model.name` -> its dataclass."""

ARCHS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    arch: (name, values)
    for name, family in FAMILIES.items() for arch, values in family.archs.items()
}
"""`config.model.arch`, fairseq's architecture name -> (family, defaults it changes)."""


def family(name: str) -> Family:
    """The family of a `config.model.name`.

    One of your own, `package.module:Object`, may have a `Family` as its attribute `FAMILY`;
    without it is one that has no tables.

    Raises:
      ConfigError: there is no such object.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    model = import_object(name, "config.model.name")
    own = getattr(model, "FAMILY", None)
    if own is not None:
        return own
    return Family(name=name, config=model.Config, archs={}, model=name)


def fairseq_table(name: str) -> FairseqTable:
    """How fairseq spells the keys and weights of the family of a `config.model.name`.

    Raises:
      ConfigError: its checkpoints cannot be converted.
    """
    place = family(name).fairseq
    if place is None:
        raise ConfigError(f"fairseq has no model {name!r} that its files could be of")
    return import_object(place, "config.model.name")


def huggingface_tables(name: str | None = None) -> list[tuple[str, str, HuggingFaceTable]]:
    """How Hugging Face's folders spell models: (family, `module:OBJECT`, table), in order.

    Args:
      name: of one family, its `config.model.name` (None: of all that are here).

    Raises:
      ConfigError: a caller's own family has no such table.
    """
    chosen = FAMILIES.values() if name is None else [family(name)]
    return [(one.name, place, import_object(place, "config.model.name"))
            for one in chosen for place in one.huggingface]


def build(
    config: ModelSection, *, source_vocab_size: int, target_vocab_size: int,
    compute_dtype: DTypeLike,
    **special_ids: int,
) -> Any:
    """The model of a resolved model section.

    Args:
      source_vocab_size, target_vocab_size: entries of the dictionaries (of a language
        model: what it reads and what it predicts).
      compute_dtype: type of matrix products and activations.
      **special_ids: `pad` and `eos`, where they are not fairseq's.

    Returns:
      An implementation of one of the protocols of `models.protocol`.
    """
    cls = import_object(family(config.name).model, "config.model.name")
    if special_ids and not getattr(cls, "any_special_ids", False):
        said = ", ".join(f"{name} {value}" for name, value in special_ids.items())
        raise ConfigError(
            f"config.model.name: models of {config.name!r} are for vocabularies whose special "
            f"symbols have fairseq's ids; this one has {said}")
    return cls(
        config=config, source_vocab_size=source_vocab_size,
        target_vocab_size=target_vocab_size, compute_dtype=compute_dtype, **special_ids,
    )


def compute_dtype(name: str) -> Any:
    """The type that `train.compute_dtype` means on this machine: `auto` is float32 on a
    CPU and bfloat16 elsewhere."""
    import jax  # choosing a configuration must not wait for it
    import jax.numpy as jnp

    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)
