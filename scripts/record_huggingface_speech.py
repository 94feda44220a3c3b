"""Records what transformers computes for tiny models of waveforms.

Needs transformers 5 and torch; seqjax and its tests need neither. Writes

    python scripts/record_huggingface_speech.py tests/goldens/huggingface_speech [CLASS ...]

`CLASS.npz`: `config` (the text of `config.json`), `shapes` (JSON) of the weights, which
`tests/seeded_weights.py` makes, and `out` [B, T, C] of the batch of `batch()`: logits of a class
for CTC, else the last states; of the class of pretraining `projected` and `quantized` besides. Of
models with a group norm no mask is given, as transformers' processors give none.

`transcripts.json`: for several CTC tokenizers their `files` and the `texts` that transformers'
pipeline writes for the same samples, one recording after the other, with `HubertForCTC`.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile

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


HEARD = "HubertForCTC"
VOCABULARIES: dict[str, tuple[list[str], dict]] = {
    "usual": (["<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "A", "O"], {}),
    "blank behind": (["a", "|", "b", "c", "d", "[UNK]", "[PAD]"],
                     {"unk_token": "[UNK]", "pad_token": "[PAD]"}),
    "lowered": (["<pad>", "|", "</s>", "<unk>", "<s>", "E", "T", "'", "N"],
                {"do_lower_case": True}),
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


def transcripts() -> dict[str, dict]:
    """See the module."""
    config, arrays = transformers.HubertForCTC.config_class, record(HEARD, CASES[HEARD])
    model = transformers.HubertForCTC(config(**json.loads(str(arrays["config"])))).eval()
    shapes = {n: tuple(s) for n, s in json.loads(str(arrays["shapes"])).items()}
    drawn = {n: torch.from_numpy(v) for n, v in seeded_state(shapes, SEED).items()}
    model.load_state_dict({**model.state_dict(), **drawn})
    samples, lengths = batch()
    found = {}
    for name, (words, given) in VOCABULARIES.items():
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder)
            (place / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
            tokenizer = transformers.Wav2Vec2CTCTokenizer(place / "vocab.json", **given)
            assert len(tokenizer) == model.config.vocab_size, len(tokenizer)
            tokenizer.save_pretrained(place)
            pipeline = transformers.pipeline(
                "automatic-speech-recognition", model=model, tokenizer=tokenizer,
                feature_extractor=transformers.Wav2Vec2FeatureExtractor(do_normalize=False))
            texts = [pipeline(row[:n].copy())["text"]
                     for row, n in zip(samples, lengths, strict=True)]
            found[name] = {"files": {f.name: f.read_text() for f in sorted(place.iterdir())},
                           "texts": texts}
    return found


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
    if not args.names:
        path = args.folder / "transcripts.json"
        path.write_text(json.dumps(transcripts(), indent=1) + "\n")


if __name__ == "__main__":
    main()
