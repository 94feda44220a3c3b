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
    "num_beam_groups": (1,), "diversity_penalty": (0.0,), "penalty_alpha": (0.0,),
    "sequence_bias": (), "stop_strings": (), "forced_decoder_ids": (), "guidance_scale": (1.0,),
    "max_time": (), "constraints": (), "force_words_ids": (), "watermarking_config": (),
    "token_healing": (False,), "dola_layers": (), "remove_invalid_values": (False,),
}
"""Switches that no search of ours has -> values under which they are off; None always is."""
_SAMPLING_OFF: Mapping[str, tuple[Any, ...]] = {
    "typical_p": (1.0,), "epsilon_cutoff": (0.0,), "eta_cutoff": (0.0,), "top_h": ()}
"""Likewise, of those that only sampling asks for."""
KEYS = frozenset((
    "num_beams", "num_return_sequences", "max_length", "max_new_tokens", "min_length",
    "min_new_tokens", "length_penalty", "no_repeat_ngram_size", "early_stopping", "do_sample",
    "temperature", "top_k", "top_p", "min_p", "bad_words_ids", "suppress_tokens",
    "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id",
    "decoder_start_token_id", "eos_token_id", "repetition_penalty", "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "renormalize_logits",
    *_OFF, *_SAMPLING_OFF))
"""What is read here; a `config.json` may have them too."""
WITHOUT_EFFECT = frozenset((
    "bos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "cls_token_id",
    "transformers_version", "return_dict_in_generate", "low_memory", "use_cache", "use_mtp",
    "cache_implementation", "cache_config", "max_cache_len", "return_legacy_cache",
    "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
    "assistant_early_exit", "assistant_lookbehind", "target_lookbehind",
    "assistant_ensemble_weight", "is_assistant", "speculation_type", "prompt_lookup_num_tokens",
    "max_matching_ngram_size", "continuous_batching_config", "compile_config", "disable_compile",
    "prefill_chunk_size",
    "trust_remote_code", "torch_dtype", "dtype", "_name_or_path"))
"""What changes no output of the search that the file asks for: how it is computed, what is given
beside it, and ids that are read elsewhere."""


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
        **_penalties(said),
        "early_stopping": _early_stopping(said.get("early_stopping", False)),
        "force_eos": "forced_eos_token_id" in said,
    }
    section |= _lengths(said, language_model=language_model) | _sampling(said)
    section |= _suppressed(said)
    ignored = _ignored(said)
    if "forced_bos_token_id" in said:
        section["first_tokens"] = (_number(said, "forced_bos_token_id", 0, int),)
    if start is not None:
        section["bos_token"] = start
    return Search(section=section, ignored=tuple(ignored))


def _ignored(said: Mapping[str, Any]) -> list[str]:
    """A phrase for each key that is not honoured as it is."""
    off = {**_OFF, **(_SAMPLING_OFF if said.get("do_sample") else {})}
    found = [f"{key} {said[key]}" for key, usual in off.items()
             if key in said and said[key] not in usual and said[key] not in ([], {}, False)]
    eos, forced = (_listed(said, key) for key in ("eos_token_id", "forced_eos_token_id"))
    if len(eos) > 1:
        found.append(f"eos_token_id {eos}: {eos[0]} alone ends an output")
    if eos and forced and forced != eos[:1]:
        found.append(f"forced_eos_token_id {forced}: outputs of the greatest length end in "
                     f"{eos[0]}")
    if said.get("do_sample") and said.get("num_beams", 1) != 1:
        found.append(f"num_beams {said['num_beams']} beside do_sample")
    unknown = said.keys() - KEYS - WITHOUT_EFFECT
    return found + [f"{key} {said[key]!r}, which is unknown here" for key in sorted(unknown)
                    if not key.startswith(("output_", "_")) and said[key] is not False]


def _listed(said: Mapping[str, Any], key: str) -> list[int]:
    """One id or several."""
    value = said.get(key)
    return [] if value is None else value if isinstance(value, list) else [value]


