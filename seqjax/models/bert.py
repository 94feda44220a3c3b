"""BERT: an encoder that was trained to predict masked words (Devlin et al. 2019).

Keys in fairseq's words in, RoBERTa's model out: post-norm, with positions from 0 and kinds of
tokens. fairseq has no files of it; transformers has, also of sentence encoders such as MiniLM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from seqjax.config import ConfigError
from seqjax.models.family import Family
from seqjax.models.parts import heads_config as heads
from seqjax.models.roberta import huggingface as roberta
from seqjax.models.roberta.config import RobertaConfig
from seqjax.models.tables import HuggingFaceTable, State, WeightNames
from seqjax.models.transformer import huggingface


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig(RobertaConfig):
    """By default `bert-base`."""

    name: Literal["bert"] = "bert"  # type: ignore[assignment]
    """Chooses the family of models."""
    layer_norm_eps: float = 1e-12
    """Added to the variance in every layer norm."""
    position_offset: int | None = 0
    """Position of the first token: of sinusoids, or the row of the table of learned positions,
    which has this many more rows (None: one behind padding's id, as in fairseq)."""
    token_types: int = 2
    """Rows of an embedding of kinds of tokens, of which the first is added to every token (of a
    BERT the second to those of the second text of a pair; 0: none, as in fairseq)."""
    marks_pairs: ClassVar[bool] = True
    """See `RobertaConfig`."""


PREFIX, _HEAD, _CLASSES = "bert.", "cls.predictions", "classifier"
_POOLER = "bert.pooler.dense"


def read(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`; see `HuggingFaceTable.config_from`."""
    found = {**roberta.KEYS.read(hf), **heads.from_labels(hf)}
    return {**found, "max_positions": hf.get("max_position_embeddings", 512), "position_offset": 0}


def upgrade(state: State, config: BertConfig) -> tuple[State, BertConfig]:
    """Heads and kinds of tokens as the weights have them. The pooler, which is kept where no head
    reads it, is the first half of a head for classification."""
    types = state.get(PREFIX + roberta.TYPES)
    if types is not None:
        config = dataclasses.replace(config, token_types=int(types.shape[0]))
    has_head = f"{_HEAD}.transform.dense.weight" in state
    if f"{_CLASSES}.weight" in state:
        if f"{_POOLER}.weight" not in state:
            raise ConfigError(f"{_CLASSES}.weight: is there without {_POOLER}.weight, whose output "
                              "BERT's head for classification reads")
        state = {_TO_HEAD.get(name, name): value for name, value in state.items()}
    config = dataclasses.replace(config, masked_lm_head=has_head)
    if not has_head:
        config = dataclasses.replace(config, untie_weights_roberta=False)
    return state, heads.with_head_of(state, config, _CLASSES)


_TO_HEAD = {f"{old}.{leaf}": f"{_CLASSES}.{new}.{leaf}" for leaf in ("weight", "bias")
            for old, new in ((_POOLER, "dense"), (_CLASSES, "out_proj"))}
"""Name there -> that of a head's two matrices."""


def join(state: State, config: BertConfig) -> State:
    """And back; the pooler of a head is the one that is written."""
    if not config.classification_heads:
        return state
    theirs = {new: old for old, new in _TO_HEAD.items()}
    found = {name: value for name, value in state.items() if name not in _TO_HEAD}
    return {theirs.get(name, name): value for name, value in found.items()}


def copies(config: BertConfig) -> Mapping[str, str]:
    """What older files have twice."""
    if not config.masked_lm_head:
        return {}
    tied = {} if config.untie_weights_roberta else {
        f"{_HEAD}.decoder.weight": PREFIX + roberta.WORDS}
    return {**tied, f"{_HEAD}.decoder.bias": f"{_HEAD}.bias"}


HUGGINGFACE = HuggingFaceTable(
    model_types=("bert",),
    architectures=(
        "BertForMaskedLM", "BertModel", "BertForPreTraining", "BertForSequenceClassification"),
    architecture=lambda config: (
        "BertForSequenceClassification" if config.classification_heads else
        "BertForMaskedLM" if config.masked_lm_head else "BertModel"),
    config_from=read,
    config_to=huggingface.writer(
        roberta.KEYS, read, elsewhere={"masked_lm_head": (True, False)},
        unsaid=("token_types", *heads.UNSAID),
        more=lambda config: {"max_position_embeddings": config.max_positions,
                             "type_vocab_size": config.token_types, **heads.labels(config)}),
    names=WeightNames(
        vocabulary=lambda state: (state[PREFIX + roberta.WORDS].shape[0],) * 2,
        upgrade=upgrade, ignored=(r"bert\.pooler\..*", r"cls\.seq_relationship\..*"),
        copies=copies,
        renames=(
            heads.renamed(_CLASSES),
            (r"^encoder\.lm_head\.dense\.", f"{_HEAD}.transform.dense."),
            (r"^encoder\.lm_head\.layer_norm\.", f"{_HEAD}.transform.LayerNorm."),
            (r"^encoder\.lm_head\.weight$", f"{_HEAD}.decoder.weight"),
            (r"^encoder\.lm_head\.bias$", f"{_HEAD}.bias"),
            (r"^encoder\.sentence_encoder\.", PREFIX),
            *((f"^bert{old}", f"bert{new}") for old, new in roberta.LAYERS))),
    join=join, prefix=PREFIX, kind="encoder",
    special={"pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102, "unk_token_id": 100},
)

FAMILIES = (
    Family(
        name="bert", config=BertConfig, archs={},
        model="seqjax.models.roberta.model:RobertaModel",
        huggingface=("seqjax.models.bert:HUGGINGFACE",),
        partition=((r"lm_head/weight$", ("tensor", "fsdp")),),
    ),
)
