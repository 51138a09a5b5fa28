"""Journal of an output folder, ``.qbackup-journal``: files restored there, by backup.

A second run reads the journal, reads the files named there, and keeps those that match their
records. Each file gets two lines: `ready` before its rename, synced to the disk before it, and
`whole` after the rename and the folder's fsync. If a run is killed in between, the first line lets
the next run recognise the file and complete the work.

An attacker may be able to write to the folder. So the journal is used only if it is a plain file
with that one name, owned by root, this user or the folder's owner; otherwise the file is left
unchanged and a warning is given. No more than a limit is read, line by line; lines that are torn,
too long, strange or not authentic are skipped (`records`). No line is ever removed.

A restore does not depend on the journal. Without one, a later run can't recognise the files of this
run, and nothing else is lost. A full disk must not have this effect: if a file took the last space,
its line could not be written, and the next run would not recognise the file. So some space is
reserved before the first file, and used then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from qbackup.base.locks import Lock
from qbackup.base.names import OWN_PREFIX, display
from qbackup.restore.output.disk_calls import reserve, set_mode, sync_file, sync_folder
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
    """Reason why the file under the journal's name is not used."""


class _Reserve:
    """Reserve of disk space, held by a file without a name, so that nothing can be left over.

    Where the file system has no such files, no space is held.
    """

    def __init__(self, folder: int) -> None:
        self._fd = -1
        unnamed = getattr(os, "O_TMPFILE", None)
        if unnamed is not None:
            with contextlib.suppress(OSError):
                self._fd = os.open(".", unnamed | os.O_WRONLY, _MODE, dir_fd=folder)
                reserve(self._fd, _RESERVE_SIZE)

    def give_back(self) -> bool:
        """Frees the space; returns True if any was held."""
        held, self._fd = self._fd, -1
        if held >= 0:
            os.close(held)
        return held >= 0


class Journal:
    """Journal of one output folder, for one backup. The caller has locked the folder.

    Args:
        folder: descriptor of the output folder; the caller closes it.
        key: key of this backup's lines.
        limit: most bytes that a journal may have to be used.
        warn: called with a sentence if the journal, or some of its lines, can't be used.
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
        self._lock = Lock()
        with self._telling("can't be read, so nothing in the folder is known from it"):
            self._open()
        if not self._is_usable:
            self._records.clear()

    def close(self) -> None:
        """Closes the file and frees the reserved space. Never raises."""
        with self._lock:
            self._is_usable = False
            self._reserve.give_back()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def warn_of_others(self) -> None:
        """Warns if there are lines of another list of qubes, or of another backup."""
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
        """Gives the record of a file of this backup; None if there is none."""
        known = self._records.get((qube, name))
        return known[1] if known else None

    def is_whole(self, record: Record) -> bool:
        """Tells if the run that restored the file also wrote the line `whole`."""
        return self._records.get((record.qube, record.name)) == ("whole", record)

    def ready(self, record: Record) -> None:
        """Records that a file is verified and gets its name next; syncs that to the disk."""
        self._add("ready", record, sync=True)

    def whole(self, record: Record) -> None:
        """Records that a file's name is on the disk. If this line is lost, the first is enough."""
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
            sync_file(self._fd)

    def _write(self, data: bytes) -> None:
        """Writes a line in one call, so that only a full disk or a machine's stop can tear it."""
        self._is_torn = True
        while data:
            data = data[os.write(self._fd, data) :]
        self._is_torn = False

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Gives the journal up if the code in the context fails, and warns of that."""
        try:
            yield
        except (OSError, _Unusable) as error:
            self._is_usable = False
            reason = error.strerror if isinstance(error, OSError) else error
            self._warn(f"{JOURNAL_NAME} {what} ({reason}); the file was left as it is")

    def _create(self) -> None:
        self._fd = os.open(JOURNAL_NAME, _NEW_FILE, _MODE, dir_fd=self._folder)
        self._make_private()
        sync_folder(self._folder)

    def _open(self) -> None:
        try:
            mode = os.lstat(JOURNAL_NAME, dir_fd=self._folder).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):  # opening a device can have effects
            raise _Unusable("not a plain file")
        self._fd = os.open(JOURNAL_NAME, OLD_FILE | os.O_RDWR | os.O_APPEND, dir_fd=self._folder)
        self._check()
        self._read()

    def _check(self) -> None:
        state = os.fstat(self._fd)
        if not stat.S_ISREG(state.st_mode):
            raise _Unusable("not a plain file")
        if state.st_nlink != 1:
            raise _Unusable("the file has a second name elsewhere")
        if not is_trusted(state, self._folder):
            raise _Unusable("the file belongs to somebody else")
        if state.st_size > self._limit:
            raise _Unusable(f"the file has more than {self._limit} bytes")
        if stat.S_IMODE(state.st_mode) != _MODE:
            self._make_private()

    def _make_private(self) -> None:
        """Sets the mode, which the umask may have changed; some file systems have none."""
        with contextlib.suppress(OSError):
            set_mode(self._fd, _MODE)

    def _read(self) -> None:
        altered = 0
        for line in self._lines():
            if self._codec.is_own(line):
                known = self._codec.parse(line)
                if known is None:
                    altered += line.endswith(b"}")  # a line without its end was torn, not altered
                else:
                    self._records[known[1].qube, known[1].name] = known
            elif len(self._untrusted_others) < _OTHERS_LIMIT:
                name = untrusted_name(line)
                self._untrusted_others.update({name: None} if name else {})
        if altered:
            self._warn(f"{JOURNAL_NAME}: {altered} lines were altered, and are not believed")

    def _lines(self) -> Iterator[bytes]:
        """Yields lines that are not too long; a last line without its newline counts as torn."""
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
