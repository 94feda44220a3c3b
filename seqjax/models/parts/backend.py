"""What programs are made for, where another way to the same numbers pays there."""

from __future__ import annotations

import jax


def on_cpu() -> bool:
    """Whether it is a CPU."""
    return jax.default_backend() == "cpu"
