"""What came of a restore or a verification, file by file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qbackup.base.advice import ARCHIVE_DAMAGED, DAMAGED

Status = Literal["ok", "damaged", "limit", "missing", "kept", "exists"]
RangeState = Literal["good", "lost", "zero-filled"]
GOOD: tuple[Status, ...] = ("ok", "kept")
_KEPT = (
    "try another copy of the backup; of what was kept as NAME.damaged, mount or repair a copy only"
)
_SALVAGED = "another copy of the backup may have what is lost of this one"
_EXISTS = "what is in the way is replaced with --overwrite; or restore into another folder"
_MISSING = "what is missing may be in an older backup; all that is there was restored"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A run of a damaged file.

    Args:
        start: offset of its first byte.
        end: offset behind its last byte; None if the file's length is not known.
        state: ``good`` (verified, holes included), ``lost``, or ``zero-filled`` (lost, and zeros
            stand in its place in what was kept).
    """

    start: int
    end: int | None
    state: RangeState


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """One file.

    Args:
        qube: name of its qube; ``""`` for ``qubes.xml``.
        name: of the file.
        status: ``ok``, ``damaged``, ``limit`` (refused by a bound of `qbackup.Limits`, and not
            known to be damaged), ``missing``, ``kept`` (was there already, the same) or
            ``exists`` (something of this name is in the way and was left alone).
        error: what was wrong; None when good.
        chunks: how many chunks were gone through.
        size: length in bytes of what was restored, holes included.
        notes: what was left out or changed on purpose (setuid bits, devices, names that can't be
            had here); where a damaged file is left.
        kept_as: name of what could be saved of it, ``NAME.damaged``; None if nothing was kept.
        ranges: of a damaged image, which bytes are good and which are lost, without gaps from
            the first to the last; empty where that was not looked for, and for folders.
        unplaced: its beginning is lost, and with it the places of its bytes: what was kept, and
            `ranges`, are of the archive that it is stored in.
        lost_chunks: each chunk that was lost of it, and why; empty where that was not looked for.
        limit: the field of `qbackup.Limits` that was met, where the status is ``limit``.
        advice: what can be done about this file, where that is more than for others.
        restored_as: its path in the output folder, where that is not QUBE/NAME; None if it is. Of a
            damaged file, the path of what was kept.
    """

    qube: str
    name: str
    status: Status
    error: str | None = None
    chunks: int = 0
    size: int = 0
    notes: tuple[str, ...] = ()
    kept_as: str | None = None
    ranges: tuple[ByteRange, ...] = ()
    unplaced: bool = False
    lost_chunks: tuple[str, ...] = ()
    limit: str | None = None
    advice: str = ""
    restored_as: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it is there and whole."""
        return self.status in GOOD


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome. `ok` is the only word for success.

    Args:
        files: everything that was asked for, and everything that should have been there.
        errors: what was wrong with the archive as a whole.
        warnings: what was passed over without harm.
        is_salvage: broken places of the archive were passed over already.
        archive_limit: what can be done about the last of `errors`, where that is a limit which the
            archive as a whole has met; ``""`` where it is none.
    """

    files: tuple[FileResult, ...]
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_salvage: bool = False
    archive_limit: str = ""

    @property
    def ok(self) -> bool:
        """Whether all that was asked for is there, verified and whole."""
        return not self.errors and all(result.ok for result in self.files)

    @property
    def bad(self) -> tuple[FileResult, ...]:
        """The files that are not."""
        return tuple(result for result in self.files if not result.ok)

    @property
    def advice(self) -> tuple[str, ...]:
        """What can be done about what is not whole, in sentences; the most useful first."""
        statuses = {result.status for result in self.bad}
        kept = any(result.kept_as for result in self.bad)
        found = []
        if "damaged" in statuses:
            found.append(_KEPT if kept else DAMAGED)
        if self.archive_limit:
            found.append(self.archive_limit)
        if len(self.errors) > bool(self.archive_limit):
            found.append(_SALVAGED if self.is_salvage else ARCHIVE_DAMAGED)
        found += dict.fromkeys(result.advice for result in self.bad if result.advice)
        if "exists" in statuses:
            found.append(_EXISTS)
        if "missing" in statuses and not self.errors:
            found.append(_MISSING)
        return tuple(found)

    def summary(self) -> str:
        """One sentence."""
        if self.ok:
            return f"all {len(self.files)} files are there and whole"
        parts = [f"{len(self.bad)} of {len(self.files)} files are not whole"] if self.bad else []
        return "; ".join([*parts, *self.errors])


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a restore is.

    Args:
        done: stored bytes that were gone through.
        total: stored bytes in all; None on a pipe.
        file: the file that something was done with last, ``QUBE/FILE``.
        files: all that are under way, in the order in which they were begun.
        deriving: jobs that derive keys at this moment.
        waiting: keys that wait for one.
    """

    done: int
    total: int | None
    file: str
    files: tuple[str, ...] = ()
    deriving: int = 0
    waiting: int = 0


OnProgress = Callable[[Progress], None]