def _penalties(said: Mapping[str, Any]) -> dict[str, Any]:
    """What changes scores. Keys that change nothing are left out."""
    found: dict[str, Any] = {
        key: _number(said, key, 1.0, float)
        for key in ("repetition_penalty", "encoder_repetition_penalty")
        if said.get(key, 1.0) != 1.0}
    if said.get("encoder_no_repeat_ngram_size", 0) != 0:
        found["encoder_no_repeat_ngram_size"] = _number(
            said, "encoder_no_repeat_ngram_size", 0, int)
    decay = said.get("exponential_decay_length_penalty")
    if decay is not None:
        if not isinstance(decay, list | tuple) or len(decay) != 2:
            raise ConfigError(f"exponential_decay_length_penalty: {decay!r} is no pair of tokens "
                              "and a factor")
        found["exponential_decay_length_penalty"] = tuple(decay)
    if said.get("renormalize_logits"):
        found["renormalize_logits"] = True
    return found


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
    if "min_new_tokens" not in said:
        return {**found, "min_len": max(least, 0)}
    # It takes the place of min_length.
    new = _number(said, "min_new_tokens", 0, int)
    more = {"min_new_tokens": new} if language_model else {}
    return {**found, "min_len": 0 if language_model else new, **more}


def _sampling(said: Mapping[str, Any]) -> dict[str, Any]:
    if not said.get("do_sample"):
        return {}
    found: dict[str, Any] = {
        "sampling": True, "temperature": _number(said, "temperature", 1.0, float)}
    top_p, min_p = _number(said, "top_p", 1.0, float), _number(said, "min_p", 0.0, float)
    if top_p < 1.0:
        found["sampling_topp"] = top_p
    if _number(said, "top_k", _TOP_K, int) > 0:
        found["sampling_topk"] = _number(said, "top_k", _TOP_K, int)
    if min_p > 0.0:
        found["sampling_minp"] = min_p
    found["nbest"] = found["beam"] = _number(said, "num_return_sequences", 1, int)
    return found


def _suppressed(said: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens that no output has, none begins with, or none has in a row."""
    bad = said.get("bad_words_ids") or []
    if not isinstance(bad, list) or not all(isinstance(words, list) and words for words in bad):
        raise ConfigError(f"bad_words_ids: {bad!r} is no list of lists of ids")
    for key, ids in (("bad_words_ids", [i for words in bad for i in words]),
                     *((key, said.get(key) or []) for key in _LISTS)):
        if not isinstance(ids, list) or not all(
                isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
            raise ConfigError(f"{key}: {said[key]!r}: ids are 0 or more")
    single = [words[0] for words in bad if len(words) == 1]
    single = [i for i in single if i not in _listed(said, "eos_token_id")]  # as transformers does
    found: dict[str, Any] = {
        "suppress_tokens": tuple(sorted({*(said.get("suppress_tokens") or []), *single}))}
    several = dict.fromkeys(tuple(words) for words in bad if len(words) > 1)
    if several:
        found["bad_words_ids"] = tuple(several)
    if said.get("begin_suppress_tokens"):
        found["begin_suppress_tokens"] = tuple(said["begin_suppress_tokens"])
    return found


_LISTS = ("suppress_tokens", "begin_suppress_tokens")


_AS_THEY_ARE: Mapping[str, Any] = {
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0, "exponential_decay_length_penalty": None,
    "renormalize_logits": False, "min_new_tokens": 0}
"""Keys that are called alike on both sides -> the value that changes nothing."""


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
    for key in _LISTS:
        if getattr(section, key):
            found[key] = list(getattr(section, key))
    if section.bad_words_ids:
        found["bad_words_ids"] = [list(words) for words in section.bad_words_ids]
    for key, usual in _AS_THEY_ARE.items():
        if getattr(section, key) != usual:
            value = getattr(section, key)
            found[key] = list(value) if isinstance(value, tuple) else value
    if section.sampling:
        found |= {"do_sample": True, "temperature": section.temperature,
                  "min_p": section.sampling_minp, "top_k": max(section.sampling_topk, 0),
                  "top_p": section.sampling_topp if section.sampling_topp > 0 else 1.0,
                  "num_beams": 1, "num_return_sequences": section.nbest}
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
