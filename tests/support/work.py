"""Work as a number of calls, the same on every machine, however busy: no test reads a clock."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class TooMuchWork(BaseException):
    """More calls than were allowed; no `except Exception` of the product takes it away."""


@contextlib.contextmanager
def at_most(calls: int) -> Iterator[None]:
    """Ends what this thread does in the context after so many calls. Those of threads that were
    started meanwhile count too.

    Calls of functions in C count as well. A million of them are about a second of CPU time.

    Raises:
        TooMuchWork: at the first call too many, so that an endless loop ends at once.
    """
    made, here = 0, threading.get_ident()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal made
        made += event in ("call", "c_call")
        if made > calls and threading.get_ident() == here:
            sys.setprofile(None)
            raise TooMuchWork(f"more than {calls} calls")

    sys.setprofile(count)
    threading.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
