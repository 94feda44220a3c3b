"""What tables of Hugging Face's names share: how their configurations call what ours call
otherwise."""

from __future__ import annotations

ACTIVATIONS = {
    "gelu": "gelu", "relu": "relu", "tanh": "tanh", "silu": "swish", "swish": "swish",
    "gelu_new": "gelu_accurate", "gelu_pytorch_tanh": "gelu_accurate", "gelu_fast": "gelu_fast",
    "linear": "linear",
}
"""transformers' activation functions -> ours. Of several that are one of ours, the first is
written."""
