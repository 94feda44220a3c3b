"""seqjax: train sequence models and generate from them, in JAX.

`seqjax.load(path)` gives a model to translate with; the verbs are modules
(`python -m seqjax.train`, `.preprocess`, `.generate`, ...). Importing this package costs
milliseconds: JAX is imported by what needs it, when it is asked for.
"""

from __future__ import annotations

import typing

__version__ = "0.1.0.dev0"
__all__ = ["__version__", "load"]

if typing.TYPE_CHECKING:
    from seqjax.hub import load


def __getattr__(name: str) -> typing.Any:
    if name == "load":
        from seqjax.hub import load

        return load
    raise AttributeError(f"module 'seqjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "load"])
