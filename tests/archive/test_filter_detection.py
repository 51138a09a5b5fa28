"""The filter is detected from verified chunks alone, and from few of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from qbackup.archive.unlock.filter_detection import detect_from_chunks
from qbackup.base.errors import UnsupportedFormat
from qbackup.base.limits import Limits
from qbackup.content.detect import NONE
from qbackup.content.filters import same_filter
from qbackup.crypto.kdf import Deriver
from qbackup.formats.v4 import NAMING, UnlockedFormat4
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.catalog import SeekableCatalog
from qbackup.storage.chunk import StoredChunk
from qbackup.storage.source import SeekableSource, open_source
from tests.support import vectorfiles

VECTORS = [
    name
    for name in vectorfiles.readable()
    if vectorfiles.load(name)["format"] == 4 and vectorfiles.load(name)["backup_id"]
]
FOLDERS = "gzip-folders"


class Backup:
    """A format 4 backup's chunks, without a look at its header."""

    def __init__(self, path: Path, source: SeekableSource, pipeline: Pipeline) -> None:
        vector = vectorfiles.load(path.stem)
        self.filter = vector["compression_filter"]
        limits = Limits()
        catalog = SeekableCatalog.opened(source, limits, print, NAMING)
        self.format = UnlockedFormat4(vector["backup_id"], vector["passphrase"].encode(), limits)
        self.firsts: list[StoredChunk] = [next(iter(file.chunks)) for file in catalog.files()]
        self.pipeline = pipeline


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Backup]:
    with (
        contextlib.closing(open_source(path)) as source,
        contextlib.closing(Pipeline(Deriver())) as pipeline,
    ):
        assert isinstance(source, SeekableSource)
        yield Backup(path, source, pipeline)


@pytest.mark.parametrize("name", VECTORS)
def test_each_filter_is_detected(name: str) -> None:
    with opened(vectorfiles.backup_path(name)) as backup:
        found = detect_from_chunks(backup.format, backup.firsts, backup.pipeline)
        assert found == (same_filter(backup.filter) or NONE)


def test_a_chunk_that_is_damaged_is_passed_over(tmp_path: Path) -> None:
    path = vectorfiles.backup_path(FOLDERS)
    data = bytearray(path.read_bytes())
    with opened(path) as backup:
        first = backup.firsts[0]
        data[first.offset + first.size - 1] ^= 1
    damaged = tmp_path / path.name
    damaged.write_bytes(data)
    with opened(damaged) as backup:
        assert detect_from_chunks(backup.format, backup.firsts, backup.pipeline) == "gzip"
        with pytest.raises(UnsupportedFormat, match="--compression-filter"):
            detect_from_chunks(backup.format, backup.firsts[:1], backup.pipeline)


def test_only_some_chunks_are_tried() -> None:
    with opened(vectorfiles.backup_path(FOLDERS)) as backup:
        wrong = UnlockedFormat4("another-id", b"wrong", Limits())
        many = iter(backup.firsts[:1] * 100)
        with pytest.raises(UnsupportedFormat, match="--compression-filter"):
            detect_from_chunks(wrong, many, backup.pipeline)
        assert len(list(many)) == 80
