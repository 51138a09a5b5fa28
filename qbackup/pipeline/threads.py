"""Start of threads: as daemons, and with everything loaded that a thread needs to end."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import sys
import threading
from collections.abc import Callable

from qbackup.base.errors import MachineError

# A signal that comes between the last check for signals and the wait is only noticed when the
# wait ends, so no wait of a caller's thread may be longer than this.
SIGNAL_SECONDS = 0.2

BEHIND = "qbackup-behind"  # name of a thread that writes what its caller's thread inflates

_ROOM = 16 * 1024**2  # bytes for a stack of common size, and for a thread's first objects


def start_daemon(target: Callable[[], None], name: str) -> None:
    """Starts a thread that the end of the program does not wait for.

    Raises:
        MachineError: the machine has no memory for a thread, or allows no more threads.
    """
    try:
        _load_what_ends_threads()
        _look_for_room()
        threading.Thread(target=target, name=name, daemon=True).start()
    except (RuntimeError, MemoryError, OSError) as error:
        raise MachineError("this machine can't start a thread") from error


def _look_for_room() -> None:
    """Checks that there is memory for a thread; without it, `start` would wait for ever."""
    mmap.mmap(-1, _ROOM).close()


@functools.cache
def _load_what_ends_threads() -> None:
    """Loads libgcc, which glibc otherwise loads only when a thread ends.

    The interpreter ends daemons by pthread_exit, which needs libgcc. If memory has run out by
    then, glibc aborts the process with a core dump.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a system without glibc does not need libgcc
            ctypes.CDLL("libgcc_s.so.1")
