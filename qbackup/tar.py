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

from array import array
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from qbackup.errors import Damaged, LimitExceeded
from qbackup.limits import Limits

BLOCK_SIZE = 512
ZERO_BLOCK = bytes(BLOCK_SIZE)
MAGIC_OFFSET = 257

REGULAR_TYPES = (b"0", b"\0")
HARD_LINK = b"1"
SYMBOLIC_LINK = b"2"
CHARACTER_DEVICE = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"
OLD_GNU_SPARSE = b"S"
_PAX = b"x"
_PAX_GLOBAL = b"g"
_LONG_NAME = b"L"
_LONG_LINK = b"K"

_SIZE_DIGITS = 20  # 2^64 has twenty
_WANTED = frozenset(
    ["path", "linkpath", "size", "mtime"]
    + [f"GNU.sparse.{field}" for field in ("major", "minor", "name", "realsize")]
)
_OLD_SPARSE_VERSIONS = ("GNU.sparse.map", "GNU.sparse.numblocks", "GNU.sparse.size")

HeaderReader: TypeAlias = Generator[int, bytes, "TarMember | None"]


@dataclass(frozen=True, slots=True)
class SparseMap:
    """Where the stored bytes of a sparse file belong: ascending, never overlapping.

    Args:
        offsets: byte offset of each run of data in the file.
        lengths: its length in bytes; zero only for a last entry that marks the end.
    """

    offsets: array[int]
    lengths: array[int]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.offsets, self.lengths, strict=True)

    def __len__(self) -> int:
        return len(self.offsets)


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


def read_member(limits: Limits, *, sparse: bool = True) -> HeaderReader:
    """Reads one member's headers. Yields the number of bytes wanted, see the module's text.

    Args:
        limits: bounds on extended headers and sparse maps.
        sparse: understand sparse members. The outer archive has none, so there their
            records mean nothing.

    Raises:
        Damaged: a header that is not one, or says something that can't be.
        LimitExceeded: a header or a map that is larger than allowed.
    """
    member, pax, block = yield from _read_named(limits)
    if member is None:
        return None
    if len(member.name) > limits.name:
        raise LimitExceeded(f"a name is longer than {limits.name} bytes", limit="name")
    if member.type == HARD_LINK:
        member = replace(member, stored_size=0)  # as GNU tar has it, whatever size says
    if not sparse:
        return member
    if member.type == OLD_GNU_SPARSE:
        return (yield from _read_old_gnu_map(member, block, limits))
    if "GNU.sparse.major" in pax or any(key in pax for key in _OLD_SPARSE_VERSIONS):
        return (yield from _read_pax_map(member, pax, limits))
    return member


def _read_named(
    limits: Limits,
) -> Generator[int, bytes, tuple[TarMember | None, dict[str, bytes], bytes]]:
    """A header with all that was said before it applied: (member, pax records, block)."""
    pax: dict[str, bytes] = {}
    long: dict[bytes, bytes] = {}
    while True:
        block = yield BLOCK_SIZE
        if block == ZERO_BLOCK:
            if pax or long:
                raise Damaged("an extended tar header has no member behind it")
            return None, pax, block
        member = _parse_block(block)
        if member.type == _PAX:
            pax = parse_pax((yield from _payload(member, limits.pax_header, "pax_header")))
        elif member.type in (_LONG_NAME, _LONG_LINK):
            long[member.type] = _text((yield from _payload(member, limits.name + 1, "name")))
        elif member.type == _PAX_GLOBAL:
            raise Damaged("a global pax header, which no Qubes backup has")
        else:
            break
    if long:
        name, link = long.get(_LONG_NAME, member.name), long.get(_LONG_LINK, member.link)
        member = replace(member, name=name, link=link)
    return (_apply_pax(member, pax) if pax else member), pax, block


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
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise Damaged("a number in a tar header is not octal")
    return int(digits, 8)


def parse_pax(data: bytes) -> dict[str, bytes]:
    """The records of a pax extended header that have a meaning here.

    Returns:
        keyword to value; the last of a keyword counts, as POSIX has it.

    Raises:
        Damaged: a record that is not ``LENGTH KEYWORD=VALUE\\n``.
    """
    records = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        length = _decimal(data[position:space]) if space > 0 else 0
        end = position + length
        equals = data.find(b"=", space, end)
        if end > len(data) or end <= space or equals < 0 or data[end - 1 : end] != b"\n":
            raise Damaged("a pax header is malformed")
        keyword = data[space + 1 : equals].decode("ascii", "replace")
        if keyword in _WANTED or keyword in _OLD_SPARSE_VERSIONS:
            records[keyword] = data[equals + 1 : end - 1]
        position = end
    return records


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _SIZE_DIGITS:
        raise Damaged("a number in a tar header is not decimal")
    return int(digits)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _parse_block(block: bytes) -> TarMember:
    magic = block[MAGIC_OFFSET : MAGIC_OFFSET + 8]
    if magic[:5] != b"ustar":
        raise Damaged("what should be a tar header is something else")
    _check_sum(block)
    name = _text(block[0:100])
    if magic[5:6] == b"\0" and block[345]:  # ustar and pax; old GNU has other fields there
        name = _text(block[345:500]) + b"/" + name
    size = parse_number(block[124:136])
    return TarMember(
        name=name,
        type=block[156:157],
        size=size,
        stored_size=size,
        mode=parse_number(block[100:108]) & 0o7777,
        mtime_ns=parse_number(block[136:148], signed=True) * 1_000_000_000,
        link=_text(block[157:257]),
    )


