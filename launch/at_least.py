"""Fails if the translations are worse than they must be.

    python launch/at_least.py BLEU TRANSLATION REFERENCE
"""

from __future__ import annotations

import pathlib
import sys

from seqjax.tasks import metrics


def main() -> None:
    floor = float(sys.argv[1])
    hypotheses, references = (
        pathlib.Path(p).read_text(encoding="utf-8").split("\n") for p in sys.argv[2:4])
    score = metrics.METRICS["sacrebleu"](hypotheses[:-1], references[:-1]).score
    if not score >= floor:
        sys.exit(f"error: BLEU {score:.1f} is below {floor:g}, which this demo reaches on every "
                 "machine: something is wrong with this installation, or with the arguments that "
                 "were given to training (FLOOR=0 for experiments)")
    print(f"BLEU {score:.1f} is above {floor:g}, as it must be.")


if __name__ == "__main__":
    main()
