"""Progress on standard error: on a terminal a line that changes, elsewhere a line now and then."""

from __future__ import annotations

import time
from typing import Protocol, TextIO

from qbackup.base.report import Progress
from qbackup.cli.output import encodable, replace_line, write_message

_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 10.0


def human_size(size: float) -> str:
    """Bytes in people's units: ``1.2 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def human_time(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class ShowsProgress(Protocol):
    """A display of how far a restore is."""

    def __call__(self, progress: Progress) -> None:
        """Shows this state, at once or soon."""
        ...

    def clear(self) -> None:
        """Takes the display away, so that other text can be shown."""
        ...


class ProgressLine:
    """A line that shows how far a restore is. Callable, as the library wants it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._start = time.monotonic()
        self._next = self._start + (0 if self._terminal else _LOG_SECONDS)
        self._shown = False
        self._file = ""

    def __call__(self, progress: Progress) -> None:
        """Shows this state, if the last time is long enough ago.

        On a terminal also when a file begins, as its first chunk may take long.
        """
        now = time.monotonic()
        begins = self._terminal and progress.file != self._file
        if now < self._next and not begins:
            return
        self._file = progress.file
        self._next = now + (_TERMINAL_SECONDS if self._terminal else _LOG_SECONDS)
        text = describe(progress, now - self._start)
        if self._terminal:
            replace_line(self._stream, text)
        else:
            write_message(self._stream, encodable(self._stream, f"{text}\n"))
        self._shown = self._terminal

    def clear(self) -> None:
        """Clears the line, so that other text can be shown."""
        if self._shown:
            replace_line(self._stream, "")
            self._shown = False


def describe_rate(progress: Progress, seconds: float) -> str:
    """Bytes, rate and time left, in one line."""
    rate = progress.done / seconds if seconds > 0 else 0.0
    done, speed = human_size(progress.done), f"{human_size(rate)}/s"
    if not progress.total:
        return f"{done}  {speed}"
    left = human_time((progress.total - progress.done) / rate) if rate else "-:--"
    return f"{done} of {human_size(progress.total)}  {speed}  {left} left"


def describe(progress: Progress, seconds: float) -> str:
    """Bytes, percent, rate, time left and the file under way, in one line."""
    share = f"{100 * progress.done / progress.total:3.0f} %  " if progress.total else ""
    return f"{share}{describe_rate(progress, seconds)}  {progress.file}"
