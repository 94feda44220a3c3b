"""Tiny random models of transformers as goldens: folders as transformers writes them, and what it
computes with them.

    python scripts/record_huggingface.py tests/goldens/huggingface_folders [CASE ...]

It needs transformers 5 and torch; seqjax and its tests need neither.

Each case becomes OUT/CASE: `config.json`, `generation_config.json`, `model.safetensors`, and
`outputs.npz` with padded inputs, logits and what greedy and beam search generate. `CASES` has a
case for each family; those that need more than a configuration have a function of their own.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import packed

SEEDS = 12
"""Models of which the one is taken whose outputs are the least monotonous."""
LENGTHS = (9, 5, 2, 7)
"""Tokens of each sentence, eos included; rows are padded on the right."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One recorded model."""

    model: str
    """transformers' class."""
    config: dict[str, Any]
    """Of its configuration: what differs from the defaults."""
    searches: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Name -> arguments of `generate`."""
    dtype: torch.dtype = torch.float32
    """In which the weights are saved."""
    generation: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of `generation_config.json`."""
    noise: float = 0.7
    """Deviation of what is added to every parameter, so that each of them shows."""
    avoid: tuple[int, ...] = (0, 1, 2, 3)
    """Ids that are no words."""
    ends: tuple[int, ...] = (2,)
    """What a sentence ends in."""
    begins: tuple[int, ...] = ()
    """What a sentence begins with."""
    change: Callable[[Any], None] | None = None
    """Done to the model before it is recorded."""


SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"num_beams": 1, "max_length": 14},
    "beam": {"num_beams": 4, "num_return_sequences": 4, "max_length": 14},
    "beam_early": {"num_beams": 3, "num_return_sequences": 3, "max_length": 14,
                   "early_stopping": True},
    "beam_never": {"num_beams": 3, "num_return_sequences": 3, "max_length": 14,
                   "early_stopping": "never", "length_penalty": 2.0},
    "beam_short": {"num_beams": 3, "num_return_sequences": 3, "max_length": 14,
                   "length_penalty": 0.4, "min_length": 6, "no_repeat_ngram_size": 2},
}
"""Of models that generate."""

_BART = {
    "vocab_size": 40, "d_model": 12, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 3, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 20, "max_position_embeddings": 24,
}
_ROBERTA = {
    "vocab_size": 40, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 16, "max_position_embeddings": 24,
}


def logits_bias(model: Any) -> None:
    """A bias of the logits, which `save_pretrained` writes as a buffer."""
    model.final_logits_bias.normal_(std=0.5)


CASES: dict[str, Case] = {
    "bart": Case(model="BartForConditionalGeneration", config=_BART, searches=SEARCHES),
    "bart_forced": Case(
        model="BartForConditionalGeneration", change=logits_bias,
        config={**_BART, "scale_embedding": True, "activation_function": "gelu_new"},
        searches=SEARCHES, generation={"forced_bos_token_id": 0, "forced_eos_token_id": None}),
    "bart_half": Case(model="BartModel", config=_BART, dtype=torch.float16),
    "roberta": Case(model="RobertaForMaskedLM", begins=(0,), config={
        **_ROBERTA, "layer_norm_eps": 1e-5, "type_vocab_size": 1}),
    "roberta_model": Case(model="RobertaModel", begins=(0,), config=_ROBERTA),
    "xlm_roberta": Case(model="XLMRobertaForMaskedLM", begins=(0,), dtype=torch.bfloat16, config={
        **_ROBERTA, "layer_norm_eps": 1e-5, "type_vocab_size": 1}),
    "camembert": Case(model="CamembertForMaskedLM", begins=(5,), ends=(6,), config={
        **_ROBERTA, "bos_token_id": 5, "eos_token_id": 6, "pad_token_id": 1,
        "type_vocab_size": 1}),
    "bart_labels": Case(model="BartForSequenceClassification", config={
        **_BART, "num_labels": 4, "d_model": 8, "encoder_attention_heads": 2}),
    "roberta_labels": Case(model="RobertaForSequenceClassification", begins=(0,), config={
        **_ROBERTA, "num_labels": 3, "layer_norm_eps": 1e-5, "type_vocab_size": 1}),
    "bert": Case(model="BertForMaskedLM", begins=(2,), ends=(3,), config={
        **_ROBERTA, "bos_token_id": 2, "eos_token_id": 3}),
    "bert_model": Case(model="BertModel", begins=(2,), ends=(3,), config={
        **_ROBERTA, "bos_token_id": 2, "eos_token_id": 3, "hidden_act": "relu"}),
}
"""Folder -> what is recorded there."""


