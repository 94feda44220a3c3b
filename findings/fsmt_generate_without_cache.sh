#!/usr/bin/env bash
# transformers' FSMT lets its decoder see what comes later wherever the mask is not made:
# generate(use_cache=False), and a forward pass under the configuration's use_cache=True.
#
# FSMTModel.forward makes the decoder's causal mask only `if not use_cache and input_ids is not
# None`. `generate` gives `encoder_outputs` in place of `input_ids`, so that without a cache there
# is no mask: each step computes the states of all tokens anew, and those of the earlier ones
# attend to the later ones, which they did not when they were the last. Outputs differ from those
# with the cache, which are right: they are the ones of full forward passes with the mask. A forward
# pass of several tokens with the cache (the default of its configurations, and so of
# `model(input_ids=..., labels=...)` unless told otherwise) has no mask either.
#
# What is to be done: generate with the cache, and say use_cache=False in forward passes.
#
# Seen with transformers 5.24.0, torch 2.13.0, Python 3.11. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    --extra-index-url https://download.pytorch.org/whl/cpu transformers==5.24.0 torch==2.13.0
"$folder/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import FSMTConfig, FSMTForConditionalGeneration

transformers.logging.set_verbosity_error()
print("transformers", transformers.__version__, "torch", torch.__version__)
torch.manual_seed(0)
model = FSMTForConditionalGeneration(FSMTConfig(
    langs=["en", "de"], src_vocab_size=40, tgt_vocab_size=40, d_model=16, encoder_layers=2,
    decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
    decoder_ffn_dim=32, max_position_embeddings=64, forced_eos_token_id=None,
    eos_token_id=2)).eval()
with torch.no_grad():
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "embed_positions" not in name:
            weight.copy_(torch.randn_like(weight))
sources = torch.randint(4, 40, (6, 9))
sources[:, -1] = 2
options = dict(max_new_tokens=10, num_beams=1, do_sample=False, eos_token_id=None)
with torch.no_grad():
    with_cache = model.generate(sources, **options)
    without = model.generate(sources, use_cache=False, **options)
    full = with_cache[:, :1]
    for _ in range(10):
        logits = model(input_ids=sources, decoder_input_ids=full, use_cache=False).logits
        full = torch.cat([full, logits[:, -1:].argmax(-1)], 1)
    masked, unmasked = (
        model(input_ids=sources, decoder_input_ids=full, use_cache=cache).logits[:, 0]
        for cache in (False, True))
    changed = full.clone()
    changed[:, 1:] = 5
    first, later = (
        (model(input_ids=sources, decoder_input_ids=changed, use_cache=cache).logits[:, 0] - was
         ).abs().max().item() for cache, was in ((False, masked), (True, unmasked)))
same = (with_cache == full).all(1).sum().item(), (without == full).all(1).sum().item()
print(f"greedy searches that are those of full forward passes: {same[0]} of 6 with the cache, "
      f"{same[1]} of 6 without it")
print(f"the first token's logits, when later tokens change, change by {first:.6f} with "
      f"use_cache=False, by {later:.6f} with use_cache=True")
assert same[0] == 6 and same[1] < 6, same
assert first < 1e-4 < 0.01 < later, (first, later)
PY
echo "as described"
