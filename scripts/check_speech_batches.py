"""Batches of recordings against those that fairseq's collaters made.

    python scripts/check_speech_batches.py GOLDENS

GOLDENS holds `speech/` (recordings, features, tables, manifests, labels) and, of models that were
run on its split `valid`, `NAME/forward.npz` with the batch under `sample/`. Fails at the first
array that differs by more than 1e-5.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

from seqjax.data.audio.datasets import AudioDataset
from seqjax.data.audio.labels import load_labels
from seqjax.data.audio.manifests import AudioManifest
from seqjax.data.audio.reading import Reading
from seqjax.data.audio.s2t import SpeechToTextDataset
from seqjax.data.audio.s2t_config import S2TDataConfig
from seqjax.data.audio.s2t_text import TargetText
from seqjax.data.epoch_plan import Shape

LIMIT = 1e-5
MANIFESTS = {"wav2vec_ctc": ("ltr", -1.0, None), "hubert": ("km", 50.0, None),
             "wav2vec2_large_style": (None, -1.0, 1e-5)}
"""Models -> labels, how many a second, and what is added to the variance of waveforms."""


def compare(name: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Prints the largest difference of each array."""
    for key, expected in theirs.items():
        worst = float(np.abs(ours[key][:, :expected.shape[1]] - expected).max())
        print(f"{name:22} {key:8} {list(expected.shape)}: {worst:.1e}")
        if worst > LIMIT:
            raise SystemExit(f"{name}: {key} differs by {worst}")


def main() -> None:
    root = pathlib.Path(sys.argv[1])
    folder = str(root / "speech")
    config = S2TDataConfig.read(root / "speech" / "config.yaml")
    tables = SpeechToTextDataset.load(
        folder, "valid_st", config, texts=TargetText.load(folder, config), train=False,
        reading=Reading())
    manifest = AudioManifest.read(root / "speech" / "valid.tsv")
    for path in sorted(root.glob("s2t_*/forward.npz")):
        with np.load(path) as sample:
            ids, source = sample["sample/id"], sample["sample/net_input/src_tokens"]
            target = sample["sample/target"]
        shape = Shape(len(ids), source.shape[1], target.shape[1])
        compare(path.parent.name, tables.materialise(ids, np.arange(len(ids)), shape),
                {"source": source, "target": target})
    for name, (kind, rate, normalize) in MANIFESTS.items():
        with np.load(root / name / "forward.npz") as sample:
            ids, source = sample["sample/id"], sample["sample/net_input/source"]
            found = [sample[k] for k in ("sample/target", "sample/target_list/0")
                     if k in sample.files]
        dataset = AudioDataset(
            manifest, reading=Reading(), normalize=normalize,
            labels=[load_labels(manifest, kind, rate=rate)] if kind else [])
        shape = Shape(len(ids), source.shape[1], found[0].shape[1] if found else 0)
        compare(name, dataset.materialise(ids, np.arange(len(ids)), shape),
                {"source": source} | ({"target": found[0]} if found else {}))


if __name__ == "__main__":
    main()
