"""Results of files that an error has cost."""

from __future__ import annotations

from dataclasses import replace

from qbackup.base.errors import LimitExceeded, NotEnoughMemory, PartitionUnreadable, QBackupError
from qbackup.base.report import FileResult, Status


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
