"""Records what fairseq computes where `<pad>` stands within a sentence.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither. Takes the
weights of cases of `record_families.py`, puts `<pad>` into their batches and writes
`FOLDER/padding_inside.npz`: per case `CASE/source`, `prev`, `target`, `lprobs` and `loss`.

    python scripts/record_padding_inside.py tests/goldens
"""

from __future__ import annotations

import argparse
import json
import pathlib

import numpy as np
import record_families as families
import torch

CASES = ("fconv/mixed", "fconv/lm", "lightconv/dynamic", "lightconv/lightweight", "lightconv/lm",
         "transformer_align/causal", "transformer_lm/learned", "transformer_lm/adaptive")
INSIDE = {"source": ((0, 2), (0, 3), (1, 1)), "target": ((0, 1), (1, 4), (2, 0))}
"""(row, place) of what becomes `<pad>`."""


def record(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        arrays = dict(file)
    about = json.loads(str(arrays["about"]))
    torch.manual_seed(1)
    lm = "_lm" in about["arch"]
    sizes = (18, 18) if lm or about["args"].get("share_all_embeddings") else (16, 18)
    model = families.build(about["arch"], about["args"], sizes)
    state, at = model.state_dict(), 0
    for name, shape in about["weights"].items():
        size = int(np.prod(shape))
        state[name] = torch.tensor(arrays["weights"][at : at + size].reshape(shape))
        at += size
    model.load_state_dict(state)
    source, target = (arrays[k].astype(np.int64) for k in ("source", "target"))
    lengths = (target != 1).sum(1)
    for row, place in INSIDE["source"]:
        source[row, place] = 1
    for row, place in INSIDE["target"]:
        target[row, place] = 1
    prev = np.ones_like(target)
    for row, length in enumerate(lengths):
        prev[row, :length] = [2, *target[row, : length - 1]]
    extra = {}
    if not lm:
        real = (arrays["source"] != 1).sum(1)
        left = np.stack([np.roll(r, len(r) - n) for r, n in zip(source, real, strict=True)])
        encoded = model.encoder(torch.tensor(left), torch.tensor((source != 1).sum(1)))
        extra = {"encoder_out": encoded}
    with torch.no_grad():
        output = model.decoder(torch.tensor(prev), **extra)
        loss = families.objective(model, output, torch.tensor(target))
        lprobs = model.get_normalized_probs(output, log_probs=True, sample={"target": None})
    return {"source": source.astype(np.int8), "prev": prev.astype(np.int8),
            "target": target.astype(np.int8), "lprobs": lprobs.numpy(),
            "loss": loss.numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Record fairseq with <pad> within sentences.")
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    found = {}
    for case in CASES:
        for key, value in record(folder / f"{case}.npz").items():
            found[f"{case}/{key}"] = value
    np.savez_compressed(folder / "padding_inside.npz", **found)


if __name__ == "__main__":
    main()
