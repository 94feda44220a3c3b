"""Sentences with labels: what fairseq's tasks `sentence_prediction` and `sentence_ranking` make of
them, logits of heads, losses, gradients and metrics (recorded by
scripts/record_sentence_prediction.py), and a run that learns."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
import re
import shutil
import tempfile
from typing import Any

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run

import seqjax
from seqjax import checkpoints, models, preprocess, tasks
from seqjax.config import Config, ConfigError, GenerationConfig, load_file
from seqjax.data import fairseq_order
from seqjax.data.epoch_plan import Shape
from seqjax.interop.fairseq import checkpoint as fairseq
from seqjax.interop.fairseq import recipe as fairseq_recipe
from seqjax.interop.fairseq.start import start_from
from seqjax.interop.torch.writer import write_pt
from seqjax.models.protocol import token_source
from seqjax.settings import resolve
from seqjax.tasks import label_metrics
from seqjax.training import objective, train_loop

FOLDER = pathlib.Path(__file__).parent / "goldens" / "sentence_prediction"
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))
HEAD = "sentence_classification_head"


@dataclasses.dataclass(frozen=True)
class Golden:
    """One recorded case and our model of it."""

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    checkpoint: fairseq.FairseqCheckpoint
    model: Any

    @property
    def params(self) -> Any:
        return jax.tree.map(jnp.asarray, self.checkpoint.params)

    @property
    def sizes(self) -> dict[str, int]:
        size = self.checkpoint.source_vocab_size
        return {"source_vocab_size": size, "target_vocab_size": size}


@functools.cache
def load(name: str) -> Golden:
    about, arrays, state = family_goldens.recorded(FOLDER / f"{name}.npz")
    task = "sentence_ranking" if name == "ranking" else "sentence_prediction"
    checkpoint = fairseq.from_tree({
        "args": {"arch": about["arch"], "task": task, **about["args"]}, "model": state})
    model = models.build(
        checkpoint.config, source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size, compute_dtype=jnp.float32)
    return Golden(about, arrays, state, checkpoint, model)


def data_folder(place: pathlib.Path, keys: dict[str, Any]) -> pathlib.Path:
    """The recorded data as the case's task wants them."""
    shutil.copytree(FOLDER / "data-bin", place)
    if keys.get("single"):
        shutil.rmtree(place / "input1")
    for name, when in (("regression", keys.get("regression_target")),
                       ("ranking", "max_option_length" in keys)):
        if when:
            shutil.rmtree(place / "label")
            shutil.copytree(FOLDER / name, place / "label")
    return place


_SCRATCH = tempfile.TemporaryDirectory()


@functools.cache
def own_data() -> pathlib.Path:
    """A copy of the recorded folder: what is found out of stores is kept beside them."""
    place = pathlib.Path(_SCRATCH.name) / "data-bin"
    shutil.copytree(FOLDER / "data-bin", place)
    return place


def configuration(name: str, data: pathlib.Path, **more: Any) -> Config:
    golden = load(name)
    keys = {k: v for k, v in golden.about["task"].items() if k != "single"}
    known = {field.name for field in dataclasses.fields(golden.checkpoint.config)}
    args = {k: v for k, v in golden.about["args"].items() if k in known}
    kind = "sentence_ranking" if name == "ranking" else "sentence_prediction"
    return resolve({
        "task": {"name": kind, "data": str(data), "no_shuffle": True, **keys},
        "model": {"arch": golden.about["arch"], **args}, **more})


@functools.cache
def task_of(name: str, data: pathlib.Path, report: str = "") -> Any:
    loss = {report: True} if report else {}
    return tasks.setup(configuration(name, data, loss=loss))


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param) / "data"
    return request.param, data_folder(place, load(request.param).about["task"])


def whole_split(task: Any, split: str = "valid") -> dict[str, np.ndarray]:
    dataset = task.dataset(split)
    ids = np.arange(len(dataset))
    shape = Shape(len(ids) + 2, int(dataset.lengths.source.max()) + 3, 0)
    return dataset.materialise(ids, ids, shape)


