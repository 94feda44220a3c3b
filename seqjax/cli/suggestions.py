"""What an argument that a command does not know was meant to be.

`--train.lr=1` without `config.`, a key of the configuration by its last name, fairseq's
flags, and flags that are nearly right.
"""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Collection, Iterator, Sequence

from seqjax.config import nearest
from seqjax.config.describing import keys
from seqjax.interop.fairseq import flags as fairseq_flags
from seqjax.interop.fairseq.flags import Flag
from seqjax.settings import FAMILIES

_LETTERS = {"train": "T", "preprocess": "P", "generate": "G", "interactive": "I",
            "evaluate": "VE"}
"""fairseq's commands that are like ours."""
_REASONS = {"(no)": "is not supported: ", "(not needed)": "is not needed; leave it out: ",
            "(implied)": "is implied; leave it out: "}


@functools.cache
def config_keys() -> tuple[str, ...]:
    """Every key of the configuration, dotted."""
    return tuple(dict.fromkeys(key.name for key in keys(FAMILIES)))


def explain(words: Sequence[str], *, verb: str, own: Collection[str]) -> list[str]:
    """A line for each argument that is not known.

    Args:
      words: the arguments that are left over, values among them.
      verb: the command: `train`.
      own: the flags that the command has.
    """
    known = config_keys()
    lines, theirs = [], 0
    for shown, name, value in _arguments(words):
        theirs += name.startswith("-") and bool(_rows(name))
        lines.append(f"{shown}: " + _meant(name, value, verb=verb, own=own, known=known))
    if theirs > 1 and verb == "train":
        lines.append("python -m seqjax.convert args 'fairseq-train ...' turns a whole command of "
                     "fairseq's into a configuration file")
    return lines


def _arguments(words: Sequence[str]) -> Iterator[tuple[str, str, str | None]]:
    """Each argument as it was typed, its name, and its value: `--name=value` or `--name
    value`."""
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        name, equals, value = word.partition("=")
        if equals:
            yield word, name, value
        elif name.startswith("-") and waiting and not _is_flag(waiting[-1]):
            row = next(iter(_rows(name)), None)
            if row and row.kind in ("switch", "off"):
                yield word, name, None
            else:
                value = waiting.pop()
                yield f"{word} {value}", name, value
        else:
            yield word, name, None


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not word.lstrip("-")[:1].isdigit() and len(word) > 1


def _rows(name: str, letters: str = "") -> list[Flag]:
    """fairseq's flags of that name, those of its command like ours first."""
    name = name.replace("_", "-")
    rows = [flag for flag in fairseq_flags.table()
            if name in (each.replace("_", "-") for each in flag.names)]
    return sorted(rows, key=lambda flag: not any(c in flag.commands for c in letters))


def _meant(
    name: str, value: str | None, *, verb: str, own: Collection[str], known: Collection[str]
) -> str:
    bare = name.lstrip("-")
    if bare.startswith("config.") or "." in bare and bare.partition(".")[0] in _sections(known):
        return _key(bare.removeprefix("config."), value, verb, known)
    if not name.startswith("-"):
        return "unexpected." + _of_word(name, verb, own)
    for row in _rows(name, _LETTERS.get(verb, "")):
        return _of_fairseq(row, value, verb, own)
    close = difflib.get_close_matches(name.replace("_", "-"), own, n=1, cutoff=0.8)
    if close:
        return f"unknown. Did you mean {_with(close[0], value)}?"
    dotted = [key for key in known if key.rpartition(".")[2] == bare.replace("-", "_")]
    if dotted and (verb == "train" or dotted[0].startswith("generation.")):
        return "unknown. Did you mean " + " or ".join(
            _set(key, value, verb) for key in dotted[:3]) + "?"
    return f"unknown.{_of_any(name, own)}"


def _of_word(word: str, verb: str, own: Collection[str]) -> str:
    """A value without a flag: fairseq's commands begin with the data folder."""
    if os.path.isdir(word):
        flag = "--config.task.data" if verb == "train" else "--data" if "--data" in own else None
        if flag is not None:
            return f" Did you mean {flag}={word}?"
    return " A value follows its flag: --flag VALUE."


def _of_any(name: str, own: Collection[str]) -> str:
    """The nearest flag, fairseq's among them."""
    text = nearest(name, own)
    return "" if text.startswith(" Known") else text


def _sections(known: Collection[str]) -> set[str]:
    return {key.partition(".")[0] for key in known if "." in key}


def _key(key: str, value: str | None, verb: str, known: Collection[str]) -> str:
    """A dotted key, perhaps misspelt."""
    if key not in known:
        same = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
        section, _, name = key.rpartition(".")
        inside = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == section}
        close = [inside[n] for n in difflib.get_close_matches(name, inside, n=1, cutoff=0.6)]
        close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        close = same if len(same) == 1 else close
        if not close:
            section = key.partition(".")[0]
            return (f"there is no key {key!r}; python -m seqjax.train --help-config"
                    f"{' ' + section if section in _sections(known) else ''} lists them")
        key = close[0]
    if verb == "train" or key.startswith("generation."):
        return f"did you mean {_set(key, value, verb)}?"
    return ("keys of the configuration are for training: python -m seqjax.train "
            f"{_set(key, value, 'train')}")


def _set(key: str, value: str | None, verb: str) -> str:
    """How a key is set: in training, or as a flag of the search."""
    if verb != "train":
        return _with("--" + key.partition(".")[2].replace("_", "-"), value)
    return f"--config.{key}={'VALUE' if value is None else value}"


def _with(flag: str, value: str | None) -> str:
    return flag if value is None else f"{flag}={value}"


def _of_fairseq(row: Flag, value: str | None, verb: str, own: Collection[str]) -> str:
    """What one of fairseq's flags is here."""
    note = f" ({row.note})" if row.note else ""
    if row.key in _REASONS:
        return f"a flag of fairseq's that {_REASONS[row.key]}{row.note or 'it does nothing here'}"
    if row.key == "train.compute_dtype" and row.kind == "switch":
        value = "bfloat16"
        if "--dtype" in own:
            return f"a flag of fairseq's; here --dtype=bfloat16{note}"
    elif row.kind in ("switch", "off") and value is None:
        value = str(row.kind == "switch")
    if row.key.endswith(".*"):  # a dict of a section's keys
        section = row.key.partition(".")[0]
        return (f"a flag of fairseq's; here each key of {section} is set by itself: python -m "
                f"seqjax.train --help-config {section}{note}")
    command, _, flag = row.key.partition(" ")
    if flag:  # of one of our commands
        if flag in own:
            shown = flag if row.kind in ("switch", "off") else _with(flag, value)
            return f"a flag of fairseq's; here {shown}{note}"
        if command == verb:
            return f"a flag of fairseq's; here {flag}{note}"
        return f"a flag of fairseq's; here it is {flag} of python -m seqjax.{command}{note}"
    if row.key == "generation.*":
        return f"a flag of fairseq's; each key of it is a flag here{note}"
    name = "--" + row.key.partition(".")[2].replace("_", "-")
    if verb != "train" and name in own:
        return f"a flag of fairseq's; here {_with(name, value)}{note}"
    setting = _set(row.key, value, "train")
    if verb == "train":
        return f"a flag of fairseq's; here {setting}{note}"
    return f"a flag of fairseq's; here it is of training: python -m seqjax.train {setting}{note}"
