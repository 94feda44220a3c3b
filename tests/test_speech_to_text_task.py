"""The task speech_to_text from tables of features to texts: training, validation, checkpoints and
what a loaded model does, with a conformer whose encoder has a CTC loss of its own."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from tiny_run import metrics, resolve

import seqjax
from seqjax import checkpoints as ck
from seqjax import convert, generate, interactive
from seqjax.config import ConfigError
from seqjax.interop.fairseq import start as fairseq_start
from seqjax.training import initial_state, parts, train_loop
from seqjax.training.checkpoints import Checkpoints, read_state

WORDS = ("red", "green", "blue", "old", "new")
FEATURES = 6
MODEL = {
    "name": "s2t_conformer", "encoder_embed_dim": 8, "encoder_ffn_embed_dim": 12,
    "encoder_layers": 1, "encoder_attention_heads": 2, "decoder_layers": 1,
    "decoder_attention_heads": 2, "conv_channels": 8, "depthwise_conv_kernel_size": 3,
    "attn_type": "espnet", "pos_enc_type": "rope", "dropout": 0.1}


def write_data(folder, *, tags: bool = False):
    """Recordings in which each word is a few frames of its own."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    sounds = rng.normal(size=(len(WORDS), FEATURES))
    for split, count in (("train", 12), ("valid", 4)):
        lines = ["\t".join(("id", "audio", "n_frames", "tgt_text", "tgt_lang"))]
        for i in range(count):
            said = rng.integers(len(WORDS), size=int(rng.integers(1, 4)))
            frames = np.repeat(sounds[said], 12, axis=0) + 0.1 * rng.normal(
                size=(12 * len(said), FEATURES))
            path = folder / f"{split}{i}.npy"
            np.save(path, frames.astype(np.float32))
            text = " ".join(WORDS[w] for w in said)
            lines.append("\t".join((f"{split}{i}", path.name, str(len(frames)), text,
                                    "de" if i % 2 else "fr")))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    words = [*(["<lang:de>", "<lang:fr>"] if tags else []), *WORDS]
    (folder / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
    (folder / "config.yaml").write_text(
        f"audio_root: {folder}\ninput_feat_per_channel: {FEATURES}\n"
        + ("prepend_tgt_lang_tag: true\n" if tags else "")
        + "transforms:\n  '*': [utterance_cmvn]\n")
    return folder


def config_of(data, **changes):
    raw = {
        "task": {"name": "speech_to_text", "data": str(data), "scoring": "wer"},
        "model": MODEL, "loss": {"name": "label_smoothed_cross_entropy_with_ctc",
                                 "ctc_weight": 0.3},
        "train": {"max_update": 3, "lr": [0.01], "update_freq": [2], "compute_dtype": "float32"},
        "schedule": {"name": "fixed", "warmup_updates": 0},
        "optimizer": {"name": "adam", "weight_decay": 0.1},
        "batching": {"mode": "bucketed", "max_tokens": 320, "num_shapes": 1, "backend": "numpy"},
        "valid": {"every_updates": 3, "decode": True, "decode_sentences": 3, "metric": "wer"},
        "generation": {"beam": 2, "max_len_b": 6}, "log": {"interval_updates": 1},
    }
    for name, values in changes.items():
        raw[name] = {**raw.get(name, {}), **values}
    return resolve(raw)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data = write_data(tmp_path_factory.mktemp("corpus") / "data")
    config = config_of(data)
    folder = tmp_path_factory.mktemp("run")
    train_loop.train(config, workdir=str(folder))
    return data, config, folder


def test_a_run_learns_measures_and_keeps_its_statistics(trained):
    data, config, folder = trained
    lines = metrics(folder, "train_inner")
    assert len(lines) == 3 and all(line["ctc_loss"] > 0 for line in lines)
    assert all(line["loss"] > line["nll_loss"] for line in lines)
    valid = metrics(folder, "valid")
    assert 0 < valid[-1]["wer"] and "bleu" not in valid[-1]
    # The model follows config.yaml and the loss.
    assert config.model.input_feat_per_channel == FEATURES and config.model.ctc_weight == 0.3
    made = parts.prepare(config)
    state = read_state(ck.find(folder, which="last"), initial_state.abstract_state(made))
    there = state.params["encoder"]["layers"]
    kept = state.extra["encoder"]["layers"]
    for name in ("running_mean", "running_var"):
        own = np.asarray(there["conv_module"]["batch_norm"][name])
        np.testing.assert_array_equal(own, kept["conv_module"]["batch_norm"][name])
        assert np.abs(own - (name == "running_var")).max() > 1e-3
    # Weight decay has not moved what is no parameter of fairseq's.
    from seqjax.models.s2t_transformer.conformer import rotary_frequencies
    np.testing.assert_array_equal(
        there["self_attn"]["rotary_emb"]["inv_freq"][0], rotary_frequencies(4))


def test_a_loaded_model_transcribes(trained, tmp_path, capsys):
    data, _, folder = trained
    model = seqjax.load(str(folder))
    paths = [str(data / f"valid{i}.npy") for i in range(4)]
    texts = model.transcribe(paths)
    assert len(texts) == 4 and all(set(text.split()) <= set(WORDS) for text in texts)
    assert model.transcribe(paths[2]) == texts[2]
    found = model.generate(paths, nbest=2)
    alone = model.generate(paths[1:2], nbest=2)[0]
    for h, other in zip(found[1], alone, strict=True):  # whatever it is batched with
        assert h.tokens.tolist() == other.tokens.tolist()
        np.testing.assert_allclose(h.score, other.score, atol=1e-5)
    # Scores are those of the log-probabilities; states are of a quarter of the frames.
    features = model.features(paths[1])
    previous = [2, *found[1][0].tokens[:-1].tolist()]
    (lprobs,) = model.log_probs([features], [previous])
    np.testing.assert_allclose(
        lprobs[np.arange(len(previous)), found[1][0].tokens], found[1][0].positional_scores,
        atol=1e-4)
    np.testing.assert_array_equal(model.log_probs(features, previous), lprobs)
    assert model.extract_features(features).shape == (-(-len(features) // 4), 8)
    assert model.extract_features([features], layer=1)[0].shape[1] == 8
    generate.main(["--checkpoint", str(folder), "--data", str(data), "--subset", "valid",
                   "--output", str(tmp_path / "out.txt"), "--quiet"])
    assert (tmp_path / "out.txt").read_text().splitlines() == texts
    generate.main(["--checkpoint", str(folder), "--data", str(data), "--subset", "valid",
                   "--format", "fairseq", "--quiet", "--scoring", "bleu"])
    said = capsys.readouterr().out
    assert "Generate valid with beam=2" in said
    lines = tmp_path / "paths"
    lines.write_text(f"{paths[0]}\n{tmp_path / 'nowhere.wav'}\n{paths[1]}\n")
    interactive.main(["--checkpoint", str(folder), "--input", str(lines), "--quiet"])
    said = capsys.readouterr()
    assert said.out.splitlines() == [texts[0], "", texts[1]] and "line 2" in said.err
    evaluated = model.evaluate("valid")
    assert evaluated.values["loss"] > 0


def test_language_tags_begin_outputs(tmp_path):
    data = write_data(tmp_path / "data", tags=True)
    with pytest.raises(ConfigError, match="ignore_prefix_size"):
        parts.prepare(config_of(data))
    config = config_of(data, loss={"ignore_prefix_size": 1}, train={"max_update": 1},
                       valid={"enabled": False, "metric": "loss"}, model={"attn_type": None,
                                                          "pos_enc_type": "abs"})
    train_loop.train(config, workdir=str(tmp_path / "run"))
    model = seqjax.load(str(tmp_path / "run"))
    assert model.langs == ("de", "fr")
    with pytest.raises(ConfigError, match="name one of de, fr"):
        model.transcribe(str(data / "valid0.npy"))
    found = model.generate([str(data / "valid0.npy")], target_lang="fr")[0][0]
    tag = model.task.target_vocab.index("<lang:fr>")
    assert found.tokens[0] == tag and "lang" not in found.text


def test_another_language_begins_with_the_encoder(trained, tmp_path):
    """Of a folder of ours, and of fairseq's file: another dictionary, another decoder."""
    data, config, folder = trained
    other = write_data(tmp_path / "data", tags=True)
    convert.main([str(folder), str(tmp_path / "asr.pt")])
    found = {}
    for source in (str(folder), str(tmp_path / "asr.pt")):
        made = parts.prepare(dataclasses.replace(
            config_of(other, loss={"ignore_prefix_size": 1}, model={"decoder_layers": 2}),
            init_from=source, init_parts="encoder"))
        start = fairseq_start.start_from(made.config)
        with Checkpoints(tmp_path / "new", made.config.checkpoint) as saved:
            state = initial_state.begin(
                made, initial_state.abstract_state(made), saved=saved, start=start)
        assert "what stands behind it is new" in state.origin
        found[source] = jax.device_get(state.state.params)
    ours, theirs = found.values()
    jax.tree.map(np.testing.assert_array_equal, ours["decoder"], theirs["decoder"])
    old = seqjax.load(str(folder)).params[0]["encoder"]
    for params in (ours, theirs):
        assert params["encoder"]["ctc_proj"]["kernel"].shape == (8, 11)
        assert params["decoder"]["layers"]["fc1"]["kernel"].shape[0] == 2
        kept = {k: v for k, v in params["encoder"].items() if k != "ctc_proj"}
        jax.tree.map(np.testing.assert_array_equal, kept,
                     {k: v for k, v in old.items() if k != "ctc_proj"})


def test_encoders_that_are_not_taken(trained, tmp_path):
    data, config, folder = trained
    wrong = dataclasses.replace(config, init_parts="encoder")
    with pytest.raises(ConfigError, match="init_parts=encoder: says what is taken of"):
        initial_state.check(wrong)
    with pytest.raises(ConfigError, match="no word's row is taken"):
        initial_state.check(dataclasses.replace(
            wrong, init_from=str(folder), init_vocabulary="match"))
    convert.main([str(folder), str(tmp_path / "asr.pt")])
    wider = dataclasses.replace(config_of(data, model={"encoder_ffn_embed_dim": 16}),
                                init_from=str(tmp_path / "asr.pt"), init_parts="encoder")
    with pytest.raises(ValueError, match="encoder_ffn_embed_dim: 12 there, 16 here"):
        fairseq_start.start_from(wider)


def test_what_cannot_be_heard_is_refused(trained):
    data, _, folder = trained
    model = seqjax.load(str(folder))
    with pytest.raises(ValueError, match="are too short"):
        model.transcribe(np.zeros(100, np.float32))
    with pytest.raises(ValueError, match=r"reads \[frames, 6\]"):
        model.transcribe(np.zeros((40, 5), np.float32))
    with pytest.raises(ValueError):
        model.transcribe(np.full(4000, np.nan, np.float32))