def test_the_data_are_collated_as_fairseqs(case):
    name, data = case
    recorded = load(name).arrays
    batch = whole_split(task_of(name, data))
    source = batch["source"]
    if name == "ranking":
        source = source.transpose(1, 0, 2)
    rows, width = recorded["source"].shape[-2:]
    np.testing.assert_array_equal(source[..., :rows, :width], recorded["source"])
    assert (source[..., rows:, :] == 1).all() and (source[..., width:] == 1).all()
    labels = batch["labels"][:rows]
    np.testing.assert_allclose(labels.reshape(-1), recorded["target"].reshape(-1), rtol=1e-6)


def test_logits_loss_gradients_and_metrics_are_fairseqs(case):
    name, data = case
    golden, task = load(name), task_of(name, data)
    batch = {k: jnp.asarray(v) for k, v in whole_split(task).items()}
    config = configuration(name, data)
    loss_fn = objective.loss_function(task, golden.model, config.loss)

    @jax.jit
    def run(params):
        def loss(params):
            output, _ = loss_fn(params, {}, batch, None, jnp.int32(0))
            return output.sum, output
        gradient, output = jax.grad(loss, has_aux=True)(params)
        return gradient, output, task.forward(golden.model, params, batch).aux["logits"]

    gradient, output, logits = run(golden.params)
    rows = len(golden.arrays["logits"])
    np.testing.assert_allclose(logits[:rows], golden.arrays["logits"], atol=1e-5)
    np.testing.assert_allclose(output.sum, golden.arrays["loss"], rtol=1e-5)
    assert output.weight == golden.arrays["sample_size"]
    assert output.metrics["ntokens"][0] == golden.arrays["ntokens"]
    theirs = fairseq.to_state(gradient, golden.checkpoint.config, **golden.sizes)
    for key, norm in zip(golden.about["grads"], golden.arrays["grads"], strict=True):
        np.testing.assert_allclose(
            np.linalg.norm(theirs[key].ravel()), norm, rtol=1e-4, atol=1e-6, err_msg=key)
    metrics = golden.about["metrics"]
    values = {k: float(a) / float(b) for k, (a, b) in output.metrics.items()}
    assert round(values["loss"] / np.log(2), 3) == metrics["loss"]
    assert round(values["nll_loss"] / np.log(2), 3) == metrics["nll_loss"]
    if "accuracy" in metrics:
        assert round(100 * values["accuracy"], 1) == metrics["accuracy"]


def test_correlations_of_the_whole_split_are_fairseqs(tmp_path):
    name = "roberta_regression"
    golden = load(name)
    data = data_folder(tmp_path / "data", golden.about["task"])
    task = task_of(name, data, "report_pearson_and_spearman")
    evaluator = task.evaluator(golden.model, task.dataset("valid"), generation=GenerationConfig())
    found = evaluator(golden.params).values
    assert found.keys() == {"pearson", "spearman", "pearson_and_spearman"}
    for key, value in found.items():
        assert round(value, 1) == golden.about["metrics"][key], key


def test_heads_are_written_back_bit_for_bit_in_fairseqs_order(case):
    name, _ = case
    golden = load(name)
    assert list(golden.checkpoint.config.classification_heads) == [HEAD]
    written = fairseq.to_state(golden.checkpoint.params, golden.checkpoint.config,
                               kept=golden.checkpoint.kept, **golden.sizes)
    assert written.keys() == golden.state.keys()
    for key, value in golden.state.items():
        np.testing.assert_array_equal(written[key], value, err_msg=key)
        assert written[key].dtype == value.dtype


def test_a_sentence_is_what_it_is_alone(case):
    name, _ = case
    golden = load(name)
    source = golden.arrays["source"].reshape(-1, golden.arrays["source"].shape[-1])
    run = jax.jit(lambda params, rows: golden.model.class_logits(
        params, HEAD, token_source(rows, pad=1)))
    whole = run(golden.params, jnp.asarray(source, jnp.int32))
    for row in (0, 3):
        alone = source[row][source[row] != 1][None]
        np.testing.assert_allclose(
            run(golden.params, jnp.asarray(alone, jnp.int32))[0], whole[row], atol=1e-5)


# ---- preprocessing ----


def preprocessed(*words: Any) -> None:
    assert preprocess.main([*map(str, words)]) == 0


