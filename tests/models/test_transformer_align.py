"""What is peculiar to `transformer_align`; what every model does is in test_conformance.py."""

from __future__ import annotations

import family_goldens as goldens
import jax
import pytest

from seqjax import config, models
from seqjax.models.protocol import source_attention
from seqjax.models.transformer.config import TransformerAlignConfig


def test_architectures_and_switches():
    big = config.resolve_model(
        {"arch": "transformer_wmt_en_de_big_align"}, models=models.CONFIGS, archs=models.ARCHS)
    assert (big.name, big.encoder_embed_dim, big.alignment_layer, big.alignment_heads,
            big.attention_dropout) == ("transformer_align", 1024, 4, 1, 0.1)
    with pytest.raises(ValueError, match="alignment_heads: 0 must be 1"):
        TransformerAlignConfig(alignment_heads=0)


@pytest.mark.parametrize("name", goldens.names("transformer_align"))
def test_a_layer_that_is_not_there_translates_but_aligns_nothing(name):
    golden = goldens.load(name)
    source, prev, _ = golden.batch()
    features = jax.eval_shape(
        lambda p: golden.changed(alignment_layer=4).features(p, source, prev), golden.params)
    with pytest.raises(ValueError, match="alignment_layer must be one of its layers"):
        source_attention(features)
