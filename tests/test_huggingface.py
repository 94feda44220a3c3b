"""Folders of Hugging Face's transformers: read, used, written (seqjax/interop/huggingface)."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import folders_of_transformers as folders
import huggingface_goldens
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import seqjax
from seqjax import convert, models
from seqjax.checkpoints import CheckpointError
from seqjax.config import ConfigError, GenerationConfig
from seqjax.interop.huggingface import files, generation, weights
from seqjax.interop.torch.writer import write_pt
from seqjax.models.protocol import token_source

ENCODERS = [name for name in folders.CASES if not name.startswith("bart")]
FAMILIES = sorted({name.partition("/")[0] for name in huggingface_goldens.names()})


def load(path, **options):
    return seqjax.load(path, quiet=True, **options)


def rows_of(array, pad):
    return [row[row != pad] for row in array]


def describe(case):
    folder = folders.FOLDER / case
    return weights.describe(files.read_config(folder), files.read_tensors(folder))


# ---- numbers ----


@pytest.mark.parametrize("case", ENCODERS)
def test_encoders_give_the_states_and_logits_of_transformers(case):
    found, recorded = describe(case), folders.outputs(case)
    pad = files.read_config(folders.FOLDER / case)["pad_token_id"]
    special = {} if pad == 1 else {"pad": pad}
    size = found.source_vocab_size
    model = models.build(found.config, source_vocab_size=size, target_vocab_size=size,
                         compute_dtype=jnp.float32, **special)
    params = found.params()
    source = token_source(jnp.asarray(recorded["source"], jnp.int32), pad=pad)
    real = recorded["source"] != pad
    encoded = model.encode(params, source)
    np.testing.assert_allclose(
        np.asarray(encoded.out)[real], recorded["encoder"][real], atol=1e-4)
    if case.endswith("labels"):
        logits = model.class_logits(params, "sentence_classification_head", source)
        np.testing.assert_allclose(logits, recorded["logits"], atol=1e-4)
    elif "logits" in recorded:
        logits = np.asarray(model.features(params, encoded).logits())
        np.testing.assert_allclose(logits[real], recorded["logits"][real], atol=1e-4)
    else:
        with pytest.raises(ConfigError, match="no head that predicts masked words"):
            model.features(params, encoded)


def test_bart_classifies_as_transformers():
    found, recorded = describe("bart_labels"), folders.outputs("bart_labels")
    size = found.source_vocab_size
    model = models.build(found.config, source_vocab_size=size, target_vocab_size=size,
                         compute_dtype=jnp.float32)
    source = token_source(jnp.asarray(recorded["source"], jnp.int32), pad=1)
    logits = model.class_logits(found.params(), "sentence_classification_head", source)
    np.testing.assert_allclose(logits, recorded["logits"], atol=1e-4)


SEARCHES = {
    "greedy": {"beam": 1},
    "beam": {"beam": 4, "nbest": 4},
    "beam_early": {"beam": 3, "nbest": 3, "early_stopping": "true"},
    "beam_never": {"beam": 3, "nbest": 3, "early_stopping": "never", "lenpen": 2.0},
    "beam_short": {"beam": 3, "nbest": 3, "lenpen": 0.4, "min_len": 5,
                   "no_repeat_ngram_size": 2},
}
"""As SEARCHES of scripts/record_huggingface.py."""


def check_hypotheses(found, tokens, scores, *, pad, start=1):
    """Each row of `tokens` is a hypothesis, in the order of sentences and rank."""
    flat = [h for hypotheses in found for h in hypotheses]
    assert len(flat) == len(tokens)
    for number, (ours, theirs) in enumerate(zip(flat, tokens, strict=True)):
        theirs = theirs[start:]
        length = len(ours.tokens)
        assert list(ours.tokens) == list(theirs[:length]), number
        assert all(t in (pad, -1) for t in theirs[length:]), number
        if scores is not None:
            assert abs(ours.score - scores[number]) < 1e-4, number


@pytest.mark.parametrize("case", ["bart", "bart_forced"])
def test_bart_searches_as_transformers(case):
    model, recorded = load(folders.FOLDER / case), folders.outputs(case)
    assert type(model).__name__ == "Translator"
    sources = rows_of(recorded["source"], 1)
    found = model.log_probs(sources, list(recorded["prev"]))
    logits = recorded["logits"].astype(np.float64)
    lprobs = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(
        -1, keepdims=True)) - logits.max(-1, keepdims=True)
    real = recorded["prev"] != 1
    np.testing.assert_allclose(found[real], lprobs[real], atol=1e-4)
    for name, options in SEARCHES.items():
        check_hypotheses(
            model.generate(sources, max_len_b=12, **options), recorded[f"{name}/tokens"],
            recorded.get(f"{name}/scores"), pad=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_search_as_their_generation_config_says(family, tmp_path):
    for name in huggingface_goldens.names(family):
        folder = tmp_path / name.replace("/", "_")
        recorded = folders.of_family(name, folder)
        model = load(folder)
        pad = int(recorded["pad"])
        if "source" in recorded:
            inputs, more, start = rows_of(recorded["source"], pad), {}, 0
        else:
            inputs, more, start = rows_of(recorded["prompts"], pad), {}, None
        for kind, options in (("greedy", {"beam": 1}), ("beam", {})):
            found = [hypotheses[:1] for hypotheses in model.generate(inputs, **options, **more)]
            if start is None:  # outputs begin with their prompts
                for prompt, (best,) in zip(inputs, found, strict=True):
                    assert list(best.tokens[:len(prompt)]) == list(prompt), name
                    best.__dict__["tokens"] = best.tokens[len(prompt):]
            scores = recorded["beam_scores"] if kind == "beam" else None
            check_hypotheses(found, recorded[kind], scores, pad=pad, start=0)


# ---- files ----


def same_tensors(folder, other):
    ours, theirs = load_file(folder / "model.safetensors"), load_file(other / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


@pytest.mark.parametrize("case", ["bart", "bart_forced", "bart_half"])
def test_a_folder_comes_back_as_it_was(case, tmp_path):
    convert.main([str(folders.FOLDER / case), "--to", "hf", str(tmp_path / "out")])
    same_tensors(tmp_path / "out", folders.FOLDER / case)
    for name in ("config.json", "generation_config.json"):
        path = folders.FOLDER / case / name
        assert path.exists() == (tmp_path / "out" / name).exists()
        if path.exists():
            was, now = (json.loads((folder / name).read_text())
                        for folder in (folders.FOLDER / case, tmp_path / "out"))
            assert {key: now[key] for key in was} == was
            assert now.keys() - was.keys() <= {"normalize_before", "normalize_embedding"}
    assert not (tmp_path / "out" / "tokenizer.json").exists()


def test_by_way_of_a_folder_of_ours_and_in_shards(tmp_path):
    convert.main([str(folders.FOLDER / "bart_half"), str(tmp_path / "ours")])
    convert.main([str(tmp_path / "ours"), "--to", "hf", str(tmp_path / "out"),
                  "--max-shard-size", "6KB"])
    shards = sorted((tmp_path / "out").glob("model-*.safetensors"))
    assert len(shards) > 2 and all(f.stat().st_size < 13000 for f in shards)
    merged = {name: value for f in shards for name, value in load_file(f).items()}
    save_file(merged, tmp_path / "model.safetensors")
    same_tensors(tmp_path, folders.FOLDER / "bart_half")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == merged.keys()
    sources = [[9, 5, 2]]
    first = load(folders.FOLDER / "bart_half").generate(sources)
    second = load(tmp_path / "out").generate(sources)
    assert list(first[0][0].tokens) == list(second[0][0].tokens)
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=rf"the shard {shards[1].name} of .* is missing"):
        load(tmp_path / "out")


def test_old_names_are_read(tmp_path):
    folder = folders.copied("bart", tmp_path / "old")
    state = load_file(folder / "model.safetensors")
    for name in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight",
                 "lm_head.weight"):
        state[name] = state["model.shared.weight"]
    (folder / "model.safetensors").unlink()
    write_pt(folder / "pytorch_model.bin", state)
    want = load(folders.FOLDER / "bart").params[0]
    np.testing.assert_array_equal(
        want["encoder"]["embed_tokens"]["embedding"],
        load(folder).params[0]["encoder"]["embed_tokens"]["embedding"])
    del state["model.shared.weight"]
    write_pt(folder / "pytorch_model.bin", state)
    load(folder)
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    write_pt(folder / "pytorch_model.bin", state)
    with pytest.raises(ValueError, match="untied .*lm_head.weight"):
        load(folder)


def test_old_encoders_are_read():
    hf = files.read_config(folders.FOLDER / "bert")
    today = files.read_tensors(folders.FOLDER / "bert")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"): value for name, value in today.items()}
    old["bert.embeddings.position_ids"] = np.arange(24)[None]
    old["cls.predictions.decoder.weight"] = today["bert.embeddings.word_embeddings.weight"]
    old["cls.predictions.decoder.bias"] = today["cls.predictions.bias"]
    found = weights.describe(hf, old)
    for (path, ours), theirs in zip(
            _leaves(found.params()), _leaves(describe("bert").params()), strict=True):
        np.testing.assert_array_equal(ours, theirs[1], err_msg=str(path))


def _leaves(tree):
    import jax

    return jax.tree_util.tree_leaves_with_path(tree)


def test_every_encoder_comes_back_bit_for_bit():
    for case in ENCODERS:
        found, hf = describe(case), files.read_config(folders.FOLDER / case)
        kind = weights.choose(found.config, place=found.kind.place)
        bare = hf["architectures"][0] in ("RobertaModel", "BertModel")
        special = {"pad": hf["pad_token_id"]}
        state = weights.to_state(
            found.params(), found.config, kind, source_vocab_size=found.source_vocab_size,
            target_vocab_size=found.target_vocab_size, kept=found.kept(), dtypes=found.dtypes(),
            with_heads=not bare, **special)
        recorded = load_file(folders.FOLDER / case / "model.safetensors")
        assert state.keys() == recorded.keys(), case
        for name, value in recorded.items():
            assert state[name].dtype == value.dtype, (case, name)
            np.testing.assert_array_equal(state[name], value)
        said = kind.table.config_to(found.config)
        wrong = {k: v for k, v in said.items() if hf.get(k) not in (v, None)}
        assert not {k for k in wrong if k not in ("id2label", "label2id")}, case
    assert load_file(folders.FOLDER / "xlm_roberta" / "model.safetensors")[
        "lm_head.bias"].dtype == ml_dtypes.bfloat16


def test_fairseq_gets_a_folder_of_hugging_face(tmp_path, capsys):
    convert.main([str(folders.FOLDER / "bart"), "--to", "fairseq", str(tmp_path / "model.pt")])
    assert (tmp_path / "dict.txt").read_text().count("\n") == 36
    other = load(tmp_path / "model.pt", data=tmp_path)
    ours = load(folders.FOLDER / "bart")
    for (path, a), (_, b) in zip(_leaves(ours.params[0]), _leaves(other.params[0]), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=str(path))
    convert.main([str(tmp_path / "model.pt"), "--to", "hf", str(tmp_path / "again")])
    same_tensors(tmp_path / "again", folders.FOLDER / "bart")
    said = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (said["model_type"], said["architectures"]) == (
        "bart", ["BartForConditionalGeneration"])
    assert (said["decoder_start_token_id"], said["pad_token_id"]) == (2, 1)
    tokenizer = json.loads((tmp_path / "again" / "tokenizer.json").read_text())
    assert tokenizer["model"]["vocab"]["</s>"] == 2
    capsys.readouterr()
    assert convert.main(["keys", str(tmp_path / "again")]) == 0
    assert "model.shared.weight" in capsys.readouterr().out
    # The folder of a model.pt is known by itself.
    assert load(tmp_path).params[0].keys() == ours.params[0].keys()


def test_ctranslate2_converts_what_is_written(tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2", reason="the extra bench")
    pytest.importorskip("transformers", reason="the extra bench")
    pytest.importorskip("torch", reason="the extra bench")
    convert.main([str(folders.FOLDER / "bart"), "--to", "fairseq", str(tmp_path / "model.pt")])
    convert.main([str(tmp_path / "model.pt"), "--to", "hf", str(tmp_path / "out")])
    converter = ctranslate2.converters.TransformersConverter(str(tmp_path / "out"))
    converter.convert(str(tmp_path / "ct2"))
    ours = load(tmp_path / "out")
    words = ours.task.source_vocab.symbols
    found = ctranslate2.Translator(str(tmp_path / "ct2")).translate_batch(
        [[words[9], words[5], "</s>"]], beam_size=1, max_decoding_length=12)
    best = ours.generate([[9, 5, 2]], beam=1, max_len_b=11)[0][0]
    assert found[0].hypotheses[0] == [words[i] for i in best.tokens if i != 2]


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        convert.main([str(folders.FOLDER / "bart"), "--to", "hf", str(tmp_path / "out")])
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("size", ["5XB", "0GB", "much"])
def test_sizes_of_shards_are_checked(size, tmp_path):
    with pytest.raises(ConfigError, match="--max-shard-size"):
        convert.main([str(folders.FOLDER / "bart"), "--to", "hf", str(tmp_path / "out"),
                      "--max-shard-size", size])


# ---- names on the hub ----


def test_a_name_is_found_in_the_cache_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.list_repo_files", _no_network)
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    folders.copied("bart", snapshot)
    refs = tmp_path / "models--org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    model = load("hf:org/tiny")
    assert list(model.generate([[9, 5, 2]])[0][0].tokens) == list(
        load(folders.FOLDER / "bart").generate([[9, 5, 2]])[0][0].tokens)
    assert len(load("hf:org/tiny:hf:org/tiny@main").models) == 2
    with pytest.raises(CheckpointError, match=r"hf:org/other: is not in the cache .*reached"):
        load("hf:org/other")
    with pytest.raises(CheckpointError, match="give hf:org/name"):
        load("hf:a b")


def _no_network(*args, **options):
    raise OSError("no network")


# ---- wrong input ----


def changed(tmp_path, **values):
    folder = folders.copied("bart", tmp_path / "changed")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return folder


@pytest.mark.parametrize("values, message", [
    ({"model_type": "t5"}, r"model_type: 't5' is unknown; known ones are bart, bert, .*xglm"),
    ({"model_type": None}, r"has no model_type; known ones are bart"),
    ({"architectures": ["BartForCausalLM"]}, r"BartForCausalLM: of 'bart', .*BartModel.* are here"),
    ({"vocab_size": 41}, r"says vocab_size 41, but the embedding has 40 rows"),
    ({"activation_function": "mish"}, r"activation_function: 'mish' is not supported, only"),
    ({"normalize_before": True}, r"normalize_before: True is not supported, only False"),
    ({"d_model": 24}, r"weights do not fit the bart model"),
    ({"encoder_layers": 3}, r"missing .*model.encoder.layers.2.fc1.weight"),
    ({"eos_token_id": "x"}, r"eos_token_id: 'x' is no id"),
])
def test_what_a_configuration_may_not_say(values, message, tmp_path):
    folder = changed(tmp_path, **values)
    with pytest.raises(ValueError, match=message) as caught:
        load(folder)
    assert str(caught.value).startswith(str(folder))


def test_damaged_folders(tmp_path):
    folder = folders.copied("bart", tmp_path / "a")
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json: is not JSON"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config.json, which says"):
        load(folder)
    folder = folders.copied("bart", tmp_path / "b")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        load(folder)
    (folder / "tf_model.h5").write_bytes(b"")
    with pytest.raises(CheckpointError, match="weights of TensorFlow alone"):
        load(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no checkpoint: neither"):
        load(tmp_path / "empty")


def test_a_tensor_that_no_one_knows_is_named(tmp_path):
    folder = folders.copied("bart", tmp_path / "more")
    state = load_file(folder / "model.safetensors")
    save_file({**state, "model.encoder.extra": np.zeros(3, np.float32)},
              folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"unexpected +model.encoder.extra"):
        load(folder)


def test_a_tokenizer_of_another_model(tmp_path):
    folder = folders.copied("bart", tmp_path / "other")
    vocab = {word: i for i, word in enumerate(
        ["<s>", "<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(40))])}
    shutil.copyfile(folder / "config.json", folder / "config.json.bak")
    tokenizer = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer":
                 {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
                 "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match=r"tokenizer.json is not the model's: it has 44 symbols"):
        load(folder)
    tokenizer["model"]["vocab"] = {w: i for w, i in vocab.items() if i < 40}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    model = load(folder)
    assert list(model.encode("w3 w5")) == [7, 9, 2]
    assert model.decode([7, 9, 2]) == "w3 w5"
    convert.main([str(folder), "--to", "hf", str(tmp_path / "out")])
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (
        folder / "tokenizer.json").read_bytes()


# ---- generation_config.json ----


def section(given, **options):
    return generation.from_huggingface(given, **{"language_model": False, "start": None, **options})


def test_a_generation_configuration_is_honoured():
    found = section({
        "num_beams": 4, "max_length": 142, "min_length": 56, "length_penalty": 2.0,
        "no_repeat_ngram_size": 3, "early_stopping": True, "forced_bos_token_id": 0,
        "forced_eos_token_id": 2, "bad_words_ids": [[7], [8, 9]], "repetition_penalty": 1.2,
        "eos_token_id": [2, 5]}, start=1)
    assert found.section == {
        "rules": "transformers", "beam": 4, "nbest": 1, "lenpen": 2.0, "no_repeat_ngram_size": 3,
        "early_stopping": "true", "force_eos": True, "max_len_a": 0.0, "max_len_b": 140,
        "min_len": 55, "suppress_tokens": (7,), "bad_words_ids": ((8, 9),),
        "repetition_penalty": 1.2, "first_tokens": (0,), "bos_token": 1}
    assert found.ignored == ("eos_token_id [2, 5]: 2 alone ends an output",)


KEYS = """assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight
assistant_lookbehind bad_words_ids begin_suppress_tokens bos_token_id cache_config
cache_implementation compile_config constraints continuous_batching_config decoder_start_token_id
disable_compile diversity_penalty do_sample dola_layers early_stopping encoder_no_repeat_ngram_size
encoder_repetition_penalty eos_token_id epsilon_cutoff eta_cutoff exponential_decay_length_penalty
force_words_ids forced_bos_token_id forced_eos_token_id guidance_scale is_assistant length_penalty
low_memory max_cache_len max_length max_matching_ngram_size max_new_tokens max_time min_length
min_new_tokens min_p no_repeat_ngram_size num_assistant_tokens num_assistant_tokens_schedule
num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states output_logits
output_scores pad_token_id penalty_alpha prefill_chunk_size prompt_lookup_num_tokens
remove_invalid_values renormalize_logits repetition_penalty return_dict_in_generate sequence_bias
speculation_type stop_strings suppress_tokens target_lookbehind temperature token_healing top_h
top_k top_p transformers_version typical_p use_cache use_mtp watermarking_config""".split()
"""Of transformers 5.24's GenerationConfig."""
VALUES = {
    "bad_words_ids": [[7, 8]], "begin_suppress_tokens": [5], "suppress_tokens": [5],
    "early_stopping": True, "exponential_decay_length_penalty": [4, 1.1], "do_sample": True,
    "eos_token_id": [2, 5], "decoder_start_token_id": 4, "renormalize_logits": True,
    "stop_strings": ["."], "temperature": 0.5, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.5,
    "length_penalty": 0.5, "repetition_penalty": 1.5, "encoder_repetition_penalty": 1.5}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_honoured_or_named_or_changes_no_output(key):
    sampled = {"do_sample": True} if key in (
        "temperature", "top_k", "top_p", "min_p", "typical_p", "top_h", "epsilon_cutoff",
        "eta_cutoff") else {}
    without = section(sampled, start=None)
    start = 4 if key == "decoder_start_token_id" else None
    found = section({**sampled, key: VALUES.get(key, 7)}, start=start)
    honoured = found.section != without.section
    named = [phrase for phrase in found.ignored if phrase.startswith(key)]
    if key in generation.WITHOUT_EFFECT or key.startswith("output_"):
        assert not honoured and not found.ignored
    else:
        assert honoured != bool(named) or key == "eos_token_id"


