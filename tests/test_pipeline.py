"""Arrays, iteration and prefetch: right tokens, exact resume, errors that surface."""

from __future__ import annotations

import gc
import importlib.util
import threading

import numpy as np
import pytest

from seqjax.config import BatchingConfig
from seqjax.data import indexed, pipeline
from seqjax.data.epoch_plan import Shape
from seqjax.data.pairs import EOS, PAD, PairDataset
from seqjax.data.pipeline import DataState, Prefetcher, TrainIterator, epoch_batches, open_batches
from seqjax.data.planning import make_plan

BACKENDS = [
    "numpy",
    pytest.param("tfdata", marks=pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
    )),
]


def sentences(n: int, *, seed: int = 0, longest: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        np.append(rng.integers(4, 60000, k), EOS).astype(np.int32)
        for k in rng.integers(0, longest, n)
    ]


@pytest.fixture(scope="module")
def pairs() -> PairDataset:
    return PairDataset(sentences(200), sentences(200, seed=1))


def plan_of(dataset, mode="bucketed", *, update_freq=(1,), seed=1, row_multiple=1, **options):
    config = BatchingConfig(**{"mode": mode, "max_tokens": 512, "pack_length": 64, **options})
    return make_plan(
        dataset.lengths, config, seed=seed, update_freq=update_freq, row_multiple=row_multiple
    )


def same(a: pipeline.Batch, b: pipeline.Batch) -> bool:
    return (
        a.arrays.keys() == b.arrays.keys()
        and all(np.array_equal(a.arrays[k], b.arrays[k]) for k in a.arrays)
        and all(a.arrays[k].dtype == b.arrays[k].dtype for k in a.arrays)
        and np.array_equal(a.ids, b.ids)
        and (a.state, a.epoch, a.step, a.updates, a.last, a.shape, a.ntokens, a.nsentences,
             a.source_tokens, a.padding)
        == (b.state, b.epoch, b.step, b.updates, b.last, b.shape, b.ntokens, b.nsentences,
            b.source_tokens, b.padding)
    )


def take(batches, n: int) -> list[pipeline.Batch]:
    return [next(batches) for _ in range(n)]


# Arrays.

def test_materialise_pads_on_the_right():
    data = PairDataset([[5, 6, 2], [7, 2]], [[8, 2], [9, 10, 11, 2]])
    arrays = data.materialise(np.array([1, 0]), np.array([0, 2]), Shape(4, 3, 5))
    assert arrays["source"].tolist() == [[7, 2, 1], [1, 1, 1], [5, 6, 2], [1, 1, 1]]
    assert arrays["target"].tolist() == [
        [9, 10, 11, 2, 1], [1] * 5, [8, 2, 1, 1, 1], [1] * 5
    ]
    assert {a.dtype for a in arrays.values()} == {np.dtype(np.int32)}
    assert data.materialise(np.array([1]), np.array([0]), Shape(1, 3, 0)).keys() == {"source"}


def test_materialise_packed_has_segments():
    data = PairDataset([[5, 6, 2], [7, 2]], [[8, 2], [9, 10, 11, 2]])
    arrays = data.materialise(
        np.array([1, 0, 1]), np.array([0, 0, 1]), Shape(2, 6, 7), packed=True
    )
    assert arrays["source"].tolist() == [[7, 2, 5, 6, 2, 1], [7, 2, 1, 1, 1, 1]]
    assert arrays["source_segments"].tolist() == [[1, 1, 2, 2, 2, 0], [1, 1, 0, 0, 0, 0]]
    assert arrays["target"].tolist() == [[9, 10, 11, 2, 8, 2, 1], [9, 10, 11, 2, 1, 1, 1]]
    assert arrays["target_segments"].tolist() == [[1, 1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0, 0, 0]]


