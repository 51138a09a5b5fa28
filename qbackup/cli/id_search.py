"""Search for a lost backup id on the command line: its cost first, then how far it is."""

from __future__ import annotations

import sys
import time

from qbackup.base.errors import BackupIdUnknown
from qbackup.base.names import display
from qbackup.cli import output
from qbackup.cli.progress import human_time

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from qbackup.archive.archive import BackupArchive
    from qbackup.archive.passphrase import Passphrase
    from qbackup.archive.unlock.id_search import IdSearchProgress

_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 60.0
_DAY = 24 * 3600
_FAULT_ADVICE = (
    "the window may be too narrow (seconds, process numbers, or the time in the file's name), or"
    " the passphrase wrong: nothing else can tell"
)


def find_id(archive: BackupArchive, passphrase: Passphrase, window: str, *, quiet: bool) -> None:
    """Searches for the id, and prints it.

    Raises:
        BackupIdUnknown: no id of the window fits.
        UsageError: the window makes no sense.
    """
    display_ = SearchDisplay(quiet=quiet)
    try:
        found = archive.find_backup_id(passphrase, window, progress=display_)
    except BaseException:  # Ctrl-C too
        display_.stop()
        raise
    display_.clear()
    if found is None:
        error = BackupIdUnknown(f"none of {display_.total} ids of the window fits")
        error.advice = _FAULT_ADVICE
        raise error
    output.print_message(
        f"the backup's id is {display(found)}. Keep it: with --backup-id {display(found)} it is"
        " never searched for again"
    )


class SearchDisplay:
    """Display of a search on standard error. Callable, as the library wants it.

    Args:
        quiet: show only what the user needs to go on later.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._state: IdSearchProgress | None = None
        self._is_estimated = False
        self._next = 0.0

    @property
    def total(self) -> int:
        """Number of ids in the window, after the search has begun."""
        return self._state.total if self._state is not None else 0

    def __call__(self, state: IdSearchProgress) -> None:
        """Shows this state, if the last time is long enough ago."""
        is_first, self._state = self._state is None, state
        if is_first and not self._quiet:
            output.print_message(
                f"searching for the backup's id: {state.total} ids, {state.window}; each takes one"
                f" key ({state.parameters}). Ctrl-C ends the search and says how to go on"
            )
        if not self._is_estimated and state.seconds_left is not None:
            self._is_estimated = True
            self._next = time.monotonic() + _LOG_SECONDS
            if not self._quiet:
                self.clear()
                output.print_message(_estimate(state))
        now = time.monotonic()
        if self._quiet or now < self._next or not (self._terminal or self._is_estimated):
            return
        self._next = now + (_TERMINAL_SECONDS if self._terminal else _LOG_SECONDS)
        if self._terminal:
            output.replace_line(sys.stderr, _line(state))
        else:
            output.print_message(_line(state))

    def clear(self) -> None:
        """Clears the line, so that other text can be shown."""
        if self._terminal and self._state is not None and not self._quiet:
            output.replace_line(sys.stderr, "")

    def stop(self) -> None:
        """Says how to go on, if ids were tried."""
        if self._state is not None:
            self.clear()
            output.print_message(
                f"stopped after {self._state.tried} of {self._state.total} ids; to go on from"
                f" there: --backup-id-window {self._state.rest}"
            )


def duration(seconds: float) -> str:
    """Time in words that fit its length: seconds, hours, days or years."""
    if seconds < 2 * 3600:
        return human_time(seconds)
    if seconds < 2 * _DAY:
        return f"{seconds / 3600:.0f} hours"
    if seconds < 2 * 365 * _DAY:
        return f"{seconds / _DAY:.0f} days"
    return f"{seconds / _DAY / 365:.0f} years"


def _estimate(state: IdSearchProgress) -> str:
    return (
        f"this machine tries {state.per_second or 0:.3g} ids a second: all of them take"
        f" {duration(state.seconds_left or 0)} at most. A narrower window (SECONDS,PID-PID,TIME), a"
        " faster machine, or the extra turbo make it shorter"
    )


def _line(state: IdSearchProgress) -> str:
    left = "" if state.seconds_left is None else f", {duration(state.seconds_left)} left at most"
    return f"{state.tried} of {state.total} ids tried{left}"
