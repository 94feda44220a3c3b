"""From a case to a folder as Hugging Face's models are published, its weights drawn from a seed and
its tokenizer's files those of `goldens/tokenizers`: the same for the script that records what
transformers does with it and for the tests. NumPy and safetensors alone.

A case is JSON: `config` (its `config.json`), `shapes` (of its tensors, by name), `seed`, `bias`
(added to weights by the end of their name), `generation` (its `generation_config.json`, or None),
`tokenizer` (a folder of `goldens/tokenizers`, or None), `files` (further JSON files, or
replacements) and `renamed` (files of the tokenizer that have other names here).
"""

from __future__ import annotations

import json
import lzma
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from seeded_weights import seeded_state

GOLDENS = pathlib.Path(__file__).parent / "goldens"
SEEDED = GOLDENS / "huggingface_seeded"
LOUDER = 3.0
"""What matrices are multiplied by, so that outputs are not monotonous."""


def weights(case: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a case."""
    shapes = {name: tuple(shape) for name, shape in case["shapes"].items()}
    found = seeded_state(shapes, case["seed"])
    loud = case.get("louder", LOUDER)
    return {name: (value * np.float32(loud) if value.ndim > 1 else value)
            for name, value in found.items()}


def write(case: Mapping[str, Any], folder: pathlib.Path) -> pathlib.Path:
    """The folder of a case; it must not be there yet."""
    folder.mkdir(parents=True)
    write_tokenizer(case, folder)
    (folder / "config.json").write_text(json.dumps(case["config"]))
    if case.get("generation") is not None:
        (folder / "generation_config.json").write_text(json.dumps(case["generation"]))
    save_file(weights(case), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_tokenizer(case: Mapping[str, Any], folder: pathlib.Path) -> None:
    """The tokenizer's files of a case."""
    if case.get("tokenizer"):
        for file in (GOLDENS / "tokenizers" / case["tokenizer"]).iterdir():
            name = case.get("renamed", {}).get(file.name, file.name)
            (folder / name).write_bytes(file.read_bytes())
    for name, content in case.get("files", {}).items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def recorded(topic: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The cases of `goldens/huggingface_seeded/TOPIC.npz` by name, and what was recorded."""
    with np.load(SEEDED / f"{topic}.npz") as contents:
        arrays = dict(contents)
    return json.loads(lzma.decompress(arrays.pop("cases").tobytes())), arrays
