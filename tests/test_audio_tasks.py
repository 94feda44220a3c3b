"""Tasks of waveforms, from a folder of recordings to a model that is used: pretraining with drawn
masks, fine-tuning for CTC to few errors, and what a recogniser does."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, cast

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from tiny_run import metrics as read_metrics
from tone_speech import RATE, config_of, write_data

import seqjax
from seqjax import generate, models, score, tasks
from seqjax.config import ConfigError
from seqjax.data.epoch_plan import Shape
from seqjax.data.kneser_ney import write_arpa
from seqjax.data.sources import SourceError
from seqjax.interop.fairseq.export import save_fairseq
from seqjax.models.parts.row_draws import masked_count
from seqjax.tasks import metrics
from seqjax.tasks.protocol import with_model
from seqjax.tasks.symbol_errors import CtcEvaluator
from seqjax.training import train_loop

WAV2VEC = {"name": "wav2vec2", "quantize_targets": True, "latent_vars": 4, "latent_groups": 2,
           "final_dim": 8, "num_negatives": 5, "mask_length": 3, "mask_channel_prob": 0.2,
           "mask_channel_length": 4, "mask_prob": 0.65}
HUBERT = {"name": "hubert", "final_dim": 8, "mask_length": 3, "mask_prob": 0.8}
LOSSES = {"wav2vec": {"name": "wav2vec", "loss_weights": [0.1, 10.0]}, "hubert": {
    "name": "hubert", "loss_weights": [10.0]}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data")


def pretraining(data, kind, **changes):
    if kind == "wav2vec":
        return config_of(data, "audio_pretraining", WAV2VEC, loss=LOSSES[kind], **changes)
    task = {"labels": ["km", "kn"], "label_rate": 50.0, "pad_audio": True}
    return config_of(data, "hubert_pretraining", {**HUBERT, **changes.pop("model", {})},
                     loss=LOSSES[kind], task={**task, **changes.pop("task", {})}, **changes)


def parts_of(config):
    task = tasks.setup(config)
    model = models.build(config.model, **task.vocab_sizes, compute_dtype=jnp.float32)
    return with_model(task, model), model


def batch_of(dataset, ids, *, epoch=1, samples=1200):
    ids = np.array(ids)
    return dataset.at_epoch(epoch).materialise(
        ids, np.arange(len(ids)), Shape(len(ids) + 1, samples, 20))


# ---- what is drawn ----


def test_draws_are_a_function_of_seed_epoch_and_recording(data):
    task, model = parts_of(pretraining(data, "wav2vec"))
    dataset = task.train_dataset()
    first, other = batch_of(dataset, [0, 5, 7]), batch_of(dataset, [9, 5, 0, 3])
    drawn = [name for name in first if name.startswith("drawn_")]
    assert drawn == ["drawn_mask", "drawn_negatives", "drawn_channels"]
    for name in ("source", *drawn):
        np.testing.assert_array_equal(first[name][[0, 1]], other[name][[2, 1]])
        again = batch_of(dataset, [0, 5, 7], epoch=2)
        assert name == "source" or (again[name][0] != first[name][0]).any()
    assert first["drawn_mask"].shape == (4, model.frames(1200)) and first["drawn_mask"][0].any()
    assert not first["drawn_mask"][3].any()  # a row of padding
    seeded = dataclasses.replace(task, seed=2).train_dataset()
    assert (batch_of(seeded, [0])["drawn_mask"][0] != first["drawn_mask"][0]).any()


def test_negatives_are_of_the_own_row_and_of_any(data):
    """Numbers are of the whole batch; a frame is never its own negative."""
    config = pretraining(data, "wav2vec")
    for everywhere in (False, True):
        section = dataclasses.replace(config.model, cross_sample_negatives=4,
                                      negatives_from_everywhere=everywhere)
        task, model = parts_of(dataclasses.replace(config, model=section))
        batch = batch_of(task.train_dataset(), [0, 5, 7])
        found = np.asarray(model.drawn_of({k: jnp.asarray(v) for k, v in batch.items()}).negatives)
        count, frames = masked_count(model, 1200), model.frames(1200)
        width = frames if everywhere else count
        found = found.reshape(4, count, 9)
        for row in range(3):
            at = np.flatnonzero(batch["drawn_mask"][row])
            own = row * width + (at if everywhere else np.arange(len(at)))
            mine = found[row, :len(at)]
            assert (mine != own[:, None]).all()
            assert (mine[..., :5] // width == row).all()
            real = batch["drawn_frames"] if everywhere else batch["drawn_mask"].sum(1)
            assert (mine % width < real[mine // width]).all()
        assert len(np.unique(found[0, :, 5:] // width)) == 3


def test_labels_are_cut_and_rates_agree(data):
    config = pretraining(data, "hubert", task={"max_sample_size": 300})
    assert config.model.label_classes == (6, 8) and config.model.label_rate == 50.0
    assert config.model.sample_rate == RATE
    task, model = parts_of(config)
    batch = batch_of(task.train_dataset(), [0, 3], samples=304)
    assert batch["target"].shape == (3, 15) and (batch["target"][:2] >= 4).any()
    assert (batch["target"][2] == -1).all() and batch["drawn_mask"].shape == (3, model.frames(304))
    assert task.vocab_sizes["target_vocab_size"] == 14
    for changes, message in (
            ({"model": {"label_rate": 100.0}}, "config.model.label_rate: 100.0, but config.task"),
            ({"task": {"label_rate": -1.0}, "model": {"label_rate": 50.0}}, "label_rate: say how"),
            ({"task": {"labels": ["km", "km"]}}, "config.task.labels"),
            ({"task": {"fine_tuning": True}}, "config.task.fine_tuning: for one kind")):
        with pytest.raises(ConfigError, match=message):
            tasks.setup(pretraining(data, "hubert", **changes))


def test_a_recording_too_short_to_be_masked_is_named(data, tmp_path):
    (tmp_path / "train.tsv").write_text((data / "train.tsv").read_text() + "short.wav\t47\n")
    soundfile.write(data / "short.wav", np.zeros(47), RATE)
    config = pretraining(data, "wav2vec", task={"data": str(tmp_path), "enable_padding": True})
    dataset = parts_of(config)[0].train_dataset()
    with pytest.raises(ValueError, match=r"train.tsv: line 162: .*min_sample_size above 47"):
        batch_of(dataset, [160, 1], epoch=1)


@pytest.mark.parametrize("kind", ["wav2vec", "hubert"])
def test_pretraining_runs_and_resumes(data, kind, tmp_path):
    """Six updates are the same in one run and in two."""
    changes = {"train": {"max_update": 4, "update_freq": [2]}, "valid": {"every_updates": 2},
               "log": {"interval_updates": 1}}
    train_loop.train(pretraining(data, kind, **changes), workdir=str(tmp_path / "whole"))
    changes["train"] = {**changes["train"], "max_update": 2}
    train_loop.train(pretraining(data, kind, **changes), workdir=str(tmp_path / "parts"))
    changes["train"] = {**changes["train"], "max_update": 4}
    train_loop.train(pretraining(data, kind, **changes), workdir=str(tmp_path / "parts"))
    losses = [[line["loss"] for line in read_metrics(tmp_path / name, "train_inner")]
              for name in ("whole", "parts")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    valid = read_metrics(tmp_path / "whole", "valid")[-1]
    assert {"wav2vec": "accuracy", "hubert": "correct_m_1"}[kind] in valid
    model = seqjax.load(tmp_path / "whole", quiet=True)
    features = model.extract_features([str(data / "valid0.wav")], layer=1)
    assert features[0].shape[1] == 24
    assert model.evaluate("valid").values["loss"] == pytest.approx(valid["loss"], rel=0.3)
    with pytest.raises(AttributeError, match="none of the models that recognise speech"):
        model.transcribe("a.wav")


# ---- recognition ----


def recognition(data, **changes):
    model = {"name": "wav2vec_ctc", "feature_grad_mult": 1.0, **changes.pop("model", {})}
    return config_of(data, "audio_finetuning", model, loss={
        "name": "ctc", **changes.pop("loss", {})}, task={
            "labels": "ltr", **changes.pop("task", {})}, **changes)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train_loop.train(recognition(
        data, train={"max_update": 320, "lr": [0.003]}, log={"interval_updates": 100},
        valid={"every_updates": 320, "metric": "wer"}), workdir=str(folder))
    return folder


@pytest.fixture(scope="module")
def model(trained):
    return seqjax.load(trained, quiet=True)


def texts(data, split="valid"):
    return (data / f"{split}.wrd").read_text().splitlines()


def test_tones_are_learnt(trained, data):
    found = read_metrics(trained, "valid")[-1]
    assert found["wer"] < 20 and found["uer"] < 10 and found["raw_wer"] == found["wer"]
    assert found["loss"] < 0.5


def test_transcripts_are_what_was_said_and_when(model, data):
    paths = [str(data / f"valid{i}.wav") for i in range(8)]
    found = model.transcribe(paths)
    rate = metrics.wer(found, texts(data)).score
    assert rate < 20
    samples = soundfile.read(paths[3], dtype="float32")[0]
    assert model.transcribe(samples) == model.transcribe(paths[3]) == found[3]
    assert model.transcribe([samples, paths[0]]) == [found[3], found[0]]
    said = model.transcribe(paths[0], timestamps=True)
    assert said.text == found[0] == " ".join(w.word for w in said.words)
    assert said.words[0].start == pytest.approx(0.04, abs=0.04)
    assert all(a.end <= b.start for a, b in zip(said.words, said.words[1:], strict=False))
    assert said.words[-1].end < len(soundfile.read(paths[0])[0]) / RATE
    lprobs = model.log_probs([paths[0]])[0]
    np.testing.assert_allclose(np.exp(lprobs).sum(1), 1, atol=1e-5)
    assert len(model.generate(paths[:2], beam=4, nbest=3)[1]) == 3


def test_bad_recordings_and_options_are_named(model, data, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "short.wav", np.zeros(9), RATE)
    bad = np.zeros(400, np.float32)
    bad[7] = np.nan
    good = str(data / "valid0.wav")
    for audio, error, message in (
            (str(tmp_path / "none.wav"), FileNotFoundError, "none.wav: no such file"),
            ([good, str(tmp_path / "text.wav")], ValueError, "text.wav: cannot be read as sound"),
            ([good, str(tmp_path / "short.wav")], ValueError, "has 9 samples, but this model"),
            (bad, ValueError, "sample 7 is nan")):
        with pytest.raises(error, match=message):
            model.transcribe(audio)
    with pytest.raises(ConfigError, match="has no such option; it has .*lexicon"):
        model.transcribe(good, lenpen=1.0)
    with pytest.raises(ConfigError, match="nbest: 2, but this gives the best"):
        model.transcribe(good, nbest=2)
    with pytest.raises(ConfigError, match="none.arpa"):
        model.transcribe(good, lm="none.arpa")


def test_the_commands_take_paths(trained, data, tmp_path, capsys):
    paths = tmp_path / "paths"
    paths.write_text("".join(f"{data}/valid{i}.wav\n" for i in range(3)))
    out = tmp_path / "out.jsonl"
    generate.main(["--checkpoint", str(trained), "--input", str(paths), "--output", str(out),
                   "--format", "jsonl", "--timestamps", "--quiet"])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [x["source"] for x in lines] == paths.read_text().split()
    best = lines[0]["hypotheses"][0]
    assert best["text"] == " ".join(word["word"] for word in best["times"])
    write_arpa(texts(data, "train"), tmp_path / "lm.arpa", order=2)
    hypotheses = tmp_path / "hypotheses"
    generate.main(["--checkpoint", str(trained), "--data", str(data), "--subset", "valid",
                   "--output", str(hypotheses), "--lm-path", str(tmp_path / "lm.arpa"),
                   "--lm-weight", "0.1", "--unk-weight", "-1", "--word-score", "0", "--quiet"])
    capsys.readouterr()
    score.main(["--sys", str(hypotheses), "--ref", str(data / "valid.wrd"), "--metric", "wer",
                "cer", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["wer"]["score"] < 40 and found["cer"]["score"] < 20


def test_validations_count_as_fairseqs_criterion():
    """The best path's symbols, words by letters and bars, recordings without symbols too."""
    assert metrics.errors([[4, 5], [6], []], [[4, 6, 5], [], [7]]) == metrics.Errors(
        count=3, total=4)
    assert metrics.wer(["a b", "x"], ["a c d", "x"]).score == pytest.approx(50.0)
    assert metrics.cer(["ab c"], ["abc"]).score == pytest.approx(100 / 3)
    with pytest.raises(ValueError, match="references are all empty"):
        metrics.wer(["a"], [""])


