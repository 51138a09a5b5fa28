"""Losses of a copy: a bounded list of results."""

from __future__ import annotations

from qbackup.base.errors import QBackupError
from qbackup.base.report import FileResult, Status
from qbackup.restore.results import failed


class LossList:
    """Files of a copy that are lost or left out. Of very many, the last ones are only counted.

    Args:
        limit: number of files that are named, `Limits.copy_losses`.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: list[FileResult] = []
        self._general: list[FileResult] = []
        self._more = 0

    def add_error(self, path: str, error: QBackupError) -> None:
        """Adds a file that an error has cost."""
        self._add(failed(FileResult(qube="", name=path, status="damaged"), error))

    def add_damaged(self, path: str, reason: str) -> None:
        """Adds a file that was made and is not whole."""
        self._add(FileResult(qube="", name=path, status="damaged", error=reason))

    def add_missing(self, path: str, reason: str) -> None:
        """Adds a file that was not made on this machine."""
        self._add(FileResult(qube="", name=path, status="missing", error=reason))

    def add_general(self, status: Status, reason: str) -> None:
        """Adds a reason to miss files without knowing which."""
        self._general.append(FileResult(qube="", name="*", status=status, error=reason))

    @property
    def count(self) -> int:
        """Number of all files, also of those without a name here."""
        return len(self._files) + self._more

    def results(self) -> tuple[FileResult, ...]:
        """Gives all losses, the named files first."""
        if not self._more:
            return (*self._files, *self._general)
        text = f"{self._more} more, not named one by one"
        more = FileResult(qube="", name="*", status="missing", error=text)
        return (*self._files, *self._general, more)

    def _add(self, result: FileResult) -> None:
        if len(self._files) >= self._limit:
            self._more += 1
        else:
            self._files.append(result)
