"""The inner archive of an image, sparse or not: one file, its extents, and the proven end."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from qbackup.base.errors import Damaged, QBackupError
from qbackup.base.events import Extent, Gap, Missing, Piece
from qbackup.base.names import decode
from qbackup.content.inner import InnerArchive
from tests.fuzz.common import LIMITS, archives, outcome
from tests.fuzz.container import tarfile_members
from tests.support.tarbytes import in_pieces, read_headers

_NAME = "vm1/private.img"
_COMPARED_SIZE = 1 << 20
_GAP_SIZE = 100

Runs: TypeAlias = "list[tuple[int, bytes]]"


@dataclass
class _Image:
    """What came: the size that the header says, the data at their offsets, what ended it."""

    size: int
    runs: Runs = field(default_factory=list)
    error: str | None = None


def check(data: bytes) -> None:
    """However it comes in pieces, the same comes out; so says tarfile, and a gap moves nothing."""
    for archive in archives(data):
        name = own_name(archive, _NAME)
        image = _read(archive, name, max(1, len(archive)))
        assert image == _read(archive, name, 37)
        if image is not None and image.error is None:
            _check_against_tarfile(archive, name, image)
            _check_gap(archive, name, image)


def own_name(archive: bytes, otherwise: str) -> str:
    """The name that it gives itself, so that it is seldom refused for its name alone."""
    try:
        found = outcome(lambda: read_headers(archive, LIMITS))
    except EOFError:
        return otherwise
    return decode(found[0].name) if isinstance(found, tuple) and found[0] else otherwise


def _read(archive: bytes, name: str, piece: int) -> _Image | None:
    """None where it does not even begin as one file."""
    inner = InnerArchive(in_pieces(archive, piece), name, LIMITS)
    entry = outcome(inner.only_file)
    if isinstance(entry, QBackupError):
        return None
    assert entry.size <= LIMITS.file_size
    image = _Image(entry.size)

    def read() -> None:
        add_runs(image.runs, entry.extents(), entry.size)
        inner.finish()

    error = outcome(read)
    image.error = str(error) if error is not None else None
    return image


def add_runs(runs: Runs, extents: Iterator[Extent], size: int) -> None:
    """Adds what has data; runs that touch are one. Extents follow one another up to the size."""
    position = 0
    for extent in extents:
        assert extent.offset == position
        assert extent.length > 0
        position += extent.length
        assert position <= size
        if extent.data is None:
            continue
        assert len(extent.data) == extent.length
        if runs and runs[-1][0] + len(runs[-1][1]) == extent.offset:
            runs[-1] = runs[-1][0], runs[-1][1] + extent.data
        else:
            runs.append((extent.offset, bytes(extent.data)))
    assert position == size


def content(runs: Runs, size: int) -> bytes:
    """The file, its holes filled."""
    out = bytearray(size)
    for offset, run in runs:
        out[offset : offset + len(run)] = run
    return bytes(out)


def _check_against_tarfile(archive: bytes, name: str, image: _Image) -> None:
    opinion = tarfile_members(archive, sparse=True)
    if opinion is None or image.size > _COMPARED_SIZE:
        return
    (only,) = opinion
    of_1_0 = {"GNU.sparse.name", "GNU.sparse.realsize"} & set(only.pax_headers)
    if of_1_0 and "GNU.sparse.major" not in only.pax_headers:
        return  # of no known sparse format: its own name and size count here, as of a plain file
    assert decode(only.name.encode("utf-8", "surrogateescape")) == name
    assert only.size == image.size
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
        file = opened.extractfile(only)
        assert file is not None
        assert file.read() == content(image.runs, image.size)


def _check_gap(archive: bytes, name: str, image: _Image) -> None:
    """What is lost in the middle leaves the rest in its place."""
    start = len(archive) // 2
    end = min(start + _GAP_SIZE, len(archive))
    pieces: list[Piece] = [
        memoryview(archive)[:start],
        Gap(end - start, Damaged("lost")),
        memoryview(archive)[end:],
    ]
    inner = InnerArchive(iter(pieces), name, LIMITS, past_gaps=True)

    def read() -> None:
        entry, position, lost = inner.only_file(), 0, 0
        whole = content(image.runs, image.size) if image.size <= _COMPARED_SIZE else None
        for part in inner.parts(entry):
            assert part.offset == position
            position += part.length
            if isinstance(part, Missing):
                lost += part.length
            elif whole is not None and part.data is not None:
                assert part.data == whole[part.offset : position]
        assert position == image.size
        assert lost <= end - start
        inner.finish()

    outcome(read)
