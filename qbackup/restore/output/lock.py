"""Lock of an output folder, so that only one restore at a time writes there.

The lock is on the folder itself (`flock`): such a lock can't be planted, replaced or left behind,
and the system releases it when the process ends in any way. Some network file systems have no such
locks. There nothing keeps two restores apart, and the caller warns of that.

Earlier versions made a file ``.qbackup-lock`` instead. Such a file means nothing any more, and is
left alone.
"""

from __future__ import annotations

from qbackup.base.errors import MachineError
from qbackup.restore.output.disk_calls import lock, unlock


class FolderLock:
    """Lock of one folder, held until `release`, or until the process ends.

    Args:
        folder: descriptor of the output folder; to be closed after `release`.

    Attributes:
        is_held: False where the file system or the platform has no such locks.

    Raises:
        MachineError: another restore holds the lock.
    """

    def __init__(self, folder: int) -> None:
        self._folder = folder
        try:
            self.is_held = lock(folder)
        except BlockingIOError:
            raise MachineError("another restore is writing into this output folder") from None

    def release(self) -> None:
        """Releases the lock, also while a thread that ends late has the folder open."""
        unlock(self._folder)
