"""How threads are started here: as daemons, and with all at hand that they need to end."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import sys
import threading
from collections.abc import Callable

from qbackup.base.errors import MachineError

# A signal that comes between the last look for signals and the wait is only seen when the
# wait ends, so no wait of a caller's thread may be longer than this.
SIGNAL_SECONDS = 0.2

_ROOM = 16 * 1024**2  # a stack, as systems commonly have them, and what a thread begins with


def start_daemon(target: Callable[[], None], name: str) -> None:
    """Starts a thread that the end of the program does not wait for.

    Raises:
        MachineError: the machine has no memory for one, or allows no more.
    """
    try:
        _load_what_ends_threads()
        _look_for_room()
        threading.Thread(target=target, name=name, daemon=True).start()
    except (RuntimeError, MemoryError, OSError) as error:
        raise MachineError("this machine can't start a thread") from error


def _look_for_room() -> None:
    """A thread that has no memory to begin with would be waited for without end."""
    mmap.mmap(-1, _ROOM).close()


@functools.cache
def _load_what_ends_threads() -> None:
    """The interpreter ends daemons by pthread_exit, for which glibc loads libgcc, only then.

    Where memory has run out by that time it aborts the process instead, with a core dump.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a system that has no glibc does without
            ctypes.CDLL("libgcc_s.so.1")
