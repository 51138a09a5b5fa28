"""Backups into which members were planted by somebody who knows no passphrase, very many of them.

The good part is a committed vector whose qube has the folder `vm7`, made by the real tools. Planted
members are headers without data, written here: no program makes a million of them in a short time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.support.tarbytes import BLOCK, RECORD, header, padded

GOOD = "gzip-folders"
PASSPHRASE = "correct horse battery staple"
#: Names of planted members by kind: the number of the member in, its name out.
NAMES: dict[str, Callable[[int], bytes]] = {
    "files of a qube": lambda n: b"vm7/x%07d.000.enc" % n,
    "files of no qube": lambda n: b"other/x%07d.000.enc" % n,
    "qubes": lambda n: b"q%07d/private.img.000.enc" % n,
    "chunks of one file": lambda n: b"vm7/x.img.%03d.enc" % n,
    "chunks in reverse": lambda n: b"vm7/x.img.%d.enc" % (900_000_000 - n),
    "one name": lambda n: b"vm7/private.img.000.enc",
    "one planted name": lambda n: b"vm7/x.img.000.enc",
    "headers": lambda n: b"backup-header",
    "no part of a backup": lambda n: b"vm7/x%07d" % n,
    "links": lambda n: b"vm7/l%07d.000.enc" % n,
    "HMACs": lambda n: b"vm7/x%07d.000.hmac" % n,
    "long names": lambda n: b"vm7/%07d%s.000.enc" % (n, b"/".join([b"l" * 200] * 20)[:4000]),
    "pax names": lambda n: b"vm7/%07d%s.000.enc" % (n, b"/".join([b"l" * 200] * 20)[:4000]),
}


def members(kind: str, numbers: Iterable[int]) -> Iterator[bytes]:
    """Gives the blocks of planted members of one kind."""
    name = NAMES[kind]
    if kind == "long names":
        return (_with_long_name(name(n)) for n in numbers)
    if kind == "pax names":
        return (_with_pax_name(name(n)) for n in numbers)
    type_flag = b"2" if kind == "links" else b"0"
    return _headers(map(name, numbers), type_flag)


def with_name(block: bytes, name: bytes) -> bytes:
    """Gives a header with another name."""
    fields = name.ljust(100, b"\0") + block[100:148] + b" " * 8 + block[156:]
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def plant(good: bytes, path: Path, kind: str, count: int, *, behind: bytes = b"") -> Path:
    """Writes a backup with planted members.

    Args:
        good: the good backup.
        path: of the file that is written.
        kind: of the members, see `NAMES`.
        count: of the members.
        behind: name of the good member behind which they stand; at the end if empty.
    """
    place = _end_of(good, behind) if behind else len(good)
    with path.open("wb") as out:
        out.write(good[:place])
        for blocks in members(kind, range(count)):
            out.write(blocks)
        out.write(bytes(2 * BLOCK))
        out.write(bytes(-out.tell() % RECORD))
        out.write(good[place:])
    return path


def _headers(names: Iterator[bytes], type_flag: bytes) -> Iterator[bytes]:
    """Gives headers of members without data; only name and checksum differ."""
    base = header(b"", kind=type_flag)
    rest, others = base[156:], base[:148] + b" " * 8 + base[156:]
    fixed = sum(others)
    for name in names:
        yield name.ljust(100, b"\0") + base[100:148] + b"%06o\0 " % (fixed + sum(name)) + rest


def _with_long_name(name: bytes) -> bytes:
    front = header(b"././@LongLink", kind=b"L", size=len(name) + 1, magic=b"ustar  \0")
    return front + padded(name + b"\0") + header(name[:100], magic=b"ustar  \0")


def _with_pax_name(name: bytes) -> bytes:
    record = b" path=" + name + b"\n"
    size = len(record)
    while len(b"%d" % size) + len(record) != size:
        size = len(b"%d" % size) + len(record)
    record = b"%d" % size + record
    return header(b"x", kind=b"x", size=len(record)) + padded(record) + header(name[:100])


def _end_of(good: bytes, name: bytes) -> int:
    """Gives the place of the first archive behind the one that holds this member."""
    place = 0
    while place < len(good):
        if good[place : place + BLOCK].startswith(name + b"\0"):
            size = int(good[place + 124 : place + 135], 8)
            place += BLOCK + len(padded(bytes(size))) + 2 * BLOCK
            start = good.find(b"ustar", place)
            return (start - 257) if start >= 0 else len(good)
        place += BLOCK
    raise ValueError(f"no member {name!r}")
