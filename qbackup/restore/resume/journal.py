"""``.qbackup-journal`` in the output folder: which files of which backup stand there.

A second run reads it, looks at the files it names, and keeps those that are what it says.
Each file gets two lines: `ready` before its rename, and on the disk before it too, and
`whole` after the rename and the folder's fsync. Killed in between, a run leaves a file that
the first line lets the next run know, and finish with.

The folder may be in an enemy's reach. What stands under the journal's name is used only if it
is a plain file with that one name, of an owner that the folder is trusted to; else it is left
as it is, and a warning says so. It is read up to a limit, line by line; lines that are torn,
too long, strange or not authentic are passed over (`records`). Nothing is ever taken out of it.
A journal that can't be used costs the knowledge of a later run, never a restore. That a disk is
full shall not make it one: a file that took the last room would be unknown to the run that is made
again when there is room. So a little is reserved before the first file, and used then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator

from qbackup.base.names import OWN_PREFIX, display
from qbackup.restore.output.folders import OLD_FILE, is_trusted
from qbackup.restore.resume.records import LINE_LIMIT, Codec, Record, State, untrusted_name

JOURNAL_NAME = OWN_PREFIX + "journal"
_MODE = 0o600
_PIECE_SIZE = 1 << 20
_RESERVE_SIZE = 16 * 1024  # for the lines of some twenty files
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_OTHERS_LIMIT = 1000
_OTHERS_SHOWN = 10
_NEW_FILE = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


class _Unusable(Exception):
    """What stands under the journal's name is not used."""


class _Reserve:
    """Room on a disk, held by a file without a name, so that nothing of it can be left over.

    Where the file system has no such files nothing is held.
    """

    def __init__(self, folder: int) -> None:
        self._fd = -1
        unnamed = getattr(os, "O_TMPFILE", None)
        if unnamed is not None:
            with contextlib.suppress(OSError):
                self._fd = os.open(".", unnamed | os.O_WRONLY, _MODE, dir_fd=folder)
                os.posix_fallocate(self._fd, 0, _RESERVE_SIZE)

    def give_back(self) -> bool:
        """From now on others can have the room. Whether there was any."""
        held, self._fd = self._fd, -1
        if held >= 0:
            os.close(held)
        return held >= 0


