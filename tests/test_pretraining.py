"""Whole runs of pretraining: they learn, go on bit for bit, and are used; fairseq's files too."""

from __future__ import annotations

import argparse
import functools
import json
import math
from typing import Any

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_noised_blocks import TASKS
from tiny_text import WORDS, config, write_text

import seqjax
from seqjax import checkpoints as ck
from seqjax import convert, tasks, train
from seqjax.config import ConfigError
from seqjax.generation.teacher_forcing import final_token_first
from seqjax.interop.fairseq import recipe as fairseq_recipe
from seqjax.interop.fairseq import start as fairseq_start
from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.writer import write_pt
from seqjax.settings import resolve
from seqjax.training import parts, sharding, train_loop


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_text(tmp_path_factory.mktemp("text"))
    write_text(folder / "aa", sentences=20, seed=1)
    write_text(folder / "bb", sentences=120, seed=2)
    return folder


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Runs see one of the virtual devices: they are many, and small."""
    make = sharding.make_mesh
    monkeypatch.setattr(sharding, "make_mesh",
                        functools.partial(make, devices=jax.devices()[:1]))


def run(workdir, data, name, **sections):
    task = {**TASKS[name], **sections.pop("task", {})}
    found = config(data, name, task=task, **sections)
    train_loop.train(found, workdir=str(workdir), start=fairseq_start.start_from(found))
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["group"] == "train"]


def params_of(workdir):
    return ck.read_params(ck.find(workdir, which="last"))


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", TASKS)
def test_a_run_learns_and_its_model_is_evaluated(data, tmp_path, name):
    reads = "masked_lm" in name and name != "span_masked_lm"
    log = run(tmp_path / "run", data, name, train={"max_update": 300 if reads else 40},
              valid={"every_epochs": 9, "decode": True}, log={"interval_updates": 50})
    first, last = log[0]["loss"], log[-1]["loss"]
    assert last < first - 0.5, (first, last)
    if reads:  # more than that all words are as frequent
        assert last < math.log2(WORDS) - 0.3, (first, last)
    model = seqjax.load(str(tmp_path / "run"))
    found = model.evaluate("valid", data=str(data))
    assert found.values["loss"] < first and found.tokens > 0
    assert not model.task.languages and model.task.config.data == str(data)


@pytest.mark.parametrize("name", ["masked_lm", "denoising", "multilingual_denoising"])
def test_a_run_that_was_stopped_inside_an_epoch_goes_on_bit_for_bit(data, tmp_path, name):
    options = {"train": {"max_update": 16}, "batching": {"max_tokens": 256},
               "checkpoint": {"every_updates": 8, "keep_last": 3}, "valid": {"enabled": False}}
    run(tmp_path / "whole", data, name, **options)
    run(tmp_path / "parts", data, name, **{**options, "train": {"max_update": 8}})
    record = ck.read_record(ck.find(tmp_path / "parts", which="last"))
    assert record.data["batch"] > 0, "it was stopped at the end of an epoch"
    run(tmp_path / "parts", data, name, **options)
    assert_same(params_of(tmp_path / "whole"), params_of(tmp_path / "parts"))


def test_the_recipe_with_flags_trains_on_a_small_folder(data, tmp_path, capsys):
    small = {"encoder_embed_dim": 8, "encoder_ffn_embed_dim": 8, "encoder_layers": 1,
             "encoder_attention_heads": 2, "max_positions": 32}
    train.main([
        "--config", "configs/roberta_base.py", "--workdir", str(tmp_path / "run"),
        f"--config.task.data={data}", "--config.task.tokens_per_sample=24",
        "--config.schedule.warmup_updates=1", "--config.task.mask_prob=0.3",
        "--config.train.max_update=2",
        "--config.train.update_freq=1", "--config.batching.max_sentences=16",
        "--config.valid.enabled=false", *(f"--config.model.{k}={v}" for k, v in small.items())])
    out = capsys.readouterr()
    assert "seqjax.evaluate" in out.out + out.err


def test_losses_and_tasks_that_do_not_fit_are_refused(data, tmp_path):
    with pytest.raises(ConfigError, match="mask_prob: gives masks, and only a loss that needs"):
        train_loop.train(config(data, "masked_lm", loss={"name": "cross_entropy"}),
                         workdir=str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="masked_lm needs masks, which neither the model bart"):
        train_loop.train(config(data, "denoising", loss={"name": "masked_lm"}),
                         workdir=str(tmp_path / "other"))


def test_blocks_that_are_longer_than_the_model_are_named(data, tmp_path):
    with pytest.raises(ConfigError, match="tokens_per_sample is 64, but the model takes 32"):
        run(tmp_path, data, "masked_lm", task={"tokens_per_sample": 64,
                                               "sample_break_mode": "none"})
    with pytest.raises(ConfigError, match="set config.task.max_source_positions=64"):
        run(tmp_path, data, "denoising", task={"tokens_per_sample": 64,
                                               "sample_break_mode": "none"})
    fitting = config(data, "denoising", task={
        **TASKS["denoising"], "tokens_per_sample": 64, "sample_break_mode": "none",
        "max_source_positions": 64})
    found: Any = parts.prepare(fitting)
    assert max(shape.source for _, shape in found.plan.shapes) == 64
    assert len(found.plan.ids) == len(found.dataset)


def test_the_final_token_comes_first_whichever_it_is():
    target = jnp.array([[5, 6, 2, 7, 9, 1], [8, 9, 1, 1, 1, 1]])
    assert final_token_first(target[:, 3:], pad=1).tolist() == [[9, 7, 1], [1, 1, 1]]
    segments = jnp.array([[1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 0]])
    assert final_token_first(target, segments, pad=1).tolist() == [
        [2, 5, 6, 9, 7, 1], [9, 8, 1, 1, 1, 1]]


# ---- fairseq ----


@pytest.fixture
def recorded(tmp_path):
    """Names a family's recorded `.pt` of a task, with its dictionary beside it."""

    def write(case, task, **args):
        golden = family_goldens.load(case)
        with np.load(family_goldens.FOLDER / f"{case}.npz") as file:
            about = json.loads(str(file["about"]))
        flat = {"arch": about["arch"], "task": task, "tokens_per_sample": 16,
                "max_source_positions": 20, "max_target_positions": 20, **about["args"], **args}
        entries = golden.checkpoint.source_vocab_size
        (tmp_path / "dict.txt").write_text("".join(f"w{i} 1\n" for i in range(entries - 5)))
        write_pt(tmp_path / "model.pt",
                 {"args": argparse.Namespace(**flat), "model": dict(golden.state)})
        return tmp_path / "model.pt", golden

    return write


