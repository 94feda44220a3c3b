"""A trained model under other settings: layers left out, keys replaced; and training that
begins with some of a model's layers, or with an adaptive softmax."""

from __future__ import annotations

import functools
import json

import jax
import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import metrics, raw_config, resolve, write_data

import seqjax
from seqjax import checkpoints, convert, evaluate, generate
from seqjax.config import ConfigError
from seqjax.interop.fairseq import recipe as fairseq_recipe
from seqjax.interop.fairseq import start as fairseq_start
from seqjax.interop.fairseq.checkpoint import WeightsError, from_tree
from seqjax.interop.torch.files import read_pt
from seqjax.training import sharding, train_loop

LAYERS = {"encoder_layers": 3, "decoder_layers": 3}
KEPT = {"encoder_layers_to_keep": "0,2", "decoder_layers_to_keep": "1"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


@pytest.fixture(scope="module")
def deep(data, tmp_path_factory):
    """A work folder with a model of three layers a side."""
    return write_checkpoint(tmp_path_factory.mktemp("deep") / "run", data, model=LAYERS)


@pytest.fixture(scope="module")
def deep_pt(deep):
    path = deep.parent / "deep.pt"
    convert.main([str(deep), str(path)])
    return path


def assert_layers(params, whole, side, kept):
    rows = np.array(kept)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.asarray(b)[rows]),
                 params[side]["layers"], whole[side]["layers"])


# ---- fairseq's files ----


@pytest.fixture(scope="module")
def pruned(goldens):
    """A file of three layers a side that says which to keep."""
    return read_pt(goldens / "transformer" / "pruned" / "checkpoint.pt")


def with_model_keys(tree, **keys):
    return {**tree, "cfg": {**tree["cfg"], "model": {**tree["cfg"]["model"], **keys}}}


def test_layers_to_keep_of_a_file_and_as_an_override_are_the_same(pruned):
    said = from_tree(pruned)
    assert (said.config.encoder_layers, said.config.decoder_layers) == (2, 2)
    assert said.config.encoder_layers_to_keep is None
    assert not any("layers_to_keep" in key for key in said.fairseq.model)
    plain = with_model_keys(pruned, encoder_layers_to_keep=None, decoder_layers_to_keep=None)
    whole = from_tree(plain)
    assert whole.config.encoder_layers == 3
    asked = from_tree(plain, overrides={
        "encoder_layers_to_keep": "0,2", "decoder_layers_to_keep": [2, 0]})
    assert asked.config == said.config
    for side in ("encoder", "decoder"):
        assert_layers(said.params, whole.params, side, [0, 2])
        assert_layers(asked.params, whole.params, side, [0, 2])
    over = from_tree(pruned, overrides={"encoder_layers_to_keep": "1"})
    assert_layers(over.params, whole.params, "encoder", [1])
    assert_layers(over.params, whole.params, "decoder", [0, 2])


def test_a_file_that_was_trained_with_a_choice_of_layers_has_no_others(pruned):
    state = {k: v for k, v in pruned["model"].items() if ".layers.2." not in k}
    found = from_tree({**pruned, "model": state})
    assert found.config.encoder_layers == 2
    np.testing.assert_array_equal(found.params["encoder"]["layers"]["fc1"]["bias"][1],
                                  state["encoder.layers.1.fc1.bias"])


@pytest.mark.parametrize(("overrides", "error", "message"), [
    ({"encoder_layers_to_keep": "0,3"}, ConfigError, "has 3 layers there, numbered from 0"),
    ({"encoder_layers_to_keep": "0,0"}, ValueError, "name each layer that stays once"),
    ({"encoder_layers_to_keep": "first"}, ConfigError, "model_overrides.encoder_layers_to_keep"),
    ({"decoder_layerdrop": 0.1}, ConfigError, "decoder_layerdrop only matters in training"),
    ({"encoder_layer": 2}, ConfigError, "no key 'encoder_layer'. Did you mean 'encoder_layers'"),
    ({"data": "elsewhere"}, ConfigError, "Data, tokenizers and search have options"),
    ({"decoder_attention_heads": 3}, ConfigError, "model_overrides: .*not a multiple"),
    ({"decoder_ffn_embed_dim": 16}, WeightsError, "misshapen"),
])
def test_overrides_that_cannot_be(pruned, overrides, error, message):
    plain = with_model_keys(pruned, encoder_layers_to_keep=None, decoder_layers_to_keep=None)
    with pytest.raises(error, match=message):
        from_tree(plain, overrides=overrides)


