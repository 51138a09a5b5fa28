"""The commands: the registry here, and a file for each with its parser, its work and its text.

`qbackup --help` shows names and summaries, so these stand in the registry; a command's file is
loaded when its name is given. At its top it imports only what is cheap to load, as ``--help`` of
one command and mistakes in arguments load that, too. Its work imports the rest.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    import argparse
    from typing import Any, Protocol

    class Command(Protocol):
        """The contents of a command's file."""

        #: Lines of ``--help`` below the options; ``""`` for none.
        EXAMPLES: str

        def add_arguments(self, parser: argparse.ArgumentParser) -> None:
            """Adds the command's arguments and options to its parser."""
            ...

        def run(self, options: argparse.Namespace) -> int:
            """Does the work; returns the exit status."""
            ...


class Row:
    """A row of the registry.

    Args:
        name: of the command, and of its file.
        summary: one line for ``--help``.
        results: the list in the command's JSON document, empty where the command failed; ``""``
            where a failure has none.
        writes_files: an interrupted run says that no half-written file was left.
    """

    def __init__(
        self, name: str, summary: str, *, results: str = "", writes_files: bool = False
    ) -> None:
        self.name = name
        self.summary = summary
        self.results = results
        self.writes_files = writes_files


REGISTRY = (
    Row(
        "info", "show what kind of backup this is, and the time and space that a restore needs here"
    ),
    Row("list", "list the qubes in the backup and their files"),
    Row("verify", "check everything as restore does, but write nothing", results="files"),
    Row("restore", "write the files of all qubes, or of some", results="files", writes_files=True),
    Row("cat", "write the content of one file to standard output"),
    Row("script", "print a shell script that recreates the qubes on a new Qubes system"),
    Row("ls", "list the files inside a disk image or a folder", results="entries"),
    Row("cp", "copy files out of a disk image", results="files", writes_files=True),
    Row(
        "protect",
        "keep a good backup's front and recovery blocks beside it, or repair with them",
        writes_files=True,
    ),
    Row("kit", "make a folder to keep beside a backup, so that Python alone restores it"),
    Row("completion", "print the completions for a shell"),
)


def load(name: str) -> Command:
    """Imports the file of a command."""
    module: Any = importlib.import_module(f"qbackup.cli.commands.{name}")
    command: Command = module
    return command


def results_of(name: str) -> str:
    """The list in a command's JSON document; ``""`` where there is none, or no such command."""
    return next((row.results for row in REGISTRY if row.name == name), "")


def writes_files(name: str) -> bool:
    """Tells if a command leaves files under their final names."""
    return any(row.writes_files for row in REGISTRY if row.name == name)
