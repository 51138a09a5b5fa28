"""Signals that end the program by exceptions, so that every half-written file is removed."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_UNWINDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_BURST_SECONDS = 1.0
_AGAIN_SECONDS = 0.01


class Terminated(BaseException):
    """SIGTERM or SIGHUP asked the program to end. Unwinds like KeyboardInterrupt.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Handler:
    """Raises for the first signal of a burst.

    Ctrl-C is often pressed again and again, which must not interrupt the unwinding nor end it in a
    traceback. A later signal counts again, in case the first was in vain.

    Python drops an exception that is raised where it has no caller, as in the callbacks of its
    import locks. Python then calls `lost`, and an alarm raises the exception again.
    """

    def __init__(self) -> None:
        self._next = float("-inf")
        self._number: int = signal.SIGINT

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _BURST_SECONDS
        self._number = number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(number)

    def lost(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Has a dropped exception raised again soon; the hook `sys.unraisablehook`."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt | Terminated):
            self._next = float("-inf")
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        else:
            sys.__unraisablehook__(unraisable)

    def again(self, number: int, frame: FrameType | None) -> None:
        """Raises the exception again; the alarm's handler."""
        self(self._number, frame)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Makes the signals of `unwinding` wait until the end of this context, which must be short.

    Outside the main thread nothing changes, as signals are handled in that one.
    """
    came: list[tuple[int, FrameType | None]] = []
    before: dict[int, _Handler] = {}

    def wait(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))

    try:
        with contextlib.suppress(ValueError):
            for number in _UNWINDING:
                handler = signal.getsignal(number)
                if isinstance(handler, _Handler):
                    signal.signal(number, wait)
                    before[number] = handler
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in came:
        before[number](number, frame)


@contextlib.contextmanager
def unwinding(*, is_program: bool) -> Iterator[None]:
    """Makes the signals raise within this context, but not those that were ignored before.

    Outside the main thread nothing changes, as signals there belong to another program.

    Args:
        is_program: the whole program ends after this context, so nothing is unwound any more;
            otherwise the earlier handlers come back.
    """
    before = {}
    handler = _Handler()
    try:
        for number in _UNWINDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
        if is_program:
            signal.signal(signal.SIGALRM, handler.again)
            sys.unraisablehook = handler.lost
    except ValueError:
        before.clear()
    try:
        yield
    finally:
        if is_program:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
            sys.unraisablehook = _report_unless_late
        for number, old in before.items():
            signal.signal(number, _at_the_end(number) if is_program or old is None else old)


def _at_the_end(number: int) -> signal.Handlers:
    """The handler while the program ends: Ctrl-C is ignored, other signals end it at once."""
    return signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL


def _report_unless_late(unraisable: sys.UnraisableHookArgs) -> None:
    """Drops the OSError that Python shows for a signal that comes while it is being ignored."""
    if not isinstance(unraisable.exc_value, OSError):
        sys.__unraisablehook__(unraisable)
