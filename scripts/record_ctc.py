"""Records what torch computes for CTC losses of random rows.

Needs torch; seqjax and its tests do not. Writes

    python scripts/record_ctc.py tests/goldens/ctc.npz

`logits` [B, T, V] (float16), `frames` and `symbols` [B] lengths, `target` [B, L]; `loss` [B]
float64, infinite where no alignment is possible, and `gradient` [B, T, V] of their sum without
those (`zero_infinity`). Among the rows are empty targets, rows of one frame, repeated letters that
just fit and that do not, and one whose only alignment costs more than 1e5.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
import torch
from torch.nn import functional

ROWS, FRAMES, SYMBOLS, LETTERS = 24, 17, 6, 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Record CTC losses of torch's.")
    parser.add_argument("file", type=pathlib.Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(ROWS, FRAMES, SYMBOLS)) * rng.choice([1, 5, 30], (ROWS, 1, 1))
    logits = logits.astype(np.float16)
    frames = rng.integers(1, FRAMES + 1, ROWS)
    symbols = rng.integers(0, LETTERS + 1, ROWS)
    target = rng.integers(1, SYMBOLS, (ROWS, LETTERS))
    target[2:5], symbols[2:5], frames[2:5] = 3, 4, (7, 6, 8)  # 4 and 3 blanks between: 7
    symbols[5:7], frames[5:7] = 0, (1, FRAMES)
    target[7], symbols[7], frames[7] = 2, LETTERS, FRAMES
    logits[7], logits[7, :, 0] = 0, 60000
    probs = torch.tensor(logits.astype(np.float64), requires_grad=True)

    def losses(zero_infinity: bool) -> torch.Tensor:
        flat = np.concatenate([row[:n] for row, n in zip(target, symbols, strict=True)])
        return functional.ctc_loss(
            probs.log_softmax(-1).transpose(0, 1), torch.tensor(flat), torch.tensor(frames),
            torch.tensor(symbols), reduction="none", zero_infinity=zero_infinity)

    losses(True).sum().backward()
    assert probs.grad is not None
    np.savez_compressed(
        args.file, logits=logits, frames=frames, symbols=symbols, target=target.astype(np.int32),
        loss=losses(False).detach().numpy(), gradient=probs.grad.numpy().astype(np.float32))
    print(args.file, args.file.stat().st_size)


if __name__ == "__main__":
    main()
