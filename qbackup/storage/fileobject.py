"""File objects of the library's callers. Anybody may have written one, so each answer is checked.

An answer that makes no sense is an error at once: a loop would wait for ever for a ``read()`` that
gives None, and go back for ever with a negative count.
"""

from __future__ import annotations

import io
import select
from typing import Any, BinaryIO

from qbackup.base.errors import MachineError, UsageError

_EMPTY_ANSWERS_LIMIT = 100  # one after another, although the file is said to have data
_NO_WAY_TO_WAIT = "the file's read() gives None, and there is nothing to wait for"
_SHOWN_LIMIT = 1 << 63
_TEXT = "the file gives text and not bytes: open it in binary mode, open(path, 'rb')"


def require_binary(file: object, kind: str) -> None:
    """Refuses what is no binary file object, as far as that can be seen without reading.

    Args:
        file: an argument that is no path.
        kind: the name of the argument in the message.

    Raises:
        UsageError: the object can't be read, or is open in text mode.
    """
    if isinstance(file, io.TextIOBase):
        raise UsageError(_TEXT)
    if isinstance(file, type) or not callable(getattr(file, "read", None)):
        name = type(file).__name__
        raise UsageError(f"{kind} is a path or a binary file with read(), not {name}")


def read_piece(file: BinaryIO | io.FileIO, size: int) -> bytes:
    """Reads up to size bytes, by one call that gives any; returns none at the end of the file.

    Raises:
        UsageError: the file gives something else than bytes.
        MachineError: the file gives more than it was asked for, or nothing at all.
        OSError: as the file raises it.
    """
    for _ in range(_EMPTY_ANSWERS_LIMIT):
        data: Any = file.read(size)
        if data is not None:
            return _checked_bytes(data, size)
        _wait_for(file)
    raise MachineError("the file's read() gives None, again and again")


def read_some(file: BinaryIO | io.FileIO, buffer: memoryview) -> int:
    """Reads once into a buffer; returns the number of bytes, 0 at the end of the file.

    Raises:
        UsageError, MachineError, OSError: as `read_piece` does.
    """
    if not (isinstance(file, io.IOBase) and hasattr(file, "readinto")):
        data = read_piece(file, len(buffer))
        buffer[: len(data)] = data
        return len(data)
    for _ in range(_EMPTY_ANSWERS_LIMIT):
        count: Any = file.readinto(buffer)
        if count is not None:
            return _checked_count(count, len(buffer))
        _wait_for(file)
    raise MachineError("the file's readinto() gives None, again and again")


def length_of(file: BinaryIO | io.FileIO) -> int:
    """Finds the length in bytes of a seekable file; its position is then at the end.

    Raises:
        MachineError: the file gives no number for its end.
        OSError: as the file raises it.
    """
    length: Any = file.seek(0, io.SEEK_END)
    if length is None:  # as in objects that only know the older interface
        length = file.tell()
    if not isinstance(length, int) or length < 0:
        raise MachineError(f"the file's seek() gives {_shown(length)} and not its length")
    return length


def _checked_bytes(data: object, size: int) -> bytes:
    if isinstance(data, str):
        raise UsageError(_TEXT)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise UsageError(f"the file's read() gives {_shown(data)} and not bytes")
    data = bytes(data)
    if len(data) > size:
        raise MachineError(f"the file's read({size}) gives {len(data)} bytes")
    return data


def _checked_count(count: object, size: int) -> int:
    if not isinstance(count, int) or not 0 <= count <= size:
        raise MachineError(
            f"the file's readinto() gives {_shown(count)}, and not a number up to {size}"
        )
    return count


def _shown(value: object) -> str:
    """Shows a number itself, and of anything else its type: it may be of any length."""
    if isinstance(value, int) and abs(value) < _SHOWN_LIMIT:
        return str(value)
    return f"a {type(value).__name__}"


def _wait_for(file: BinaryIO | io.FileIO) -> None:
    """Waits until a pipe that was set not to wait has data, or has ended.

    Raises:
        MachineError: the object has no descriptor that could be waited for.
    """
    try:
        if hasattr(select, "poll"):  # `select` can't wait for descriptors above 1,023
            waiting = select.poll()
            waiting.register(file, select.POLLIN)
            waiting.poll()
        else:
            select.select([file], [], [])
    except (TypeError, io.UnsupportedOperation) as error:
        raise MachineError(_NO_WAY_TO_WAIT) from error
