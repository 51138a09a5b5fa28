"""Fields of a tar header: numbers, names, checksums and the records of pax headers."""

from __future__ import annotations

import re
import zlib

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.base.limits import Limits

BLOCK_SIZE = 512
ZERO_BLOCK = bytes(BLOCK_SIZE)
MAGIC_OFFSET = 257
TYPE_OFFSET = 156
REGULAR_TYPES = (b"0", b"\0")
HARD_LINK = b"1"
SYMBOLIC_LINK = b"2"
CHARACTER_DEVICE = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"
OLD_GNU_SPARSE = b"S"
CONTINUATION = b"M"
_NEWLINE = 0x0A
SIZE_DIGITS = 20  # 2^64 has twenty
_SIZE_END = 1 << 63  # no file system and no C library can have a larger size
_OCTAL = re.compile(rb" *([0-7]*) *(?:\0.*)?", re.DOTALL)
OUTER_KEYWORDS = frozenset((b"path", b"size"))
OLD_SPARSE_KEYWORDS = frozenset((b"GNU.sparse.map", b"GNU.sparse.numblocks", b"GNU.sparse.size"))
KEYWORDS = (
    OUTER_KEYWORDS
    | OLD_SPARSE_KEYWORDS
    | {b"linkpath", b"mtime"}
    | {b"GNU.sparse.major", b"GNU.sparse.minor", b"GNU.sparse.name", b"GNU.sparse.realsize"}
)


def parse_continuation(block: bytes) -> tuple[bytes, int] | None:
    """Parses a volume's first header, if its type is ``M``; None if it has another type.

    Returns:
        The name of a member, cut at 100 bytes, and the number of its stored bytes that are still
        to come.

    Raises:
        Damaged: the header does not match its checksum, has no name, or has a malformed number.
    """
    if block[TYPE_OFFSET : TYPE_OFFSET + 1] != CONTINUATION:
        return None
    _check_sum(block)  # GNU tar writes no magic into such a header
    name = parse_text(block[:100])
    if not name:
        raise Damaged("a tar header has no name")
    return name, parse_number(block[124:136])


def parse_number(field: bytes, *, signed: bool = False) -> int:
    """Parses a number of a tar header: octal digits, or base-256 when its first bit is set.

    Raises:
        Damaged: other characters, or a negative number where none is allowed.
    """
    first = field[0]
    if first & 0x80:
        if first == 0x80:
            return int.from_bytes(field[1:], "big")
        if first == 0xFF and signed:
            return int.from_bytes(field, "big", signed=True)
        raise Damaged("a number in a tar header is negative or too large")
    if not field[-1] and field[:-1].isdigit() and b"8" not in field and b"9" not in field:
        return int(field[:-1], 8)  # only saves time: the code below gives the same number
    octal = _OCTAL.fullmatch(field)
    if octal is None:
        raise Damaged("a number in a tar header is not octal")
    return int(octal[1] or b"0", 8)


def parse_pax(data: bytes, keywords: frozenset[bytes] = KEYWORDS) -> dict[bytes, bytes]:
    """Parses a pax extended header; other records than those of the given keywords are ignored.

    Args:
        data: all records.
        keywords: of the records that are returned.

    Returns:
        keyword to value; the last record of a keyword counts, as POSIX demands.

    Raises:
        Damaged: a record that is not ``LENGTH KEYWORD=VALUE\\n``.
    """
    records = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        length = data[position:space] if space > 0 else b""
        end = position + int(length) if length.isdigit() else 0
        equals = data.find(b"=", space, end)
        if end > len(data) or equals < 0 or data[end - 1] != _NEWLINE:
            raise Damaged("a pax header is malformed")
        keyword = data[space + 1 : equals]
        if keyword in keywords:
            records[keyword] = data[equals + 1 : end - 1]
        position = end
    return records


def parse_decimal(digits: bytes) -> int:
    """Parses a number of a pax header. Raises Damaged: other characters, or too many."""
    if not digits.isdigit() or len(digits) > SIZE_DIGITS:
        raise Damaged("a number in a tar header is not decimal")
    return int(digits)


def parse_text(field: bytes) -> bytes:
    """Gives the text in front of a field's first NUL."""
    return field.split(b"\0", 1)[0]


def check_block(block: bytes) -> None:
    """Checks a header's mark and checksum.

    The checksum is the sum of all bytes, with its own field as spaces; old tars added signed bytes.

    Raises:
        Damaged: the block is no header.
    """
    if block[MAGIC_OFFSET : MAGIC_OFFSET + 5] != b"ustar":
        raise Damaged("a block that should be a tar header is something else")
    _check_sum(block)


def _check_sum(block: bytes) -> None:
    field = block[148:156]
    others = 8 * 32 - sum(field)
    # Adler-32's low half is 1 + the sum modulo 65521; 512 bytes below 128 never reach the modulus
    total = (zlib.adler32(block) & 0xFFFF) - 1 if block.isascii() else sum(block)
    expected = parse_number(field)
    if expected != total + others:
        signed = 256 * sum(byte >= 128 for byte in block[:148] + block[156:])
        if expected != total + others - signed:
            raise Damaged("a tar header does not match its checksum")


def parse_long_name(data: bytes, behind: bytes) -> bytes:
    """Parses a long name. GNU tar reads up to a NUL, others up to the size; both must agree."""
    if b"\0" not in data and behind[:1].strip(b"\0"):
        raise Damaged("a long name in a tar header goes on behind its end")
    return parse_text(data)


def parse_size(block: bytes) -> int:
    """Parses the size in a header block. Raises Damaged."""
    return checked_size(parse_number(block[124:136]))


def checked_size(size: int) -> int:
    """Checks that a file can have this size, and gives it. Raises Damaged: it passes 2^63."""
    if size >= _SIZE_END:
        raise Damaged("a size in a tar header exceeds 2^63")
    return size


def parse_name(block: bytes) -> bytes:
    """Parses the name in a header block, with ustar's prefix."""
    name = parse_text(block[0:100])
    if block[MAGIC_OFFSET + 5] == 0 and block[345]:  # ustar and pax; old GNU has other fields
        return parse_text(block[345:500]) + b"/" + name
    return name


def checked_name(name: bytes, limits: Limits) -> bytes:
    """Checks a name of a pax header or a long name, and gives it.

    Raises:
        LimitExceeded: the name has more bytes than allowed.
        Damaged: the name has a NUL byte.
    """
    if len(name) > limits.name:
        raise LimitExceeded(
            f"a name is longer than {limits.name} bytes", limit="name", needed=len(name)
        )
    if b"\0" in name:
        raise Damaged("a name in a pax header holds a NUL byte")
    return name


def parse_time(text: bytes) -> int:
    """Parses a pax time, seconds with a decimal fraction; returns nanoseconds."""
    negative = text.startswith(b"-")
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    nanoseconds = parse_decimal(whole) * 1_000_000_000
    if fraction:
        nanoseconds += parse_decimal(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if negative else nanoseconds
