"""How threads are started here: as daemons, and with all at hand that they need to end."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import threading
from collections.abc import Callable

from qbackup.errors import MachineError


def start_daemon(target: Callable[[], None], name: str) -> None:
    """Starts a thread that the end of the program does not wait for.

    Raises:
        MachineError: the machine has no memory for one, or allows no more.
    """
    try:
        _load_what_ends_threads()
        threading.Thread(target=target, name=name, daemon=True).start()
    except (RuntimeError, MemoryError) as error:
        raise MachineError("this machine can't start a thread") from error


@functools.cache
def _load_what_ends_threads() -> None:
    """The interpreter ends daemons by pthread_exit, for which glibc loads libgcc, only then.

    Where memory has run out by that time it aborts the process instead, with a core dump.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a system that has no glibc does without
            ctypes.CDLL("libgcc_s.so.1")
