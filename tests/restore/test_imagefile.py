"""The spare file beside a restored one: read again while it is written, and kept only if asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from qbackup.restore.aside import KeptAside
from qbackup.restore.nowhere import NowhereWriter
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.plan import Target
from qbackup.restore.sinks import CannotWrite, SpareSink


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[FolderWriter]:
    with contextlib.closing(FolderWriter(tmp_path / "out", keep_damaged=True)) as writer:
        yield writer


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out/work").iterdir())


class TestSpare:
    def test_zeros_that_were_not_written_are_read(self, writer: FolderWriter) -> None:
        data = b"abc".ljust(9_000, b"\0")
        with writer.spare("work", "private.img") as spare:
            spare.write(0, memoryview(data))
            assert spare.read(0, 9_000) == data
            assert spare.read(8_000, 5_000) == bytes(5_000)

    def test_what_was_cut_off_is_gone(self, writer: FolderWriter) -> None:
        with writer.spare("work", "private.img") as spare:
            spare.write(0, memoryview(b"x" * 9_000))
            spare.cut(10)
            assert spare.read(0, 20) == b"x" * 10 + bytes(10)

    def test_without_a_word_nothing_stays(self, writer: FolderWriter, tmp_path: Path) -> None:
        with writer.spare("work", "private.img") as spare:
            spare.write(0, memoryview(b"abc"))
            assert names(tmp_path) == ["private.img.unplaced.part"]
        assert names(tmp_path) == []

    def test_it_is_kept_under_a_free_name(self, writer: FolderWriter, tmp_path: Path) -> None:
        for content, name in [(b"a", ""), (b"b", ".2"), (b"a", ""), (b"c", ".3")]:
            with writer.spare("work", "private.img") as spare:
                spare.write(0, memoryview(content * 5))
                assert spare.keep(3) == f"private.img.unplaced{name}"
            path = tmp_path / f"out/work/private.img.unplaced{name}"
            assert path.read_bytes() == content * 3
            assert path.stat().st_mode & 0o777 == 0o600
        assert len(names(tmp_path)) == 3

    def test_no_name_of_the_backup_s_own_files_is_taken(self, tmp_path: Path) -> None:
        taken = "work/private.img.unplaced"
        made = FolderWriter(
            tmp_path / "out", keep_damaged=True, is_taken=lambda path: path == taken
        )
        with contextlib.closing(made) as writer, writer.spare("work", "private.img") as spare:
            spare.write(0, memoryview(b"abc"))
            assert spare.keep(3) == "private.img.unplaced.2"


class Refusing(NowhereWriter):
    """A writer that can make no spare file, as where the name gets too long."""

    def spare(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        raise CannotWrite("too long")


class TestAside:
    def test_it_is_made_when_it_is_needed(self, writer: FolderWriter, tmp_path: Path) -> None:
        with KeptAside(writer, Target("work", "private.img", None)) as aside:
            assert not (tmp_path / "out/work").exists()
            assert aside.room.open() is aside.room.open() is not None
            assert aside.keep() is None
        assert names(tmp_path) == []

    def test_where_none_can_be_made_there_is_none(self) -> None:
        with KeptAside(Refusing(), Target("work", "private.img", None)) as aside:
            assert aside.room.open() is None and aside.keep() is None
