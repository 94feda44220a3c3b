"""fairseq's checkpoints of all ages give its numbers, and go back bit for bit.

The checkpoints in `goldens/transformer` and what they compute were recorded with fairseq
(`scripts/record_transformer.py`).
"""

from __future__ import annotations

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import packed
import pytest
from resave import resave_fairseq

from seqjax.config import ConfigError
from seqjax.interop.fairseq import config as fairseq_config
from seqjax.interop.fairseq.checkpoint import (
    WeightsError,
    from_tree,
    load_fairseq,
    to_state,
)
from seqjax.interop.fairseq.export import save_fairseq
from seqjax.interop.fairseq.optimizer_state import registered
from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.pickle_machine import CheckpointError
from seqjax.interop.torch.writer import write_pt
from seqjax.models.transformer import fairseq

ROOT = pathlib.Path(__file__).parent.parent
GOLDENS = packed.unpacked(packed.GOLDENS) / "transformer"
CASES = sorted(p.parent.name for p in GOLDENS.glob("*/checkpoint.pt"))


@pytest.fixture(scope="module")
def check_goldens():
    """scripts/check_goldens.py as a module."""
    spec = importlib.util.spec_from_file_location("cg", ROOT / "scripts" / "check_goldens.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["cg"] = module
    spec.loader.exec_module(module)
    return module


def golden(case):
    return read_pt(GOLDENS / case / "checkpoint.pt")


def sizes(checkpoint):
    return {"source_vocab_size": checkpoint.source_vocab_size,
            "target_vocab_size": checkpoint.target_vocab_size}


# ---- numbers ----


@pytest.mark.parametrize("case", ["adaptive", "old"])
def test_numbers_are_fairseqs(case, check_goldens):
    """Log-probabilities, loss and every gradient norm, as the script compares them; every case's
    are compared in models/test_conformance.py."""
    found = check_goldens.compare(GOLDENS / case)
    assert found.lprobs <= 1e-4
    assert found.loss <= 1e-4
    assert found.grad_norm <= 1e-4, found.parameter


def test_the_comparison_notices_differences(check_goldens, tmp_path):
    """A model that is slightly off does not pass."""
    tree = golden("postnorm")
    state = {k: v.copy() for k, v in tree["model"].items()}
    state["encoder.layers.0.fc1.bias"] += 0.01
    write_pt(tmp_path / "checkpoint.pt", {**tree, "model": state})
    recorded = (GOLDENS / "postnorm" / "forward.npz").read_bytes()
    (tmp_path / "forward.npz").write_bytes(recorded)
    found = check_goldens.compare(tmp_path)
    assert found.lprobs > 1e-4 and found.grad_norm > 1e-4 and not found.ok


def test_the_table(check_goldens, capsys, tmp_path):
    assert check_goldens.main([str(GOLDENS), "postnorm"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1].startswith("postnorm ")
    assert check_goldens.main([str(tmp_path)]) == 2
    assert "no goldens" in capsys.readouterr().err


# ---- weights ----


@pytest.mark.parametrize("case", CASES)
def test_round_trip_keeps_every_bit(case, tmp_path):
    checkpoint = load_fairseq(GOLDENS / case / "checkpoint.pt")
    resave_fairseq(tmp_path / "new.pt", checkpoint)
    old, new = golden(case)["model"], read_pt(tmp_path / "new.pt")["model"]
    if case != "pruned" and not case.startswith("old"):
        assert list(sorted(old)) == list(sorted(new))
        for name, value in old.items():
            assert new[name].dtype == value.dtype and new[name].tobytes() == value.tobytes(), name
    again = load_fairseq(tmp_path / "new.pt")
    assert again.config == checkpoint.config
    assert again.task == checkpoint.task
    state = to_state(again.params, again.config, **sizes(again), kept=again.kept,
                     dtypes=again.dtypes)
    for name, value in state.items():
        assert new[name].dtype == value.dtype and new[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("case", ["postnorm", "normformer", "cross_self"])
def test_parameters_have_the_order_in_which_fairseq_registers_them(case):
    """Which is that of its optimizer's state."""
    names = [name for name in golden(case)["model"] if not name.endswith(".version")]
    assert registered(sorted(names), fairseq.NAMES, title="x") == names


def test_old_names_and_precision():
    """0.5: stacked projections, numbered norms, half precision, a leftover buffer."""
    tree, checkpoint = golden("old"), load_fairseq(GOLDENS / "old" / "checkpoint.pt")
    old, params = tree["model"], checkpoint.params
    stacked = old["decoder.layers.1.encoder_attn.in_proj_weight"].astype(np.float32)
    attention = params["decoder"]["layers"]["encoder_attn"]
    for index, part in enumerate(("q_proj", "k_proj", "v_proj")):
        np.testing.assert_array_equal(attention[part]["kernel"][1], stacked[8 * index:][:8].T)
    for number, norm in enumerate(("self_attn", "encoder_attn", "final")):
        np.testing.assert_array_equal(
            params["decoder"]["layers"][f"{norm}_layer_norm"]["bias"][0],
            old[f"decoder.layers.0.layer_norms.{number}.bias"].astype(np.float32))
    assert params["encoder"]["layers"]["fc1"]["kernel"].dtype == np.float32
    assert set(checkpoint.dtypes.values()) == {"float16"}
    assert checkpoint.kept["encoder.embed_positions._float_tensor"].tolist() == [7.0]
    assert "output_projection" not in params["decoder"]


def test_decoders_before_version_3_have_no_final_norm():
    checkpoint = load_fairseq(GOLDENS / "old_prenorm" / "checkpoint.pt")
    assert checkpoint.config.decoder_normalize_before
    assert checkpoint.config.no_decoder_final_norm
    tree = golden("old_prenorm")
    np.testing.assert_array_equal(
        checkpoint.params["decoder"]["output_projection"]["kernel"],
        tree["model"]["decoder.embed_out"].T)


def test_the_first_encoders_have_no_final_norm_either():
    """And can say so to fairseq only by their version."""
    tree, checkpoint = golden("old_first_prenorm"), load_fairseq(
        GOLDENS / "old_first_prenorm" / "checkpoint.pt")
    assert tree["model"]["encoder.version"].tolist() == [1.0]
    assert checkpoint.config.no_encoder_final_norm
    assert "layer_norm" not in checkpoint.params["encoder"]
    state = to_state(checkpoint.params, checkpoint.config, **sizes(checkpoint))
    assert state["encoder.version"].tolist() == [1.0]
    # That a decoder has none is a key of the configuration too, which this tree is without.
    state["decoder.version"] = tree["model"]["decoder.version"]
    assert from_tree({**tree, "model": state}).config == checkpoint.config


def test_everything_that_does_not_fit_is_in_one_table():
    tree = golden("postnorm")
    state = dict(tree["model"])
    del state["encoder.layers.0.fc1.weight"]
    state["decoder.layers.1.fc2.bias"] = np.zeros(9, np.float32)
    state["encoder.layers.0.fc3.weight"] = np.zeros((2, 2), np.float32)
    state["encoder.layers.1.fc1.bias"] = np.zeros(12, np.int64)
    state["decoder.layers.2.fc1.bias"] = np.zeros(12, np.float32)
    with pytest.raises(WeightsError) as caught:
        from_tree({**tree, "model": state})
    text = str(caught.value)
    assert "5 weights" in text and len(text.splitlines()) == 6
    for line in (r"missing    encoder.layers.0.fc1.weight  wanted [12, 8]",
                 r"misshapen  decoder.layers.1.fc2.bias    has [9], wanted [8]",
                 r"unexpected encoder.layers.0.fc3.weight  has [2, 2]",
                 r"wrong type encoder.layers.1.fc1.bias    has int64",
                 r"unexpected decoder.layers.2.fc1.bias    has [12]"):
        assert line in text


def test_copies_that_differ_are_reported():
    tree = golden("prenorm_shared")
    state = dict(tree["model"])
    state["decoder.output_projection.weight"] = state["decoder.output_projection.weight"] + 1
    with pytest.raises(WeightsError, match=r"untied +decoder\.output_projection\.weight"):
        from_tree({**tree, "model": state})


def test_files_that_are_not_fairseqs(tmp_path):
    write_pt(tmp_path / "a.pt", {"state_dict": {}})
    with pytest.raises(CheckpointError, match=r"a\.pt: not a fairseq checkpoint"):
        load_fairseq(tmp_path / "a.pt")
    write_pt(tmp_path / "b.pt", {"model": {}, "args": None, "cfg": None})
    with pytest.raises(ConfigError, match=r"b\.pt: .*neither `cfg` nor `args`"):
        load_fairseq(tmp_path / "b.pt")
    tree = golden("postnorm")
    with pytest.raises(WeightsError, match=r"no encoder\.embed_tokens\.weight"):
        from_tree({**tree, "model": {}})
    with pytest.raises(WeightsError, match="not tensors"):
        from_tree({**tree, "model": {"x": 1}})


def test_export_of_a_model_trained_here(tmp_path):
    """Without fairseq's keys to copy, the file says all that fairseq needs."""
    checkpoint = load_fairseq(GOLDENS / "prenorm_shared" / "checkpoint.pt")
    save_fairseq(tmp_path / "a.pt", checkpoint.params, checkpoint.config, **sizes(checkpoint),
                 extra_args={"source_lang": "de", "target_lang": "en"})
    tree = read_pt(tmp_path / "a.pt")
    assert tree["model"]["encoder.version"].tolist() == [3.0]
    assert tree["args"]["arch"] == "transformer" and tree["args"]["task"] == "translation"
    assert not {"scan_unroll", "remat", "name"} & set(tree["args"])
    assert all(tree["args"][k] is not None for k in tree["args"] if "dim" in k)
    again = load_fairseq(tmp_path / "a.pt")
    assert again.config == checkpoint.config
    assert again.task.target_lang == "en"
    bad = {**checkpoint.params, "encoder": {**checkpoint.params["encoder"], "embed_tokens": {
        "embedding": np.zeros((3, 8), np.float32)}}}
    with pytest.raises(WeightsError, match="encoder/embed_tokens/embedding has shape"):
        save_fairseq(tmp_path / "b.pt", bad, checkpoint.config, **sizes(checkpoint), extra_args={})
    assert not (tmp_path / "b.pt").exists()


_MEASURE = """
import pathlib, re, sys
import jax
from seqjax.interop.fairseq.checkpoint import load_fairseq
load_fairseq(sys.argv[2])
def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024
before = peak()
checkpoint = load_fairseq(sys.argv[1])
print(peak() - before)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_loading_needs_little_more_memory_than_the_file(tmp_path):
    tree = golden("postnorm")
    state = dict(tree["model"])
    rng = np.random.default_rng(0)
    for name in ("decoder.embed_tokens.weight", "decoder.output_projection.weight"):
        state[name] = rng.random((3_000_000, 8), np.float32)
    path = tmp_path / "big.pt"
    write_pt(path, {**tree, "model": state})
    small = GOLDENS / "postnorm" / "checkpoint.pt"
    result = subprocess.run([sys.executable, "-c", _MEASURE, str(path), str(small)], cwd=ROOT,
                            capture_output=True, text=True, check=True)
    assert 0.9 * path.stat().st_size < int(result.stdout) < 1.3 * path.stat().st_size


# ---- configuration ----


def model_of(**args):
    """The model section for a Namespace."""
    config = fairseq_config.from_checkpoint({"args": args, "cfg": None})
    return fairseq_config.model_config(config)


def test_namespace_and_tree_agree():
    """The flat Namespace, today's `cfg` and its nested form name one model."""
    new, old = golden("postnorm")["cfg"], golden("old")["args"]
    flat = fairseq_config.from_checkpoint({"cfg": new})
    assert flat.arch == "transformer" and flat.name("task") == "translation"
    assert flat.get("criterion", "label_smoothing") == 0.1
    model = fairseq_config.model_config(flat)
    tied = fairseq_config.model_config(fairseq_config.from_checkpoint({"args": old}))
    assert tied.share_decoder_input_output_embed and not model.share_decoder_input_output_embed
    assert (model.encoder_embed_dim, model.encoder_layers, model.max_source_positions) == (
        tied.encoder_embed_dim, tied.encoder_layers, tied.max_source_positions) == (8, 2, 20)
    nested = load_fairseq(GOLDENS / "merged" / "checkpoint.pt").config
    assert nested.encoder_normalize_before and not nested.decoder_normalize_before
    assert nested.decoder_learned_pos and nested.decoder_ffn_embed_dim == 12
    assert nested.share_decoder_input_output_embed  # merging implies it


def test_task_args():
    for case in ("postnorm", "old"):
        args = load_fairseq(GOLDENS / case / "checkpoint.pt").task
        assert (args.task, args.source_lang, args.target_lang) == ("translation", "de", "en")
        assert args.left_pad_source and not args.left_pad_target
        assert args.bpe is None and args.tokenizer is None
        assert args.criterion["_name"] == "label_smoothed_cross_entropy"
        assert args.criterion["label_smoothing"] == 0.1
    given = {"arch": "transformer", "bpe": "subword_nmt", "bpe_codes": "codes",
             "tokenizer": "moses", "source_lang": "de", "target_lang": "en",
             "left_pad_source": "False", "lr": [1]}
    args = fairseq_config.task_args(fairseq_config.from_checkpoint({"args": given}))
    assert args.bpe == {"_name": "subword_nmt", "bpe_codes": "codes"}
    assert args.tokenizer == {"_name": "moses", "source_lang": "de", "target_lang": "en"}
    assert not args.left_pad_source
    assert args.criterion == {"_name": "cross_entropy"}


def test_architectures_fill_in_what_is_absent():
    model = model_of(arch="transformer_iwslt_de_en", decoder_attention_heads=8)
    assert (model.encoder_embed_dim, model.encoder_ffn_embed_dim) == (512, 1024)
    assert (model.encoder_attention_heads, model.decoder_attention_heads) == (4, 8)
    model = model_of(arch="transformer", encoder_embed_dim=64)
    assert model.decoder_embed_dim == 64  # follows the encoder's
    assert model_of(arch="transformer_iwslt_de_en", encoder_embed_dim=64).decoder_embed_dim == 512
    assert model_of(arch="transformer", share_all_embeddings=True).share_decoder_input_output_embed


def test_fairseqs_habits_with_types():
    model = model_of(arch="transformer", encoder_normalize_before="True", encoder_learned_pos=1,
                     encoder_layers=3.0, dropout=0, max_positions=99, relu_dropout=0.25,
                     decoder_learned_pos="False", encoder_embed_path=None)
    assert model.encoder_normalize_before is True and model.encoder_learned_pos is True
    assert model.decoder_learned_pos is False
    assert model.encoder_layers == 3 and model.dropout == 0.0
    assert model.max_source_positions == model.max_target_positions == 99
    assert model.activation_dropout == 0.25


def test_what_we_do_not_have_is_refused_all_at_once():
    with pytest.raises(ConfigError) as caught:
        model_of(arch="transformer", use_stable_embedding=True, base_layers=2, scale_fc=False,
                 adaptive_softmax_cutoff="")
    text = str(caught.value)
    assert "use_stable_embedding=True" in text and "base_layers=2" in text
    assert "scale_fc" not in text and "cutoff" not in text
    with pytest.warns(UserWarning, match=r"quant_noise_pq=0\.1"):
        model_of(arch="transformer", quant_noise_pq=0.1)
    with pytest.raises(ConfigError, match="Did you mean 'transformer_iwslt_de_en'"):
        model_of(arch="transformer_iwslt_de_enn")


def test_an_adaptive_softmax_of_a_translation_model():
    found = model_of(arch="transformer", adaptive_softmax_cutoff="1000,2000",
                     adaptive_softmax_factor=2, share_all_embeddings=True)
    assert found.adaptive_softmax_cutoff == (1000, 2000) and not found.ties_output
    assert model_of(arch="transformer", adaptive_softmax_cutoff=[]).adaptive_softmax_cutoff is None
    with pytest.raises(ConfigError, match="tie_adaptive_weights: a translation model has no"):
        model_of(arch="transformer", adaptive_softmax_cutoff="9", tie_adaptive_weights=True)


@pytest.mark.parametrize("key", ["adaptive_input", "char_inputs"])
def test_what_fairseqs_translation_models_take_no_notice_of(key):
    with pytest.warns(UserWarning, match=f"{key}: .* take no notice"):
        assert model_of(arch="transformer", **{key: True}) == model_of(arch="transformer")


@pytest.mark.parametrize("arch", ["transformer", "transformer_lm"])
def test_xformers_ordinary_attention_is_attention(arch):
    with pytest.warns(UserWarning, match="scaled_dot_product is softmax attention"):
        found = model_of(
            arch=arch, decoder_xformers_att_config="{'name': 'scaled_dot_product'}")
    assert found == model_of(arch=arch, decoder_xformers_att_config=None)
    with pytest.raises(ConfigError, match="xFormers' attention 'linformer' computes something"):
        model_of(arch=arch, decoder_xformers_att_config={"name": "linformer"})
    with pytest.raises(ConfigError, match="decoder_xformers_att_config: cannot read '{name'"):
        model_of(arch=arch, decoder_xformers_att_config="{name")


def test_interpolations():
    cfg = {"common": {"seed": 7}, "model": {"arch": "transformer", "dropout": "${common.rate}",
                                            "encoder_layers": "${task.layers}"},
           "task": {"_name": "translation", "layers": "${common.seed}", "gone": "???"}}
    config = fairseq_config.from_checkpoint({"cfg": cfg})
    assert config.get("task", "layers") == 7
    assert config.get("task", "gone", "default") == "default"
    assert fairseq_config.model_config(config).encoder_layers == 7
    cfg["common"]["seed"] = "${task.layers}"
    with pytest.raises(ConfigError, match="circle"):
        fairseq_config.from_checkpoint({"cfg": cfg})
