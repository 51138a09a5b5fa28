"""Tar headers: bytes in, values out. One parser for the outer and the inner archives.

Strategy: `read_member` is a generator that does no I/O. It yields how many bytes it
wants next, is sent exactly those, and returns a `TarMember` once it has seen all that
stands in front of the member's data: pax extended headers, GNU long names, the extension
blocks of an old-GNU sparse map, the map of a pax 1.0 sparse member. It returns None for
a block of zeros where a header could have been. Whoever drives it decides where the bytes
come from; the driver also skips or reads the `stored_size` bytes of data and their padding.

Understood: ustar, pax (``x``), GNU long names (``L``, ``K``), base-256 numbers, old-GNU
sparse (``S``) and pax sparse 1.0. Everything else that changes the meaning of a header is
refused, never guessed. Facts: POSIX.1 pax interchange format; GNU tar manual, "Basic Tar
Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeAlias

from qbackup.errors import Damaged, LimitExceeded
from qbackup.limits import Limits
from qbackup.sparsemap import SparseMap, check_count

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
_PAX = b"x"
_PAX_GLOBAL = b"g"
_LONG_NAME = b"L"
_LONG_LINK = b"K"
_NEWLINE = 0x0A

_EXTENDED_HEADERS = 8  # of one member; writers make one of each kind, and there are three
_SIZE_DIGITS = 20  # 2^64 has twenty
_TOO_MANY_DIGITS = b"0" * (_SIZE_DIGITS + 1)  # where each digit stands as a zero
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_MAP_PIECE = 32 * 1024  # bytes of a map that are read at once
_SIZE_END = 1 << 63  # where every file system and every C library ends
_OCTAL = re.compile(rb" *([0-7]*) *(?:\0.*)?", re.DOTALL)
_OUTER_KEYWORDS = frozenset((b"path", b"size"))
_OLD_SPARSE_KEYWORDS = frozenset((b"GNU.sparse.map", b"GNU.sparse.numblocks", b"GNU.sparse.size"))
_KEYWORDS = (
    _OUTER_KEYWORDS
    | _OLD_SPARSE_KEYWORDS
    | {b"linkpath", b"mtime"}
    | {b"GNU.sparse.major", b"GNU.sparse.minor", b"GNU.sparse.name", b"GNU.sparse.realsize"}
)

HeaderReader: TypeAlias = Generator[int, bytes, "TarMember | None"]


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member, as its headers describe it. Nothing here is more trusted than the bytes.

    Args:
        name: the real name, long names and sparse names resolved.
        type: the type flag, one byte.
        size: length of the file in bytes, holes included.
        stored_size: bytes of data that follow in the archive, padding not counted.
        mode: permission bits, setuid and setgid among them.
        mtime_ns: modification time, nanoseconds since 1970.
        link: target of a hard or symbolic link.
        sparse: where the stored bytes belong; None when the file is stored whole.
    """

    name: bytes
    type: bytes
    size: int
    stored_size: int
    mode: int
    mtime_ns: int
    link: bytes
    sparse: SparseMap | None = None

    @property
    def padding(self) -> int:
        """Bytes between the end of the data and the next block."""
        return -self.stored_size % BLOCK_SIZE


