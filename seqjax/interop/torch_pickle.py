"""Reading torch's files: `read_pt`, and the `CheckpointError` that it raises.

The names under which scripts from before `seqjax.interop.torch` import them.
"""

from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.pickle_machine import CheckpointError

__all__ = ["CheckpointError", "read_pt"]
