"""Compression filters: a name from the header → an incremental decompressor.

A filter's name comes from the header, so it only ever picks one of the decoders below. A
program is run only when the user named it himself (`external`).

What every decoder keeps: the memory it takes is bounded, however the data were made; a
stream that is cut off, and bytes after its end, are errors, but for the zeros that
`qbackup.padding` describes. Several streams one after another are one stream, as pbzip2 and ``cat``
make them and every decompressor reads them.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import shlex
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Protocol, cast

from qbackup.errors import Damaged, LimitExceeded, MachineError, UnsupportedFormat, UsageError
from qbackup.formats import Event, Lost
from qbackup.limits import Limits
from qbackup.names import display
from qbackup.padding import ZSTD_SKIPPED, Padding, Trimmed
from qbackup.tar import MAGIC_OFFSET
from qbackup.windows import HEAD_SIZE, decoder_memory

NONE = "none"
_INPUT_SIZE = 32 * 1024
OUTPUT_SIZE = 128 * 1024  # more are given back to the system each time, and faulted in again
_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
_SHOWN = 80  # characters of a header's value in a message
_PLAIN_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", re.ASCII)  # is safe to be typed
_ZSTD_WINDOW_LOG = 10  # the smallest window that zstd has
_GZIP_FLAGS_AT = 3  # RFC 1952, section 2.3


class Decoder(Protocol):
    """One compressed stream, as the standard library's bz2 and lzma decompressors have it."""

    @property
    def eof(self) -> bool:
        """The stream's end was seen."""
        ...

    @property
    def needs_input(self) -> bool:
        """No more output without more input."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What follows the stream's end."""
        ...

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Up to max_length bytes, which is at least one."""
        ...


class ZlibDecoder:
    """zlib's decompressor with the interface of the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_WINDOW_BITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """See `Decoder`."""
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        """See `Decoder`."""
        return self._zlib.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """See `Decoder`."""
        rest = self._zlib.unconsumed_tail
        output = self._zlib.decompress(rest + data if rest else data, max_length)
        # A full output may mean that more is held back, even with all input taken. At a stream's
        # end unconsumed_tail tells nothing: Python 3.14 empties it, older ones may not.
        takes_more = not self._zlib.unconsumed_tail and len(output) < max_length
        self.needs_input = takes_more and not self._zlib.eof
        return output


class IsalDecoder:
    """isal's decompressor: a quarter faster than zlib's, or more.

    It leaves the upper halves of the vector registers in use (seen with isal 1.9.1), which slows
    whatever this thread, and each thread that it starts, then does in older vector instructions:
    scrypt in pycryptodome took 0.34 s for 0.21. OpenSSL's SHA-512 sets them free again.

    zlib reads the streams whose header has flags, which gzip and pigz fed by a pipe don't write:
    isal (1.9.1 too) takes a header with its checksum, or with two optional fields, for damaged when
    it comes in pieces, and lets the flags through that RFC 1952 reserves.
    """

    def __init__(self) -> None:
        from isal import igzip_lib

        self._decoder: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self._front: bytes | None = b""  # what comes up to the flags; None once they were seen

    @property
    def eof(self) -> bool:
        """See `Decoder`."""
        return bool(self._decoder.eof)

    @property
    def needs_input(self) -> bool:
        """See `Decoder`."""
        return bool(self._decoder.needs_input)

    @property
    def unused_data(self) -> bytes:
        """See `Decoder`."""
        return bytes(self._decoder.unused_data)

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """See `Decoder`."""
        if self._front is not None:
            if len(self._front) + len(data) <= _GZIP_FLAGS_AT:
                self._front += data
                return b""
            data = self._front + data if self._front else data
            self._front = None
            if data[_GZIP_FLAGS_AT]:
                self._decoder = ZlibDecoder()
        try:
            output: bytes = self._decoder.decompress(data, max_length)
        finally:
            hashlib.sha512(b"").digest()
        return output


def _gzip(limits: Limits) -> Decoder:
    """isal's where it is installed (the extra ``fast``), else zlib's."""
    try:
        return IsalDecoder()
    except (ImportError, OSError):
        return ZlibDecoder()


def gzip_library() -> str:
    """The name of what inflates gzip here, for people."""
    return "zlib" if isinstance(_gzip(Limits()), ZlibDecoder) else "isal"


def _bzip2(limits: Limits) -> Decoder:
    import bz2

    return bz2.BZ2Decompressor()


def _xz(limits: Limits) -> Decoder:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.decoder_memory)


def _lzma(limits: Limits) -> Decoder:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=limits.decoder_memory)


def _zstd(limits: Limits) -> Decoder:
    module = _zstd_module()
    window_log_max = limits.decoder_memory.bit_length() - 1
    window_log_max = min(max(window_log_max, _ZSTD_WINDOW_LOG), 31)  # 0 would mean zstd's default
    options = {module.DecompressionParameter.window_log_max: window_log_max}
    decoder: Decoder = module.ZstdDecompressor(options=options)
    return decoder


