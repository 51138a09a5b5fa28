"""Kinds of damage, each done to a whole backup, with what is left to be read after it.

A `Damage` has the damaged file or files, and its readings: the bytes that a careful program has in
the end, after it undid what can be undone (two copies merged, a text-mode transfer reversed).
`optimum` looks in these for the chunks that are still whole.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.damage.samples import Sample, Stored

KIB = 1024
SECTOR = 512
FRONT = 20 * KIB


@dataclass(frozen=True)
class Damage:
    """Rest of a damaged backup.

    Args:
        data: the file.
        also: a second copy; empty if there is none.
        parts: the file in parts that nobody joined; empty if it is in one.
        unreadable: ranges of bytes that the drive does not give.
        readings: the bytes that can be had in the end.
        id_is_lost: nothing in a backup of format 4 names its backup id any more.
    """

    data: bytes
    also: bytes = b""
    parts: tuple[bytes, ...] = ()
    unreadable: tuple[tuple[int, int], ...] = ()
    readings: tuple[bytes, ...] = field(default=())
    id_is_lost: bool = False

    @property
    def left(self) -> tuple[bytes, ...]:
        """Readings; without any that undo something, the data itself."""
        if self.readings:
            return self.readings
        data = bytearray(self.data)
        for start, end in self.unreadable:
            data[start:end] = bytes(end - start)
        return (bytes(data),)


Make = Callable[[Sample, random.Random], Damage]
KINDS: dict[str, Make] = {}


def _kind(make: Make) -> Make:
    KINDS[make.__name__.strip("_").replace("_", "-")] = make
    return make


def _chunks(sample: Sample) -> list[Stored]:
    paths = tuple(f"{path}." for path in sample.images)
    return [
        member
        for member in sample.members
        if member.name.startswith(paths) and not member.name.endswith(".hmac")
    ]


def _inner(sample: Sample, chance: random.Random) -> Stored:
    """A chunk that is neither the first nor the last of its image."""
    image = chance.choice(list(sample.images.values()))
    return sample.member(chance.choice(image.chunks[1:-1]))


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def _filled(data: bytes, start: int, size: int, filling: bytes | None = None) -> bytes:
    size = min(size, len(data) - start)
    return data[:start] + (filling or bytes(size))[:size] + data[start + size :]


def _sector_in(member: Stored, chance: random.Random, size: int) -> int:
    room = max(1, (member.size - size) // SECTOR)
    return member.body + chance.randrange(room) * SECTOR


@_kind
def _flip_in_a_chunk(sample: Sample, chance: random.Random) -> Damage:
    member = _inner(sample, chance)
    return Damage(_flipped(sample.data, member.body + chance.randrange(member.size)))


@_kind
def _flips_in_two_chunks(sample: Sample, chance: random.Random) -> Damage:
    data = sample.data
    for member in chance.sample(_chunks(sample), 2):
        data = _flipped(data, member.body + chance.randrange(member.size))
    return Damage(data)


@_kind
def _flip_in_a_first_chunk(sample: Sample, chance: random.Random) -> Damage:
    member = sample.member(chance.choice(list(sample.images.values())).chunks[0])
    return Damage(_flipped(sample.data, member.body + member.size // 2))


@_kind
def _flip_in_a_last_chunk(sample: Sample, chance: random.Random) -> Damage:
    member = sample.member(chance.choice(list(sample.images.values())).chunks[-1])
    return Damage(_flipped(sample.data, member.body + member.size // 2))


@_kind
def _flip_in_the_key_check(sample: Sample, chance: random.Random) -> Damage:
    return Damage(_flipped(sample.data, _inner(sample, chance).body + 90))


@_kind
def _many_flips(sample: Sample, chance: random.Random) -> Damage:
    data = sample.data
    for start in range(0, len(data) - 256 * KIB, 256 * KIB):
        data = _flipped(data, start + chance.randrange(256 * KIB))
    return Damage(data)


@_kind
def _flip_in_a_tar_header(sample: Sample, chance: random.Random) -> Damage:
    return Damage(_flipped(sample.data, _inner(sample, chance).body - SECTOR + 5))


@_kind
def _tar_header_zeroed(sample: Sample, chance: random.Random) -> Damage:
    return Damage(_filled(sample.data, _inner(sample, chance).body - SECTOR, SECTOR))


@_kind
def _flip_in_an_extended_header(sample: Sample, chance: random.Random) -> Damage:
    return Damage(_flipped(sample.data, _inner(sample, chance).start + 3))


@_kind
def _hole_of_512_bytes(sample: Sample, chance: random.Random) -> Damage:
    return _hole(sample, chance, SECTOR)


@_kind
def _hole_of_4_kib(sample: Sample, chance: random.Random) -> Damage:
    return _hole(sample, chance, 4 * KIB)


@_kind
def _hole_of_64_kib(sample: Sample, chance: random.Random) -> Damage:
    return _hole(sample, chance, 64 * KIB)


@_kind
def _hole_of_200_kib(sample: Sample, chance: random.Random) -> Damage:
    return _hole(sample, chance, 200 * KIB)


@_kind
def _two_holes(sample: Sample, chance: random.Random) -> Damage:
    once = _hole(sample, chance, 4 * KIB)
    return Damage(_filled(once.data, _sector_in(_inner(sample, chance), chance, SECTOR), SECTOR))


@_kind
def _noise_of_4_kib(sample: Sample, chance: random.Random) -> Damage:
    noise = chance.randbytes(4 * KIB)
    start = _sector_in(_inner(sample, chance), chance, len(noise))
    return Damage(_filled(sample.data, start, len(noise), noise))


def _hole(sample: Sample, chance: random.Random, size: int) -> Damage:
    start = _sector_in(_inner(sample, chance), chance, size)
    return Damage(_filled(sample.data, start, size))


@_kind
def _cut_in_the_middle(sample: Sample, chance: random.Random) -> Damage:
    return Damage(sample.data[: len(sample.data) // 2 + chance.randrange(9999)])


@_kind
def _cut_near_the_end(sample: Sample, chance: random.Random) -> Damage:
    return Damage(sample.data[: -30 * KIB - chance.randrange(9999)])


@_kind
def _member_missing(sample: Sample, chance: random.Random) -> Damage:
    member = _inner(sample, chance)
    return Damage(sample.data[: member.start] + sample.data[member.end :])


@_kind
def _first_chunk_missing(sample: Sample, chance: random.Random) -> Damage:
    member = sample.member(chance.choice(list(sample.images.values())).chunks[0])
    return Damage(sample.data[: member.start] + sample.data[member.end :])


@_kind
def _two_members_swapped(sample: Sample, chance: random.Random) -> Damage:
    first = chance.choice(list(sample.images.values())).chunks[1]
    index = [member.name for member in sample.members].index(first)
    one, two = sample.members[index], sample.members[index + 1]
    swapped = sample.data[two.start : two.end] + sample.data[one.start : one.end]
    return Damage(sample.data[: one.start] + swapped + sample.data[two.end :])


@_kind
def _a_sector_is_gone(sample: Sample, chance: random.Random) -> Damage:
    start = _sector_in(_inner(sample, chance), chance, SECTOR)
    return Damage(sample.data[:start] + sample.data[start + SECTOR :])


@_kind
def _100_bytes_are_gone(sample: Sample, chance: random.Random) -> Damage:
    start = _sector_in(_inner(sample, chance), chance, SECTOR)
    return Damage(sample.data[:start] + sample.data[start + 100 :])


@_kind
def _a_sector_is_there_twice(sample: Sample, chance: random.Random) -> Damage:
    start = _sector_in(_inner(sample, chance), chance, SECTOR)
    return Damage(sample.data[: start + SECTOR] + sample.data[start:])


@_kind
def _77_bytes_too_many(sample: Sample, chance: random.Random) -> Damage:
    start = _sector_in(_inner(sample, chance), chance, SECTOR)
    return Damage(sample.data[:start] + chance.randbytes(77) + sample.data[start:])


@_kind
def _front_of_4_kib_zeroed(sample: Sample, _chance: random.Random) -> Damage:
    return Damage(_filled(sample.data, 0, 4 * KIB))


@_kind
def _front_of_20_kib_zeroed(sample: Sample, _chance: random.Random) -> Damage:
    return Damage(_filled(sample.data, 0, FRONT), id_is_lost=True)


@_kind
def _front_of_20_kib_is_noise(sample: Sample, chance: random.Random) -> Damage:
    return Damage(_filled(sample.data, 0, FRONT, chance.randbytes(FRONT)), id_is_lost=True)


@_kind
def _front_of_a_third_zeroed(sample: Sample, _chance: random.Random) -> Damage:
    return Damage(_filled(sample.data, 0, len(sample.data) // 3), id_is_lost=True)


@_kind
def _front_is_a_partition_table(sample: Sample, chance: random.Random) -> Damage:
    table = bytearray(34 * SECTOR)
    table[446:462] = bytes.fromhex("00000200eeffffff01000000ffffffff")
    table[510:512] = b"\x55\xaa"
    table[512:524] = b"EFI PART\0\0\1\0"
    table[1024:1072] = chance.randbytes(48)
    return Damage(_filled(sample.data, 0, len(table), bytes(table)), id_is_lost=True)


@_kind
def _flip_in_the_header(sample: Sample, _chance: random.Random) -> Damage:
    return Damage(_flipped(sample.data, sample.member("backup-header").body + 3))


@_kind
def _flip_in_the_headers_hmac(sample: Sample, _chance: random.Random) -> Damage:
    member = sample.member("backup-header.hmac")
    return Damage(_flipped(sample.data, member.body + member.size - 20))


@_kind
def _header_missing(sample: Sample, _chance: random.Random) -> Damage:
    return Damage(_without(sample, "backup-header"))


@_kind
def _headers_hmac_missing(sample: Sample, _chance: random.Random) -> Damage:
    return Damage(_without(sample, "backup-header.hmac"))


@_kind
def _header_and_hmac_missing(sample: Sample, _chance: random.Random) -> Damage:
    return Damage(_without(sample, "backup-header", "backup-header.hmac"), id_is_lost=True)


@_kind
def _qubes_xml_missing(sample: Sample, _chance: random.Random) -> Damage:
    names = [m.name for m in sample.members if m.name.startswith("qubes.xml.")]
    return Damage(_without(sample, *names))


def _without(sample: Sample, *names: str) -> bytes:
    return b"".join(
        sample.data[member.start : member.end]
        for member in sample.members
        if member.name not in names
    )


@_kind
def _unreadable_sector(sample: Sample, chance: random.Random) -> Damage:
    start = _sector_in(_inner(sample, chance), chance, 4 * KIB) // (4 * KIB) * 4 * KIB
    return Damage(sample.data, unreadable=((start, start + 4 * KIB),))


@_kind
def _unreadable_front(sample: Sample, _chance: random.Random) -> Damage:
    return Damage(sample.data, unreadable=((0, 4 * KIB),))


@_kind
def _two_copies_hit_in_two_chunks(sample: Sample, chance: random.Random) -> Damage:
    one, two = chance.sample(_chunks(sample), 2)
    left = _filled(sample.data, one.body + SECTOR, SECTOR)
    right = _filled(sample.data, two.body + SECTOR, SECTOR)
    return Damage(left, also=right, readings=(sample.data,))


@_kind
def _two_copies_hit_in_one_chunk(sample: Sample, chance: random.Random) -> Damage:
    member = _inner(sample, chance)
    start = member.body // SECTOR * SECTOR
    left = _filled(sample.data, start + 2 * SECTOR, 2 * SECTOR)
    right = _filled(sample.data, start + 20 * SECTOR, 3 * SECTOR)
    return Damage(left, also=right, readings=(sample.data,))


@_kind
def _two_halves_in_wrong_order(sample: Sample, _chance: random.Random) -> Damage:
    half = len(sample.data) // 2 // SECTOR * SECTOR
    return Damage(sample.data[half:] + sample.data[:half], readings=(sample.data,))


@_kind
def _parts_never_joined(sample: Sample, _chance: random.Random) -> Damage:
    third = len(sample.data) // 3 + 1
    parts = tuple(sample.data[start : start + third] for start in range(0, 3 * third, third))
    return Damage(parts[0], parts=parts, readings=(sample.data,))


@_kind
def _text_mode(sample: Sample, _chance: random.Random) -> Damage:
    return Damage(sample.data.replace(b"\n", b"\r\n"), readings=(sample.data,))


@_kind
def _noise_at_the_end(sample: Sample, chance: random.Random) -> Damage:
    return Damage(sample.data + chance.randbytes(100 * KIB))


@_kind
def _zeros_at_the_end(sample: Sample, _chance: random.Random) -> Damage:
    return Damage(sample.data + bytes(1024 * KIB))


@_kind
def _another_backups_tail(sample: Sample, _chance: random.Random) -> Damage:
    tail = bytes(reversed(sample.data))[: 100 * KIB]
    members = [m for m in sample.members if m.name.startswith(tuple(sample.images))]
    last = sample.data[members[-1].start :]
    return Damage(sample.data + tail[: 7 * SECTOR] + re.sub(rb"vm2/", b"vm9/", last))
