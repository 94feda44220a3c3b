"""fairseq's architecture names for wav2vec 2.0: it registers one, and keys say the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ARCHS: Mapping[str, Mapping[str, Any]] = {"wav2vec2": {}}
"""fairseq architecture name -> the defaults that it changes."""