class Journal:
    """The journal of one output folder, for one backup. Its folder is locked by the caller.

    Args:
        folder: descriptor of the output folder; stays the caller's.
        key: of this backup's lines.
        limit: its length in bytes up to which it is used.
        warn: told why it is not, or only in part.
    """

    def __init__(self, folder: int, key: bytes, *, limit: int, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._codec = Codec(key)
        self._limit = limit
        self._warn = warn
        self._records: dict[tuple[str, str], tuple[State, Record]] = {}
        self._untrusted_others: dict[str, None] = {}  # names in lines that are not this backup's
        self._fd = -1
        self._reserve = _Reserve(folder)
        self._is_torn = False
        self._is_usable = True
        self._lock = threading.Lock()
        with self._telling("can't be read, so nothing in the folder is known from it"):
            self._open()
        if not self._is_usable:
            self._records.clear()

    def close(self) -> None:
        """Lets it go. Never raises."""
        with self._lock:
            self._is_usable = False
            self._reserve.give_back()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def warn_of_others(self) -> None:
        """Says that there are lines of another list of qubes, or of another backup."""
        names = [display(name) for name in self._untrusted_others]
        if names:
            shown = ", ".join(names[:_OTHERS_SHOWN])
            more = " and more" if len(names) > _OTHERS_SHOWN else ""
            self._warn(
                f"according to {JOURNAL_NAME} files were restored here under another list of"
                f" qubes, or from another backup: {shown}{more}. They are not looked at, so the"
                " same may be restored again under another name"
            )

    def find(self, qube: str, name: str) -> Record | None:
        """What is known of a file of this backup."""
        known = self._records.get((qube, name))
        return known[1] if known else None

    def is_whole(self, record: Record) -> bool:
        """Whether the run that restored it also came to the end with it."""
        return self._records.get((record.qube, record.name)) == ("whole", record)

    def ready(self, record: Record) -> None:
        """It is verified to its end and gets its name next. On the disk before this returns."""
        self._add("ready", record, sync=True)

    def whole(self, record: Record) -> None:
        """It has its name, and the disk knows it. If this is lost, the line before is enough."""
        self._add("whole", record, sync=False)

    def _add(self, state: State, record: Record, *, sync: bool) -> None:
        with self._lock, self._telling("can't be written: a second run will not know what is new"):
            if not self._is_usable:
                return
            line = self._codec.line(state, record)
            try:
                self._append(line, sync=sync)
            except OSError as error:
                if error.errno not in _NO_ROOM or not self._reserve.give_back():
                    raise
                self._append(line, sync=sync)
            self._records[record.qube, record.name] = (state, record)

    def _append(self, line: bytes, *, sync: bool) -> None:
        if self._fd < 0:
            self._create()
        self._write(b"\n" + line if self._is_torn else line)
        if sync:
            os.fsync(self._fd)

    def _write(self, data: bytes) -> None:
        """One call, so that a line is torn only where the disk is full or the machine stops."""
        self._is_torn = True
        while data:
            data = data[os.write(self._fd, data) :]
        self._is_torn = False

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Where it fails it is given up, and that is said once."""
        try:
            yield
        except (OSError, _Unusable) as error:
            self._is_usable = False
            reason = error.strerror if isinstance(error, OSError) else error
            self._warn(f"{JOURNAL_NAME} {what} ({reason}); it was left as it is")

    def _create(self) -> None:
        self._fd = os.open(JOURNAL_NAME, _NEW_FILE, _MODE, dir_fd=self._folder)
        self._make_private()
        os.fsync(self._folder)

    def _open(self) -> None:
        try:
            mode = os.lstat(JOURNAL_NAME, dir_fd=self._folder).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):  # opening a device can have effects
            raise _Unusable("it is no plain file")
        self._fd = os.open(JOURNAL_NAME, OLD_FILE | os.O_RDWR | os.O_APPEND, dir_fd=self._folder)
        self._check()
        self._read()

    def _check(self) -> None:
        state = os.fstat(self._fd)
        if not stat.S_ISREG(state.st_mode):
            raise _Unusable("it is no plain file")
        if state.st_nlink != 1:
            raise _Unusable("it has a second name elsewhere")
        if not is_trusted(state, self._folder):
            raise _Unusable("it belongs to somebody else")
        if state.st_size > self._limit:
            raise _Unusable(f"it has more than {self._limit} bytes")
        if stat.S_IMODE(state.st_mode) != _MODE:
            self._make_private()

    def _make_private(self) -> None:
        """Whatever the umask, and where the file system has modes."""
        with contextlib.suppress(OSError):
            os.fchmod(self._fd, _MODE)

    def _read(self) -> None:
        altered = 0
        for line in self._lines():
            if self._codec.is_own(line):
                known = self._codec.parse(line)
                if known is None:
                    altered += line.endswith(b"}")  # else it was torn
                else:
                    self._records[known[1].qube, known[1].name] = known
            elif len(self._untrusted_others) < _OTHERS_LIMIT:
                name = untrusted_name(line)
                self._untrusted_others.update({name: None} if name else {})
        if altered:
            self._warn(f"{JOURNAL_NAME}: {altered} lines were altered, and are not believed")

    def _lines(self) -> Iterator[bytes]:
        """Its lines, without those that are too long; a last one without an end counts as torn."""
        rest, position, skips = b"", 0, False
        while position < self._limit and (data := os.pread(self._fd, _PIECE_SIZE, position)):
            position += len(data)
            *lines, rest = (rest + data).split(b"\n")
            if skips and lines:
                del lines[0]
                skips = False
            yield from lines
            if len(rest) > LINE_LIMIT:
                rest, skips = b"", True
        self._is_torn = bool(rest) or skips
