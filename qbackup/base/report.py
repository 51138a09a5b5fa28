"""Outcome of a restore or a verification, file by file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qbackup.base.advice import ANOTHER_COPY, ARCHIVE_DAMAGED, DAMAGED, REPAIR
from qbackup.base.notices import HeaderReplaced, OtherBackup

Status = Literal["ok", "damaged", "limit", "missing", "kept", "exists"]
RangeState = Literal["good", "lost", "zero-filled", "unverified"]
Verdict = Literal["whole", "header", "other", "archive", "unproven", "files"]
GOOD: tuple[Status, ...] = ("ok", "kept")
_KEPT = "try another copy of the backup; before you mount or repair NAME.damaged, make a copy of it"
_SALVAGED = "another copy of the backup may still have what is lost in this one"
_HEADER = (
    "keep no backup with a damaged header as the only one: replace it by a whole copy, or make a"
    " new backup"
)
_EXISTS = (
    "restore into another folder, or add --overwrite: it replaces files, and whole folders with"
    " everything in them"
)
_MISSING = "an older backup may have the missing files"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A run of a damaged file.

    Args:
        start: offset of its first byte.
        end: offset behind its last byte; None if the file's length is not known.
        state: ``good`` (verified, holes included), ``lost``, or ``zero-filled`` (lost, and zeros
            stand in its place in what was kept). In `FileResult.unverified` alone ``unverified``:
            nothing proves these bytes.
    """

    start: int
    end: int | None
    state: RangeState


