"""Learning-rate schedules: fairseq's formulas as pure functions of (updates done, epoch).

A schedule may be called with Python numbers or traced arrays, and gives the rate of the
*next* update. Epochs count from 1. Schedules hold no state.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError, ScheduleConfig

Schedule = Callable[..., jax.Array]
"""(num_updates, epoch) -> float32 scalar: the rate of update number `num_updates + 1`."""

MAX_PERIODS = 65536
"""Cosine: restarts that the table of periods may hold."""


def make_schedule(
    config: ScheduleConfig, *, lr: tuple[float, ...], max_update: int = 0
) -> Schedule:
    """The schedule that `config` names.

    Args:
      config: the `schedule` section.
      lr: `train.lr`: the peak rate, or one per epoch where the schedule allows several.
      max_update: `train.max_update`, the length that cosine, polynomial_decay and
        tri_stage take when none is given (0: unknown).

    Raises:
      ConfigError: a combination that the formula has no value for.
    """
    if not lr:
        raise ConfigError("config.train.lr: give at least one learning rate")
    if config.warmup_updates < 0:
        raise ConfigError(
            f"config.schedule.warmup_updates: {config.warmup_updates} is negative; 0 is no warm-up"
        )
    if len(lr) > 1 and config.name not in ("fixed", "polynomial_decay"):
        raise ConfigError(
            f"config.train.lr: {len(lr)} values, but schedule {config.name!r} takes one; "
            "several values are one per epoch, for schedule.name=fixed"
        )
    makers = {
        "inverse_sqrt": _inverse_sqrt,
        "polynomial_decay": _polynomial_decay,
        "fixed": _fixed,
        "cosine": _cosine,
        "tri_stage": _tri_stage,
    }
    return makers[config.name](config, tuple(float(x) for x in lr), max_update)


def _f32(x: float | jax.Array) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


def _steps(num_updates: int | jax.Array) -> jax.Array:
    return jnp.asarray(num_updates, jnp.int32)


def _per_epoch(lr: tuple[float, ...], index: int | jax.Array) -> jax.Array:
    return jnp.asarray(lr, jnp.float32)[jnp.clip(index, 0, len(lr) - 1)]


def _inverse_sqrt(config: ScheduleConfig, lr: tuple[float, ...], max_update: int) -> Schedule:
    """lr * sqrt(W) / sqrt(n) after a linear warm-up of W updates (Vaswani et al. 2017)."""
    warmup, peak = config.warmup_updates, lr[0]
    if warmup == 0:
        raise ConfigError(
            "config.schedule.warmup_updates: inverse_sqrt decays from the end of its warm-up "
            "and needs at least 1 update of it; for a constant rate use schedule.name=fixed"
        )
    start = max(config.warmup_init_lr, 0.0)
    slope, factor = (peak - start) / warmup, peak * math.sqrt(warmup)

    def schedule(num_updates: int | jax.Array, epoch: int | jax.Array = 1) -> jax.Array:
        n = _steps(num_updates)
        decayed = factor * jax.lax.rsqrt(jnp.maximum(n, 1).astype(jnp.float32))
        return _f32(jnp.where(n < warmup, start + n * slope, decayed))

    return schedule


def _polynomial_decay(config: ScheduleConfig, lr: tuple[float, ...], max_update: int) -> Schedule:
    """Linear warm-up from 0, then (1 - progress)^power down to `end_learning_rate`."""
    if config.force_anneal is not None:
        raise ConfigError(
            "config.schedule.force_anneal: only schedule.name=fixed anneals by epochs; "
            "polynomial_decay ends at schedule.total_num_update"
        )
    total, warmup = config.total_num_update or max_update, config.warmup_updates
    if total <= 0:
        raise ConfigError(
            "config.schedule.total_num_update: polynomial_decay needs its length in updates; "
            "set it, or config.train.max_update"
        )
    if total < warmup:
        raise ConfigError(
            f"config.schedule.total_num_update: {total} updates in all are fewer than the "
            f"{warmup} of schedule.warmup_updates"
        )
    end, power = config.end_learning_rate, config.power

    def schedule(num_updates: int | jax.Array, epoch: int | jax.Array = 1) -> jax.Array:
        n = _steps(num_updates)
        peak = _per_epoch(lr, epoch)  # fairseq indexes by epoch here, not by epoch - 1
        left = jnp.clip(total - n, 0).astype(jnp.float32) / max(total - warmup, 1)
        decayed = (peak - end) * left**power + end
        rate = jnp.where(n >= total, end, decayed)
        if warmup:
            rate = jnp.where(n <= warmup, peak * (n.astype(jnp.float32) / warmup), rate)
        return _f32(rate)

    return schedule


def _fixed(config: ScheduleConfig, lr: tuple[float, ...], max_update: int) -> Schedule:
    """One rate per epoch; shrunk every epoch from `force_anneal` on; linear warm-up."""
    warmup, shrink, anneal = config.warmup_updates, config.lr_shrink, config.force_anneal

    def schedule(num_updates: int | jax.Array, epoch: int | jax.Array = 1) -> jax.Array:
        n, epoch = _steps(num_updates), jnp.asarray(epoch, jnp.int32)
        rate = _per_epoch(lr, epoch - 1)
        if anneal is not None:
            times = jnp.maximum(epoch + 1 - anneal, 0).astype(jnp.float32)
            rate = jnp.where(epoch >= anneal, lr[-1] * _f32(shrink) ** times, rate)
        if warmup:
            rate = rate * jnp.minimum((n + 1).astype(jnp.float32) / warmup, 1.0)
        return _f32(rate)

    return schedule


def _cosine(config: ScheduleConfig, lr: tuple[float, ...], max_update: int) -> Schedule:
    """Half cosines from the peak to `min_lr`, restarted `t_mult` times as long each time
    and `lr_shrink` times as high (SGDR, Loshchilov and Hutter 2017)."""
    warmup, peak, shrink = config.warmup_updates, lr[0], config.lr_shrink
    floor = config.min_lr
    start = floor if config.warmup_init_lr < 0 else config.warmup_init_lr
    starts, lengths = _periods(config, max_update)
    scales = shrink ** np.arange(len(starts), dtype=np.float64)

    def schedule(num_updates: int | jax.Array, epoch: int | jax.Array = 1) -> jax.Array:
        n = _steps(num_updates)
        since = jnp.maximum(n - warmup, 0)
        period = jnp.searchsorted(jnp.asarray(np.ceil(starts), jnp.int32), since, side="right") - 1
        length = jnp.asarray(lengths, jnp.float32)[period]
        begin = jnp.asarray(starts, jnp.float32)[period]
        left = jnp.clip(begin + length - since, 0.0) / length
        # 1 + cos(pi (1 - x)) = 2 sin^2(pi x / 2): no cancellation near the period's end.
        height = jnp.sin(0.5 * jnp.pi * left) ** 2
        scale = jnp.asarray(scales, jnp.float32)[period]
        rate = scale * (floor + (peak - floor) * height)
        if warmup:
            slope = (peak - start) / warmup
            rate = jnp.where(n < warmup, start + n * slope, rate)
        return _f32(rate)

    return schedule


def _periods(config: ScheduleConfig, max_update: int) -> tuple[np.ndarray, np.ndarray]:
    """First update (after warm-up) and length of every cosine period."""
    length, mult = config.lr_period_updates, config.t_mult
    if length <= 0:
        length = max_update - config.warmup_updates
        if length <= 0:
            raise ConfigError(
                "config.schedule.lr_period_updates: cosine needs the length of its period; set "
                "it, or a config.train.max_update above schedule.warmup_updates"
            )
        # One period fills the run; no restart at its very end (fairseq has one there).
        return np.zeros(1), np.full(1, float(length))
    if mult < 1:
        raise ConfigError(f"config.schedule.t_mult: {mult}; cosine periods cannot shrink")
    end = max_update or 2**31 - 1
    if mult == 1:
        count = min(math.ceil(end / length) + 1, MAX_PERIODS + 1)
        starts, lengths = np.arange(count) * length, np.full(count, float(length))
    else:
        count = min(math.ceil(math.log1p(end / length * (mult - 1)) / math.log(mult)) + 1,
                    MAX_PERIODS + 1)
        powers = mult ** np.arange(count, dtype=np.float64)
        starts, lengths = (powers - 1) / (mult - 1) * length, powers * length
    if count > MAX_PERIODS and max_update:
        raise ConfigError(
            f"config.schedule.lr_period_updates: periods of {length} updates restart more than "
            f"{MAX_PERIODS} times in {max_update} updates"
        )
    keep = starts < 2**31 - 1
    return starts[keep], lengths[keep]


def _tri_stage(config: ScheduleConfig, lr: tuple[float, ...], max_update: int) -> Schedule:
    """Linear warm-up, hold, exponential decay (SpecAugment, Park et al. 2019)."""
    peak, final = lr[0], config.final_lr_scale
    if config.phase_ratio is not None:
        if len(config.phase_ratio) != 3 or not math.isclose(sum(config.phase_ratio), 1.0):
            raise ConfigError(
                f"config.schedule.phase_ratio: {config.phase_ratio}; give three shares, of "
                "warm-up, hold and decay, that sum to 1"
            )
        if max_update <= 0:
            raise ConfigError(
                "config.schedule.phase_ratio: shares of config.train.max_update, which is not set"
            )
        warmup, hold, decay = (int(max_update * share) for share in config.phase_ratio)
    else:
        warmup, hold, decay = config.warmup_updates, config.hold_steps, config.decay_steps
    if decay <= 0:
        raise ConfigError(
            "config.schedule.decay_steps: tri_stage needs at least 1 update of decay; set it, or "
            "schedule.phase_ratio with a third share above 0"
        )
    if final <= 0:
        raise ConfigError(
            f"config.schedule.final_lr_scale: {final}; an exponential decay cannot reach 0"
        )
    start, rate = config.init_lr_scale * peak, -math.log(final) / decay
    slope = (peak - start) / warmup if warmup else 0.0

    def schedule(num_updates: int | jax.Array, epoch: int | jax.Array = 1) -> jax.Array:
        n = _steps(num_updates)
        since = jnp.maximum(n - warmup - hold, 0)
        value = peak * jnp.exp(-rate * since.astype(jnp.float32))
        value = jnp.where(since > decay, final * peak, value)
        value = jnp.where(n < warmup + hold, peak, value)
        return _f32(jnp.where(n < warmup, start + slope * n, value))

    return schedule
