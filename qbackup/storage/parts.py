"""Parts of a backup that was split into files and not joined again: ``split``, file managers.

A first part is known by its name, by the files beside it that are named after it, and by its
content: the archive must go on in the next file at the very byte at which the first one ends.
Nothing is joined by names alone.
"""

from __future__ import annotations

import os
import re
import stat
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice

from qbackup.base.errors import ArchiveDamaged, LimitExceeded, MachineError, NotABackup, UsageError
from qbackup.base.limits import Limits
from qbackup.base.names import HEADER_NAME, METADATA_PATH, display
from qbackup.storage.kept_front import find_front
from qbackup.storage.scan import scan
from qbackup.storage.source import Source, open_source

_PARTS_LIMIT = 10_000
_NUMBERED = re.compile(r"(.*?[._-]?(?:part|vol|p)?[._-]?)(\d{1,6})", re.IGNORECASE | re.DOTALL)
_LETTERED = re.compile(r"(.*?)([a-z]{2,6})", re.DOTALL)


class JoinedSource:
    """Source of several files, one behind the other.

    Args:
        sources: the files, which can be read anywhere.
        sizes: their lengths in bytes.
        notes: messages about them.
        offsets: where the bytes begin in each source; none: at its beginning.
    """

    seekable = True

    def __init__(
        self,
        sources: Sequence[Source],
        sizes: Sequence[int],
        notes: Sequence[str] = (),
        offsets: Sequence[int] = (),
    ) -> None:
        self.notes = notes
        self._sources = sources
        self._offsets = offsets or [0] * len(sources)
        self._starts = [0, *accumulate(sizes)]

    @property
    def troubles(self) -> int:
        """Number of failed reads of all files."""
        return sum(source.troubles for source in self._sources)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills a buffer, see `Source`."""
        done = 0
        while done < len(buffer) and offset + done < self.end():
            number = bisect_right(self._starts, offset + done) - 1
            room = self._starts[number + 1] - offset - done
            piece = buffer[done : done + room]
            place = self._offsets[number] + offset + done - self._starts[number]
            count = self._sources[number].read_into(place, piece)
            done += count
            if count < len(piece):
                break
        return done

    def forget(self, offset: int, size: int) -> None:
        """Drops copies of these bytes, see `Source`."""
        number = max(0, bisect_right(self._starts, offset) - 1)
        for source, begin, start in list(
            zip(self._sources, self._offsets, self._starts, strict=False)
        )[number : number + 2]:
            source.forget(begin + max(0, offset - start), size)

    def end(self) -> int:
        """Gives the length of all files in bytes."""
        return self._starts[-1]

    def close(self) -> None:
        """Closes all files."""
        for source in self._sources:
            source.close()


def find_parts(path: str) -> list[str]:
    """Finds the parts of a backup by their names.

    Returns:
        The paths of all parts, in order; none if the path is not named as a first part, or if there
        is no second one.
    """
    folder, name = os.path.split(path)
    if not _is_first(name) or not _is_file(path):
        return []
    parts = [path]
    while len(parts) < _PARTS_LIMIT:
        following = (os.path.join(folder, after) for after in _names_after(name))
        found = next(filter(_is_file, following), None)
        if found is None:
            break
        parts.append(found)
        name = os.path.basename(found)
    return parts if len(parts) > 1 else []


def first_part_of(path: str) -> str | None:
    """Finds the first part beside a file that is named as a later one; None if there is none."""
    folder, name = os.path.split(path)
    for pattern, firsts in ((_NUMBERED, ("0", "1")), (_LETTERED, ("a",))):
        match = pattern.fullmatch(name)
        if match is None:
            continue
        for first in firsts:
            number = first.rjust(len(match[2]), first if first == "a" else "0")
            parts = find_parts(os.path.join(folder, match[1] + number))
            if path in parts[1:]:
                return parts[0]
    return None


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _is_first(name: str) -> bool:
    numbered, lettered = _NUMBERED.fullmatch(name), _LETTERED.fullmatch(name)
    if numbered is not None:
        return int(numbered[2]) < 2
    # the letters may be the end of a word, as in "banana.aa"
    return lettered is not None and bool(re.search(r"(?:^|[^a])a{2,6}$", name))


def _names_after(name: str) -> Iterator[str]:
    """Yields the names that the next part may have: numbers, letters, and how `split` extends them.

    After the suffix ``yz``, GNU ``split`` goes on with ``zaaa``, and after ``89`` with ``9000``.
    """
    match = _NUMBERED.fullmatch(name)
    if match is not None:
        stem, number = match[1], match[2]
        yield f"{stem}{int(number) + 1:0{len(number)}d}"
        if set(number[1:]) <= {"9"} and number[0] == "8":
            yield f"{stem}9{'0' * (len(number) + 1)}"
        return
    for size in range(2, 7):
        match = re.fullmatch(rf"(.*?)([a-z]{{{size}}})", name, re.DOTALL)
        if match is not None:
            yield match[1] + _letters_after(match[2])
            if match[2] == "y" + "z" * (size - 1):
                yield match[1] + "z" + "a" * (size + 1)


def _letters_after(letters: str) -> str:
    rest = letters.rstrip("z")
    ended = len(letters) - len(rest)
    return rest[:-1] + chr(ord(rest[-1]) + 1) + "a" * ended if rest else letters


def join_parts(path: str, limits: Limits) -> JoinedSource | None:
    """Joins a first part and the parts that follow; None if the file is whole, or no first part.

    Raises:
        MachineError: a part can't be opened.
    """
    parts = find_parts(path)
    if not parts:
        return None
    sources: list[Source] = []
    try:
        for part in parts:
            sources.append(open_source(part))
        sizes = [source.end() for source in sources]
        names = f"{display(parts[0])} to {display(os.path.basename(parts[-1]))}"
        joined = JoinedSource(sources, sizes, [f"{len(parts)} parts are read as one: {names}"])
        if any(_goes_on(whole, sizes[0], limits) for whole in _with_front(path, joined, limits)):
            return joined
    except (MachineError, UsageError):
        _close(sources)
        raise
    _close(sources)
    return None


def _with_front(path: str, joined: JoinedSource, limits: Limits) -> Iterator[Source]:
    """Yields the parts, then the parts with the kept front in place of their beginning."""
    yield joined
    front = find_front(path, limits, _ignore)
    if front is not None:
        kept = front.source()
        begin = min(kept.end(), joined.end())
        yield JoinedSource([kept, joined], [begin, joined.end() - begin], offsets=[0, begin])


def _close(sources: Sequence[Source]) -> None:
    for source in sources:
        source.close()


def _goes_on(joined: Source, boundary: int, limits: Limits) -> bool:
    """Tells if an archive goes on over a boundary: a member behind it stands where it should.

    Behind a whole backup, another one's front shows that the next file is no part.
    """
    crosses = False
    fronts: set[str] = set()
    try:
        for member in islice(scan(joined, limits, _ignore, _ignore), limits.members):
            if member.offset > boundary:
                return member.name not in fronts
            if member.name.startswith((HEADER_NAME, METADATA_PATH)):
                fronts.add(member.name)
            crosses = member.offset + member.size > boundary
    except (NotABackup, ArchiveDamaged, LimitExceeded, MachineError):
        return False
    return crosses


def _ignore(text: str) -> None:
    """Ignores a warning; the scan of the members reports the same one."""
