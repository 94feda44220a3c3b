"""Says which checkpoint of a work folder is used where the folder is named, and why.

    python launch/which_checkpoint.py WORKDIR
"""

from __future__ import annotations

import sys

from seqjax import checkpoints


def main() -> None:
    best = checkpoints.find(sys.argv[1])
    last = checkpoints.find(sys.argv[1], which="last")
    record = checkpoints.read_record(best)
    why = "the last one: there was no validation"
    if record.metric is not None:
        why = (f"its validation {record.metric_name} of {record.metric:g} is the best of "
               f"{len(checkpoints.read_record(last).history)} validations")
    print(f"Decoding with update {record.step} of {last.name}: {why}")


if __name__ == "__main__":
    main()
