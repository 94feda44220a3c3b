"""Folders of Hugging Face's models of waveforms: numbers of transformers, both ways, whole."""

from __future__ import annotations

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from seeded_weights import seeded_state

import seqjax
from seqjax import models
from seqjax.config import ConfigError
from seqjax.interop import reading
from seqjax.interop.huggingface import files
from seqjax.interop.huggingface.folder import write_folder
from seqjax.interop.huggingface.weights import choose, describe, to_state
from seqjax.models.protocol import Source

FOLDER = pathlib.Path(__file__).parent / "goldens" / "huggingface_speech"
CLASSES = sorted(path.stem for path in FOLDER.glob("*.npz"))
SEED = 11


def recorded(name):
    with np.load(FOLDER / f"{name}.npz") as found:
        arrays = dict(found)
    config = json.loads(str(arrays.pop("config")))
    shapes = {k: tuple(v) for k, v in json.loads(str(arrays.pop("shapes"))).items()}
    tensors = seeded_state(shapes, SEED)
    for key in [k for k in tensors if k.endswith("batch_norm.running_mean")]:
        tensors[key.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    return config, tensors, arrays


def samples():
    lengths = np.array([413, 377, 290])
    values = 0.5 * np.random.RandomState(1).standard_normal((len(lengths), lengths.max()))
    real = np.arange(lengths.max()) < lengths[:, None]
    return np.where(real, values, 0).astype(np.float32), real


def model_of(stored):
    return models.build(
        stored.config, source_vocab_size=0, target_vocab_size=stored.target_vocab_size,
        compute_dtype=jnp.float32)


@pytest.mark.parametrize("name", CLASSES)
def test_numbers_are_transformers_and_weights_go_both_ways(name):
    hf, tensors, arrays = recorded(name)
    stored = describe(hf, dict(tensors))
    params, model = stored.params(), model_of(stored)
    values, real = samples()
    # transformers' frames are wav2vec 2.0's, of HuBERT's models too; in data2vec's several
    # convolutions for positions rows see what those in front made of their padding.
    source = Source(
        values=values, mask=real if arrays["masked"] else np.ones_like(real),
        isolated=bool(arrays["masked"]) and not name.startswith("Data2Vec"))
    encoded = jax.jit(lambda p: model.encode(p, source))(params)
    out = encoded.out
    if name.endswith("ForCTC"):
        out = model.features(params, encoded).logits()
    seen = np.asarray(encoded.mask)
    np.testing.assert_allclose(np.asarray(out)[seen], arrays["out"][seen], atol=5e-5)
    sizes = {"source_vocab_size": 0, "target_vocab_size": stored.target_vocab_size}
    kind = choose(stored.config)
    assert kind.place == stored.kind.place
    back = to_state(params, stored.config, kind, with_heads=not name.endswith("Model"), **sizes)
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)
    assert kind.table.config_from({**kind.table.config_to(stored.config)}) == (
        kind.table.config_from(hf))


def test_quantized_targets_are_transformers():
    hf, tensors, arrays = recorded("Wav2Vec2ForPreTraining")
    stored = describe(hf, dict(tensors))
    params, model = stored.params(), model_of(stored)
    values, real = samples()

    def run(module):
        found = module.states(values, np.ones_like(real), audio_drawn(), None)
        quantized = module.quantizer(found["features"]).vectors
        states = module.encoder(found["x"], found["real"])
        return module.final_proj(states), module.project_q(quantized)

    projected, quantized = model._module.apply({"params": params}, method=run)
    np.testing.assert_allclose(projected, arrays["projected"], atol=5e-5)
    np.testing.assert_allclose(quantized, arrays["quantized"], atol=5e-5)


def audio_drawn():
    from seqjax.models.parts.audio import Drawn

    return Drawn()


