"""docs/format.md, "Tar headers", "Sparse members" and "Multi-volume archives"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BLOCK = 512
ZEROS = bytes(BLOCK)


@dataclass
class Member:
    """One member; `name` and `link` as the headers have them, in bytes.

    `start` is where its first header stands, `data` where its stored bytes do.
    """

    name: bytes
    type: str
    link: bytes
    mode: int
    start: int
    data: int
    stored: int
    size: int
    map: list[tuple[int, int]] | None
    spelling: str


def number(field: bytes) -> int:
    """Octal text, or base-256."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.split(b"\0")[0].strip() or b"0", 8)


def text(field: bytes) -> bytes:
    return field.split(b"\0")[0]


def checked(block: bytes) -> bytes:
    """The block, if its checksum fits."""
    others = block[:148] + block[156:]
    total = sum(others) + 8 * 32
    signed = total - 256 * sum(byte >= 128 for byte in others)
    assert number(block[148:156]) in (total, signed), "not a tar header"
    return block


def padded(size: int) -> int:
    return size + -size % BLOCK


def members(archive: bytes, *, concatenated: bool = False) -> Iterator[Member]:
    """The members in order.

    Inside, an archive ends at its first zero block, and nothing but zeros may follow;
    `concatenated`: archives follow one another, as in the outer layer.
    """
    at = 0
    while True:
        block = archive[at : at + BLOCK]
        if concatenated and block == ZEROS:
            at += BLOCK
            continue
        if concatenated and not block:
            return
        assert len(block) == BLOCK, "the archive is cut off"
        if block == ZEROS:
            assert not archive[at:].strip(b"\0"), "something follows the end"
            return
        member = one_member(archive, at)
        yield member
        at = member.data + padded(member.stored)


def one_member(archive: bytes, start: int) -> Member:
    """The member whose first header stands at `start`."""
    at, pax, long = start, dict[str, bytes](), dict[str, bytes]()
    while True:
        block = checked(archive[at : at + BLOCK])
        kind = chr(block[156] or ord("0"))
        at += BLOCK
        if kind not in "xLK":
            break
        payload = archive[at : at + number(block[124:136])]
        at += padded(len(payload))
        if kind == "x":
            pax = records(payload)
        else:
            long[kind] = text(payload)
    stored = int(pax["size"]) if "size" in pax else number(block[124:136])
    member = Member(
        name=pax.get("path") or long.get("L") or short_name(block),
        type=kind,
        link=pax.get("linkpath") or long.get("K") or text(block[157:257]),
        mode=number(block[100:108]) & 0o7777,
        start=start,
        data=at,
        stored=0 if kind == "1" else stored,
        size=stored,
        map=None,
        spelling="plain",
    )
    if kind == "S":
        read_old_gnu_map(archive, block, member)
    elif "GNU.sparse.major" in pax:
        read_pax_map(archive, pax, member)
    return member


def records(payload: bytes) -> dict[str, bytes]:
    """Pax records, `LENGTH KEYWORD=VALUE\\n`."""
    found, at = {}, 0
    while at < len(payload):
        length = int(payload[at:].split(b" ", 1)[0])
        keyword, _, value = payload[at : at + length - 1].split(b" ", 1)[1].partition(b"=")
        found[keyword.decode()] = value
        at += length
    return found


def short_name(block: bytes) -> bytes:
    prefix = text(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return (prefix + b"/" if prefix else b"") + text(block[:100])


def read_old_gnu_map(archive: bytes, block: bytes, member: Member) -> None:
    """The map at 386 and in the blocks that follow; the real length at 483."""
    entries = block[386:482]
    more, at = block[482], member.data
    while more:
        entries += archive[at : at + 504]
        more, at = archive[at + 504], at + BLOCK
    member.data, member.size, member.spelling = at, number(block[483:495]), "old GNU"
    member.map = []
    for start in range(0, len(entries), 24):
        if not entries[start + 12]:
            break
        pair = number(entries[start : start + 12]), number(entries[start + 12 : start + 24])
        member.map.append(pair)


def read_pax_map(archive: bytes, pax: dict[str, bytes], member: Member) -> None:
    """Decimal lines in front of the data, padded to a block."""
    assert (pax["GNU.sparse.major"], pax["GNU.sparse.minor"]) == (b"1", b"0")
    at = member.data
    numbers: list[int] = []
    while not numbers or len(numbers) < 1 + 2 * numbers[0]:
        end = archive.index(b"\n", at)
        numbers.append(int(archive[at:end]))
        at = end + 1
    length = padded(at - member.data)
    member.data += length
    member.stored -= length
    member.map = list(zip(numbers[1::2], numbers[2::2], strict=True))
    member.size, member.name = int(pax["GNU.sparse.realsize"]), pax["GNU.sparse.name"]
    member.type, member.spelling = "0", "pax 1.0"


def content(archive: bytes, member: Member) -> bytes:
    """The file, holes filled in."""
    stored = archive[member.data : member.data + member.stored]
    assert len(stored) == member.stored, "cut off"
    if member.map is None:
        return stored
    assert sum(length for _, length in member.map) == len(stored)
    image, at = bytearray(member.size), 0
    for offset, length in member.map:
        image[offset : offset + length] = stored[at : at + length]
        at += length
    return bytes(image)


def joined(volumes: Sequence[bytes]) -> bytes:
    """The archive that `tar -M` cut into volumes."""
    whole = volumes[0]
    for volume in volumes[1:]:
        whole += volume[BLOCK if is_mark(volume[:BLOCK]) else 0 :]
    return whole


def is_mark(block: bytes) -> bool:
    """Tells whether a volume's first block is a header of type `M`: all else goes on with a map."""
    if block[156:157] != b"M":
        return False
    try:
        checked(block)
    except (AssertionError, ValueError):
        return False
    return True
