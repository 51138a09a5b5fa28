"""Second runs over a home that is closed to its owner, by a user who is not root."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import qbackup
from qbackup.restore.output.access import open_file, opened_folder
from qbackup.restore.output.writer import FolderWriter
from tests.support.restored import statuses
from tests.testkit import vector

HOME = vector.load("home-closed-to-its-owner")
NOBODY = 65534


@pytest.fixture
def own() -> Iterator[Path]:
    """A folder of the user who is not root, with the backup in it."""
    folder = Path(tempfile.mkdtemp(prefix="qbackup-"))
    (folder / "backup").write_bytes(HOME.backup)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    for root, _, _ in os.walk(folder):
        os.chmod(root, 0o700)
        for entry in os.scandir(root):
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry, 0o700)
    shutil.rmtree(folder)


def as_user(work: Callable[[], object]) -> None:
    """Does some work in a child of this process, as a user who is not root."""
    child = os.fork()
    if not child:
        status = 99
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            work()
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def restore(own: Path, *, overwrite: bool = False) -> dict[str, str]:
    with qbackup.open(own / "backup", passphrase=HOME.passphrase) as archive:
        report = archive.restore(own / "out", overwrite=overwrite, check=False)
    return statuses(report)


def expect(own: Path, status: str, *, overwrite: bool = False) -> Callable[[], None]:
    def work() -> None:
        found = restore(own, overwrite=overwrite)
        assert found["dom0/user"] == status, found

    return work


def modes(folder: Path) -> dict[str, int]:
    """Path → mode of all that is below; read by root, or with what its owner may see."""
    found = {}
    for root, names, files in os.walk(folder):
        for path in (Path(root) / name for name in (*names, *files)):
            found[str(path.relative_to(folder))] = stat.S_IMODE(path.lstat().st_mode)
    return found


class TestSecondRun:
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_keeps_the_home_and_its_modes(self, own: Path, overwrite: bool) -> None:
        as_user(expect(own, "ok"))
        before = modes(own / "out")
        as_user(expect(own, "kept", overwrite=overwrite))
        assert modes(own / "out") == before
        if os.geteuid() == 0:
            assert before["dom0/user/file-200"] == 0o200
            assert before["dom0/user/folder-000"] == 0

    def test_sees_another_content(self, own: Path) -> None:
        as_user(expect(own, "ok"))

        def change() -> None:
            path = own / "out/dom0/user/file-200"
            path.write_bytes(b"file-2OO")

        as_user(change)
        as_user(expect(own, "exists"))
        as_user(expect(own, "ok", overwrite=True))
        as_user(expect(own, "kept"))

    def test_sees_another_mode(self, own: Path) -> None:
        as_user(expect(own, "ok"))
        as_user(lambda: os.chmod(own / "out/dom0/user/folder-000", 0o100))
        as_user(expect(own, "exists"))

    def test_completes_a_run_that_was_killed_before_the_rename(self, own: Path) -> None:
        as_user(expect(own, "ok"))
        as_user(lambda: os.rename(own / "out/dom0/user", own / "out/dom0/user.part"))
        as_user(expect(own, "ok"))
        assert os.listdir(own / "out/dom0") == ["user"]

    def test_completes_a_run_that_was_killed_after_the_rename(self, own: Path) -> None:
        as_user(expect(own, "ok"))
        journal = own / "out/.qbackup-journal"
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(line for line in lines if b'"ready"' in line))
        as_user(
            lambda: shutil.copytree(own / "out/dom0/user/folder-555", own / "out/dom0/user.part")
        )
        as_user(expect(own, "kept"))
        assert os.listdir(own / "out/dom0") == ["user"]


class TestOutputFolder:
    def test_is_made_where_one_may_not_list(self, own: Path) -> None:
        """Then its name can't be synced, and nothing is lost by that."""

        def work() -> None:
            (own / "drop").mkdir(mode=0o300)
            FolderWriter(own / "drop/out").close()
            assert (own / "drop/out").is_dir()

        as_user(work)


class TestWithoutHardLinks:
    def test_a_second_name_of_a_closed_file_is_a_copy(self, own: Path) -> None:
        def work() -> None:
            with FolderWriter(own / "out").tree("q", "t") as tree:
                with tree.file("a", 4, 0o200, 0) as file:
                    file.write(0, memoryview(b"text"))
                    file.commit(4)
                assert tree.copy("b", "a") == 4
                tree.commit()
            assert stat.S_IMODE((own / "out/q/t/b").stat().st_mode) == 0o200

        as_user(work)


class TestAccess:
    """Only the user's own file is changed, and never through a link."""

    def test_is_taken_back_after_an_error(self, own: Path) -> None:
        def work() -> None:
            (own / "closed").mkdir(mode=0)
            fd = os.open(own, os.O_RDONLY)
            with pytest.raises(KeyboardInterrupt), opened_folder(fd, b"closed") as (inside, state):
                assert os.listdir(inside) == []
                assert stat.S_IMODE(state.st_mode) == 0
                raise KeyboardInterrupt
            assert stat.S_IMODE((own / "closed").stat().st_mode) == 0

        as_user(work)

    def test_is_not_taken_of_what_was_exchanged(self, own: Path) -> None:
        def work() -> None:
            for made in ("closed", "other"):
                (own / made).touch(mode=0o200)
            (own / "link").symlink_to("other")
            fd = os.open(own, os.O_RDONLY)
            state = os.lstat(own / "closed")
            for name in (b"other", b"link"):
                with pytest.raises(OSError):
                    open_file(fd, name, state)
            assert stat.S_IMODE((own / "other").stat().st_mode) == 0o200

        as_user(work)

    def test_is_not_taken_of_another_users_file(self, own: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("takes two users")
        (own / "roots").write_bytes(b"x")
        (own / "roots").chmod(0o200)

        def work() -> None:
            fd = os.open(own, os.O_RDONLY)
            with pytest.raises(PermissionError):
                open_file(fd, b"roots", os.lstat(own / "roots"))

        as_user(work)
