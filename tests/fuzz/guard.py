"""What one input may cost.

Time is CPU time, of all threads: an input is not slow because the machine is busy or stands still.
"""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

CPU_SECONDS = 1.0
MIB = 1 << 20
MEMORY_MIB = 64  # besides what a decompressor may have
_ADDRESSES_MIB = 1024  # threads and arenas reserve more than they use


class TooSlow(BaseException):
    """One input took more than its second. No Exception, so that nobody takes it for one."""


class TooLarge(Exception):
    """One input took more memory than stated."""


def _too_slow(*_: object) -> None:
    raise TooSlow


@contextlib.contextmanager
def one_second() -> Iterator[None]:
    """Raises `TooSlow` in what takes longer."""
    before = signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Memory:
    """Watches this process's highest use of memory: a step of it belongs to one input."""

    def __init__(self, allowed_mib: int) -> None:
        self._allowed_kib = allowed_mib * 1024
        self._peak_kib = _peak_kib()
        _limit_addresses()

    def check(self) -> None:
        """Raises `TooLarge` if the last input took more than allowed."""
        peak = _peak_kib()
        step, self._peak_kib = peak - self._peak_kib, peak
        if step > self._allowed_kib:
            raise TooLarge(f"{step} KiB")


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _limit_addresses() -> None:
    """A size that the input made up is then a `MemoryError`, be it touched or not."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + _ADDRESSES_MIB * MIB
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
