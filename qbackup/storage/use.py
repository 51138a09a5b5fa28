"""`Use`: a file in use by several threads, closed when the last one is done."""

from __future__ import annotations

from typing import Protocol

from qbackup.base.errors import Interrupted
from qbackup.base.locks import Lock

CLOSED = "the backup's file was closed"


class Closable(Protocol):
    """Object that can be closed."""

    def close(self) -> None: ...  # noqa: D102


class Use:
    """A file in use, which is closed when nobody reads it any more.

    If the file were closed during a read, the read could go to another file that is opened next
    with the same descriptor. Waiting for the read would hang on a dying disk or an idle pipe.
    """

    def __init__(self, file: Closable, *, owned: bool) -> None:
        self._file = file
        self._owned = owned
        self._lock = Lock()
        self._readers = 0
        self._closed = False

    def __enter__(self) -> None:
        with self._lock:
            if self._closed:
                raise Interrupted(CLOSED)
            self._readers += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._readers -= 1
            self._close_if_idle()

    def close(self) -> None:
        """Refuses further reads; closes the file if this package opened it."""
        with self._lock:
            self._closed = True
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._closed and self._owned and not self._readers:
            self._file.close()
