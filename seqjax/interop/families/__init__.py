"""One table per model family: how fairseq names its weights, old and new.

To add a family: write `families/NAME.py` with a `FAMILY`, and name it here.
"""

from __future__ import annotations

from seqjax.interop.families import transformer
from seqjax.interop.families.base import Family

FAMILIES: dict[str, Family] = {
    "transformer": transformer.FAMILY,
}
"""`config.model.name` -> its table."""