def test_fairseqs_roberta_is_loaded_trained_on_and_given_back(recorded, tmp_path):
    path, golden = recorded("roberta/base", "masked_lm", mask_prob=0.3, criterion="masked_lm",
                            sample_break_mode="complete")
    model = seqjax.load(str(path))
    assert model.task.config.mask_prob == 0.3 and model.task.source_vocab.symbols[-1] == "<mask>"
    states, = model.features(["w3 w1 w4"])
    assert states.shape == (5, 8)  # <s> and </s> around them
    np.testing.assert_array_equal(model.encode("w3 w1 w4"), [0, 7, 5, 8, 2])
    convert.main([str(path), str(tmp_path / "ours")])
    convert.main([str(tmp_path / "ours"), str(tmp_path / "back.pt")])
    tree = read_pt(tmp_path / "back.pt")
    assert tree["args"]["task"] == "masked_lm" and tree["args"]["mask_prob"] == 0.3
    for name, value in golden.state.items():
        np.testing.assert_array_equal(tree["model"][name], value, err_msg=name)


def test_fairseqs_bart_is_loaded_by_its_task(recorded):
    path, golden = recorded("bart/shared", "denoising", mask=0.3, mask_length="span-poisson",
                            replace_length=1, rotate=0.0, permute_sentences=1)
    model = seqjax.load(str(path))
    assert model.task.config.permute_sentences == 1.0 and model.generates
    assert len(model.task.source_vocab) == golden.checkpoint.source_vocab_size
    (best,), = model.generate(["w3 <mask> w4"], beam=2, max_len_b=6)
    assert best.tokens[-1] == 2


