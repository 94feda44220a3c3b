"""Records what transformers computes for tiny models of waveforms.

Needs transformers 5 and torch; seqjax and its tests need neither. Writes

    python scripts/record_huggingface_speech.py tests/goldens/huggingface_speech [CLASS ...]

`CLASS.npz`: `config` (the text of `config.json`), `shapes` (JSON) of the weights, which
`tests/seeded_weights.py` makes, and `out` [B, T, C] of the batch of `batch()`: logits of a class
for CTC, else the last states; of the class of pretraining `projected` and `quantized` besides. Of
models with a group norm no mask is given, as transformers' processors give none.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

import numpy as np
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from seeded_weights import seeded_state  # noqa: E402

SEED = 11
_TINY = dict(
    hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
    conv_dim=[8, 8, 8], conv_kernel=[10, 3, 3], conv_stride=[5, 2, 2], num_feat_extract_layers=3,
    num_conv_pos_embedding_groups=3, vocab_size=9)
_GROUP = dict(_TINY, num_conv_pos_embeddings=6)
_LAYER = dict(_GROUP, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
_SEVERAL = dict(_TINY, conv_pos_kernel_size=3, num_conv_pos_embeddings=2)
CASES: dict[str, dict] = {
    "Wav2Vec2ForPreTraining": dict(
        _GROUP, num_codevectors_per_group=4, codevector_dim=6, proj_codevector_dim=8),
    "Wav2Vec2Model": dict(_LAYER, hidden_size=8, num_conv_pos_embedding_groups=2,
                          mask_time_prob=0.0),
    "Wav2Vec2ForCTC": dict(_LAYER, adapter_attn_dim=5),
    "HubertModel": dict(_LAYER), "HubertForCTC": dict(_GROUP, conv_pos_batch_norm=True),
    "Data2VecAudioModel": dict(_SEVERAL), "Data2VecAudioForCTC": dict(_SEVERAL),
}


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Samples [B, N], zeros behind each row's length [B]."""
    lengths = np.array([413, 377, 290])
    samples = 0.5 * np.random.RandomState(1).standard_normal((len(lengths), lengths.max()))
    real = np.arange(lengths.max()) < lengths[:, None]
    return np.where(real, samples, 0).astype(np.float32), lengths


def record(name: str, given: dict) -> dict[str, np.ndarray]:
    cls = getattr(transformers, name)
    config = cls.config_class(**given, architectures=[name])
    model = cls(config).eval()
    state = model.state_dict()
    shapes = {n: list(v.shape) for n, v in state.items() if v.ndim}
    drawn = seeded_state({n: tuple(s) for n, s in shapes.items()}, SEED)
    model.load_state_dict({**state, **{n: torch.from_numpy(v) for n, v in drawn.items()}})
    samples, lengths = batch()
    masked = getattr(config, "feat_extract_norm", "layer") == "layer"
    real = torch.from_numpy(np.arange(samples.shape[1]) < lengths[:, None])
    with torch.no_grad():
        found = model(torch.from_numpy(samples), attention_mask=real if masked else None)
    arrays = {}
    if name.endswith("PreTraining"):
        arrays = {"projected": found.projected_states.numpy(),
                  "quantized": found.projected_quantized_states.numpy()}
        with torch.no_grad():
            out = model.wav2vec2(torch.from_numpy(samples)).last_hidden_state
    else:
        out = found.logits if hasattr(found, "logits") else found.last_hidden_state
    return {"config": np.array(config.to_json_string(use_diff=False)),
            "shapes": np.array(json.dumps(shapes)), "masked": np.array(masked),
            "out": out.numpy(), **arrays}


def main() -> None:
    parser = argparse.ArgumentParser(description="Record what transformers computes.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="only these classes")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or CASES:
        path = args.folder / f"{name}.npz"
        np.savez_compressed(path, allow_pickle=False, **record(name, CASES[name]))
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
