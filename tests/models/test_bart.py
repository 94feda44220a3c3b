"""What is peculiar to BART: its defaults, how it begins, and what its files hold besides the
transformer's weights; what every model does is in test_conformance.py."""

from __future__ import annotations

import argparse
import dataclasses
import json

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import hub, models, tasks
from seqjax.config import ConfigError
from seqjax.interop.fairseq import start as fairseq_start
from seqjax.interop.fairseq.checkpoint import from_tree, to_state
from seqjax.interop.fairseq.export import namespace
from seqjax.interop.torch.writer import write_pt
from seqjax.interop.weights import WeightsError
from seqjax.models.overrides import resolved
from seqjax.models.protocol import token_source
from seqjax.training import initial_weights

GOLDENS = family_goldens.FOLDER / "bart"


@pytest.mark.parametrize("case", family_goldens.names("bart"))
def test_begins_as_bert_does(case):
    """Kernels and embeddings N(0, 0.02), biases and padding's rows zero, norms one."""
    params = jax.jit(family_goldens.load(case).model.init)(jax.random.key(0))
    drawn = []
    for path, value in jax.tree_util.tree_leaves_with_path(params):
        name = path[-1].key
        if name == "bias":
            assert not np.any(value), path
        elif name == "scale":
            assert np.all(value == 1), path
        else:
            drawn.append(np.asarray(value).ravel())
            assert name != "embedding" or not np.any(value[1]), path
    drawn = np.concatenate(drawn)
    assert 0.019 < drawn[drawn != 0].std() < 0.021
    assert all(abs(one.std() - 0.02) < 0.01 for one in np.array_split(drawn, 8))


def test_defaults_are_fairseqs():
    recorded = json.loads((GOLDENS / "archs.json").read_text(encoding="utf-8"))
    cls = models.CONFIGS["bart"]
    known = {f.name for f in dataclasses.fields(cls)}
    for arch, values in recorded.items():
        family, given = models.ARCHS[arch]
        given = {"arch": arch, **given}
        cls.follow(given)
        cfg = resolved(cls(**given))
        for key, value in values.items():
            if key in known:
                assert family == "bart" and getattr(cfg, key) == value, (arch, key)
    assert recorded.keys() == models.FAMILIES["bart"].archs.keys()
    assert {key for values in recorded.values() for key in values} - known == {"relu_dropout"}


def test_a_file_names_an_architecture_that_fairseq_has():
    assert namespace(models.CONFIGS["bart"](), {})["arch"] == "bart_large"
    assert namespace(models.CONFIGS["bart"](arch="bart_base"), {})["arch"] == "bart_base"


def checkpoint(case="bart/shared", **args):
    """The recorded file, with other keys."""
    golden = family_goldens.load(case)
    with np.load(family_goldens.FOLDER / f"{case}.npz") as file:
        about = json.loads(str(file["about"]))
    return {"args": {"arch": about["arch"], "task": "denoising", "max_source_positions": 20,
                     "max_target_positions": 20, **about["args"], **args},
            "model": dict(golden.state)}


def test_files_without_the_tied_copies_are_read():
    """The first ones had no output_projection."""
    tree = checkpoint()
    del tree["model"]["decoder.output_projection.weight"]
    found = from_tree(tree)
    jax.tree.map(np.testing.assert_array_equal, found.params,
                 family_goldens.load("bart/shared").checkpoint.params)


def test_heads_are_the_models_own():
    """As many and as wide as the weights say; they go back bit for bit."""
    tree = checkpoint(pooler_dropout=0.1, pooler_activation_fn="relu")
    rng = np.random.default_rng(0)
    width = tree["model"]["encoder.embed_tokens.weight"].shape[1]
    heads = {}
    for name, classes, inner in (("rte", 2, width), ("mnli", 3, 5)):
        for part, shape in (("dense", (inner, width)), ("out_proj", (classes, inner))):
            heads[f"classification_heads.{name}.{part}.weight"] = rng.normal(
                size=shape).astype(np.float32)
            heads[f"classification_heads.{name}.{part}.bias"] = rng.normal(
                size=shape[0]).astype(np.float32)
    tree["model"] |= heads
    found = from_tree(tree)
    assert found.config.classification_heads == {"rte": 2, "mnli": 3}
    assert found.config.classification_inner_dims == {"mnli": 5}
    assert found.config.pooler_dropout == 0.1 and found.config.pooler_activation_fn == "relu"
    written = to_state(found.params, found.config, kept=found.kept, source_vocab_size=18,
                       target_vocab_size=18)
    assert written.keys() == tree["model"].keys()
    assert all(np.array_equal(written[name], heads[name]) for name in heads)
    assert not {"classification_heads", "classification_inner_dims"} & namespace(
        found.config, {}).keys()


def test_a_head_without_some_of_its_weights_is_refused():
    tree = checkpoint()
    tree["model"]["classification_heads.mnli.dense.bias"] = np.ones(3, np.float32)
    with pytest.raises(WeightsError, match=r"unexpected +classification_heads.mnli.dense.bias"):
        from_tree(tree)


