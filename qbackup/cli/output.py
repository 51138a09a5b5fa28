"""The standard streams: their contents, their characters, and outputs that nobody reads.

Results go to standard output, everything else that people read to standard error.
Text gets the encoding that the stream has, and loses what a terminal would obey. Bytes of
a restored file go out as they are, but made visible when a terminal is at the other end.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator

from qbackup.base.errors import MachineError, UsageError
from qbackup.cli import signals

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from typing import TextIO

_CLEAR_LINE = "\r\x1b[K"
_COLUMNS = 80
_PIPE_SIZE = getattr(select, "PIPE_BUF", 512)  # bytes that a pipe takes at once, if it takes any
_TERMINAL_TEXT_LIMIT = 1 << 20


def replace_closed_streams() -> None:
    """Puts the null device in the place of standard streams that were closed from the start.

    Otherwise the next file opened would get their numbers, and a child that writes to its
    standard error would write into that file. Such an input is empty. Writing to such an output
    fails, as results would be lost; messages on such a standard error go nowhere.
    """
    for name, mode, flags in (
        ("stdin", "r", os.O_RDONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, flags)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, errors="backslashreplace"))


def print_message(text: str) -> None:
    """Prints a message for people on standard error. A failure to write it is ignored.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    write_message(sys.stderr, _for(sys.stderr, text) + "\n")


def write_message(stream: TextIO, text: str) -> None:
    """Writes exactly this text into any stream, for people, as `print_message` does."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        drop(stream)
        if isinstance(error, BrokenPipeError):
            raise


@contextlib.contextmanager
def working(text: str, *, quiet: bool) -> Iterator[None]:
    """Shows a line on a terminal within this context, for work that takes some seconds."""
    shown = not quiet and sys.stderr.isatty()
    if shown:
        replace_line(sys.stderr, text)
    try:
        yield
    finally:
        if shown:
            replace_line(sys.stderr, "")


def print_result(text: str) -> None:
    """Prints a result on standard output.

    Raises:
        BrokenPipeError: nobody reads any more.
        MachineError: the text can't be written.
    """
    with _writing() as stdout:
        stdout.write(_for(stdout, text) + "\n")


def print_styled(text: str) -> None:
    """Prints a result that has a terminal's codes; text from outside was made visible before."""
    with _writing() as stdout:
        stdout.write(text + "\n")


def is_pretty(stream: TextIO) -> bool:
    """Tells if the stream is a terminal for which `qbackup.cli.pretty` can be loaded and used."""
    if not stream.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return False
    from importlib.util import find_spec

    return find_spec("rich") is not None


def write_some(data: bytearray) -> None:
    """Writes the first bytes of ASCII text on standard output, and removes them from the array.

    A signal ends this before or after that, so the array always holds what was not written yet.

    Raises as `print_result`.
    """
    with _writing() as stdout:
        stdout.flush()
        try:
            number = stdout.fileno()
        except (OSError, ValueError, AttributeError):  # a stream in memory
            number = -1
        if number < 0 or not hasattr(select, "poll"):
            stdout.write(data.decode("ascii"))
            data.clear()
            return
        ready = select.poll()
        ready.register(number, select.POLLOUT)
        ready.poll()
        with signals.held():
            del data[: os.write(number, data[:_PIPE_SIZE])]


def flush() -> None:
    """Writes the text that is still held back. Raises as `print_result`."""
    with _writing():
        pass


def copier() -> Callable[[bytes], None]:
    """A function that writes a file's content to standard output, piece by piece.

    Raises as `print_result`.
    """
    return _write_to_terminal if sys.stdout.isatty() else _write_bytes


def drop(stream: TextIO) -> None:
    """Discards the text that is held back for a stream that can't be written any more.

    Otherwise the interpreter would try again when it ends, and change the exit status.
    """
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def encodable(stream: TextIO, text: str) -> str:
    """The text with escapes for characters that the stream's encoding does not have."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def replace_line(stream: TextIO, text: str) -> None:
    """Replaces the terminal's current line by this text; ``""`` clears it."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        columns = _COLUMNS
    write_message(stream, _CLEAR_LINE + fit(encodable(stream, text), columns))


def fit(text: str, columns: int) -> str:
    """The beginning of the text that one line of a terminal holds: a wrapped one can't be cleared.

    The last column stays free, as some terminals go to the next line when it is written.
    """
    import unicodedata

    width = 0
    for i, char in enumerate(text):
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if width >= columns:
            return text[:i]
    return text


def _for(stream: TextIO, text: str) -> str:
    return encodable(stream, visible(text))


def visible(text: str) -> str:
    """Text of several lines, with escapes for characters that are still invisible in them.

    Names from a backup have come through `display` before they became part of the text; names
    from the command line, and the system's own messages, have not.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    from qbackup.base.names import display

    return "".join(c if c in "\n\\" else display(c) for c in text)


@contextlib.contextmanager
def _writing() -> Iterator[TextIO]:
    """Standard output, which is flushed at the end."""
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        drop(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise MachineError(f"can't write to standard output: {error.strerror}") from error


def _write_bytes(data: bytes) -> None:
    with _writing() as stdout:
        stdout.buffer.write(data)


def _write_to_terminal(data: bytes) -> None:
    if b"\0" in data or len(data) >= _TERMINAL_TEXT_LIMIT:
        raise UsageError(
            "the file is not text, so a terminal can't show it: send it to a file, > NAME"
        )
    from qbackup.base.names import decode, display

    with _writing() as stdout:
        for line in decode(data).splitlines(keepends=True):
            end = "\n" if line.endswith("\n") else ""
            parts = line.rstrip("\r\n").split("\t")
            stdout.write(encodable(stdout, "\t".join(map(display, parts)) + end))
