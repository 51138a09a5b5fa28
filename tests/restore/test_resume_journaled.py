"""Sinks of a journaled restore: what is hashed, and when the journal gets its lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from qbackup.restore.output.digest import ContentHash, TreeHash
from qbackup.restore.output.rehash import hash_image
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.resume.journal import JOURNAL_NAME, Journal
from qbackup.restore.resume.journaled import JournaledImage, JournaledRename, JournaledTree
from qbackup.restore.sinks import CannotWrite

KEY = bytes(32)
TEXT = b"verified bytes"


class Folder:
    """An output folder with a journal that nobody else writes into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = FolderWriter(path, keep_damaged=True)
        self.warnings: list[str] = []
        self.journal = Journal(self.writer.folder, KEY, limit=1 << 20, warn=self.warnings.append)

    def rename(self, name: str, kind: Literal["file", "folder"] = "file") -> JournaledRename:
        return JournaledRename(self.journal, "work", name, kind)

    def lines(self) -> int:
        path = self.path / JOURNAL_NAME
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    @contextlib.contextmanager
    def image(self, name: str) -> Iterator[JournaledImage]:
        with (
            self.writer.image("work", name) as sink,
            contextlib.closing(JournaledImage(sink, self.rename(name))) as image,
        ):
            yield image

    @contextlib.contextmanager
    def tree(self, name: str) -> Iterator[JournaledTree]:
        with self.writer.tree("work", name) as sink:
            yield JournaledTree(sink, self.rename(name, "folder"), self.warnings.append)

    def close(self) -> None:
        self.journal.close()
        self.writer.close()


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Folder]:
    with contextlib.closing(Folder(tmp_path / "out")) as folder:
        yield folder


class TestRename:
    def test_has_a_line_before_and_one_after(self, out: Folder) -> None:
        with out.image("text") as image:
            image.write(0, memoryview(TEXT))
        before = out.lines()
        with out.rename("text").around("00" * 32, len(TEXT), 1):
            during = out.lines()
            found = out.journal.find("work", "text")
            assert found is not None
            assert not out.journal.is_whole(found)
        assert (during, out.lines()) == (before + 1, before + 2)
        found = out.journal.find("work", "text")
        assert found is not None
        assert out.journal.is_whole(found)

    def test_that_fails_has_no_second_line(self, out: Folder) -> None:
        with pytest.raises(CannotWrite), out.rename("text").around("00" * 32, 1, 1):
            raise CannotWrite("refused")
        found = out.journal.find("work", "text")
        assert found is not None
        assert not out.journal.is_whole(found)


class TestImage:
    def test_is_recorded_with_the_hash_of_what_is_there(self, out: Folder) -> None:
        with out.image("private.img") as image:
            image.write(0, memoryview(TEXT))
            image.write(8192, memoryview(TEXT))
            image.commit(1 << 20, 3)
        record = out.journal.find("work", "private.img")
        assert record is not None
        assert (record.size, record.chunks, record.kind) == (1 << 20, 3, "file")
        assert record.sha256 == hash_image(out.writer.folder, "work/private.img", 1 << 20)

    def test_that_is_damaged_is_not_recorded(self, out: Folder) -> None:
        with out.image("private.img") as image:
            image.write(0, memoryview(TEXT))
            assert image.keep(len(TEXT)) == "private.img.damaged"
        assert out.journal.find("work", "private.img") is None
        assert (out.path / "work/private.img.damaged").read_bytes() == TEXT


class TestTree:
    def test_is_recorded_with_all_that_is_in_it(self, out: Folder) -> None:
        with out.tree("user") as tree:
            tree.folder("docs")
            with tree.file("docs/a", len(TEXT), 0o640, 0) as file:
                file.write(0, memoryview(TEXT))
                file.commit(len(TEXT))
            tree.hard_link("docs/b", "docs/a")
            tree.symbolic_link("link", "docs/a", 0)
            tree.finish_folder("docs", 0o750, 0)
            tree.commit(len(TEXT), 2, refused=[("x", "refused")], notes=["a note"])
        record = out.journal.find("work", "user")
        assert record is not None
        assert (record.kind, record.chunks) == ("folder", 2)
        assert (record.refused, record.notes) == ((("x", "refused"),), ("a note",))
        assert record.sha256 == self.expected(modes=record.modes)

    def expected(self, *, modes: bool) -> str | None:
        tree = TreeHash(modes=modes)
        tree.folder("docs")
        tree.file("docs/a", 0o640, len(TEXT), self.hash_of(TEXT))
        tree.hard_link("docs/b", "docs/a")
        tree.symbolic_link("link", "docs/a")
        tree.folder("docs", 0o750)
        return tree.finish()

    def hash_of(self, data: bytes) -> str:
        content = ContentHash()
        content.update(0, memoryview(data))
        return content.finish(len(data))

    def test_with_too_many_entries_is_written_and_not_recorded(
        self, out: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gives_up(self: TreeHash) -> None:
            return None

        monkeypatch.setattr(TreeHash, "finish", gives_up)
        with out.tree("user") as tree:
            tree.folder("docs")
            tree.commit()
        assert (out.path / "work/user/docs").is_dir()
        assert out.journal.find("work", "user") is None
        assert len(out.warnings) == 1
        assert "work/user" in out.warnings[0]

    def test_that_is_incomplete_is_not_recorded(self, out: Folder) -> None:
        with out.tree("user") as tree:
            tree.folder("docs")
            assert tree.keep() == "user.damaged"
        assert out.journal.find("work", "user") is None
