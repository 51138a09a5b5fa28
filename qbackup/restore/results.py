"""Results of files: restored, kept from an earlier run, or lost to an error."""

from __future__ import annotations

from dataclasses import replace

from qbackup.base.errors import LimitExceeded, NotEnoughMemory, PartitionUnreadable, QBackupError
from qbackup.base.report import FileResult, Status

TYPE_CHECKING = False  # those who only judge an error need none of these
if TYPE_CHECKING:
    from qbackup.pipeline.reader import FileReader
    from qbackup.restore.plan import Target
    from qbackup.restore.sinks import ExistingFile

DIFFERS = (
    "something with this name is already there, and differs from what this backup holds; it was"
    " left alone (see --overwrite)"
)
IN_THE_WAY = "something with this name is already there; it was left alone (see --overwrite)"


def status_of(error: QBackupError) -> Status:
    """Gives the status of a file that an error costs.

    Where memory is short, a limit is met, or a partition can't be read, the file itself may be
    without fault, so its status is not ``damaged``.
    """
    if isinstance(error, NotEnoughMemory | PartitionUnreadable):
        return "missing"
    return "limit" if isinstance(error, LimitExceeded) else "damaged"


def failed(result: FileResult, error: QBackupError, *, reason: str | None = None) -> FileResult:
    """Gives a file's result after an error.

    Args:
        result: result of the file until then.
        error: the error that ended reading.
        reason: message instead of the error's own.
    """
    is_limit = isinstance(error, LimitExceeded)
    return replace(
        result,
        status=status_of(error),
        error=error.reason if reason is None else reason,
        limit=error.limit if isinstance(error, LimitExceeded) else None,
        advice=error.advice if is_limit else "",
    )


def result_of(
    file: FileReader,
    target: Target,
    status: Status,
    error: str | None = None,
    *,
    size: int = 0,
    notes: tuple[str, ...] = (),
) -> FileResult:
    """Gives the result of a file that was read, with the number of its chunks."""
    return FileResult(
        qube=target.qube,
        name=target.name,
        status=status,
        error=error,
        chunks=file.stored.chunk_count,
        size=size,
        notes=notes,
    )


def kept(qube: str, name: str, found: ExistingFile) -> FileResult:
    """Gives the result of a file that an earlier run restored and that is still whole."""
    return FileResult(
        qube=qube,
        name=name,
        status="kept",
        chunks=found.chunks,
        size=found.size,
        notes=found.notes,
    )


def lost_to(result: FileResult, error: QBackupError) -> FileResult:
    """Gives the result of a file lost to an error; the reason names the chunk where known."""
    place = f"{error.chunk}: " if error.chunk else ""
    return failed(result, error, reason=place + error.reason)


def part_of(target: Target, path: str, reason: str) -> FileResult:
    """Gives the result of an entry in a folder that was not written."""
    return FileResult(
        qube=target.qube,
        name=f"{target.name}/{path}",
        status="missing",
        error=f"not restored: {reason}",
    )
