"""Weights meet data: dictionaries are compared, rows are moved by symbol when asked."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import raw_config, resolve, write_data

from seqjax import average, convert, evaluate, hub, models, tasks
from seqjax import checkpoints as ck
from seqjax.config import ConfigError
from seqjax.data import dictionaries
from seqjax.data.tokenizers.characters import BytesTokenizer, CharactersTokenizer
from seqjax.data.vocabulary import Vocabulary
from seqjax.interop.fairseq import start as fairseq_start
from seqjax.models import vocabulary_rows
from seqjax.tasks.assets import pack_tokenizer
from seqjax.training import initial_state, initial_weights, train_loop

BASE = ["<s>", "<pad>", "</s>", "<unk>"]


def test_first_difference():
    there = [*BASE, "a", "b", "c"]
    assert dictionaries.first_difference(there, list(there)) is None
    assert dictionaries.first_difference(there, [*BASE, "b", "a", "c"]) == (
        "id 4 is 'a' there and 'b' here (7 entries there, 7 here)")
    assert dictionaries.first_difference(there, there[:-1]) == (
        "id 6, 'c', is there only (7 entries there, 6 here)")
    assert dictionaries.first_difference(there[:-2], there) == (
        "id 5, 'b', is here only (5 entries there, 7 here)")


def test_rows_by_symbol():
    found = dictionaries.match([*BASE, "a", "b", "c"], [*BASE, "c", "new", "a"])
    assert found.rows.tolist() == [0, 1, 2, 3, 6, -1, 4]
    assert found.describe("dict.de.txt") == (
        "6 of 7 rows of dict.de.txt copied by symbol, 1 new, 1 of the old ones dropped")
    # A word listed twice means its last entry.
    assert dictionaries.match(["a", "b", "a"], ["a", "a", "b", "a"]).rows.tolist() == [-1, 0, 1, 2]


def reordered(data, target, *, sides=("aa", "bb"), drop=0, extra=()):
    """The folder with dictionaries in another order; its ids are not translated."""
    shutil.copytree(data, target)
    for lang in sides:
        old = Vocabulary.load(target / f"dict.{lang}.txt")
        words = old.symbols[4:]
        new = Vocabulary([*extra, *reversed(words[drop:])])
        new.save(target / f"dict.{lang}.txt")
    return target


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


# ---- every family: each row of each array is the row of its word ----

SMALL = dict(encoder_embed_dim=8, decoder_embed_dim=8, encoder_ffn_embed_dim=16,
             decoder_ffn_embed_dim=16, encoder_layers=1, decoder_layers=1,
             encoder_attention_heads=2, decoder_attention_heads=2)
ONE_SIDED = {k: v for k, v in SMALL.items() if k.startswith("decoder")}
LSTM = dict(encoder_embed_dim=8, encoder_hidden_size=8, decoder_embed_dim=8,
            decoder_hidden_size=8, decoder_out_embed_dim=8)
CONV = dict(encoder_conv_dim=16, decoder_conv_dim=16, encoder_kernel_size_list=[3],
            decoder_kernel_size_list=[3]) | SMALL
CASES = {
    "transformer": SMALL,
    "transformer tied": SMALL | {"share_decoder_input_output_embed": True},
    "transformer joined": SMALL | {"share_all_embeddings": True},
    "transformer_align": SMALL,
    "transformer_lm": ONE_SIDED,
    "transformer_lm tied": ONE_SIDED | {"share_decoder_input_output_embed": True},
    "lstm": LSTM,
    "lstm tied": LSTM | {"share_decoder_input_output_embed": True},
    "lstm joined": LSTM | {"share_all_embeddings": True},
    "lstm_lm": {k: v for k, v in LSTM.items() if k.startswith("decoder")},
    "fconv": dict(encoder_embed_dim=8, decoder_embed_dim=8, decoder_out_embed_dim=8,
                  encoder_layers="[(8, 3)]", decoder_layers="[(8, 3)]"),
    "fconv tied": dict(encoder_embed_dim=8, decoder_embed_dim=8, decoder_out_embed_dim=8,
                       encoder_layers="[(8, 3)]", decoder_layers="[(8, 3)]",
                       share_input_output_embed=True),
    "fconv_lm": dict(decoder_embed_dim=8, decoder_layers="[(8, 3)]", decoder_attention="False"),
    "lightconv": CONV,
    "lightconv tied": CONV | {"share_decoder_input_output_embed": True},
    "lightconv joined": CONV | {"share_all_embeddings": True},
    "lightconv_lm": {k: v for k, v in CONV.items() if k.startswith("decoder")},
}


@pytest.mark.parametrize("case", CASES)
def test_rows_follow_their_words(case):
    name, _, kind = case.partition(" ")
    known = {f.name for f in dataclasses.fields(models.CONFIGS[name])}
    section = {k: v for k, v in CASES[case].items() if k in known}
    task = "language_modeling" if name.endswith("_lm") else "translation"
    config = resolve({"task": {"name": task}, "model": {"name": name, **section}}).model
    build = functools.partial(models.build, config, compute_dtype=jnp.float32)
    together = kind == "joined" or name.endswith("_lm")
    old = {"source": [*BASE, *(f"s{i}" for i in range(9))]}
    old["target"] = old["source"] if together else [*BASE, *(f"t{i}" for i in range(11))]
    new = {side: [*BASE, *reversed(words[5:]), "fresh", "new"] for side, words in old.items()}
    matching = {side: dictionaries.match(old[side], new[side]) for side in old}
    sizes = {f"{side}_vocab_size": len(words) for side, words in old.items()}
    where = vocabulary_rows.axes(build, **sizes)
    expected = {"tied": 1 if together else 2, "joined": 1, "": 2 if together else 3}[kind]
    if name == "transformer_align":
        expected = 3
    with_rows = {k.rpartition(".")[0] for k in where if not k.endswith("bias")}
    assert len(with_rows) == expected, where
    before = jax.device_get(build(**sizes).init(jax.random.key(0)))
    before = jax.tree.map(lambda x: np.arange(x.size, dtype=np.float32).reshape(x.shape), before)
    model = build(**{f"{side}_vocab_size": len(words) for side, words in new.items()})
    after = vocabulary_rows.move(
        before, model, where=where, rows={s: m.rows for s, m in matching.items()},
        rng=jax.random.key(1))
    fresh = jax.device_get(model.init(jax.random.key(1)))
    flat = [{vocabulary_rows.name_of(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}
            for tree in (before, after, fresh)]
    assert flat[1].keys() == flat[2].keys()
    for key, value in flat[1].items():
        assert value.shape == flat[2][key].shape, key
        if key not in where:
            np.testing.assert_array_equal(value, flat[0][key])
            continue
        axis, side = where[key]
        a, b, c = (np.moveaxis(tree[key], axis, 0) for tree in flat)
        for row, word in enumerate(new[side]):
            wanted = a[old[side].index(word)] if word in old[side] else c[row]
            # Fresh rows of one program and of another differ in their last bit.
            near = 0 if word in old[side] else 1e-6
            np.testing.assert_allclose(b[row], wanted, rtol=near, err_msg=f"{key} {word}")


def test_adaptive_rows_are_refused_by_name():
    config = resolve({"task": {"name": "language_modeling"}, "model": {
        "name": "transformer_lm", "adaptive_softmax_cutoff": [6, 9]}}).model
    with pytest.raises(ConfigError, match="adaptive_softmax_cutoff"):
        vocabulary_rows.check_movable(config)


# ---- training ----


def start(data, workdir, **sections):
    train_loop.train(resolve(raw_config(
        data, train={"max_update": 3, "lr": [0.01]}, batching={"max_tokens": 128},
        **sections)), workdir=str(workdir))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "first"
    start(data, workdir)
    return workdir


@pytest.mark.parametrize("side", ["aa", "bb"])
def test_other_dictionaries_are_refused(data, trained, tmp_path, side):
    other = reordered(data, tmp_path / "data-bin", sides=(side,))
    name, option = f"dict.{side}.txt", {"aa": "--srcdict", "bb": "--tgtdict"}[side]
    shutil.copytree(trained, tmp_path / "again")
    saved = sorted((tmp_path / "again").rglob("*"))
    for workdir, keys, way_out in (
        (tmp_path / "again", {}, "init_vocabulary=match"),
        (tmp_path / "b", {"resume_from": str(trained)}, "init_vocabulary=match"),
        (tmp_path / "c", {"init_from": str(trained)}, "init_vocabulary=match"),
    ):
        with pytest.raises(ConfigError) as error:
            start(other, workdir, **keys)
        text = str(error.value)
        assert f"{other / name} is not the" in text and way_out in text and option in text
        assert f"id 4 is '{side}0' there and '{side}11' here" in text
        assert "about/assets/" + name in text
    assert sorted((tmp_path / "again").rglob("*")) == saved


def test_one_tokenizer_is_the_same_whichever_language_it_is_named_after():
    """Pretraining has one text, a translation two: only what cuts otherwise is said."""
    def files(**kinds):
        classes = {"characters": CharactersTokenizer, "bytes": BytesTokenizer}
        made = {lang.strip("_"): classes[kind]() for lang, kind in kinds.items()}
        return {k: v for lang, one in made.items() for k, v in pack_tokenizer(lang, one).items()}

    def notes(there, here):
        known = initial_weights.Trained(name="runs/bart", dictionaries=(), places=(),
                                        tokenizers=there)
        task = types.SimpleNamespace(assets=lambda: here, dictionaries=())
        return initial_weights.check_same(known, None, task, way_out="")

    one, two = files(_="characters"), files(de="characters", en="characters")
    assert notes(one, two) == notes(two, one) == notes(two, two) == notes({}, {}) == []
    assert "note: tokenizer.en.json: not the tokenizer that runs/bart" in notes(
        one, files(de="characters", en="bytes"))[0]
    assert "tokenizer.de.json, tokenizer.en.json" in notes(
        files(de="characters", en="bytes"), files(de="bytes", en="characters"))[0]
    assert "tokenizer.json" in notes(one, {})[0] and "tokenizer.json" in notes({}, one)[0]


def test_match_moves_rows(data, trained, tmp_path, capsys):
    other = reordered(data, tmp_path / "data-bin", drop=1, extra=("neu", "mehr"))
    start(other, tmp_path / "run", init_from=str(trained), init_vocabulary="match")
    shown = capsys.readouterr().err
    for side in ("aa", "bb"):
        assert (f"15 of 17 rows of dict.{side}.txt copied by symbol, 2 new, 1 of the old ones "
                "dropped") in shown
    # And the work folder goes on with its own dictionaries.
    start(other, tmp_path / "run", init_from=str(trained), init_vocabulary="match")
    assert "continuing" in capsys.readouterr().err


def test_matched_weights_say_the_same(data, trained, tmp_path):
    """A model whose rows were moved gives a sentence the same probability as before."""
    other = reordered(data, tmp_path / "data-bin")
    config = resolve(raw_config(other, init_from=str(trained), init_vocabulary="match"))
    task = tasks.setup(config)
    folder = ck.find(trained)
    params, lines = initial_weights.fitted(
        initial_state.weights(folder, config), initial_weights.of_folder(folder), config, task)
    assert lines == [f"16 of 16 rows of dict.{s}.txt copied by symbol, 0 new, 0 of the old ones "
                     "dropped" for s in ("aa", "bb")]
    before = hub.load(trained)
    model = models.build(config.model, **task.vocab_sizes, compute_dtype=jnp.float32)
    pair = ("aa1 aa5 aa7", "bb6 bb10 bb0")
    (wanted,) = before.score([pair[0]], [pair[1]])
    from seqjax.generation.scoring import Scorer

    (found,) = Scorer(model).score(
        params, [task.encode_source(pair[0])], [task.encode_target(pair[1])])
    assert found.tokens.tolist() != wanted.tokens.tolist()
    np.testing.assert_allclose(found.positional_scores, wanted.positional_scores, atol=1e-5)


def test_match_needs_weights(data, trained, tmp_path):
    for keys in ({}, {"resume_from": str(trained)}):
        with pytest.raises(ConfigError, match="init_vocabulary=match"):
            start(data, tmp_path / "run", init_vocabulary="match", **keys)


def test_one_embedding_for_two_dictionaries(data, tmp_path):
    """Two of one length passed, since only lengths were compared."""
    with pytest.raises(ConfigError, match=r"id 4 is 'aa0' in dict\.aa\.txt and 'bb0' in"):
        start(data, tmp_path / "run", model={"share_all_embeddings": True,
                                             "share_decoder_input_output_embed": True})


def test_averages_and_ensembles(data, tmp_path):
    a = write_checkpoint(tmp_path / "a", data)
    b = write_checkpoint(tmp_path / "b", reordered(data, tmp_path / "data-bin", sides=("bb",)))
    with pytest.raises(ConfigError, match=r"target dictionary dict\.bb\.txt is not that of .*id 4"):
        average.main(["--inputs", str(a), str(b), "--output", str(tmp_path / "out")])
    with pytest.raises(ConfigError, match="in the target dictionary id 4 is 'bb0' there"):
        hub.load([a, b])


def test_evaluate_without_data_looks_at_the_folder_too(data, tmp_path):
    own = tmp_path / "data-bin"
    shutil.copytree(data, own)
    run = write_checkpoint(tmp_path / "a", own)
    evaluate.main(["--checkpoint", str(run), "--subset", "valid"])
    shutil.rmtree(own)
    reordered(data, own, sides=("aa",))
    with pytest.raises(ConfigError, match=r"dict\.aa\.txt: is not the dictionary.*id 4"):
        evaluate.main(["--checkpoint", str(run), "--subset", "valid"])


# ---- fairseq's files ----


@pytest.fixture(scope="module")
def pt(data, tmp_path_factory):
    """A `.pt` that was trained on the data, without dictionaries beside it."""
    root = tmp_path_factory.mktemp("pt")
    run = write_checkpoint(root / "run", data)
    convert.main([str(run), str(root / "model.pt")])
    return root / "model.pt"


def start_from(data, **keys):
    config = resolve(raw_config(data, **keys))
    task = tasks.setup(config)
    config = dataclasses.replace(config, task=task.config)
    found = fairseq_start.start_from(config)
    assert found is not None
    return initial_weights.of_start(found, config, task)


@pytest.mark.parametrize("key", ["init_from", "resume_from"])
def test_fairseq_files_are_compared(data, pt, tmp_path, monkeypatch, key):
    # The weights matter here.
    monkeypatch.setattr(fairseq_start, "read_state", lambda tree, **optimizer: None)
    keys = {key: str(pt)}
    params, lines = start_from(data, **keys)
    assert lines == []  # its own data folder tells its dictionaries
    other = reordered(data, tmp_path / "data-bin", sides=("bb",))
    with pytest.raises(ConfigError, match=r"dict\.bb\.txt is not the target dictionary .*id 4"):
        start_from(other, **keys)
    # Dictionaries beside it are its own; the folder that it was trained on comes after them.
    shutil.copy(pt, tmp_path / "model.pt")
    for lang in ("aa", "bb"):
        shutil.copy(other / f"dict.{lang}.txt", tmp_path)
    keys = {key: str(tmp_path / "model.pt")}
    assert start_from(other, **keys)[1] == []
    with pytest.raises(ConfigError, match="init_vocabulary=match"):
        start_from(data, **keys)


def test_fairseq_files_are_matched(data, pt, tmp_path):
    other = reordered(data, tmp_path / "data-bin", drop=1, extra=("neu", "mehr"))
    before, _ = start_from(data, init_from=str(pt))
    after, lines = start_from(other, init_from=str(pt), init_vocabulary="match")
    assert lines == [f"15 of 17 rows of dict.{s}.txt copied by symbol, 2 new, 1 of the old ones "
                     "dropped" for s in ("aa", "bb")]
    old, new = (tree["encoder"]["embed_tokens"]["embedding"] for tree in (before, after))
    words = [Vocabulary.load(place / "dict.aa.txt") for place in (data, other)]
    np.testing.assert_array_equal(new[words[1].index("aa7")], old[words[0].index("aa7")])


def test_fairseq_files_without_dictionaries(data, pt, tmp_path):
    """Nothing to compare with: said, and no rows can be moved."""
    place = tmp_path / "data-bin"
    shutil.copytree(data, place)
    run = write_checkpoint(tmp_path / "run", place)
    (tmp_path / "alone").mkdir()
    convert.main([str(run), str(tmp_path / "alone" / "model.pt")])
    place.rename(tmp_path / "elsewhere")
    keys = {"init_from": str(tmp_path / "alone" / "model.pt")}
    _, lines = start_from(data, **keys)
    assert len(lines) == 1 and lines[0].startswith("note: no dictionaries lie beside")
    with pytest.raises(ConfigError, match="are not known"):
        start_from(data, init_vocabulary="match", **keys)


def test_a_folder_of_other_dictionaries_for_a_pt(data, pt, tmp_path):
    """`--data` of the right length in another order, where the right ones lie beside."""
    shutil.copy(pt, tmp_path / "model.pt")
    for lang in ("aa", "bb"):
        shutil.copy(data / f"dict.{lang}.txt", tmp_path)
    other = reordered(data, tmp_path / "data-bin", sides=("bb",))
    hub.load(tmp_path / "model.pt", data=data)
    with pytest.raises(ConfigError, match="the dictionary beside the checkpoint: id 4"):
        hub.load(tmp_path / "model.pt", data=other)
