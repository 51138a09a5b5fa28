"""The parser of the command line: arguments in, a checked namespace out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence

from qbackup import __version__
from qbackup.base.errors import UsageError
from qbackup.cli import commands
from qbackup.cli.arguments import check_names, limits_of, name_argument

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from qbackup.cli.commands import Row

_EXAMPLES = """\
examples:
  qbackup list /media/usb/qubes-2024-09-17T101112
  qbackup restore /media/usb/qubes-2024-09-17T101112 -o restored
  qbackup restore BACKUP personal vault/private.img -o restored
  qbackup cat BACKUP work/notes.txt
  qbackup kit -o /media/usb/kit
  qbackup ls BACKUP vault:/home/user
  qbackup cp BACKUP vault:/home/user/Documents .
  qbackup cp restored/vault/private.img:/home/user/keys.kdbx .
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are UsageErrors, so that they too are reported in JSON if wanted.

    Options are spelled in full: `--json` must be known when the rest can't be parsed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see: {self.prog} --help)")


def build_parser(loaded: Iterable[str] | None = None) -> argparse.ArgumentParser:
    """Builds the parser.

    Args:
        loaded: names of the commands whose arguments are needed; None for all. The others have
            names and summaries only.
    """
    parser = _Parser(
        prog="qbackup",
        description="Restores Qubes OS backups on any machine, without Qubes.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"qbackup {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for row in commands.REGISTRY:
        if loaded is None or row.name in loaded:
            _add_command(subparsers, row)
        else:
            subparsers.add_parser(row.name, help=row.summary)
    return parser


def _add_command(subparsers: argparse._SubParsersAction[_Parser], row: Row) -> None:
    command = commands.load(row.name)
    examples = f"examples:\n{command.EXAMPLES}" if command.EXAMPLES else None
    parser = subparsers.add_parser(
        row.name, help=row.summary, description=_sentence(row.summary), epilog=examples
    )
    command.add_arguments(parser)


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses the arguments. NAMEs may stand anywhere, as in `restore BACKUP -o DIR NAME`.

    Of the parts of a backup, as `BACKUP.*` names them, the first one is the BACKUP.

    Raises:
        UsageError: unknown, missing or contradictory arguments.
    """
    arguments = _without_later_parts(arguments)
    parser = build_parser(loaded=arguments)
    options, rest = parser.parse_known_args(arguments)
    end = rest.index("--") if "--" in rest else len(rest)
    names = [text for text in rest[:end] if not text.startswith("-")] + rest[end + 1 :]
    room = len(names) if "names" in options else len(_not_given(options))
    unknown = [text for text in rest[:end] if text.startswith("-")]
    if unknown or len(names) > room:
        raise UsageError(
            f"unrecognized arguments: {_without_values(unknown or names)}"
            f" (see: qbackup {options.command} --help)"
        )
    if "limits" in options:
        options.limits = limits_of(options.limits)
    if "names" in options:  # argparse itself takes only those beside BACKUP
        options.names += map(name_argument, names)
        check_names(options.names)
    for key, text in zip(_not_given(options), names, strict=False):
        setattr(options, key, name_argument(text) if key == "name" else text)
    return options


def _without_later_parts(arguments: Sequence[str]) -> list[str]:
    """Leaves out a backup's later parts, and what protects it, if its first part is named too."""
    files = {text for text in arguments if not text.startswith("-") and os.path.isfile(text)}
    if len(files) > 1:
        from qbackup.storage.parts import find_parts
        from qbackup.storage.recovery_set import kept_beside

        firsts = {text: parts[1:] for text in files if (parts := find_parts(text))}
        later = {part for parts in firsts.values() for part in parts}
        later |= {name for text in firsts for name in kept_beside(text)}
        return [text for text in arguments if text not in later]
    return list(arguments)


def _not_given(options: argparse.Namespace) -> list[str]:
    """The arguments behind BACKUP that can still come."""
    return [key for key in ("name", "destination") if getattr(options, key, "") is None]


def _without_values(unknown: list[str]) -> str:
    """The part of unknown arguments that may be shown.

    No SECRET of ``--passphrase SECRET``; nor, of a URL that a shell has cut in two, as its password
    holds a space, what stands before the ``@``.
    """
    options = [text for text in unknown if text.startswith("-")]
    names = [text.partition("=")[0] if text[:2] == "--" else text[:2] for text in options]
    shown = " ".join(names or unknown)
    return f"…{shown[shown.rfind('@') :]}" if "@" in shown else shown
