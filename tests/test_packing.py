"""Packed plans: rows are full, nothing overflows, every sentence is there once."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks import synthetic
from seqjax.config import BatchingConfig
from seqjax.data import packing
from seqjax.data.epoch_plan import Lengths, Shape
from seqjax.data.planning import make_plan


def like_wmt(pairs: int) -> Lengths:
    source, target = synthetic.lengths(pairs)
    return Lengths(source=source, target=target)


def plan_of(lengths: Lengths, *, update_freq=(1,), row_multiple=1, seed=1, train=True, **options):
    return make_plan(
        lengths, BatchingConfig(mode="packed", **options), seed=seed, update_freq=update_freq,
        row_multiple=row_multiple, train=train,
    )


@pytest.mark.parametrize("seed", range(12))
def test_no_row_overflows(seed):
    rng = np.random.default_rng(seed)
    capacity = int(rng.integers(8, 300))
    n = int(rng.integers(1, 700))
    source = rng.integers(0 if seed % 2 else 1, capacity + 1, n)
    target = rng.integers(1, rng.integers(2, capacity + 2), n)
    row = packing.pack(source, target, capacity=capacity)
    assert np.bincount(row, source).max() <= capacity
    assert np.bincount(row, target).max() <= capacity
    assert set(row.tolist()) == set(range(row.max() + 1))
    # Two rows that could be one are not opened: a loose bound, whatever the lengths.
    assert row.max() + 1 <= 2 * (source.sum() + target.sum()) / capacity + 1


def test_rows_are_full_and_packing_is_quick():
    lengths = like_wmt(60000)
    start = time.process_time()
    row, count = packing.pack_blocks(lengths.side("source"), lengths.side("target"), capacity=256)
    seconds = time.process_time() - start
    tokens = lengths.side("source").sum() + lengths.side("target").sum()
    assert tokens / (count * 512) >= 0.95
    # The fuller side could not be much fuller.
    assert lengths.side("target").sum() / (count * 256) >= 0.99
    assert seconds < 1.0  # 0.02 on a quiet core


def test_blocks_do_not_share_rows(monkeypatch):
    monkeypatch.setattr(packing, "_BLOCK", 100)
    lengths = like_wmt(350)
    row, count = packing.pack_blocks(lengths.side("source"), lengths.side("target"), capacity=256)
    sets = [set(row[a:a + 100].tolist()) for a in range(0, 350, 100)]
    assert not set.intersection(*sets[:2]) and not set.intersection(*sets[2:])
    assert set().union(*sets) == set(range(count))


@pytest.mark.parametrize("update_freq", [(1,), (3,)])
def test_epochs(update_freq):
    lengths = like_wmt(2000)
    plan = plan_of(lengths, update_freq=update_freq, row_multiple=8)
    assert plan.shapes == ((update_freq[0], Shape(16, 256, 256)),)
    orders = []
    for number in (1, 2):
        epoch = plan.epoch(number)
        assert epoch.update_shapes() == set(plan.shapes)
        for i in range(len(epoch)):
            update = epoch.update(i)
            assert update.packed and (np.diff(update.rows) >= 0).all()
            assert np.bincount(update.rows, lengths.source[update.ids]).max() <= 256
            assert np.bincount(update.rows, lengths.target[update.ids]).max() <= 256
            # Only the last update may have empty rows.
            if i < len(epoch) - 1:
                assert set(update.rows.tolist()) == set(range(16 * update_freq[0]))
        assert sorted(epoch.ids.tolist()) == list(range(2000))
        assert np.array_equal(epoch.ids, plan.epoch(number).ids)
        orders.append(epoch.ids.tolist())
    assert orders[0] != orders[1]
    assert "one shape" in plan.describe()


def test_neighbours_change_with_the_epoch():
    lengths = like_wmt(2000)
    plan = plan_of(lengths)

    def neighbours(number):
        epoch = plan.epoch(number)
        together = set()
        for i in range(len(epoch)):
            update = epoch.update(i)
            same = update.rows[1:] == update.rows[:-1]
            together |= set(zip(update.ids[1:][same], update.ids[:-1][same], strict=True))
        return together

    first, second = neighbours(1), neighbours(2)
    assert len(first & second) < 0.05 * len(first)


def test_validation_is_packed_in_a_fixed_order():
    plan = plan_of(like_wmt(300), train=False)
    assert np.array_equal(plan.epoch(1).ids, plan.epoch(2).ids)
    assert sorted(plan.epoch(1).ids.tolist()) == list(range(300))


def test_target_only():
    epoch = plan_of(Lengths(target=np.arange(1, 65)), pack_length=64, max_tokens=256).epoch(1)
    assert epoch.update_shapes() == {(1, Shape(4, 0, 64))}
    assert epoch.efficiency > 0.9


def test_too_long_for_a_row(caplog):
    lengths = Lengths(source=np.array([5, 70]), target=np.array([5, 5]))
    epoch = plan_of(lengths, pack_length=64, max_tokens=512).epoch(1)
    assert epoch.ids.tolist() == [0] and "batching.pack_length" in caplog.text
    with pytest.raises(ValueError, match=r"sentence 1 has 70 source.*pack_length"):
        plan_of(lengths, pack_length=64, max_tokens=512, train=False)
    with pytest.raises(ValueError, match="pair 1 is 70 tokens"):
        packing.pack(np.array([5, 70]), np.array([5, 5]), capacity=64)
    with pytest.raises(ValueError, match="batching.max_tokens"):
        plan_of(lengths, pack_length=64, max_tokens=128, row_multiple=4)
