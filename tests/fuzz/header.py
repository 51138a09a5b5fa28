"""``backup-header``."""

from __future__ import annotations

import re

from qbackup.errors import QBackupError
from qbackup.header import BackupHeader
from tests.fuzz.common import LIMITS, outcome

_PLAIN = re.compile("[A-Za-z0-9-]+", re.ASCII)


def check(data: bytes) -> None:
    """What is accepted has plain values only, and in format 4 is read the same when written."""
    header = outcome(lambda: BackupHeader.parse(data, LIMITS))
    if isinstance(header, QBackupError):
        return
    assert len(data) <= LIMITS.header
    assert header.version in (2, 3, 4)
    for value in (header.compression_filter, header.crypto_algorithm, header.hmac_algorithm):
        assert not value or _PLAIN.fullmatch(value)
    if header.version != 4:
        return
    assert header.encrypted
    assert header.hmac_algorithm == "scrypt"
    assert _PLAIN.fullmatch(header.backup_id)
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
    return "".join(f"{key}={value}\n" for key, value in lines.items() if value).encode()