def read_member(limits: Limits, *, sparse: bool = True, checked: bool = True) -> HeaderReader:
    """Reads one member's headers. Yields the number of bytes wanted, see the module's text.

    Args:
        limits: bounds on extended headers and sparse maps.
        sparse: understand sparse members. The outer archive has none, and there only name,
            type and size have a meaning: mode and time are given as 0.
        checked: refuse a header that does not match its checksum; else it is a guess.

    Raises:
        Damaged: a header that is not one, or says something that can't be.
        LimitExceeded: a header or a map that is larger than allowed.
    """
    pax: dict[bytes, bytes] = {}
    long: dict[bytes, bytes] = {}
    keywords = _KEYWORDS if sparse else _OUTER_KEYWORDS
    for _ in range(_EXTENDED_HEADERS + 1):
        block = yield BLOCK_SIZE
        if block == ZERO_BLOCK:
            if pax or long:
                raise Damaged("an extended tar header has no member behind it")
            return None
        if checked:
            check_block(block)
        kind = block[TYPE_OFFSET : TYPE_OFFSET + 1]
        if kind == _PAX:
            data, _ = yield from _payload(block, limits.pax_header, "pax_header")
            pax = parse_pax(data, keywords) if sparse or _names_outer_keyword(data) else {}
        elif kind in (_LONG_NAME, _LONG_LINK):
            data, behind = yield from _payload(block, limits.name + 1, "name")
            long[kind] = _long_name(data, behind)
        elif kind == _PAX_GLOBAL:
            raise Damaged("a global pax header, which no Qubes backup has")
        else:
            break
    else:
        raise Damaged("a member has too many extended tar headers")
    member = _member(block, kind, pax, long, limits, outer=not sparse)
    if not sparse:
        return member
    if kind == OLD_GNU_SPARSE:
        return (yield from _read_old_gnu_map(member, block, limits))
    if b"GNU.sparse.major" in pax or not _OLD_SPARSE_KEYWORDS.isdisjoint(pax):
        return (yield from _read_pax_map(member, pax, limits))
    return member


def parse_continuation(block: bytes) -> tuple[bytes, int] | None:
    """What a volume's first header says, if it is of type ``M``; None if it is of another.

    Returns:
        The name of a member, cut at 100 bytes, and how many of its stored bytes are still to come.

    Raises:
        Damaged: it does not match its checksum, has no name, or a number in it is none.
    """
    if block[TYPE_OFFSET : TYPE_OFFSET + 1] != CONTINUATION:
        return None
    _check_sum(block)  # GNU tar writes no magic into such a header
    name = _text(block[:100])
    if not name:
        raise Damaged("a tar header has no name")
    return name, parse_number(block[124:136])


def parse_number(field: bytes, *, signed: bool = False) -> int:
    """A number of a tar header: octal digits, or base-256 when its first bit is set.

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
        return int(field[:-1], 8)  # saves time only: what follows says the same
    octal = _OCTAL.fullmatch(field)
    if octal is None:
        raise Damaged("a number in a tar header is not octal")
    return int(octal[1] or b"0", 8)


def parse_pax(data: bytes, keywords: frozenset[bytes] = _KEYWORDS) -> dict[bytes, bytes]:
    """The records of a pax extended header that have a meaning here.

    Args:
        data: all records.
        keywords: those that have a meaning.

    Returns:
        keyword to value; the last of a keyword counts, as POSIX has it.

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


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _SIZE_DIGITS:
        raise Damaged("a number in a tar header is not decimal")
    return int(digits)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _names_outer_keyword(data: bytes) -> bool:
    """Whether a pax header can say anything of a member of the outer archive.

    Nearly all of them give times only, and there are as many as chunks.
    """
    return b"path=" in data or b"size=" in data


def check_block(block: bytes) -> None:
    """Whether this is a header: its mark, and its checksum.

    That is the sum of all bytes, its own field taken as spaces; old tars added them signed.

    Raises:
        Damaged: it is none.
    """
    if block[MAGIC_OFFSET : MAGIC_OFFSET + 5] != b"ustar":
        raise Damaged("what should be a tar header is something else")
    _check_sum(block)


def _check_sum(block: bytes) -> None:
    field = block[148:156]
    others = 8 * 32 - sum(field)
    # Adler's first half is a sum modulo 65521, which 512 bytes below 128 can't reach
    total = (zlib.adler32(block) & 0xFFFF) - 1 if block.isascii() else sum(block)
    expected = parse_number(field)
    if expected != total + others:
        signed = 256 * sum(byte >= 128 for byte in block[:148] + block[156:])
        if expected != total + others - signed:
            raise Damaged("a tar header does not match its checksum")


def _payload(block: bytes, limit: int, name: str) -> Generator[int, bytes, tuple[bytes, bytes]]:
    """What an extended header says, and what stands behind it in its last block."""
    size = _size(block)
    if size > limit:
        raise LimitExceeded(f"an extended tar header has {size} bytes", limit=name, needed=size)
    data = yield size + -size % BLOCK_SIZE
    return data[:size], data[size:]


