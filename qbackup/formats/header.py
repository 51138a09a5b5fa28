"""``backup-header``: parsed from bytes into a checked and frozen value.

The header decides how everything else is read, so its bytes are authenticated before any rule of
form is applied. Only `read_version` looks earlier, because each version has only one way to
authenticate the header. `BackupHeader.parse` is called on the plain copy, which anybody could
have written (`untrusted_header`), and again on the authenticated copy from ``backup-header.hmac``.
All decisions come from the second. An authenticated value that this program does not understand is
reported as unsupported and never as damaged: Qubes lets its user choose any string as a filter.
Facts: QubesOS/qubes-core-admin ``qubes/backup.py``, BackupHeader; the published emergency
procedure for format 4.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from qbackup.base.errors import HeaderAltered, LimitExceeded, UnsupportedFormat
from qbackup.base.limits import Limits
from qbackup.base.names import HEADER_NAME, decode, display
from qbackup.formats import FORMATS, WITHOUT_HEADER, WITHOUT_VERSION, FormatRow, find_format

_TRUE = ("1", "true", "yes")
_SHOWN = 80  # characters of a value in a message
_VERSION_DIGITS = 4
_NO_DIGESTS = frozenset(row.hmac_algorithm for row in FORMATS if not row.has_digest)


@dataclass(frozen=True, kw_only=True)
class BackupHeader:
    """A backup's header.

    Args:
        version: of the backup format.
        encrypted: the chunks are encrypted (always, in format 4).
        compressed: the files were compressed with `compression_filter`.
        compression_filter: the header's own words for the program, options and path included
            (``/usr/bin/pigz``, ``zstd -T0 -5``); ``""`` where files are compressed and no program
            is named, None where they are not compressed. The decoder is chosen by the last part
            of the first word, among those built in; no program of this name is ever run. The value
            can be any string: pass it through `qbackup.base.names.display` before showing it.
        hmac_algorithm: the algorithm that authenticates a chunk: ``scrypt`` in format 4, else a
            digest; ``""`` in a header of format 2 that names none, until the digest is found by
            trial.
        crypto_algorithm: cipher of formats 2 and 3, by openssl's name.
        backup_id: identifies this backup among its owner's; bound into every chunk's key. ``""``
            in formats 2 and 3.
    """

    version: int
    encrypted: bool
    compressed: bool
    compression_filter: str | None
    hmac_algorithm: str
    crypto_algorithm: str | None
    backup_id: str

    @classmethod
    def parse(
        cls, untrusted_data: bytes, limits: Limits | None = None, *, proven: bool = False
    ) -> BackupHeader:
        """Parses and checks a header; none of its bytes is used before this returns.

        Args:
            untrusted_data: the header's bytes.
            limits: bounds on its length.
            proven: the bytes are authenticated, so they are as they were written.

        Raises:
            UnsupportedFormat: the header has a version or an algorithm that this program does not
                read, or its bytes are authenticated and can't be understood.
            HeaderAltered: the bytes are not authenticated, and they are malformed, have a known key
                twice, or lack a required key.
            LimitExceeded: the header is longer than `Limits.header`.
        """
        _check_length(untrusted_data, limits or Limits())
        try:
            return cls._parse(_parse_lines(untrusted_data))
        except _NotUnderstoodError as error:
            raise error.proven() if proven else error.unproven() from None

    @classmethod
    def _parse(cls, values: dict[str, str]) -> BackupHeader:
        row = _choose_row(values)
        compressed = _required_boolean(values, "compressed")
        header = cls(
            version=row.version,
            encrypted=_required_boolean(values, "encrypted"),
            compressed=compressed,
            compression_filter=values.get("compression-filter", row.compression_filter)
            if compressed
            else None,
            hmac_algorithm=values.get("hmac-algorithm", row.hmac_algorithm),
            crypto_algorithm=values.get("crypto-algorithm", row.crypto_algorithm),
            backup_id=_check_id(_required(values, "backup-id")) if row.has_id else "",
        )
        _check_algorithm(row, header.hmac_algorithm)
        if row.is_always_encrypted and not header.encrypted:
            raise _NotUnderstoodError(
                f"the header says 'not encrypted', which format {row.version} never is",
                is_unsupported=True,
            )
        return header


def read_version(untrusted_data: bytes, limits: Limits) -> int:
    """Reads only the version from a header, to learn how the header is authenticated.

    Lines that make no sense are ignored here, because nothing is authenticated yet.

    Raises:
        UnsupportedFormat: no header of this version can be authenticated.
        LimitExceeded: the header is longer than `Limits.header`.
    """
    _check_length(untrusted_data, limits)
    values: dict[str, str] = {}
    for pair in _pairs(untrusted_data):
        if pair is not None:
            values.setdefault(*pair)
    try:
        row = _choose_row(values)
        if row.has_digest:
            _check_algorithm(row, values.get("hmac-algorithm", row.hmac_algorithm))
    except _NotUnderstoodError as error:
        raise error.unproven() from None
    return row.version


def guess_header(untrusted_chunk: bytes) -> BackupHeader:
    """Makes a header for a backup that has none, from its first chunk.

    The compression is left open, because it is detected from each volume.
    """
    row = WITHOUT_HEADER
    return _with_defaults(row, encrypted=row.is_encrypted(untrusted_chunk))


def told_header(
    version: int,
    *,
    hmac_algorithm: str,
    crypto_algorithm: str | None,
    compression_filter: str | None,
) -> BackupHeader:
    """Makes a header of values that proven chunks show.

    Args:
        version: of the format.
        hmac_algorithm: digest of the chunks' HMACs.
        crypto_algorithm: cipher of the chunks; None: they are not encrypted.
        compression_filter: None: nothing is compressed, or each volume shows it by itself.
    """
    header = _with_defaults(
        find_format(version),
        encrypted=crypto_algorithm is not None,
        compression_filter=compression_filter,
    )
    return replace(
        header,
        hmac_algorithm=hmac_algorithm,
        crypto_algorithm=crypto_algorithm or header.crypto_algorithm,
    )


def header_for_id(
    version: int, backup_id: str, *, compression_filter: str | None = None
) -> BackupHeader:
    """Makes a header for a backup of which only the version and the id are known.

    Raises:
        UnsupportedFormat: this program does not read that version.
    """
    return _with_defaults(
        find_format(version), backup_id=backup_id, compression_filter=compression_filter
    )


def _with_defaults(
    row: FormatRow,
    *,
    encrypted: bool = True,
    compression_filter: str | None = None,
    backup_id: str = "",
) -> BackupHeader:
    return BackupHeader(
        version=row.version,
        encrypted=encrypted,
        compressed=compression_filter is not None,
        compression_filter=compression_filter,
        hmac_algorithm=row.hmac_algorithm,
        crypto_algorithm=row.crypto_algorithm,
        backup_id=backup_id,
    )


class _NotUnderstoodError(Exception):
    """A header can't be used. The error to report depends on its bytes: authenticated or not.

    Args:
        reason: a whole sentence where `is_unsupported`; else the end of a sentence whose subject
            is the header.
        is_unsupported: the value is well-formed, and this program does not read such backups.
    """

    def __init__(self, reason: str, *, is_unsupported: bool = False) -> None:
        super().__init__(reason)
        self._reason = reason
        self._is_unsupported = is_unsupported

    def proven(self) -> UnsupportedFormat:
        """Makes the error for a header that is authenticated, so that it is as it was written."""
        if self._is_unsupported:
            return UnsupportedFormat(self._reason, file=HEADER_NAME)
        return UnsupportedFormat(
            f"this program can't use the header, which is as it was written: it {self._reason}",
            file=HEADER_NAME,
        )

    def unproven(self) -> UnsupportedFormat | HeaderAltered:
        """Makes the error for a header that anybody could have changed."""
        if not self._is_unsupported:
            return HeaderAltered(
                f"the header can't be understood, and is not authenticated: it {self._reason}",
                file=HEADER_NAME,
            )
        error = UnsupportedFormat(self._reason, file=HEADER_NAME)
        error.advice = (  # a flipped bit in the header can have the same effect
            "if a newer Qubes wrote this backup, a newer qbackup may read it; if not, the header is"
            " damaged: try another copy of the backup, or --salvage"
        )
        return error


def _check_length(data: bytes, limits: Limits) -> None:
    if len(data) > limits.header:
        raise LimitExceeded(
            "the header is too long", limit="header", needed=len(data), file=HEADER_NAME
        )


def _boolean(value: str) -> bool:
    return value.lower() in _TRUE


_KEYS = (
    "version",
    "encrypted",
    "compressed",
    "compression-filter",
    "crypto-algorithm",
    "hmac-algorithm",
    "backup-id",
)
_SPELLINGS = {"backup_id": "backup-id"}  # the published procedure's page


def _shown(value: str) -> str:
    return display(value[:_SHOWN])


def _pairs(data: bytes) -> list[tuple[str, str] | None]:
    """Gives key and value of each line with a known key; None for a line without equals sign."""
    pairs: list[tuple[str, str] | None] = []
    for line in data.split(b"\n"):
        line = line.strip(b" \t\r")
        if not line:
            continue
        key, equals, value = line.partition(b"=")
        name = decode(key)
        name = _SPELLINGS.get(name, name)
        if not equals:
            pairs.append(None)
        elif name in _KEYS:
            pairs.append((name, decode(value)))
    return pairs


def _parse_lines(data: bytes) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in _pairs(data):
        if pair is None:
            raise _NotUnderstoodError("has a line without '='")
        key, value = pair
        if key in values:
            raise _NotUnderstoodError(f"says {key} twice")
        values[key] = value
    return values


def _required(values: dict[str, str], key: str) -> str:
    if key not in values:
        raise _NotUnderstoodError(f"does not say {key}")
    return values[key]


def _required_boolean(values: dict[str, str], key: str) -> bool:
    return _boolean(_required(values, key))


def _choose_row(values: dict[str, str]) -> FormatRow:
    text = values.get("version")
    if text is None:
        return WITHOUT_VERSION
    if text.isascii() and text.isdigit() and len(text) <= _VERSION_DIGITS:
        with contextlib.suppress(UnsupportedFormat):
            return find_format(int(text))
    raise _NotUnderstoodError(
        f"the header says format {_shown(text) or 'nothing'}, which this version of qbackup does"
        " not know",
        is_unsupported=True,
    )


def _check_id(value: str) -> str:
    """Checks a backup id: any text without NUL and CR, which would end a passphrase's line."""
    if not value or "\0" in value or "\r" in value:
        raise _NotUnderstoodError(f"has a backup id that no key can hold: '{_shown(value)}'")
    return value


def _check_algorithm(row: FormatRow, name: str) -> None:
    """Checks the algorithm that authenticates chunks: a digest, or the only one of the format."""
    if not row.has_digest and name != row.hmac_algorithm:
        raise _NotUnderstoodError(
            f"the header names {_shown(name) or 'nothing'} where format {row.version} has"
            f" {row.hmac_algorithm}",
            is_unsupported=True,
        )
    if row.has_digest and name.lower() in _NO_DIGESTS:
        raise _NotUnderstoodError(
            f"the header names {name.lower()} where format {row.version} has a digest",
            is_unsupported=True,
        )