def sentences(case: Case, vocabulary: int, pad: int, rng: np.random.Generator) -> np.ndarray:
    """[B, S] ids, padded on the right."""
    words = [i for i in range(vocabulary) if i not in case.avoid and i != pad]
    out = np.full((len(LENGTHS), max(LENGTHS)), pad, np.int64)
    for row, length in enumerate(LENGTHS):
        inside = length - len(case.begins) - len(case.ends)
        ids = [*case.begins, *rng.choice(words, max(inside, 0)), *case.ends]
        out[row, :len(ids)] = ids
    return out


def record(name: str, case: Case, folder: pathlib.Path) -> None:
    """Writes a case's folder."""
    first = sum(map(ord, name)) * SEEDS
    made = [build(case, first + i) for i in range(SEEDS if case.searches else 1)]
    model, found = max(made, key=lambda pair: variety(pair[1]))
    model.to(case.dtype).save_pretrained(folder)
    np.savez_compressed(folder / "outputs.npz", **found)
    print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir())} bytes")


@torch.no_grad()
def build(case: Case, seed: int) -> tuple[Any, dict[str, np.ndarray]]:
    """A model whose every parameter shows, and what was recorded of it."""
    cls = getattr(transformers, case.model)
    torch.manual_seed(seed)
    model = cls(cls.config_class(**case.config)).eval()
    for key, value in model.named_parameters():
        scale = 1.0 if value.dim() > 1 and "layer" in key else 0.5
        value += torch.randn_like(value) * case.noise * scale
    if case.change is not None:
        case.change(model)
    for key, value in case.generation.items():
        setattr(model.generation_config, key, value)
    model = model.to(case.dtype).float()
    return model, outputs(case, model)


def variety(found: dict[str, np.ndarray]) -> tuple[int, int]:
    """How little outputs repeat themselves: of how many lengths they are, of how many words."""
    rows = [row for name, value in found.items() if name.endswith("/tokens")
            for row in value.tolist()]
    return len({sum(x != 1 for x in row) for row in rows}), sum(len(set(row)) for row in rows)


@torch.no_grad()
def outputs(case: Case, model: Any) -> dict[str, np.ndarray]:
    """What the model computes: inputs, their mask, logits or states, generated ids and scores."""
    config = model.config
    rng = np.random.default_rng(len(case.model))
    pad = config.pad_token_id
    source = torch.tensor(sentences(case, config.vocab_size, pad, rng))
    mask = (source != pad).long()
    found = {"source": source.numpy()}
    if config.is_encoder_decoder and "Classification" not in case.model:
        target = sentences(case, config.vocab_size, pad, rng)
        prev = np.concatenate([np.full((len(target), 1), config.decoder_start_token_id),
                               target[:, :-1]], axis=1)
        found["prev"] = prev
        result = model(input_ids=source, attention_mask=mask,
                       decoder_input_ids=torch.tensor(prev))
        found["encoder"] = result.encoder_last_hidden_state.numpy()
    else:
        result = model(input_ids=source, attention_mask=mask, output_hidden_states=True)
        states = result.get("encoder_last_hidden_state", result.get("hidden_states", [None])[-1])
        found["encoder"] = states.numpy()
    if "logits" in result:
        found["logits"] = result.logits.numpy()
    for name, options in case.searches.items():
        made = model.generate(input_ids=source, attention_mask=mask, do_sample=False,
                              return_dict_in_generate=True, output_scores=True, **options)
        found[f"{name}/tokens"] = made.sequences.numpy()
        if getattr(made, "sequences_scores", None) is not None:
            found[f"{name}/scores"] = made.sequences_scores.numpy()
    return found


def main() -> None:
    out, *names = sys.argv[1:]
    for name in names or CASES:
        record(name, CASES[name], pathlib.Path(out) / name)
        packed.pack(pathlib.Path(out) / name)


if __name__ == "__main__":
    main()
