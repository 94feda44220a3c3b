#!/usr/bin/env bash
# Orbax refuses to save a tree in which one array has no elements.
#
# An array with an axis of size 0 is an ordinary value of JAX and NumPy: a layer of width 0 adds
# nothing to a product, np.savez and pickle keep it. orbax-checkpoint raises "Cannot save arrays
# with zero size" for the whole tree, whatever else is in it, both for jax.Array and for
# np.ndarray, and only when saving begins. A
# model that may have such a parameter has to leave it out of its tree.
#
# Seen with orbax-checkpoint 0.12.8, jax 0.10.2, Python 3.11. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - "$folder" <<'PY' 2> "$folder/log" || { cat "$folder/log" >&2; exit 1; }
import importlib.metadata
import io
import sys

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

print("orbax-checkpoint", importlib.metadata.version("orbax-checkpoint"))
cases = {
    "full": {"a": np.ones(3, np.float32)},
    "numpy": {"a": np.ones(3, np.float32), "b": np.zeros((0, 4), np.float32)},
    "jax": {"a": jnp.ones(3), "b": jnp.zeros((4, 0))},
}
assert (jnp.ones((2, 0)) @ jnp.ones((0, 3))).shape == (2, 3)  # it can be computed with
np.savez(io.BytesIO(), **cases["numpy"])  # and saved by others
for name, tree in cases.items():
    saver = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    try:
        saver.save(f"{sys.argv[1]}/{name}", args=ocp.args.PyTreeSave(tree))
        result = "saved"
    except ValueError as error:
        result = f"ValueError: {error}"
    print(f"{name}: {result[:60]}")
    refused = result.startswith("ValueError: Cannot save arrays with zero size")
    assert refused == (name != "full"), "a change: see the comment"
PY
