"""Completion of the `seqjax` command in bash, zsh and fish, through argcomplete.

The shell calls the command with what is typed so far. Only the parser of the verb in
question is made, so that an answer does not wait for JAX.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence

from seqjax.config import ConfigError

SHELLS = ("bash", "zsh", "fish")


def script(arguments: Sequence[str]) -> str:
    """What a shell is to evaluate, once a session.

    Raises:
      ConfigError: not one of the shells.
    """
    from argcomplete.shell_integration import shellcode

    if list(arguments) in (["--help"], ["-h"]):
        return ("usage: seqjax completion SHELL\n\nOnce, in the file that your shell reads:\n"
                "  bash   eval \"$(seqjax completion bash)\"      in ~/.bashrc\n"
                "  zsh    eval \"$(seqjax completion zsh)\"       in ~/.zshrc, after compinit\n"
                "  fish   seqjax completion fish | source       in ~/.config/fish/config.fish\n")
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise ConfigError(f"completion: name one shell of {', '.join(SHELLS)}: "
                          "eval \"$(seqjax completion bash)\"")
    shell = arguments[0]
    # zsh reads bash's script, as argcomplete writes both in one.
    return shellcode(["seqjax"], shell="bash" if shell == "zsh" else shell)


def typed() -> tuple[list[str], int]:
    """The words up to the cursor, and the number of those before the one being completed."""
    from argcomplete.lexers import split_line

    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    _, _, _, words, _ = split_line(line, point)
    return words, len(words)


def complete_verbs(verbs: Mapping[str, str], *, verb: str | None) -> None:
    """Completes the first word, or the one after `help` or `completion`."""
    import argcomplete

    parser = argparse.ArgumentParser(prog="seqjax")
    parser.add_argument("--version", action="store_true", help="which version this is")
    choices = parser.add_subparsers()
    for name, about in verbs.items():
        choice = choices.add_parser(name, help=about)
        if name == "completion":
            choice.add_argument("shell", choices=SHELLS)
        elif name == "help":
            others = [v for v in verbs if v not in ("help", "completion")]
            choice.add_argument("verb", choices=others)
    argcomplete.autocomplete(parser)


def add_keys(parser: argparse.ArgumentParser) -> None:
    """`--config.KEY` of every key, for completion only, once `--config.` is typed."""
    from seqjax.config.describing import keys
    from seqjax.settings import FAMILIES

    if "--config." not in os.environ["COMP_LINE"]:
        return
    choices: dict[str, list[str]] = {}
    for key in keys(FAMILIES):  # a name may be of several families
        choices.setdefault(key.name, []).extend(key.choices)
    for name, some in choices.items():
        parser.add_argument(f"--config.{name}", choices=list(dict.fromkeys(some)) or None)
