"""What becomes of each input of a call: searched, left blank, cut, or left out.

Lengths and the limits of searches go in, what is to be decoded and what is said of the rest
come out, before anything is computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, SupportsInt

import numpy as np

from seqjax.config import ConfigError
from seqjax.data.frames import Frame
from seqjax.generation.allowed import AllowedTokens
from seqjax.generation.decoder import Decoded, Decoder
from seqjax.generation.errors import InputError
from seqjax.tasks.inputs import Encoded

TOO_LONG = ("error", "truncate", "skip")
"""What may be done about an input over a limit."""


class TooLongError(InputError):
    """An input over a limit, which can be cut or left out.

    Attributes:
      can_be_cut: whether `truncate` would help.
    """

    can_be_cut = True

    def __init__(self, index: SupportsInt, problem: str, *, separator: str = " ") -> None:
        super().__init__(index, problem, separator=separator)
        self.args = (f"{self.args[0]} (too_long='truncate' cuts it, too_long='skip' leaves it "
                     "out)",)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The inputs of a call, sorted."""

    total: int
    """All inputs."""
    places: list[int]
    """Of those that are searched, in order."""
    sources: list[np.ndarray]
    """Their ids, cut where they were too long."""
    prefixes: list[np.ndarray] | None
    """What their outputs begin with."""
    blank: list[int]
    """Places of those whose output is blank."""
    skipped: dict[int, str]
    """Places of those that are too long -> what is too long."""
    truncated: dict[int, str]
    """Places of those that were cut -> what was too long."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """How inputs are sorted."""

    too_long: str = "error"
    """An input over a limit: `error`, `truncate` it, or `skip` it."""
    decode_blank: bool = False
    """Search with blank inputs too."""

    def __post_init__(self) -> None:
        if self.too_long not in TOO_LONG:
            raise ConfigError(f"too_long: {self.too_long!r} is not one of {', '.join(TOO_LONG)}")


def select_sources(
    inputs: Sequence[Encoded], *, decoder: Decoder, rules: Rules,
    prefixes: Sequence[np.ndarray] | None = None,
    constraints: Sequence[Sequence[np.ndarray]] | None = None,
) -> Selection:
    """Sorts sources, with what their outputs must begin with and contain.

    Raises:
      TooLongError: an input over a limit, unless `rules.too_long` says otherwise.
      InputError: a blank input whose output must contain something; constraints that are too
        long and cannot be cut; an input without tokens.
    """
    chosen = Selection(total=len(inputs), places=[], sources=[], blank=[], skipped={},
                       truncated={}, prefixes=None if prefixes is None else [])
    for place, given in enumerate(inputs):
        phrases = constraints[place] if constraints is not None else ()
        if not len(given.ids):
            raise InputError(place, "has no tokens (not even eos)")
        if not rules.decode_blank and given.blank(eos=decoder.source_eos):
            if len(phrases):
                raise InputError(place, "is blank, so its output is blank, but it has "
                                 "constraints: leave them out")
            chosen.blank.append(place)
            continue
        source, problems = _fitting_source(given, decoder)
        start = None if prefixes is None else prefixes[place]
        room = decoder.output_limit(len(source))
        if start is not None:
            start, more = _fitting_prefix(start, decoder, room)
            problems += more
        needed = sum(map(len, phrases))
        if needed and needed > room:
            about = (f"has constraints that have {needed} tokens, but its output may have at most "
                     f"{room}: raise max_len_b or give fewer constraints")
            if rules.too_long != "skip":
                raise InputError(place, about)
            problems.append(about)
        if not _kept(chosen, place, problems, rules):
            continue
        chosen.sources.append(source)
        if chosen.prefixes is not None and start is not None:
            chosen.prefixes.append(start)
    return chosen


def select_prompts(
    inputs: Sequence[Encoded], *, decoder: Decoder, rules: Rules, first_token: int
) -> Selection:
    """Sorts a language model's prompts (ids without eos): `prefixes` are the prompts,
    `sources` the same after the first token.

    Raises:
      TooLongError: a prompt after which nothing has room, unless `rules.too_long` says
        otherwise.
    """
    chosen = Selection(total=len(inputs), places=[], sources=[], prefixes=[], blank=[],
                       skipped={}, truncated={})
    for place, given in enumerate(inputs):
        if not rules.decode_blank and given.blank(eos=decoder.eos):
            chosen.blank.append(place)
            continue
        prompt, problems = _fitting_prompt(given.ids, decoder)
        if _kept(chosen, place, problems, rules):
            assert chosen.prefixes is not None
            chosen.prefixes.append(prompt)
            # As long as fairseq's source of a prompt, for limits that depend on it.
            chosen.sources.append(np.concatenate([[first_token], prompt]).astype(np.int32))
    return chosen


def select_pairs(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], *, limits: tuple[int, int],
    frames: tuple[Frame, Frame], rules: Rules,
) -> Selection:
    """Sorts pairs that are to be scored; `prefixes` are their targets.

    Args:
      limits: tokens of a source and of a target at most.
      frames: what stands around the words of both.
    """
    chosen = Selection(total=len(sources), places=[], sources=[], prefixes=[], blank=[],
                       skipped={}, truncated={})
    for place, pair in enumerate(zip(sources, targets, strict=True)):
        fitting, problems = [], []
        for ids, limit, frame, name in zip(
                pair, limits, frames, ("source", "target"), strict=True):
            if len(ids) > limit:
                problems.append(f"has a {name} of {len(ids)} tokens, but the model takes at most "
                                f"{limit}")
                ids = frame.cut(ids, limit)
            fitting.append(ids)
        if _kept(chosen, place, problems, rules):
            chosen.sources.append(fitting[0])
            assert chosen.prefixes is not None
            chosen.prefixes.append(fitting[1])
    return chosen


def _kept(chosen: Selection, place: int, problems: list[str], rules: Rules) -> bool:
    """Whether an input is searched; notes what is wrong with it."""
    if problems:
        about = "; ".join(problems)
        if rules.too_long == "error":
            raise TooLongError(place, about)
        (chosen.skipped if rules.too_long == "skip" else chosen.truncated)[place] = about
        if rules.too_long == "skip":
            return False
    chosen.places.append(place)
    return True


def _fitting_source(given: Encoded, decoder: Decoder) -> tuple[np.ndarray, list[str]]:
    ids, frame = given.ids, given.frame or Frame.plain(decoder.source_eos)
    limit, reason = decoder.max_source_positions, "the model takes at most {}"
    if decoder.config.match_source_len and decoder.max_target_positions - 1 < limit:
        limit = decoder.max_target_positions - 1
        reason = "match_source_len wants as many in the output, which has at most {}"
    if len(ids) <= limit:
        return ids, []
    return frame.cut(ids, limit), [f"has {len(ids)} tokens, but {reason.format(limit)}"]


def _fitting_prefix(
    ids: np.ndarray, decoder: Decoder, room: int
) -> tuple[np.ndarray, list[str]]:
    if decoder.config.padded_source_len:
        room = decoder.max_target_positions - 1  # the batch decides; this is the most
    words = len(ids) - (len(ids) > 0 and ids[-1] == decoder.eos)
    if words <= room:
        return ids, []
    return ids[:room], [f"has a prefix of {words} tokens, but its output may have at most {room} "
                        "(max_len_a, max_len_b, the model)"]


def _fitting_prompt(ids: np.ndarray, decoder: Decoder) -> tuple[np.ndarray, list[str]]:
    most = decoder.max_target_positions - 1

    def room(length: int) -> int:
        return min(decoder.output_limit(length + 1), most)

    if len(ids) < room(len(ids)):
        return ids, []
    keep = len(ids)
    while keep > 0 and keep >= room(keep):
        keep = min(keep - 1, room(keep) - 1)
    found = room(len(ids))
    limit = "the model's limit" if found == most else "raise max_len_b"
    return ids[:max(keep, 0)], [
        f"has {len(ids)} tokens, but an output has at most {found} with its prompt ({limit}), so "
        "nothing could follow"]


# ---- what belongs to each input ----


def of_selected(chosen: Selection, each: Sequence[Any] | None) -> list[Any] | None:
    """What is searched of a list of one value for each input."""
    if each is None:
        return None
    if isinstance(each, str):
        raise TypeError(f"allowed: got the text {each!r}; give the trie of what is permitted: "
                        f"model.trie([{each!r}])")
    if len(each) != chosen.total:
        raise ValueError(f"there are {len(each)} values for {chosen.total} inputs: give one each")
    return [each[i] for i in chosen.places]


def kept_plan(plan: Sequence[Sequence[int]], chosen: Selection) -> list[list[int]]:
    """Batches in the numbers of what is searched."""
    number = {place: i for i, place in enumerate(chosen.places)}
    parts = [[number[i] for i in part if i in number] for part in plan]
    return [part for part in parts if part]


def at_places(function: AllowedTokens | None, chosen: Selection) -> AllowedTokens | None:
    """A caller's function, asked with places among all inputs."""
    if function is None:
        return None
    return lambda number, ids: function(chosen.places[number], ids)


def by_place(chosen: Selection, stream: Callable[[], Iterator[Decoded]]) -> Iterator[Decoded]:
    """A search's results; an error names the input by its place in all of them."""
    if not chosen.places:
        return
    try:
        yield from stream()
    except InputError as error:
        raise error.moved(chosen.places[error.index]) from None
