#!/usr/bin/env bash
# On a mesh XLA gives a grouped convolution's kernel a gradient that is too large.
#
# Rows are split over some axes of the mesh, the kernel is whole on every device. The gradient
# with respect to the kernel comes back multiplied by the size of every other axis: doubled on a
# mesh (4, 2) whose rows are split by 4. The result, the gradient with respect to the input, and
# both gradients of a convolution without groups are right; so is everything where rows are split
# over all axes. Nothing is said. A way around it is to take the kernel's gradient group by group.
#
# Seen with jax 0.10.2, eight virtual devices of a CPU, Python 3.11. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=8 "$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

print("jax", jax.__version__)
rng = np.random.default_rng(0)
x = jnp.asarray(rng.normal(size=(8, 19, 12)), jnp.float32)


def loss(kernel, x, groups):
    y = jax.lax.conv_general_dilated(
        x, kernel, (1,), [(2, 2)], dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups)
    return jnp.sin(y).sum()


gradient = jax.jit(jax.grad(loss), static_argnums=2)
for rows, other in ((8, 1), (4, 2), (2, 4)):
    mesh = jax.make_mesh((rows, other), ("rows", "other"), axis_types=(AxisType.Auto,) * 2)
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("rows")))
    for groups, wrong in ((1, 1), (3, other)):
        kernel = jnp.asarray(rng.normal(size=(5, 12 // groups, 12)), jnp.float32)
        whole = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
        factor = np.asarray(gradient(whole, split, groups)) / gradient(kernel, x, groups)
        print(f"rows split by {rows}, another axis of {other}, {groups} groups: "
              f"times {np.median(factor):.3f}")
        assert abs(np.median(factor) - wrong) < 1e-3, "it is another factor now"
PY
