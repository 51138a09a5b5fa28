"""Removing and replacing in a folder that others can write into."""

from __future__ import annotations

import ast
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from qbackup.base.errors import MachineError
from qbackup.restore.output.folders import make_folders, remove
from qbackup.restore.output.naming import names_in
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.sinks import CannotWrite

DEPTH = 1200  # more than Python calls and files that a process may open
PACKAGE = Path(__file__).parents[2] / "qbackup"

#: Functions that call themselves, and what bounds how deep that goes.
RECURSIVE = {
    ("cli/kit/build.py", "_sources"): "our own package",
    ("image/ext4/extents.py", "_below"): "three levels of the format",
    ("image/ext4/extents.py", "_extents"): "five levels of the format, which are checked",
    ("storage/resync.py", "_fill"): "the size of a buffer, divided each time",
    ("storage/merging.py", "fill_past_errors"): "the size of a buffer, divided each time",
}


def make_deep(folder: Path, depth: int) -> None:
    """Makes a row of folders in folders, deeper than a path may be."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("f", os.O_CREAT, dir_fd=fd))
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def removed(folder: Path, name: str) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        remove(fd, name)
    finally:
        os.close(fd)


class TestRemove:
    def test_a_row_of_folders_of_any_depth(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        make_deep(tmp_path / "x", DEPTH)
        removed(tmp_path, "x")
        assert os.listdir(tmp_path) == []

    def test_a_tree_with_folders_that_nobody_may_open(self, tmp_path: Path) -> None:
        for path in ("x/a/b/c", "x/a/e", "x/.qbackup-below-0"):
            (tmp_path / path).mkdir(parents=True)
            (tmp_path / path / "file").write_text("x")
        (tmp_path / "x/a/b").chmod(0)
        removed(tmp_path, "x")
        assert os.listdir(tmp_path) == []

    def test_follows_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "mine/deep").mkdir(parents=True)
        (tmp_path / "x/a").mkdir(parents=True)
        (tmp_path / "x/a/link").symlink_to(tmp_path / "mine")
        (tmp_path / "x/link").symlink_to(tmp_path / "mine")
        removed(tmp_path, "x")
        assert os.listdir(tmp_path) == ["mine"]
        assert os.listdir(tmp_path / "mine") == ["deep"]

    def test_nothing(self, tmp_path: Path) -> None:
        removed(tmp_path, "x")


@pytest.mark.slow
def test_a_planted_part_costs_no_restore(tmp_path: Path) -> None:
    part = tmp_path / "personal/private.img.part"
    part.mkdir(parents=True)
    make_deep(part, DEPTH)
    with FolderWriter(tmp_path).image("personal", "private.img") as image:
        image.write(0, memoryview(b"whole"))
        image.commit(5)
    assert (tmp_path / "personal/private.img").read_bytes() == b"whole"


def test_functions_that_call_themselves_are_bounded() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        names = recursive(tree.body, "")
        for part in ast.walk(tree):
            names |= recursive(part.body, "self.") if isinstance(part, ast.ClassDef) else set()
        found |= {(path.relative_to(PACKAGE).as_posix(), name) for name in names}
    assert found == set(RECURSIVE)


def recursive(body: list[ast.stmt], prefix: str) -> set[str]:
    """The functions of a module (no prefix) or a class that call themselves."""
    return {
        function.name
        for function in body
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == prefix + function.name
    }


class TestNamesOfOurOwn:
    """No file's unfinished name is another file's."""

    @pytest.mark.parametrize("other", ["notes.txt.old", "notes.txt.damaged", "notes.txt.old.old"])
    def test_two_files_at_once(self, tmp_path: Path, other: str) -> None:
        writer = FolderWriter(tmp_path)
        with writer.image("q", other) as first:
            first.write(0, memoryview(b"first"))
            with writer.image("q", "notes.txt") as second:
                second.write(0, memoryview(b"second"))
                second.commit(6)
            first.commit(5)
        assert (tmp_path / "q" / other).read_bytes() == b"first"
        assert (tmp_path / "q/notes.txt").read_bytes() == b"second"
        assert len(os.listdir(tmp_path / "q")) == 2

    def test_what_a_kill_left_of_one_is_not_taken_for_another(self, tmp_path: Path) -> None:
        (tmp_path / "q").mkdir()
        (tmp_path / "q/notes.txt.old.part").write_bytes(b"half")
        with FolderWriter(tmp_path).image("q", "notes.txt") as image:
            image.write(0, memoryview(b"whole"))
            image.commit(5)
        assert (tmp_path / "q/notes.txt").read_bytes() == b"whole"

    def test_a_replacement_that_is_interrupted_is_undone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "x").mkdir()
        (tmp_path / "x/mine").write_text("mine")
        rename = os.rename
        calls: list[object] = []

        def interrupted(*arguments: Any, **options: Any) -> None:
            calls.append(arguments)
            if len(calls) == 2:
                raise KeyboardInterrupt
            rename(*arguments, **options)

        writer = FolderWriter(tmp_path, overwrite=True, is_own=False)
        with pytest.raises(KeyboardInterrupt), writer.tree("", "x") as tree:
            monkeypatch.setattr(os, "rename", interrupted)
            tree.commit()
        assert os.listdir(tmp_path) == ["x"]
        assert os.listdir(tmp_path / "x") == ["mine"]


def test_a_part_that_another_program_made_meanwhile_stays(tmp_path: Path) -> None:
    with FolderWriter(tmp_path, is_own=False).image("", "x") as image:
        image.write(0, memoryview(b"whole"))
        image.commit(5)
        (tmp_path / "x.part").write_text("another's")
    assert (tmp_path / "x.part").read_text() == "another's"


def test_two_threads_see_all_names_of_a_folder(tmp_path: Path) -> None:
    """Each by a descriptor that `dup` made from one, as two of a restore's threads have them."""
    expected = {f"{number:04d}".encode() for number in range(3000)}
    for name in expected:
        (tmp_path / os.fsdecode(name)).touch()
    root = os.open(tmp_path, os.O_RDONLY)
    missed: list[int] = []

    def look(fd: int) -> None:
        missed.extend(len(expected - set(names_in(fd))) for _ in range(20))

    threads = [threading.Thread(target=look, args=(os.dup(root),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(missed) == {0}


class TestTheUsersOwnOldPart:
    """A copy into a folder that may hold anything takes no name for its own."""

    def test_is_left_alone_and_named(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        (tmp_path / "x.part.part").write_text("mine")
        writer = FolderWriter(tmp_path, overwrite=True, is_own=False)
        with (
            pytest.raises(CannotWrite, match=r"^x\.part\.part, the name of what is replaced"),
            writer.tree("", "x"),
        ):
            pytest.fail("nothing may be written")
        assert sorted(os.listdir(tmp_path)) == ["x", "x.part.part"]

    def test_made_meanwhile_is_left_alone_too(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        writer = FolderWriter(tmp_path, overwrite=True, is_own=False)
        with pytest.raises(CannotWrite, match=r"part\.part"), writer.tree("", "x") as tree:
            (tmp_path / "x.part.part").write_text("mine")
            tree.commit()
        assert (tmp_path / "x.part.part").read_text() == "mine"
        assert (tmp_path / "x").is_dir()

    def test_takes_no_name_that_is_free(self, tmp_path: Path) -> None:
        (tmp_path / "x.part.part").write_text("mine")
        with FolderWriter(tmp_path, is_own=False).image("", "x") as image:
            image.write(0, memoryview(b"new"))
            image.commit(3)
        assert (tmp_path / "x.part.part").read_text() == "mine"
        assert (tmp_path / "x").read_text() == "new"


class TestNewOutputFolders:
    """The name of each new folder is on the disk before anything is written into it.

    The output folder itself is synced last, which shows if its file system can do that.
    """

    def names_synced(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> list[str]:
        """Makes an output folder; gives the calls that make or sync a folder, by their paths."""
        calls: list[str] = []
        real = os.mkdir, os.fsync

        def mkdir(made: os.PathLike[str], *arguments: Any) -> None:
            real[0](made, *arguments)
            calls.append(f"mkdir {os.path.basename(made)}")

        def fsync(fd: int) -> None:
            real[1](fd)
            calls.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")

        monkeypatch.setattr(os, "mkdir", mkdir)
        monkeypatch.setattr(os, "fsync", fsync)
        FolderWriter(path).close()
        return calls

    def test_each_is_synced_in_the_one_above(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        above = f"fsync {tmp_path.name}"
        assert self.names_synced(monkeypatch, tmp_path / "a/b/out") == [
            *("mkdir a", above),
            *("mkdir b", "fsync a"),
            *("mkdir out", "fsync b"),
            "fsync out",
        ]

    def test_more_than_python_calls(self, tmp_path: Path) -> None:
        (tmp_path / "beside").touch()
        path = os.path.join(tmp_path, *["d"] * DEPTH)
        make_folders(path)
        os.removedirs(path)  # all of them; which pytest can't
        assert os.listdir(tmp_path) == ["beside"]

    def test_one_that_is_there_needs_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.names_synced(monkeypatch, tmp_path) == [f"fsync {tmp_path.name}"]

    def test_the_true_one_above_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Behind a link, `..` is not what the path's text says."""
        (tmp_path / "elsewhere/deep").mkdir(parents=True)
        (tmp_path / "link").symlink_to("elsewhere/deep")
        path = tmp_path / "link/../out"
        made = ["mkdir out", "fsync elsewhere", "fsync out"]
        assert self.names_synced(monkeypatch, path) == made

    def test_a_disk_that_fails_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(MachineError, match="can't use the output folder"):
            FolderWriter(tmp_path / "out")
