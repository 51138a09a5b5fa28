"""Detection of the compression filter from verified chunks, where no header can be believed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from qbackup.base.errors import FILE_ERRORS, UnsupportedFormat
from qbackup.content.detect import detect_filter
from qbackup.formats.protocol import UnlockedFormat
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.chunk import StoredChunk

_TRIES_LIMIT = 20  # chunks to open; each costs a derivation or two


def detect_from_chunks(
    format_: UnlockedFormat, chunks: Iterable[StoredChunk], pipeline: Pipeline
) -> str:
    """Detects the filter from the first of these chunks that can be verified and is not empty.

    Args:
        format_: opens the chunks.
        chunks: first chunks of files; at most 20 are tried.
        pipeline: derives their keys.

    Returns:
        The filter's name, `qbackup.content.detect.NONE` for no compression.

    Raises:
        UnsupportedFormat: no such chunk can be opened, or its beginning fits no known filter.
    """
    for chunk in islice(chunks, _TRIES_LIMIT):
        try:
            data = pipeline.open_chunk(format_, chunk)
        except FILE_ERRORS:
            continue
        if not len(data):
            continue
        name = detect_filter(data)
        if name is not None:
            return name
        raise UnsupportedFormat(
            "qbackup does not know how the files are compressed; name the program that does it:"
            " --compression-filter NAME"
        )
    raise UnsupportedFormat(
        "the first chunk of no file can be opened, so the data don't show how the files are"
        " compressed; name the program that does it: --compression-filter NAME"
    )