def test_older_names_of_weight_norms_are_read():
    hf, tensors, _ = recorded("HubertModel")
    older = {k.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"): v for k, v in tensors.items()}
    assert older.keys() != tensors.keys()
    jax.tree.map(np.testing.assert_array_equal, describe(hf, older).params(),
                 describe(hf, tensors).params())


@pytest.mark.parametrize("name, changes, message", [
    ("Wav2Vec2Model", dict(add_adapter=True), "add_adapter"),
    ("Wav2Vec2ForCTC", dict(do_stable_layer_norm=False), "adapter_attn_dim"),
    ("Wav2Vec2Model", dict(conv_pos_batch_norm=True), "conv_pos_batch_norm"),
    ("HubertForCTC", dict(layer_norm_eps=1e-6), "layer_norm_eps"),
    ("HubertModel", dict(conv_kernel=[10, 3]), "conv_dim, conv_kernel, conv_stride")])
def test_what_is_not_here_is_refused_by_key(name, changes, message):
    hf, tensors, _ = recorded(name)
    with pytest.raises(ConfigError, match=message):
        describe({**hf, **changes}, tensors)


def test_folders_are_loaded_used_and_written(tmp_path):
    """Of a class with a group norm: a row is what it is alone; waveforms are normalised with
    transformers' epsilon, which tells in a quiet one."""
    hf, tensors, arrays = recorded("HubertForCTC")
    folder = tmp_path / "folder"
    folder.mkdir()
    files.write_json(folder / "config.json", hf)
    files.write_tensors(folder, tensors, max_shard_size=1 << 30)
    files.write_json(folder / "preprocessor_config.json", {"do_normalize": False})
    values, real = samples()
    m = seqjax.load(str(folder), quiet=True)
    row = m.log_probs(values[0])
    wanted = jax.nn.log_softmax(arrays["out"][0])
    np.testing.assert_allclose(row, wanted, atol=1e-4)
    both = m.log_probs([values[0], values[1][:377]])
    np.testing.assert_allclose(both[0], row, atol=1e-5)
    target = tmp_path / "written"
    write_folder(reading.read(str(folder)), target)
    assert (target / "preprocessor_config.json").read_bytes() == (
        folder / "preprocessor_config.json").read_bytes()
    again = files.read_tensors(target)
    assert again.keys() == tensors.keys()
    np.testing.assert_array_equal(seqjax.load(str(target), quiet=True).log_probs(values[0]), row)
    files.write_json(folder / "preprocessor_config.json", {"do_normalize": True})
    quiet = 3e-4 * values[0] / values[0].std()
    normed = seqjax.load(str(folder), quiet=True)
    assert normed.task.config.normalize_eps == 1e-7
    scaled = 0.687 * (values[0] - values[0].mean()) / values[0].std()
    np.testing.assert_allclose(normed.log_probs(quiet), m.log_probs(scaled), atol=1e-2)
    shutil.rmtree(target)


SPOKEN = json.loads((FOLDER / "transcripts.json").read_text())


@pytest.fixture(scope="module")
def hearing(tmp_path_factory):
    """A folder for each of transformers' tokenizers, with the same weights."""
    hf, tensors, _ = recorded("HubertForCTC")
    root = tmp_path_factory.mktemp("hearing")
    for name, spoken in SPOKEN.items():
        (root / name).mkdir()
        files.write_json(root / name / "config.json", hf)
        files.write_tensors(root / name, tensors, max_shard_size=1 << 30)
        files.write_json(root / name / "preprocessor_config.json", {"do_normalize": False})
        for file, text in spoken["files"].items():
            (root / name / file).write_text(text)
    return root


def test_transcripts_are_those_of_transformers(hearing, tmp_path):
    """Whatever the blank's number, with special symbols and with several spaces, as its pipeline
    writes them; also of a folder that was written again."""
    values, real = samples()
    rows = [row[mask] for row, mask in zip(values, real, strict=True)]
    for name, spoken in SPOKEN.items():
        m = seqjax.load(str(hearing / name), quiet=True)
        assert m.transcribe(rows) == spoken["texts"], name
    assert m.transcribe(rows[0]) == spoken["texts"][0]
    assert len({m.task.blank for m in map(seqjax.load, [str(hearing / n) for n in SPOKEN])}) == 2
    words = m.transcribe(rows[0], timestamps=True).words
    assert " ".join(w.word for w in words).lower() == " ".join(spoken["texts"][0].split())
    assert all(0 <= w.start <= w.end <= len(rows[0]) / 16000 for w in words)
    target = tmp_path / "written"
    write_folder(reading.read(str(hearing / name)), target)
    assert seqjax.load(str(target), quiet=True).transcribe(rows) == spoken["texts"]
    with pytest.raises(ConfigError, match="no data to evaluate"):
        m.evaluate("test", data=str(tmp_path))


def test_a_vocabulary_of_another_model_is_refused(hearing, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(hearing / "usual", folder)
    (folder / "vocab.json").unlink()
    silent = seqjax.load(str(folder), quiet=True)
    assert not hasattr(silent, "transcribe") and silent.log_probs(samples()[0][0]).shape[1] == 9
    listed = json.loads(SPOKEN["usual"]["files"]["vocab.json"])
    files.write_json(folder / "vocab.json", {**listed, "X": 9})
    with pytest.raises(ConfigError, match="vocab.json: 'X' is number 9, but the model has 9"):
        seqjax.load(str(folder), quiet=True)
    files.write_json(folder / "vocab.json", {"deu": listed, "fra": listed})
    with pytest.raises(ConfigError, match="target_lang 'eng', but for deu, fra"):
        seqjax.load(str(folder), quiet=True)
    said = json.loads((folder / "tokenizer_config.json").read_text())
    files.write_json(folder / "tokenizer_config.json", {**said, "target_lang": "fra"})
    assert seqjax.load(str(folder), quiet=True).task.vocab.symbols == sorted(
        listed, key=listed.__getitem__)
