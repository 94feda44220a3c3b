"""The loss of alignments against what fairseq computes (scripts/record_alignments.py), the data
that it reads, and training with it."""

from __future__ import annotations

import json

import family_goldens as goldens
import jax
import numpy as np
import pytest
from tiny_run import metrics, raw_config, resolve, write_data

from seqjax.config import ConfigError
from seqjax.data.epoch_plan import Shape
from seqjax.data.indexed import IndexedWriter
from seqjax.data.pairs import PairDataset
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.losses.alignment import AlignmentLossConfig
from seqjax.tasks.translation import TranslationConfig, TranslationTask
from seqjax.training import checks, train_loop
from seqjax.training.objective import loss_function

CASES = ("causal", "full_context")
LAMBDA = 0.3


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    return goldens.load(f"transformer_align/{request.param}")


# ---- the loss ----


def dataset_of(golden) -> PairDataset:
    rows = [[np.asarray(row)[np.asarray(row) != goldens.PAD] for row in side]
            for side in (golden.batch()[0], golden.batch()[2])]
    pairs = json.loads(str(golden.arrays["alignments"]))
    return PairDataset(*rows, alignments=[np.array(a, np.int32).reshape(-1) for a in pairs])


def task_of(golden) -> TranslationTask:
    return TranslationTask(
        config=TranslationConfig(load_alignments=True),
        source_lang="", target_lang="",
        source_vocab=None, target_vocab=None, source_tokenizer=None, target_tokenizer=None)


def loss_of(golden, **options):
    """(params, batch) -> the loss of the task, and nothing else."""
    loss = loss_function(task_of(golden), golden.model,
                         AlignmentLossConfig(alignment_lambda=LAMBDA), **options)
    return lambda params, batch: loss(params, {}, batch, None, 0)[0]


def loss_and_gradient(golden, batch):
    @jax.jit
    def run(params, batch):
        def objective(params):
            output = loss_of(golden)(params, batch)
            return output.sum, output

        return jax.value_and_grad(objective, has_aux=True)(params)

    return jax.device_get(run(golden.params, batch))


@pytest.fixture(scope="module")
def plain_loss(golden):
    dataset = dataset_of(golden)
    with pytest.warns(UserWarning, match="alignment of sentence 1 does not fit"):
        batch = dataset.materialise(np.arange(3), np.arange(3), Shape(4, 12, 10))
    assert batch["aligned_source"].shape == batch["aligned_target"].shape == (4, 22)
    return loss_and_gradient(golden, batch)


