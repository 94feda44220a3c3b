"""From a run's seed, an epoch and the number of an item to the seed of what is drawn for it."""

from __future__ import annotations


def item_seed(seed: int, epoch: int, index: int) -> int:
    """fairseq's `numpy_seed(seed, epoch, index)`: CPython's hash of the three, below 1e6.

    A pure function of them, so that the same is drawn on any host and by any worker. (CPython's
    hash of integers is the same in every process.)
    """
    return int(hash((seed, epoch, index)) % 1e6)
