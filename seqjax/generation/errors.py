"""What is wrong with one of many inputs."""

from __future__ import annotations

import typing


class InputError(ValueError):
    """An input that cannot be decoded. Its caller knows what the input is called: a line of a
    file, or a place in a list.

    Attributes:
      index: the input's place, from 0.
      problem: what follows its name in a sentence: `has 1201 tokens, but ...`.
    """

    def __init__(self, index: typing.SupportsInt, problem: str, *, separator: str = " ") -> None:
        self.index, self.problem, self.separator = int(index), problem, separator
        super().__init__(self.named(f"source {self.index}"))

    def named(self, name: str) -> str:
        """The message with the input's name."""
        return f"{name}{self.separator}{self.problem}"

    def moved(self, index: int) -> InputError:
        """The same of an input at another place."""
        return type(self)(index, self.problem, separator=self.separator)
