"""Parts of names of weights in the order in which fairseq's modules register them.

Families put their own orders (`WeightNames.order`) together from these and from parts that
only they have.
"""

from __future__ import annotations

EMBEDDING = ("embed_tokens", "project_in_dim", "embed_positions", "layernorm_embedding")
"""In front of the layers."""
OUTPUT = ("project_out_dim", "adaptive_softmax", "output_projection")
"""Behind them."""
ADAPTIVE = ("embeddings", "head", "tail", "word_proj", "class_proj")
"""Inside adaptive inputs and adaptive softmaxes."""
ATTENTION = ("k_proj", "v_proj", "q_proj", "out_proj")
"""Inside multi-head attention."""
ARRAYS = ("weight", "bias")
"""Of linear maps, norms and embeddings."""
