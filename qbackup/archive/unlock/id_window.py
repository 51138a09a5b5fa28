"""`IdWindow`: the backup ids to try where nothing names the id, in a fixed order.

Format 4's id is ``YYYYMMDDTHHMMSS-PID``: the local time at which the backup began, and the number
of the process that made it. The name of the file has the local time, too; a member's time is UTC,
so the zones of the world are tried one after the other. Fact: QubesOS/qubes-core-admin
``qubes/backup.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from qbackup.base.errors import UsageError
from qbackup.base.names import display

_TIME_FORM = "%Y%m%dT%H%M%S"
_NAMED_TIME = re.compile(
    r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)[T_ -]?(\d\d)[:-]?(\d\d)[:-]?(\d\d)(?!\d)", re.ASCII
)
_SECONDS = re.compile(r"(\d{1,8})s?", re.ASCII)
_PIDS = re.compile(r"(\d{1,7})-(\d{1,7})", re.ASCII)
_TIME = re.compile(r"(\d{8}T\d{6})(Z?)", re.ASCII)
_ZONE = re.compile(r"([+-])(\d\d)(\d\d)", re.ASCII)
_START = re.compile(r"from=(\d{1,15})", re.ASCII)
_SECONDS_LIMIT = 366 * 24 * 3600
_PID_LIMIT = 1 << 22  # Linux' own
_FORM = (
    "a window is written as SECONDS[,PID-PID][,TIME], for example 60,1000-4000 or"
    " 60,1000-4000,20240917T101112"
)
# Minutes east of UTC, those of most people first; no zone of today has other quarters of an hour.
_WHOLE_HOURS = (0, 1, 2, -5, -4, -6, -7, -8, 3, 8, 9, 10, 7, 11, 12, 13, -3, 4, 5, 6, -9, -10)
_RARE_HOURS = (-2, -1, -11, 14, -12)
_PARTS = (330, 570, 630, 210, 270, 390, -210, -150, 345, 525, 765, 825, -570)
ZONES = (*(hours * 60 for hours in (*_WHOLE_HOURS, *_RARE_HOURS)), *_PARTS)


def time_in_name(name: str) -> datetime | None:
    """Finds the time in a file's name, as in ``qubes-2024-09-17T101112``; None if there is none."""
    for match in _NAMED_TIME.finditer(name):
        try:
            return datetime.strptime("".join(match.groups()), "%Y%m%d%H%M%S")
        except ValueError:
            continue
    return None


@dataclass(frozen=True, kw_only=True)
class IdWindow:
    """Window of times and process numbers.

    Args:
        seconds: on each side of the time.
        first_pid: the smallest number to try.
        last_pid: the largest.
        time: the middle; None: not known yet.
        is_utc: the time is UTC, so local times of all zones are tried.
        zone: minutes east of UTC of the zone to try first.
        start: number of ids that were tried before.
    """

    seconds: int = 60
    first_pid: int = 300  # the daemon that makes backups starts with the system
    last_pid: int = 32_768
    time: datetime | None = None
    is_utc: bool = False
    zone: int = 0
    start: int = 0

    @classmethod
    def parse(cls, text: str) -> IdWindow:
        """Parses the form that `str` gives. Parts may be left out, and come in any order.

        Raises:
            UsageError: the text is no window.
        """
        window = cls()
        for part in filter(None, (part.strip() for part in text.split(","))):
            window = window._with(part)
        if window.first_pid > window.last_pid or window.last_pid > _PID_LIMIT:
            raise UsageError(
                f"{window.first_pid}-{window.last_pid} are no process numbers; {_FORM}"
            )
        if window.seconds > _SECONDS_LIMIT:
            raise UsageError("a window has a year on each side at most")
        return window

    def _with(self, part: str) -> IdWindow:
        if match := _PIDS.fullmatch(part):
            return replace(self, first_pid=int(match[1]), last_pid=int(match[2]))
        if match := _SECONDS.fullmatch(part):
            return replace(self, seconds=int(match[1]))
        if match := _ZONE.fullmatch(part):
            minutes = int(match[2]) * 60 + int(match[3])
            return replace(self, zone=-minutes if match[1] == "-" else minutes)
        if match := _START.fullmatch(part):
            return replace(self, start=int(match[1]))
        if match := _TIME.fullmatch(part):
            try:
                time = datetime.strptime(match[1], _TIME_FORM)
            except ValueError:
                raise UsageError(f"{match[1]} is no time; {_FORM}") from None
            return replace(self, time=time, is_utc=bool(match[2]))
        raise UsageError(f"{display(part[:80])} is no part of a window; {_FORM}")

    def __str__(self) -> str:
        parts = [str(self.seconds), f"{self.first_pid}-{self.last_pid}"]
        if self.time is not None:
            parts.append(self.time.strftime(_TIME_FORM) + ("Z" if self.is_utc else ""))
        if self.is_utc:
            hours, minutes = divmod(abs(self.zone), 60)
            parts.append(f"{'-' if self.zone < 0 else '+'}{hours:02d}{minutes:02d}")
        if self.start:
            parts.append(f"from={self.start}")
        return ",".join(parts)

    @property
    def zones(self) -> tuple[int, ...]:
        """Zones in the order in which they are tried; summer and winter time come together."""
        if not self.is_utc:
            return (0,)
        near = (self.zone, self.zone + 60, self.zone - 60)
        return tuple(dict.fromkeys((*near, *ZONES)))

    @property
    def size(self) -> int:
        """Number of ids in the window."""
        return len(self.zones) * self._times * self._pids

    @property
    def _times(self) -> int:
        return 2 * self.seconds + 1

    @property
    def _pids(self) -> int:
        return self.last_pid - self.first_pid + 1

    def id_at(self, number: int) -> str:
        """Gives an id by its place in the order: zones, then times from the middle out, then PIDs.

        Raises:
            UsageError: the window has no time.
        """
        if self.time is None:
            raise UsageError(f"the window has no time; {_FORM}")
        rest, pid = divmod(number, self._pids)
        zone, step = divmod(rest, self._times)
        seconds = (step + 1) // 2 * (1 if step % 2 else -1)
        shift = timedelta(minutes=self.zones[zone], seconds=seconds)
        try:
            moment = self.time + shift
        except OverflowError:
            moment = self.time
        return f"{moment.strftime(_TIME_FORM)}-{self.first_pid + pid}"
