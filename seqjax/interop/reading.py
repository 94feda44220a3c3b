"""A checkpoint of whichever toolkit in, what a folder of ours holds out: the one place that
conversions read from.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from seqjax import checkpoints, tasks
from seqjax.config import Config
from seqjax.interop.fairseq import files as fairseq_files
from seqjax.interop.huggingface import places
from seqjax.interop.huggingface.model import read_model
from seqjax.interop.weights import Params
from seqjax.settings import resolve
from seqjax.tasks.protocol import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
    """A model with everything that belongs to it."""

    name: str
    """What messages call it."""
    config: Config
    assets: dict[str, bytes] = dataclasses.field(repr=False)
    """Vocabularies, tokenizers, and what is remembered of the files that they came from."""
    params: Params = dataclasses.field(repr=False)
    record: checkpoints.Record | None = None
    """Of a checkpoint of ours."""

    def task(self) -> Task:
        """Its task."""
        return tasks.from_assets(self.config, self.assets)


def read(
    path: str | os.PathLike[str], *, which: str = "best", data: str | None = None,
    bpe: str | None = None, tokenizer: str | None = None, verify: bool = True,
) -> Whole:
    """A work folder or checkpoint of ours, a fairseq `.pt`, or a folder of Hugging Face's.

    Args:
      which: of a work folder, its `best` or `last` checkpoint.
      data, bpe, tokenizer: of a `.pt` (see `fairseq.files.read_model`).
      verify: compare with checksums, and refuse weights that are not finite.

    Raises:
      CheckpointError, ConfigError, FileNotFoundError: it cannot be read.
    """
    path = places.resolve(os.fspath(path))
    found: Any
    if fairseq_files.is_pt(path):
        found = fairseq_files.read_model(
            path, data=data, bpe=bpe, tokenizer=tokenizer, verify=verify)
    elif places.is_folder(path):
        found = read_model(path, verify=verify)
    else:
        folder = checkpoints.find(path, which=which)
        params = checkpoints.read_params(folder, verify=verify)
        return Whole(
            name=os.fspath(folder), config=resolve(checkpoints.read_config(folder)),
            assets=checkpoints.read_assets(folder), params=params,
            record=checkpoints.read_record(folder))
    return Whole(name=path, config=resolve(found.config), assets=found.assets,
                 params=found.params)
