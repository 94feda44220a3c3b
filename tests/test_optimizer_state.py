"""fairseq's numbered moments: every family's parameters in fairseq's order, both ways."""

from __future__ import annotations

import json
import re

import family_goldens as goldens
import numpy as np
import pytest

from seqjax import models
from seqjax.config import OptimizerConfig
from seqjax.interop.fairseq.optimizer_state import read_state, registered, write_state

CASES = ("lstm/bidirectional", "lstm/adaptive", "lstm/lm_adaptive", "fconv/mixed", "fconv/lm",
         "lightconv/dynamic", "lightconv/lm_adaptive", "transformer_lm/adaptive",
         "transformer_align/causal")


@pytest.fixture(scope="module", params=CASES)
def tree(request):
    """A checkpoint whose optimizer has a moment of every parameter that is used, numbered in
    the order of the recorded file."""
    golden = goldens.load(request.param)
    with np.load(goldens.FOLDER / f"{request.param}.npz") as file:
        about = json.loads(str(file["about"]))
    config = golden.checkpoint.config
    table = models.fairseq_table(config.name).names
    ignored, unused = (re.compile("|".join(p) or r"(?!)") for p in (table.ignored, table.unused))
    copies = table.copies(config)
    names = [n for n in about["weights"]
             if n not in copies and (unused.fullmatch(n) or not ignored.fullmatch(n))]
    rng = np.random.default_rng(0)
    moments = {
        number: {"step": 7, **{slot: rng.normal(size=golden.state[name].shape).astype(np.float32)
                               for slot in ("exp_avg", "exp_avg_sq")}}
        for number, name in enumerate(names) if not unused.fullmatch(name)}
    args = {"criterion": "label_smoothed_cross_entropy", "max_source_positions": 20,
            "max_target_positions": 20, "tokens_per_sample": 20, "arch": about["arch"],
            **about["args"]}
    saved = {"state": moments, "param_groups": [{"lr": 0.5, "params": list(range(len(names)))}]}
    return golden, names, {"args": args, "model": golden.state, "last_optimizer_state": saved}


def test_names_are_in_the_order_in_which_fairseq_registers_them(tree):
    golden, names, _ = tree
    table = models.fairseq_table(golden.checkpoint.config.name).names
    assert registered(reversed(names), table, title="x") == names


def test_moments_go_both_ways(tree):
    golden, _, contents = tree
    checkpoint = golden.checkpoint
    ours = read_state(contents, name="adam")
    assert int(ours["count"]) == 7
    back = write_state(
        ours, checkpoint.config, optimizer=OptimizerConfig(name="adam"), lr=0.5,
        source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size)
    saved = contents["last_optimizer_state"]
    assert back["param_groups"][0]["params"] == saved["param_groups"][0]["params"]
    assert back["state"].keys() == saved["state"].keys()
    for number, moments in saved["state"].items():
        for slot in ("exp_avg", "exp_avg_sq"):
            np.testing.assert_array_equal(back["state"][number][slot], moments[slot])
