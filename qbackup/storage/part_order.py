"""The right order of the parts of a backup that was split and joined in a wrong order.

``split`` makes parts of one size, the last one shorter. Where two parts stand beside each other
that don't belong together, the archive breaks, and a later header shows where it goes on. The
distances between these places give the size of the parts, and each part's beginning fits the end of
one other part. A result counts only if the archive then has no broken place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

from qbackup.base.errors import ArchiveDamaged, LimitExceeded, MachineError, NotABackup
from qbackup.base.limits import Limits
from qbackup.base.names import (
    ENCRYPTED_SUFFIX,
    HEADER_COPY_NAME,
    HEADER_NAME,
    METADATA_PATH,
    ChunkName,
    parse_chunk_name,
)
from qbackup.storage.archive_padding import RECORD_SIZE
from qbackup.storage.parts import JoinedSource
from qbackup.storage.resync import HeaderSearch
from qbackup.storage.scan import next_member, plain_name, scan
from qbackup.storage.source import Source
from qbackup.storage.tar.fields import BLOCK_SIZE
from qbackup.storage.tar.reader import TarMember
from qbackup.storage.window import Window

_HMAC_SUFFIX = ".hmac"
_FIRSTS = (HEADER_NAME, f"{METADATA_PATH}.000")
_PARTS_LIMIT = 64
_TRIES_LIMIT = 4_000  # sizes and places of the short part
_WALKS_LIMIT = 16  # orders that fit and are walked through
_DISTANCES_LIMIT = 64
_SHOWN = 8  # ranges of bytes in a message
_REACH = 256 * 1024 * 1024  # of the search for the next header; chunks are shorter than half of it


@dataclass
class _Run:
    """Members that follow one another, from one broken place to the next.

    Args:
        start: offset of the first header.
        first: name of the first member.
        last: name of the last member so far.
        last_start: offset of its header.
        end: offset at which the next header should stand.
    """

    start: int
    first: str
    last: str = ""
    last_start: int = 0
    end: int = 0

    @property
    def is_first(self) -> bool:
        """True if the backup begins here."""
        return self.first in _FIRSTS or self.first == _FIRSTS[1] + ENCRYPTED_SUFFIX


@dataclass(frozen=True)
class PartOrder:
    """Right order of a file's parts.

    Args:
        size: length of a part in bytes; one part is shorter.
        numbers: numbers of the parts as they stand in the file, from 1, in the right order.
        places: (offset, length) in the file of each run of parts, in the right order.
    """

    size: int
    numbers: tuple[int, ...]
    places: tuple[tuple[int, int], ...] = field(repr=False)

    def __str__(self) -> str:
        order = ", ".join(map(str, self.numbers))
        places = [f"{start}-{start + length - 1}" for start, length in self.places]
        more = ", …" if len(places) > _SHOWN else ""
        return (
            f"the parts of this file were joined in a wrong order: of {len(self.numbers)} parts of"
            f" {self.size} bytes (one may be shorter), numbered as they stand in the file, the"
            f" right order is {order} (bytes {', '.join(places[:_SHOWN])}{more})"
        )

    def put_right(self, source: Source) -> JoinedSource:
        """Gives the parts of a source in the right order."""
        offsets, sizes = zip(*self.places, strict=True)
        note = f"{self}; they are read in that order"
        return JoinedSource([source] * len(sizes), sizes, [note], offsets)


def find_order(source: Source, limits: Limits) -> PartOrder | None:
    """Finds the right order of a file's parts; None if they are in order, or no order is right.

    Raises:
        MachineError: the file can't be read.
    """
    try:
        runs = list(islice(_runs(source, limits), _PARTS_LIMIT + 1))
    except LimitExceeded:
        return None
    if not 1 < len(runs) <= _PARTS_LIMIT or not any(run.is_first for run in runs):
        return None
    # Whole archives behind one another are no parts: a part begins or ends inside of a member.
    if not runs[0].start and all(one.end == two.start for one, two in pairwise(runs)):
        return None
    size, walks = source.end(), 0
    for part_size, bounds in islice(_layouts(runs, size), _TRIES_LIMIT):
        cuts = _cuts(runs, bounds, size)
        order = _order(runs, cuts) if cuts is not None else None
        if order is None or cuts is None:
            continue
        if order == sorted(order):
            continue
        walks += 1
        if walks > _WALKS_LIMIT:
            return None
        places = tuple((cuts[i], cuts[i + 1] - cuts[i]) for i in order)
        numbers = [
            number
            for start, length in places
            for number, bound in enumerate(bounds, 1)
            if start <= bound < start + length
        ]
        found = PartOrder(part_size, tuple(numbers), places)
        if _is_right(found.put_right(source), limits):
            return found
    return None


def _runs(source: Source, limits: Limits) -> Iterator[_Run]:
    """Yields the runs of members in the file's order."""
    window, search = Window(source), HeaderSearch(source, limits, _is_part_name)
    end, position, resume = source.end(), 0, 0
    run: _Run | None = None
    for _ in range(limits.members):
        window.position = position
        member = _member_at(window, limits) if position < end else None
        if member is None:
            if run is not None:
                yield run
                run = None
            found = search.next(resume, _REACH) if position < end else None
            if found is None:
                return
            position, resume = found, found + BLOCK_SIZE
            continue
        name = plain_name(member)
        if run is None or not _may_follow(run.last, name):
            if run is not None:
                yield run
            run = _Run(position, name)
        length = window.position - position + member.stored_size + member.padding
        length += 2 * BLOCK_SIZE
        run.last, run.last_start, resume = name, position, window.position
        position += length + -length % RECORD_SIZE
        run.end = position
    if run is not None:
        yield run


