"""`generation_config.json` in, our generation section out, and what of it cannot be honoured; and
such a file from a section.

transformers' defaults hold where the file says nothing: greedy search, twenty new tokens.
Folders from before 2023 have the same keys in `config.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from seqjax.config import ConfigError, GenerationConfig

RULES = "transformers"
"""Of the section: whose rules its search goes by."""
_NEW_TOKENS = 20
_TOP_K = 50
_OFF: Mapping[str, tuple[Any, ...]] = {
    "repetition_penalty": (1.0,), "encoder_repetition_penalty": (1.0,), "typical_p": (1.0,),
    "encoder_no_repeat_ngram_size": (0,), "num_beam_groups": (1,), "diversity_penalty": (0.0,),
    "penalty_alpha": (0.0,), "epsilon_cutoff": (0.0,), "eta_cutoff": (0.0,), "min_p": (),
    "top_h": (), "exponential_decay_length_penalty": (), "sequence_bias": (), "stop_strings": (),
    "begin_suppress_tokens": (), "forced_decoder_ids": (), "guidance_scale": (1.0,),
    "renormalize_logits": (False,), "max_time": (), "constraints": (), "force_words_ids": (),
    "watermarking_config": (), "token_healing": (False,), "prompt_lookup_num_tokens": (),
    "assistant_early_exit": (), "dola_layers": (), "remove_invalid_values": (False,),
}
"""Switches that no search of ours has -> values under which they are off; None always is."""
KEYS = frozenset((
    "num_beams", "num_return_sequences", "max_length", "max_new_tokens", "min_length",
    "min_new_tokens", "length_penalty", "no_repeat_ngram_size", "early_stopping", "do_sample",
    "temperature", "top_k", "top_p", "bad_words_ids", "suppress_tokens", "forced_bos_token_id",
    "forced_eos_token_id", "decoder_start_token_id", "eos_token_id", *_OFF))
"""What is read here; a `config.json` may have them too."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """How a folder's model searches."""

    section: dict[str, Any]
    """Keys of `config.generation`."""
    ignored: tuple[str, ...]
    """What is not honoured, a phrase each."""


def from_huggingface(
    given: Mapping[str, Any], *, language_model: bool, start: int | None
) -> Search:
    """The search of a `generation_config.json`, or of the same keys of a `config.json`.

    Args:
      language_model: outputs begin with a prompt.
      start: what the decoder reads first, where it is not eos.

    Raises:
      ConfigError: a value of a type that the key does not have.
    """
    said = {key: value for key, value in given.items() if value is not None}
    section: dict[str, Any] = {
        "rules": RULES, "beam": _number(said, "num_beams", 1, int),
        "nbest": _number(said, "num_return_sequences", 1, int),
        "lenpen": _number(said, "length_penalty", 1.0, float),
        "no_repeat_ngram_size": _number(said, "no_repeat_ngram_size", 0, int),
        "early_stopping": _early_stopping(said.get("early_stopping", False)),
        "force_eos": "forced_eos_token_id" in said,
    }
    section |= _lengths(said, language_model=language_model) | _sampling(said)
    ignored = [f"{key} {said[key]}" for key, off in _OFF.items()
               if key in said and said[key] not in off and said[key] not in ([], {}, False)]
    section["suppress_tokens"], phrases = _suppressed(said)
    ignored += phrases
    eos = said.get("eos_token_id")
    if isinstance(eos, list) and len(eos) > 1:
        ignored.append(f"eos_token_id {eos}: {eos[0]} alone ends an output")
    if language_model and said.get("min_new_tokens"):
        ignored.append(f"min_new_tokens {said['min_new_tokens']}")
    if said.get("do_sample") and said.get("num_beams", 1) != 1:
        ignored.append(f"num_beams {said['num_beams']} beside do_sample")
    if "forced_bos_token_id" in said:
        section["first_tokens"] = (_number(said, "forced_bos_token_id", 0, int),)
    if start is not None:
        section["bos_token"] = start
    return Search(section=section, ignored=tuple(ignored))


