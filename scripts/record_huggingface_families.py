"""Records what Hugging Face's transformers compute for tiny models of the families that are here.

Needs transformers 5 and torch; seqjax and its tests need neither. Writes
`FOLDER/FAMILY/CASE.npz`:

    python scripts/record_huggingface_families.py tests/goldens/huggingface [FAMILY/CASE ...]

`about` (JSON) has the class, `config` (its `config.json`), the tensors' names and shapes in the
order of the flat `weights` (its `model.safetensors`), and under `search` how each hypothesis was
found. Of an encoder-decoder, `source` and `prev` are a batch padded on the right; of a language
model `prev` alone is. `logits` are those of every position, `pad` what pads. `greedy` [B, N] and
`beam` [B, N] are the tokens that were generated, padded on the right, without what stands before
the first; `beam_scores` [B] are sums of log-probabilities divided as `search` says. Language
models are given `prompts`, padded on the right here and on the left there.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import tempfile
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

_SEQ2SEQ = dict(
    d_model=8, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=12, decoder_ffn_dim=12,
    encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=24)
_XGLM = dict(vocab_size=40, d_model=8, ffn_dim=12, num_layers=2, attention_heads=2,
             max_position_embeddings=24)
_OPT = dict(vocab_size=40, hidden_size=8, ffn_dim=12, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=24)
_GPT2 = dict(vocab_size=40, n_embd=8, n_layer=2, n_head=2, n_positions=24, bos_token_id=39,
             eos_token_id=39)
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mbart/begins_with_language": ("MBartForConditionalGeneration", dict(
        _SEQ2SEQ, vocab_size=40, scale_embedding=True), dict(decoder_start_token_id=37)),
    "mbart/language_forced": ("MBartForConditionalGeneration", dict(
        _SEQ2SEQ, vocab_size=40, activation_function="relu", decoder_layers=1, d_model=12,
        encoder_attention_heads=3), dict(decoder_start_token_id=2, forced_bos_token_id=36)),
    "mbart/other_ids": ("MBartForConditionalGeneration", dict(
        _SEQ2SEQ, vocab_size=40, pad_token_id=5, eos_token_id=0, bos_token_id=7,
        forced_eos_token_id=0), dict(decoder_start_token_id=38)),
    "m2m/language_forced": ("M2M100ForConditionalGeneration", dict(
        _SEQ2SEQ, vocab_size=40, decoder_layers=3), dict(
            decoder_start_token_id=2, forced_bos_token_id=36)),
    "m2m/other_ids": ("M2M100ForConditionalGeneration", dict(
        _SEQ2SEQ, vocab_size=40, pad_token_id=4, eos_token_id=6, decoder_ffn_dim=10,
        scale_embedding=False), dict(decoder_start_token_id=6, forced_bos_token_id=9)),
    "marian/shared": ("MarianMTModel", dict(
        _SEQ2SEQ, vocab_size=40, activation_function="swish", scale_embedding=True,
        pad_token_id=39, eos_token_id=0, decoder_start_token_id=39, forced_eos_token_id=0), {}),
    "marian/apart": ("MarianMTModel", dict(
        _SEQ2SEQ, vocab_size=40, decoder_vocab_size=36, activation_function="swish",
        share_encoder_decoder_embeddings=False, tie_word_embeddings=False, scale_embedding=True,
        pad_token_id=35, eos_token_id=0, decoder_start_token_id=35, forced_eos_token_id=0), {}),
    "marian/target_tied": ("MarianMTModel", dict(
        _SEQ2SEQ | dict(d_model=9, encoder_attention_heads=3, decoder_attention_heads=3),
        vocab_size=40, decoder_vocab_size=36, share_encoder_decoder_embeddings=False,
        activation_function="relu", pad_token_id=35, eos_token_id=0, decoder_start_token_id=35,
        forced_eos_token_id=0), {}),
    "fsmt/apart": ("FSMTForConditionalGeneration", dict(
        _SEQ2SEQ, src_vocab_size=40, tgt_vocab_size=36), {}),
    "fsmt/tied": ("FSMTForConditionalGeneration", dict(
        _SEQ2SEQ, src_vocab_size=40, tgt_vocab_size=40, tie_word_embeddings=True,
        decoder_layers=1, scale_embedding=False), {}),
    "xglm/tied": ("XGLMForCausalLM", dict(_XGLM), {}),
    "xglm/apart": ("XGLMForCausalLM", dict(
        _XGLM, tie_word_embeddings=False, activation_function="relu", pad_token_id=0,
        bos_token_id=1, scale_embedding=False), {}),
    "opt/pre_norm": ("OPTForCausalLM", dict(_OPT), {}),
    "opt/post_norm_projected": ("OPTForCausalLM", dict(
        _OPT, do_layer_norm_before=False, word_embed_proj_dim=6), {}),
    "opt/no_bias": ("OPTForCausalLM", dict(
        _OPT, enable_bias=False, activation_function="gelu", _remove_final_layer_norm=True,
        tie_word_embeddings=False), {}),
    "opt/other_ids": ("OPTForCausalLM", dict(_OPT, pad_token_id=7, eos_token_id=0), {}),
    "gpt2/tied": ("GPT2LMHeadModel", dict(_GPT2), {}),
    "gpt2/apart": ("GPT2LMHeadModel", dict(
        _GPT2, n_inner=20, tie_word_embeddings=False, activation_function="relu",
        layer_norm_epsilon=1e-2, reorder_and_upcast_attn=True), {}),
}
"""FAMILY/CASE -> class, keys of its configuration, and how its search begins."""
NEW_TOKENS = 14
SEEDS = 60
"""Models of which the one is taken whose outputs are the least monotonous, all of which end."""


def build(
    name: str, values: dict[str, Any], *, scales: tuple[float, float], ends: float
) -> Any:
    """A model with every parameter, and every bias of logits, moved off its start: matrices around
    the layers and inside them as far as `scales` says. The output layer's row of eos is longer by
    a factor."""
    cls = getattr(transformers, name)
    model = cls(cls.config_class(**values)).eval()
    named = [*model.named_parameters(), *(
        (n, b) for n, b in model.named_buffers() if n == "final_logits_bias")]
    for key, value in named:
        if "embed_positions" in key and not values_learned(model):
            continue
        inside = "layers" in key or ".h." in key
        scale = 0.4 if value.dim() == 1 else scales[inside]
        start = 1.0 if value.dim() == 1 and "norm" in key + "norm" * ("ln_" in key) and (
            key.endswith("weight")) else 0.0
        value.data.copy_(start + scale * torch.randn_like(value))
    model.get_output_embeddings().weight.data[model.config.eos_token_id] *= ends
    return model


def values_learned(model: Any) -> bool:
    """Whether its positions are parameters and no sinusoids."""
    return model.config.model_type in ("mbart", "opt", "gpt2")


def batch(rng: np.random.Generator, lengths: list[int], words: list[int], pad: int) -> np.ndarray:
    """Rows of words, padded on the right."""
    rows = np.full((len(lengths), max(lengths)), pad, np.int64)
    for row, length in enumerate(lengths):
        rows[row, :length] = rng.choice(words, length)
    return rows


def record(name: str, values: dict[str, Any], begin: dict[str, Any]) -> dict[str, Any]:
    """Everything about one case."""
    begun = functools.partial(seeded, name, values, begin)
    model, found = max(map(begun, range(SEEDS)), key=lambda pair: variety(pair[1]))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        state = load_file(pathlib.Path(folder) / "model.safetensors")
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    about = {"class": name, "config": config, "search": found.pop("search"),
             "weights": {k: list(v.shape) for k, v in state.items()}}
    return {"about": np.array(json.dumps(about)), **found,
            "weights": np.concatenate([v.reshape(-1) for v in state.values()])}


def seeded(name: str, values: dict[str, Any], begin: dict[str, Any], seed: int) -> Any:
    """One model, and what was recorded of it."""
    torch.manual_seed(seed)
    model = build(
        name, values, ends=(1.0, 1.2, 1.5, 2.0, 2.6)[seed % 5],
        scales=((0.4, 0.7, 1.0, 1.4)[seed % 4], (0.7, 1.2, 1.8)[seed % 3]))
    return model, (seq2seq if model.config.is_encoder_decoder else language_model)(model, begin)


def variety(found: dict[str, Any]) -> tuple[int, int]:
    """How little outputs repeat themselves: of how many lengths they are, of how many words. Those
    of beam search must end: without an end the two libraries differ."""
    rows = [[t for t in row if t >= 0] for key in ("greedy", "beam") for row in found[key].tolist()]
    if any(found["eos"] not in row for row in found["beam"]):
        return 0, 0
    return min(3, len(set(map(len, rows)))), sum(len(set(row)) for row in rows)


def sizes(config: Any) -> tuple[int, int]:
    """Entries of both vocabularies."""
    if config.model_type == "fsmt":
        return config.src_vocab_size, config.tgt_vocab_size
    return config.vocab_size, getattr(config, "decoder_vocab_size", config.vocab_size)


def seq2seq(model: Any, begin: dict[str, Any]) -> dict[str, Any]:
    """Of an encoder-decoder."""
    config, rng = model.config, np.random.default_rng(3)
    pad, eos = config.pad_token_id, config.eos_token_id
    special = {pad, eos, config.bos_token_id}
    source, prev = (
        batch(rng, lengths, [w for w in range(n) if w not in special], pad)
        for lengths, n in zip(([9, 6, 4], [7, 8, 3]), sizes(config), strict=True))
    for row in source:
        row[(row != pad).sum() - 1] = eos
    start = begin.get("decoder_start_token_id", config.decoder_start_token_id)
    prev[:, 0] = start
    inputs = torch.tensor(source)
    mask = (inputs != pad).long()
    with torch.no_grad():
        options = {} if config.model_type != "fsmt" else {"use_cache": False}
        logits = model(input_ids=inputs, attention_mask=mask,
                       decoder_input_ids=torch.tensor(prev), **options).logits
    forced = begin.get("forced_bos_token_id")
    search = dict(start=start, forced=forced, lenpen=1.0 if forced is None else 0.0)
    found = generated(model, pad, input_ids=inputs, attention_mask=mask, min_new_tokens=1,
                      length_penalty=search["lenpen"], **begin)
    return {"source": source.astype(np.int8), "prev": prev.astype(np.int8), "pad": np.array(pad),
            "eos": np.array(eos), "logits": logits.numpy(), "search": search,
            **{k: v if k == "beam_scores" else v[:, 1:] for k, v in found.items()}}


def language_model(model: Any, begin: dict[str, Any]) -> dict[str, Any]:
    """Of a language model; where nothing pads, the padding here is behind the vocabulary."""
    config, rng = model.config, np.random.default_rng(3)
    eos, own = config.eos_token_id, config.pad_token_id
    pad = config.vocab_size if own is None else own
    there = eos if own is None else own
    words = [w for w in range(config.vocab_size) if w not in (pad, eos)]
    prev = batch(rng, [9, 6, 4], words, pad)
    prompts = batch(rng, [4, 2, 3], words, pad)
    prev[:, 0] = prompts[:, 0] = eos
    mask = torch.tensor(prev != pad).long()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(np.where(prev == pad, there, prev)),
                       attention_mask=mask).logits
    left = np.stack([np.roll(row, (row == pad).sum()) for row in prompts])
    found = generated(
        model, there, input_ids=torch.tensor(np.where(left == pad, there, left)),
        attention_mask=torch.tensor(left != pad).long(), length_penalty=0.0, **begin)
    length = prompts.shape[1]
    return {"prev": prev.astype(np.int8), "prompts": prompts.astype(np.int8),
            "pad": np.array(pad), "eos": np.array(eos), "logits": logits.numpy(),
            "search": dict(lenpen=0.0),
            **{k: v if k == "beam_scores" else v[:, length:] for k, v in found.items()}}


def generated(model: Any, pad: int, **options: Any) -> dict[str, np.ndarray]:
    """Tokens of a greedy and of a beam search, padded with -1."""
    result = {}
    eos = model.config.eos_token_id
    banned = {"suppress_tokens": [pad]} if pad != eos else {}
    for name, beams in (("greedy", 1), ("beam", 3)):
        more = {"early_stopping": True} if beams > 1 else {}
        own = {k: v for k, v in options.items() if beams > 1 or k != "length_penalty"}
        with torch.no_grad():
            found = model.generate(
                num_beams=beams, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=pad,
                forced_eos_token_id=None, return_dict_in_generate=True, output_scores=True,
                **own, **banned, **more)
        rows = found.sequences.numpy().copy()
        start = 1 if model.config.is_encoder_decoder else options["input_ids"].shape[1]
        for row in rows:
            ends = np.flatnonzero(row[start:] == eos)
            if len(ends):
                row[start + ends[0] + 1:] = -1
        result[name] = rows.astype(np.int8)
        if beams > 1:
            result["beam_scores"] = found.sequences_scores.numpy()
    return result


transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Record what transformers compute for tiny models.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="only these cases")
    args = parser.parse_args()
    for name in args.names or CASES:
        path = args.folder / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = record(*CASES[name])
        np.savez_compressed(path, allow_pickle=False, **found)
        print(path, path.stat().st_size)
        print(found["greedy"].tolist(), found["beam"].tolist(), found["beam_scores"])


if __name__ == "__main__":
    main()