def test_a_key_that_nobody_knows_is_named():
    assert section({"temprature": 0.5, "_from_model_config": True}).ignored == (
        "temprature 0.5, which is unknown here",)


def test_what_a_generation_configuration_does_not_say_is_as_in_transformers():
    assert section({}).section == {
        "rules": "transformers", "beam": 1, "nbest": 1, "lenpen": 1.0, "no_repeat_ngram_size": 0,
        "early_stopping": "false", "force_eos": False, "max_len_a": 0.0, "max_len_b": 19,
        "min_len": 0, "suppress_tokens": ()}
    sampled = section({"do_sample": True, "top_p": 0.9, "temperature": 0.7}).section
    assert (sampled["sampling"], sampled["sampling_topp"], sampled["temperature"]) == (
        True, 0.9, 0.7)
    assert section({"do_sample": True}).section["sampling_topk"] == 50


def test_a_search_is_written_as_it_is_read():
    given = {"num_beams": 4, "max_length": 60, "min_length": 7, "length_penalty": 0.8,
             "no_repeat_ngram_size": 3, "early_stopping": "never", "forced_bos_token_id": 9,
             "suppress_tokens": [4, 6], "bad_words_ids": [[5, 6, 7]], "repetition_penalty": 1.3,
             "begin_suppress_tokens": [8], "renormalize_logits": True,
             "exponential_decay_length_penalty": [4, 1.2], "encoder_no_repeat_ngram_size": 4}
    for more, options in (({}, {}), ({"max_new_tokens": 30}, {"language_model": True})):
        first = section({**given, **more}, **options).section
        written = generation.to_huggingface(
            GenerationConfig(**first), special={"eos_token_id": 2})
        assert section(written, **options).section == first
    sampled = section({"do_sample": True, "top_p": 0.5, "temperature": 0.7, "min_p": 0.1})
    again = section(generation.to_huggingface(
        GenerationConfig(**sampled.section), special={"eos_token_id": 2}))
    assert again == sampled
    ours = generation.to_huggingface(GenerationConfig(), special={"eos_token_id": 2})
    assert (ours["early_stopping"], ours["forced_eos_token_id"]) == (True, 2)


