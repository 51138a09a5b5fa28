"""Arguments and options that several commands have, and the types of their values."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from qbackup.base.errors import UsageError

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from qbackup.base.limits import Limits

_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LARGEST = (1 << 63) - 1
_WHOLE_PERCENT = 100


# Arguments


def add_backup(parser: argparse.ArgumentParser, *, or_image: bool = False) -> None:
    """Adds BACKUP.

    Args:
        parser: of a command.
        or_image: an image that was restored can be named instead.
    """
    text = "the backup's file, or - for standard input"
    if or_image:
        text += "; or IMAGE:/path in an image that was restored"
    parser.add_argument("backup", metavar="BACKUP", help=text)


def add_names(parser: argparse.ArgumentParser) -> None:
    """Adds any number of NAMEs."""
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        type=name_argument,
        help="QUBE or QUBE/FILE (default: all)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds ``-o DIR``."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        required=True,
        type=folder,
        help="the folder to write into",
    )


def add_dask(parser: argparse.ArgumentParser) -> None:
    """Adds ``--dask ADDRESS``."""
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="derive keys on this Dask cluster too, e.g. tls://HOST:8786",
    )


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--spool`` and ``--partition``, for files inside images."""
    parser.add_argument(
        "--spool",
        metavar="DIR",
        help="folder for the temporary, encrypted copy of a large image"
        " (default: TMPDIR, else /var/tmp)",
    )
    parser.add_argument(
        "--partition",
        metavar="N",
        type=positive,
        help="show this partition of a disk"
        " (default: the one with a system, else the largest with ext4)",
    )


def add_passphrase(parser: argparse.ArgumentParser) -> None:
    """Adds the group of options that name a source of the passphrase."""
    group = parser.add_argument_group(
        "passphrase",
        "Asked for on the terminal, unless one of these options or environment variables is set:\n"
        "QBACKUP_PASSPHRASE, QBACKUP_PASSPHRASE_FILE, QBACKUP_PASSPHRASE_COMMAND.",
    )
    group.add_argument(
        "-p",
        "--passphrase-file",
        metavar="FILE",
        help="a file with the passphrase, or - for standard input",
    )
    group.add_argument(
        "--passphrase-command", metavar="CMD", help="a program that prints the passphrase"
    )


def add_common(parser: argparse.ArgumentParser, *, json: bool) -> None:
    """Adds the options of all commands that read a backup.

    Args:
        parser: of a command.
        json: ``--json`` is one of them.
    """
    parser.set_defaults(json=False)
    if json:
        parser.add_argument(
            "--json", action="store_true", help="print one JSON document on standard output"
        )
    _add_resources(parser)
    parser.add_argument(
        "--compression-filter",
        metavar="NAME",
        help="decompress with this program, which takes -d, instead of the one that the header"
        " names; none: the files are not compressed",
    )
    parser.add_argument(
        "--hmac-algorithm",
        metavar="NAME",
        help="authenticate the header of formats 2 and 3 with this digest, even a weak one",
    )
    parser.add_argument(
        "--salvage",
        action="store_true",
        help="go on where the header or the archive is damaged, and report each fault",
    )
    parser.add_argument(
        "--also",
        metavar="COPY",
        action="append",
        default=[],
        help="another copy of the same backup: what is damaged in one is taken from the others; may"
        " be given again",
    )
    parser.add_argument(
        "--backup-id",
        metavar="ID",
        help="with --salvage: the id of a backup of format 4 whose header is lost,"
        " e.g. 20240917T101112-1234",
    )
    parser.add_argument(
        "--backup-id-window",
        metavar="WINDOW",
        help="with --salvage: search for that id among these, SECONDS[,PID-PID][,TIME],"
        " e.g. 60,1000-4000: a minute on each side of the time in the file's name",
    )
    add_quiet(parser)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show which libraries do the work"
    )