def test_a_row_that_does_not_fit_names_its_sentences():
    data = PairDataset([[5, 6, 2], [7, 2]], [[8, 2], [9, 10, 11, 2]])
    with pytest.raises(ValueError, match=r"source of row 1 has 3 tokens.*2 x 2.*\[0\]"):
        data.materialise(np.array([1, 0]), np.array([0, 1]), Shape(2, 2, 4))
    with pytest.raises(ValueError, match=r"row 2.*2 x 3.*\[0\]"):
        data.materialise(np.array([1, 0]), np.array([0, 2]), Shape(2, 3, 4))
    with pytest.raises(IndexError, match="sentence 2 of 2"):
        data.materialise(np.array([2]), np.array([0]), Shape(1, 8, 8))
    with pytest.raises(ValueError, match="target, which this dataset has not"):
        PairDataset([[5, 2]]).materialise(np.array([0]), np.array([0]), Shape(1, 8, 8))


def write(prefix, arrays, dtype=np.uint16):
    with indexed.IndexedWriter(prefix, dtype=np.dtype(dtype)) as writer:
        for array in arrays:
            writer.append(array)


def test_load_finds_shards_and_the_other_direction(tmp_path):
    parts = [sentences(n, seed=n) for n in (7, 3, 5)]
    other = [sentences(n, seed=n + 50) for n in (7, 3, 5)]
    for name, de, en in zip(("train", "train1", "train2"), parts, other, strict=True):
        write(tmp_path / f"{name}.de-en.de", de)
        write(tmp_path / f"{name}.de-en.en", en)
    one = PairDataset.load(tmp_path, "train", source_lang="de", target_lang="en")
    assert len(one) == 7
    back = PairDataset.load(
        tmp_path, "train", source_lang="en", target_lang="de", shards=True, upsample_primary=3
    )
    wanted = [other[0] * 3 + other[1] + other[2], parts[0] * 3 + parts[1] + parts[2]]
    assert len(back) == 29 and back.lengths.source.tolist() == [len(s) for s in wanted[0]]
    order = np.random.default_rng(0).permutation(29)
    arrays = back.materialise(order, np.arange(29), Shape(32, 64, 64))
    for row, sentence in enumerate(order):
        for side, name in enumerate(("source", "target")):
            tokens = wanted[side][sentence]
            assert arrays[name][row, :len(tokens)].tolist() == tokens.tolist()
            assert (arrays[name][row, len(tokens):] == PAD).all()
    assert [a.tolist() for a in back.sentence(21)] == [other[1][0].tolist(), parts[1][0].tolist()]


def test_load_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.de-en\.de\.bin: no such store"):
        PairDataset.load(tmp_path, "train", source_lang="de", target_lang="en")
    write(tmp_path / "train.de-en.de", sentences(3))
    with pytest.raises(FileNotFoundError, match=r"train\.de-en\.en"):
        PairDataset.load(tmp_path, "train", source_lang="de", target_lang="en")
    decoding = PairDataset.load(
        tmp_path, "train", source_lang="de", target_lang="en", need_target=False
    )
    assert decoding.target is None and len(decoding) == 3
    write(tmp_path / "train.de-en.en", sentences(4))
    with pytest.raises(ValueError, match=r"train\.de-en\.de has 3 sentences, .*en 4"):
        PairDataset.load(tmp_path, "train", source_lang="de", target_lang="en")


def test_truncated_sources_keep_their_eos():
    data = PairDataset([[5, 6, 7, 8, 2], [5, 6, 2], [5, 6, 7, 2]], truncate_source=3)
    assert data.lengths.source.tolist() == [3, 3, 3]
    arrays = data.materialise(np.arange(3), np.arange(3), Shape(3, 3, 0))
    assert arrays["source"].tolist() == [[5, 6, 2], [5, 6, 2], [5, 6, 2]]
    with pytest.raises(ValueError, match="1 tokens"):
        PairDataset([[5, 2]], truncate_source=1)


# Order and resume.

