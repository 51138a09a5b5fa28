"""`SecondTries`: one more read and derivation for each chunk before the chunk counts as lost.

Memory with a weak bit, a bad cable or an overheated drive damages other bytes in each run. Such a
fault passes, so a second read and derivation give the right bytes, which the MAC proves. The
second try uses nothing of the first one.

A chunk that is really damaged costs its second try in vain. A damaged backup may have many such
chunks, and a hostile one a million. Therefore the tries in vain are bounded: a few, and one more
for each `_SHARE` chunks that were good.
"""

from __future__ import annotations

from collections.abc import Callable

from qbackup.base.errors import ChunkDamaged, QBackupError
from qbackup.base.locks import Lock
from qbackup.base.names import display

# Called with a key and a warning; takes the place of an earlier warning with the same key.
Note = Callable[[str, str], None]

_FREE_TRIES = 8  # in vain, of one archive
_SHARE = 16  # chunks that were good, for each further try in vain: 6 % of the time at most
_NAMED = 3  # chunks in the warning
_KEY = "second tries"


class SecondTries:
    """Count of the second tries of one archive, and what they have shown.

    Args:
        note: called with the warning when a second try was right.
    """

    def __init__(self, note: Note) -> None:
        self._note = note
        self._lock = Lock()
        self._good = 0
        self._vain = 0
        self._named: list[str] = []
        self._count = 0

    def may_try(self, error: QBackupError) -> bool:
        """Tells if a chunk that failed with this error is worth a second try now.

        A read that the drive refused was repeated already, and a limit does not pass.
        """
        if not (isinstance(error, ChunkDamaged) and error.is_unproven):
            return False
        with self._lock:
            return self._vain < _FREE_TRIES + self._good // _SHARE

    def was_good(self) -> None:
        """Counts a chunk that was good at the first try."""
        with self._lock:
            self._good += 1

    def was_in_vain(self) -> None:
        """Counts a second try that failed too."""
        with self._lock:
            self._vain += 1

    def was_right(self, chunk: str) -> None:
        """Counts a chunk that was right at the second try, and warns of the machine."""
        with self._lock:
            self._count += 1
            if len(self._named) < _NAMED:
                self._named.append(display(chunk))
            more = self._count - len(self._named)
            names = ", ".join(self._named) + (f" and {more} more" if more else "")
            self._note(
                _KEY,
                f"{names}: wrong when read the first time, right and verified the second time. The"
                " backup is good there, but this machine or the drive makes mistakes: test the"
                " memory (e.g. with memtest86+), try another cable or port, and trust nothing that"
                " this machine writes until then",
            )
