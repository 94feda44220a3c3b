"""Beam search of CTC outputs with an n-gram model: seqjax and pyctcdecode on the same logits.

    python scripts/compare_ctc_decoders.py make TEXT FOLDER          # with seqjax
    python scripts/compare_ctc_decoders.py seqjax FOLDER             # prints seconds and WER
    python scripts/compare_ctc_decoders.py pyctcdecode FOLDER        # with pyctcdecode and kenlm

pyctcdecode 0.5 wants NumPy 1, so it has an environment of its own. TEXT has a sentence a line; its
words make the language model and 96 of its sentences the utterances: frames of 20 ms, letters
with blanks between them, one in eight of them misheard, noise in every frame. Both keep 50
hypotheses and look at tokens above -5; pin both to one core (`taskset -c 0`).
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LETTERS = [chr(ord("A") + i) for i in range(26)]
SYMBOLS = ["<s>", "|", "'", *LETTERS, "<pad>", "</s>", "<unk>"]
BEAM, UTTERANCES = 50, 96
ALPHA, BETA = 0.5, 1.0
"""pyctcdecode's weights of the language model (natural logarithms) and of a word."""


def make(text: Path, folder: Path) -> None:
    """The language model, the logits and what was said."""
    from seqjax.data.kneser_ney import write_arpa

    folder.mkdir(parents=True, exist_ok=True)
    lines = [" ".join(re.sub(r"[^A-Z' ]", " ", line.upper()).split())
             for line in text.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if len(line.split()) > 2]
    print("n-grams", write_arpa(lines, folder / "lm.arpa", order=3))
    rng = np.random.default_rng(0)
    said = [lines[i] for i in rng.permutation(len(lines)) if 8 <= len(lines[i].split()) <= 25]
    rows = [_logits(line, rng) for line in said[:UTTERANCES]]
    np.savez(folder / "logits.npz", **{f"{i:03d}": row for i, row in enumerate(rows)})
    (folder / "said.json").write_text(json.dumps(said[:UTTERANCES]))
    print(f"{sum(map(len, rows))} frames")


def _logits(line: str, rng: np.random.Generator) -> np.ndarray:
    ids = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    frames = []
    for letter in f"{line} ".replace(" ", "|"):
        others = rng.choice(np.arange(1, 29), 3, replace=False)
        misheard = rng.random() < 0.12
        for _ in range(rng.integers(1, 3)):
            p = np.full(len(SYMBOLS), 1e-6)
            if misheard:
                p[others] = 0.5, 0.15, 0.0
                p[[ids[letter], 0]] = 0.25, 0.1
            else:
                sure = rng.uniform(0.7, 0.99)
                p[others] = (1 - sure) / 5
                p[[ids[letter], 0]] = sure, (1 - sure) * 2 / 5
            frames.append(p)
        for _ in range(rng.integers(1, 4)):
            p = np.full(len(SYMBOLS), 1e-6)
            p[0] = rng.uniform(0.97, 0.9999)
            p[rng.integers(1, 29)] = 1 - p[0]
            frames.append(p)
    x = np.log(np.array(frames) + 1e-9) + rng.normal(size=(len(frames), len(SYMBOLS))) * 0.8
    return (x - np.log(np.exp(x).sum(1, keepdims=True))).astype(np.float32)


def _load(folder: Path) -> tuple[list[np.ndarray], list[str]]:
    arrays = np.load(folder / "logits.npz")
    return ([arrays[name] for name in sorted(arrays.files)],
            json.loads((folder / "said.json").read_text()))


def with_seqjax(folder: Path) -> None:
    """Seconds and word errors, the second time (compiled)."""
    from seqjax.generation.ctc.decoder import CTCDecoder
    from seqjax.generation.ctc.options import CTCOptions

    rows, said = _load(folder)
    decoder = CTCDecoder(SYMBOLS, blank=0, silence=1, options=CTCOptions(
        beam=BEAM, lm=str(folder / "lm.arpa"), lm_weight=ALPHA * np.log(10), word_score=BETA,
        token_min_logp=-5.0))
    decoder.decode(rows)
    begin = _clocks()
    found = decoder.decode(rows)
    _report("seqjax", _since(begin), [" ".join(h[0].words or ()) for h in found], said)


def with_pyctcdecode(folder: Path) -> None:
    """Seconds and word errors."""
    from pyctcdecode import build_ctcdecoder  # pyright: ignore[reportMissingImports]

    rows, said = _load(folder)
    words = {word for line in (folder / "lm.arpa").read_text().splitlines()
             if len(fields := line.split("\t")) > 1 for word in fields[1].split()}
    decoder = build_ctcdecoder(
        ["", " ", *SYMBOLS[2:]], str(folder / "lm.arpa"),
        unigrams=[word for word in words if not word.startswith("<")], alpha=ALPHA, beta=BETA)
    begin = _clocks()
    found = [decoder.decode(row, beam_width=BEAM, token_min_logp=-5.0) for row in rows]
    _report("pyctcdecode", _since(begin), found, said)


def _clocks() -> tuple[float, float]:
    """Seconds of the wall's clock, and of the CPU."""
    return time.perf_counter(), time.process_time()


def _since(begin: tuple[float, float]) -> str:
    wall, cpu = (now - then for now, then in zip(_clocks(), begin, strict=True))
    return f"{wall:.2f} s, of the CPU {cpu:.2f} s"


def _report(name: str, seconds: str, found: Sequence[str], said: Sequence[str]) -> None:
    errors = sum(_errors(one.split(), other.split())
                 for one, other in zip(found, said, strict=True))
    words = sum(len(line.split()) for line in said)
    print(f"{name}: {seconds}, WER {errors / words:.4f}")


def _errors(found: Sequence[str], said: Sequence[str]) -> int:
    row = list(range(len(found) + 1))
    for i, word in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            best = min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
            diagonal, row[j] = row[j], best
    return row[-1]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["make", "seqjax", "pyctcdecode"])
    parser.add_argument("paths", nargs="+", type=Path)
    args = parser.parse_args()
    {"make": make, "seqjax": with_seqjax, "pyctcdecode": with_pyctcdecode}[args.what](*args.paths)


if __name__ == "__main__":
    main()