def _member_at(window: Window, limits: Limits) -> TarMember | None:
    try:
        return next_member(window, limits)
    except (ArchiveDamaged, LimitExceeded):
        return None


def _is_part_name(name: str) -> bool:
    return name in (HEADER_NAME, HEADER_COPY_NAME) or _chunk(name) is not None


def _chunk(name: str) -> ChunkName | None:
    for suffix in (_HMAC_SUFFIX, ENCRYPTED_SUFFIX):
        name = name.removesuffix(suffix)
    return parse_chunk_name(name, folders=True)


def _may_follow(before: str, name: str) -> bool:
    """Tells if a member can stand behind another one."""
    if name in _FIRSTS and before:
        return name != HEADER_NAME and before == HEADER_COPY_NAME
    one, two = _chunk(before), _chunk(name)
    if one is None or two is None or one.path != two.path:
        return True
    return two.index - one.index in (0, 1)


def _follows(before: str, name: str) -> bool:
    """Tells if a member is certainly the next one: a chunk's HMAC, or its file's next chunk."""
    one, two = _chunk(before), _chunk(name)
    return (
        one is not None and two is not None and one.path == two.path and _may_follow(before, name)
    )


def _layouts(runs: Sequence[_Run], size: int) -> Iterator[tuple[int, list[int]]]:
    """Yields (size of a part, beginnings of all parts) for each likely size."""
    pairs = ((one, two) for one in runs for two in runs if one is not two)
    found = (abs(two.start - one.end) for one, two in pairs if _follows(one.last, two.first))
    distances = set(islice(found, _DISTANCES_LIMIT))
    distances |= {run.start for run in runs if run.is_first}
    # the short part may be among the parts that lie between
    distances |= {abs(one - two) for one in distances for two in (size, *distances)}
    seen: set[int] = set()
    for distance in sorted(distances - {0}, reverse=True):
        for count in range(1, _PARTS_LIMIT):
            part, rest = divmod(distance, count)
            if rest or part in seen or not size / _PARTS_LIMIT <= part < size:
                continue
            seen.add(part)
            parts, last = divmod(size, part)
            for short in range(parts + 1) if last else (parts,):
                shift = part - last if last else 0
                bounds = [i * part - shift * (i > short) for i in range(parts + bool(last))]
                yield part, bounds


def _cuts(runs: Sequence[_Run], bounds: Sequence[int], size: int) -> list[int] | None:
    """Gives the beginnings of the runs' parts, and the end; None if there are none that fit."""
    cuts = [0]
    for one, two in pairwise(runs):
        cut = next((bound for bound in bounds if one.last_start < bound <= two.start), None)
        if cut is None:
            return None
        cuts.append(cut)
    return [*cuts, size]


def _order(runs: Sequence[_Run], cuts: Sequence[int]) -> list[int] | None:
    """Chains the runs: another one has in front of its first header what one needs at its end."""
    left = set(range(len(runs)))
    now = next(i for i in left if runs[i].is_first)
    if runs[now].start != cuts[now]:
        return None
    order = [now]
    left.remove(now)
    while left:
        needed = runs[now].end - cuts[now + 1]
        fitting = [i for i in sorted(left) if runs[i].start - cuts[i] == needed]
        fitting.sort(key=lambda i: not _follows(runs[now].last, runs[i].first))
        if not fitting:
            return None
        now = fitting[0]
        order.append(now)
        left.remove(now)
    return order


def _is_right(joined: Source, limits: Limits) -> bool:
    """Tells if an archive has no broken place."""
    try:
        for _ in islice(scan(joined, limits, _ignore, _ignore), limits.members):
            pass
    except (NotABackup, ArchiveDamaged, LimitExceeded, MachineError):
        return False
    return True


def _ignore(text: str) -> None:
    """Ignores a warning; the scan of the members reports the same one."""