def _long_name(data: bytes, behind: bytes) -> bytes:
    """GNU tar reads up to a NUL, others up to the size: they must mean the same."""
    if b"\0" not in data and behind[:1].strip(b"\0"):
        raise Damaged("a long name in a tar header goes on behind its end")
    return _text(data)


def _size(block: bytes) -> int:
    return _check_size(parse_number(block[124:136]))


def _check_size(size: int) -> int:
    if size >= _SIZE_END:
        raise Damaged("a size in a tar header passes 2^63")
    return size


def _member(
    block: bytes,
    kind: bytes,
    pax: dict[bytes, bytes],
    long: dict[bytes, bytes],
    limits: Limits,
    *,
    outer: bool,
) -> TarMember:
    """The member of a header block, with what the headers before it said."""
    name = pax.get(b"path", long.get(_LONG_NAME))
    name = _name(block) if name is None else _checked_name(name, limits)
    link = pax.get(b"linkpath", long.get(_LONG_LINK))
    link = _text(block[157:257]) if link is None else _checked_name(link, limits)
    size = _check_size(_decimal(pax[b"size"])) if b"size" in pax else _size(block)
    return TarMember(
        name=name,
        type=kind,
        size=size,
        stored_size=0 if kind == HARD_LINK else size,  # as GNU tar has it, whatever size says
        mode=0 if outer else parse_number(block[100:108]) & 0o7777,
        mtime_ns=0 if outer else _mtime_ns(block, pax),
        link=link,
    )


def _mtime_ns(block: bytes, pax: dict[bytes, bytes]) -> int:
    if b"mtime" in pax:
        return parse_time(pax[b"mtime"])
    return parse_number(block[136:148], signed=True) * 1_000_000_000


def _name(block: bytes) -> bytes:
    name = _text(block[0:100])
    if block[MAGIC_OFFSET + 5] == 0 and block[345]:  # ustar and pax; old GNU has other fields
        return _text(block[345:500]) + b"/" + name
    return name


def _checked_name(name: bytes, limits: Limits) -> bytes:
    if len(name) > limits.name:
        raise LimitExceeded(
            f"a name is longer than {limits.name} bytes", limit="name", needed=len(name)
        )
    if b"\0" in name:
        raise Damaged("a name in a pax header holds a NUL byte")
    return name