def test_a_search_with_a_language_model_is_what_wer_counts(trained, data, tmp_path):
    """Its words are the lexicon's."""
    loaded = seqjax.load(trained, quiet=True)
    words = ["a", "ab", "cde"]
    write_arpa(words, tmp_path / "lm.arpa", order=1)
    (tmp_path / "lexicon").write_text("".join(f"{w} {' '.join(w)} |\n" for w in words))
    task = loaded.task
    loss = dataclasses.replace(
        task.loss, wer_kenlm_model=str(tmp_path / "lm.arpa"), wer_lm_weight=0.0,
        wer_word_score=0.0, wer_lexicon=str(tmp_path / "lexicon"))
    evaluator = CtcEvaluator(
        loaded.models[0], task.dataset("valid"), symbols=task.vocab, text=task.decode_target,
        boundary=task.boundary, loss=loss, limit=4)
    found = evaluator(loaded.params[0])
    assert len(found.samples) == 4 and found.values["wer"] > found.values["raw_wer"]
    assert {w for _, said, _ in found.samples for w in said.split()} <= set(words)


def test_fine_tuning_begins_with_a_pretrained_encoder_and_freezes_it(data, tmp_path):
    train_loop.train(pretraining(data, "hubert", model={"scan_unroll": 1}),
                     workdir=str(tmp_path / "hubert"))
    raw = {"name": "hubert_ctc", "freeze_finetune_updates": 2, "apply_mask": True,
           "mask_length": 2, "feature_grad_mult": 1.0}
    config = config_of(
        data, "hubert_pretraining", raw, loss={"name": "ctc", "zero_infinity": True},
        task={"labels": ["ltr"], "fine_tuning": True}, init_from=str(tmp_path / "hubert"),
        train={"max_update": 2}, checkpoint={"every_updates": 1, "keep_interval_updates": -1})
    assert "drawn_mask" in batch_of(parts_of(config)[0].train_dataset(), [0])
    assert "drawn_mask" not in parts_of(config)[0].dataset("valid").materialise(
        np.array([0]), np.array([0]), Shape(1, 1200, 20))
    train_loop.train(config, workdir=str(tmp_path / "ctc"))
    before = seqjax.load(tmp_path / "hubert", quiet=True).params[0]
    after = seqjax.load(tmp_path / "ctc", quiet=True)
    encoder = after.params[0]["w2v_encoder"]["w2v_model"]
    jax.tree.map(np.testing.assert_array_equal, encoder["encoder"], before["encoder"])
    assert np.abs(after.params[0]["w2v_encoder"]["proj"]["bias"]).max() > 0
    assert isinstance(after.transcribe(str(data / "valid0.wav")), str)


