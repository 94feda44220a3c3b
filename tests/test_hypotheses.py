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
from seqjax.generation.allowed import TokenTrie
from seqjax.generation.decoder import Decoder
from seqjax.interop.fairseq.checkpoint import load_fairseq
from seqjax.interop.torch.writer import write_pt

SETS = ("greedy", "beam", "lenpen", "lenpen_unkpen", "max_len", "min_len", "unnormalized",
        "temperature", "hot", "match_source_len", "diverse", "siblings", "prefix")
SWITCHES = ("normformer", "adaptive", "cross_self", "cross_self_both", "pruned")


@functools.cache
def recorded(goldens, name):
    checkpoint = load_fairseq(goldens / "transformer" / name / "checkpoint.pt")
    model = models.build(
        checkpoint.config, source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size, compute_dtype=jnp.float32)
    golden = json.loads((goldens / "hypos" / f"{name}.json").read_text())
    return model, checkpoint.params, golden


CASES = [*(("prenorm_shared", options) for options in SETS),
         *(("postnorm", options) for options in ("beam", "hot", "diverse", "prefix")),
         *((name, "beam") for name in SWITCHES)]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_hypotheses_are_fairseqs(goldens, name, options):
    model, params, golden = recorded(goldens, name)
    assert set(golden["sets"]) == set(SETS if name not in SWITCHES else ["beam"])
    args, hypos = golden["sets"][options]["args"], golden["sets"][options]["hypos"]
    config = GenerationConfig(
        **{"max_len_b": golden["max_len_b"], "padded_source_len": True, **args})
    sources = [np.array(s) for s in golden["sources"]]
    found = Decoder(model, config).decode(
        params, sources, prefixes=[p[:config.prefix_size] for p in golden["prefixes"]],
        plan=[sorted(range(len(sources)), key=lambda i: -len(sources[i]))])
    assert_same(found, hypos)


def assert_same(found, hypos):
    for i, hypotheses in enumerate(found):
        wanted = hypos[str(i)]
        if not wanted:  # fairseq stops where it keeps nothing that meets its constraints
            continue
        assert [h.tokens.tolist() for h in hypotheses] == [w["tokens"] for w in wanted]
        for h, w in zip(hypotheses, wanted, strict=True):
            np.testing.assert_allclose(h.score, w["score"], rtol=0, atol=1e-4)
            np.testing.assert_allclose(h.positional_scores, w["positional"], rtol=0, atol=1e-4)


def language_model(path, folder):
    with np.load(path) as file:
        state = dict(file)
    args = {"arch": "transformer_lm", "task": "language_modeling",
            **json.loads(str(state.pop("about")))}
    write_pt(folder / "lm.pt", {"args": args, "model": state})
    checkpoint = load_fairseq(folder / "lm.pt")
    size = checkpoint.target_vocab_size
    return models.build(checkpoint.config, source_vocab_size=size, target_vocab_size=size,
                        compute_dtype=jnp.float32), checkpoint.params


CONSTRAINED = ("ordered", "unordered", "ordered_narrow", "unordered_narrow", "ordered_wide",
          "unordered_wide", "unordered_early_eos", "permitted", "permitted_narrow",
          "permitted_wide", "fusion", "fusion_hot")


@pytest.mark.parametrize("name", ["prenorm_shared", "postnorm"])
@pytest.mark.parametrize("options", CONSTRAINED)
def test_constrained_hypotheses_are_fairseqs(goldens, tmp_path, name, options):
    """Lexical constraints, permitted outputs, and fusion with a language model."""
    model, params, _ = recorded(goldens, name)
    golden = json.loads((goldens / "hypos" / f"{name}_constrained.json").read_text())
    assert set(golden["sets"]) == set(CONSTRAINED)
    args = dict(golden["sets"][options]["args"])
    order, permitted = args.pop("constraints", None), args.pop("permitted", False)
    config = GenerationConfig(**{"max_len_b": golden["max_len_b"], **args})
    constraints, lm = {}, None
    if permitted:
        constraints = {"allowed": TokenTrie(golden["outputs"])}
    elif order:
        constraints = {"constraints": golden["phrases"], "constraint_order": order}
    if config.lm_weight:
        lm, lm_params = language_model(goldens / "hypos" / f"{name}_lm.npz", tmp_path)
        params = [params, lm_params]
    found = Decoder(model, config, language_model=lm).decode(
        params, [np.array(s) for s in golden["sources"]], **constraints)
    assert_same(found, golden["sets"][options]["hypos"])
