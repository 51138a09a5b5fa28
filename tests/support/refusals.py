"""Calls of the system that refuse, as file systems do that lack something; all else is real."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest

#: What file systems, FUSE and network shares were seen to answer, or may.
NUMBERS = (
    errno.EPERM,
    errno.EACCES,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EBADF,
)
#: The disk is full, fails, or can't be written: no matter what was asked for.
FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


def _is_folder(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def _is_gap(fd: int, data: memoryview, offset: int) -> bool:
    return offset > os.fstat(fd).st_size


#: Refusals by name: the calls, and whether a call with these arguments is refused.
REFUSALS: dict[str, dict[str, Callable[..., bool]]] = {
    "modes": {"fchmod": lambda fd, mode: True},
    "modes of files": {"fchmod": lambda fd, mode: not _is_folder(fd)},
    "sticky bits": {"fchmod": lambda fd, mode: bool(mode & 0o1000)},
    "times": {"utime": lambda *arguments, **options: True},
    "sync of folders": {"fsync": _is_folder},
    "sync of files": {"fsync": lambda fd: not _is_folder(fd)},
    "sync": {"fsync": lambda fd: True},
    "links": {
        "link": lambda *arguments, **options: True,
        "symlink": lambda *arguments, **options: True,
    },
    "longer files": {"ftruncate": lambda fd, size: size > os.fstat(fd).st_size},
    "gaps": {"ftruncate": lambda fd, size: size > os.fstat(fd).st_size, "pwrite": _is_gap},
    "reserves": {"posix_fallocate": lambda *arguments: True},
    "figures": {"fstatvfs": lambda fd: True},
}


def refuse(monkeypatch: pytest.MonkeyPatch, what: str, number: int) -> None:
    """Lets the calls refuse with an error number."""
    for name, is_refused in REFUSALS[what].items():
        monkeypatch.setattr(os, name, _refusing(getattr(os, name), is_refused, number))


def refuse_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Lets `flock` refuse with an error number."""
    monkeypatch.setattr(fcntl, "flock", _refusing(fcntl.flock, lambda fd, how: True, number))


def _refusing(
    real: Callable[..., Any], is_refused: Callable[..., bool], number: int
) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if is_refused(*arguments, **options):
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    return call
