"""Checkpoints, read: which folder is meant, what it says of itself, and its arrays.

    WORKDIR/checkpoints/1200/       one folder per update, complete or absent
        params/                     parameters (orbax), readable on their own
        state/                      optimizer and counters (orbax)
        extra/                      of a model that keeps more than parameters only
                                    (`TrainState.extra`, orbax)
        about/config.json           the resolved configuration
        about/record.json           place in the data, metrics, history (`Record`)
        about/checksums.0.json      of all arrays and files (see `checksums`)
        about/assets/...            vocabularies, tokenizer models

Reading works on any machine and number of devices. `seqjax.training.checkpoints` writes.
"""

from seqjax.checkpoints.arrays import (
    check_shapes,
    load_for_inference,
    read_arrays,
    read_params,
)
from seqjax.checkpoints.checksums import NotFiniteError, check_finite
from seqjax.checkpoints.folder import (
    FOLDER,
    CheckpointError,
    DamagedError,
    Record,
    check_files,
    damaged,
    find,
    newest_in,
    read_assets,
    read_config,
    read_record,
    steps_in,
)

__all__ = [
    "FOLDER", "CheckpointError", "DamagedError", "NotFiniteError", "Record", "check_files",
    "check_finite", "check_shapes", "damaged", "find", "load_for_inference", "newest_in",
    "read_arrays", "read_assets", "read_config", "read_params", "read_record", "steps_in",
]
