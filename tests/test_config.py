"""Configuration: sparse values in, frozen dataclasses out, mistakes named."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from seqjax import config, losses, models, tasks
from seqjax.config import ConfigError, describing


def resolve(raw):
    return config.resolve(
        raw, tasks=tasks.CONFIGS, models=models.CONFIGS, losses=losses.CONFIGS, archs=models.ARCHS
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PluginConfig:
    name: str = ""
    width: int = 8


class Plugin:
    """A model of somebody else's project."""

    Config = PluginConfig

    def __init__(self, *, config, source_vocab_size, target_vocab_size, compute_dtype):
        self.config = config


def test_defaults_are_complete_and_survive_a_round_trip():
    resolved = resolve({})
    assert resolved.model.name == "transformer"
    assert resolve(config.to_plain(resolved)) == resolved


def test_overrides_are_parsed_by_type():
    raw = config.apply_overrides({"train": {"max_update": 5}}, {
        "train.lr": "1e-3,5e-4", "train.update_freq": "4", "model.share_all_embeddings": "true",
        "optimizer.adam_betas": "(0.8, 0.9)", "batching.max_sentences": "none",
        "init_from": "runs/x",
    })
    resolved = resolve(raw)
    assert resolved.train.lr == (1e-3, 5e-4) and resolved.train.max_update == 5
    assert resolved.train.update_freq == (4,) and resolved.model.share_all_embeddings
    assert resolved.optimizer.adam_betas == (0.8, 0.9)
    assert resolved.batching.max_sentences is None and resolved.init_from == "runs/x"


@pytest.mark.parametrize("raw, message", [
    ({"trian": {}}, r"config\.trian: unknown key\. Did you mean 'train'\?"),
    ({"train": {"max_updates": 3}}, r"config\.train\.max_updates: .*Did you mean 'max_update'\?"),
    ({"model": {"dropuot": 0.1}}, r"config\.model\.dropuot: .*'dropout'"),
    ({"model": {"arch": "transformer_iwslt"}}, r"'transformer_iwslt_de_en'"),
    ({"model": {"name": "transfomer"}}, r"'transformer'"),
    ({"loss": {"name": "label_smoothed"}}, r"'label_smoothed_cross_entropy'"),
    ({"task": {"name": "translate"}}, r"'translation'"),
    ({"train": {"max_update": "many"}}, r"config\.train\.max_update: expected int, got 'many'"),
    ({"train": {"max_update": 1.5}}, r"expected int, got 1\.5"),
    ({"train": {"clip_norm": True}}, r"expected float, got True"),
    ({"train": 3}, r"config\.train: expected a section"),
    ({"batching": {"mode": "bucket"}}, r"'bucket' is not one of packed, bucketed, fairseq"),
    ({"optimizer": {"adam_betas": [0.9]}}, r"config\.optimizer\.adam_betas: expected"),
    ({"model": {"name": "transformer_lm", "arch": "transformer_tiny"}}, r"is of 'transformer'"),
    ({"model": {"name": "no.such:Thing"}}, r"cannot import 'no\.such:Thing'"),
])
def test_mistakes_are_named(raw, message):
    with pytest.raises(ConfigError, match=message):
        resolve(raw)


def test_a_model_of_another_package():
    name = f"{__name__}:Plugin"
    resolved = resolve({"model": {"name": name, "width": 16}})
    model = models.build(
        resolved.model, source_vocab_size=4, target_vocab_size=4, compute_dtype=None
    )
    assert isinstance(model, Plugin) and model.config.width == 16
    with pytest.raises(ConfigError, match=r"config\.model\.widht"):
        resolve({"model": {"name": name, "widht": 1}})


def test_config_files(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(size='small'):\n"
        "    return ConfigDict({'train': {'lr': 1.0 if size == 'small' else 2.0}})\n"
    )
    assert config.load_file(str(path)) == {"train": {"lr": 1.0}}
    assert config.load_file(f"{path}:big") == {"train": {"lr": 2.0}}
    with pytest.raises(ConfigError, match="no such file"):
        config.load_file(str(tmp_path / "other.py"))
    path.write_text("x = 1\n")
    with pytest.raises(ConfigError, match="get_config"):
        config.load_file(str(path))


def test_the_recipes_resolve(repository):
    files = sorted((repository / "configs").glob("*.py"))
    assert len(files) >= 4
    for file in files:
        resolve(config.load_file(str(file)))


def test_the_decoder_follows_the_encoder():
    """fairseq's base_architecture: what is not given; named architectures give both sides."""
    model = resolve({"model": {"encoder_embed_dim": 64, "encoder_ffn_embed_dim": 96}}).model
    assert (model.decoder_embed_dim, model.decoder_ffn_embed_dim) == (64, 96)
    model = resolve({"model": {"encoder_embed_dim": 64, "decoder_embed_dim": 32}}).model
    assert model.decoder_embed_dim == 32
    model = resolve({"model": {"arch": "transformer_iwslt_de_en", "encoder_embed_dim": 64}}).model
    assert model.decoder_embed_dim == 512
    for switch in ("share_all_embeddings", "merge_src_tgt_embed"):
        model = resolve({"model": {switch: True}}).model
        assert model.ties_output and model.share_decoder_input_output_embed


def config_classes():
    """Every dataclass that a configuration is made of, its bases included."""
    found = {config.Config, *tasks.CONFIGS.values(), *models.CONFIGS.values(),
             *losses.CONFIGS.values()}
    found |= {type(f.default) for f in dataclasses.fields(config.Config)
              if dataclasses.is_dataclass(f.default)}
    bases = {base for cls in found for base in cls.__mro__ if dataclasses.is_dataclass(base)}
    return sorted(found | bases, key=lambda cls: cls.__qualname__)


@pytest.mark.parametrize("cls", config_classes(), ids=lambda cls: cls.__name__)
def test_every_key_says_what_it_means(cls):
    """Under the field itself, where `--help-config` finds it."""
    own = {f.name for f in dataclasses.fields(cls)} & set(inspect.get_annotations(cls))
    docs = describing.field_docs(cls)
    assert [name for name in sorted(own) if not docs.get(name)] == []
