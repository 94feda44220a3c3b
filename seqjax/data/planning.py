"""From lengths and a configuration to a plan of batches: the door to all modes.

    plan = make_plan(dataset.lengths, config.batching, seed=1, update_freq=(4,))
    plan.shapes                # ((G, Shape(rows, S, T)), ...): compile these before step 1
    epoch = plan.epoch(1)      # EpochPlan: len(epoch) updates
    epoch.update(0)            # Update: sentence ids, rows, shape, token counts

Everything here is NumPy on lengths. `pairs` makes arrays of it, `pipeline` iterates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seqjax.config import BatchingConfig
from seqjax.data.bucketing import BucketedPlan
from seqjax.data.epoch_plan import Lengths, TrainPlan, usable_ids
from seqjax.data.fairseq_order import FairseqPlan
from seqjax.data.fairseq_packed import FairseqPackedPlan
from seqjax.data.mixture import Mixture, MixturePlan
from seqjax.data.packing import PackedPlan
from seqjax.data.resampling import Resampling


def make_plan(
    lengths: Lengths,
    batching: BatchingConfig,
    *,
    seed: int,
    update_freq: tuple[int, ...] = (1,),
    row_multiple: int = 1,
    max_source_positions: int | None = None,
    max_target_positions: int | None = None,
    train: bool = True,
    composition_epoch: int = 1,
    workers: int = 1,
    shuffle_ties: bool = True,
    mixture: Mixture | Resampling | None = None,
) -> TrainPlan:
    """The plan of every epoch.

    Args:
      lengths: of every sentence, eos included.
      batching: mode, budgets, menu.
      seed: with the epoch, all that the order depends on.
      update_freq: micro-batches an update (G), per epoch; the last value stays.
      row_multiple: rows of every micro-batch are a multiple of this, whatever the budget
        (data * fsdp of the mesh).
      max_source_positions, max_target_positions: the smaller of task's and model's.
      train: shuffle; drop sentences over a limit with one warning. Else (validation): the
        order is fixed, all sentences are kept, one over a limit raises unless
        `skip_invalid_size_inputs_valid_test`.
      composition_epoch: `fairseq*` only: the epoch at which fairseq made its batches; a
        fairseq checkpoint being continued names its own (fairseq composes anew, with
        seed + epoch, whenever it restarts).
      workers: `fairseq*` only: data-parallel workers of the run to be reproduced;
        `max_tokens` and `max_sentences` are then per worker, as in its command.
      shuffle_ties: `fairseq*` only: false for the split `test`, whose ties it leaves in order.
      mixture: how often sentences of several corpora are in an epoch (None: each once).

    Raises:
      ValueError: no usable sentence, or a budget that does not hold one; in validation a
        sentence over a limit. Messages name the sentence and the key to change.
    """
    if min(update_freq, default=0) < 1:
        raise ValueError(f"train.update_freq={update_freq}: values must be 1 or more")
    _check_mixture(batching, mixture)
    limits = _limits(batching, max_source_positions, max_target_positions, train=train)
    ids = usable_ids(
        lengths, max_source=limits[0], max_target=limits[1], reason=limits[2],
        drop=train or batching.skip_invalid_size_inputs_valid_test,
    )
    order: dict[str, Any] = {"update_freq": update_freq, "seed": seed}
    if batching.mode in ("fairseq", "fairseq_packed"):
        return _fairseq_plan(
            lengths, batching, max_source=limits[0], max_target=limits[1], train=train,
            row_multiple=row_multiple, composition_epoch=composition_epoch, workers=workers,
            shuffle_ties=shuffle_ties, **order)
    if workers != 1:
        raise ValueError(f"workers={workers} needs batching.mode='fairseq' or 'fairseq_packed'")
    plan = _own_plan(lengths, ids, batching, hard_multiple=row_multiple, shuffle=train, **order)
    return plan if mixture is None else MixturePlan.of(plan, mixture)


def _check_mixture(batching: BatchingConfig, mixture: Mixture | Resampling | None) -> None:
    if mixture is not None and batching.mode in ("fairseq", "fairseq_packed"):
        raise ValueError(
            f"batching.mode={batching.mode!r} composes all epochs alike, but sampling draws each "
            "anew: use 'bucketed' or 'packed', or task.sampling_method='concat'")


def _own_plan(
    lengths: Lengths, ids: np.ndarray, batching: BatchingConfig, **options: Any
) -> BucketedPlan | PackedPlan:
    """Batches of the modes `packed` and `bucketed`.

    Args:
      ids: the sentences that are used.
      **options: what both plans take beside what `batching` says.
    """
    options |= {"max_tokens": batching.max_tokens, "max_sentences": batching.max_sentences,
                "multiple": batching.required_batch_size_multiple}
    if batching.mode == "packed":
        return PackedPlan.create(lengths, ids, pack_length=batching.pack_length, **options)
    return BucketedPlan.create(lengths, ids, num_shapes=batching.num_shapes,
                               length_multiple=batching.length_multiple, **options)


def _fairseq_plan(
    lengths: Lengths, batching: BatchingConfig, *, row_multiple: int, train: bool, **options: Any
) -> TrainPlan:
    """fairseq's batches, as they are or packed.

    Args:
      **options: what `FairseqPlan.create` takes beside these.
    """
    plan = FairseqPlan.create(
        lengths, max_tokens=batching.max_tokens, max_sentences=batching.max_sentences,
        multiple=batching.required_batch_size_multiple, hard_multiple=row_multiple,
        length_multiple=batching.length_multiple, num_shapes=batching.num_shapes, train=train,
        **options)
    if batching.mode == "fairseq" or not train:
        # Validation has one batch an update: there is nothing to gain from packing.
        return plan
    return FairseqPackedPlan.create(
        plan, pack_length=batching.pack_length, row_multiple=row_multiple,
        length_multiple=batching.length_multiple)


def _limits(
    batching: BatchingConfig, max_source: int | None, max_target: int | None, *, train: bool
) -> tuple[int | None, int | None, str]:
    """Limits of both sides and what they are called.

    fairseq's training also drops what is longer than `max_tokens`; its validation does not.
    A packed row cannot hold more than `pack_length`.
    """
    reason = ["max_positions"]
    bounds = []
    if train and batching.max_tokens:
        bounds.append(batching.max_tokens)
        reason.append("batching.max_tokens")
    if batching.mode == "packed":
        bounds.append(batching.pack_length)
        reason.append("batching.pack_length")

    def least(limit: int | None) -> int | None:
        known = [b for b in (limit, *bounds) if b is not None]
        return min(known, default=None)

    return least(max_source), least(max_target), " and ".join(reason)
