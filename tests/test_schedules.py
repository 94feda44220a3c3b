"""Learning rates against those that fairseq recorded, and against its formulas."""

from __future__ import annotations

import json
import math
import pathlib

import jax
import numpy as np
import pytest

from seqjax.config import ConfigError, ScheduleConfig
from seqjax.training.schedules import make_schedule

GOLDENS = json.loads(
    (pathlib.Path(__file__).parent / "goldens" / "schedules" / "lr.json").read_text()
)

RECORDED = {
    "adam_inverse_sqrt": (dict(name="inverse_sqrt", warmup_updates=60), 3e-3, 0),
    "sentence_avg_polynomial": (
        dict(name="polynomial_decay", warmup_updates=5, total_num_update=25,
             end_learning_rate=1e-5), 1e-3, 0),
    "adafactor_fixed": (dict(name="fixed", warmup_updates=5), 1e-3, 0),
    "lm_cosine_nag": (
        dict(name="cosine", warmup_updates=4, warmup_init_lr=1e-3, min_lr=1e-4,
             lr_period_updates=10, t_mult=2, lr_shrink=0.75), 0.5, 0),
    "tri_stage": (
        dict(name="tri_stage", phase_ratio=(0.2, 0.3, 0.5), final_lr_scale=0.05), 2e-3, 30),
}


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recorded_rates(name):
    options, lr, max_update = RECORDED[name]
    schedule = jax.jit(make_schedule(ScheduleConfig(**options), lr=(lr,), max_update=max_update))
    steps = GOLDENS[name]
    assert len(steps) >= 20
    ours = [float(schedule(n, epoch)) for n, epoch, _ in steps]
    np.testing.assert_allclose(ours, [rate for _, _, rate in steps], rtol=1e-6)


def rates(options, lr, ns, epoch=1, max_update=0):
    schedule = make_schedule(ScheduleConfig(**options), lr=lr, max_update=max_update)
    return [float(schedule(n, epoch)) for n in ns]


def test_inverse_sqrt_far_from_the_start():
    ours = rates(dict(warmup_updates=4000, warmup_init_lr=1e-7), (5e-4,), [0, 4000, 300_000])
    want = [1e-7, 5e-4, 5e-4 * math.sqrt(4000 / 300_000)]
    np.testing.assert_allclose(ours, want, rtol=1e-6)


def test_polynomial_power_and_rates_by_epoch():
    options = dict(name="polynomial_decay", warmup_updates=0, power=2.0)
    ours = rates(options, (9.0, 1.0, 2.0), [0, 50, 100, 200], epoch=1, max_update=100)
    np.testing.assert_allclose(ours, [1.0, 0.25, 0.0, 0.0], rtol=1e-6)
    assert rates(options, (9.0, 1.0, 2.0), [0], epoch=7, max_update=100) == [2.0]


def test_fixed_by_epoch_and_annealed():
    options = dict(name="fixed", warmup_updates=0, force_anneal=4, lr_shrink=0.5)
    ours = [rates(options, (1.0, 0.8), [100], epoch=e)[0] for e in range(1, 7)]
    np.testing.assert_allclose(ours, [1.0, 0.8, 0.8, 0.4, 0.2, 0.1], rtol=1e-6)


def test_cosine_periods_follow_the_definition():
    def definition(n, *, period, mult, shrink, low, high):
        start, length, i = 0.0, float(period), 0
        while n >= start + length:
            start, length, i = start + length, length * mult, i + 1
        wave = 0.5 * (high - low) * (1 + math.cos(math.pi * (n - start) / length))
        return shrink**i * (low + wave)

    for mult in (1.0, 1.5, 3.0):
        ns = [0, 1, 6, 7, 8, 27, 28, 90, 91, 1000, 4321]
        ours = rates(dict(name="cosine", warmup_updates=0, min_lr=0.01, lr_period_updates=7,
                          t_mult=mult, lr_shrink=0.9), (2.0,), ns, max_update=5000)
        want = [definition(n, period=7, mult=mult, shrink=0.9, low=0.01, high=2.0) for n in ns]
        np.testing.assert_allclose(ours, want, rtol=1e-5)


