"""Data folders of speech with noise in the place of sound, for a run's first update."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import soundfile

FEATURES = 8
SAMPLES = 3200
LETTERS = "|EAT"


def write_manifests(folder: pathlib.Path, task: dict[str, Any]) -> pathlib.Path:
    """`train.tsv` with letters or labels of frames, of whatever kinds a task reads."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    kinds = task.get("labels") or ()
    kinds = [kinds] if isinstance(kinds, str) else kinds
    lines: dict[str, list[str]] = {"tsv": [str(folder)], **{kind: [] for kind in kinds}}
    for i in range(16):
        samples = SAMPLES + 160 * (i % 3)
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(samples), 16000)
        lines["tsv"].append(f"{i}.wav\t{samples}")
        for kind in kinds:
            count = 3 if kind == "ltr" else samples * int(task["label_rate"]) // 16000
            lines[kind].append(" ".join(
                LETTERS[1 + x] if kind == "ltr" else str(x)
                for x in rng.integers(3, size=count)) + (" |" if kind == "ltr" else ""))
    for kind, written in lines.items():
        (folder / f"train.{kind}").write_text("\n".join(written) + "\n")
    for kind in kinds:
        (folder / f"dict.{kind}.txt").write_text(
            "".join(f"{x} 1\n" for x in (LETTERS if kind == "ltr" else "012")))
    return folder


def write_tables(folder: pathlib.Path, task: dict[str, Any]) -> pathlib.Path:
    """Tables of features with words, of every split that a task learns from."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split in task["train_subset"].split(","):
        lines = ["id\taudio\tn_frames\ttgt_text"]
        for i in range(8):
            frames = 24 + 4 * (i % 3)
            np.save(folder / f"{split}{i}.npy",
                    rng.standard_normal((frames, FEATURES)).astype(np.float32))
            lines.append(f"{i}\t{split}{i}.npy\t{frames}\tone two three")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "dict.txt").write_text("one 1\ntwo 1\nthree 1\n")
    (folder / task.get("config_yaml", "config.yaml")).write_text(
        f"input_feat_per_channel: {FEATURES}\ntransforms:\n  '*': [utterance_cmvn]\n")
    return folder
