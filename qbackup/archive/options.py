"""`OpenOptions`: choices of the caller who opens a backup."""

from __future__ import annotations

import os
import re
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import BinaryIO

from qbackup.base.errors import UsageError
from qbackup.base.limits import Limits

_ID = re.compile("[^\0\r\n]+")


@dataclass(frozen=True, kw_only=True)
class OpenOptions:
    """Choices of the caller, as `BackupArchive` documents them.

    Raises:
        UsageError: a number that makes no sense.
    """

    limits: Limits
    jobs: int | None
    memory: int | None
    executor: Executor | None
    executor_jobs: int | None
    compression_filter: str | None
    hmac_algorithm: str | None
    salvage: bool
    also: tuple[str | os.PathLike[str] | BinaryIO, ...] = ()
    backup_id: str | None = None

    def __post_init__(self) -> None:
        if self.backup_id is not None and not self.salvage:
            raise UsageError("a backup id is named for salvage only: a whole header says it")
        if self.backup_id is not None and not _ID.fullmatch(self.backup_id):
            raise UsageError("a backup id is one line of text, such as 20240917T101112-1234")
        for name in ("jobs", "memory", "executor_jobs"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} is a whole number above 0")
