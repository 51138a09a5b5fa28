"""Search for a backup's id where neither its header nor the copy of that is left.

Each try is one derivation, of the key of one chunk: the head of a chunk fits the key of its own
backup's id only. The chunk that costs least is used. The keys come from the pipeline, side by side
as in a restore; how fast they come shows in the first ones, which are a part of the search.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import NamedTuple

from qbackup.archive.unlock.id_window import IdWindow, time_in_name
from qbackup.base.errors import FILE_ERRORS, Damaged, MachineError, UnsupportedFormat, UsageError
from qbackup.base.limits import Limits
from qbackup.base.names import METADATA_PATH
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats.header import header_for_id
from qbackup.formats.protocol import Format, SealedChunk
from qbackup.pipeline.key_request import KeyFuture
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.chunk import StoredChunk
from qbackup.storage.source import Source
from qbackup.storage.tar.fields import BLOCK_SIZE, check_block, parse_number

_CANDIDATES_LIMIT = 1000  # chunks whose heads are read to find a cheap one
_MTIME = slice(136, 148)  # of a tar header
_DELAY_SECONDS = 5  # from a backup's begin until the first chunk is stored
_INTERVAL_SECONDS = 2.0
_STEADY = 0.12  # part by which two intervals in a row may differ
_PATIENCE_SECONDS = 120.0  # after that two intervals need not agree
_WEIGHT = 0.5  # of a new interval


@dataclass(frozen=True, kw_only=True)
class IdSearchProgress:
    """State of a search.

    Args:
        tried: ids that were tried, those of earlier runs too.
        total: ids in the window.
        per_second: ids a second on this machine; None until that is measured.
        parameters: scrypt parameters of each try.
        window: the window, with its time; as text it names the search.
    """

    tried: int
    total: int
    per_second: float | None
    parameters: ScryptParameters
    window: IdWindow

    @property
    def seconds_left(self) -> float | None:
        """Time until all ids are tried; None until that is known."""
        return None if not self.per_second else (self.total - self.tried) / self.per_second

    @property
    def rest(self) -> str:
        """The window's text that goes on from here."""
        return str(replace(self.window, start=self.tried))


@dataclass(frozen=True, kw_only=True)
class IdSearch:
    """Search for the id under which a chunk's head fits the passphrase.

    Args:
        format_: whose chunks name their backup.
        chunk: a chunk of the backup.
        passphrase: the backup's.
        limits: bounds on a derivation.
        pipeline: derives the keys.
    """

    format_: Format
    chunk: StoredChunk
    passphrase: bytes = field(repr=False)
    limits: Limits
    pipeline: Pipeline

    def run(self, window: IdWindow, progress: Callable[[IdSearchProgress], None]) -> str | None:
        """Tries the ids of a window; None if none fits.

        Args:
            window: with its time.
            progress: called after each try.

        Raises:
            MachineError: this machine can't derive the keys.
            Damaged, LimitExceeded: the chunk can't be used.
        """
        head = self.chunk.read_head(self.format_.head_size)
        cost = self.format_.parameters(head)
        if cost is None:
            raise UsageError("backups of this format have no id")
        total = window.size
        self.pipeline.expect_keys(cost, max(0, total - window.start))
        clock = _Clock(self.pipeline, cost, total - window.start)
        waiting: deque[_Try] = deque()
        ids = map(window.id_at, range(window.start, total))
        tried = window.start
        try:
            while True:
                with self.pipeline.more_to_come():
                    for id_ in islice(ids, self.pipeline.lookahead - len(waiting)):
                        waiting.append(self._start(id_, head))
                if not waiting:
                    return None
                current = waiting.popleft()
                if current.sealed.accepts(current.future.wait()):
                    return current.id
                tried += 1
                rate = clock.tick()
                progress(
                    IdSearchProgress(
                        tried=tried, total=total, per_second=rate, parameters=cost, window=window
                    )
                )
        finally:
            for current in waiting:
                current.future.cancel()

    def _start(self, id_: str, head: bytes) -> _Try:
        header = header_for_id(self.format_.version, id_)
        unlocked = self.format_.unlock(header, self.passphrase, self.limits)
        sealed = unlocked.file().parse_head(self.chunk.name, self.chunk.index, head)
        if sealed.derivation is None:
            raise UsageError("backups of this format have no id")
        return _Try(id_, sealed, self.pipeline.request(sealed.derivation))


class _Try(NamedTuple):
    """An id whose key was asked for."""

    id: str
    sealed: SealedChunk
    future: KeyFuture


