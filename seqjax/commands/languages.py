"""fairseq's flags about languages: which ones a model translates between, and what it says of
them by tokens.

fairseq's commands take all of that from the command line again. Here a checkpoint knows it: of
a `.pt` flags are over what it says, of a folder of ours they must be what it says.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import TYPE_CHECKING, Any

from seqjax.config import ConfigError, TaskSection, build

if TYPE_CHECKING:  # it imports JAX
    from seqjax.hub.loaded import Loaded

SWITCHES = {
    "decoder_langtok": "targets begin with the token of their language",
    "lang_tok_replacing_bos_eos": "that token stands in the place of eos, and the source's as well",
    "prepend_bos": "sentences begin with <s>",
    "keep_inference_langtok": "outputs keep the token of their language",
}
VALUES = {
    "langs": "languages of the model's tokens, in the order of its training: en,de,fr",
    "lang_dict": "a file with these, one a line",
    "lang_pairs": "pairs that it was trained on: en-de,de-en; or a file with them",
    "encoder_langtok": "src or tgt: the token that sources begin with",
    "lang_tok_style": "multilingual (__en__) or mbart ([en])",
    "fixed_dictionary": "dictionary of a .pt, instead of those in --data",
    "source_dict": "the same of its sources", "target_dict": "the same of its targets",
}
"""Keys of tasks that know languages -> what their flags are for."""


def add_flags(group: argparse._ArgumentGroup) -> None:
    """The flags of tasks that know languages."""
    for key, text in VALUES.items():
        group.add_argument(f"--{key.replace('_', '-')}", metavar="X", help=text)
    for key, text in SWITCHES.items():
        group.add_argument(
            f"--{key.replace('_', '-')}", action="store_true", default=None, help=text)


def given(args: argparse.Namespace) -> dict[str, Any]:
    """What these flags say, by key."""
    return {key: value for key in (*VALUES, *SWITCHES)
            if (value := getattr(args, key, None)) is not None}


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """What they say of a `.pt`."""
    found = given(args)
    if not found:
        return {}
    from seqjax.interop.fairseq.files import is_pt

    return found if any(map(is_pt, args.checkpoint.split(os.pathsep))) else {}


def chosen(args: argparse.Namespace, model: Loaded) -> Any:
    """The model for `--source-lang` and `--target-lang`, if it knows languages.

    Raises:
      ConfigError: it does not know one of them; a flag says something else than the model.
    """
    asked, config = given(args), model.task.config
    if asked and not overrides(args):
        _check_same(args, config, asked)
    if not model.langs:
        return model
    translating: Any = model
    return translating.translating(args.source_lang, args.target_lang)


def _check_same(args: argparse.Namespace, config: TaskSection, asked: dict[str, Any]) -> None:
    """Refuses flags that differ from what a folder says of its task."""
    fields = {field.name for field in dataclasses.fields(config)}
    for key, value in asked.items():
        flag = f"--{key.replace('_', '-')}"
        if key not in fields:
            raise ConfigError(f"{flag}: {args.checkpoint} is a model of {config.name}, which has "
                              "no such key")
        same = getattr(build(type(config), {"name": config.name, key: value}, flag), key)
        if key in ("lang_dict", "fixed_dictionary", "source_dict", "target_dict"):
            raise ConfigError(f"{flag} {value}: {args.checkpoint} holds its own dictionary and "
                              "languages: leave it out")
        if key != "lang_pairs" and same != getattr(config, key):
            raise ConfigError(f"{flag} {value}: {args.checkpoint} was trained with "
                              f"{key}={getattr(config, key)!r}")
