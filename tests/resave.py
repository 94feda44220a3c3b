"""A checkpoint that was read goes in, the same file comes out: what a round trip is tested by."""

from __future__ import annotations

import os

from seqjax.interop.fairseq.checkpoint import FairseqCheckpoint
from seqjax.interop.fairseq.export import save_fairseq


def resave_fairseq(path: str | os.PathLike[str], checkpoint: FairseqCheckpoint) -> None:
    """Writes what `load_fairseq` read, parameters possibly changed since; every tensor that
    was not changed keeps its bits."""
    save_fairseq(
        path, checkpoint.params, checkpoint.config,
        source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size,
        extra_args=checkpoint.fairseq.flat(), kept=checkpoint.kept, dtypes=checkpoint.dtypes,
        extra={**checkpoint.extra, "last_optimizer_state": None})