@pytest.mark.parametrize("mode", ["bucketed", "packed", "fairseq", "fairseq_packed"])
@pytest.mark.parametrize("groups", [1, 3])
def test_batches_hold_the_planned_sentences(pairs, mode, groups):
    plan = plan_of(pairs, mode, update_freq=(groups,))
    assert plan.packed == plan.epoch(1).packed == (mode in ("packed", "fairseq_packed"))
    seen = []
    for batch in TrainIterator(plan, pairs):
        b, s, t = batch.shape
        if mode != "fairseq_packed":
            assert batch.groups == groups
        assert batch.arrays["source"].shape == (batch.groups, b, s)
        assert batch.arrays["target"].shape == (batch.groups, b, t)
        assert (batch.groups, batch.shape) in plan.shapes
        assert batch.ids.shape[:2] == (batch.groups, b)
        real = {k: batch.arrays[k] != PAD for k in ("source", "target")}
        assert (batch.source_tokens, batch.ntokens) == (real["source"].sum(), real["target"].sum())
        positions = batch.groups * b * (s + t)
        assert batch.padding == pytest.approx(
            1 - (batch.source_tokens + batch.ntokens) / positions
        )
        assert batch.nsentences == (batch.ids >= 0).sum()
        for g, r in np.ndindex(batch.groups, b):
            ids = np.atleast_1d(batch.ids[g, r])
            ids = ids[ids >= 0].tolist()
            for name in ("source", "target"):
                tokens = [t for i in ids for t in pairs.sentence(i)[name == "target"].tolist()]
                assert batch.arrays[name][g, r][real[name][g, r]].tolist() == tokens
                if plan.packed:
                    segments = batch.arrays[f"{name}_segments"][g, r]
                    assert (segments > 0).tolist() == real[name][g, r].tolist()
                    assert segments.max(initial=0) == len(ids)
        seen += batch.ids[batch.ids >= 0].tolist()
        if batch.last:
            assert batch.step == batch.updates - 1 and batch.state == DataState(2, 0)
            break
    assert sorted(seen) == list(range(200))


@pytest.mark.parametrize("mode", ["bucketed", "packed", "fairseq", "fairseq_packed"])
def test_resume_at_any_update_is_exact(pairs, mode):
    plan = plan_of(pairs, mode, update_freq=(3, 2))
    whole = take(TrainIterator(plan, pairs), 2 * len(plan.epoch(1)) + 8)
    assert {b.epoch for b in whole} >= {1, 2, 3}
    for i, batch in enumerate(whole[:-3]):
        again = TrainIterator(plan_of(pairs, mode, update_freq=(3, 2)), pairs, state=batch.state)
        assert again.state == batch.state
        for wanted, got in zip(whole[i + 1:i + 4], take(again, 3), strict=True):
            assert same(wanted, got)


def test_every_process_makes_its_rows(pairs):
    for mode in ("bucketed", "packed", "fairseq", "fairseq_packed"):
        plan = plan_of(pairs, mode, update_freq=(2,), row_multiple=4)
        whole = take(TrainIterator(plan, pairs), 5)
        parts = [take(TrainIterator(plan, pairs, shard=(p, 4)), 5) for p in range(4)]
        for i, batch in enumerate(whole):
            for name, array in batch.arrays.items():
                local = [part[i].arrays[name] for part in parts]
                assert {a.shape[1] for a in local} == {batch.shape.rows // 4}
                assert np.array_equal(np.concatenate(local, axis=1), array)
            assert {part[i].ntokens for part in parts} == {batch.ntokens}
            ids = np.concatenate([part[i].ids.reshape(-1) for part in parts])
            assert sorted(ids[ids >= 0]) == sorted(batch.ids[batch.ids >= 0])
    with pytest.raises(ValueError, match="shared by 3 processes"):
        next(TrainIterator(plan, pairs, shard=(0, 3)))


def test_one_pass_is_not_stacked(pairs):
    plan = plan_of(pairs, update_freq=(1,))
    seen = []
    for batch in epoch_batches(plan, pairs):
        assert batch.arrays["source"].shape == (batch.shape.rows, batch.shape.source)
        assert batch.ids.shape == (batch.shape.rows,)
        seen += batch.ids[batch.ids >= 0].tolist()
    assert sorted(seen) == list(range(200))
    with pytest.raises(ValueError, match="2 micro-batches must be stacked"):
        next(epoch_batches(plan_of(pairs, update_freq=(2,)), pairs))


# Prefetch and back ends.

def background() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "seqjax-batches"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["bucketed", "packed", "fairseq"])
def test_back_ends_give_the_same_batches(pairs, backend, mode):
    plan = plan_of(pairs, mode, update_freq=(2,))
    config = BatchingConfig(backend=backend, prefetch=3)
    state = DataState(1, 2)
    wanted = TrainIterator(plan, pairs, state=state)
    with open_batches(plan, pairs, batching=config, state=state) as batches:
        assert batches.state == state
        for _ in range(2 * len(plan.epoch(1)) + 1):
            batch = next(batches)
            assert same(next(wanted), batch)
            assert batches.state == batch.state
    assert not background()