def _number(said: Mapping[str, Any], key: str, default: Any, kind: Callable[[Any], Any]) -> Any:
    value = said.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or kind(value) != value:
        raise ConfigError(f"{key}: {value!r} is no {kind.__name__}")  # type: ignore[attr-defined]
    return kind(value)


def _early_stopping(value: Any) -> str:
    words = {True: "true", False: "false", "never": "never"}
    if not isinstance(value, (bool, str)) or value not in words:
        raise ConfigError(f"early_stopping: {value!r} is neither true nor false nor \"never\"")
    return words[value]


def _lengths(
    said: Mapping[str, Any], *, language_model: bool
) -> dict[str, Any]:
    """`max_len_a`, `max_len_b` and `min_len`, which count neither the first token nor eos.

    `max_length` counts the prompt of a language model, as `max_len_b` does, and
    `max_new_tokens` does not.
    """
    new = said.get("max_new_tokens")
    if new is None and "max_length" not in said:
        new = _NEW_TOKENS
    if new is None:
        found: dict[str, Any] = {"max_len_a": 0.0, "max_len_b": max(
            _number(said, "max_length", 0, int) - 2, 0)}
    elif language_model:
        found = {"max_len_a": 1.0, "max_len_b": int(new) - 2}
    else:
        found = {"max_len_a": 0.0, "max_len_b": max(int(new) - 1, 0)}
    least = _number(said, "min_length", 0, int) - 1
    if not language_model:
        least = max(least, _number(said, "min_new_tokens", 0, int))
    return {**found, "min_len": max(least, 0)}


def _sampling(said: Mapping[str, Any]) -> dict[str, Any]:
    if not said.get("do_sample"):
        return {}
    found: dict[str, Any] = {
        "sampling": True, "temperature": _number(said, "temperature", 1.0, float)}
    top_p = _number(said, "top_p", 1.0, float)
    if top_p < 1.0:
        found["sampling_topp"] = top_p
    elif _number(said, "top_k", _TOP_K, int) > 0:
        found["sampling_topk"] = _number(said, "top_k", _TOP_K, int)
    found["nbest"] = found["beam"] = _number(said, "num_return_sequences", 1, int)
    return found


def _suppressed(said: Mapping[str, Any]) -> tuple[tuple[int, ...], list[str]]:
    """Tokens that no output has, and what of the file is more than that."""
    single: list[int] = list(said.get("suppress_tokens") or [])
    ignored = []
    for words in said.get("bad_words_ids") or []:
        if len(words) == 1:
            single.append(words[0])
        else:
            ignored.append(f"bad_words_ids {words}, which are several tokens")
    return tuple(sorted(set(single))), ignored


def to_huggingface(
    section: GenerationConfig, *, special: Mapping[str, int | None],
    remembered: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A `generation_config.json`.

    Args:
      special: `bos_token_id` and the like.
      remembered: the file that the model came with, if it did: its other keys are kept.
    """
    found: dict[str, Any] = dict(remembered or {})
    found |= {key: value for key, value in special.items() if value is not None}
    if remembered is not None:
        return found
    found |= {"num_beams": section.beam, "length_penalty": section.lenpen,
              "min_length": section.min_len + 1}
    if section.max_len_a == 1.0:  # a prompt and so many more
        found["max_new_tokens"] = section.max_len_b + 2
    else:
        found["max_length"] = section.max_len_b + 2
    if section.no_repeat_ngram_size:
        found["no_repeat_ngram_size"] = section.no_repeat_ngram_size
    if section.suppress_tokens:
        found["suppress_tokens"] = list(section.suppress_tokens)
    if section.first_tokens is not None and len(section.first_tokens) == 1:
        found["forced_bos_token_id"] = section.first_tokens[0]
    if section.rules == RULES:
        words = {"true": True, "false": False, "never": "never"}
        found["early_stopping"] = words[section.early_stopping]
    else:
        found["early_stopping"] = True  # what comes nearest to fairseq's rule
    if section.rules != RULES or section.force_eos:
        found["forced_eos_token_id"] = special.get("eos_token_id")
    return found
