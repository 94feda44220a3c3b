"""Conversions: fairseq's files and commands to ours, and back."""

from __future__ import annotations

import argparse
import collections
import importlib.util
import pathlib

import family_goldens
import jax
import numpy as np
import pytest
from user_path import MODEL, data_folder

import seqjax
from seqjax import checkpoints, convert, hub
from seqjax.config import ConfigError, to_plain
from seqjax.interop.fairseq import config as fairseq_config
from seqjax.interop.fairseq import recipe as fairseq_recipe
from seqjax.interop.fairseq.optimizer_state import read_state
from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.writer import write_pt
from seqjax.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return data_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data):
    target = tmp_path_factory.mktemp("converted") / "run"
    convert.main([str(MODEL), str(target), "--data", str(data)])
    return target


def test_a_folder_is_the_same_model(folder, data):
    ours, theirs = seqjax.load(folder), seqjax.load(MODEL, data=data)
    assert ours.task.source_vocab == theirs.task.source_vocab
    assert checkpoints.read_record(checkpoints.find(folder)).step == 50
    ids = ours.encode("und er")
    np.testing.assert_array_equal(
        ours.log_probs([ids], [[2, 5, 6]]), theirs.log_probs([ids], [[2, 5, 6]]))


def test_a_folder_is_not_written_over(folder, data):
    with pytest.raises(ConfigError, match="holds checkpoints already"):
        convert.main([str(MODEL), str(folder), "--data", str(data)])


def test_round_trip_keeps_every_bit(folder, tmp_path):
    convert.main([str(folder), str(tmp_path / "back.pt")])
    before, after = read_pt(MODEL), read_pt(tmp_path / "back.pt")
    assert set(after["model"]) == set(before["model"])
    for name, value in before["model"].items():
        assert after["model"][name].dtype == value.dtype, name
        np.testing.assert_array_equal(after["model"][name], value, err_msg=name)
    was, now = (fairseq_config.from_checkpoint(t) for t in (before, after))
    assert now.arch == was.arch
    assert now.get("criterion", "label_smoothing") == was.get("criterion", "label_smoothing")
    assert now.get("task", "source_lang") == "de"
    assert seqjax.load(tmp_path / "back.pt", data=hub.load(folder).task.config.data)


def trained(folder, tmp_path, data, optimizer="adam"):
    """A run that goes on from the golden with our optimizer for no update at all."""
    from seqjax.interop.fairseq import start as fairseq_start
    from seqjax.training import optimizers, state

    raw = fairseq_recipe.from_fairseq(fairseq_config.from_checkpoint(read_pt(MODEL))).raw
    raw["task"]["data"] = str(data)
    config = hub.resolve({**raw, "resume_from": str(MODEL)})
    start = fairseq_start.start_from(config)
    task = hub.load(folder).task
    made = state.new_state(start.params, optimizers.make_optimizer(config.optimizer))
    made = made.replace(opt_state=start.opt_state, step=np.int32(start.step))
    record = checkpoints.Record(step=start.step, data=vars(start.data).copy())
    with Checkpoints(tmp_path / "run", config.checkpoint) as store:
        store.save(made, record, config=to_plain(config), assets=task.assets())
    return tmp_path / "run"


def test_the_optimizer_goes_both_ways(folder, data, tmp_path):
    run = trained(folder, tmp_path, data)
    convert.main([str(run), str(tmp_path / "out.pt"), "--optimizer-state"])
    before, after = read_pt(MODEL), read_pt(tmp_path / "out.pt")
    was, now = before["last_optimizer_state"], after["last_optimizer_state"]
    assert now["param_groups"][0]["params"] == was["param_groups"][0]["params"]
    assert now["param_groups"][0]["lr"] == pytest.approx(was["param_groups"][0]["lr"], rel=1e-6)
    for number, moments in was["state"].items():
        for slot in ("exp_avg", "exp_avg_sq"):
            np.testing.assert_array_equal(now["state"][number][slot], moments[slot])
        assert now["state"][number]["step"] == moments["step"]
    assert after["optimizer_history"][-1]["num_updates"] == 50
    # What is written is read back as it was, by us too.
    was, now = read_state(before, name="adam"), read_state(after, name="adam")
    jax.tree.map(np.testing.assert_array_equal, now, was)
    place = before["extra_state"]["train_iterator"]
    assert after["extra_state"]["train_iterator"]["iterations_in_epoch"] == place[
        "iterations_in_epoch"]


