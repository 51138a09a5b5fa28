"""Other backups that have parts in the same file, in words: for reports only."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from qbackup.archive.unlock.backup_ids import IdMatches
from qbackup.base.errors import Unlockable, Unreadable
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.base.notices import OtherBackup
from qbackup.formats import choose_format
from qbackup.formats.header import BackupHeader
from qbackup.formats.protocol import Format
from qbackup.storage.tar.fields import BLOCK_SIZE

_SHOWN = 80  # characters of an id in a message
_HEADERS_SIZE = 3 * BLOCK_SIZE  # bytes of tar headers in front of a member's data


def describe_headers(
    headers: Mapping[int, bytes], own: bytes, format_: Format, limits: Limits
) -> list[str]:
    """Describes headers of other backups.

    A header is left out here where chunks can prove which backup they belong to.

    Args:
        headers: offset → bytes of each header in the file.
        own: the header that is used.
        format_: of the backup that is read.
        limits: bounds on headers.
    """
    found: list[str] = []
    for offset, header in headers.items():
        with contextlib.suppress(Unlockable, Unreadable):
            parsed = BackupHeader.parse(header, limits)
            names_backup = choose_format(parsed.version).heads_name_backup
            if header != own and not (names_backup and format_.heads_name_backup):
                found.append(
                    OtherBackup(
                        f"another header, of format {parsed.version}, is in this file, and its"
                        f" backup is left out. To read that one, {_where(offset - _HEADERS_SIZE)}"
                    )
                )
    return found


def describe_parts(ids: Mapping[str, int], chosen: str, matches: IdMatches) -> list[str]:
    """Describes other backups whose chunks are proven.

    Args:
        ids: id → offset where it is named first.
        chosen: id of the backup that is read.
        matches: chunks that prove each id.
    """
    return [
        OtherBackup(
            f"this file holds parts of two backups: {shown_id(chosen)}, which is used, and"
            f" {shown_id(id_)}, which is left out. To read that one,"
            f" {_where(min(ids[id_], chunks[0].offset) - _HEADERS_SIZE)}"
        )
        for id_, chunks in matches.by.items()
        if id_ != chosen
    ]


def shown_id(id_: str) -> str:
    """Makes an id fit for a message."""
    return display(id_[:_SHOWN])


def _where(begin: int) -> str:
    """Gives the advice for reading a backup that begins at this offset."""
    return (
        f"copy it out of this file with tail -c +{max(0, begin) + 1}, and use --salvage on the copy"
    )