def test_preprocess_writes_what_fairseqs_recipe_writes(tmp_path, capsys):
    """Byte for byte, all inputs and labels by one command."""
    text, wanted, out = FOLDER / "text", FOLDER / "data-bin", tmp_path / "out"
    preprocessed("--task", "sentence_prediction", "--trainpref", text / "train",
                 "--validpref", text / "valid", "--destdir", out,
                 "--srcdict", wanted / "input0" / "dict.txt")
    for path in sorted(wanted.rglob("*.*")):
        assert (out / path.relative_to(wanted)).read_bytes() == path.read_bytes(), path
    assert "3 classes: no, maybe, yes" in capsys.readouterr().out
    assert preprocess.main(["--task", "sentence_prediction", "--trainpref", str(text / "train"),
                            "--destdir", str(out)]) == 2
    assert "input0 exists already" in capsys.readouterr().err


GLUE_LINES = {
    "CoLA": (["src\t1\t*\tw0 w1", "src\t0\t\tw2"], ["index\tsentence", "0\tw3 w1"]),
    "STS-B": (["\t".join(["index", *"abcdefgh", "score"]),
               "0\ta\tb\tc\td\te\tf\tw0 w1\tw2\t2.400", "1\ta\tb\tc\td\te\tf\tw1\tw0\t5"],
              ["\t".join(["index", *"abcdefgh"]), "0\ta\tb\tc\td\te\tf\tw0\tw2"]),
    "QQP": (["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t2\t3\tw0\tw1\t1",
             "4\t5\t6\tw2\tw0", "1\t2\t3\tw1\tw2\t0"],
            ["id\tquestion1\tquestion2", "7\tw2\tw1"]),
}


