"""Formats of backups, which turn the chunks of a file into one stream, and the table of them.

`FORMATS` has one row for each format, the newest first. No other package names a format or
compares a version: what differs between formats is asked of the row or of its `Format`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qbackup.base.errors import UnsupportedFormat
from qbackup.base.names import Naming
from qbackup.crypto.scrypt_format import MAGIC as SCRYPT_MAGIC
from qbackup.formats import v2, v3, v4
from qbackup.formats.protocol import Format

NOT_NAMED = ""  # an algorithm that has to be found by trial


@dataclass(frozen=True, kw_only=True)
class FormatRow:
    """Row of the table of formats: the version, and what is needed before the format is known.

    Args:
        version: from the header. Each version has only one way to authenticate the header.
        create: makes the format. The argument is the digest that the caller asked for, or None.
        naming: of the members.
        hmac_algorithm: of a header that names none.
        has_digest: any digest may be named in place of `hmac_algorithm`; else nothing else may.
        crypto_algorithm: of a header that names none.
        compression_filter: of a compressed backup whose header names none; `NOT_NAMED`: unknown.
        has_id: the header has an identifier of the backup.
        is_always_encrypted: a header that says otherwise is refused.
        may_lack_version: a header without a version is of this format.
        may_lack_header: a backup without a header is of this format.
        is_encrypted: tells from the first chunk of a backup without a header if its chunks are
            encrypted.
        copy_magic: first bytes of ``backup-header.hmac`` that no other format has there; ``b""``
            where there are none.
    """

    version: int
    create: Callable[[str | None], Format]
    naming: Naming
    hmac_algorithm: str
    has_digest: bool
    crypto_algorithm: str | None
    compression_filter: str
    has_id: bool
    is_always_encrypted: bool
    may_lack_version: bool = False
    may_lack_header: bool = False
    is_encrypted: Callable[[bytes], bool] = bool
    copy_magic: bytes = b""


FORMATS = (
    FormatRow(
        version=4,
        create=lambda _: v4.Format4(),
        naming=v4.NAMING,
        hmac_algorithm="scrypt",
        has_digest=False,
        crypto_algorithm=None,
        compression_filter=NOT_NAMED,
        has_id=True,
        is_always_encrypted=True,
        copy_magic=SCRYPT_MAGIC,
    ),
    FormatRow(
        version=3,
        create=v3.Format3,
        naming=v3.NAMING,
        hmac_algorithm="SHA512",
        has_digest=True,
        crypto_algorithm="aes-256-cbc",
        compression_filter=NOT_NAMED,
        has_id=False,
        is_always_encrypted=False,
    ),
    FormatRow(
        version=2,
        create=v2.Format2,
        naming=v3.NAMING,
        hmac_algorithm=NOT_NAMED,
        has_digest=True,
        crypto_algorithm="aes-256-cbc",
        compression_filter="gzip",
        has_id=False,
        is_always_encrypted=False,
        may_lack_version=True,  # the release candidates of R2
        may_lack_header=True,  # R2 Beta 3
        is_encrypted=v2.is_encrypted,
    ),
)

#: Row of the backups that have a header without a version, and of those that have no header.
WITHOUT_VERSION = next(row for row in FORMATS if row.may_lack_version)
WITHOUT_HEADER = next(row for row in FORMATS if row.may_lack_header)

#: Tells from a later chunk of a file, in a format with HMACs, if each chunk is a volume of its own.
is_volume = v2.is_volume

#: Naming schemes to try before the header is known, the most likely first.
NAMINGS = tuple(dict.fromkeys(row.naming for row in FORMATS))


def find_format(version: int) -> FormatRow:
    """Finds the row of a version.

    Raises:
        UnsupportedFormat: this program does not read that version.
    """
    for row in FORMATS:
        if row.version == version:
            return row
    raise UnsupportedFormat(f"format {version} is not read yet")


def choose_format(version: int, *, hmac_algorithm: str | None = None) -> Format:
    """Chooses the format of a backup by its version.

    Args:
        version: from the header.
        hmac_algorithm: see `qbackup.BackupArchive`.

    Raises:
        UnsupportedFormat: this program does not read that version.
    """
    return find_format(version).create(hmac_algorithm)


def choose_by_chunks(
    naming: Naming, are_volumes: Iterable[bool | None], *, hint: int | None, digest: str
) -> FormatRow:
    """Chooses between the formats with this naming, where no header can be believed.

    Args:
        naming: of the members.
        are_volumes: what `is_volume` says of each later chunk that was proven.
        hint: version that a header names which nobody has proven; None if unknown. A wrong one
            costs files, and can't make wrong ones.
        digest: of the HMACs.
    """
    rows = [row for row in FORMATS if row.naming == naming]
    alone, joined = WITHOUT_HEADER, next(r for r in rows if not r.may_lack_header)
    verdicts = {verdict for verdict in are_volumes if verdict is not None}
    if verdicts:
        return joined if False in verdicts else alone
    named = [row for row in rows if row.version == hint]
    usual = [row for row in rows if row.hmac_algorithm.lower() == digest.lower()]
    return next(iter((*named, *usual)), alone)


def assume_format() -> Format:
    """Makes the format to assume where no header can be used: the newest one."""
    return FORMATS[0].create(None)


def find_by_copy(copy: bytes) -> FormatRow | None:
    """Finds the format that ``backup-header.hmac`` begins like; None if it shows no format."""
    rows = (row for row in FORMATS if row.copy_magic and copy.startswith(row.copy_magic))
    return next(rows, None)
