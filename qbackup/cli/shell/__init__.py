"""Completions for shells, and the manual page; `tests/make_shell.py` makes them from the parser."""

from __future__ import annotations

from importlib.resources import files

#: Shell → its completions here.
FILES = {"bash": "bash/qbackup", "zsh": "zsh/_qbackup", "fish": "fish/qbackup.fish"}


def completions(shell: str) -> str:
    """The text that a shell reads to complete qbackup's arguments."""
    return files(__name__).joinpath(FILES[shell]).read_text(encoding="utf-8")
