"""Many small files of one folder: on the disk before it has its name, several at a time."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest

from qbackup.base.errors import MachineError
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.sinks import TreeSink

COUNT = 100
FILES = [f"folder/{number}" for number in range(COUNT)]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def fill(tree: TreeSink) -> None:
    tree.folder("folder")
    for number, path in enumerate(FILES):
        with tree.file(path, 4, 0o640, number * 10**9) as file:
            file.write(0, memoryview(b"%4d" % number))
            file.commit(4)
    tree.finish_folder("folder", 0o750, 10**9)
    tree.finish_folder(".", 0o755, 10**9)


class TestManyFiles:
    def test_all_are_on_the_disk_before_the_folder_has_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[str] = []
        real = os.fsync

        def recorded(fd: int) -> None:
            real(fd)
            if not (tmp_path / "tree").exists():
                synced.append(os.readlink(f"/proc/self/fd/{fd}"))

        monkeypatch.setattr(os, "fsync", recorded)
        with closing(FolderWriter(str(tmp_path))) as writer, writer.tree("", "tree") as tree:
            fill(tree)
            tree.commit()
        part = tmp_path / "tree.part"
        assert {str(part / path) for path in (*FILES, "folder")} | {str(part)} <= set(synced)
        for number, path in enumerate(FILES):
            state = (tmp_path / "tree" / path).stat()
            assert (state.st_mode & 0o777, state.st_mtime) == (0o640, number)
            assert (tmp_path / "tree" / path).read_bytes() == b"%4d" % number

    def test_few_are_open_at_once_and_none_in_the_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, most = open_files(), 0
        real = os.fsync

        def counted(fd: int) -> None:
            nonlocal most
            most = max(most, open_files())
            real(fd)

        monkeypatch.setattr(os, "fsync", counted)
        with closing(FolderWriter(str(tmp_path))) as writer, writer.tree("", "tree") as tree:
            fill(tree)
            tree.commit()
        assert open_files() == before
        assert most < before + 50

    @pytest.mark.parametrize("failing", [FILES[3], FILES[-1], "folder"])
    def test_a_disk_that_fails_with_one_of_them_gives_the_folder_no_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        before, real = open_files(), os.fsync

        def fail(fd: int) -> None:
            if os.readlink(f"/proc/self/fd/{fd}").endswith(f"tree.part/{failing}"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(fd)

        monkeypatch.setattr(os, "fsync", fail)
        with (
            closing(FolderWriter(str(tmp_path))) as writer,
            pytest.raises(MachineError, match=f"can't write {failing}: Input/output"),
            writer.tree("", "tree") as tree,
        ):
            fill(tree)
            tree.commit()
        assert os.listdir(tmp_path) == []
        assert open_files() == before

    def test_where_no_more_can_be_open_each_is_brought_there_by_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: set[str] = set()
        real = os.fsync

        def no_more(fd: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        def recorded(fd: int) -> None:
            real(fd)
            synced.add(os.readlink(f"/proc/self/fd/{fd}"))

        with (
            closing(FolderWriter(str(tmp_path))) as writer,
            writer.tree("", "tree") as tree,
            tree.file("file", 1, 0o600, 0) as file,
        ):
            file.write(0, memoryview(b"x"))
            with monkeypatch.context() as patch:
                patch.setattr(os, "dup", no_more)
                patch.setattr(os, "fsync", recorded)
                file.commit(1)
            assert synced == {str(tmp_path / "tree.part" / "file")}