@pytest.mark.parametrize("key, value", [("quant_noise_pq", 0.1)])
def test_what_only_training_saw_is_said_to_be_left_out(key, value):
    with pytest.warns(UserWarning, match=f"{key}={value!r}"):
        from_tree(checkpoint(**{key: value}))


@pytest.mark.parametrize("key, value", [("spectral_norm_classification_head", True),
                                        ("base_layers", 1)])
def test_what_is_not_here_is_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        from_tree(checkpoint(**{key: value}))


def fine_tuning(folder, words, **more):
    """A translation run that begins with a BART of the words of `dict.txt` and `<mask>`."""
    for place in ("bart", "data"):
        (folder / place).mkdir()
    known = [f"w{i}" for i in range(13)]
    (folder / "bart" / "dict.txt").write_text("".join(f"{word} 1\n" for word in known))
    for lang in ("de", "en"):
        (folder / "data" / f"dict.{lang}.txt").write_text("".join(f"{w} 1\n" for w in words(known)))
    tree = checkpoint()
    path = str(folder / "bart" / "model.pt")
    write_pt(path, {**tree, "args": argparse.Namespace(**tree["args"])})
    given = json.loads(json.dumps(tree["args"]))
    keys = {f.name for f in dataclasses.fields(models.CONFIGS["bart"])}
    config = hub.resolve({
        "task": {"name": "translation", "data": str(folder / "data"), "source_lang": "de",
                 "target_lang": "en"},
        "model": {"name": "bart", **{k: v for k, v in given.items() if k in keys}},
        "init_from": path, **more})
    return initial_weights.of_start(
        fairseq_start.start_from(config), config, tasks.setup(config))


def test_fine_tuning_leaves_out_the_row_of_mask(tmp_path):
    """As fairseq does where the dictionary of the new data is that of the old one."""
    params, lines = fine_tuning(tmp_path, lambda known: known)
    before = family_goldens.load("bart/shared").checkpoint.params
    table = before["encoder"]["embed_tokens"]["embedding"]
    ours = params["encoder"].pop("embed_tokens")["embedding"]
    np.testing.assert_array_equal(ours, table[:-1])
    jax.tree.map(np.testing.assert_array_equal, params,
                 {**before, "encoder": {k: v for k, v in before["encoder"].items()
                                        if k != "embed_tokens"}})
    assert lines and "17" in lines[0]


def test_fine_tuning_keeps_mask_where_the_data_have_it(tmp_path):
    params, _ = fine_tuning(tmp_path, lambda known: [*known, "<mask>"])
    jax.tree.map(np.testing.assert_array_equal, params,
                 family_goldens.load("bart/shared").checkpoint.params)


def test_fine_tuning_on_other_words_is_refused_or_moves_rows(tmp_path):
    with pytest.raises(ConfigError, match="is not the source dictionary"):
        fine_tuning(tmp_path, lambda known: ["new", *known])
    other = tmp_path / "matched"
    other.mkdir()
    params, _ = fine_tuning(other, lambda known: ["new", *known], init_vocabulary="match")
    table = family_goldens.load("bart/shared").checkpoint.params["encoder"]["embed_tokens"]
    np.testing.assert_array_equal(
        params["encoder"]["embed_tokens"]["embedding"][5:], table["embedding"][4:17])


def test_one_of_a_task_that_is_not_here_is_refused_with_what_can_be_done(tmp_path):
    tree = checkpoint(task="translation_lev")
    write_pt(tmp_path / "model.pt", {**tree, "args": argparse.Namespace(**tree["args"])})
    with pytest.raises(ConfigError, match="its task is 'translation_lev'.*config.init_from"):
        hub.load(str(tmp_path / "model.pt"), data=str(tmp_path))


def test_one_that_translates_is_used_as_any_other(tmp_path):
    tree = checkpoint(task="translation", source_lang="de", target_lang="en")
    write_pt(tmp_path / "model.pt", {**tree, "args": argparse.Namespace(**tree["args"])})
    for lang in ("de", "en"):
        (tmp_path / f"dict.{lang}.txt").write_text("".join(f"w{i} 1\n" for i in range(14)))
    model = hub.load(str(tmp_path / "model.pt"))
    (best, other), = model.generate(["w3 w1 w4"], beam=2, nbest=2, max_len_b=6)
    golden = family_goldens.load("bart/shared")
    source = jnp.asarray([[7, 5, 8, 2]])
    tokens = jnp.asarray(best.tokens)[None]
    prev = jnp.concatenate([jnp.asarray([[2]]), tokens[:, :-1]], axis=1)
    encoded = golden.model.encode(golden.params, token_source(source, pad=1))
    lprobs = jax.nn.log_softmax(golden.model.features(golden.params, prev, encoded).logits())
    picked = np.take_along_axis(np.asarray(lprobs)[0], np.asarray(best.tokens)[:, None], 1)
    np.testing.assert_allclose(best.score, picked.mean(), atol=1e-4)
    assert best.score >= other.score
