"""Records what transformers computes for tiny Speech2Text models whose weights are of a seed.

Needs transformers and torch; seqjax and its tests need neither. Writes `FILE`, an npz:

    python scripts/record_speech2text.py tests/goldens/seeded_speech/huggingface.npz

`about` (JSON): for each case its `config.json`, and the shapes of the weights that are written,
which are `seeded_state` of tests/seeded_weights.py (`SEED`). `CASE.logits` [B, T, V] are those of a
padded batch, `CASE.states` the encoder's.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

import numpy as np
import torch
from transformers import Speech2TextConfig, Speech2TextForConditionalGeneration

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
from seeded_weights import seeded_state

SEED, WORDS, LENGTHS = 5, 19, (33, 25)
_TINY = dict(
    vocab_size=WORDS, d_model=12, encoder_layers=2, decoder_layers=1, encoder_ffn_dim=16,
    decoder_ffn_dim=20, encoder_attention_heads=2, decoder_attention_heads=3, conv_channels=10,
    input_feat_per_channel=6, max_source_positions=100, max_target_positions=50)
CASES = {
    "tied": dict(_TINY),
    "own": dict(_TINY, tie_word_embeddings=False, scale_embedding=False, num_conv_layers=1,
                conv_kernel_sizes=[3], activation_function="gelu", input_channels=2),
}


def batch(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, their mask, and what the decoder reads."""
    stream = np.random.RandomState(SEED)
    values = stream.standard_normal((len(LENGTHS), max(LENGTHS), width)).astype(np.float32)
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    tokens = stream.randint(4, WORDS, (len(LENGTHS), 5))
    tokens[:, 0] = 2
    return np.where(mask[..., None], values, 0), mask, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description="Record what transformers computes.")
    parser.add_argument("file", type=pathlib.Path)
    args = parser.parse_args()
    about, arrays = {}, {}
    for name, keys in CASES.items():
        model = Speech2TextForConditionalGeneration(Speech2TextConfig(**keys)).eval()
        own = {n: p for n, p in model.named_parameters()}
        shapes = {n: tuple(p.shape) for n, p in own.items()}
        weights = seeded_state(shapes, SEED)
        with torch.no_grad():
            for n, p in own.items():
                p.copy_(torch.from_numpy(weights[n]))
            values, mask, tokens = batch(
                keys["input_feat_per_channel"] * keys.get("input_channels", 1))
            found = model(
                input_features=torch.from_numpy(values), attention_mask=torch.from_numpy(
                    mask.astype(np.int64)), decoder_input_ids=torch.from_numpy(tokens))
        about[name] = {"config": json.loads(model.config.to_json_string(use_diff=False)),
                       "shapes": shapes}
        arrays[f"{name}.logits"] = found.logits.numpy()
        arrays[f"{name}.states"] = found.encoder_last_hidden_state.numpy()
    np.savez_compressed(
        args.file, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
    print(args.file, args.file.stat().st_size)


if __name__ == "__main__":
    main()
