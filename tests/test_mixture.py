"""Sampling of several corpora: shares, epochs, shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from seqjax.config import BatchingConfig
from seqjax.data.batches import DataState, TrainIterator
from seqjax.data.epoch_plan import Lengths
from seqjax.data.mixture import Mixture, temperature_weights
from seqjax.data.pairs import PairDataset
from seqjax.data.planning import make_plan

SIZES = (300, 40, 7)


def test_a_temperature_makes_shares_more_alike():
    assert temperature_weights(SIZES, 1) == pytest.approx([300 / 347, 40 / 347, 7 / 347])
    assert temperature_weights(SIZES, 2) == pytest.approx(np.sqrt(np.array(SIZES) / 347))
    assert temperature_weights(SIZES, 1e9) == pytest.approx([1, 1, 1], abs=1e-6)
    with pytest.raises(ValueError, match="sampling_temperature=0"):
        temperature_weights(SIZES, 0)


@pytest.mark.parametrize("sizes, weights, wanted", [
    # fairseq's default_virtual_size_func: the largest is whole, 1.5 times all at most.
    ((300, 200), (1, 1), 600), ((300, 40, 7), (1, 1, 1), 520), ((300, 40, 7), (300, 40, 7), 347)])
def test_an_epoch_is_as_long_as_fairseqs(sizes, weights, wanted):
    assert Mixture(sizes=sizes, weights=weights).epoch_size == wanted
    assert Mixture(sizes=sizes, weights=weights, size=99).epoch_size == 99


def counted(ids):
    return np.histogram(ids, bins=np.cumsum([0, *SIZES]) - 0.5)[0]


def test_small_corpora_come_more_often_and_every_sentence_alike():
    mixture = Mixture(sizes=SIZES, weights=(2, 1, 1), size=400)
    every = np.arange(sum(SIZES))
    ids = mixture.draw(every, seed=1, epoch=1)
    assert counted(ids).tolist() == [200, 100, 100]
    times = np.bincount(ids, minlength=len(every))
    for part, count in zip(np.split(times, np.cumsum(SIZES)[:-1]), (200, 100, 100), strict=True):
        assert part.max() - part.min() <= 1 and part.sum() == count
    again = mixture.draw(every, seed=1, epoch=1)
    other = mixture.draw(every, seed=1, epoch=2)
    assert (ids == again).all() and sorted(ids) != sorted(other)
    seen = np.unique(np.concatenate(
        [mixture.draw(every, seed=1, epoch=e) for e in range(1, 15)]))
    assert len(seen) == len(every)


def test_what_rounding_leaves_is_drawn_by_the_shares():
    mixture = Mixture(sizes=SIZES, weights=(1, 1, 1), size=100)
    counts = np.array([counted(mixture.draw(np.arange(347), seed=s, epoch=1))
                       for s in range(60)])
    assert (counts.sum(1) == 100).all() and set(counts.ravel()) == {33, 34}
    assert (counts.mean(0) > 33).all()


def test_a_corpus_without_usable_sentences_is_left_out():
    mixture = Mixture(sizes=(5, 3), weights=(1, 1), size=6)
    assert set(mixture.draw(np.array([5, 6]), seed=1, epoch=1)) == {5, 6}
    with pytest.raises(ValueError, match="no corpus"):
        mixture.draw(np.zeros(0, np.int64), seed=1, epoch=1)


def corpus():
    rng = np.random.default_rng(0)
    sides = [[np.append(rng.integers(4, 20, n), 2) for n in rng.integers(1, 12, sum(SIZES))]
             for _ in range(2)]
    return PairDataset(*sides)


@pytest.mark.parametrize("mode", ["bucketed", "packed"])
@pytest.mark.parametrize("groups", [1, 2])
def test_epochs_are_drawn_on_shapes_that_are_known_before(mode, groups):
    data = corpus()
    mixture = Mixture(sizes=SIZES, weights=(1, 1, 1))
    plan = make_plan(data.lengths, BatchingConfig(mode=mode, max_tokens=96, pack_length=24),
                     seed=3, update_freq=(groups,), mixture=mixture)
    known = set(plan.shapes)
    for epoch in (1, 2, 3):
        made = plan.epoch(epoch)
        assert made.update_shapes() <= known
        ids = np.concatenate([made.update(i).ids for i in range(len(made))])
        wanted = mixture.draw(np.arange(len(data)), seed=3, epoch=epoch)
        assert sorted(ids) == sorted(wanted)
    assert "33.3% of 300" in plan.describe()
    batches = list(itertools.islice(TrainIterator(plan, data), 5))
    rest = TrainIterator(plan, data, state=batches[2].state)
    assert isinstance(rest.state, DataState)
    for one, other in zip(batches[3:], rest, strict=False):
        assert (one.arrays["source"] == other.arrays["source"]).all()


def test_fairseqs_own_order_has_no_sampling():
    lengths = Lengths(source=np.array([3, 4]), target=np.array([3, 4]))
    with pytest.raises(ValueError, match="sampling_method='concat'"):
        make_plan(lengths, BatchingConfig(mode="fairseq"), seed=1,
                  mixture=Mixture(sizes=(1, 1), weights=(1, 1)))
