"""One stored chunk: its bytes are read when they are asked for, within the limits, and once."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import pytest

from qbackup.chunk import EncryptedChunk
from qbackup.errors import AlreadyPassed, ChunkDamaged, LimitExceeded
from qbackup.formats.v4 import Door4
from qbackup.limits import Limits
from qbackup.names import ChunkName
from qbackup.source import PipeSource, Source, open_source
from tests.sources import Failing

BEFORE, CONTENT, BEHIND = b"before", bytes(range(200)), b"behind"
STORED = BEFORE + CONTENT + BEHIND
HEAD = 96


def file() -> Source:
    return open_source(io.BytesIO(STORED))


def pipe() -> Source:
    return PipeSource(io.BytesIO(STORED), owned=False)


def chunk(
    source: Source,
    size: int = len(CONTENT),
    *,
    name: str = "vm1/private.img",
    index: int = 0,
    limits: Limits | None = None,
) -> EncryptedChunk:
    """A chunk of this size behind BEFORE; it is not opened here, only read."""
    return EncryptedChunk(
        ChunkName(name, index),
        len(BEFORE),
        size,
        source=source,
        door=Door4,
        format_=cast(Any, None),
        pipeline=cast(Any, None),
        limits=limits or Limits(),
    )


class TestReading:
    @pytest.mark.parametrize("make", [file, pipe])
    def test_head_and_body_are_all_of_it(self, make: Any) -> None:
        one = chunk(make())
        assert one.read_head(HEAD) == CONTENT[:HEAD]
        assert one.read_body(HEAD) == CONTENT[HEAD:]

    def test_one_shorter_than_its_head_takes_nothing_from_behind_it(self) -> None:
        one = chunk(file(), 50)
        assert one.read_head(HEAD) == CONTENT[:50]
        assert bytes(one.read_body(HEAD)) == b""

    def test_from_a_file_it_can_be_read_again(self) -> None:
        one = chunk(file())
        assert one.read_body(HEAD) == one.read_body(HEAD) == CONTENT[HEAD:]

    def test_on_a_pipe_it_goes_by_once(self) -> None:
        one = chunk(pipe(), name="vm1/\x1b")
        one.read_body(HEAD)
        with pytest.raises(AlreadyPassed, match="went by") as caught:
            one.read_body(HEAD)
        assert caught.value.chunk == "vm1/\\x1b.000"

    @pytest.mark.parametrize("make", [file, pipe])
    def test_one_that_the_archive_ends_in_is_damaged(self, make: Any) -> None:
        one = chunk(make(), len(CONTENT + BEHIND) + 1, name="vm1/\x1b")
        with pytest.raises(ChunkDamaged, match="archive ends inside") as caught:
            one.read_body(0)
        assert caught.value.chunk == "vm1/\\x1b.000"

    def test_what_the_drive_says_is_told_of_the_chunk(self, tmp_path: Path) -> None:
        (tmp_path / "backup").write_bytes(STORED)
        drive = Failing(tmp_path / "backup", range(len(BEFORE), len(STORED)))
        one = chunk(open_source(cast(Any, drive)), name="vm1/\x1b")
        with pytest.raises(ChunkDamaged, match="Input/output error") as caught:
            one.read_head(HEAD)
        assert caught.value.chunk == "vm1/\\x1b.000"

    @pytest.mark.parametrize("part", ["read_head", "read_body"])
    def test_one_larger_than_the_limit_is_not_read(self, part: str) -> None:
        exact = Limits(chunk=len(CONTENT))
        assert getattr(chunk(file(), limits=exact), part)(0) is not None
        less = Limits(chunk=len(CONTENT) - 1)
        with pytest.raises(LimitExceeded, match="200 bytes, more than the 199") as caught:
            getattr(chunk(file(), name="vm1/\x1b", limits=less), part)(0)
        assert (caught.value.limit, caught.value.chunk) == ("chunk", "vm1/\\x1b.000")

    def test_is_shown_with_its_name_made_visible(self) -> None:
        assert repr(chunk(file(), 5, name="\x1b")) == "<EncryptedChunk \\x1b.000 of 5 bytes>"
