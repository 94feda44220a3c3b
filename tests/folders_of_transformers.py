"""Folders as transformers writes them, and what it computed with them: names of cases in, folders
and recorded arrays out.

`goldens/huggingface_folders/CASE` is such a folder (scripts/record_huggingface.py); the cases of
`huggingface_goldens` become folders here.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import huggingface_goldens
import numpy as np
import packed
from safetensors.numpy import save_file

FOLDER = packed.unpacked(packed.GOLDENS) / "huggingface_folders"
CASES = sorted(f.name for f in FOLDER.iterdir())
NEW_TOKENS = 14
"""As scripts/record_huggingface_families.py."""


def outputs(case: str) -> dict[str, np.ndarray]:
    """What was recorded."""
    with np.load(FOLDER / case / "outputs.npz") as contents:
        return dict(contents)


def copied(case: str, target: pathlib.Path) -> pathlib.Path:
    """A copy that may be changed, without what was recorded."""
    shutil.copytree(FOLDER / case, target, ignore=shutil.ignore_patterns("outputs.npz"))
    return target


def of_family(name: str, target: pathlib.Path) -> dict[str, np.ndarray]:
    """A case FAMILY/CASE as a folder, whose `generation_config.json` asks for the search that was
    recorded; gives what was."""
    about, state, arrays = huggingface_goldens.recorded(name)
    target.mkdir()
    (target / "config.json").write_text(json.dumps(about["config"]))
    save_file(state, target / "model.safetensors")
    search: dict[str, Any] = about["search"]
    pad = int(arrays["pad"])
    (target / "generation_config.json").write_text(json.dumps({
        "num_beams": 3, "early_stopping": True, "length_penalty": search["lenpen"],
        "max_new_tokens": NEW_TOKENS, "decoder_start_token_id": search.get("start"),
        "forced_bos_token_id": search.get("forced"), "forced_eos_token_id": None,
        **({"min_new_tokens": 1} if "source" in arrays else {}),
        **({"suppress_tokens": [pad]} if pad != int(arrays["eos"]) else {})}))
    return arrays
