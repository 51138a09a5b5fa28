"""``backup-header``."""

from __future__ import annotations

import re

from qbackup.base.errors import LimitExceeded, QBackupError, UnsupportedFormat
from qbackup.formats.header import BackupHeader, read_version
from tests.fuzz.common import LIMITS, outcome

_LINE_END = re.compile("[\0\r\n]")


def check(data: bytes) -> None:
    """Checks that an accepted header has usable ids, and in format 4 is read the same when written.

    A header that is accepted leads to the proof of its own version, and proven or not decides
    about the kind of an error only.
    """
    version = outcome(lambda: read_version(data, LIMITS))
    header = outcome(lambda: BackupHeader.parse(data, LIMITS))
    if isinstance(header, QBackupError):
        proven = outcome(lambda: BackupHeader.parse(data, LIMITS, proven=True))
        assert isinstance(proven, UnsupportedFormat | LimitExceeded)
        return
    assert version == header.version
    assert len(data) <= LIMITS.header
    assert header.version in (2, 3, 4)
    if header.version != 4:
        return
    assert header.encrypted
    assert header.hmac_algorithm == "scrypt"
    assert header.backup_id and not _LINE_END.search(header.backup_id)
    assert header.compressed == (header.compression_filter is not None)
    assert BackupHeader.parse(_text(header), LIMITS) == header


def _text(header: BackupHeader) -> bytes:
    lines = {
        "version": str(header.version),
        "encrypted": str(header.encrypted),
        "compressed": str(header.compressed),
        "compression-filter": header.compression_filter,
        "hmac-algorithm": header.hmac_algorithm,
        "crypto-algorithm": header.crypto_algorithm,
        "backup-id": header.backup_id,
    }
    text = "".join(f"{key}={value}\n" for key, value in lines.items() if value is not None)
    return text.encode("utf-8", "surrogateescape")
