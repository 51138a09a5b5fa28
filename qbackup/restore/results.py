"""Results of files that an error has cost."""

from __future__ import annotations

from dataclasses import replace

from qbackup.base.errors import LimitExceeded, NotEnoughMemory, PartitionUnreadable, QBackupError
from qbackup.base.report import FileResult, Status


def status_of(error: QBackupError) -> Status:
    """Gives the status of a file that an error costs.

    Where memory is short, a limit is met, or a partition can't be read, nothing is known to be
    wrong with the file.
    """
    if isinstance(error, NotEnoughMemory | PartitionUnreadable):
        return "missing"
    return "limit" if isinstance(error, LimitExceeded) else "damaged"


def failed(result: FileResult, error: QBackupError, *, reason: str | None = None) -> FileResult:
    """Gives the same file with what an error has cost.

    Args:
        result: of the file until then.
        error: that ended it.
        reason: the error in other words.
    """
    is_limit = isinstance(error, LimitExceeded)
    return replace(
        result,
        status=status_of(error),
        error=error.reason if reason is None else reason,
        limit=error.limit if isinstance(error, LimitExceeded) else None,
        advice=error.advice if is_limit else "",
    )
