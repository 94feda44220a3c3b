"""Every key of a configuration, with its default and what it means.

The families' dataclasses are its callers' to name, as for `resolve`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seqjax.config.building import ConfigError, nearest
from seqjax.config.sections import Config

Families = Mapping[str, Mapping[str, type]]
"""Section -> name of a family -> its dataclass."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
    """One key."""

    name: str
    """Dotted: `train.lr`."""
    group: str
    """The heading it stands under: `train`, or `model, with name=transformer`."""
    default: Any
    doc: str
    choices: tuple[str, ...] = ()
    """What it may be, where that is a few words."""
    kind: str = ""
    """What the field's metadata say of it: `training only`, ..."""

    def __str__(self) -> str:
        shown = "needed" if self.default is dataclasses.MISSING else repr(self.default)
        shown += f"  ({self.kind})" if self.kind else ""
        return f"  {self.name} = {shown}" + (f"\n      {self.doc}" if self.doc else "")


def field_docs(cls: type) -> dict[str, str]:
    """Field name -> the string under it in the source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    docs = {}
    for node, after in zip(body, body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr):
            if isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                name = typing.cast(ast.Name, node.target).id
                docs[name] = " ".join(after.value.value.split())
    return docs


def keys(families: Families) -> list[Key]:
    """All keys, section by section; those of a family under each of its names."""
    found: list[Key] = []
    docs, hints = field_docs(Config), typing.get_type_hints(Config)
    for field in dataclasses.fields(Config):
        if field.name in families:
            for name, cls in families[field.name].items():
                found += _section(field.name, cls, group=f"{field.name}, with name={name}")
        elif dataclasses.is_dataclass(hints[field.name]):
            found += _section(field.name, typing.cast(type, hints[field.name]), group=field.name)
        else:
            found.append(Key(name=field.name, group="", default=field.default,
                             doc=docs.get(field.name, "")))
    return found


def _section(name: str, cls: type, *, group: str) -> list[Key]:
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        docs |= field_docs(base)
    hints = typing.get_type_hints(cls)
    return [Key(name=f"{name}.{f.name}", group=group, default=_default(f), doc=docs.get(f.name, ""),
                choices=_choices(hints[f.name]), kind=f.metadata.get("kind", ""))
            for f in dataclasses.fields(cls)]


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _choices(annotation: Any) -> tuple[str, ...]:
    if annotation is bool:
        return ("True", "False")
    if typing.get_origin(annotation) is typing.Literal:
        return tuple(map(str, typing.get_args(annotation)))
    return ()


def chosen(known: Sequence[Key], words: Iterable[str]) -> list[Key]:
    """The keys that any of the words asks for: a section (`train`), a family (`transformer`), a key
    (`train.lr`, `lr`), else a part of a name or a word of a description.

    Raises:
      ConfigError: a word that no key has, with the nearest.
    """
    found: list[Key] = []
    for word in words:
        word = word.removeprefix("--").removeprefix("config.").strip(".")
        wanted = word.lower().replace("-", "_")
        for match in (_is_section, _is_key, _mentions):
            some = [key for key in known if match(key, wanted)]
            if some:
                break
        else:
            parts = {k.name for k in known} | {k.name.rpartition(".")[2] for k in known}
            raise ConfigError(f"--help-config {word}: no such section, key or word."
                              + _nearest(wanted, parts | {p.partition(".")[0] for p in parts}))
        found += [key for key in some if key not in found]
    return [key for key in known if key in found]


def _nearest(word: str, known: set[str]) -> str:
    text = nearest(word, known)
    if text.startswith(" Known"):
        return " Without a word it lists every key."
    return text


def _is_section(key: Key, word: str) -> bool:
    return word in (key.name.partition(".")[0] if "." in key.name else "",
                    key.group.rpartition("=")[2], key.group)


def _is_key(key: Key, word: str) -> bool:
    return word in (key.name, key.name.rpartition(".")[2])


def _mentions(key: Key, word: str) -> bool:
    return word in key.name or word in key.doc.lower() or word.replace("_", " ") in key.doc.lower()


def lines(found: Sequence[Key], *, archs: Iterable[str] = ()) -> list[str]:
    """The keys under their headings, as people read them.

    Args:
      archs: names of architectures, said where a model's keys are shown.
    """
    out: list[str] = []
    group = None
    for key in found:
        if key.group != group:
            group = key.group
            out += ["", f"[{group}]"] if group else [""]
        out.append(str(key))
    archs = sorted(archs)
    if archs and any(key.name.startswith("model.") for key in found):
        out += ["", "model.arch is one of: " + ", ".join(archs)]
    return out
