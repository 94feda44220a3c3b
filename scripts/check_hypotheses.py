"""Compares seqjax's search with what fairseq's generator found, for a folder of goldens.

    python scripts/check_hypotheses.py FOLDER [NAME ...]

FOLDER holds `data-bin*` and one folder per model with `checkpoint.pt` and `hypos.json`; of models
of features `speech/valid_st.tsv` and what it names, of which utterances are normalised.
Prints one line per model and option set; exits with 1 if tokens differ anywhere or scores
by more than 1e-4. The n-gram set is left out: fairseq's Python code hardly bans anything.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from seqjax import models
from seqjax.config import GenerationConfig
from seqjax.data.indexed import IndexedDataset
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.decoder import Decoder
from seqjax.generation.hypothesis import Hypothesis
from seqjax.interop.fairseq.checkpoint import load_fairseq
from seqjax.models.protocol import FrameReader

TOLERANCE = 1e-4
LEFT_OUT = ("beam4_ngram2",)


def config_of(args: dict[str, Any]) -> GenerationConfig:
    """The options of a golden, which multiply the batch's padded length as fairseq does."""
    defaults = {"max_len_a": 0.0, "max_len_b": 40, "padded_source_len": True}
    return GenerationConfig(**{**defaults, **args})


def difference(found: list[Hypothesis], wanted: list[dict[str, Any]]) -> float:
    """The largest difference of a score; infinite where tokens differ."""
    if [h.tokens.tolist() for h in found] != [w["tokens"] for w in wanted]:
        return float("inf")
    worst = 0.0
    for h, w in zip(found, wanted, strict=True):
        same = np.array_equal(h.score, np.float32(w["score"]))  # both may be -inf
        worst = max(worst, 0.0 if same else abs(h.score - w["score"]),
                    float(np.abs(h.positional_scores - np.array(w["positional"])).max()))
    return worst


def data_of(folder: pathlib.Path) -> pathlib.Path:
    """The data folder beside a model's, by its dictionaries."""
    checkpoint = load_fairseq(folder / "checkpoint.pt")
    joined = checkpoint.source_vocab_size == checkpoint.target_vocab_size
    return folder.parent / ("data-bin.joined.de-en" if joined else "data-bin.de-en")


def normalised(features: np.ndarray) -> np.ndarray:
    """`utterance_cmvn` as fairseq computes it, in float32."""
    x = features.astype(np.float32)
    mean, squares = x.mean(axis=0), (x**2).sum(axis=0)
    return (x - mean) / np.sqrt(np.maximum(squares / len(x) - mean**2, 1e-10))


def utterances(folder: pathlib.Path) -> tuple[list[np.ndarray], list[list[int]]]:
    """Features and target ids of `valid_st`."""
    words = Vocabulary.load(folder / "speech" / "dict.txt").symbols
    lines = (folder / "speech" / "valid_st.tsv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split("\t")
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]
    return ([normalised(np.load(folder / row["audio"])) for row in rows],
            [[words.index(word) for word in row["tgt_text"].split()] for row in rows])


def compare(folder: pathlib.Path) -> Iterator[tuple[str, float]]:
    """The option sets of one model, and the largest difference of a score."""
    checkpoint, data = load_fairseq(folder / "checkpoint.pt"), data_of(folder)
    model = models.build(
        checkpoint.config, source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size, compute_dtype=np.float32)
    source: Any = IndexedDataset(data / "valid.de-en.de")
    target: Any = IndexedDataset(data / "valid.de-en.en")
    if isinstance(model, FrameReader):
        source, target = utterances(folder.parent)
    for name, golden in json.loads((folder / "hypos.json").read_text()).items():
        if name in LEFT_OUT:
            continue
        ids = [int(i) for i in golden["hypos"]]
        config = config_of(golden["args"])
        prefixes = [target[i][:config.prefix_size] for i in ids]
        parts = Decoder(model, config).stream(
            checkpoint.params, [source[i] for i in ids], prefixes=prefixes,
            plan=[range(len(ids))], numbers=ids)
        found = {ids[row]: h for part in parts
                 for row, h in zip(part.indices, part.hypotheses, strict=True)}
        yield name, max(difference(found[i], golden["hypos"][str(i)]) for i in ids)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="models (default: all with hypos.json)")
    args = parser.parse_args()
    names = args.names or sorted(p.parent.name for p in args.folder.glob("*/hypos.json"))
    good = True
    for name in names:
        for options, worst in compare(args.folder / name):
            good &= worst <= TOLERANCE
            print(f"{name:28} {options:20} {worst:.1e} "
                  f"{'ok' if worst <= TOLERANCE else 'DIFFERS'}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