def test_flat_moments_of_fp16_training():
    tree = dict(read_pt(MODEL))
    saved = tree["last_optimizer_state"]
    states = [saved["state"][i] for i in saved["param_groups"][0]["params"]]
    flat = {slot: np.concatenate([s[slot].ravel() for s in states])
            for slot in ("exp_avg", "exp_avg_sq")}
    tree["last_optimizer_state"] = {"state": {0: {"step": 50, **flat}},
                                    "param_groups": [{"params": [0], "lr": 0.1}]}
    ours, expected = read_state(tree, name="adam"), read_state(read_pt(MODEL), name="adam")
    for slot in ("exp_avg", "exp_avg_sq"):
        np.testing.assert_array_equal(ours[slot]["encoder"]["layers"]["fc1"]["kernel"],
                                      expected[slot]["encoder"]["layers"]["fc1"]["kernel"])


def test_another_optimizer_s_state_is_refused():
    with pytest.raises(ConfigError, match="its optimizer is adam"):
        read_state(read_pt(MODEL), name="nag")
    with pytest.raises(ConfigError, match="no optimizer state"):
        read_state({**read_pt(MODEL), "last_optimizer_state": None}, name="adam")


# ---- args ----


def loaded(text: str, tmp_path: pathlib.Path):
    """The configuration of a printed file."""
    (tmp_path / "c.py").write_text(text)
    spec = importlib.util.spec_from_file_location("c", tmp_path / "c.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return hub.resolve(module.get_config().to_dict())


def test_a_command_becomes_a_configuration(capsys, tmp_path):
    convert.main(["args", """
        CUDA_VISIBLE_DEVICES=0 fairseq-train data-bin/iwslt14.tokenized.de-en \\
        --arch transformer_iwslt_de_en --share-decoder-input-output-embed \\
        --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --wd 0.0001 \\
        --lr 5e-4 --lr-scheduler inverse_sqrt --warmup-updates 4000 --dropout 0.3 \\
        --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --max-tokens 4096 \\
        --eval-bleu --eval-bleu-args '{"beam": 5, "max_len_a": 1.2, "max_len_b": 10}' \\
        --eval-bleu-remove-bpe --best-checkpoint-metric bleu --curriculum 2 \\
        --distributed-world-size 4 --update-freq 2,1 --fp16"""])
    out, err = capsys.readouterr()
    config = loaded(out, tmp_path)
    assert "--curriculum 2" in err and "--curriculum 2" in out
    assert "multiplied by the 4 workers" in " ".join(out.split())
    assert config.task.data == "data-bin/iwslt14.tokenized.de-en"
    assert config.task.post_process == "@@ "
    assert config.model.arch == "transformer_iwslt_de_en" and config.model.dropout == 0.3
    assert config.model.encoder_embed_dim == 512 and config.model.encoder_attention_heads == 4
    assert config.batching.max_tokens == 4 * 4096 and config.batching.mode == "fairseq"
    assert config.train.update_freq == (2, 1) and config.train.compute_dtype == "auto"
    assert config.optimizer.weight_decay == 1e-4 and config.optimizer.adam_betas == (0.9, 0.98)
    assert config.valid.metric == "bleu" and config.valid.decode
    assert config.generation.max_len_a == 1.2
    assert config.loss.label_smoothing == 0.1


@pytest.mark.parametrize(("flags", "said"), [
    ("--optimizer adafactor --scale-parameter --lr 1e-3", True),
    ("--optimizer adafactor --scale-parameter --relative-step", False),
    ("--optimizer adafactor --lr 1e-3", False), ("--optimizer adam --lr 1e-3", False)])
def test_adafactor_s_compounded_rate_is_said(capsys, flags, said):
    convert.main(["args", f"fairseq-train d --arch transformer --max-tokens 99 {flags}"])
    out, err = capsys.readouterr()
    for text in (" ".join(out.split()), err):
        assert ("fairseq multiplies the scales of all tensors so far" in text) == said


def test_fairseq_s_defaults_where_ours_are_others(capsys, tmp_path):
    convert.main(["args", "fairseq-train", "d", "--arch", "transformer", "--optimizer", "adam",
                  "--batch-size", "32", "--encoder-embed-dim", "64",
                  "--encoder-attention-heads", "2", "--decoder-attention-heads", "2"])
    config = loaded(capsys.readouterr().out, tmp_path)
    assert config.optimizer.adam_betas == (0.9, 0.999)
    assert config.schedule.name == "fixed" and config.schedule.warmup_updates == 0
    assert config.train.lr == (0.25,) and config.train.compute_dtype == "float32"
    assert config.loss.name == "cross_entropy"
    assert config.batching.max_tokens is None and config.batching.max_sentences == 32
    assert config.model.decoder_embed_dim == 64  # follows the encoder's
    assert not config.valid.decode


def test_a_checkpoint_becomes_a_configuration(capsys, tmp_path):
    convert.main(["args", str(MODEL)])
    config = loaded(capsys.readouterr().out, tmp_path)
    assert config.train.update_freq == (2,) and config.train.clip_norm == 0.5
    assert config.batching.max_tokens == 900 and config.seed == 3
    assert config.model.share_all_embeddings and config.model.encoder_layers == 1
    assert not config.valid.enabled


@pytest.mark.parametrize(("command", "message"), [
    ("fairseq-train d --arch transformer --max-tokens 9 --optimizr adam", "Did you mean '--optimi"),
    ("fairseq-train d --max-tokens 9", "--arch is needed"),
    ("fairseq-train d --arch multires_hubert --max-tokens 9", "multires_hubert"),
    ("fairseq-train d --arch transformer --task text_to_speech --max-tokens 9", "text_to_speech"),
    ("fairseq-train d --arch transformer --optimizer adamax --max-tokens 9", "adamax"),
    ("fairseq-train d --arch transformer --max-tokens", "needs a value"),
    ("fairseq-train d --arch transformer --max-tokens 9 --max-update x", "--max-update: cannot"),
    ("fairseq-train d --arch transformer --max-tokens x", "cannot be read"),
    ("fairseq-train d --arch transformer", "--max-tokens or --batch-size"),
    ("fairseq-generate d --path x.pt", "only fairseq-train"),
    ("python x.py", "give a whole command"),
])
def test_wrong_commands(command, message):
    with pytest.raises(ConfigError, match=message):
        convert.main(["args", command])


@pytest.mark.parametrize(("words", "message"), [
    (["nosuch.pt", "out"], "no such file"),
    (["nosuch", "out.pt"], "no such file"),
    ([str(MODEL), "out.pt"], "converted to a folder"),
    ([str(MODEL), "out", "--optimizer-state"], "resume_from"),
    ([str(MODEL), "out"], "Name the folder that it was trained on"),
    ([str(MODEL), "out", "more"], "one thing to read"),
])
def test_wrong_conversions(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, FileNotFoundError), match=message):
        convert.main(words)
    assert not list(tmp_path.iterdir())


