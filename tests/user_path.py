"""What fairseq did with one tiny model (scripts/record_user_path.py), and the data for it."""

from __future__ import annotations

import pathlib

import packed

from seqjax import preprocess
from seqjax.data.tokenizers import SubwordNMTTokenizer

GOLDENS = packed.unpacked(packed.GOLDENS)
FOLDER = GOLDENS / "user_path"
MODEL = FOLDER / "model.pt"


def data_folder(root: pathlib.Path) -> pathlib.Path:
    """The data folder that the model was trained on; fairseq's own is the same, byte for byte
    (tests/test_preprocess.py)."""
    text = GOLDENS / "preprocess"
    codes = SubwordNMTTokenizer(codes=(text / "bpecodes").read_bytes())
    for file in text.glob("*.[de][en]"):
        lines = file.read_text(encoding="utf-8").splitlines()
        pieces = "".join(codes.encode(line) + "\n" for line in lines)
        (root / file.name).write_text(pieces, encoding="utf-8")
    preprocess.main([
        "-s", "de", "-t", "en", "--joined-dictionary", "--destdir", str(root / "data-bin"),
        *(f"--{split}pref={root / split}" for split in ("train", "valid", "test")),
    ])
    return root / "data-bin"


def aligned_data_folder(root: pathlib.Path) -> pathlib.Path:
    """The same text with made-up word alignments, one of which does not fit its sentence."""
    data_folder(root)
    for split in ("train", "valid", "test"):
        sides = [(root / f"{split}.{lang}").read_text(encoding="utf-8").splitlines()
                 for lang in ("de", "en")]
        lines = []
        for source, target in zip(*sides, strict=True):
            s, t = len(source.split()), len(target.split())
            pairs = [(2 * j % s, j) for j in range(t)] + [(j % s, j) for j in range(0, t, 3)]
            lines.append(" ".join(f"{i}-{j}" for i, j in sorted(set(pairs))))
        lines[3] = "0-0 1-99"
        (root / f"{split}.align").write_text("\n".join(lines) + "\n")
    preprocess.main([
        "-s", "de", "-t", "en", "--joined-dictionary", "--destdir", str(root / "aligned-bin"),
        "--align-suffix", "align",
        *(f"--{split}pref={root / split}" for split in ("train", "valid", "test")),
    ])
    return root / "aligned-bin"