def _zstd_module() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,unused-ignore,no-redef]
        except ImportError:
            raise UnsupportedFormat(
                "the backup is compressed with zstd, which this Python can't read by itself;"
                " install the missing part with: pip install backports.zstd, or name the program"
                " if it is there: --compression-filter /usr/bin/zstd"
            ) from None
    return zstd


_DECODERS: dict[str, Callable[[Limits], Decoder]] = {
    "gzip": _gzip,
    "pigz": _gzip,
    "bzip2": _bzip2,
    "pbzip2": _bzip2,
    "xz": _xz,
    "lzma": _lzma,
    "zstd": _zstd,
    "zstdmt": _zstd,
}
KNOWN_FILTERS = (NONE, *_DECODERS)

# How a stream begins → the filter that wrote it.
_BEGINNINGS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"]\0\0": "lzma",
}


def decoder_name(from_header: str | None) -> str | None:
    """The program that a header's words call: the last part of the first word.

    Qubes writes whatever its user named, with a path and options perhaps: ``/usr/bin/pigz``,
    ``zstd -T0 -5``. Options change how a stream is written and not how it is read, but for
    ``xz --format=lzma`` (``-F lzma``, ``-Falone``), which writes what the program lzma does.

    Returns:
        The name; ``""`` where the words name no program, None where nothing is compressed.
    """
    if from_header is None:
        return None
    first, *options = from_header.split() or [""]
    name = first.rpartition("/")[2]
    is_older = name == "xz" and any(word.endswith(("lzma", "alone")) for word in options)
    return "lzma" if is_older else name


def same_filter(name: str | None) -> str:
    """One name for all that decompress in the same way; ``""`` for none at all."""
    if name is None or name == NONE:
        return ""
    make = _DECODERS.get(name)
    return next((known for known in _DECODERS if _DECODERS[known] is make), name)


def other_filter(from_header: str | None, override: str | None) -> str:
    """What must be said of an override that can't be what the header means; ``""`` if it can."""
    said = decoder_name(from_header)
    is_nothing_new = said == "" or same_filter(override) == same_filter(said)
    if override not in KNOWN_FILTERS or is_nothing_new:
        return ""
    shown = NONE if from_header is None else display(from_header[:_SHOWN])
    return f"files are read as asked for, {override}; the header says {shown}"


def told_filter(beginning: bytes | memoryview) -> str | None:
    """The filter that wrote a file's stream, told from its first bytes; None if not known.

    Args:
        beginning: 262 bytes or more; of an uncompressed stream a tar header.
    """
    data = bytes(beginning[: MAGIC_OFFSET + 5])
    if data[MAGIC_OFFSET:] == b"ustar":
        return NONE
    if data[1:4] == ZSTD_SKIPPED and data[0] >> 4 == 5:  # pzstd begins with such a frame
        return "zstd"
    return next((name for magic, name in _BEGINNINGS.items() if data.startswith(magic)), None)


# chunks' events in → pieces of the decompressed stream out
Decompress = Callable[[Iterable[Event]], Iterator[memoryview]]


def choose_filter(from_header: str | None, override: str | None, limits: Limits) -> Decompress:
    """How the files of a backup are decompressed.

    Args:
        from_header: the authenticated header's own words; None when not compressed.
        override: what the user named instead, which counts whatever the header says; may be a
            program that works with ``-d``.
        limits: bounds the decompressor's memory.

    Raises:
        UnsupportedFormat: the header names a filter that is not built in, or one that
            needs a package which is not installed.
        UsageError: the override is empty, or has a quote without an end.
    """
    name = override if override is not None else decoder_name(from_header)
    if name is None or name == NONE:
        return raw
    if name in _DECODERS:
        make = _DECODERS[name]
        make(limits)  # so that a missing package shows now
        return lambda events: _decompress(make, name, limits, events)
    if override is None:
        raise _not_built_in(from_header or "", name)
    try:
        command = shlex.split(override)
    except ValueError as error:
        raise UsageError(f"the compression filter can't be understood: {error}") from None
    if not command:
        raise UsageError("the compression filter's name is empty")
    return lambda events: _external([*command, "-d"], events)


def _not_built_in(words: str, name: str) -> UnsupportedFormat:
    """The error of a header whose filter has no decoder here."""
    if not name:
        return UnsupportedFormat(
            "the header says that files are compressed and names no program. If you know which one"
            " it was, name it: --compression-filter NAME"
        )
    shown = name if _PLAIN_NAME.fullmatch(name) else "NAME"
    return UnsupportedFormat(
        f"the backup was compressed with '{display(words[:_SHOWN])}', which is not built in. If you"
        f" trust a program of that name on this machine, name it: --compression-filter {shown}"
    )