def parse_time(text: bytes) -> int:
    """A pax time, seconds with a decimal fraction, in nanoseconds."""
    negative = text.startswith(b"-")
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    nanoseconds = _decimal(whole) * 1_000_000_000
    if fraction:
        nanoseconds += _decimal(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if negative else nanoseconds


def _read_old_gnu_map(
    member: TarMember, block: bytes, limits: Limits
) -> Generator[int, bytes, TarMember]:
    """Four entries in the header at 386, then 21 in each extension block.

    The real size stands at 483, the flags "another block follows" at 482 and 504.
    """
    if block[MAGIC_OFFSET : MAGIC_OFFSET + 8] != b"ustar  \0":
        raise Damaged("a sparse tar header is not GNU tar's")
    sparse = SparseMap(limits)
    size = parse_number(block[483:495])
    sparse.extend(*_old_gnu_entries(block[386:482]))
    extended = block[482]
    while extended:
        extension = yield BLOCK_SIZE
        sparse.extend(*_old_gnu_entries(extension[:504]))
        extended = extension[504]
    sparse.finish()
    return _sparse_member(member, member.name, size, member.stored_size, sparse)


def _old_gnu_entries(entries: bytes) -> tuple[list[int], list[int]]:
    """Offsets and lengths, up to the first entry that is not used."""
    used = entries[12::24].find(b"\0")  # a length begins with a digit, or base-256's mark
    end = 24 * used if used >= 0 else len(entries)
    fields = [entries[start : start + 12] for start in range(0, end, 12)]
    return _numbers(fields[0::2]), _numbers(fields[1::2])


def _numbers(fields: list[bytes]) -> list[int]:
    """Parses each as `parse_number` does. There can be millions, so GNU tar's form goes faster."""
    text = b"".join(fields)
    digits = text.replace(b"\0", b"")
    is_plain = len(digits) == 11 * len(fields) and text[11::12] == bytes(len(fields))
    if is_plain and not digits.translate(None, b"01234567"):
        return [int(field[:11], 8) for field in fields]
    return [parse_number(field) for field in fields]


def _read_pax_map(
    member: TarMember, pax: dict[bytes, bytes], limits: Limits
) -> Generator[int, bytes, TarMember]:
    """The map of version 1.0 stands in front of the data and is counted in its size."""
    version = (pax.get(b"GNU.sparse.major"), pax.get(b"GNU.sparse.minor"))
    if version != (b"1", b"0") or b"GNU.sparse.realsize" not in pax:
        raise Damaged("a sparse member is of a version other than 1.0")
    if member.type not in REGULAR_TYPES:
        raise Damaged("a sparse member is no regular file")
    name = _checked_name(pax.get(b"GNU.sparse.name", member.name), limits)
    numbers = _MapNumbers(member.stored_size)
    (count,) = yield from numbers.some(1)
    check_count(count, limits.sparse_entries)
    sparse = SparseMap(limits)
    left = 2 * count
    carry: list[int] = []  # an offset whose length is still to come
    while left:
        some = yield from numbers.some(left)
        left -= len(some)
        some = carry + some
        carry = [some.pop()] if len(some) % 2 else []
        sparse.extend(some[0::2], some[1::2])
    sparse.finish()
    size = _decimal(pax[b"GNU.sparse.realsize"])
    stored = member.stored_size - numbers.consumed
    return _sparse_member(member, name, size, stored, sparse)


class _MapNumbers:
    """The decimal lines of a pax 1.0 sparse map, drawn in whole blocks.

    Args:
        available: bytes of the member, the map among them.
    """

    def __init__(self, available: int) -> None:
        self.consumed = 0
        self._available = available
        self._text = b""  # what was read and not drawn

    def some(self, wanted: int) -> Generator[int, bytes, list[int]]:
        """At least one number and at most `wanted`, which the map is known to have."""
        while (end := self._text.rfind(b"\n")) < 0:
            self._text += yield self._next_size(wanted)
            if len(self._text) - (self._text.rfind(b"\n") + 1) > BLOCK_SIZE:
                raise Damaged("a sparse map is malformed")
        text, rest = self._text[:end], self._text[end + 1 :]
        if text.count(b"\n") >= wanted:
            *lines, more = text.split(b"\n", wanted)
            text, rest = b"\n".join(lines), more + self._text[end:]
        self._text = rest
        return _decimals(text)

    def _next_size(self, wanted: int) -> int:
        """Bytes to read next: never more than the map has, as each number takes two or more."""
        least = 2 * wanted - len(self._text)
        size = max(BLOCK_SIZE, min(_MAP_PIECE, least - least % BLOCK_SIZE))
        if self.consumed + size > self._available:
            raise Damaged("a sparse map is longer than its member")
        self.consumed += size
        return size


def _decimals(text: bytes) -> list[int]:
    """Parses each line of a text as `_decimal` does.

    There can be millions. What the standard library has for JSON reads numbers in a third less time
    than `split` and `int`; leading zeros are left to `_decimal`, as JSON has none.
    """
    is_plain = text and not text.translate(None, b"0123456789\n")
    if is_plain and _TOO_MANY_DIGITS not in text.translate(_AS_ZEROS):
        with contextlib.suppress(ValueError):
            numbers: list[int] = json.loads(f"[{text.decode('ascii')}]".replace("\n", ","))
            return numbers
    return [_decimal(line) for line in text.split(b"\n")]


def _sparse_member(
    member: TarMember, name: bytes, size: int, stored_size: int, sparse: SparseMap
) -> TarMember:
    """Checks the map: inside the file, and as long as what is stored."""
    if sparse.end > size:
        raise Damaged("a sparse map passes the end of its file")
    if sparse.total != stored_size:
        raise Damaged("a sparse map does not agree with the stored size")
    return replace(
        member,
        name=name,
        type=REGULAR_TYPES[0],
        size=size,
        stored_size=stored_size,
        sparse=sparse,
    )
