"""The outer archive: its members in order, from a file by seeking or from a pipe.

Nothing in this layer is authenticated. What is learned here is only where a chunk's bytes
are said to be; what they are is decided by the MAC over them. The rules:

* A backup is a row of complete tar archives, so zero blocks may stand between members and
  must stand at the end, as for GNU tar with ``-i``. An archive that ends without them was cut.
  The exception is an archive of several members, which Qubes never writes: somebody packed the
  backup again, and many programs write a shorter end or none. A warning says so.
  More of them than fill its last record, and then another member: something has been wiped out
  there, which is told; at the end of the backup they may be what a larger medium holds.
* Names may begin with ``./``, and folders may be among the members: packing a folder does that.
* Every header must match its checksum. After one that does not, nothing is guessed: what
  was found before stays usable, and the scan ends with `ArchiveDamaged`.
* Only regular members with the name of a chunk, or of the header, count. Everything else
  is passed over with a warning and never becomes a path.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qbackup.base.errors import ArchiveDamaged, Damaged, LimitExceeded, NotABackup
from qbackup.base.limits import Limits
from qbackup.base.names import ENCRYPTED_SUFFIX, ChunkName, decode, display, parse_chunk_name
from qbackup.storage.signatures import looks_like
from qbackup.storage.source import Source
from qbackup.storage.tar.reader import (
    BLOCK_SIZE,
    DIRECTORY,
    MAGIC_OFFSET,
    REGULAR_TYPES,
    ZERO_BLOCK,
    TarMember,
    read_member,
)

RECORD_SIZE = 20 * BLOCK_SIZE  # what GNU tar pads an archive to
_HEADERS_SIZE = 3 * BLOCK_SIZE  # a pax header, its records, the member's own header
_RECORDS = tuple(BLOCK_SIZE << n for n in range(12))  # of other programs; tar -b 2048 at most
_END_BLOCKS = 2
_HERE = re.compile(r"(?:\./+)+")
_ZEROS_READ = 1024 * 1024
_SAMPLES = 1024  # of zeros that are too many to be read
_SAMPLE_SIZE = 4096
_OF_A_DEVICE = (
    "; if the backup was written onto a device, the device may have held this before, behind the"
    " backup's end"
)

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StoredMember:
    """A regular member of the outer archive. Its name is the attacker's to choose.

    Args:
        name: as the tar header has it, undecodable bytes as surrogates.
        offset: where its data start in the backup, in bytes.
        size: length of its data in bytes, as the header says.
    """

    name: str
    offset: int
    size: int


class Window:
    """The bytes at the scan's position. On a pipe never a byte more than asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._buffer = b""
        self._start = 0
        self._ended = False
        self.position = 0
        self.is_device: bool = getattr(source, "is_device", False)

    def take(self, size: int, ahead: int = 0) -> bytes:
        """The next bytes, fewer at the end; `ahead` more may be fetched with them."""
        begin = self.position - self._start
        if begin < 0 or (begin > len(self._buffer) - size and not self._ended):
            self._fetch(size + ahead if self._source.seekable else size)
            begin = 0
        data = self._buffer[begin : begin + size]
        self.position += len(data)
        return data

    def _fetch(self, size: int) -> None:
        buffer = bytearray(size)
        count = self._source.read_into(self.position, memoryview(buffer))
        self._buffer = bytes(memoryview(buffer)[:count])
        self._start = self.position
        self._ended = count < size

    def skip_zero_blocks(self) -> int:
        """Passes the zero blocks that were fetched already; returns their number."""
        rest = self._buffer[self.position - self._start :]
        blocks = (len(rest) - len(rest.lstrip(b"\0"))) // BLOCK_SIZE
        self.position += blocks * BLOCK_SIZE
        return blocks

    def skip_zeros(self, limit: int) -> None:
        """Passes zero blocks, up to so many bytes; from a file only, in large reads."""
        zeros = bytes(_ZEROS_READ)
        while limit > 0 and self._source.seekable:
            buffer = bytearray(_ZEROS_READ)
            count = self._source.read_into(self.position, memoryview(buffer))
            if count == _ZEROS_READ and buffer == zeros:
                self.position += count
                limit -= count
                continue
            del buffer[count:]
            self.position += (count - len(buffer.lstrip(b"\0"))) // BLOCK_SIZE * BLOCK_SIZE
            return

    def find_data(self) -> int | None:
        """Looks here and there for a byte that is no zero, from here to the end of a file.

        Returns:
            Where one was found; None where all that was looked at is zeros.
        """
        end: int = self._source.end()
        if not self._source.seekable or end <= self.position:
            return None
        step = max(_SAMPLE_SIZE, (end - self.position) // _SAMPLES)
        places: list[int] = [
            *range(self.position, end, step),
            max(self.position, end - _SAMPLE_SIZE),
        ]
        for place in places:
            buffer = bytearray(_SAMPLE_SIZE)
            self._source.read_into(place, memoryview(buffer))
            zeros = len(buffer) - len(buffer.lstrip(b"\0"))
            if zeros < len(buffer):
                return place + zeros
        return None

    def finish(self) -> None:
        """Reads no more: whatever follows is not looked at."""
        self.position = max(self.position, self._source.end())
        self._buffer, self._start, self._ended = b"", self.position, True

    def has_come_to(self, position: int) -> bool:
        """Tells whether the input, whose end was met, has all bytes up to there."""
        return self._source.end() >= position


def scan(source: Source, limits: Limits, warn: Warn, lose: Warn) -> Iterator[StoredMember]:
    """The regular members in order, each before its data is read.

    On a pipe the data of a member are there to be read until the next one is asked for.

    Args:
        source: of the backup's bytes.
        limits: bounds on what they say.
        warn: told of what is passed over without harm.
        lose: told where members are lost, though the archive goes on.

    Raises:
        NotABackup: the first block is no tar header.
        ArchiveDamaged: the archive is cut off or broken, or a header is longer than
            allowed; all members before were given.
        LimitExceeded: more members than allowed.
    """
    window = Window(source)
    check_first_block(window.take(BLOCK_SIZE, _HEADERS_SIZE - BLOCK_SIZE))
    window.position = 0
    seams = ArchivePadding(limits, warn, lose)
    count = 0
    while True:
        member = next_member(window, limits)
        if member is None:
            return
        count += 1
        if count > limits.members:
            raise LimitExceeded(
                f"the archive has more than {limits.members} members", limit="members"
            )
        offset, name = window.position, plain_name(member)
        if member.type in REGULAR_TYPES:
            yield StoredMember(name, offset, member.stored_size)
        elif not is_mere_folder(member):
            warn(f"{display(name)}: not a regular file, ignored")
        window.position = offset + member.stored_size + member.padding
        seams.pass_one(window)


def plain_name(member: TarMember) -> str:
    """The member's name without the ``./`` that packing a folder puts in front."""
    name = decode(member.name)
    here = _HERE.match(name)
    return (name[here.end() :] or name) if here else name


def is_mere_folder(member: TarMember) -> bool:
    """Tells whether this is a folder as in every packed folder, and not in a chunk's place."""
    name = decode(member.name).rstrip("/")
    return (
        member.type == DIRECTORY
        and not member.stored_size
        and not any(parse_chunk_name(name.removesuffix(end)) for end in ("", ENCRYPTED_SUFFIX))
    )


def check_first_block(block: bytes) -> None:
    """Tells what this is when it is no tar archive.

    Raises:
        NotABackup: saying what it looks like instead.
    """
    if not block:
        raise NotABackup("the file is empty")
    if block[MAGIC_OFFSET : MAGIC_OFFSET + 5] != b"ustar":
        like = looks_like(block)
        what = f"it looks like {like}" if like else "it does not begin with a tar header"
        raise NotABackup(f"this is not a Qubes backup: {what}")


def next_member(window: Window, limits: Limits, *, checked: bool = True) -> TarMember | None:
    """The next member; None at the end of the backup. The window is then at its data.

    Args:
        window: where it should begin.
        limits: bounds on its headers.
        checked: see `read_member`.

    Raises:
        ArchiveDamaged: there is something else.
        LimitExceeded: a header that is larger than allowed.
    """
    reader = read_member(limits, sparse=False, checked=checked)
    start = window.position
    try:
        wanted = next(reader)
        data = window.take(wanted, _HEADERS_SIZE - wanted)
        if not data:
            return None
        while True:
            if len(data) < wanted:
                raise Damaged("the archive is cut off")
            wanted = reader.send(data)
            data = window.take(wanted)
    except StopIteration as end:
        member: TarMember | None = end.value
        if member is None:
            raise ArchiveDamaged(f"zeros where a member should begin, at byte {start}") from None
        return member
    except Damaged as error:
        is_other = start and data[MAGIC_OFFSET : MAGIC_OFFSET + 5] != b"ustar"
        hint = _OF_A_DEVICE if is_other and len(data) == BLOCK_SIZE else ""
        raise ArchiveDamaged(f"{error.reason}, at byte {start}{hint}") from error
    except LimitExceeded as error:
        error.reason = f"{error.reason}, at byte {start}"
        raise


class ArchivePadding:
    """The zero blocks behind each archive, as the scan passes them.

    GNU tar pads an archive to whole records, so the place of the next header is known
    beforehand and one read fetches both; a backup that ends elsewhere was cut off, and zeros
    that go on to a later member stand where another one was. Qubes puts each member into an
    archive of its own; one that holds several was packed by somebody else, and may end anywhere
    behind its last member.

    Args:
        limits: bounds on zeros.
        warn: told of zeros behind the backup's end.
        lose: told of zeros in the place of members.
    """

    def __init__(self, limits: Limits, warn: Warn, lose: Warn) -> None:
        self._limits = limits
        self._warn = warn
        self._lose = lose
        self._start = 0
        self._count = 0  # of members since then
        self._is_certain = True

    def begin_at_guess(self, position: int) -> None:
        """An archive begins somewhere before this place, where one of its headers was found."""
        self._start, self._count = position, 0
        self._is_certain = False

    def pass_one(self, window: Window) -> None:
        """Passes the zero blocks after a member.

        Raises:
            ArchiveDamaged: the archive is cut off, or there is something behind more zeros than
                are read.
        """
        self._count += 1
        data_end = window.position
        record_end = data_end + _END_BLOCKS * BLOCK_SIZE - self._start
        record_end += -record_end % RECORD_SIZE + self._start
        limit = data_end + self._limits.zeros
        while True:
            data = window.take(
                BLOCK_SIZE, max(0, record_end - window.position - BLOCK_SIZE) + _HEADERS_SIZE
            )
            if data != ZERO_BLOCK:
                break
            window.skip_zero_blocks()
            if window.position > record_end:
                window.skip_zeros(limit - window.position)
            if window.position >= limit:
                self._give_up(window, data_end)
                return
        if not data and window.position < record_end:
            self._check_end(window, data_end)
        window.position -= len(data)
        if self._is_certain and window.position > record_end:
            is_padding = self._count > 1 and self._fills_a_record(data_end, window.position)
            if data or not (is_padding or window.is_device):
                self._tell_of_zeros(record_end, window.position, is_end=not data)
        if window.position > data_end:
            self._start, self._count, self._is_certain = window.position, 0, True

    def _fills_a_record(self, data_end: int, end: int) -> bool:
        """Tells if zeros up to there are what some usual size of records asks for, and no more."""
        size, least = end - self._start, data_end - self._start + _END_BLOCKS * BLOCK_SIZE
        return any(size % record == 0 and size - record < least for record in _RECORDS)

    def _check_end(self, window: Window, data_end: int) -> None:
        """Tells an archive that was packed without padding from one that was cut off."""
        packed_again = self._is_certain and self._count > 1
        if not packed_again or not window.has_come_to(data_end):
            raise ArchiveDamaged(f"the archive is cut off at byte {window.position}")
        if window.position < data_end + _END_BLOCKS * BLOCK_SIZE:
            self._warn(
                f"the archive ends at byte {window.position} without an end mark: the program that"
                " packed it again wrote none, or something behind that place is lost"
            )

    def _give_up(self, window: Window, data_end: int) -> None:
        """Ends the backup where more zeros follow than are read.

        Raises:
            ArchiveDamaged: something else follows them.
        """
        place = window.find_data()
        if place is not None:
            raise ArchiveDamaged(
                f"nothing but zeros from byte {data_end} to byte {window.position}, and something"
                f" else at byte {place}"
            )
        if not window.is_device:
            self._warn(
                f"the archive ends at byte {data_end}, and zeros follow, of which"
                f" {window.position - data_end} bytes were read: it was written to something"
                " larger, or what stood there is lost"
            )
        window.finish()

    def _tell_of_zeros(self, start: int, end: int, *, is_end: bool) -> None:
        if is_end:
            self._warn(
                f"the archive ends at byte {start}, and zeros follow up to byte {end}: either it"
                " was written to something larger, or what stood there is lost"
            )
        else:
            self._lose(
                f"zeros from byte {start} to byte {end}, where a member should begin: what stood"
                " there is lost, and nothing says what it was"
            )


class ChunkTable:
    """Where the chunks of a backup are: name, offset and size, in the archive's order.

    Chunks of one file mostly follow one another, so they are kept as runs: what a chunk
    costs is 16 bytes, what a run costs is its name and twelve.
    """

    def __init__(self) -> None:
        self._offsets = array("Q")
        self._sizes = array("Q")
        self._run_starts = array("I")
        self._run_indexes = array("I")
        self._name_ends = array("I")
        self._names = bytearray()
        self._path = ""
        self._next_index = -1

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, name: ChunkName, member: StoredMember) -> None:
        """Appends a chunk."""
        if name.index != self._next_index or name.path != self._path:
            self._run_starts.append(len(self._offsets))
            self._run_indexes.append(name.index)
            self._names += name.path.encode("utf-8", "surrogateescape")
            self._name_ends.append(len(self._names))
            self._path = name.path
        self._next_index = name.index + 1
        self._offsets.append(member.offset)
        self._sizes.append(member.size)

    def run_count(self) -> int:
        """Number of runs."""
        return len(self._run_starts)

    def path(self, run: int) -> str:
        """The file that a run belongs to."""
        start = self._name_ends[run - 1] if run else 0
        return decode(bytes(self._names[start : self._name_ends[run]]))

    def run_length(self, run: int) -> int:
        """Number of chunks in a run."""
        more = run + 1 < len(self._run_starts)
        end = self._run_starts[run + 1] if more else len(self._offsets)
        return end - self._run_starts[run]

    def place(self, run: int, position: int) -> tuple[int, int, int]:
        """(chunk index, offset, size) of one chunk of a run."""
        where = self._run_starts[run] + position
        return self._run_indexes[run] + position, self._offsets[where], self._sizes[where]


