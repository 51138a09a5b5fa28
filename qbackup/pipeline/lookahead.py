"""`Demand`: the wishes of a session's caller, which bound how far the session looks ahead."""

from __future__ import annotations

import threading


class Demand:
    """The wishes of a session's caller, as the threads of the session ask for them.

    Args:
        changed: the session's condition, notified of every change.
        window: chunks looked ahead.
        eager: look ahead from the start; else only as far as the caller reads on.

    Attributes:
        closed: the session was closed, so nothing is wanted any more.
        unwanted: number of the last file that the caller is done with.
    """

    def __init__(self, changed: threading.Condition, window: int, *, eager: bool) -> None:
        self.closed = False
        self.unwanted = -1
        self._changed = changed
        self._window = window
        self._eager = eager
        self._outstanding = 0  # chunks prepared and neither given to the caller nor dropped
        self._asked = 0  # events that the caller has asked for
        self._is_waiting = False  # True while the caller waits for the last of these events

    def is_wanted(self, number: int) -> bool:
        """Tells if the caller may still read the file of this number."""
        return not self.closed and number > self.unwanted

    def ask(self) -> None:
        """Notes that the caller waits for one more event."""
        with self._changed:
            self._asked += 1
            self._is_waiting = True
            self._changed.notify_all()

    def answer(self) -> None:
        """Notes that the caller has received the awaited event."""
        self._is_waiting = False

    def wait_for_turn(self, number: int) -> None:
        """Waits until the next chunk is near enough to the caller's position."""
        with self._changed:
            while self.is_wanted(number) and self._outstanding >= self._reach():
                self._changed.wait()
            self._outstanding += 1

    def _reach(self) -> int:
        """Counts the chunks that may be outstanding now."""
        ahead = self._window if self._eager else min(self._window, 2 * max(0, self._asked - 1))
        return ahead + self._is_waiting

    def settle(self) -> None:
        """Notes that a chunk is not outstanding any more."""
        with self._changed:
            self._outstanding -= 1
            self._changed.notify_all()

    def give_up(self, number: int) -> None:
        """Notes that the caller is done with files up to this number."""
        with self._changed:
            self.unwanted = number
            self._changed.notify_all()
