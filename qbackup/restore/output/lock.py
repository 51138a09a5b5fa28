"""Lock of an output folder, so that only one restore at a time writes there.

The lock is on the folder itself (`flock`): such a lock can't be planted, replaced or left behind,
and the system releases it when the process ends in any way. Some network file systems have no such
locks. There the file ``.qbackup-lock`` is made if there is none, with the number of the process.
An existing file is taken over if its process ran on this machine since the machine's last start,
and is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from qbackup.base.errors import MachineError
from qbackup.base.names import OWN_PREFIX, decode, display
from qbackup.restore.output.folders import OLD_FILE

LOCK_NAME = OWN_PREFIX + "lock"
_LIMIT = 1000
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


class FolderLock:
    """Lock of one folder, held until `release`, or until the process ends.

    Args:
        folder: descriptor of the output folder; to be closed after `release`.

    Raises:
        MachineError: another restore holds the lock.
        OSError: the folder can't be written.
    """

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._has_file = False
        if not _flock(folder):
            self._make_file()

    def release(self) -> None:
        """Releases the lock, also while a thread that ends late has the folder open."""
        if self._has_file:
            self._has_file = False
            with contextlib.suppress(OSError):
                os.unlink(LOCK_NAME, dir_fd=self._folder)
            return
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(self._folder, fcntl.LOCK_UN)

    def _make_file(self) -> None:
        try:
            fd = os.open(LOCK_NAME, _NEW_FILE, 0o600, dir_fd=self._folder)
        except FileExistsError:
            self._take_over()
            fd = os.open(LOCK_NAME, _NEW_FILE, 0o600, dir_fd=self._folder)
        self._has_file = True
        with open(fd, "wb") as file:
            file.write(_owner(os.getpid()))

    def _take_over(self) -> None:
        """Removes the lock file of a process that is gone.

        The file is renamed first: if a new process has made another one since the check, the rename
        shows that, and the new file gets its name back.
        """
        number = _read(self._folder)
        aside = f"{LOCK_NAME}-{os.getpid()}"
        os.rename(LOCK_NAME, aside, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        if os.lstat(aside, dir_fd=self._folder).st_ino != number:
            os.rename(aside, LOCK_NAME, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            raise MachineError("another restore is writing into this output folder")
        os.unlink(aside, dir_fd=self._folder)


def _flock(folder: int) -> bool:
    """Locks the folder; returns False where that is not possible. Raises as `FolderLock`."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MachineError("another restore is writing into this output folder") from None
    except OSError:
        return False
    return True


def _owner(process: int) -> bytes:
    """Gives a text that identifies a process: its number, machine, boot and number space."""
    marks = [socket.gethostname()]
    with contextlib.suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            marks.append(file.read().strip())
        marks.append(os.readlink("/proc/self/ns/pid"))
    return f"{process} {' '.join(marks)}\n".encode()


def _read(folder: int) -> int:
    """Gives the inode of a lock file whose process is gone. Raises MachineError for any other."""
    state = os.lstat(LOCK_NAME, dir_fd=folder)
    text = b""
    if stat.S_ISREG(state.st_mode):
        fd = os.open(LOCK_NAME, os.O_RDONLY | OLD_FILE, dir_fd=folder)
        with open(fd, "rb") as file:
            text = file.read(_LIMIT)
    number = text.split(b" ")[0]
    if number.isdigit() and len(number) < 12 and text == _owner(int(number)):
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return state.st_ino
        except OSError:
            pass
    holder = display(decode(text[:100].strip())) or "no process"
    raise MachineError(
        f"another restore is writing into this output folder (its {LOCK_NAME} names {holder});"
        " if there is none, remove that file"
    )
