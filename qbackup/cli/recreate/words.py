"""Words of a POSIX shell's script: any text, in a form that a person can read.

A script is read before it is run, so a word shows its whole text: one line, and nothing that a
terminal would obey. Characters that a screen can't show are written in octal, by `printf`.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from qbackup.base.names import display, encode

_WIDTH = 98


class NoWord(Exception):
    """A text with a NUL, which can't be an argument of a program. Never leaves this package."""


def visible(text: str) -> str:
    """The text of a comment; texts from the backup in it were made visible before.

    A forgotten one is made visible here: no line of a comment must end early.
    """
    return text if display(text).replace("\\\\", "\\") == text else display(text)


def comment(text: str, *, indent: str = "") -> list[str]:
    """The text as lines of a comment, see `visible`."""
    text = visible(text)
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(indent) + 3 + len(line) + len(word) > _WIDTH:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [f"{indent}# {each}".rstrip() for each in [*lines, line]]


def is_shown(text: str) -> bool:
    """Tells whether a screen shows all of a text, on one line; no space but the usual one."""
    return text.isprintable() and display(text).replace("\\\\", "\\") == text


@dataclass
class Words:
    """Words for one command; those that can't be shown are variables, set in lines before it.

    Attributes:
        lines: set the variables.
    """

    lines: list[str] = field(default_factory=list)

    def word(self, text: str) -> str:
        """The word that means this text.

        Raises:
            NoWord: no word can.
        """
        if "\0" in text:
            raise NoWord
        if is_shown(text):
            return shlex.quote(text)
        name = f"v{len(self.lines) + 1}"
        # a full stop keeps the line ends at the end, which the shell takes away from an output
        self.lines.append(
            f"{name}=$(printf '%b.' {shlex.quote(_octal(text))}); {name}=${{{name}%.}}"
        )
        return f'"${name}"'


def _octal(text: str) -> str:
    """The text as `printf %b` takes it."""
    return "".join(_octal_character(char) for char in text)


def _octal_character(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if is_shown(char):
        return char
    return "".join(f"\\0{byte:03o}" for byte in encode(char))
