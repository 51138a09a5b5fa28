"""Names of the file and chunk that an error is about, given to errors where they pass."""

from __future__ import annotations

from qbackup.base.errors import QBackupError
from qbackup.base.names import display


def naming(file: str | None = None, *, chunk: str | None = None) -> _Naming:
    """Gives errors that pass a file and a chunk, unless they name one already.

    Args:
        file: QUBE/FILE, member path, or path in an image; made printable here.
        chunk: member name of a chunk; made printable here.
    """
    return _Naming(file, chunk)


def name_error(error: QBackupError, file: str | None = None, *, chunk: str | None = None) -> None:
    """Gives one error a file and a chunk, as `naming` does."""
    if file is not None and error.file is None:
        error.file = display(file)
    if chunk is not None and error.chunk is None:
        error.chunk = display(chunk)


class _Naming:
    __slots__ = ("_chunk", "_file")

    def __init__(self, file: str | None, chunk: str | None) -> None:
        self._file = file
        self._chunk = chunk

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, QBackupError):
            name_error(error, self._file, chunk=self._chunk)
