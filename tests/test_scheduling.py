"""Sentences that move between batches: the same results in fewer steps."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_models import RecurrentToy, ToyModel

from seqjax.config import GenerationConfig
from seqjax.generation import rows, scheduling
from seqjax.generation.decoder import Decoder

# max_len_a=4 and eos that hardly ever comes by itself: lengths follow sources.
CONFIG = GenerationConfig(beam=3, nbest=3, max_len_a=4.0, max_len_b=2, min_len=1, batch_size=8)
TOY = dict(eos_bias=-9.0)


def make_sources(count):
    """Lengths from 2 to 13 in every batch: one source width, outputs of 10 to 54 tokens."""
    rng = np.random.default_rng(3)
    return [np.append(rng.integers(4, 12, 1 + i % 12), 2) for i in range(count)]


def plain(found):
    return [[h.tokens.tolist() for h in hypotheses] for hypotheses in found]


@pytest.mark.parametrize("model", [ToyModel(**TOY), RecurrentToy(**TOY)], ids=["cache", "state"])
def test_moved_sentences_find_what_they_find_alone(model, monkeypatch):
    moves, old = [], scheduling.Run.take_in

    def counted(self, other):
        before = self.live, other.live
        old(self, other)
        moves.append((*before, self.live, other.live))
        assert sum(before) == self.live + other.live

    monkeypatch.setattr(scheduling.Run, "take_in", counted)
    params = model.init(jax.random.key(0))
    sources = make_sources(50)
    mixed = [list(range(i, 50, 7)) for i in range(7)]  # every batch has all lengths
    together = Decoder(model, CONFIG).decode(params, sources, plan=mixed)
    assert len(moves) >= 4 and any(m[3] for m in moves)  # some fitted in part only
    alone = Decoder(model, CONFIG)
    for source, found in list(zip(sources, together, strict=True))[::6]:
        wanted = alone.decode(params, [source])[0]
        assert plain([found]) == plain([wanted])
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a.positional_scores, b.positional_scores, atol=1e-5)


def test_samples_stay_with_their_sentences():
    model = ToyModel(**TOY)
    params = model.init(jax.random.key(0))
    config = dataclasses.replace(CONFIG, sampling=True)
    sources = make_sources(30)
    mixed = [list(range(i, 30, 4)) for i in range(4)]
    together = Decoder(model, config).decode(params, sources, plan=mixed)
    in_order = Decoder(model, config).decode(params, sources)
    assert plain(together) == plain(in_order)


def test_batches_are_kept_full(monkeypatch):
    """Steps times rows, over what the sentences need."""
    spent, dispatch = [], scheduling.Run.dispatch

    def counted(self):
        before = self.position
        dispatch(self)
        spent.append((self.position - before) * len(self.owners))

    monkeypatch.setattr(scheduling.Run, "dispatch", counted)
    model = ToyModel(**TOY)
    sources = make_sources(96)
    mixed = [list(range(i, i + 8)) for i in range(0, 96, 8)]
    decoder = Decoder(model, CONFIG)
    found = decoder.decode(model.init(jax.random.key(0)), sources, plan=mixed)
    needed = sum(max(len(h.tokens) for h in hypotheses) for hypotheses in found)
    longest = sum(8 * max(len(h.tokens) for i in part for h in found[i]) for part in mixed)
    assert needed / longest < 0.75 and needed / sum(spent) > 0.74


def test_stops_are_common_to_all_runs():
    """Runs meet where they stop, whatever their caches' sizes."""
    stops, position = [], 0
    while position < 27:
        position = scheduling.next_stop(position, 27)
        stops.append(position)
    assert stops == [8, 16, 24, 27]


def test_the_batch_axis_is_found_wherever_it_is():
    shapes = lambda b: {"a": jax.ShapeDtypeStruct((b, 3), jnp.float32),  # noqa: E731
                        "b": jax.ShapeDtypeStruct((4, 5 * b), jnp.float32),
                        "c": jax.ShapeDtypeStruct((7,), jnp.float32)}
    axes = rows.batch_axes(shapes(1), shapes(2))
    assert axes == (0, 1, rows.SHARED)
    with pytest.raises(ValueError, match="several batch axes"):
        rows.batch_axes(jax.ShapeDtypeStruct((1, 1), jnp.int32),
                        jax.ShapeDtypeStruct((2, 2), jnp.int32))


def test_rows_are_moved_along_their_axis():
    into, of = np.arange(24).reshape(2, 12), -np.arange(24).reshape(2, 12)
    source, moved = np.array([2, 0, 0]), np.array([True, False, True])
    got = rows.move_rows(jnp.asarray(into), jnp.asarray(of), source, moved, axis=1)
    want = into.reshape(2, 3, 4).copy()
    want[:, 0], want[:, 2] = of.reshape(2, 3, 4)[:, 2], of.reshape(2, 3, 4)[:, 0]
    np.testing.assert_array_equal(got, want.reshape(2, 12))
    assert rows.move_rows(into, of, source, moved, axis=rows.SHARED) is into


