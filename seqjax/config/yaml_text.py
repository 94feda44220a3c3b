"""Reading and writing YAML without its surprises: `no` is a language and not False, `5e-4` is a
number, dates and `1:30` are text, and a key that is there twice is an error. Scalars are read
as YAML 1.2 does."""

from __future__ import annotations

import re
from typing import Any

import yaml

_REPLACED = ("bool", "float", "int", "timestamp")


class Loader(yaml.SafeLoader):
    """Plain data only, as `yaml.SafeLoader`."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers
                if tag.rpartition(":")[2] not in _REPLACED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A section; a key that is there twice is an error at its line."""
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key.value, str):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"{key.value!r} is there twice in one section",
                        problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """Lists on one line; text that any reader of YAML might take for something else is quoted."""


_Dumper.add_representer(list, lambda dumper, values: dumper.represent_sequence(
    "tag:yaml.org,2002:seq", values, flow_style=True))

for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
              r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$", "-+.0123456789"),
):
    for _side in (Loader, _Dumper):
        _side.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def dump(plain: Any) -> str:
    """Nested plain data as text that `Loader` reads back."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
