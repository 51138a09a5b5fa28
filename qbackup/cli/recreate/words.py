"""Any text → a word of a POSIX shell's script that a person can read and that means exactly it.

A script is read before it is run, so a word shows all that it holds: one line, and nothing that a
terminal would obey. What a screen can't show is written in octal, by `printf`.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from qbackup.base.names import display, encode

_WIDTH = 98


class NoWord(Exception):
    """A text that no program can be given as an argument: one with a NUL. Inside only."""


def visible(text: str) -> str:
    """Our own text with the backup's texts in it, which were made visible before.

    A text that somebody forgot is made visible here: no line of a comment must end early.
    """
    return text if display(text).replace("\\\\", "\\") == text else display(text)


def comment(text: str, *, indent: str = "") -> list[str]:
    """Comment lines for a text, see `visible`."""
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
