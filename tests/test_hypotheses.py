"""Hypotheses of tiny transformers, token for token as fairseq's generator found them
(scripts/record_hypotheses.py)."""

from __future__ import annotations

import functools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import models
from seqjax.config import GenerationConfig
from seqjax.generation.decoder import Decoder
from seqjax.interop.fairseq_weights import load_fairseq

SETS = ("greedy", "beam", "lenpen", "lenpen_unkpen", "max_len", "min_len", "unnormalized",
        "temperature", "hot", "match_source_len", "diverse", "siblings", "prefix")


@functools.cache
def recorded(goldens, name):
    checkpoint = load_fairseq(goldens / "transformer" / name / "checkpoint.pt")
    model = models.build(
        checkpoint.config, source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size, compute_dtype=jnp.float32)
    golden = json.loads((goldens / "hypos" / f"{name}.json").read_text())
    return model, checkpoint.params, golden


CASES = [*(("prenorm_shared", options) for options in SETS),
         *(("postnorm", options) for options in ("beam", "hot", "diverse", "prefix"))]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_hypotheses_are_fairseqs(goldens, name, options):
    model, params, golden = recorded(goldens, name)
    assert set(golden["sets"]) == set(SETS)
    args, hypos = golden["sets"][options]["args"], golden["sets"][options]["hypos"]
    config = GenerationConfig(
        **{"max_len_b": golden["max_len_b"], "padded_source_len": True, **args})
    sources = [np.array(s) for s in golden["sources"]]
    found = Decoder(model, config).decode(
        params, sources, prefixes=[p[:config.prefix_size] for p in golden["prefixes"]],
        plan=[sorted(range(len(sources)), key=lambda i: -len(sources[i]))])
    for i, hypotheses in enumerate(found):
        wanted = hypos[str(i)]
        assert [h.tokens.tolist() for h in hypotheses] == [w["tokens"] for w in wanted]
        for h, w in zip(hypotheses, wanted, strict=True):
            np.testing.assert_allclose(h.score, w["score"], rtol=0, atol=1e-4)
            np.testing.assert_allclose(h.positional_scores, w["positional"], rtol=0, atol=1e-4)
