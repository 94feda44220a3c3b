"""What is peculiar to mBART: its defaults and what its files say to fairseq, whose model it is
under another name; what every model does is in test_conformance.py."""

from __future__ import annotations

import dataclasses
import json

import family_goldens
import jax
import numpy as np
import pytest

from seqjax import models
from seqjax.interop.fairseq.export import namespace
from seqjax.interop.fairseq.optimizer_state import registered
from seqjax.models.overrides import resolved


def test_defaults_are_fairseqs():
    recorded = json.loads(
        family_goldens.FOLDER.joinpath("mbart", "archs.json").read_text(encoding="utf-8"))
    cls = models.CONFIGS["mbart"]
    known = {f.name for f in dataclasses.fields(cls)}
    for arch, values in recorded.items():
        family, given = models.ARCHS[arch]
        given = {"arch": arch, **given}
        cls.follow(given)
        cfg = resolved(cls(**given))
        for key, value in values.items():
            if key in known:
                assert family == "mbart" and getattr(cfg, key) == value, (arch, key)
    assert recorded.keys() == models.FAMILIES["mbart"].archs.keys()
    # The heads' keys are known, too, since the family has heads: their values were compared.
    assert {key for values in recorded.values() for key in values} - known == {"relu_dropout"}


def test_a_file_names_an_architecture_that_fairseq_has():
    cls = models.CONFIGS["mbart"]
    assert namespace(cls(), {})["arch"] == "mbart_large"
    assert namespace(cls(arch="mbart_base_wmt20"), {})["arch"] == "mbart_base_wmt20"


def test_heads_are_those_of_fairseqs_model():
    """fairseq registers `dense` of a head before `out_proj`; heads are as wide as the encoder."""
    names = [f"classification_heads.a.{part}.{leaf}" for part in ("dense", "out_proj")
             for leaf in ("weight", "bias")]
    table = models.fairseq_table("mbart").names
    assert registered(reversed(names), table, title="mbart") == names
    with pytest.raises(ValueError, match="heads are as wide as the encoder"):
        models.CONFIGS["mbart"](classification_heads={"a": 2}, decoder_output_dim=8)


@pytest.mark.parametrize("case", family_goldens.names("mbart"))
def test_begins_as_bert_does(case):
    params = jax.jit(family_goldens.load(case).model.init)(jax.random.key(0))
    drawn = [np.asarray(x).ravel() for path, x in jax.tree_util.tree_leaves_with_path(params)
             if path[-1].key in ("kernel", "embedding")]
    drawn = np.concatenate(drawn)
    assert 0.019 < drawn[drawn != 0].std() < 0.021
