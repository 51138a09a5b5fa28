"""Signatures: the likely kind of a file that is no backup, by its first bytes."""

from __future__ import annotations

_BEGINNINGS = (
    (b"\x1f\x8b", "something compressed with gzip: unpack it first, with gzip -d"),
    (b"BZh", "something compressed with bzip2: unpack it first, with bzip2 -d"),
    (b"\xfd7zXZ\0", "something compressed with xz: unpack it first, with xz -d"),
    (b"\x28\xb5\x2f\xfd", "something compressed with zstd: unpack it first, with zstd -d"),
    (b"PK\x03\x04", "a zip archive: the backup may be a file in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: the backup may be a file in it"),
    (b"scrypt\0", "something encrypted with scrypt, as each chunk of a backup is"),
    (b"Salted__", "something encrypted with openssl, as the chunks of an old backup are"),
    (b"LUKS\xba\xbe", "an encrypted disk: unlock it first, the backup may be a file on it"),
    (b"age-encryption.org/", "something encrypted with age: decrypt it first"),
    (b"-----BEGIN PGP MESSAGE", "something encrypted with PGP: decrypt it first"),
    (b"hsqs", "a SquashFS image"),
    (b"%PDF-", "a PDF document"),
    (b"<?xml", "an XML document, as qubes.xml is"),
    (b"version=", "the header of a backup, without the backup"),
)
_BOOT_MARK = b"\x55\xaa"  # at the end of the first sector


def looks_like(block: bytes) -> str | None:
    """Guesses the kind of a file from its first block of up to 512 bytes; None if unknown.

    The text fits behind "looks like" in a sentence.
    """
    for beginning, text in _BEGINNINGS:
        if block.startswith(beginning):
            return text
    if block and not any(block):
        return "nothing but zeros: it was wiped or never fully written, or its drive is failing"
    if block[510:512] == _BOOT_MARK:
        return "a whole disk: the backup may be a file on it"
    return None