@pytest.mark.parametrize("backend", BACKENDS)
def test_transfer_is_applied_in_the_background(pairs, backend):
    seen = []

    def transfer(arrays):
        seen.append(threading.current_thread().name)
        return {k: v.astype(np.int64) for k, v in arrays.items()}

    config = BatchingConfig(backend=backend)
    with open_batches(plan_of(pairs), pairs, batching=config, transfer=transfer) as batches:
        batch = next(batches)
    assert batch.arrays["source"].dtype == np.int64
    assert set(seen) == {"seqjax-batches"}


class Broken(PairDataset):
    """A corpus one of whose sentences cannot be read."""

    def materialise(self, ids, rows, shape, *, packed=False):
        if 17 in ids:
            raise OSError("disk on fire")
        return super().materialise(ids, rows, shape, packed=packed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors_surface_with_the_sentences(pairs, backend):
    broken = Broken(pairs.source.stores, pairs.target.stores)
    plan = plan_of(broken)
    place = next(i for i in range(99) if 17 in plan.epoch(1).update(i).ids)
    config = BatchingConfig(backend=backend)
    batches = open_batches(plan, broken, batching=config)
    with pytest.raises(RuntimeError, match=rf"epoch 1, update {place}: .*\[.*disk on fire"):
        for _ in range(place + 1):
            next(batches)
    assert not background()
    with pytest.raises(StopIteration):
        next(batches)


def test_close_stops_the_thread_and_can_be_repeated(pairs):
    batches = open_batches(plan_of(pairs), pairs, batching=BatchingConfig(backend="numpy"))
    next(batches)
    batches.close()
    batches.close()
    assert not background()
    with pytest.raises(StopIteration):
        next(batches)


def test_a_forgotten_prefetcher_does_not_linger(pairs):
    batches = open_batches(plan_of(pairs), pairs, batching=BatchingConfig(backend="numpy"))
    next(batches)
    assert background()
    del batches
    gc.collect()
    assert not background()


def test_prefetch_of_a_finite_pass_ends(pairs):
    plan = plan_of(pairs)
    with Prefetcher(epoch_batches(plan, pairs), size=1) as batches:
        assert len(list(batches)) == len(plan.epoch(1))
    assert not background()
    with pytest.raises(ValueError, match="batching.prefetch=0"):
        Prefetcher(epoch_batches(plan, pairs), size=0)


def test_tensorflow_sees_no_accelerator(pairs):
    pytest.importorskip("tensorflow")
    from seqjax.data.tfdata import tensorflow

    assert {d.device_type for d in tensorflow().config.get_visible_devices()} == {"CPU"}


def test_tfdata_in_parallel_keeps_the_order(pairs):
    pytest.importorskip("tensorflow")
    from seqjax.data.tfdata import TfDataIterator

    plan = plan_of(pairs, "packed", max_tokens=128)
    wanted = take(TrainIterator(plan, pairs), 60)
    with TfDataIterator(plan, pairs, parallel=4) as batches:
        assert all(same(a, b) for a, b in zip(wanted, take(batches, 60), strict=True))


def test_missing_tensorflow_is_explained(pairs, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="batching.backend=numpy"):
        open_batches(plan_of(pairs), pairs, batching=BatchingConfig(backend="tfdata"))
    with open_batches(plan_of(pairs), pairs, batching=BatchingConfig()) as batches:
        assert next(batches).epoch == 1
