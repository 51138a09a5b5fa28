"""Signals that end the program: they unwind it, so that every half-written file is removed."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

# Those that end a program politely and that Python leaves alone; SIGINT is KeyboardInterrupt.
_UNWINDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(BaseException):
    """A signal asks the program to end. Unwinds like KeyboardInterrupt.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(number)


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Within this context the signals raise Terminated, but not those that were ignored before.

    Outside the main thread nothing changes: somebody else's program, somebody else's signals.
    """
    before = {}
    try:
        for number in _UNWINDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _unwind)
    except ValueError:
        before.clear()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore() -> None:
    """For a program that is ending: a second Ctrl-C must not end in a traceback."""
    with contextlib.suppress(ValueError):
        for number in (signal.SIGINT, *_UNWINDING):
            signal.signal(number, signal.SIG_IGN)