@dataclass(frozen=True, slots=True)
class LostPlace:
    """Place of a lost chunk in the backup's file: bytes to read again, e.g. with ddrescue.

    Args:
        chunk: name of the chunk, as in messages.
        offset: of its first byte in the file.
        size: number of its bytes.
    """

    chunk: str
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """Outcome of one file.

    Args:
        qube: name of its qube; ``""`` for ``qubes.xml``.
        name: of the file.
        status: ``ok``, ``damaged``, ``limit`` (refused by a bound of `qbackup.Limits`, and not
            known to be damaged), ``missing``, ``kept`` (the same file was there already) or
            ``exists`` (something else has this name and was left alone).
        error: the fault; None when good.
        chunks: number of chunks that were read.
        size: length in bytes of the restored file, holes included.
        notes: things left out or changed on purpose (setuid bits, devices, names that are not
            possible here), and the place where a damaged file is left.
        kept_as: name of the saved part of a damaged file, ``NAME.damaged``; None if nothing was
            kept.
        ranges: the good and the lost bytes of a damaged image, without gaps from the first to the
            last; empty if they were not looked for, and for folders.
        unplaced: the beginning of the file's archive is lost, and with it the places of the file's
            bytes. The kept part, and `ranges`, are of that archive instead.
        lost_chunks: each lost chunk of the file, with the reason; empty if they were not looked
            for.
        lost_places: places of lost chunks in the backup's file, where they are known.
        ranges_left_out: number of further ranges, beyond `Limits.damaged_ranges`; they are part of
            the last one in `ranges`, as lost bytes.
        ranges_as: name of the file with the ranges beside the kept part, ``NAME.damaged.json``.
            None if there is none.
        limit: the field of `qbackup.Limits` that was exceeded, where the status is ``limit``.
        advice: a remedy for this file, where there is one besides the usual.
        unplaced_as: name of the file with the verified bytes behind a lost chunk whose place in
            this file is not known, ``NAME.unplaced``; None if there is none.
        unplaced_size: number of these bytes.
        unverified_as: name of the file with bytes that nothing proves, ``NAME.unverified``; None if
            there is none. Whoever held the disk may have chosen them.
        unverified: the ranges of this file that stand in it; the rest of it is empty.
        unverified_left_out: number of further such bytes, whose place is not known.
        restored_as: its path in the output folder, where that is not QUBE/NAME; None if it is. For
            a damaged file, the path of the kept part.
        unproven: nothing proves that the file was ever in the backup: ``qubes.xml`` does not name
            it, Qubes has no such file, and no chunk of it could be believed.
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
    lost_places: tuple[LostPlace, ...] = ()
    ranges_left_out: int = 0
    ranges_as: str | None = None
    limit: str | None = None
    advice: str = ""
    restored_as: str | None = None
    unplaced_as: str | None = None
    unplaced_size: int = 0
    unverified_as: str | None = None
    unverified: tuple[ByteRange, ...] = ()
    unverified_left_out: int = 0
    unproven: bool = False

    @property
    def ok(self) -> bool:
        """True if the file is there and whole."""
        return self.status in GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class UnprovenFiles:
    """Files of one status that nothing proves, see `FileResult`, and that are only counted.

    Anybody who can write to the storage can plant a million of them. The first thousand of each
    status have results of their own.

    Args:
        status: status of each.
        count: number of them.
        first: result of the first.
    """

    status: Status
    count: int
    first: FileResult


@dataclass(frozen=True, kw_only=True)
class Report:
    """Outcome of a whole run. Only `ok` means success.

    Args:
        files: every requested file, and every file that should have been in the backup.
        unproven: of further files that nothing proves, the number; mostly empty.
        repair: the command that may repair the backup itself with the recovery blocks beside it,
            which the command line fills in; ``""`` where there are none.
        errors: faults of the archive as a whole.
        warnings: things that were ignored without harm.
        is_salvage: broken places of the archive were already skipped in this run.
        keeps_damaged: this run already kept the verified parts of damaged files, where there were
            any.
        archive_limit: the remedy for the last of `errors`, if the archive as a whole exceeded a
            limit there; else ``""``.
    """

    files: tuple[FileResult, ...]
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_salvage: bool = False
    keeps_damaged: bool = False
    archive_limit: str = ""
    unproven: tuple[UnprovenFiles, ...] = ()
    repair: str = ""

    @property
    def ok(self) -> bool:
        """True if every requested file is there, verified and whole."""
        return not self.errors and not self.unproven and all(result.ok for result in self.files)

    @property
    def verdict(self) -> Verdict:
        """The worst of all outcomes, on which every sum of a report depends.

        ``whole``: all is there. ``header``: all files are whole, and only the header is not.
        ``other``: all files are whole, and the file holds parts of another backup too. ``archive``:
        all files that were found are whole, and others may be lost. ``unproven``: all files are
        whole but those of which nothing proves that they were ever in the backup. ``files``: a file
        is not there and whole.
        """
        if self.ok:
            return "whole"
        if any(not result.unproven for result in self.bad):
            return "files"
        if not all(isinstance(error, HeaderReplaced | OtherBackup) for error in self.errors):
            return "files" if self.bad_count else "archive"
        if self.bad_count:
            return "unproven"
        is_header = all(isinstance(error, HeaderReplaced) for error in self.errors)
        return "header" if is_header else "other"

    @property
    def bad(self) -> tuple[FileResult, ...]:
        """The files that are not there and whole, but for those that are only counted."""
        return tuple(result for result in self.files if not result.ok)

    @property
    def bad_count(self) -> int:
        """Number of the files that are not there and whole, also of those only counted."""
        return len(self.bad) + sum(files.count for files in self.unproven)

    @property
    def advice(self) -> tuple[str, ...]:
        """Remedies for the files that are not whole, in sentences; the most useful first."""
        bad = (*self.bad, *(files.first for files in self.unproven))
        statuses = {result.status for result in bad}
        kept = any(result.kept_as for result in self.bad)
        found = []
        if self.repair and (self.errors or statuses & {"damaged", "missing"}):
            found.append(REPAIR.format(self.repair))
        if self.verdict == "header":
            found.append(_HEADER)
        if "damaged" in statuses:
            found.append(_KEPT if kept else ANOTHER_COPY if self.keeps_damaged else DAMAGED)
        if self.archive_limit:
            found.append(self.archive_limit)
        if len(self.errors) > bool(self.archive_limit) and (bad or not self.is_salvage):
            found.append(_SALVAGED if self.is_salvage else ARCHIVE_DAMAGED)
        found += dict.fromkeys(result.advice for result in bad if result.advice)
        if "exists" in statuses:
            found.append(_EXISTS)
        is_lost = any(result.status == "missing" and not result.advice for result in bad)
        if is_lost and not self.errors:
            found.append(_MISSING)
        return tuple(found)

    def summary(self) -> str:
        """Sums up the outcome in one sentence."""
        if self.ok:
            return f"all {len(self.files)} files are there and whole"
        if self.verdict in ("header", "other"):
            return f"all {len(self.files)} files are whole; {'; '.join(self.errors)}"
        bad = self.bad_count
        total = len(self.files) - len(self.bad) + bad
        parts = [f"{bad} of {total} files are not whole"] if bad else []
        return "; ".join([*parts, *self.errors])


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a restore.

    Args:
        done: stored bytes that were read.
        total: stored bytes in all; None on a pipe.
        file: the file that was worked on last, ``QUBE/FILE``.
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