def _buffers(events: Iterable[Event]) -> Iterator[memoryview]:
    """The chunks' plaintext. Each buffer is let go before the next chunk is asked for."""
    for event in events:
        if isinstance(event, Lost):
            error = event.error
            del event
            try:
                raise error
            finally:
                del error  # no cycle through its own traceback, which would keep the chunk
        buffer = event.buffer
        del event
        yield buffer
        del buffer


def _slices(events: Iterable[Event], size: int) -> Iterator[memoryview]:
    for buffer in _buffers(events):
        for start in range(0, len(buffer), size):
            yield buffer[start : start + size]
        del buffer


def raw(events: Iterable[Event]) -> Iterator[memoryview]:
    """No compression."""
    return _slices(events, OUTPUT_SIZE)


def _decompress(
    make: Callable[[Limits], Decoder], name: str, limits: Limits, events: Iterable[Event]
) -> Iterator[memoryview]:
    decoder = make(limits)
    padding = Padding(name)
    started = False
    head = b""  # of the stream under way, for what is to be said of it
    for piece in _slices(events, _INPUT_SIZE):
        data: bytes | memoryview = piece
        while len(data) or not (decoder.needs_input or decoder.eof):
            if decoder.eof:
                data = padding.skip(data)
                if not len(data):
                    break
                decoder = make(limits)
                started = False
                head = b""
            if len(head) < HEAD_SIZE:
                head += bytes(data[: HEAD_SIZE - len(head)])
            try:
                output = decoder.decompress(data, OUTPUT_SIZE)
            except MemoryError:
                raise
            except Exception as error:  # each library has an exception of its own
                raise _stream_error(name, error, head, limits) from error
            started = True
            data = decoder.unused_data if decoder.eof else b""
            if output:
                yield memoryview(output)
        del piece, data  # views of the chunk, which must be free before the next one comes
    if not started or not decoder.eof:
        raise Damaged(f"the {name} stream is cut off: its end is missing")


def _stream_error(
    name: str, error: Exception, head: bytes, limits: Limits
) -> Damaged | LimitExceeded:
    words = str(error).lower()
    if "limit" in words or "too much memory" in words:  # xz's and zstd's way to say it
        needed = decoder_memory(name, head)
        wanted = "more memory" if needed is None else f"{needed} bytes of memory, more"
        return LimitExceeded(
            f"to unpack the {name} stream takes {wanted} than the limit decoder_memory allows"
            f" ({limits.decoder_memory})",
            limit="decoder_memory",
            needed=needed,
        )
    return Damaged(f"the {name} stream is broken, or something follows its end ({error})")


def _external(command: list[str], events: Iterable[Event]) -> Iterator[memoryview]:
    """Runs the user's own program as the filter, fed and drained by turns."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
    except OSError as error:
        raise MachineError(f"can't run the filter {command[0]}: {error.strerror}") from error
    try:
        pieces = _begun(_slices(events, _INPUT_SIZE))
        stream = Trimmed(command[0], told_filter(next(pieces)), pieces)
        try:
            yield from _feed_and_drain(process, iter(stream))
        except BrokenPipeError:
            how = "ended before all its input was read"
            raise Damaged(_ended(command[0], how, stream.zeros)) from None
        if process.wait() != 0:
            how = f"ended with status {process.returncode}"
            raise Damaged(_ended(command[0], how, stream.zeros))
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait()


def _begun(pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    """First the stream's first bytes, as many as tell its kind; then all of it."""
    front = b""
    while len(front) <= MAGIC_OFFSET + 5 and (piece := next(pieces, None)) is not None:
        front += bytes(piece)
        del piece
    yield memoryview(front)
    if front:
        yield memoryview(front)
    yield from pieces


def _ended(program: str, how: str, zeros: int) -> str:
    reason = f"the filter {program} {how}"
    if zeros:
        reason += (
            f"; {zeros} zeros stand at the stream's end, which may be padding that this program"
            " does not pass: without --compression-filter the built-in decompressor does"
        )
    return reason


def _feed_and_drain(
    process: subprocess.Popen[bytes], pieces: Iterator[memoryview]
) -> Iterator[memoryview]:
    """The program's output.

    Raises:
        BrokenPipeError: the program ended before all its input was read.
    """
    stdin, stdout = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
    source, sink = stdout.fileno(), stdin.fileno()
    os.set_blocking(sink, False)
    pending: memoryview | None = next(pieces, None)
    while True:
        if pending is None and not stdin.closed:
            stdin.close()
        readable, writable, _ = select.select([source], [sink] if pending is not None else [], [])
        if readable:
            output = os.read(source, OUTPUT_SIZE)
            if output:
                yield memoryview(output)
            elif pending is None:
                return
            else:
                raise BrokenPipeError
        if writable and pending is not None:
            pending = pending[os.write(sink, pending) :]
            if not len(pending):
                pending = None  # a view of the chunk, which must be free before the next one comes
                pending = next(pieces, None)