def test_cosine_fills_the_run_and_stays_at_its_end():
    ours = rates(dict(name="cosine", warmup_updates=10, min_lr=0.1), (1.0,),
                 [0, 5, 10, 60, 110, 500], max_update=110)
    np.testing.assert_allclose(ours, [0.1, 0.55, 1.0, 0.55, 0.1, 0.1], rtol=1e-6)


def test_tri_stage_by_steps():
    options = dict(name="tri_stage", warmup_updates=0, hold_steps=2, decay_steps=4,
                   final_lr_scale=0.01)
    ours = rates(options, (1.0,), [0, 2, 4, 6, 7, 100])
    np.testing.assert_allclose(ours, [1.0, 1.0, 0.1, 0.01, 0.01, 0.01], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "lr", "says"),
    [
        (dict(warmup_updates=0), (1.0,), "needs at least 1 update"),
        (dict(warmup_updates=-1), (1.0,), "negative"),
        (dict(), (), "at least one learning rate"),
        (dict(), (1.0, 2.0), "takes one"),
        (dict(name="polynomial_decay"), (1.0,), "total_num_update"),
        (dict(name="polynomial_decay", total_num_update=9, warmup_updates=10), (1.0,), "fewer"),
        (dict(name="polynomial_decay", total_num_update=9, force_anneal=2, warmup_updates=1),
         (1.0,), "force_anneal"),
        (dict(name="cosine"), (1.0,), "lr_period_updates"),
        (dict(name="cosine", lr_period_updates=5, t_mult=0.5), (1.0,), "t_mult"),
        (dict(name="tri_stage"), (1.0,), "decay_steps"),
        (dict(name="tri_stage", phase_ratio=(0.5, 0.2, 0.2)), (1.0,), "sum to 1"),
        (dict(name="tri_stage", phase_ratio=(0.5, 0.2, 0.3)), (1.0,), "max_update"),
        (dict(name="tri_stage", decay_steps=5, final_lr_scale=0.0), (1.0,), "cannot reach 0"),
    ],
)
def test_refused(options, lr, says):
    with pytest.raises(ConfigError, match=says):
        make_schedule(ScheduleConfig(**options), lr=lr)


PEAK, WARM = 5e-4, 4000
LONG = {
    "inverse_sqrt": (dict(warmup_updates=WARM), lambda n: PEAK * (WARM / n) ** 0.5),
    "tri_stage": (
        dict(warmup_updates=WARM, hold_steps=1000, decay_steps=5_000_000, final_lr_scale=0.01),
        lambda n: PEAK * 0.01 ** min(max(n - 5000, 0) / 5e6, 1)),
    "cosine": (
        dict(warmup_updates=WARM, lr_period_updates=20_000_000, min_lr=1e-9),
        lambda n: 1e-9 + (PEAK - 1e-9) * 0.5 * (1 + math.cos(math.pi * (n - WARM) / 2e7))),
    "polynomial_decay": (
        dict(warmup_updates=WARM, total_num_update=20_000_000, power=2.0),
        lambda n: PEAK * (1 - (n - WARM) / (2e7 - WARM)) ** 2),
}


@pytest.mark.parametrize("name", LONG)
def test_float32_is_enough_for_ten_million_updates(name):
    """fairseq computes rates in Python's float64."""
    options, formula = LONG[name]
    schedule = jax.jit(make_schedule(
        ScheduleConfig(name=name, **options), lr=(PEAK,), max_update=20_000_000))
    ns = [WARM + 1, 5001, 12_345, 100_000, 999_999, 4_999_999, 10_000_000, 16_777_215]
    np.testing.assert_allclose(
        [float(schedule(n)) for n in ns], [formula(n) for n in ns], rtol=5e-7)
