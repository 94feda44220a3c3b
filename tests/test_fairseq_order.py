"""fairseq's batches in fairseq's order: against recorded runs, and the rules one by one."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import packed
import pytest

from benchmarks import synthetic
from seqjax.config import BatchingConfig
from seqjax.data import fairseq_order
from seqjax.data.epoch_plan import Lengths
from seqjax.data.pipeline import DataState, places
from seqjax.data.planning import make_plan

GOLDEN = json.loads(
    (packed.unpacked(packed.GOLDENS) / "batching" / "fairseq.json").read_text()
)


@pytest.fixture(scope="module")
def lengths() -> Lengths:
    return Lengths(
        source=np.array(GOLDEN["source_lengths"], np.int32),
        target=np.array(GOLDEN["target_lengths"], np.int32),
    )


def batching(**options) -> BatchingConfig:
    return BatchingConfig(mode="fairseq", **options)


def groups_of(update) -> list[list[int]]:
    """Sentences of each micro-batch that has any, in row order."""
    found = [[] for _ in range(update.groups)]
    for sentence, row in zip(update.ids, update.rows, strict=True):
        found[row // update.shape.rows].append(int(sentence))
    return [g for g in found if g]


@pytest.mark.parametrize("name", sorted(GOLDEN["runs"]))
def test_same_batches_as_a_recorded_run(lengths, name):
    run = GOLDEN["runs"][name]
    plan = make_plan(
        lengths, batching(max_tokens=run["max_tokens"], max_sentences=run["max_sentences"]),
        seed=run["seed"], update_freq=(run["update_freq"],),
    )
    stream = places(plan, DataState())
    for epoch, ids, ntokens in run["updates"]:
        epoch_plan, index = next(stream)
        update = epoch_plan.update(index)
        assert update.epoch == epoch
        assert update.ntokens == sum(ntokens)
        # Rows by falling source length; ties of a large batch are where torch's sort left them.
        for ours, theirs in zip(groups_of(update), ids, strict=True):
            assert sorted(ours) == sorted(theirs)
            by_row = lengths.source[ours]
            assert by_row.tolist() == lengths.source[theirs].tolist()
            if len(ours) <= 16:
                assert ours == theirs


def test_same_blocks_as_a_recorded_run():
    run = GOLDEN["blocks"]
    sizes = np.full(-(-run["tokens"] // 64), 64)
    sizes[-1] = run["tokens"] - 64 * (len(sizes) - 1)
    plan = make_plan(
        Lengths(target=sizes), batching(max_tokens=run["max_tokens"]), seed=run["seed"]
    )
    stream = places(plan, DataState())
    for epoch, ids, ntokens in run["updates"]:
        epoch_plan, index = next(stream)
        update = epoch_plan.update(index)
        assert (update.epoch, [update.ntokens]) == (epoch, ntokens)
        assert [sorted(g) for g in groups_of(update)] == [sorted(g) for g in ids]


def test_test_split_comes_in_the_order_of_fairseq_generate():
    golden = GOLDEN["test"]
    lengths = Lengths(
        source=np.array(golden["source_lengths"]), target=np.array(golden["target_lengths"])
    )
    plan = make_plan(
        lengths, batching(max_tokens=600, required_batch_size_multiple=1), seed=1, train=False,
        shuffle_ties=False,
    ).epoch(1)
    printed = golden["order"]
    for i in range(len(plan)):
        ids = plan.update(i).ids.tolist()
        theirs, printed = printed[:len(ids)], printed[len(ids):]
        assert sorted(ids) == sorted(theirs)
        assert lengths.source[ids].tolist() == lengths.source[theirs].tolist()
    assert not printed


def test_continues_where_a_fairseq_checkpoint_stopped(lengths):
    plan = make_plan(lengths, batching(max_tokens=GOLDEN["resumed"]["max_tokens"]), seed=1)
    for state, when in ((DataState(), "first"), (DataState(1, 20), "after")):
        stream = places(plan, state)
        for nsentences, ntokens in GOLDEN["resumed"][when]:
            epoch_plan, index = next(stream)
            update = epoch_plan.update(index)
            assert (update.nsentences, update.ntokens) == (nsentences, ntokens)


def test_composition_epoch_changes_batches_but_not_their_shuffle(lengths):
    def epoch(composition: int) -> list[tuple[int, ...]]:
        plan = make_plan(
            lengths, batching(max_tokens=800), seed=1, composition_epoch=composition
        ).epoch(3)
        return [tuple(plan.update(i).ids.tolist()) for i in range(len(plan))]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(3)
    assert {i for b in epoch(3) for i in b} == set(range(1200))


def simulate(tokens, max_tokens, max_sentences, multiple) -> list[list[int]]:
    """fairseq's rule one sentence at a time: a batch, and a tail that may still join it."""
    done, batch, tail = [], [], []

    def over(places) -> bool:
        many = max_sentences is not None and len(places) > max_sentences
        return many or (
            max_tokens is not None and len(places) * max(tokens[p] for p in places) > max_tokens
        )

    for place in range(len(tokens)):
        tail.append(place)
        if over(batch + tail):
            done.append(batch)
            if max_tokens is not None and len(tail) * max(tokens[p] for p in tail) > max_tokens:
                done.append(tail[:-1])
                tail = tail[-1:]
            batch, tail = tail, []
        elif len(batch + tail) < multiple or len(batch + tail) % multiple == 0:
            batch, tail = batch + tail, []
    return [b for b in [*done, batch, tail] if b]