class RunsByPath:
    """Which runs of a table belong to one file: mostly one, more where order is disturbed.

    A sorted list of hashes: 12 bytes a run, where a dictionary of names takes 200.
    """

    def __init__(self, table: ChunkTable) -> None:
        self._table = table
        count = table.run_count()
        hashes = array("q", (hash(table.path(run)) for run in range(count)))
        parts = [array("I") for _ in range(16)]  # sorting needs a list, so a part at a time
        for run, value in enumerate(hashes):
            parts[(value >> 60) + 8].append(run)
        self._order = array("I")
        for part in parts:
            self._order.extend(sorted(part, key=hashes.__getitem__))
        self._hashes = array("q", (hashes[run] for run in self._order))
        self.first_runs = array("I", self._first_runs(hashes))

    def _first_runs(self, hashes: array[int]) -> Iterator[int]:
        """The run that each file begins with, in the archive's order."""
        later: set[int] = set()
        for place in range(1, len(self._hashes)):
            if self._hashes[place] == self._hashes[place - 1]:
                run = self._order[place]
                if self[self._table.path(run)][0] != run:
                    later.add(run)
        return (run for run in range(len(hashes)) if run not in later)

    def __getitem__(self, path: str) -> list[int]:
        """The runs of a file in the archive's order; none if there is no such file."""
        wanted = hash(path)
        start = bisect_left(self._hashes, wanted)
        end = bisect_right(self._hashes, wanted, lo=start)
        return [run for run in self._order[start:end] if self._table.path(run) == path]
