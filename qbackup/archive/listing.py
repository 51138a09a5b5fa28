"""`FileListing`: the files of one qube, as far as something names them before any was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qbackup.archive.file import BackupFile

_EXAMPLES = 100


@dataclass(frozen=True, kw_only=True)
class FileListing:
    """Files of a qube in the archive, by what is known of them before they are read.

    Nothing proves a file that ``qubes.xml`` does not name before its content was verified: anybody
    who can write to the storage can plant a million of them. `others` therefore holds those that
    Qubes usually writes, and of the rest the first hundred.

    Args:
        named: files that ``qubes.xml`` names: images that must be there, and dom0's home.
        others: files that ``qubes.xml`` does not name.
        more: number of the files that it does not name and that are not in `others`.
        more_size: their stored size in bytes.
        missing: names of files that must be there and are not; ``*`` if nothing is there.
    """

    named: tuple[BackupFile, ...]
    others: tuple[BackupFile, ...]
    more: int
    more_size: int
    missing: tuple[str, ...]


def list_files(
    files: Iterable[BackupFile],
    *,
    required: tuple[str, ...] | None,
    is_named: Callable[[str], bool],
    is_usual: Callable[[str], bool],
) -> FileListing:
    """Sorts the files of a qube by what is known of them.

    Args:
        files: the files in the archive's order.
        required: names of files that must be there; None if the qube is not in the backup.
        is_named: tells if ``qubes.xml`` names a file.
        is_usual: tells if Qubes usually writes a file of this name.
    """
    named: list[BackupFile] = []
    others: list[BackupFile] = []
    more = more_size = examples = 0
    absent = dict.fromkeys(required or ())
    for file in files:
        name = file.name.partition("/")[2]
        absent.pop(name, None)
        if is_named(name):
            named.append(file)
        elif is_usual(name):
            others.append(file)
        elif examples < _EXAMPLES:
            examples += 1
            others.append(file)
        else:
            more += 1
            more_size += file.stored_size
    is_empty = required is not None and not (named or others)
    missing = tuple(absent) or (("*",) if is_empty else ())
    return FileListing(
        named=tuple(named), others=tuple(others), more=more, more_size=more_size, missing=missing
    )