@pytest.mark.parametrize("given, message", [
    ({"num_beams": "4"}, "num_beams: '4' is no int"),
    ({"early_stopping": "maybe"}, "early_stopping: 'maybe'"),
    ({"length_penalty": True}, "length_penalty: True is no float"),
    ({"bad_words_ids": [3]}, r"bad_words_ids: \[3\] is no list of lists"),
    ({"suppress_tokens": [-1]}, "suppress_tokens: .*ids are 0 or more"),
    ({"exponential_decay_length_penalty": 3}, "exponential_decay_length_penalty: 3 is no pair"),
])
def test_wrong_generation_configurations(given, message):
    with pytest.raises(ConfigError, match=message):
        section(given)


def test_what_is_not_honoured_is_said(tmp_path):
    folder = folders.copied("bart", tmp_path / "warned")
    (folder / "generation_config.json").write_text(json.dumps({"penalty_alpha": 0.5}))
    with pytest.warns(UserWarning, match="not honoured: penalty_alpha 0.5"):
        load(folder)


def test_the_cache_of_the_hub_is_the_environments(monkeypatch):
    from seqjax.interop.huggingface import places

    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", "/somewhere")
    assert places._cache() == os.path.join("/somewhere", "hub")
    assert pathlib.Path("/somewhere").exists() is False
