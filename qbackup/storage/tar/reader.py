"""Tar headers: bytes in, values out. One parser for the outer and the inner archives.

Strategy: `read_member` is a generator that does no I/O. The generator yields the number of
bytes that it needs next, and the caller sends exactly those. After everything that stands in
front of the member's data (pax extended headers, GNU long names, the extension blocks of an
old-GNU sparse map, the map of a pax 1.0 sparse member) the generator returns a `TarMember`,
or None for a block of zeros in the place of a header. The caller decides where the bytes come
from; the caller also skips or reads the `stored_size` bytes of data and their padding.

Supported: ustar, pax (``x``), GNU long names (``L``, ``K``), base-256 numbers, old-GNU
sparse (``S``) and pax sparse 1.0. Everything else that changes the meaning of a header is
refused, never guessed. Facts: POSIX.1 pax interchange format; GNU tar manual, "Basic Tar
Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeAlias

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.base.limits import Limits
from qbackup.storage.tar.fields import (
    BLOCK_SIZE,
    HARD_LINK,
    KEYWORDS,
    MAGIC_OFFSET,
    OLD_GNU_SPARSE,
    OLD_SPARSE_KEYWORDS,
    OUTER_KEYWORDS,
    REGULAR_TYPES,
    SIZE_DIGITS,
    TYPE_OFFSET,
    ZERO_BLOCK,
    check_block,
    checked_name,
    checked_size,
    parse_decimal,
    parse_long_name,
    parse_name,
    parse_number,
    parse_pax,
    parse_size,
    parse_text,
    parse_time,
)
from qbackup.storage.tar.sparse import SparseMap, check_count

_PAX = b"x"
_PAX_GLOBAL = b"g"
_LONG_NAME = b"L"
_LONG_LINK = b"K"

_EXTENDED_HEADERS = 8  # of one member; writers make one of each kind, and there are three
_TOO_MANY_DIGITS = b"0" * (SIZE_DIGITS + 1)  # where each digit stands as a zero
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_MAP_PIECE = 32 * 1024  # bytes of a map that are read at once

HeaderReader: TypeAlias = Generator[int, bytes, "TarMember | None"]


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member as described by its headers, which are not trusted.

    Args:
        name: the real name, long names and sparse names resolved.
        type: the type flag, one byte.
        size: length of the file in bytes, holes included.
        stored_size: bytes of data that follow in the archive, padding not counted.
        mode: permission bits, setuid and setgid among them.
        mtime_ns: modification time, nanoseconds since 1970.
        link: target of a hard or symbolic link.
        sparse: map of the stored bytes in the file; None when the file is stored whole.
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
        """Number of bytes between the end of the data and the next block."""
        return -self.stored_size % BLOCK_SIZE


def read_member(limits: Limits, *, sparse: bool = True, checked: bool = True) -> HeaderReader:
    """Reads one member's headers. Yields the number of bytes wanted, see the module's text.

    Args:
        limits: bounds on extended headers and sparse maps.
        sparse: understand sparse members. The outer archive has none; for its members only name,
            type and size are parsed, and mode and time are given as 0.
        checked: refuse a header that does not match its checksum; without this check the returned
            member is a guess.

    Raises:
        Damaged: a block is no header, or a value in it is impossible.
        LimitExceeded: a header or a map is larger than allowed.
    """
    pax: dict[bytes, bytes] = {}
    long: dict[bytes, bytes] = {}
    keywords = KEYWORDS if sparse else OUTER_KEYWORDS
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
            long[kind] = parse_long_name(data, behind)
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
    if b"GNU.sparse.major" in pax or not OLD_SPARSE_KEYWORDS.isdisjoint(pax):
        return (yield from _read_pax_map(member, pax, limits))
    return member


def _names_outer_keyword(data: bytes) -> bool:
    """Tells if a pax header can have a keyword that matters in the outer archive.

    Each chunk has a pax header, and nearly all of them give only times, so this saves parsing.
    """
    return b"path=" in data or b"size=" in data


def _payload(block: bytes, limit: int, name: str) -> Generator[int, bytes, tuple[bytes, bytes]]:
    """Reads an extended header's payload, and the bytes behind the payload in its last block."""
    size = parse_size(block)
    if size > limit:
        raise LimitExceeded(f"an extended tar header has {size} bytes", limit=name, needed=size)
    data = yield size + -size % BLOCK_SIZE
    return data[:size], data[size:]


def _member(
    block: bytes,
    kind: bytes,
    pax: dict[bytes, bytes],
    long: dict[bytes, bytes],
    limits: Limits,
    *,
    outer: bool,
) -> TarMember:
    """Makes the member of a header block, completed by the extended headers before it."""
    name = pax.get(b"path", long.get(_LONG_NAME))
    name = parse_name(block) if name is None else checked_name(name, limits)
    link = pax.get(b"linkpath", long.get(_LONG_LINK))
    link = parse_text(block[157:257]) if link is None else checked_name(link, limits)
    size = checked_size(parse_decimal(pax[b"size"])) if b"size" in pax else parse_size(block)
    return TarMember(
        name=name,
        type=kind,
        size=size,
        stored_size=0 if kind == HARD_LINK else size,  # like GNU tar: a link has no data
        mode=0 if outer else parse_number(block[100:108]) & 0o7777,
        mtime_ns=0 if outer else _mtime_ns(block, pax),
        link=link,
    )


def _mtime_ns(block: bytes, pax: dict[bytes, bytes]) -> int:
    if b"mtime" in pax:
        return parse_time(pax[b"mtime"])
    return parse_number(block[136:148], signed=True) * 1_000_000_000


def _read_old_gnu_map(
    member: TarMember, block: bytes, limits: Limits
) -> Generator[int, bytes, TarMember]:
    """Reads an old-GNU sparse map: four entries at 386, then 21 in each extension block.

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
    """Gives offsets and lengths, up to the first entry that is not used."""
    used = entries[12::24].find(b"\0")  # a length begins with a digit, or base-256's mark
    end = 24 * used if used >= 0 else len(entries)
    fields = [entries[start : start + 12] for start in range(0, end, 12)]
    return _numbers(fields[0::2]), _numbers(fields[1::2])


def _numbers(fields: list[bytes]) -> list[int]:
    """Parses each field as `parse_number` does.

    There can be millions of fields, so the form that GNU tar writes is parsed faster.
    """
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
        raise Damaged("a sparse member is not a regular file")
    name = checked_name(pax.get(b"GNU.sparse.name", member.name), limits)
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
    size = parse_decimal(pax[b"GNU.sparse.realsize"])
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
    """Parses each line of a text as `parse_decimal` does.

    There can be millions. What the standard library has for JSON reads numbers in a third less time
    than `split` and `int`; leading zeros are left to `parse_decimal`, as JSON has none.
    """
    is_plain = text and not text.translate(None, b"0123456789\n")
    if is_plain and _TOO_MANY_DIGITS not in text.translate(_AS_ZEROS):
        with contextlib.suppress(ValueError):
            numbers: list[int] = json.loads(f"[{text.decode('ascii')}]".replace("\n", ","))
            return numbers
    return [parse_decimal(line) for line in text.split(b"\n")]


def _sparse_member(
    member: TarMember, name: bytes, size: int, stored_size: int, sparse: SparseMap
) -> TarMember:
    """Checks the map, and gives the member with it.

    Raises:
        Damaged: the map passes the end of the file, or its length is not the stored size.
    """
    if sparse.end > size:
        raise Damaged("a sparse map goes beyond the end of its file")
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
