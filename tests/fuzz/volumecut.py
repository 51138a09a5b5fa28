"""An archive, cut into the volumes of GNU tar's `-M`, and where a volume must say what goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qbackup.base.errors import QBackupError
from tests.fuzz.common import LIMITS
from tests.support.tarbytes import BLOCK, header, read_headers

VolumeBoundary = tuple[bytes, int]


def runs(archive: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Where the data of each member begin and end, and its name, as far as it can be read."""
    position = 0
    while True:
        try:
            found, taken = read_headers(archive[position:], LIMITS)
        except (QBackupError, EOFError):
            return
        if found is None:
            return
        start = position + taken
        yield start, start + found.stored_size, found.name
        position = start + found.stored_size + found.padding


def seams(archive: bytes, cuts: Sequence[int]) -> list[VolumeBoundary | None]:
    """For each place what must be said there; None where it is not within a member's data."""
    members = list(runs(archive))
    found: list[VolumeBoundary | None] = []
    for cut in cuts:
        within = (m for m in members if m[0] <= cut < m[1])
        found.append(next(((name[:100], end - cut) for _, end, name in within), None))
    return found


def split(data: bytes, count: int, unit: int = 1) -> list[bytes]:
    """So many parts at most, at least one, each but the last of so many whole units."""
    size = max(unit, -(-len(data) // (count * unit)) * unit)
    return [data[start : start + size] for start in range(0, max(1, len(data)), size)]


def cut(archive: bytes, count: int) -> list[bytes]:
    """So many volumes at most, each with the header that belongs in front."""
    parts = split(archive, count, BLOCK)
    places = [sum(map(len, parts[:number])) for number in range(len(parts))]
    return [
        part if seam is None or not number else continuation(*seam) + part
        for number, (part, seam) in enumerate(zip(parts, seams(archive, places), strict=True))
    ]


def continuation(name: bytes, left: int) -> bytes:
    """A header of type `M`."""
    return header(name, size=left, kind=b"M", magic=b"")
