"""Whatever a loaded model is given, errors say what it was and what belongs there."""

from __future__ import annotations

import inspect
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import resolve, write_data

import seqjax
from seqjax import checkpoints as ck
from seqjax import models, tasks
from seqjax.config import ConfigError, to_plain
from seqjax.hub import arguments
from seqjax.training import optimizers, state
from seqjax.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    return write_checkpoint(root / "run", write_data(root / "data-bin"))


@pytest.fixture(scope="module")
def model(run):
    return seqjax.load(run)


NOT_LISTS = ["aa1", b"aa1", None, 7, 7.5, {"aa1": 1}, {"aa1"}, np.array([4, 2]), True]
NOT_ITEMS = [[b"aa1"], [None], [7], [7.5], [{"a": 1}], [[1.5, 2.0]], [["aa1"]], [[None]],
             [[[4, 2]]], [True], [[True]], [{4, 2}]]
NOT_IDS = [[[4, 99, 2]], [[-1, 2]], [[]]]
ONE_LIST = ["generate", "trie", "translate"]
TWO_LISTS = ["score", "align", "log_probs"]


def refuse(call, *args, **options):
    """The error, which must be one that explains itself."""
    with pytest.raises((TypeError, ValueError)) as error:
        found = call(*args, **options)
        if inspect.isgenerator(found):
            list(found)
    text = str(error.value)
    assert "\n" not in text and ":" in text
    assert not any(word in text for word in ("object is not", "no len()", "ufunc", "index out"))
    return text


@pytest.mark.parametrize("name", [*ONE_LIST, "stream"])
def test_one_list(model, name):
    call = getattr(model, name)
    for value in NOT_LISTS:
        if name == "translate" and isinstance(value, str):
            continue
        assert "give a list of" in refuse(call, value), value
    for value in [*NOT_ITEMS, *NOT_IDS]:
        assert "[0]" in refuse(call, value), value


@pytest.mark.parametrize("name", TWO_LISTS)
def test_two_lists(model, name):
    call = getattr(model, name)
    good = [[4, 2]]
    for value in NOT_LISTS:
        assert "give a list of" in refuse(call, value, good), value
        assert "give a list of" in refuse(call, good, value), value
    for value in [*NOT_ITEMS, *NOT_IDS]:
        assert "[0]" in refuse(call, value, good), value
        assert "[0]" in refuse(call, good, value), value
    assert f"{name}: 1 sources but 2 targets" in refuse(call, good, good * 2)


def test_texts_and_ids(model):
    for value in (b"aa1", None, 7, [7], np.array([4])):
        assert "give a text" in refuse(model.encode, value)
    for value in ("aa1", b"aa1", None, 7, [1.5], ["aa1"], [-1], [[4, 2], "aa1"]):
        refuse(model.decode, value)
    assert [x.tolist() for x in model.encode(["aa1"])] == [model.encode("aa1").tolist()]
    assert model.decode([[4, 2]]) == [model.decode([4, 2])]
    for value in ("bb1", b"x", None, ["bb1", None], [7]):
        if value is not None:
            refuse(model.generate, ["aa1", "aa2"], prefixes=value)
    assert "empty list" in refuse(model.trie, [])


def test_what_is_taken(model):
    """Any iterable in order, arrays of numpy, nothing at all."""
    wanted = model.translate(["aa1 aa2", "aa3"])
    assert model.translate(x for x in ["aa1 aa2", "aa3"]) == wanted
    assert model.translate(("aa1 aa2", "aa3")) == wanted
    assert model.translate(np.array(["aa1 aa2", "aa3"])) == wanted
    ids = model.encode("aa3")
    rows = [[h.text for h in found] for found in model.generate([ids])]
    assert rows == [[h.text for h in found] for found in model.generate(np.array([ids]))]
    assert rows == [[h.text for h in f] for f in model.generate([x.tolist() for x in [ids]])]
    assert model.translate([]) == [] and model.generate([]) == [] and model.score([], []) == []
    assert model.log_probs([], []).shape == (0, 0, 16)
    assert model.decode([]) == ""


def test_load(run):
    for value in (None, b"run", 7, [None], [7], {"a": 1}):
        assert "path" in refuse(seqjax.load, value)
    for value in ([], "", [""], f"{run}:"):
        assert "path" in refuse(seqjax.load, value)
    for options in ({"which": "first"}, {"which": None}, {"dtype": "float8"}, {"data": 7},
                    {"model_overrides": "x"}, {"lm": 7}):
        assert next(iter(options)) in refuse(seqjax.load, run, **options)
    assert seqjax.load([pathlib.Path(run)]).translate("aa1") == seqjax.load(run).translate("aa1")


def test_a_missing_file_is_one_line(run):
    """Of every file of the checkpoint, in turn."""
    folder = ck.find(run)
    for file in sorted(f for f in (folder / "about").rglob("*.*") if f.is_file()):
        if file.name == "commit_success.txt":  # orbax's own
            continue
        content = file.read_bytes()
        file.unlink()
        name = file.relative_to(folder).as_posix()
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")) as error:
            seqjax.load(run)
        assert "\n" not in str(error.value) and "missing" in str(error.value)
        if not name.endswith("checksums.0.json"):
            with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
                seqjax.load(run, verify=False)
        file.write_bytes(content)


def test_ids_are_of_one_type():
    assert arguments.inputs([np.array([4, 2], np.uint16)], name="x", size=5)[0].dtype == np.int32


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """A language model that was never trained."""
    root = tmp_path_factory.mktemp("lm")
    data = write_data(root / "pair")
    (root / "data-bin").mkdir()
    shutil.copy(data / "dict.aa.txt", root / "data-bin" / "dict.txt")
    config = resolve({
        "task": {"name": "language_modeling", "data": str(root / "data-bin")},
        "loss": {"name": "cross_entropy"},
        "model": {"name": "transformer_lm", "decoder_embed_dim": 8, "decoder_ffn_embed_dim": 8,
                  "decoder_layers": 1, "decoder_attention_heads": 2}})
    task = tasks.setup(config)
    model = models.build(config.model, **task.vocab_sizes, compute_dtype=jnp.float32)
    with Checkpoints(root / "run", config.checkpoint) as store:
        store.save(
            state.new_state(jax.jit(model.init)(jax.random.key(0)),
                            optimizers.make_optimizer(config.optimizer)),
            ck.Record(step=1, data={"epoch": 1, "batch": 0}),
            config=to_plain(config), assets=task.assets())
    return seqjax.load(root / "run")


@pytest.mark.parametrize("name", ["sample", "generate", "stream", "score", "log_probs", "trie"])
def test_language_models(language, name):
    call = getattr(language, name)
    for value in NOT_LISTS:
        if name == "sample" and isinstance(value, str):
            continue
        assert "give a list of" in refuse(call, value), value
    for value in [*NOT_ITEMS, [[4, 99, 2]], [[-1, 2]]]:
        assert "[0]" in refuse(call, value), value
    for value in (b"aa1", None, 7):
        assert "give a text" in refuse(language.encode, value)
