"""Compression filters: from a name in the header to an incremental decompressor.

The header's name only ever picks one of the decoders in `qbackup.content.decoders`. A program is
run only when the user named it himself (`external`).

Every decoder's memory is bounded, however the data were made. A stream that is cut off is an error,
and so are bytes after its end, except for the zeros that `qbackup.content.padding` describes.
Several streams one after another count as one stream: pbzip2 and ``cat`` make them, and every
decompressor reads them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from qbackup.base.errors import Damaged, LimitExceeded, UnsupportedFormat, UsageError
from qbackup.base.events import Event
from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.content.decoder_memory import HEAD_SIZE, decoder_memory
from qbackup.content.decoders import DECODERS, Decoder
from qbackup.content.detect import NONE
from qbackup.content.external import run_filter
from qbackup.content.own_end import OwnEnd, own_end_of
from qbackup.content.padding import Padding
from qbackup.content.slices import INPUT_SIZE, OUTPUT_SIZE, raw, slices
from qbackup.content.stream_yield import StreamYield

_SHOWN = 80  # characters of a header's value in a message
_PLAIN_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", re.ASCII)  # safe to type in a shell


KNOWN_FILTERS = (NONE, *DECODERS)


def decoder_name(from_header: str | None) -> str | None:
    """Gives the name of the program in a header's command: the last part of its first word.

    Qubes writes whatever its user named, perhaps with a path and options: ``/usr/bin/pigz``,
    ``zstd -T0 -5``. Options change how a stream is written and not how it is read, except for
    ``xz --format=lzma`` (``-F lzma``, ``-Falone``), which writes the format of the program lzma.

    Returns:
        The name; ``""`` where the command names no program, None where nothing is compressed.
    """
    if from_header is None:
        return None
    first, *options = from_header.split() or [""]
    name = first.rpartition("/")[2]
    is_older = name == "xz" and any(word.endswith(("lzma", "alone")) for word in options)
    return "lzma" if is_older else name


def same_filter(name: str | None) -> str:
    """Gives one name for all filters with the same decoder; ``""`` for no compression."""
    if name is None or name == NONE:
        return ""
    make = DECODERS.get(name)
    return next((known for known in DECODERS if DECODERS[known] is make), name)


def other_filter(from_header: str | None, override: str | None) -> str:
    """Gives a warning if the user's filter contradicts the header's; ``""`` if not."""
    said = decoder_name(from_header)
    is_nothing_new = said == "" or same_filter(override) == same_filter(said)
    if override not in KNOWN_FILTERS or is_nothing_new:
        return ""
    shown = NONE if from_header is None else display(from_header[:_SHOWN])
    return f"files are decompressed with {override}, as you asked; the header says {shown}"


# chunks' events in → pieces of the decompressed stream out
Decompress = Callable[[Iterable[Event]], Iterator[memoryview]]


@dataclass(frozen=True)
class BuiltInFilter:
    """Filter with a built-in decoder.

    Args:
        name: its name in `DECODERS`.
        command: the program in the header, with its options; ``""`` where none is named.
        make: makes a decoder of one stream.
        limits: bounds the decoder's memory.
    """

    name: str
    command: str
    make: Callable[[Limits], Decoder]
    limits: Limits

    def __call__(self, events: Iterable[Event]) -> Iterator[memoryview]:
        """Decompresses a file's chunks."""
        return _decompress(self.make, self.name, self.limits, events)


def choose_filter(from_header: str | None, override: str | None, limits: Limits) -> Decompress:
    """Chooses the filter that decompresses the files of a backup.

    Args:
        from_header: the command in the authenticated header; None when not compressed.
        override: filter or program (called with ``-d``) that the user named; takes precedence
            over the header.
        limits: bounds the decompressor's memory.

    Raises:
        UnsupportedFormat: the header names a filter that is not built in, or one that
            needs a package which is not installed.
        UsageError: the override is empty, or has a quote without an end.
    """
    name = override if override is not None else decoder_name(from_header)
    if name is None or name == NONE:
        return raw
    if name in DECODERS:
        make = DECODERS[name]
        make(limits)  # called here too, so that a missing package is reported at once
        return BuiltInFilter(name, from_header or "", make, limits)
    if override is None:
        raise _not_built_in(from_header or "", name)
    try:
        command = shlex.split(override)
    except ValueError as error:
        raise UsageError(f"the compression filter can't be understood: {error}") from None
    if not command:
        raise UsageError("the compression filter's name is empty")
    return lambda events: run_filter([*command, "-d"], events)


def _not_built_in(words: str, name: str) -> UnsupportedFormat:
    """Gives the error for a header whose filter has no built-in decoder."""
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


def _decompress(
    make: Callable[[Limits], Decoder], name: str, limits: Limits, events: Iterable[Event]
) -> Iterator[memoryview]:
    decoder = make(limits)
    own_end = own_end_of(events) or OwnEnd()
    own_end.is_stream_over = False
    padding = Padding(name)
    yields = StreamYield(name, limits)
    started = False
    head = b""  # first bytes of the current stream, for error messages
    for piece in slices(events, INPUT_SIZE):
        data: bytes | memoryview = piece
        yields.take(len(piece))
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
            yields.give(len(output), ends=decoder.eof)
            data = decoder.unused_data if decoder.eof else b""
            if output:
                yield memoryview(output)
        own_end.is_stream_over = decoder.eof
        del piece, data  # views of the chunk, whose memory must be free before the next one comes
    if not started or not decoder.eof:
        raise Damaged(f"the {name} stream is cut off: its end is missing")


def _stream_error(
    name: str, error: Exception, head: bytes, limits: Limits
) -> Damaged | LimitExceeded:
    words = str(error).lower()
    if "limit" in words or "too much memory" in words:  # wording of xz's and zstd's errors
        needed = decoder_memory(name, head)
        wanted = "more memory" if needed is None else f"{needed} bytes of memory, more"
        return LimitExceeded(
            f"to unpack the {name} stream takes {wanted} than the limit decoder_memory allows"
            f" ({limits.decoder_memory})",
            limit="decoder_memory",
            needed=needed,
        )
    return Damaged(f"the {name} stream is broken, or something follows its end ({error})")