# ---- loading ----


def test_a_folder_and_a_file_give_the_same_under_overrides(deep, deep_pt, data):
    whole = seqjax.load(deep)
    here = seqjax.load(deep, model_overrides=KEPT)
    there = seqjax.load(deep_pt, data=data, model_overrides=KEPT)
    for found in (here, there):
        assert (found.config.model.encoder_layers, found.config.model.decoder_layers) == (2, 1)
        assert_layers(found.params[0], whole.params[0], "encoder", [0, 2])
        assert_layers(found.params[0], whole.params[0], "decoder", [1])
    assert here.identity != whole.identity
    ids = here.encode("aa1 aa2 aa3")
    np.testing.assert_allclose(here.log_probs([ids], [[2, 7]]), there.log_probs([ids], [[2, 7]]),
                               atol=1e-6)
    assert np.abs(here.log_probs([ids], [[2, 7]]) - whole.log_probs([ids], [[2, 7]])).max() > 1e-3


def test_keys_that_change_what_is_computed(deep):
    plain, found = seqjax.load(deep), seqjax.load(deep, model_overrides={
        "activation_fn": "tanh", "max_target_positions": 7})
    assert found.models[0].max_target_positions == 7
    ids = plain.encode("aa1 aa2 aa3")
    a, b = (m.log_probs([ids], [[2, 7]]) for m in (plain, found))
    assert np.abs(a - b).max() > 1e-3
    message = r"(?s)under model_overrides does not fit.*fc1"
    with pytest.raises(checkpoints.CheckpointError, match=message):
        seqjax.load(deep, model_overrides={"encoder_ffn_embed_dim": 12})


def test_the_commands_take_them(deep, tmp_path, capsys):
    (tmp_path / "in").write_text("aa1 aa2 aa3\naa4\n")

    def lines(*more):
        generate.main(["--checkpoint", str(deep), "--input", str(tmp_path / "in"),
                       "--format", "jsonl", *more])
        out = capsys.readouterr().out.splitlines()
        return [json.loads(line)["hypotheses"][0]["score"] for line in out]

    found = lines("--model-overrides", "{'encoder_layers_to_keep': '0,2', "
                  "'decoder_layers_to_keep': '1'}")
    model = seqjax.load(deep, model_overrides=KEPT)
    wanted = [h[0].score for h in model.generate(["aa1 aa2 aa3", "aa4"])]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(np.array(lines()) - wanted).max() > 1e-3
    with pytest.raises(SystemExit):
        lines("--model-overrides", "encoder_layers=2")
    assert "is not a dict as Python writes it" in capsys.readouterr().err


def test_evaluate_takes_them_too(deep, data, capsys):
    command = ["--checkpoint", str(deep), "--data", str(data), "--subset", "valid", "--json"]
    evaluate.main(command)
    evaluate.main([*command, "--model-overrides", str(KEPT)])
    whole, found = map(json.loads, capsys.readouterr().out.splitlines())
    assert whole["tokens"] == found["tokens"] and whole["loss"] != found["loss"]


# ---- training ----


