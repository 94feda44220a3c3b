"""Flags that fairseq reads only beside another one: named where they change nothing.

Each rule says when a flag counts. Whoever gave one that does not is told so, since fairseq
itself says nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seqjax.interop.fairseq.flags import Flag

Flat = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """When some flags count."""

    flags: Sequence[str]
    """fairseq's names of the values."""
    counts: Callable[[Flat], bool]
    without: str
    """What is missing, or there, where they do not."""


def _number(flat: Flat, name: str) -> float:
    try:
        return float(flat.get(name) or 0)
    except (TypeError, ValueError):
        return 1.0  # not a number: said elsewhere


def _on(name: str) -> Callable[[Flat], bool]:
    return lambda flat: bool(flat.get(name))


def _off(name: str) -> Callable[[Flat], bool]:
    return lambda flat: not flat.get(name)


def _warms_up(flat: Flat) -> bool:
    given = flat.get("warmup_updates")
    if given is None:
        return flat.get("lr_scheduler") == "inverse_sqrt"
    return _number(flat, "warmup_updates") > 0


def _cosine_restarts(flat: Flat) -> bool:
    return _number(flat, "lr_period_updates") > 0


SEARCH = ("beam", "nbest", "max_len_a", "max_len_b", "min_len", "match_source_len",
          "unnormalized", "lenpen", "unkpen", "temperature", "diverse_beam_groups",
          "diverse_beam_strength", "diversity_rate", "no_repeat_ngram_size", "prefix_size",
          "sampling", "sampling_topk", "sampling_topp", "lm_weight")
"""Of the search of validations: fairseq's `eval_wer_config`."""

RULES = (
    Rule(flags=("eval_bleu_args", "eval_bleu_detok", "eval_bleu_detok_args",
                "eval_bleu_remove_bpe", "eval_bleu_print_samples", "eval_tokenized_bleu"),
         counts=_on("eval_bleu"), without="without --eval-bleu"),
    Rule(flags=("eval_wer_post_process", *SEARCH),
         counts=_on("eval_wer"), without="without --eval-wer"),
    Rule(flags=("valid_subset", "validate_interval", "validate_interval_updates",
                "max_valid_steps", "patience", "best_checkpoint_metric",
                "maximize_best_checkpoint_metric", "keep_best_checkpoints", "eval_bleu",
                "fixed_validation_seed", "skip_invalid_size_inputs_valid_test"),
         counts=_off("disable_validation"), without="beside --disable-validation"),
    Rule(flags=("save_interval", "save_interval_updates", "keep_interval_updates",
                "keep_interval_updates_pattern", "keep_last_epochs", "keep_best_checkpoints",
                "no_epoch_checkpoints", "no_last_checkpoints"),
         counts=_off("no_save"), without="beside --no-save"),
    Rule(flags=("keep_interval_updates",),
         counts=lambda flat: _number(flat, "save_interval_updates") > 0,
         without="without --save-interval-updates"),
    Rule(flags=("keep_interval_updates_pattern",),
         counts=lambda flat: (_number(flat, "keep_interval_updates") > 0
                              and _number(flat, "save_interval_updates") > 0),
         without="without --save-interval-updates and --keep-interval-updates"),
    Rule(flags=("keep_last_epochs",), counts=_off("no_epoch_checkpoints"),
         without="beside --no-epoch-checkpoints"),
    Rule(flags=("warmup_init_lr",), counts=_warms_up, without="without --warmup-updates"),
    Rule(flags=("lr_shrink",),
         counts=lambda flat: (_cosine_restarts(flat) if flat.get("lr_scheduler") == "cosine"
                              else flat.get("force_anneal") is not None),
         without="without --force-anneal or --lr-period-updates"),
    Rule(flags=("t_mult",), counts=_cosine_restarts, without="without --lr-period-updates"),
    Rule(flags=("warmup_steps", "hold_steps", "decay_steps"),
         counts=lambda flat: not flat.get("phase_ratio"), without="beside --phase-ratio"),
)


def without_effect(flat: Flat, flags: Sequence[Flag]) -> list[str]:
    """`--flag VALUE: without effect ...` of every value that asks for something and gets it
    neither from fairseq nor here."""
    by_dest = {f.dest: f for f in flags}
    found: dict[str, str] = {}
    for rule in RULES:
        for dest in rule.flags:
            flag, value = by_dest.get(dest), flat.get(dest)
            if flag is None or dest in found or flag.is_default(value) or rule.counts(flat):
                continue
            found[dest] = f"{flag.shown(value)}: without effect {rule.without}"
    return list(found.values())
