"""Backup ids that the headers in a damaged file name, and the copies of headers that were opened.

Nothing of a header is believed that no copy proves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from qbackup.base.names import decode
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.subkeys import RootKey
from qbackup.formats.header import BackupHeader

_BACKUP_ID = re.compile(rb"backup[-_]id=([A-Za-z0-9-]{1,255})(?![A-Za-z0-9-])")
_ID_LINE = re.compile(rb"^[ \t]*backup[-_]id=([^\r\n\0]{0,254}[^\r\n\0 \t])[ \t\r]*$", re.MULTILINE)
_IDS_LIMIT = 4


@dataclass(frozen=True)
class OpenedCopy:
    """A header's copy that the passphrase has opened.

    Args:
        offset: offset of its data in the file.
        key: the key that opened the copy.
        plain: the verified header's bytes.
        header: the same header, parsed.
    """

    offset: int
    key: RootKey | Derivation
    plain: bytes
    header: BackupHeader


def collect_ids(
    copies: Mapping[int, BackupHeader], untrusted_headers: Mapping[int, bytes]
) -> dict[str, int]:
    """Collects the ids, each with the offset where it is named first; copies' ids come first.

    At most four ids are collected, and all ids of the copies.

    Args:
        copies: offset → header whose authenticated copy was opened there.
        untrusted_headers: offset → bytes of a header, which may be damaged.
    """
    ids = {header.backup_id: offset for offset, header in copies.items()}
    for offset, untrusted_header in untrusted_headers.items():
        lines, anywhere = (p.findall(untrusted_header) for p in (_ID_LINE, _BACKUP_ID))
        for name in (*lines, *anywhere):
            id_ = decode(name)
            if id_ in ids or len(ids) < _IDS_LIMIT:
                ids[id_] = min(offset, ids.get(id_, offset))
    return ids