class _Clock:
    """Measurement of keys a second, once they come steadily.

    The first keys are slow: libraries are loaded, memory is asked for, and the lane kernel is
    compiled. So two intervals must agree, and the kernel be in use where one is expected.
    """

    def __init__(self, pipeline: Pipeline, parameters: ScryptParameters, count: int) -> None:
        lanes = pipeline.lanes_of_pass(parameters, count)
        self._pipeline = pipeline
        self._awaits_kernel = lanes > 0
        self._round = pipeline.jobs * max(1, lanes // parameters.p)  # keys that come together
        self._begin = time.perf_counter()
        self._mark: tuple[float, int] | None = None  # begin of the interval: time and count
        self._count = 0
        self._last = 0.0
        self._rate: float | None = None

    def tick(self) -> float | None:
        """Counts a key; gives keys a second, None until that is known."""
        self._count += 1
        if self._count % self._round:
            return self._rate
        now = time.perf_counter()
        is_late = now - self._begin > _PATIENCE_SECONDS
        if self._awaits_kernel and not self._pipeline.has_kernel and not is_late:
            self._mark = None
        elif self._mark is None:
            self._mark = now, self._count
        elif now - self._mark[0] >= _INTERVAL_SECONDS:
            self._take((self._count - self._mark[1]) / (now - self._mark[0]), is_late=is_late)
            self._mark = now, self._count
        return self._rate

    def _take(self, rate: float, *, is_late: bool) -> None:
        """Takes the rate of an interval."""
        if self._rate is not None:
            self._rate += (rate - self._rate) * _WEIGHT
        elif self._last and (is_late or abs(rate - self._last) <= _STEADY * max(rate, self._last)):
            self._rate = rate if is_late else (rate + self._last) / 2
        self._last = rate


def cheapest(chunks: Iterable[StoredChunk], format_: Format, limits: Limits) -> StoredChunk:
    """Chooses the chunk whose key costs least.

    Among equals one of a qube comes first: one writer bound those of ``qubes.xml`` to another name.

    Raises:
        UnsupportedFormat: there is no chunk that can be used.
    """
    best: tuple[int, bool, int] | None = None
    chosen: StoredChunk | None = None
    for number, chunk in enumerate(islice(chunks, _CANDIDATES_LIMIT)):
        try:
            parameters = format_.parameters(chunk.read_head(format_.head_size))
            if parameters is None:
                continue
            header = header_for_id(format_.version, "1")
            format_.unlock(header, b"", limits).file().parse_head(
                chunk.name, chunk.index, chunk.read_head(format_.head_size)
            )
        except FILE_ERRORS:
            continue
        rank = parameters.work, chunk.name.startswith(f"{METADATA_PATH}."), number
        if best is None or rank < best:
            best, chosen = rank, chunk
    if chosen is None:
        raise UnsupportedFormat("no chunk has a head that ids can be tried on")
    return chosen


def with_time(
    window: IdWindow, name: str, chunks: Iterable[StoredChunk], source: Source
) -> IdWindow:
    """Gives the window a time, if it has none: from the file's name, else from the members' times.

    Args:
        window: that the caller asked for.
        name: of the backup's file.
        chunks: in the archive's order.
        source: of the backup's bytes.

    Raises:
        UsageError: there is no time to begin with.
    """
    if window.time is not None:
        return window
    if named := time_in_name(name):
        return replace(window, time=named, is_utc=False)
    times = [t for t in (_stored_time(c, source) for c in islice(chunks, 100)) if t is not None]
    if not times:
        raise UsageError(
            "neither the file's name nor a member says when the backup was made: name a time, as in"
            " 60,1000-4000,20240917T101112"
        )
    first = times[0]  # later ones may be of an older backup, whose remains lie behind this one
    here = first.astimezone().utcoffset() or timedelta()
    return replace(
        window,
        time=(first - timedelta(seconds=_DELAY_SECONDS)).replace(tzinfo=None),
        is_utc=True,
        zone=round(here.total_seconds() / 60),
    )


def _stored_time(chunk: StoredChunk, source: Source) -> datetime | None:
    """Reads the time in a member's tar header, which anybody could have written."""
    block = bytearray(BLOCK_SIZE)
    try:
        source.read_into(max(0, chunk.offset - BLOCK_SIZE), memoryview(block))
        check_block(bytes(block))
        seconds = parse_number(bytes(block[_MTIME]))
        return datetime.fromtimestamp(seconds, timezone.utc) if seconds else None
    except (Damaged, MachineError, OverflowError, ValueError, OSError):
        return None