FAMILIES = ["lstm/bidirectional", "lstm/lm_residual", "fconv/mixed", "fconv/lm_adaptive",
            "lightconv/dynamic", "lightconv/lm", "transformer_lm/learned"]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_comes_back(name, tmp_path):
    golden = family_goldens.load(name)
    known = golden.checkpoint
    args = {**known.fairseq.model, "source_lang": "aa", "target_lang": "bb",
            "task": "language_modeling" if golden.is_lm else "translation"}
    write_pt(tmp_path / "model.pt", {
        "args": argparse.Namespace(**args), "model": collections.OrderedDict(golden.state)})
    sides = [("", known.source_vocab_size)] if golden.is_lm else [
        (".aa", known.source_vocab_size), (".bb", known.target_vocab_size)]
    for tag, size in sides:
        words = "".join(f"w{i} 1\n" for i in range(size - 4))
        (tmp_path / f"dict{tag}.txt").write_text(words)
    convert.main([str(tmp_path / "model.pt"), str(tmp_path / "run")])
    convert.main([str(tmp_path / "run"), str(tmp_path / "back.pt")])
    back = read_pt(tmp_path / "back.pt")
    assert set(back["model"]) == set(golden.state)
    for key, value in golden.state.items():
        np.testing.assert_array_equal(back["model"][key], value, err_msg=key)
    assert fairseq_config.from_checkpoint(back).arch == known.fairseq.arch