@pytest.mark.parametrize("name", GLUE_LINES)
def test_glues_tables_are_read_as_they_are_downloaded(name, tmp_path, capsys):
    place, out = tmp_path / name, tmp_path / "out"
    place.mkdir()
    lines, test = GLUE_LINES[name]
    for split in ("train", "dev"):
        (place / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    (place / "test.tsv").write_text("\n".join(test) + "\n")
    preprocessed("--task", "sentence_prediction", "--source", f"glue:{place}", "--destdir", out,
                 "--padding-factor", 1)
    said = capsys.readouterr().out
    raw = {"task": {"name": "sentence_prediction", "data": str(out), "num_classes": 2,
                    "init_token": 0, "separator_token": 2},
           "model": {"arch": "roberta_base"}}
    if name == "STS-B":
        raw["task"] |= {"num_classes": 1, "regression_target": True}
        assert (out / "label" / "train.label").read_text() == "0.48\n1\n"
    task: Any = tasks.setup(resolve(raw))
    words = {i: task.vocab[i] for i in range(len(task.vocab))}
    batch = whole_split(task, "train")
    first = " ".join(words[i] for i in batch["source"][0] if i != 1)
    assert first == {"CoLA": "<s> w0 w1 </s>", "STS-B": "<s> w0 w1 </s> </s> w2 </s>",
                     "QQP": "<s> w0 </s> </s> w1 </s>"}[name]
    if name == "QQP":
        assert "1 lines without 6 columns are left out" in said
        assert [task.class_names[i] for i in batch["labels"][:2]] == ["1", "0"]
    hidden = task.dataset("test", need_target=False)
    assert len(hidden) == 1 and hidden.labels is None
    with pytest.raises(FileNotFoundError):
        task.dataset("test")


def test_tables_with_columns_of_ones_own(tmp_path):
    (tmp_path / "a.tsv").write_text("label\ttext\nyes\tw1 w2\nno\tw2\n")
    (tmp_path / "t.tsv").write_text("text\nw2\n")
    preprocessed("--task", "sentence_prediction", "--source", "tsv", "--tsv-header",
                 "--tsv-columns", "1,0", "--tsv-test-columns", "0", "--trainpref",
                 tmp_path / "a.tsv", "--testpref", tmp_path / "t.tsv", "--destdir",
                 tmp_path / "out")
    names = (tmp_path / "out" / "label" / "dict.txt").read_text().split("\n")
    assert sorted(names[:2]) == ["no 1", "yes 1"]
    assert (tmp_path / "out" / "input0" / "test.bin").exists()


def test_text_is_tokenized_for_both_inputs_alike(tmp_path):
    """And the tokenizer is the task's, by which texts are read later."""
    for split in ("train", "valid"):
        (tmp_path / f"{split}.input0").write_text("It's a test.\nNo, it isn't!\n")
        (tmp_path / f"{split}.input1").write_text("Yes, it is.\nIt's one.\n")
        (tmp_path / f"{split}.label").write_text("1\n0\n")
    preprocessed("--task", "sentence_prediction", "--trainpref", tmp_path / "train", "--validpref",
                 tmp_path / "valid", "--destdir", tmp_path / "out", "--tokenizer", "moses")
    task: Any = tasks.setup(resolve(raw_of(tmp_path / "out", task={"num_classes": 2})))
    data = task.dataset("valid")
    ids = np.concatenate([task.encode_source("It's a test."), task.encode_source("Yes, it is.")])
    np.testing.assert_array_equal(data.sentence(0), ids)
    assert task.vocab.string(ids[:6]) == "It &apos;s a test ." and not (ids == task.vocab.unk).any()
    assert task.decode_source(ids[:6]) == "It's a test."


@pytest.mark.parametrize("changed, words, says", [
    ({"train.label": "a b\nno\n"}, [], r"train.label: line 1 is 'a b'; a label is one word"),
    ({"valid.label": "x\nno\n"}, [], r"valid.label: line 1 has the label 'x', which no sentence "
                                     r"of the training split has; there are no, yes"),
    ({"train.label": "no\n"}, [], "train.label"),
    ({"valid.input1": "w\nw\n"}, [], "valid has input0, input1, but train has input0"),
    ({}, ["--regression-target"], r"train.label: line 1 is 'yes'; expected a number"),
    ({}, ["--only-source"], "--only-source does not go with --task"),
    ({}, ["--label-scale", "5"], "--label-scale goes with --regression-target"),
    ({}, ["--tsv-header"], "go with --source tsv"),
    ({}, ["--source", "glue:x/RTX"], "name one of GLUE's folders: QQP, MNLI"),
])
def test_what_cannot_be_preprocessed(changed, words, says, tmp_path, capsys):
    files = {"train.input0": "w1\nw2\n", "train.label": "yes\nno\n", "valid.input0": "w1\nw2\n",
             "valid.label": "no\nno\n"} | changed
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert preprocess.main([
        "--task", "sentence_prediction", "--trainpref", str(tmp_path / "train"), "--validpref",
        str(tmp_path / "valid"), "--destdir", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert re.search(says, error), error
    assert not (tmp_path / "out").exists()


def test_ranking_is_preprocessed_and_read(tmp_path):
    text = FOLDER / "text"
    for split in ("train", "valid"):
        for side in range(3):
            shutil.copy(text / f"{split}.input{side}", tmp_path)
        shutil.copy(FOLDER / "ranking" / f"{split}.label", tmp_path)
    preprocessed("--task", "sentence_ranking", "--trainpref", tmp_path / "train", "--validpref",
                 tmp_path / "valid", "--destdir", tmp_path / "out", "--srcdict",
                 FOLDER / "data-bin" / "input0" / "dict.txt")
    batch = whole_split(task_of("ranking", tmp_path / "out"))
    np.testing.assert_array_equal(batch["labels"][:10], load("ranking").arrays["target"])
    (tmp_path / "train.label").write_text("2\n" * 40)
    assert preprocess.main(["--task", "sentence_ranking", "--trainpref", str(tmp_path / "train"),
                            "--destdir", str(tmp_path / "other")]) == 2


# ---- configurations that cannot be ----


def raw_of(data: pathlib.Path, **sections: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "task": {"name": "sentence_prediction", "data": str(data), "num_classes": 3},
        "model": {"arch": "roberta_base"}}
    return {name: {**raw.get(name, {}), **sections.get(name, {})} for name in {**raw, **sections}}


@pytest.mark.parametrize("sections, says", [
    ({"model": {"arch": "transformer"}},
     r"config.task.name: sentence_prediction trains a classification head, which models of "
     r"'transformer' do not have; set config.model.name \(or arch\) to one of bart, roberta"),
    ({"model": {"classification_heads": {HEAD: 2}}},
     rf"config.model.classification_heads.{HEAD}: 2, but config.task.num_classes is 3"),
    ({"model": {"classification_heads": {HEAD: "two"}}}, "expected int, got 'two'"),
    ({"task": {"regression_target": True}, "loss": {"regression_target": False}},
     "config.task.regression_target is True, but config.loss.regression_target is False"),
    ({"task": {"num_classes": -1}}, "config.task.num_classes: give the number of classes"),
    ({"task": {"data": ""}}, "config.task.data: name the folder"),
    ({"task": {"data": "/nowhere"}}, "has no folder input0 .*preprocess --task sentence_pred"),
    ({"batching": {"mode": "packed"}}, "config.batching.mode: sentences with labels are not"),
    ({"loss": {"report_acc_and_f1": True}}, "f1 is of two classes labelled 0 and 1, but the "
                                            "labels are no, maybe, yes"),
    ({"loss": {"report_pearson_and_spearman": True}}, "pearson is not measured of classes; mcc"),
    ({"valid": {"metric": "spearman"}}, "config.valid.metric: spearman is not measured"),
])
def test_configurations_that_cannot_be(sections, says):
    with pytest.raises(ConfigError, match=says):
        tasks.setup(resolve(raw_of(own_data(), **sections)))


def test_another_loss_is_refused():
    config = resolve(raw_of(own_data(), loss={"name": "cross_entropy"}))
    with pytest.raises(ConfigError, match=r"config.task.num_classes: gives classes, and only a "
                                          r"loss that needs them reads them \(sentence_prediction"):
        objective.check(config)


def test_labels_beyond_the_classes_are_refused_by_sentence():
    task = tasks.setup(resolve(raw_of(own_data(), task={"num_classes": 2})))
    with pytest.raises(ConfigError, match=r"label/valid: sentence \d+ .*has the label 'yes', but "
                                          r"config.task.num_classes is 2: no, maybe"):
        task.dataset("valid")


def test_what_a_model_reads_is_the_models_to_say():
    golden = load("bart")
    config = resolve(raw_of(own_data(), task={"add_prev_output_tokens": False},
                            model={"arch": "bart_base"}))
    with pytest.raises(ConfigError, match="config.task.add_prev_output_tokens: False, but a bart"):
        tasks.setup(config).forward(golden.model, golden.params, {
            "source": jnp.asarray(golden.arrays["source"], jnp.int32)})


def test_fairseqs_order_of_batches():
    """A permutation that does not go by length, or the corpus's."""
    raw = raw_of(own_data())
    lengths = tasks.setup(resolve(raw)).dataset("train").lengths
    wanted = np.argsort(np.random.RandomState(1).permutation(40))
    np.testing.assert_array_equal(fairseq_order.ordered_ids(lengths, seed=5), wanted)
    raw["task"]["no_shuffle"] = True
    lengths = tasks.setup(resolve(raw)).dataset("train").lengths
    np.testing.assert_array_equal(fairseq_order.ordered_ids(lengths, seed=5), np.arange(40))


def test_a_random_window_is_another_one_every_epoch():
    raw = raw_of(own_data(), task={"shorten_method": "random_crop", "max_positions": 4})
    data: Any = tasks.setup(resolve(raw)).dataset("train")
    whole: Any = tasks.setup(resolve(raw_of(own_data()))).dataset("train")
    ids = np.arange(len(data))
    epochs = [data.at_epoch(e).materialise(ids, ids, Shape(40, 4, 0))["source"] for e in (1, 2, 1)]
    np.testing.assert_array_equal(epochs[0], epochs[2])
    assert (epochs[0] != epochs[1]).any()
    for i in ids:
        mine, all_of_it = epochs[0][i], whole.sentence(i).tolist()
        assert any(all_of_it[k : k + 4] == mine[: len(all_of_it)].tolist()
                   for k in range(len(all_of_it))) or len(all_of_it) < 4


# ---- a run that learns ----

SIZE = dict(encoder_layers=1, encoder_embed_dim=32, encoder_ffn_embed_dim=64, max_positions=16,
            encoder_attention_heads=2, dropout=0.0, attention_dropout=0.0, scan_unroll=1)


def write_task(folder: pathlib.Path) -> pathlib.Path:
    """Sentences whose label is whether a word below 3 is there."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 800), ("valid", 200)):
        rows = [rng.integers(0, 20, rng.integers(3, 9)) for _ in range(count)]
        (folder / f"{split}.input0").write_text(
            "".join(" ".join(f"w{x}" for x in row) + "\n" for row in rows))
        (folder / f"{split}.label").write_text(
            "".join(f"{int((row < 3).any())}\n" for row in rows))
    preprocessed("--task", "sentence_prediction", "--trainpref", folder / "train", "--validpref",
                 folder / "valid", "--destdir", folder / "bin")
    return folder / "bin"


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A work folder and its data."""
    place = tmp_path_factory.mktemp("learned")
    data = write_task(place / "data")
    raw = {
        "task": {"name": "sentence_prediction", "data": str(data), "num_classes": 2,
                 "init_token": 0, "separator_token": 2, "max_positions": 16},
        "model": {"arch": "roberta", **SIZE},
        "loss": {"report_acc_and_f1": True},
        "train": {"lr": [0.003], "max_update": 60}, "valid": {"metric": "mcc", "every_epochs": 0},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 10},
        "batching": {"max_sentences": 64, "max_tokens": None, "num_shapes": 1, "backend": "numpy"},
        "log": {"interval_updates": 25, "interval_seconds": 0, "tensorboard": False}}
    train_loop.train(resolve(raw), workdir=str(place / "run"))
    return place / "run", data, raw


def test_a_small_model_learns_a_small_task(learned):
    workdir, _, _ = learned
    last = tiny_run.metrics(workdir, "valid")[-1]
    assert last["accuracy"] > 90
    # Of all sentences of the split together; chance is 0 and a share of ones.
    assert last["mcc"] > 80 and last["f1"] > 90 and last["best_mcc"] == last["mcc"]
    assert abs(last["acc_and_f1"] - (last["accuracy"] + last["f1"]) / 2) < 0.01


def test_metrics_of_a_split_are_scikit_learns_of_all_predictions(learned):
    from sklearn import metrics

    workdir, data, _ = learned
    model = seqjax.load(workdir, quiet=True)
    found = model.evaluate("valid").values
    texts = (data.parent / "valid.input0").read_text().splitlines()
    labels = [int(x) for x in (data.parent / "valid.label").read_text().split()]
    names = model.task.class_names
    said = [int(names[i]) for i in model.predict(HEAD, texts).argmax(axis=1)]
    np.testing.assert_allclose(found["accuracy"], 100 * metrics.accuracy_score(labels, said))
    np.testing.assert_allclose(found["f1"], 100 * metrics.f1_score(labels, said))
    np.testing.assert_allclose(found["mcc"], 100 * metrics.matthews_corrcoef(labels, said))


def test_fine_tuning_begins_with_the_weights_and_a_new_head(learned, tmp_path, capfd):
    """Of another name, of another size, and of the same, which is kept."""
    workdir, _, raw = learned
    before = checkpoints.read_params(checkpoints.find(workdir))
    for head, classes, says in (("other", 2, f"new: other; left out: {HEAD}"),
                                (HEAD, 4, rf"begun anew, as their sizes differ: {HEAD} "
                                          r"\(2 classes of 32 there, 4 classes of 32 here\)"),
                                (HEAD, 2, None)):
        out = tmp_path / f"{head}{classes}"
        changed = {**raw, "init_from": str(workdir), "train": {"lr": [1e-9], "max_update": 1},
                   "loss": {}, "valid": {"enabled": False}, "schedule": {"name": "fixed"},
                   "task": {**raw["task"], "num_classes": classes,
                            "classification_head_name": head}}
        train_loop.train(resolve(changed), workdir=str(out))
        said = capfd.readouterr().err
        after = checkpoints.read_params(checkpoints.find(out))
        assert list(after["classification_heads"]) == [head]
        assert after["classification_heads"][head]["out_proj"]["bias"].shape == (classes,)
        np.testing.assert_allclose(
            after["encoder"]["sentence_encoder"]["layers"]["fc1"]["kernel"],
            before["encoder"]["sentence_encoder"]["layers"]["fc1"]["kernel"], atol=1e-6)
        if says:
            assert re.search("classification heads .*" + says, said), said
        else:
            assert "classification heads" not in said
            np.testing.assert_allclose(
                after["classification_heads"][head]["dense"]["kernel"],
                before["classification_heads"][head]["dense"]["kernel"], atol=1e-6)


def test_fine_tuning_begins_with_a_pretrained_file_of_fairseqs(tmp_path, capfd):
    """Its dictionary lacks `<mask>`, its model has no head, or one that is not asked for."""
    golden = load("roberta")
    state = {k.replace(HEAD, "old"): v for k, v in golden.state.items()}
    data = data_folder(tmp_path / "data", golden.about["task"])
    shutil.copy(data / "input0" / "dict.txt", tmp_path)
    write_pt(tmp_path / "model.pt", {
        "args": argparse.Namespace(arch="roberta", task="masked_lm", criterion="masked_lm",
                                   **golden.about["args"]), "model": state})
    config = configuration(
        "roberta", data, init_from=str(tmp_path / "model.pt"), valid={"enabled": False},
        train={"lr": [1e-9], "max_update": 1}, schedule={"name": "fixed"},
        batching={"max_sentences": 8, "backend": "numpy"}, log={"tensorboard": False})
    train_loop.train(config, workdir=str(tmp_path / "run"), start=start_from(config))
    assert f"classification heads new: {HEAD}; left out: old" in capfd.readouterr().err
    after = checkpoints.read_params(checkpoints.find(tmp_path / "run"))
    assert list(after["classification_heads"]) == [HEAD]
    for ours, theirs in zip(jax.tree.leaves(after["encoder"]),
                            jax.tree.leaves(golden.checkpoint.params["encoder"]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_run_is_fairseqs_update_by_update(tmp_path):
    """Its batches in its order, its losses, norms of gradients, rates and validations, under the
    configuration that its command becomes."""
    trace = json.loads((FOLDER / "trace.json").read_text(encoding="utf-8"))
    data = tmp_path / "data"
    shutil.copytree(FOLDER / "data-bin", data)
    golden, names = load("roberta"), data / "label" / "dict.txt"
    text = names.read_text()
    for number, name in enumerate(("no", "maybe", "yes")):
        text = text.replace(f"{name} ", f"{number} ")
    names.write_text(text)
    write_pt(tmp_path / "model.pt", {
        "args": argparse.Namespace(arch="roberta", task="sentence_prediction",
                                   **golden.about["args"]), "model": golden.state})
    raw = fairseq_recipe.from_command(
        trace["command"].format(data=data, model=tmp_path / "model.pt")).raw
    raw["batching"]["backend"] = "numpy"
    raw["model"]["scan_unroll"] = 1
    raw["log"] = {"interval_updates": 1, "interval_seconds": 0, "tensorboard": False}
    config = resolve(raw)
    train_loop.train(config, workdir=str(tmp_path / "run"), start=start_from(config))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    for kind in ("train", "valid"):
        ours = {m["num_updates"]: m for m in lines if m["group"].startswith(kind)
                and (kind == "valid" or m["group"] != "train")}
        for theirs in trace[kind]:
            mine = ours[theirs["num_updates"]]
            for key, value in theirs.items():
                digits = {"accuracy": 1, "mcc": 1, "lr": 8}.get(key, 3)
                assert abs(mine[key] - value) <= 0.6 * 10**-digits, (kind, theirs, key, mine[key])


COMMAND = """fairseq-train RTE-bin/ --restore-file bart.pt --batch-size 16 --max-tokens 4400 \
    --task sentence_prediction --add-prev-output-tokens --layernorm-embedding \
    --share-all-embeddings --share-decoder-input-output-embed --reset-optimizer \
    --reset-dataloader --reset-meters --required-batch-size-multiple 1 --init-token 0 \
    --arch bart_large --criterion sentence_prediction --num-classes 2 --dropout 0.1 \
    --attention-dropout 0.1 --weight-decay 0.01 --optimizer adam --adam-betas "(0.9, 0.98)" \
    --adam-eps 1e-08 --clip-norm 0.0 --lr-scheduler polynomial_decay --lr 1e-05 \
    --total-num-update 2036 --warmup-updates 61 --fp16 --fp16-init-scale 4 \
    --threshold-loss-scale 1 --fp16-scale-window 128 --max-epoch 10 --find-unused-parameters \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric --pooler-dropout 0.2"""


def test_fairseqs_command_for_glue_becomes_a_configuration():
    recipe = fairseq_recipe.from_command(COMMAND)
    assert not recipe.unsupported
    config = resolve(recipe.raw)
    assert config.init_from == "bart.pt" and config.valid.metric == "accuracy"
    assert config.model.classification_heads == {HEAD: 2} and config.model.pooler_dropout == 0.2
    assert config.task.num_classes == 2 and config.task.init_token == 0
    assert config.task.add_prev_output_tokens and config.loss.name == "sentence_prediction"
    regression = resolve(fairseq_recipe.from_command(
        COMMAND.replace("--num-classes 2", "--num-classes 1 --regression-target").replace(
            "--best-checkpoint-metric accuracy --maximize-best-checkpoint-metric", "")).raw)
    assert regression.task.regression_target and regression.loss.regression_target


def test_a_checkpoint_of_fairseqs_newer_form_is_read():
    """Whose task refers to its criterion."""
    golden = load("roberta_regression")
    tree = {"cfg": {
        "dataset": {"batch_size": 16},
        "model": {"_name": "roberta", **golden.about["args"]},
        "task": {"_name": "sentence_prediction", "num_classes": 1, "init_token": 0, "data": "x",
                 "regression_target": "${criterion.regression_target}",
                 "classification_head_name": "${criterion.classification_head_name}"},
        "criterion": {"_name": "sentence_prediction", "regression_target": True,
                      "classification_head_name": HEAD, "report_pearson_and_spearman": True}},
        "model": golden.state}
    raw = fairseq_recipe.from_fairseq(
        fairseq.describe(tree).fairseq, stored=fairseq.stored_config(tree)).raw
    config = resolve(raw)
    assert config.task.regression_target and config.loss.report_pearson_and_spearman
    assert config.model.classification_heads == {HEAD: 1}


@pytest.mark.parametrize("task", ["MNLI", "QNLI", "QQP", "RTE", "SST-2", "MRPC", "CoLA", "STS-B"])
def test_the_recipe_has_every_task_of_glue(task):
    file = pathlib.Path(__file__).parents[1] / "configs" / "roberta_glue.py"
    config = resolve(load_file(f"{file}:{task}"))
    assert config.model.classification_heads == {HEAD: {"MNLI": 3, "STS-B": 1}.get(task, 2)}
    assert config.schedule.total_num_update == config.train.max_update
    assert 0.05 < config.schedule.warmup_updates / config.train.max_update < 0.26
    names = ["0", "1"] if task in ("MRPC", "QQP", "CoLA") else ["a", "b"]
    reports = label_metrics.asked(config, regression=task == "STS-B", names=names)
    assert ("mcc" in reports) == (task == "CoLA") and ("pearson" in reports) == (task == "STS-B")
    assert f"roberta_glue.py:{task} " in file.read_text()


def test_pretraining_and_then_fine_tuning(learned, tmp_path, capfd):
    """A work folder of masked_lm with the same dictionary, `<mask>` behind it in both."""
    _, data, raw = learned
    preprocessed("--only-source", "--trainpref", data.parent / "train.input0", "--destdir",
                 tmp_path / "lm", "--srcdict", data / "input0" / "dict.txt")
    rest = {name: raw[name] for name in ("model", "batching", "log")}
    train_loop.train(resolve({
        **rest, "task": {"name": "masked_lm", "data": str(tmp_path / "lm"),
                         "tokens_per_sample": 16, "sample_break_mode": "eos"},
        "loss": {"name": "masked_lm"}, "valid": {"enabled": False},
        "train": {"lr": [1e-3], "max_update": 2}, "schedule": {"name": "fixed"}}),
        workdir=str(tmp_path / "pretrained"))
    capfd.readouterr()
    train_loop.train(resolve({
        **raw, "init_from": str(tmp_path / "pretrained"), "valid": {"enabled": False}, "loss": {},
        "train": {"lr": [1e-9], "max_update": 1}, "schedule": {"name": "fixed"}}),
        workdir=str(tmp_path / "tuned"))
    assert f"classification heads new: {HEAD}\n" in capfd.readouterr().err
    before, after = (checkpoints.read_params(checkpoints.find(tmp_path / name))
                     for name in ("pretrained", "tuned"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
                 after["encoder"], before["encoder"])
    assert "classification_heads" not in before
