"""The translation task: shifted targets, packed and bucketed batches, assets, the evaluator."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import raw_config, resolve, write_data

from seqjax import models, tasks
from seqjax.config import BatchingConfig, ConfigError, GenerationConfig, MeshConfig
from seqjax.data import pipeline, planning
from seqjax.generation.teacher_forcing import previous_tokens
from seqjax.models.protocol import segment_positions
from seqjax.tasks import metrics
from seqjax.training import objective, sharding, validation


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    data = write_data(tmp_path_factory.mktemp("task") / "data")
    return resolve(raw_config(data, loss={"label_smoothing": 0.1, "ignore_prefix_size": 1,
                                          "report_accuracy": True}))


@pytest.fixture(scope="module")
def task(config):
    return tasks.setup(config)


@pytest.fixture(scope="module")
def model(config, task):
    return models.build(config.model, **task.vocab_sizes, compute_dtype=jnp.float32)


def test_targets_are_shifted_as_fairseq_does():
    target = jnp.array([[5, 6, 2, 1], [7, 2, 1, 1], [1, 1, 1, 1]])
    shifted = previous_tokens(target, None, pad=1, start=2)
    assert shifted.tolist() == [[2, 5, 6, 1], [2, 7, 1, 1], [1, 1, 1, 1]]
    packed = jnp.array([[5, 6, 2, 7, 2, 1]])
    segments = jnp.array([[1, 1, 1, 2, 2, 0]])
    assert previous_tokens(packed, segments, pad=1, start=2).tolist() == [[2, 5, 6, 2, 7, 1]]
    assert segment_positions(segments).tolist() == [[0, 1, 2, 0, 1, 0]]


def test_packed_and_bucketed_batches_have_the_same_loss_and_gradients(config, task, model):
    """Every training sentence once, dropout off."""
    params = jax.jit(model.init)(jax.random.key(0))
    dataset = task.train_dataset()
    loss_fn = objective.loss_function(task, model, config.loss)

    def total(batching):
        plan = planning.make_plan(dataset.lengths, batching, seed=1)

        @jax.jit
        def gradient(params, batch):
            def loss(params):
                output, _ = loss_fn(params, {}, batch, None, 0)
                return output.sum, output

            return jax.grad(loss, has_aux=True)(params)

        parts = []
        for batch in pipeline.epoch_batches(plan, dataset):
            parts.append(gradient(params, batch.arrays))
        return jax.tree.map(lambda *x: np.sum(x, axis=0, dtype=np.float64), *parts)

    bucketed = total(BatchingConfig(mode="bucketed", max_tokens=64, num_shapes=3))
    packed = total(BatchingConfig(mode="packed", max_tokens=64, pack_length=32))
    for name in ("sum", "weight"):
        a, b = getattr(bucketed[1], name), getattr(packed[1], name)
        np.testing.assert_allclose(a, b, rtol=1e-5)
    for metric in ("nll_loss", "accuracy", "nsentences", "ntokens"):
        np.testing.assert_allclose(
            bucketed[1].metrics[metric][0], packed[1].metrics[metric][0], rtol=1e-5)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(bucketed[0]),
                            jax.tree.leaves(packed[0]), strict=True):
        scale = np.abs(a).max()
        np.testing.assert_allclose(a, b, atol=1e-5 * scale + 1e-6,
                                   err_msg=jax.tree_util.keystr(path))


def test_a_checkpoints_assets_make_the_task_again(config, task):
    again = tasks.from_assets(dataclasses.replace(config, task=task.config), task.assets())
    assert again.source_vocab == task.source_vocab and again.target_vocab == task.target_vocab
    assert again.encode_source("aa1 aa2").tolist() == task.encode_source("aa1 aa2").tolist()
    assert again.decode_target(task.encode_target("bb3 bb4")) == "bb3 bb4"


def test_the_evaluator_decodes_and_scores(task, model):
    params = jax.jit(model.init)(jax.random.key(0))
    evaluate = task.evaluator(model, task.dataset("valid"), limit=3,
                              generation=GenerationConfig(beam=2, max_len_b=10))
    found = evaluate(params)
    assert len(found.samples) == 3 and found.values.keys() == evaluate.metrics.keys() == {"bleu"}
    assert evaluate.metrics == tasks.TASKS["translation"].metrics
    assert evaluate.metrics["bleu"].maximize
    texts, references = ([sample[i] for sample in found.samples] for i in (1, 2))
    assert found.values["bleu"] == metrics.sacrebleu(texts, references).score
    source, translation, reference = found.samples[0]
    assert source.startswith("aa") and reference.startswith("bb") and translation


def test_the_evaluator_on_a_mesh_gives_the_same(task, model):
    """Rows on eight devices, parameters that lie split on them."""
    params = jax.jit(model.init)(jax.random.key(0))
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    options = dict(limit=5, generation=GenerationConfig(beam=2, max_len_b=10))
    alone = task.evaluator(model, task.dataset("valid"), **options)(params)
    evaluate = task.evaluator(model, task.dataset("valid"), **options,
                              **validation.decoding_places(mesh))
    spread = jax.device_put(params, sharding.shardings(params, mesh))
    found = evaluate(validation.for_decoding(spread, mesh))
    assert found.samples == alone.samples and found.values == alone.values


@pytest.mark.parametrize("changes, message", [
    ({"data": ""}, r"config\.task\.data: name the folder"),
    ({"data": "nowhere"}, "nowhere: no such folder"),
])
def test_mistakes(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        tasks.setup(dataclasses.replace(config, task=dataclasses.replace(config.task, **changes)))


def test_another_folders_dictionary_is_refused(task, tmp_path):
    data = write_data(tmp_path / "data")
    task.check_folder(str(data))
    (data / "dict.bb.txt").write_text("other 1\n")
    with pytest.raises(ConfigError, match=r"dict\.bb\.txt: is not the dictionary"):
        task.check_folder(str(data))