@pytest.fixture
def one_device(monkeypatch):
    make = functools.partial(sharding.make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(train_loop.sharding, "make_mesh", make)


def trained(data, workdir, **sections):
    config = resolve(raw_config(data, **sections))
    train_loop.train(config, workdir=str(workdir), start=fairseq_start.start_from(config))
    return checkpoints.find(workdir, which="last")


def test_training_begins_with_the_layers_that_are_kept(deep, deep_pt, data, tmp_path, one_device):
    """From a folder and from a file; the run goes on, and loads, as any other."""
    whole = seqjax.load(deep).params[0]
    # A learning rate of 0: what was begun with is still there.
    still = {"train": {"max_update": 1, "lr": [0.0], "allow_nonpositive_lr": True},
             "model": {**LAYERS, **KEPT}}
    for start in (deep, deep_pt):
        folder = trained(data, tmp_path / start.name, init_from=str(start), **still)
        params = checkpoints.read_params(folder)
        assert_layers(params, whole, "encoder", [0, 2])
        assert_layers(params, whole, "decoder", [1])
    still["train"]["max_update"] = 2
    assert trained(data, tmp_path / "run", init_from=str(deep), **still).name == "2"
    assert seqjax.load(folder).config.model.encoder_layers == 2
    out = tmp_path / "pruned.pt"
    convert.main([str(folder), str(out)])
    again = from_tree(read_pt(out))
    assert (again.config.encoder_layers, again.config.decoder_layers) == (2, 1)
    assert_layers(again.params, params, "encoder", [0, 1])


def test_layers_to_keep_need_a_model_that_has_them(deep, data, tmp_path, one_device):
    with pytest.raises(ConfigError, match="name it in config.init_from"):
        trained(data, tmp_path / "a", model={**LAYERS, **KEPT})
    with pytest.raises(ConfigError, match="has 3 layers there"):
        trained(data, tmp_path / "b", init_from=str(deep),
                model={**LAYERS, "encoder_layers_to_keep": "1,3"})


def test_a_work_folder_from_before_a_key_existed_goes_on(data, tmp_path, one_device):
    folder = trained(data, tmp_path / "run", train={"max_update": 1})
    file = folder / "about" / "config.json"
    plain = json.loads(file.read_text())
    for key in ("scale_attn", "adaptive_softmax_factor", "decoder_layers_to_keep"):
        del plain["model"][key]
    file.write_text(json.dumps(plain))
    # There were no checksums then either.
    file.with_name("checksums.0.json").unlink()
    record = json.loads(file.with_name("record.json").read_text())
    file.with_name("record.json").write_text(json.dumps({**record, "checksums": 0}))
    assert trained(data, tmp_path / "run", train={"max_update": 2}).name == "2"


def test_translation_learns_with_an_adaptive_softmax(data, tmp_path, one_device):
    """Validation and search included."""
    options = {
        "model": {"adaptive_softmax_cutoff": [7, 11], "adaptive_softmax_factor": 2,
                  "adaptive_softmax_dropout": 0.1, "scale_heads": True, "scale_resids": True,
                  "cross_self_attention": True},
        "loss": {"name": "adaptive_loss"}, "valid": {"every_updates": 30, "decode": True},
    }
    folder = trained(data, tmp_path / "run", **options)
    losses = [m["loss"] for m in metrics(tmp_path / "run", "train")]
    assert losses[-1] < losses[0] - 0.3
    (valid,) = metrics(tmp_path / "run", "valid")
    assert valid["bleu"] >= 0 and valid["loss"] == pytest.approx(valid["nll_loss"])
    layers = checkpoints.read_params(folder)["decoder"]["layers"]
    assert np.abs(layers["c_attn"] - 1).max() > 0 and np.abs(layers["w_resid"] - 1).max() > 0
    model = seqjax.load(tmp_path / "run")
    (h,) = model.generate(["aa1 aa2"], beam=2, max_len_b=6)[0]
    (scored,) = model.score([model.encode("aa1 aa2")], [h.tokens])
    np.testing.assert_allclose(h.positional_scores, scored.positional_scores, atol=1e-5)


def test_an_adaptive_loss_needs_an_adaptive_softmax(data, tmp_path, one_device):
    with pytest.raises(ConfigError, match="config.loss.name: adaptive_loss needs clusters, which "
                                          "config.model.adaptive_softmax_cutoff gives"):
        trained(data, tmp_path / "run", loss={"name": "adaptive_loss"})


# ---- commands of fairseq's ----


COMMAND = ("fairseq-train data-bin --arch transformer --max-tokens 100 --encoder-layers-to-keep 0,2"
           " --cross-self-attention --adaptive-softmax-cutoff 100,200 --criterion adaptive_loss")


def test_a_command_with_these_flags():
    """Without a model to begin with, fairseq makes one of as many layers."""
    recipe = fairseq_recipe.from_command(COMMAND)
    assert recipe.unsupported == ()
    model = resolve(recipe.raw).model
    assert (model.encoder_layers, model.encoder_layers_to_keep) == (2, None)
    assert model.cross_self_attention and model.adaptive_softmax_cutoff == (100, 200)
    tuned = fairseq_recipe.from_command(COMMAND + " --finetune-from-model big.pt")
    assert resolve(tuned.raw).model.encoder_layers_to_keep == (0, 2)
    assert tuned.raw["init_from"] == "big.pt"
