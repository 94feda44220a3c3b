"""The parser of every command's flags: it says what was meant, and completes in a shell."""

from __future__ import annotations

import argparse
import os
import sys
import typing
from collections.abc import Sequence
from typing import Any

COMPLETING = "_ARGCOMPLETE"
"""Set by the shell that asks for completions (`seqjax completion`)."""

program: str = "python -m seqjax."
"""How commands are called; `seqjax.__main__` changes it for `seqjax VERB`."""


class Parser(argparse.ArgumentParser):
    """argparse's, with `python -m seqjax.VERB` as its `prog`.

    An argument that is not known is explained, before anything that is missing: fairseq's
    flags, keys of the configuration, what is nearly right.
    """

    def __init__(self, *args: Any, prog: str, **options: Any) -> None:
        self.verb = prog.rpartition(".")[2]
        self._words: Sequence[str] = ()
        super().__init__(*args, prog=program + self.verb, **options)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Of `sys.argv` where none are given; exits with 2 where they cannot be used."""
        self.complete()
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self.refuse(rest)
        return found

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """What is known of them, and the rest."""
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._words, namespace)

    def complete(self) -> None:
        """Answers a shell that asks for completions, and exits; nothing where none asks."""
        if COMPLETING in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)

    def error(self, message: str) -> typing.NoReturn:
        """Prints usage and the message; what is not known counts before what is missing."""
        if "are required" in message and (rest := self._unknown()):
            self.refuse(rest)
        super().error(message)

    def _unknown(self) -> list[str]:
        """Flags that are not there, with what follows them."""
        rest: list[str] = []
        taking = False
        for word in self._words:
            if word.startswith("-") and len(word) > 1 and not word[1:2].isdigit():
                name = word.partition("=")[0]
                own = name in self._option_string_actions or (
                    self.allow_abbrev and any(f.startswith(name) for f in self.flags))
                taking = not own
            if taking:
                rest.append(word)
        return rest

    @property
    def flags(self) -> list[str]:
        """All long and short flags that `--help` shows."""
        return [flag for action in self._actions if action.help is not argparse.SUPPRESS
                for flag in action.option_strings]

    def refuse(self, rest: Sequence[str]) -> typing.NoReturn:
        """Exits with 2; a line says of each argument that is not known what was meant."""
        from seqjax.cli import suggestions

        lines = suggestions.explain(rest, verb=self.verb, own=self.flags)
        self.exit(2, "".join(f"error: {line}\n" for line in lines))
