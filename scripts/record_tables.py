"""Records tables that fairseq computes once on the host: its sinusoidal positions.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither. Writes
`FOLDER/positions/sinusoids.npz`:

    python scripts/record_tables.py tests/goldens

`positions` [P] says which positions were recorded (fairseq's first is 2), `dim_D` [P, D] has
their rows in a table of `D` columns.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
from fairseq.modules import SinusoidalPositionalEmbedding

POSITIONS = (2, 3, 17, 129, 1025, 2047, 4001, 6001)
DIMS = (4, 9, 16, 24, 32, 40, 64, 512, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder / "positions"
    folder.mkdir(parents=True, exist_ok=True)
    rows = {f"dim_{dim}": SinusoidalPositionalEmbedding.get_embedding(
        max(POSITIONS) + 1, dim, 1)[list(POSITIONS)].numpy() for dim in DIMS}
    np.savez_compressed(folder / "sinusoids.npz", positions=np.array(POSITIONS, np.int32), **rows)


if __name__ == "__main__":
    main()