def test_the_loss_is_fairseqs(golden, plain_loss):
    (value, output), gradient = plain_loss
    loss, nll, alignment, minimised = golden.arrays["criterion"]
    np.testing.assert_allclose(value, minimised, rtol=1e-5)
    np.testing.assert_allclose(output.metrics["loss"][0], loss, rtol=1e-5)
    np.testing.assert_allclose(output.metrics["nll_loss"][0], nll, rtol=1e-5)
    np.testing.assert_allclose(output.metrics["alignment_loss"][0], alignment, rtol=1e-5)
    assert output.weight == output.metrics["alignment_loss"][1] == output.metrics["loss"][1] == 18
    theirs = fairseq_weights.to_state(
        gradient, golden.checkpoint.config,
        source_vocab_size=golden.checkpoint.source_vocab_size,
        target_vocab_size=golden.checkpoint.target_vocab_size)
    wanted = zip(golden.arrays["aligned_names"].tolist(), golden.arrays["aligned_grads"],
                 strict=True)
    for name, norm in wanted:
        ours = np.linalg.norm(theirs[name].ravel())
        np.testing.assert_allclose(ours, norm, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.filterwarnings("ignore:the alignment of sentence")
def test_packed_rows_have_the_same_loss(golden, plain_loss):
    batch = dataset_of(golden).materialise(
        np.array([2, 0, 1]), np.array([0, 0, 1]), Shape(2, 16, 12), packed=True)
    output = jax.jit(loss_of(golden))(golden.params, batch)
    np.testing.assert_allclose(output.sum, plain_loss[0][0], rtol=1e-5)
    np.testing.assert_allclose(
        output.metrics["alignment_loss"][0], plain_loss[0][1].metrics["alignment_loss"][0],
        rtol=1e-5)


@pytest.mark.filterwarnings("ignore:the alignment of sentence")
def test_per_sentence_the_alignment_loss_is_too():
    golden = goldens.load("transformer_align/causal")
    batch = dataset_of(golden).materialise(np.arange(3), np.arange(3), Shape(4, 12, 10))
    output = loss_of(golden, sentence_avg=True)(golden.params, batch)
    assert output.metrics["alignment_loss"][1] == output.metrics["loss"][1] == output.weight == 3


# ---- the data ----


def write(prefix, arrays):
    with IndexedWriter(prefix, dtype=np.dtype(np.uint16)) as writer:
        for array in arrays:
            writer.append(np.array(array))


@pytest.fixture
def folder(tmp_path):
    for split, rows in (("train", [[5, 6, 2], [7, 2]]), ("train1", [[8, 9, 2]]),
                        ("valid", [[5, 2]])):
        write(tmp_path / f"{split}.a-b.a", rows)
        write(tmp_path / f"{split}.a-b.b", rows)
    write(tmp_path / "train.align.a-b", [[0, 0, 1, 1, 0, 1], [0, 0]])
    return tmp_path


def load(folder, split, **options):
    return PairDataset.load(folder, split, source_lang="a", target_lang="b", **options)


def test_alignments_are_loaded_with_every_shard(folder):
    assert load(folder, "train").alignments is None
    assert load(folder, "valid", alignments="optional").alignments is None
    with pytest.raises(FileNotFoundError, match=r"valid\.align\.a-b.*--align-suffix"):
        load(folder, "valid", alignments="needed")
    with pytest.raises(FileNotFoundError, match=r"train1\.align\.a-b"):
        load(folder, "train", shards=True, alignments="optional")
    write(folder / "train1.align.a-b", [[1, 0]])
    data = load(folder, "train", shards=True, upsample_primary=2, alignments="needed")
    batch = data.materialise(np.array([2, 3, 4]), np.arange(3), Shape(4, 3, 3))
    assert batch["aligned_source"].tolist() == [
        [0, 1, 0, -1, -1, -1], [0, -1, -1, -1, -1, -1], [1, -1, -1, -1, -1, -1], [-1] * 6]
    assert batch["aligned_target"][0].tolist() == [0, 1, 1, -1, -1, -1]
    packed = data.materialise(np.array([3, 4, 2]), np.array([0, 0, 1]), Shape(2, 6, 6), packed=True)
    assert packed["aligned_source"][0].tolist()[:3] == [0, 3, -1]
    assert packed["aligned_target"][0].tolist()[:3] == [0, 2, -1]


def test_rows_hold_as_many_pairs_as_any_sentence_has():
    """However dense alignments are, the shape of a batch says how wide they are."""
    everything = np.array([(s, t) for s in range(6) for t in range(6)]).reshape(-1)
    data = PairDataset([[*range(4, 10), 2]], [[*range(4, 10), 2]], alignments=[everything])
    batch = data.materialise(np.array([0]), np.array([0]), Shape(1, 8, 8))
    assert (batch["aligned_source"][0] >= 0).sum() == 36


def test_alignments_that_do_not_belong():
    with pytest.raises(ValueError, match="alignments of 1 sentences, but 2"):
        PairDataset([[5, 2], [5, 2]], [[5, 2], [5, 2]], alignments=[[0, 0]])
    with pytest.raises(ValueError, match="sentence 0 does not consist of pairs"):
        PairDataset([[5, 2]], [[5, 2]], alignments=[[0]])
    with pytest.raises(ValueError, match="need a source and a target"):
        PairDataset([[5, 2]], alignments=[[0, 0]])


# ---- training ----


ALIGNED = {
    "model": {"name": "transformer_align", "alignment_layer": 0, "full_context_alignment": True},
    "task": {"load_alignments": True},
    "loss": {"name": "label_smoothed_cross_entropy_with_alignment", "alignment_lambda": 10.0},
}


@pytest.fixture(scope="module")
def aligned_data(tmp_path_factory):
    """Every target word is aligned with the source word in its place."""
    data = write_data(tmp_path_factory.mktemp("aligned") / "data")
    for split in ("train", "valid"):
        lengths = load_lengths(data, split)
        write(data / f"{split}.align.aa-bb", [np.repeat(np.arange(n - 1), 2) for n in lengths])
    return data


def load_lengths(data, split):
    return PairDataset.load(data, split, source_lang="aa", target_lang="bb").lengths.source


def test_training_learns_alignments(aligned_data, tmp_path):
    config = resolve(raw_config(
        aligned_data, **ALIGNED, log={"interval_updates": 10}, train={"max_update": 40},
        valid={"every_updates": 40}, batching={"max_tokens": 128}))
    train_loop.train(config, workdir=str(tmp_path / "run"))
    losses = [m["alignment_loss"] for m in metrics(tmp_path / "run", "train_inner")]
    assert len(losses) == 4 and losses[-1] < 0.85 * losses[0], losses
    (valid,) = metrics(tmp_path / "run", "valid")
    assert 0 < valid["alignment_loss"] < losses[0]


@pytest.mark.parametrize(("changes", "message"), [
    ({"loss": {"name": "cross_entropy"}},
     "config.task.load_alignments: .* only a loss that needs them reads them .label_smoothed"),
    ({"loss": ALIGNED["loss"], "task": {}}, "config.loss.name: .* needs alignments, which "
     "config.task.load_alignments gives"),
])
def test_half_of_what_it_takes_is_a_mistake(aligned_data, changes, message):
    with pytest.raises(ConfigError, match=message):
        checks.check(resolve(raw_config(aligned_data, **{**ALIGNED, **changes})))
