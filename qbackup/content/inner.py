"""Inner archive: reads a stream of verified bytes, gives entries with extents.

One inner archive holds one file of a qube, or the whole tree of a folder. Its headers are
authenticated, but their fields are still checked: a backup can be damaged before it was
encrypted, and a stranger's backup comes with the stranger's passphrase.

The end counts as much as the content. Qubes' own writer does not pad its data before the two zero
blocks. So at least one zero block must be there, with nothing but zeros behind; only then is it
certain that no chunk was cut off the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qbackup.base.errors import (
    FILE_ERRORS,
    Damaged,
    LimitExceeded,
    QBackupError,
    UsageError,
    without_traceback,
)
from qbackup.base.events import Extent, Gap, Misfit, Missing, OpenGap, Piece, VolumeBoundary
from qbackup.base.limits import Limits
from qbackup.base.names import (
    METADATA_PATH,
    decode,
    display,
    unsafe_reason,
    within,
    without_dot,
)
from qbackup.content.archive_end import pieces_from
from qbackup.content.entry_kinds import KINDS, Kind
from qbackup.content.link_targets import original_target
from qbackup.content.own_end import OwnEnd
from qbackup.content.piece_queue import CUT_OFF, PieceQueue, length_of, placed_at
from qbackup.content.placing import place_runs
from qbackup.content.volume_boundary import BoundaryChecker
from qbackup.storage.tar.fields import SYMBOLIC_LINK
from qbackup.storage.tar.reader import TarMember, read_member
from qbackup.storage.tar.sparse import Page

_SHOWN_TARGET = 256  # characters of a link's target in a report, as each link gets a note there


@dataclass(frozen=True, slots=True)
class Entry:
    """File, folder or link of a folder archive.

    Args:
        path: path below the folder, components joined by ``/``; ``.`` is the folder itself.
        kind: kind of the entry, such as ``file`` or ``folder``.
        size: length in bytes, holes included.
        mode: permission bits, with setuid, setgid and sticky.
        mtime_ns: modification time, nanoseconds since 1970.
        target: a symbolic link's text as in the home; a hard link's path below the folder.
    """

    path: str
    kind: Kind
    size: int
    mode: int
    mtime_ns: int
    target: str
    archive: InnerArchive

    def extents(self) -> Iterator[Extent]:
        """Yields data and holes; must be used before the next entry is asked for."""
        return self.archive.extents(self)


@dataclass(frozen=True, slots=True)
class _First:
    """First member of the archive, or its error; read in advance to learn its kind."""

    member: TarMember | None = None
    error: QBackupError | None = None


class InnerArchive:
    """Reader of entries, one by one. Data of an entry that were not read are skipped.

    Args:
        pieces: the stream; with `Gap`s only if past_gaps is set.
        path: path of the file in the backup.
        limits: bounds on sizes and numbers in the archive.
        on_close: frees the resources behind the stream.
        past_gaps: yield lost data as `Missing` and go on behind them; else raise their error.
        every_link: the writer's tar put its prefix before every symbolic link's relative target.
        own_end: takes note of the end of the archive.
    """

    def __init__(
        self,
        pieces: Iterator[Piece],
        path: str,
        limits: Limits,
        on_close: Callable[[], None] | None = None,
        *,
        past_gaps: bool = False,
        every_link: bool = False,
        own_end: OwnEnd | None = None,
    ) -> None:
        self.own_end = own_end or OwnEnd()
        self._on_close = on_close
        self._boundaries = BoundaryChecker()
        self._bytes = PieceQueue(pieces, self._check_boundary, self._pass_open_gap)
        self._path = path
        self._limits = limits
        self._past_gaps = past_gaps
        self._every_link = every_link
        self._first: _First | None = None
        self._member: TarMember | None = None
        self._name = ""  # of this member
        self._current: Entry | None = None
        self._left = 0
        self._is_only = False  # the member is the archive's one file

    def close(self) -> None:
        """Frees the resources behind the stream, also after damage. Never raises."""
        if self._on_close is not None:
            self._on_close()

    def own_kind(self) -> Kind | None:
        """Gives the kind of the first entry if it has the file's own name; None if it has another.

        Call this before any entry is read. Damage is not raised here: the call that reads the entry
        raises it.
        """
        if self._first is None:
            try:
                self._first = _First(self._next_member())
            except FILE_ERRORS as error:
                self._first = _First(error=without_traceback(error))
        member = self._first.member
        if member is None or self._name.removesuffix("/") not in self._own_names:
            return None
        return KINDS.get(member.type, "unknown")

    def entries(self) -> Iterator[Entry]:
        """Yields the entries of a folder archive and verifies its end.

        Raises:
            Damaged: broken, cut off, followed by something, or with a name outside.
            LimitExceeded: too many entries, or one that is too large.
        """
        count = 0
        while (member := self._next_member()) is not None:
            count += 1
            if count > self._limits.tree_entries:
                raise LimitExceeded(
                    f"the folder has more than {self._limits.tree_entries} entries",
                    limit="tree_entries",
                )
            yield self._entry(member, self._relative(self._name))

    def only_file(self) -> Entry:
        """Gives the one regular file that this archive must hold, named as the backup's file.

        Raises:
            Damaged: something else is there.
        """
        member = self._next_member()
        if member is None:
            raise Damaged("the inner archive is empty")
        if self._name not in self._own_names:
            raise Damaged(f"the inner archive holds another file: {display(self._name)}")
        entry = self._entry(member, self._name.rpartition("/")[2])
        if entry.kind == "symlink":
            raise Damaged(
                f"this is a symlink, not a file: the link leads to {display(entry.target)}, and"
                " links are not followed"
            )
        if entry.kind != "file":
            raise Damaged(f"this is a {entry.kind}, not a file")
        self._is_only = True
        return entry

    def only_link(self) -> str:
        """Gives the target of the link that `own_kind` found, and checks that nothing follows.

        The text is safe to print; the rest of a very long one is left out.

        Raises:
            Damaged: something else is there.
        """
        member = self._next_member()
        if member is None or member.type != SYMBOLIC_LINK:
            raise Damaged("the inner archive holds no symbolic link")
        target = self._entry(member, self._name.rpartition("/")[2]).target
        self.finish()
        shown = display(target[:_SHOWN_TARGET])
        return shown if len(target) <= _SHOWN_TARGET else f"{shown}…"

    @property
    def _own_names(self) -> tuple[str, ...]:
        """Names that the one file may have; R4.0.1-rc1 put a slash in front of ``qubes.xml``."""
        rc1 = ("/" + METADATA_PATH,) if self._path == METADATA_PATH else ()
        return (self._path, *rc1)

    def finish(self) -> None:
        """Verifies the end: nothing is left but the end-of-archive mark.

        Raises:
            Damaged: another entry, or no end, or something behind the end.
        """
        member = self._next_member()
        if member is not None:
            raise Damaged(f"the inner archive holds a second file: {display(self._name)}")

    def extents(self, entry: Entry) -> Iterator[Extent]:
        """Yields data and holes of the current entry.

        Raises:
            Damaged: where its content is lost.
        """
        for part in self.parts(entry):
            if isinstance(part, Missing):
                raise part.error
            yield part

    def parts(self, entry: Entry) -> Iterator[Extent | Missing]:
        """Yields extents as `extents` does, and `Missing` for lost data if past_gaps is set."""
        member = self._member
        if entry is not self._current or member is None:
            raise UsageError(
                "this entry's data have already passed: read them before the next entry"
            )
        sparse = member.sparse
        pages = [Page.of_one(member.stored_size)] if sparse is None else sparse.pages()
        count = 1 if sparse is None else len(sparse)
        return place_runs(pages, count, member.size, lambda: self._data(self._left))

    def rest(self) -> Iterator[Extent | Missing]:
        """Yields the rest of the archive as it is stored, with offsets in the archive.

        Used when the first header is lost, which states where the file's bytes belong.
        """
        end = self._limits.file_size
        while self._bytes.has_more() and (position := self.position) < end:
            yield placed_at(position, self._bytes.read_some_or_gap(end - position))

    @property
    def position(self) -> int:
        """Number of the archive's bytes that have been read."""
        return self._bytes.position

    @property
    def lost(self) -> QBackupError | None:
        """Error that ends reading here, that of a gap or of the stream; None if there is none."""
        return self._bytes.lost

    def _data(self, size: int) -> memoryview | Gap:
        """Gives some of the current entry's data; a gap only if past_gaps is set."""
        if self._past_gaps:
            part: memoryview | Gap = self._bytes.read_some_or_gap(size)
        else:
            part = self._bytes.read_some(size)
            if not len(part):
                raise Damaged(CUT_OFF)
        self._left -= length_of(part)
        return part

    def _next_member(self) -> TarMember | None:
        if self._first is not None:
            first, self._first = self._first, None
            if first.error is not None:
                raise first.error
            return first.member
        self._pass_rest()
        reader = read_member(self._limits)
        wanted = next(reader)
        try:
            while True:
                data = self._bytes.read_exactly(wanted)
                if len(data) < wanted:
                    raise Damaged("the inner archive is cut off: its end is missing")
                self._boundaries.begin_member()
                wanted = reader.send(data)
        except StopIteration as end:
            self._boundaries.begin_data(end.value)
            self._member = end.value
        if self._member is None:
            self.own_end.pass_zeros(self._bytes, self._limits.trailing_zeros)
            return None
        if self._member.size > self._limits.file_size:
            raise LimitExceeded(
                f"a file of {self._member.size} bytes exceeds the limit file_size",
                limit="file_size",
                needed=self._member.size,
            )
        self._left = self._member.stored_size
        self._name = decode(self._member.name)
        return self._member

    def _check_boundary(self, boundary: VolumeBoundary) -> Gap | Misfit | None:
        is_one_file = self._past_gaps and self._is_only
        check = self._boundaries.pass_over if is_one_file else self._boundaries.check
        return check(boundary, self._member, self._left)

    def _pass_open_gap(self, gap: OpenGap) -> Iterator[Piece]:
        """Gives the pieces from a gap on. Raises the gap's error if they have no known place."""
        if not self._is_only or self._member is None:
            raise gap.error
        return pieces_from(gap, self._member, self.position, self._left)

    def _pass_rest(self) -> None:
        """Skips unread data of the current entry, and its padding."""
        if self._member is None:
            return
        while self._left:
            self._data(self._left)
        size = self._member.padding
        padding = self._bytes.read_exactly(size)
        if len(padding) < size or padding.strip(b"\0"):
            raise Damaged("the inner archive is cut off or disordered after its data")
        self._member = self._current = None

    def _entry(self, member: TarMember, path: str) -> Entry:
        kind = KINDS.get(member.type, "unknown")
        target = decode(member.link) if member.link else ""
        if kind == "hardlink":
            target = self._relative(target)
        elif kind == "symlink":
            target = original_target(target, self._path, every_link=self._every_link)
        self._current = Entry(
            path, kind, member.size, member.mode, member.mtime_ns, target, archive=self
        )
        return self._current

    def _relative(self, name: str) -> str:
        """Gives the path of a name in the tree, relative to its folder."""
        folder = without_dot(self._path)
        name = name.removesuffix("/")
        if name in (folder, self._path):
            return "."
        below = within(name, self._path) or within(name, folder)
        if below is None or unsafe_reason(below, any_byte=True):
            raise Damaged(f"the inner archive holds a name outside of its folder: {display(name)}")
        return below