def test_training_goes_on_from_fairseqs_weights(recorded, data, tmp_path):
    path, golden = recorded("roberta/base", "masked_lm")
    said = read_pt(path)["args"]
    model = {"name": "roberta", **{k: said[k] for k in said
                                   if k.startswith("encoder_") or k == "max_positions"}}
    options = {"model": model, "train": {"max_update": 2}, "init_from": str(path),
               "task": {"tokens_per_sample": 16}}
    with pytest.raises(ConfigError, match="is not the source dictionary"):
        run(tmp_path / "refused", data, "masked_lm", **options)
    run(tmp_path / "run", data, "masked_lm", **options, init_vocabulary="match",
        valid={"enabled": False})
    table = params_of(tmp_path / "run")["encoder"]["sentence_encoder"]["embed_tokens"]
    # Rows went by their words; `<mask>` is behind seven new ones.
    assert table["embedding"].shape == (WORDS + 5, 8)
    old = golden.checkpoint.params["encoder"]["sentence_encoder"]["embed_tokens"]["embedding"]
    for here, there in ((4, 4), (WORDS + 4, len(old) - 1)):
        np.testing.assert_allclose(table["embedding"][here], old[there], atol=0.03)


COMMANDS = {
    "masked_lm": ("--arch roberta_base --criterion masked_lm --mask-prob 0.2 --batch-size 8 "
                  "--leave-unmasked-prob 0.2 --random-token-prob 0.05 --mask-whole-words "
                  "--bpe sentencepiece --mask-multiple-length 2 --mask-stdev 1.0 "
                  "--freq-weighted-replacement --sample-break-mode complete",
                  dict(mask_prob=0.2, leave_unmasked_prob=0.2, random_token_prob=0.05,
                       mask_whole_words=True, bpe="sentencepiece", mask_multiple_length=2,
                       mask_stdev=1.0, freq_weighted_replacement=True,
                       sample_break_mode="complete", tokens_per_sample=64)),
    "denoising": ("--arch bart_base --criterion cross_entropy --batch-size 8 --mask 0.3 "
                  "--mask-random 0.1 --mask-length span-poisson --replace-length 1 "
                  "--poisson-lambda 3.5 --insert 0.1 --rotate 0.2 --permute-sentences 1",
                  dict(mask=0.3, mask_random=0.1, mask_length="span-poisson", replace_length=1,
                       poisson_lambda=3.5, insert=0.1, rotate=0.2, permute_sentences=1.0)),
    "multilingual_denoising": (
        "--arch mbart_base --batch-size 8 --langs de,en --add-lang-token --mask 0.3 "
        "--multilang-sampling-alpha 0.7 --no-whole-word-mask-langs en",
        dict(langs=("de", "en"), add_lang_token=True, mask=0.3, multilang_sampling_alpha=0.7,
             no_whole_word_mask_langs=("en",))),
    "multilingual_masked_lm": (
        "--arch roberta_base --criterion masked_lm --batch-size 8 --multilang-sampling-alpha 0.3",
        dict(multilang_sampling_alpha=0.3, sample_break_mode="complete")),
    "span_masked_lm": (
        "--arch bart_base --batch-size 8 --noise-density 0.2 --mean-noise-span-length 2",
        dict(noise_density=0.2, mean_noise_span_length=2.0)),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_fairseqs_commands_are_understood(name):
    words, wanted = COMMANDS[name]
    if name == "multilingual_denoising":
        words = words.replace("mbart_base", "bart_base")
    recipe = fairseq_recipe.from_command(
        f"fairseq-train data-bin --task {name} --tokens-per-sample 64 {words}")
    assert not recipe.unsupported, recipe.unsupported
    found = resolve(recipe.raw).task
    assert type(found) is tasks.TASKS[name].config
    for key, value in wanted.items():
        assert getattr(found, key) == value, key
    multilingual = name.startswith("multilingual")
    assert recipe.raw["batching"]["mode"] == ("bucketed" if multilingual else "fairseq")


def test_what_fairseq_takes_and_has_no_use_for_is_named():
    recipe = fairseq_recipe.from_command(
        "fairseq-train d --task denoising --arch bart_base --batch-size 8 --permute 0.3 "
        "--shuffle-instance 0.5")
    assert any("--permute" in line for line in recipe.unneeded)
    assert any("--shuffle-instance" in line for line in recipe.unneeded)
