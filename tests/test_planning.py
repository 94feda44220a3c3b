"""Bucketed plans: every sentence once, few shapes, little padding."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest

from benchmarks import synthetic
from seqjax.config import BatchingConfig
from seqjax.data.bucketing import assign, choose_lengths
from seqjax.data.epoch_plan import Lengths, Shape
from seqjax.data.planning import make_plan


def like_wmt(pairs: int) -> Lengths:
    source, target = synthetic.lengths(pairs)
    return Lengths(source=source, target=target)


def plan_of(lengths: Lengths, *, update_freq=(1,), row_multiple=1, seed=1, train=True, **options):
    return make_plan(
        lengths, BatchingConfig(mode="bucketed", **options), seed=seed,
        update_freq=update_freq, row_multiple=row_multiple, train=train,
    )


@pytest.mark.parametrize("pairs", [1, 3, 40, 3000])
@pytest.mark.parametrize("update_freq", [(1,), (4,), (2, 3)])
@pytest.mark.parametrize("row_multiple", [1, 6])
def test_every_sentence_once_on_the_menu(pairs, update_freq, row_multiple):
    lengths = like_wmt(pairs)
    plan = plan_of(lengths, update_freq=update_freq, row_multiple=row_multiple, num_shapes=5)
    assert len(plan.shapes) <= 5 * len(set(update_freq))
    for number in (1, 2, 3):
        epoch = plan.epoch(number)
        assert epoch.groups == update_freq[min(number, len(update_freq)) - 1]
        assert epoch.update_shapes() <= set(plan.shapes)
        assert sorted(epoch.ids.tolist()) == list(range(pairs))
        seen = []
        for i in range(len(epoch)):
            update = epoch.update(i)
            seen += update.ids.tolist()
            shape = update.shape
            assert shape.rows % row_multiple == 0
            assert shape.rows * max(shape.source, shape.target) <= 4096
            assert len(np.unique(update.rows)) == len(update.rows)
            assert update.rows.max() < shape.rows * update.groups
            assert lengths.source[update.ids].max() <= shape.source
            assert lengths.target[update.ids].max() <= shape.target
            assert update.ntokens == lengths.target[update.ids].sum()
            assert 0 <= update.padding < 1
        assert sorted(seen) == list(range(pairs))


def test_order_depends_on_seed_and_epoch_alone():
    lengths = like_wmt(500)

    def ids(seed, epoch):
        return plan_of(lengths, seed=seed).epoch(epoch).ids.tolist()

    assert ids(1, 2) == ids(1, 2)
    assert len({tuple(ids(s, e)) for s in (1, 2) for e in (1, 2)}) == 4


def test_updates_come_in_mixed_order_of_length():
    epoch = plan_of(like_wmt(3000), max_tokens=1024).epoch(1)
    widths = [epoch.update(i).shape.target for i in range(len(epoch))]
    assert widths != sorted(widths) and widths != sorted(widths, reverse=True)


def test_padding_at_eight_shapes():
    # Square buckets with the best edges reach 78 % on this distribution.
    plan = plan_of(like_wmt(60000))
    assert len(plan.shapes) <= 8
    assert plan.epoch(1).efficiency > 0.775
    assert "8 shapes" in plan.describe() and "77." in plan.describe()


def test_corpus_of_one_length_is_not_padded():
    lengths = Lengths(source=np.full(640, 16), target=np.full(640, 24))
    plan = plan_of(lengths, max_tokens=24 * 64)
    assert plan.shapes == ((1, Shape(64, 16, 24)),)
    assert plan.epoch(1).efficiency == 1.0


def test_batches_are_evened_out():
    # 300 sentences, 256 rows allowed: two batches of 150, not 256 and 44.
    lengths = Lengths(source=np.full(300, 16), target=np.full(300, 16))
    epoch = plan_of(lengths).epoch(1)
    assert [epoch.update(i).nsentences for i in range(len(epoch))] == [150, 150]
    assert epoch.update_shapes() == {(1, Shape(152, 16, 16))}


def test_menu_is_the_best_chain():
    rng = np.random.default_rng(3)
    source = rng.integers(1, 25, 60)
    target = np.clip(source + rng.integers(-8, 9, 60), 1, 24)
    pairs = choose_lengths(source, target, num_shapes=3, length_multiple=4)

    def cost(menu) -> int:
        widths = np.array([s + t for s, t in menu])
        return int(widths[assign(source, target, menu)].sum())

    top = tuple(-(-int(x.max()) // 4) * 4 for x in (source, target))
    edges = list(itertools.product(range(4, top[0] + 1, 4), range(4, top[1] + 1, 4)))
    chains = [
        [a, b, top] for a in edges for b in edges if a[0] <= b[0] and a[1] <= b[1]
    ]
    assert cost(pairs) == min(map(cost, chains))


def test_one_sided_corpora():
    lengths = Lengths(target=np.arange(1, 65))
    epoch = plan_of(lengths, max_tokens=512).epoch(1)
    assert sorted(epoch.ids.tolist()) == list(range(64))
    assert all(s.source == 0 for _, s in epoch.update_shapes())
    assert epoch.update(0).ntokens == lengths.side("target")[epoch.update(0).ids].sum()


def test_max_sentences_alone():
    plan = plan_of(like_wmt(200), max_tokens=None, max_sentences=16)
    assert {s.rows for _, s in plan.shapes} <= {8, 16}
    plan = plan_of(like_wmt(200), max_tokens=None, max_sentences=3)
    assert {s.rows for _, s in plan.shapes} == {3}


def test_long_sentences_may_fill_a_budget_alone():
    lengths = Lengths(source=np.array([99, 5, 5]), target=np.array([50, 5, 5]))
    plan = plan_of(lengths, max_tokens=100)  # 99 padded to 104 would not fit
    assert sorted(plan.epoch(1).ids.tolist()) == [0, 1, 2]


def test_validation_keeps_order_and_all_sentences():
    lengths = like_wmt(100)
    plan = plan_of(lengths, train=False)
    ids = plan.epoch(1).ids
    assert sorted(ids.tolist()) == list(range(100))
    assert np.array_equal(ids, plan.epoch(2).ids)


def test_errors_name_the_sentence_and_the_key(caplog):
    lengths = Lengths(source=np.array([5, 600, 5]), target=np.array([5, 5, 5]))
    with caplog.at_level(logging.WARNING):
        kept = plan_of(lengths, max_tokens=512).epoch(1).ids
    assert sorted(kept.tolist()) == [0, 2]
    assert "1 of 3 sentences" in caplog.text and "batching.max_tokens" in caplog.text
    with pytest.raises(ValueError, match=r"sentence 1 is 600 .*batching.max_tokens=512"):
        plan_of(lengths, max_tokens=512, train=False)
    with pytest.raises(ValueError, match="4800 or more"):
        plan_of(lengths, max_tokens=4096, row_multiple=8)
    with pytest.raises(ValueError, match=r"sentence 1 has 600 source tokens and 5 target"):
        make_plan(lengths, BatchingConfig(), seed=1, max_source_positions=512, train=False)
    with pytest.raises(ValueError, match="max_sentences=4 does not hold the 8 rows"):
        plan_of(lengths, max_sentences=4, row_multiple=8)
    with pytest.raises(ValueError, match="no limit"):
        plan_of(lengths, max_tokens=None)
    with pytest.raises(ValueError, match="no sentence of 3"):
        make_plan(lengths, BatchingConfig(), seed=1, max_source_positions=4)
    with pytest.raises(ValueError, match="holds no sentence"):
        plan_of(Lengths(source=np.zeros(0, int), target=np.zeros(0, int)))
    with pytest.raises(ValueError, match="3 source sentences but 2"):
        Lengths(source=np.ones(3, int), target=np.ones(2, int))
    with pytest.raises(ValueError, match="update_freq"):
        plan_of(lengths, update_freq=(0,))