def _check_sum(block: bytes) -> None:
    """The sum of all bytes, the sum's own field taken as spaces; old tars added signed."""
    expected = parse_number(block[148:156])
    rest = block[:148] + block[156:]
    unsigned = sum(rest) + 8 * 32
    if expected != unsigned:
        signed = unsigned - 256 * sum(byte >= 128 for byte in rest)
        if expected != signed:
            raise Damaged("a tar header does not match its checksum")


def _payload(member: TarMember, limit: int, name: str) -> Generator[int, bytes, bytes]:
    if member.size > limit:
        raise LimitExceeded(f"an extended tar header has {member.size} bytes", limit=name)
    data = yield member.size + member.padding
    return data[: member.size]


def _apply_pax(member: TarMember, pax: dict[str, bytes]) -> TarMember:
    name = pax.get("path", member.name)
    link = pax.get("linkpath", member.link)
    if b"\0" in name or b"\0" in link:
        raise Damaged("a name in a pax header holds a NUL byte")
    size = _decimal(pax["size"]) if "size" in pax else member.size
    mtime_ns = parse_time(pax["mtime"]) if "mtime" in pax else member.mtime_ns
    return replace(member, name=name, link=link, size=size, stored_size=size, mtime_ns=mtime_ns)


def parse_time(text: bytes) -> int:
    """A pax time, seconds with a decimal fraction, in nanoseconds."""
    negative = text.startswith(b"-")
    whole, _, fraction = text.lstrip(b"-").partition(b".")
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
    offsets, lengths = array("Q"), array("Q")
    size = parse_number(block[483:495])
    _add_old_gnu_entries(block[386:482], offsets, lengths)
    extended = block[482]
    while extended:
        extension = yield BLOCK_SIZE
        _add_old_gnu_entries(extension[:504], offsets, lengths)
        extended = extension[504]
        _check_map_length(len(offsets), limits)
    return _sparse_member(
        member, member.name, size, member.stored_size, SparseMap(offsets, lengths)
    )


def _add_old_gnu_entries(entries: bytes, offsets: array[int], lengths: array[int]) -> None:
    for start in range(0, len(entries) - 23, 24):
        if not entries[start + 12]:  # an unused entry
            return
        _append(
            offsets,
            lengths,
            parse_number(entries[start : start + 12]),
            parse_number(entries[start + 12 : start + 24]),
        )


def _append(offsets: array[int], lengths: array[int], offset: int, length: int) -> None:
    if offset >= 1 << 63 or length >= 1 << 63:
        raise Damaged("a sparse map has an entry past 2^63")
    offsets.append(offset)
    lengths.append(length)


def _check_map_length(count: int, limits: Limits) -> None:
    if count > limits.sparse_entries:
        raise LimitExceeded(
            f"a sparse map has more than {limits.sparse_entries} entries", limit="sparse_entries"
        )


def _read_pax_map(
    member: TarMember, pax: dict[str, bytes], limits: Limits
) -> Generator[int, bytes, TarMember]:
    """The map of version 1.0 stands in front of the data and is counted in its size."""
    version = (pax.get("GNU.sparse.major"), pax.get("GNU.sparse.minor"))
    if version != (b"1", b"0") or "GNU.sparse.realsize" not in pax:
        raise Damaged("a sparse member is of a version other than 1.0")
    numbers = _MapNumbers(member.stored_size)
    count = yield from numbers.next()
    _check_map_length(count, limits)
    offsets, lengths = array("Q"), array("Q")
    for _ in range(count):
        offset = yield from numbers.next()
        _append(offsets, lengths, offset, (yield from numbers.next()))
    size = _decimal(pax["GNU.sparse.realsize"])
    name = pax.get("GNU.sparse.name", member.name)
    stored = member.stored_size - numbers.consumed
    return _sparse_member(member, name, size, stored, SparseMap(offsets, lengths))


class _MapNumbers:
    """The decimal lines of a pax 1.0 sparse map, drawn block by block."""

    def __init__(self, available: int) -> None:
        self.consumed = 0
        self._available = available
        self._lines: list[bytes] = []
        self._rest = b""

    def next(self) -> Generator[int, bytes, int]:
        while not self._lines:
            if self.consumed + BLOCK_SIZE > self._available:
                raise Damaged("a sparse map is longer than its member")
            block = yield BLOCK_SIZE
            self.consumed += BLOCK_SIZE
            *lines, self._rest = (self._rest + block).split(b"\n")
            if len(self._rest) > BLOCK_SIZE:
                raise Damaged("a sparse map is malformed")
            self._lines = lines[::-1]
        return _decimal(self._lines.pop())


def _sparse_member(
    member: TarMember, name: bytes, size: int, stored_size: int, sparse: SparseMap
) -> TarMember:
    """Checks the map: ascending, inside the file, and as long as what is stored."""
    end = total = 0
    for offset, length in sparse:
        if offset < end:
            raise Damaged("a sparse map overlaps or descends")
        end = offset + length
        total += length
    if end > size:
        raise Damaged("a sparse map passes the end of its file")
    if total != stored_size:
        raise Damaged("a sparse map does not agree with the stored size")
    return replace(
        member,
        name=name,
        type=REGULAR_TYPES[0],
        size=size,
        stored_size=stored_size,
        sparse=sparse,
    )
