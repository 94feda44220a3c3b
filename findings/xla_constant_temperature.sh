#!/usr/bin/env bash
# Log-probabilities above zero, but only where the temperature is a constant of the program.
#
# logits / t - logsumexp(logits / t) is a log-probability: at most 0. Computed by jax.jit on a
# CPU it is at most 0 while t is an argument of the program, and at most 0 without jit. With the
# same t as a Python number closed over by the program, the largest "log-probability" of a row is
# positive (9.7e-04 at t = 0.001): XLA turns the division by a constant into a product and fuses
# it with the difference, so that the two `logits / t` of one formula are rounded differently.
# jax.nn.log_softmax, which moves the maximum to 0 first, is not affected.
#
# Seen with jax 0.10.2, jaxlib 0.10.2, numpy 2.4.4, Python 3.11, x86-64 with FMA. Fails if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.4
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

print("jax", jax.__version__, "numpy", np.__version__)
logits = jnp.asarray(np.random.default_rng(0).normal(size=(512, 1000)).astype(np.float32) * 5)


def log_probs(logits, t):
    return logits / t - jax.nn.logsumexp(logits / t, axis=-1, keepdims=True)


for t in (0.001, 0.01, 0.1):
    eager = float(log_probs(logits, t).max())
    argument = float(jax.jit(log_probs)(logits, jnp.float32(t)).max())
    constant = float(jax.jit(lambda x, t=t: log_probs(x, t))(logits).max())
    shifted = float(jax.jit(lambda x, t=t: jax.nn.log_softmax(x / t))(logits).max())
    print(f"t={t}: largest without jit {eager:.3g}, t an argument {argument:.3g}, "
          f"t a constant {constant:.3g}, log_softmax {shifted:.3g}")
    assert eager <= 0 and argument <= 0 and shifted <= 0, "a change: see the comment"
    assert constant > 1e-6, "a change: see the comment"
PY