def test_a_file_of_fairseqs_with_its_dictionary_is_a_recogniser(tmp_path):
    """And without, a model that gives features."""
    golden = family_goldens.load("hubert_ctc/base")
    file, sizes = tmp_path / "ctc.pt", cast(Any, golden.sizes)
    size = sizes["target_vocab_size"]
    save_fairseq(file, golden.checkpoint.params, golden.config, **sizes, extra_args={
        "task": "audio_finetuning", "sample_rate": 1000, "labels": "ltr",
        "normalize": golden.config.normalize, "criterion": "ctc"})
    row = golden.arrays["samples"][0, :golden.arrays["lengths"][0]].astype(np.float32)
    plain = seqjax.load(file, quiet=True)
    assert not plain.generates
    symbols = ["|", *"abcdefghijklmnopqrstuvwxyz"][:size - 4]
    (tmp_path / "dict.ltr.txt").write_text("".join(f"{x} 1\n" for x in symbols))
    found = seqjax.load(file, quiet=True)
    np.testing.assert_allclose(found.log_probs(row), plain.log_probs(row), atol=1e-6)
    best = found.log_probs(row).argmax(1)
    letters = found.task.vocab.string(best[(np.diff(best, prepend=-1) != 0) & (best != 0)])
    assert found.transcribe(row) == " ".join(letters.replace(" ", "").replace("|", " ").split())


