"""The standard streams: what goes where, in which characters, and what if nobody listens.

What was asked for goes to standard output, all else that people read to standard error.
Text gets the encoding that the stream has, and loses what a terminal would obey. Bytes of
a restored file go out as they are, but made visible when a terminal is at the other end.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from qbackup.base.errors import MachineError, UsageError

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from typing import TextIO

_CLEAR_LINE = "\r\x1b[K"
_COLUMNS = 80
_TERMINAL_TEXT_LIMIT = 1 << 20


def ready() -> None:
    """Puts something in the place of standard streams that were closed from the start.

    Otherwise the next file opened would get their numbers, and a child that writes to its
    standard error would write into that file. Reading such an input gives nothing; writing
    to such an output fails, as it is what was asked for; standard error goes nowhere.
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


def say(text: str) -> None:
    """Something for people, on standard error. That it can't be written is no reason to fail.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    tell(sys.stderr, _for(sys.stderr, text) + "\n")


def tell(stream: TextIO, text: str) -> None:
    """As `say`, exactly this text, into any stream."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        drop(stream)
        if isinstance(error, BrokenPipeError):
            raise


@contextlib.contextmanager
def working(text: str, *, quiet: bool) -> Iterator[None]:
    """While something takes its time, says so on a terminal, in a line that is taken away then."""
    shown = not quiet and sys.stderr.isatty()
    if shown:
        replace_line(sys.stderr, text)
    try:
        yield
    finally:
        if shown:
            replace_line(sys.stderr, "")


def show(text: str) -> None:
    """Something asked for, on standard output.

    Raises:
        BrokenPipeError: nobody reads any more.
        MachineError: it can't be written.
    """
    with _writing() as stdout:
        stdout.write(_for(stdout, text) + "\n")


def show_styled(text: str) -> None:
    """As `show`, with a terminal's codes in it: what came from outside was made visible before."""
    with _writing() as stdout:
        stdout.write(text + "\n")


def is_pretty(stream: TextIO) -> bool:
    """Whether it is a terminal for which `qbackup.cli.pretty` can be loaded and used."""
    if not stream.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return False
    from importlib.util import find_spec

    return find_spec("rich") is not None


def flush() -> None:
    """Writes what is still held back. Raises as `show`."""
    with _writing():
        pass


def copier() -> Callable[[bytes], None]:
    """What writes a file's content to standard output, piece by piece. It raises as `show`."""
    return _write_to_terminal if sys.stdout.isatty() else _write_bytes


def drop(stream: TextIO) -> None:
    """It can't be written any more: what is still held back goes nowhere, without a word.

    Otherwise the interpreter would try again when it ends, and change the exit status.
    """
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def encodable(stream: TextIO, text: str) -> str:
    """The text with escapes for what the stream's encoding does not have."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def replace_line(stream: TextIO, text: str) -> None:
    """Puts the text into a terminal's line in the place of what is there; "" takes that away."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        columns = _COLUMNS
    tell(stream, _CLEAR_LINE + fit(encodable(stream, text), columns))


def fit(text: str, columns: int) -> str:
    """As much of the text as one line of a terminal holds: a line that wraps can't be taken away.

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
    """Text of several lines, with escapes for what is still invisible in them.

    Names from a backup have come through `display` before they became part of the text; names
    from the command line, and the system's own messages, have not.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    from qbackup.base.names import display

    return "".join(c if c in "\n\\" else display(c) for c in text)


@contextlib.contextmanager
def _writing() -> Iterator[TextIO]:
    """Standard output; what was written to it goes out at the end."""
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
        raise UsageError("this is no text for a terminal: send it to a file, > NAME")
    from qbackup.base.names import decode, display

    with _writing() as stdout:
        for line in decode(data).splitlines(keepends=True):
            end = "\n" if line.endswith("\n") else ""
            parts = line.rstrip("\r\n").split("\t")
            stdout.write(encodable(stdout, "\t".join(map(display, parts)) + end))