def _add_resources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=positive,
        help="number of scrypt lanes that are derived side by side (default: one for each core)",
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        type=size,
        help="memory that key derivation may use, e.g. 400M (default: half of RAM)",
    )
    add_limit(parser)


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Adds --limit."""
    parser.add_argument(
        "--limit",
        metavar="NAME=VALUE",
        dest="limits",
        action="append",
        type=limit,
        help="raise a limit that an error names, e.g. decoder_memory=2G; may be repeated",
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Adds --quiet."""
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


# Types of values


def name_argument(text: str) -> str:
    """Turns an argument into a name as the backup's are held: UTF-8, whatever the locale is."""
    from qbackup.base.names import decode

    unknown = any("\udc80" <= char <= "\udcff" for char in text)
    return decode(os.fsencode(text)) if unknown else text


def check_names(names: Sequence[str]) -> None:
    """Checks that names are those of qubes and their files, not of paths inside an image.

    Raises:
        UsageError: ``QUBE:/path`` or ``QUBE/FILE.img:/path`` is among them.
    """
    from qbackup.base.names import display

    for name in names:
        if name.partition("/")[0].endswith(":") or ".img:/" in name:
            raise UsageError(
                f"{display(name)} is a path inside an image. To get such files:"
                " qbackup cp BACKUP QUBE:/path FOLDER"
            )


def check_id_options(options: argparse.Namespace) -> None:
    """Checks ``--backup-id`` and ``--backup-id-window``.

    Raises:
        UsageError: they contradict each other, or are given without ``--salvage``.
    """
    if options.backup_id is None and options.backup_id_window is None:
        return
    if options.backup_id is not None and options.backup_id_window is not None:
        raise UsageError("--backup-id and --backup-id-window are both given: name one")
    if not options.salvage:
        raise UsageError("--backup-id and --backup-id-window are for --salvage: give that too")
    if options.backup_id_window is not None:
        from qbackup.archive.unlock.id_window import IdWindow

        IdWindow.parse(options.backup_id_window)


def folder(text: str) -> str:
    """Refuses an empty path."""
    if not text:
        raise argparse.ArgumentTypeError("the name of the folder is empty")
    return text


def positive(text: str) -> int:
    """Parses a whole number above 0."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def percent(text: str) -> int:
    """Parses a whole number from 1 to 100."""
    number = positive(text.removesuffix("%"))
    if number > _WHOLE_PERCENT:
        raise argparse.ArgumentTypeError(f"{text!r} is more than 100 percent")
    return number


def size(text: str) -> int:
    """Parses a number of bytes, such as 400M."""
    digits = text.upper().removesuffix("IB").removesuffix("B")
    unit = digits[-1:] if digits[-1:] in _SIZE_UNITS else ""
    if unit:
        digits = digits[:-1]
    if not digits.isascii() or not digits.isdigit() or not int(digits):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 400M or 2G")
    return int(digits) * _SIZE_UNITS[unit]


def limit(text: str) -> tuple[str, int]:
    """Parses a field of `qbackup.Limits` and its value."""
    from qbackup.base.limits import Limits

    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as decoder_memory=2G")
    names = list(Limits.__dataclass_fields__)
    if name not in names:
        raise argparse.ArgumentTypeError(f"there is no limit {name!r}; {_near(name, names)}")
    size_bytes = size(value)
    if size_bytes > _LARGEST:
        raise argparse.ArgumentTypeError(f"{value!r} is more than any limit can be")
    return name, size_bytes


def _near(name: str, names: Sequence[str]) -> str:
    """Lists the names that may have been meant; all, where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), names, cutoff=0.5)
    parts = set(name.lower().split("_"))
    near += [other for other in names if other not in near and parts & set(other.split("_"))]
    return f"similar names: {', '.join(near)}" if near else f"the limits are: {', '.join(names)}"


def limits_of(chosen: Sequence[tuple[str, int]] | None) -> Limits | None:
    """Makes `Limits` of the values that were given, the last of each name; None if none was."""
    if not chosen:
        return None
    from qbackup.base.limits import Limits

    return Limits(**dict(chosen))
