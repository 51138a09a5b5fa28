"""``backup-header``: bytes in, a checked and frozen value out.

The header says how everything else is to be read, so it is parsed twice: once from its
plain copy, which anybody could have written (`untrusted_header`), and once from the copy
that came out of ``backup-header.hmac`` under the passphrase. All decisions come from the
second. Facts: QubesOS/qubes-core-admin ``qubes/backup.py``, BackupHeader; the published
emergency procedure for format 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from qbackup.errors import HeaderAltered, LimitExceeded, QBackupError, UnsupportedFormat
from qbackup.limits import Limits
from qbackup.names import display

HEADER_NAME = "backup-header"
HEADER_COPY_NAME = "backup-header.hmac"

_TRUE = ("1", "true", "yes")
_PLAIN = re.compile(r"[A-Za-z0-9-]*", re.ASCII)
_SCRYPT = "scrypt"
NOT_NAMED = ""  # a digest that is found by trying, in format 2


@dataclass(frozen=True, kw_only=True)
class BackupHeader:
    """What a backup says about itself.

    Args:
        version: of the backup format.
        encrypted: the chunks are encrypted (always, in format 4).
        compressed: the files were compressed with `compression_filter`.
        compression_filter: name of the program; None when not compressed.
        hmac_algorithm: what authenticates a chunk: ``scrypt`` in format 4, else a digest; ``""``
            in a header of format 2 that names none, until it is found by trying.
        crypto_algorithm: cipher of formats 2 and 3, as openssl names it.
        backup_id: names this backup among its owner's; bound into every chunk's key. ``""`` in
            formats 2 and 3.
    """

    version: int
    encrypted: bool
    compressed: bool
    compression_filter: str | None
    hmac_algorithm: str
    crypto_algorithm: str | None
    backup_id: str

    @classmethod
    def parse(cls, untrusted_data: bytes, limits: Limits | None = None) -> BackupHeader:
        """Parses and checks a header; no byte of it is believed before this returns.

        Raises:
            UnsupportedFormat: a version, or an algorithm, that this program does not read.
            HeaderAltered: malformed, a known key twice, or a required key missing.
            LimitExceeded: longer than `Limits.header`.
        """
        limits = limits or Limits()
        if len(untrusted_data) > limits.header:
            raise LimitExceeded("the header is too long", limit="header", file=HEADER_NAME)
        values = _parse_lines(untrusted_data)
        version = _check_version(values)
        rules = _RULES[version]
        compressed = _required_boolean(values, "compressed")
        header = cls(
            version=version,
            encrypted=_required_boolean(values, "encrypted"),
            compressed=compressed,
            compression_filter=values.get("compression-filter", rules.compression_filter)
            if compressed
            else None,
            hmac_algorithm=values.get("hmac-algorithm", rules.hmac_algorithm),
            crypto_algorithm=values.get("crypto-algorithm", rules.crypto_algorithm),
            backup_id=_required(values, "backup-id") if rules.has_id else "",
        )
        rules.check(header)
        return header


def _boolean(value: str) -> bool:
    return value.lower() in _TRUE


def _plain(value: str) -> str:
    """Qubes' own rule: letters, digits and hyphens, at least one."""
    if not value or not _PLAIN.fullmatch(value):
        raise _malformed(f"has a value that is not plain: {display(value[:80])}")
    return value


# key, as the header spells it → how its value is checked
_CHECKS: dict[str, Callable[[str], str]] = {
    "version": _plain,
    "encrypted": _plain,
    "compressed": _plain,
    "compression-filter": _plain,
    "crypto-algorithm": _plain,
    "hmac-algorithm": _plain,
    "backup-id": _plain,
}
_SPELLINGS = {"backup_id": "backup-id"}  # the published procedure's page


def _malformed(what: str) -> QBackupError:
    return HeaderAltered(f"the header is damaged: it {what}", file=HEADER_NAME)


def _parse_lines(data: bytes) -> dict[str, str]:
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise _malformed("holds characters that are not ASCII") from None
    values: dict[str, str] = {}
    for line in text.split("\n"):
        line = line.strip(" \t\r")
        if not line:
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise _malformed("has a line without '='")
        key = _SPELLINGS.get(key, key)
        if key not in _CHECKS:
            continue
        if key in values:
            raise _malformed(f"says {key} twice")
        values[key] = _CHECKS[key](value)
    return values


def _required(values: dict[str, str], key: str) -> str:
    if key not in values:
        raise _malformed(f"does not say {key}")
    return values[key]


def _required_boolean(values: dict[str, str], key: str) -> bool:
    return _boolean(_required(values, key))


def _unsupported(reason: str) -> UnsupportedFormat:
    """A flipped bit of the header looks like this as well."""
    error = UnsupportedFormat(reason, file=HEADER_NAME)
    error.advice = (
        "if Qubes wrote it so early or so late, another version of qbackup may read it; else the"
        " header is damaged: try another copy of the backup, or --salvage"
    )
    return error


def _check_version(values: dict[str, str]) -> int:
    text = values.get("version")
    if text is None:
        return _VERSION_WITHOUT_NAME
    version = int(text) if text.isdigit() and len(text) <= 4 else None
    if version is not None and version in _RULES:
        return version
    raise _unsupported(
        f"this is a backup of format {text}, which this version of qbackup does not know;"
        " a newer one may"
    )


def _check_format_4(header: BackupHeader) -> None:
    if header.hmac_algorithm != _SCRYPT:
        raise _unsupported(f"the header names {header.hmac_algorithm} where format 4 has scrypt")
    if not header.encrypted:
        raise _unsupported("the header says 'not encrypted', which format 4 never is")
    _check_filter(header)


def _check_format_3(header: BackupHeader) -> None:
    _check_format_2(header)
    _check_filter(header)


def _check_format_2(header: BackupHeader) -> None:
    if header.hmac_algorithm.lower() == _SCRYPT:
        raise _unsupported(f"the header names {_SCRYPT} where format {header.version} has a digest")


def _check_filter(header: BackupHeader) -> None:
    if header.compressed and header.compression_filter is None:
        raise _malformed("says 'compressed' and does not name the filter")


@dataclass(frozen=True)
class _Rules:
    """What the header of a version must say.

    Args:
        hmac_algorithm: where it names none.
        crypto_algorithm: where it names none.
        compression_filter: where it names none and something is compressed.
        has_id: it has an identifier.
        check: what else must hold.
    """

    hmac_algorithm: str
    crypto_algorithm: str | None
    compression_filter: str | None
    has_id: bool
    check: Callable[[BackupHeader], None]


_RULES = {
    2: _Rules(NOT_NAMED, "aes-256-cbc", "gzip", False, _check_format_2),
    3: _Rules("SHA512", "aes-256-cbc", None, False, _check_format_3),
    4: _Rules(_SCRYPT, None, None, True, _check_format_4),
}
_VERSION_WITHOUT_NAME = 2  # R2's release candidates name none