@pytest.mark.parametrize("seed", range(40))
def test_batch_by_size_follows_the_rule(seed):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 60, rng.integers(1, 400))
    if seed % 3:
        tokens = np.sort(tokens)
        tokens[1:] = np.maximum(1, tokens[1:] + rng.integers(-3, 4, len(tokens) - 1))
    max_tokens = None if seed % 5 == 0 else int(rng.integers(64, 900))
    max_sentences = int(rng.integers(1, 50)) if seed % 5 in (0, 1) else None
    multiple = int(rng.choice([1, 3, 8]))
    bounds = fairseq_order.batch_by_size(
        tokens, max_tokens=max_tokens, max_sentences=max_sentences, multiple=multiple
    )
    ours = [list(range(a, b)) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    assert ours == simulate(tokens.tolist(), max_tokens, max_sentences, multiple)


def test_remainder_that_overflows_is_a_batch_of_its_own():
    # 9 short sentences: 8 are a batch, the ninth with the long one would be 2 * 50 > 90.
    bounds = fairseq_order.batch_by_size(
        np.array([10] * 9 + [50]), max_tokens=90, max_sentences=None, multiple=8
    )
    assert bounds.tolist() == [0, 8, 9, 10]


def five() -> Lengths:
    return Lengths(source=np.array([3, 4, 5, 6, 7]), target=np.array([4, 4, 4, 4, 4]))


def test_final_batch_is_dropped_in_training_only(lengths):
    short = Lengths(source=lengths.source[:203], target=lengths.target[:203])
    train = make_plan(short, batching(max_tokens=800), seed=1)
    valid = make_plan(short, batching(max_tokens=800), seed=1, train=False)
    dropped = 203 - len(train.epoch(1).ids)
    assert 0 < dropped < 8 and f"{dropped} sentences" in train.describe()
    assert sorted(valid.epoch(1).ids.tolist()) == list(range(203))
    assert sorted(make_plan(five(), batching(max_tokens=800), seed=1, train=False)
                  .epoch(1).ids.tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="required_batch_size_multiple=1"):
        make_plan(five(), batching(max_tokens=800), seed=1)


def test_validation_is_not_shuffled(lengths):
    plan = make_plan(lengths, batching(max_tokens=800), seed=1, train=False)
    longest = [int(lengths.source[plan.epoch(e).update(i).ids].max())
               for e in (1, 2) for i in range(len(plan.epoch(1)))]
    half = len(longest) // 2
    assert longest[:half] == sorted(longest[:half]) == longest[half:]


def test_workers_share_an_update(lengths):
    alone = make_plan(lengths, batching(max_tokens=400), seed=3).epoch(2)
    shared = make_plan(
        lengths, batching(max_tokens=400), seed=3, workers=2, update_freq=(3,)
    ).epoch(2)
    wanted = [groups_of(alone.update(i))[0] for i in range(len(alone))]
    assert [groups_of(shared.update(i)) for i in range(len(shared))] == [
        wanted[i:i + 6] for i in range(0, len(wanted), 6)
    ]
    with pytest.raises(ValueError, match="fairseq"):
        make_plan(lengths, BatchingConfig(), seed=1, workers=2)


def test_a_changed_update_freq_goes_on_from_the_same_batch(lengths):
    plan = make_plan(lengths, batching(max_tokens=400), seed=1, update_freq=(4,))
    whole = make_plan(lengths, batching(max_tokens=400), seed=1).epoch(1)
    rest = plan.epoch(1, start=7)
    wanted = [groups_of(whole.update(i))[0] for i in range(7, 11)]
    assert groups_of(rest.update(0)) == wanted
    assert rest.update(0).consumed == 11


@pytest.mark.parametrize("freq", [1, 3])
@pytest.mark.parametrize("num_shapes", [1, 4, 9])
def test_shapes_are_bounded_and_hold_their_batches(lengths, freq, num_shapes):
    plan = make_plan(
        lengths, batching(max_tokens=600, num_shapes=num_shapes, length_multiple=4), seed=1,
        update_freq=(freq,), row_multiple=4,
    )
    assert len(plan.shapes) <= (num_shapes if freq == 1 else num_shapes * (num_shapes + 1) // 2)
    for e in (1, 2):
        epoch = plan.epoch(e)
        assert epoch.update_shapes() <= set(plan.shapes)
        for i in range(len(epoch)):
            update = epoch.update(i)
            assert update.shape.rows % 8 == 0
            assert lengths.source[update.ids].max() <= update.shape.source
            assert lengths.target[update.ids].max() <= update.shape.target
            assert max(map(len, groups_of(update))) <= update.shape.rows


def test_menu_has_the_least_area():
    rng = np.random.default_rng(0)
    rows, source, target = (rng.integers(1, 6, 7) * 8 for _ in range(3))
    order = np.lexsort((target, source, rows, np.maximum(source, target)))
    needs = np.stack([rows, source, target], axis=1)[order]

    def area(cuts) -> int:
        parts = [needs[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
        tops = [p.max(axis=0) for p in parts]
        return sum(len(p) * t[0] * (t[1] + t[2]) for p, t in zip(parts, tops, strict=True))

    best = min(area([0, a, b, 7]) for a in range(1, 7) for b in range(a + 1, 7))
    shapes, entry = fairseq_order.shape_menu(rows, source, target, num_shapes=3)
    chosen = shapes[entry]
    assert len(shapes) == 3
    assert (chosen >= np.stack([rows, source, target], axis=1)).all()
    assert (chosen[:, 0] * (chosen[:, 1] + chosen[:, 2])).sum() == best


def test_over_long_sentences(caplog):
    long = Lengths(source=np.array([5] * 20 + [30] + [5] * 12), target=np.array([5] * 32 + [41]))
    with caplog.at_level(logging.WARNING):
        plan = make_plan(long, batching(max_tokens=40, required_batch_size_multiple=1), seed=1,
                         max_source_positions=29)
    assert sorted(plan.epoch(1).ids.tolist()) == [i for i in range(33) if i not in (20, 32)]
    assert "2 of 33" in caplog.text and "[20, 32]" in caplog.text
    with pytest.raises(ValueError, match="sentence 20 has 30 source tokens"):
        make_plan(long, batching(max_tokens=40), seed=1, max_source_positions=29, train=False)
    with pytest.raises(ValueError, match=r"sentence 32 has 41 tokens.*max_tokens=40"):
        make_plan(long, batching(max_tokens=40), seed=1, train=False)
    skipping = batching(max_tokens=41, skip_invalid_size_inputs_valid_test=True)
    kept = make_plan(long, skipping, seed=1, max_source_positions=29, train=False).epoch(1).ids
    assert sorted(kept.tolist()) == [i for i in range(33) if i != 20]
    with pytest.raises(ValueError, match="max_tokens or batching.max_sentences"):
        make_plan(long, batching(max_tokens=None), seed=1)


@pytest.mark.parametrize(("freq", "workers"), [(1, 1), (2, 1), (5, 1), (2, 3)])
def test_packed_updates_hold_the_same_sentences(lengths, freq, workers):
    options = {"max_tokens": 800, "pack_length": 64, "length_multiple": 4}
    many = {"seed": 1, "update_freq": (freq,), "workers": workers, "row_multiple": 4}
    plain = make_plan(lengths, batching(**options), **many)
    packed = make_plan(lengths, BatchingConfig(mode="fairseq_packed", **options), **many)
    assert len({shape for _, shape in packed.shapes}) == 1 and len(packed.shapes) <= 4
    for number, start in ((1, 0), (2, freq * workers)):
        ours, theirs = packed.epoch(number, start=start), plain.epoch(number, start=start)
        assert len(ours) == len(theirs)
        assert ours.update_shapes() <= set(packed.shapes)
        positions = 0
        for i in range(len(ours)):
            a, b = ours.update(i), theirs.update(i)
            assert sorted(a.ids) == sorted(b.ids)
            assert (a.ntokens, a.source_tokens, a.consumed, a.index) == (
                b.ntokens, b.source_tokens, b.consumed, b.index)
            assert a.packed and (np.diff(a.rows) >= 0).all()
            assert a.rows.max() < a.groups * a.shape.rows
            assert np.bincount(a.rows, lengths.source[a.ids]).max() <= a.shape.source
            assert np.bincount(a.rows, lengths.target[a.ids]).max() <= a.shape.target
            positions += a.groups * a.shape.tokens
        tokens = lengths.source[ours.ids].sum() + lengths.target[ours.ids].sum()
        if not start:
            assert ours.efficiency == pytest.approx(tokens / positions)
    assert "packed" in packed.describe()


def test_packed_updates_are_dense():
    source, target = synthetic.lengths(20000)
    lengths = Lengths(source=source, target=target)
    plain = make_plan(lengths, batching(), seed=1, update_freq=(16,)).epoch(1)
    packed = make_plan(
        lengths, BatchingConfig(mode="fairseq_packed"), seed=1, update_freq=(16,)
    ).epoch(1)
    # The last of the 12 updates is short.
    assert plain.efficiency < 0.1 and packed.efficiency > 0.65


def test_packed_rows_grow_with_the_longest_sentence():
    long = Lengths(source=np.array([5] * 16 + [130]), target=np.array([9] * 16 + [101]))
    config = BatchingConfig(mode="fairseq_packed", max_tokens=200, pack_length=64)
    plan = make_plan(long, dataclasses.replace(config, required_batch_size_multiple=1), seed=1)
    assert {s.source for _, s in plan.shapes} == {s.target for _, s in plan.shapes} == {136}
    assert sorted(plan.epoch(1).ids.tolist()) == list(range(17))
    assert not make_plan(long, config, seed=1, train=False).epoch(1).update(0).packed
