"""Tar archives byte by byte, for what no program writes: every field as a test wants it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from qbackup.base.limits import Limits
from qbackup.storage.tar.reader import TarMember, read_member

BLOCK = 512
RECORD = 20 * BLOCK
ZEROS = bytes(BLOCK)
USTAR = b"ustar\x0000"
GNU = b"ustar  \0"

Extents = Sequence[tuple[int, int]]


def padded(data: bytes) -> bytes:
    """Data and zeros up to a whole block."""
    return data + bytes(-len(data) % BLOCK)


def octal(value: int, width: int) -> bytes:
    """A number as GNU tar writes it: octal digits and NUL, base-256 where they don't suffice."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    if value < 0:
        return value.to_bytes(width, "big", signed=True)
    return b"\x80" + value.to_bytes(width - 1, "big")


def checksum(block: bytes, *, signed: bool = False) -> int:
    """The sum that belongs at 148."""
    data = block[:148] + b" " * 8 + block[156:]
    return sum(byte - 256 if signed and byte > 127 else byte for byte in data)


def sealed(fields: bytes, *, signed: bool = False) -> bytes:
    """A header block with its checksum put in."""
    return fields[:148] + b"%06o\0 " % checksum(fields, signed=signed) + fields[156:]


def header(
    name: bytes = b"name",
    *,
    size: int = 0,
    kind: bytes = b"0",
    link: bytes = b"",
    mode: int = 0o644,
    mtime: int = 0,
    magic: bytes = USTAR,
    prefix: bytes = b"",
    fields: Mapping[int, bytes] | None = None,
    signed: bool = False,
) -> bytes:
    """One header block; `fields` puts bytes at offsets, before the checksum is made."""
    block = bytearray(BLOCK)
    content = {
        0: name,
        100: octal(mode, 8),
        108: octal(0, 8),
        116: octal(0, 8),
        124: octal(size, 12),
        136: octal(mtime, 12),
        156: kind,
        157: link,
        257: magic,
        345: prefix,
        **(fields or {}),
    }
    for offset, data in content.items():
        block[offset : offset + len(data)] = data
    assert len(block) == BLOCK
    return sealed(bytes(block), signed=signed)


def pax_record(keyword: bytes, value: bytes) -> bytes:
    """``LENGTH KEYWORD=VALUE\\n``, the length counting itself."""
    rest = b" " + keyword + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def pax_records(records: Mapping[bytes, bytes]) -> bytes:
    return b"".join(pax_record(keyword, value) for keyword, value in records.items())


def pax(records: Mapping[bytes, bytes] | bytes, *, kind: bytes = b"x") -> bytes:
    """An extended header: its block and its records."""
    data = records if isinstance(records, bytes) else pax_records(records)
    return header(b"PaxHeaders/name", size=len(data), kind=kind) + padded(data)


def gnu_long(text: bytes, kind: bytes = b"L") -> bytes:
    """GNU tar's way of a long name (L) or link (K)."""
    data = text + b"\0"
    return header(b"././@LongLink", size=len(data), kind=kind, magic=GNU) + padded(data)


def old_gnu_sparse(
    extents: Extents, real_size: int, name: bytes = b"name", *, stored: int | None = None
) -> bytes:
    """The headers of an old-GNU sparse member: four entries, then 21 in each further block."""
    entries = [octal(offset, 12) + octal(length, 12) for offset, length in extents]
    first, rest = entries[:4], entries[4:]
    blocks = [rest[i : i + 21] for i in range(0, len(rest), 21)]
    fields = {386: b"".join(first), 482: bytes([bool(blocks)]), 483: octal(real_size, 12)}
    size = sum(length for _, length in extents) if stored is None else stored
    out = header(name, size=size, kind=b"S", magic=GNU, fields=fields)
    for number, block in enumerate(blocks, start=1):
        more = bytes([number < len(blocks)])
        out += b"".join(block).ljust(504, b"\0") + more + bytes(7)
    return out


def pax_map(extents: Extents) -> bytes:
    """The map in front of the data of a pax 1.0 sparse member."""
    numbers = [len(extents), *(number for extent in extents for number in extent)]
    return padded(b"".join(b"%d\n" % number for number in numbers))


def pax_sparse(
    extents: Extents,
    real_size: int,
    name: bytes = b"name",
    *,
    size: int | None = None,
    records: Mapping[bytes, bytes] | None = None,
    kind: bytes = b"0",
) -> bytes:
    """The headers of a pax 1.0 sparse member and its map."""
    text = pax_map(extents)
    stored = len(text) + sum(length for _, length in extents) if size is None else size
    said = {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": name,
        b"GNU.sparse.realsize": b"%d" % real_size,
        **(records or {}),
    }
    if stored >= 8**11:
        said[b"size"] = b"%d" % stored
    block = header(b"GNUSparseFile.1/" + name[:50], size=stored % 8**11, kind=kind)
    return pax(said) + block + text


def archive(*parts: bytes) -> bytes:
    """Parts, two zero blocks, and zeros up to a whole record."""
    data = b"".join(parts) + 2 * ZEROS
    return data + bytes(-len(data) % RECORD)


def member(name: bytes, data: bytes = b"", **options: object) -> bytes:
    """A complete archive of one member."""
    block = header(name, size=len(data), **options)  # type: ignore[arg-type]
    return archive(block, padded(data))


def read_headers(
    data: bytes, limits: Limits | None = None, *, sparse: bool = True
) -> tuple[TarMember | None, int]:
    """Drives the reader over bytes: what it says, and how many bytes it took.

    Raises EOFError where it wants more than there is.
    """
    reader = read_member(limits or Limits(), sparse=sparse)
    position, wanted = 0, next(reader)
    while True:
        if position + wanted > len(data):
            raise EOFError
        piece = data[position : position + wanted]
        position += wanted
        try:
            wanted = reader.send(piece)
        except StopIteration as end:
            return end.value, position


def read_all(data: bytes, limits: Limits | None = None) -> list[TarMember]:
    """Every member up to the first zero block; their data are passed."""
    members: list[TarMember] = []
    position = 0
    while True:
        found, taken = read_headers(data[position:], limits)
        if found is None:
            return members
        members.append(found)
        position += taken + found.stored_size + found.padding


def in_pieces(data: bytes, size: int) -> Iterator[memoryview]:
    """The bytes as a stream gives them, so many at once."""
    return (memoryview(data)[start : start + size] for start in range(0, len(data), size))


def filled(extents: Iterable[tuple[int, int]], stored: bytes, real_size: int) -> bytes:
    """The file that a sparse map and its stored bytes stand for, the slow and plain way."""
    out = bytearray(real_size)
    position = 0
    for offset, length in extents:
        out[offset : offset + length] = stored[position : position + length]
        position += length
    return bytes(out)
