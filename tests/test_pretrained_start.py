"""Fine-tuning that begins with a pretrained encoder: fairseq's `w2v_path`."""

from __future__ import annotations

import family_goldens
import jax
import numpy as np
import pytest

from seqjax import settings
from seqjax.config import ConfigError
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.interop.fairseq import export, pretrained
from seqjax.interop.fairseq.start import start_from
from seqjax.interop.torch.files import read_pt


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    golden = family_goldens.load("hubert/base")
    file = tmp_path_factory.mktemp("pretrained") / "hubert.pt"
    export.save_fairseq(
        file, golden.checkpoint.params, golden.config, **golden.sizes, extra_args={
            "task": "hubert_pretraining", "normalize": False, "sample_rate": 1000,
            "label_rate": 50.0, "labels": ["km"], "data": "x"})
    return str(file)


def test_a_file_says_the_encoders_sizes_and_is_begun_with(path):
    raw = {"model": {"name": "hubert_ctc", "w2v_path": path, "dropout": 0.25}}
    found = pretrained.complete(raw)
    assert found["init_from"] == path and found["model"]["normalize"] is False
    config = settings.resolve(found)
    model, encoder = config.model, family_goldens.load("hubert/base").config
    for key in ("encoder_embed_dim", "conv_feature_layers", "conv_pos", "extractor_mode"):
        assert getattr(model, key) == getattr(encoder, key)
    assert model.dropout == 0.25 and model.mask_prob == 0.5 and model.feature_grad_mult == 0.0
    start = start_from(config)
    assert start is not None and start.trained is None
    jax.tree.map(np.testing.assert_array_equal, start.params,
                 family_goldens.load("hubert/base").checkpoint.params)


def test_what_is_given_is_kept_or_refused(path):
    model = {"name": "hubert_ctc", "w2v_path": path}
    assert pretrained.complete({"model": {"name": "hubert_ctc"}}) == {
        "model": {"name": "hubert_ctc"}}
    assert pretrained.complete({"model": model, "init_from": "other"})["init_from"] == "other"
    assert "init_from" not in pretrained.complete(
        {"model": {**model, "no_pretrained_weights": True}})
    with pytest.raises(ConfigError, match="conv_pos: 7, but .*hubert.pt has 6"):
        pretrained.complete({"model": {**model, "conv_pos": 7}})
    with pytest.raises(ConfigError, match="config.task.normalize: True, but waveforms were not"):
        pretrained.complete({"model": model, "task": {"normalize": True}})
    with pytest.raises(FileNotFoundError):
        pretrained.complete({"model": {**model, "w2v_path": path + "x.pt"}})
    other = settings.resolve({"model": {"name": "hubert_ctc"}, "init_from": path})
    with pytest.raises(ConfigError, match="encoder_embed_dim is 768 here, 12 there"):
        start_from(other)


def test_a_file_of_a_fine_tuned_model_has_the_pretrained_ones_configuration_inside(tmp_path):
    """fairseq makes the encoder of it (`w2v_args`)."""
    golden = family_goldens.load("wav2vec_ctc/adapters")
    file = tmp_path / "ctc.pt"
    export.save_fairseq(
        file, golden.checkpoint.params, golden.config, **golden.sizes,
        extra_args={"task": "audio_finetuning", "normalize": False, "labels": "ltr"})
    tree = read_pt(file)
    inner = tree["args"]["w2v_args"]
    assert inner["arch"] == "wav2vec2" and inner["encoder_embed_dim"] == 12
    assert "encoder_embed_dim" not in tree["args"] and tree["args"]["adp_dim"] == 5
    again = fairseq_weights.from_tree(tree)
    assert again.config == golden.checkpoint.config
    jax.tree.map(np.testing.assert_array_equal, again.params, golden.checkpoint.params)