def test_a_model_with_a_decoder_writes_what_is_said(data, tmp_path):
    config = recognition(
        data, model={"name": "wav2vec_seq2seq", "decoder_embed_dim": 24, "decoder_layers": 1,
                     "decoder_ffn_embed_dim": 32, "decoder_attention_heads": 2},
        loss={"name": "label_smoothed_cross_entropy"},
        task={"autoregressive": True, "eval_wer": True}, valid={"metric": "wer"},
        generation={"beam": 2, "max_len_b": 8}, train={"max_update": 2}, )
    train_loop.train(config, workdir=str(tmp_path / "run"))
    found = read_metrics(tmp_path / "run", "valid")[-1]
    assert found["uer"] > 0 and found["wer"] > 0
    loaded = seqjax.load(tmp_path / "run", quiet=True)
    assert isinstance(loaded.transcribe([str(data / "valid0.wav")], beam=2)[0], str)


def test_what_contradicts_is_refused_before_anything_is_computed(data, tmp_path):
    for changes, message in (
            ({"task": {"labels": None}}, "config.task.labels: name the kind"),
            ({"task": {"normalize": True}}, "config.task.normalize: True, but config.model"),
            ({"task": {"eval_wer": True}}, "config.task.eval_wer: it is for models with a decod"),
            ({"task": {"autoregressive": True}}, "config.task.autoregressive: True, but the model"),
            ({"task": {"data": str(tmp_path / "no")}}, "no: no such folder"),
            ({"task": {"min_sample_size": 9, "max_sample_size": 3}}, "min_sample_size: 9 is more")):
        with pytest.raises(ConfigError, match=message):
            parts_of(recognition(data, **changes))
    with pytest.raises(FileNotFoundError, match="dict.phn.txt"):
        parts_of(recognition(data, task={"labels": "phn"}))
    lines = (data / "train.ltr").read_text().splitlines()
    for kind in ("tsv", "ltr"):
        (tmp_path / f"train.{kind}").write_text((data / f"train.{kind}").read_text())
    (tmp_path / "dict.ltr.txt").write_text((data / "dict.ltr.txt").read_text())
    (tmp_path / "train.ltr").write_text("\n".join(lines[:-1]) + "\n")
    task, _ = parts_of(recognition(data, task={"data": str(tmp_path)}))
    with pytest.raises(SourceError, match="lists 160 recordings, but .*train.ltr has 159"):
        task.train_dataset()
