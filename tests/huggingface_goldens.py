"""What transformers recorded for tiny models: names of cases in, tensors and our model of them out.

A case is `goldens/huggingface/FAMILY/CASE.npz` (scripts/record_huggingface_families.py).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import models
from seqjax.interop import weights
from seqjax.models.protocol import encode_tokens
from seqjax.models.tables import HuggingFaceTable
from seqjax.settings import resolve

FOLDER = pathlib.Path(__file__).parent / "goldens" / "huggingface"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded:
    """One case and our model of it."""

    hf: dict[str, Any]
    """Its `config.json`."""
    state: dict[str, np.ndarray]
    """Its `model.safetensors`."""
    search: dict[str, Any]
    """How hypotheses were found."""
    arrays: dict[str, np.ndarray]
    """What was recorded besides."""
    table: HuggingFaceTable
    config: Any
    plan: weights.Plan
    model: Any
    params: Any

    @property
    def pad(self) -> int:
        return int(self.arrays["pad"])

    @property
    def is_lm(self) -> bool:
        return "source" not in self.arrays

    def batch(self) -> tuple[jax.Array, ...]:
        """The source."""
        return (jnp.asarray(self.arrays["source"], jnp.int32),)

    def real(self, name: str) -> np.ndarray:
        """[B, T] bool: what is no padding of a batch that is padded on the right; a decoder may
        begin with padding's symbol."""
        found = self.arrays[name] != self.pad
        found[:, 0] = True
        return found

    def features(self, params: Any, prev: Any, **options: Any) -> Any:
        """Of the whole batch."""
        encoded = None
        if "source" in self.arrays:
            encoded = encode_tokens(self.model, params, jnp.asarray(
                self.arrays["source"], jnp.int32))
        return self.model.features(params, prev, encoded, **options)


def names(family: str = "*") -> list[str]:
    """Every case, or those of a family."""
    return sorted(f"{p.parent.name}/{p.stem}" for p in FOLDER.glob(f"{family}/*.npz"))


def recorded(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """about, tensors by name, and the rest."""
    with np.load(FOLDER / f"{name}.npz") as contents:
        arrays = dict(contents)
    about = json.loads(str(arrays.pop("about")))
    flat, state, at = arrays.pop("weights"), {}, 0
    for key, shape in about["weights"].items():
        size = int(np.prod(shape))
        state[key] = flat[at:at + size].reshape(shape)
        at += size
    assert at == flat.size
    return about, state, arrays


@functools.cache
def load(name: str) -> Recorded:
    """The case `FAMILY/CASE`."""
    about, state, arrays = recorded(name)
    return of(name.partition("/")[0], about["config"], state, arrays=arrays,
              search=about["search"])


def of(
    family: str, hf: dict[str, Any], state: dict[str, np.ndarray], **given: Any
) -> Recorded:
    """Our model of a `config.json` and tensors."""
    (place,) = models.family(family).huggingface
    table = models.import_object(place, "table")
    section = resolve({"model": {"name": family, **table.config_from(hf)}}).model
    today, config = table.names.upgrade(state, section)
    for copy, owner in table.names.copies(config).items():
        if owner not in today and copy in today:
            today[owner] = today.pop(copy)
    source, target = table.names.vocabulary(today)
    pad, eos = hf["pad_token_id"], hf["eos_token_id"]
    model = models.build(
        config, source_vocab_size=source, target_vocab_size=target, compute_dtype=jnp.float32,
        pad=target if pad is None else pad, eos=eos)
    plan = weights.plan(jax.eval_shape(model.init, jax.random.key(0)), table.names,
                        config=config, target_vocab_size=target)
    params = jax.tree.map(jnp.asarray, weights.to_params(today, plan))
    return Recorded(hf=hf, state=state, table=table, config=config, plan=plan, model=model,
                    params=params, **{"arrays": {}, "search": {}, **given})


def written(case: Recorded, kept: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors as transformers writes them."""
    state = weights.to_state(jax.device_get(case.params), case.plan, kept=kept)
    return case.table.join({k: v for k, v in state.items() if k not in case.plan.copies},
                           case.config)
