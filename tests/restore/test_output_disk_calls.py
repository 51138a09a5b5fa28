"""What a file system refuses costs no file: a restore goes on, and says once what is not kept.

A failing or a full disk is another matter. Each refusal is tried with each error number.
"""

from __future__ import annotations

import ast
import errno
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import qbackup
from qbackup import MachineError, Report
from qbackup.restore.output import disk_calls
from qbackup.restore.output.disk_calls import (
    is_failure,
    is_kept,
    set_length,
    set_mode,
    set_time,
    sync_file,
    write_at,
)
from tests.maker import make_ext4
from tests.support import vectorfiles
from tests.support.commandline import call
from tests.support.refusals import FAILURES, NUMBERS, REFUSALS, refuse, refuse_locks
from tests.support.restored import statuses
from tests.support.speed import rows

PRODUCT = Path(qbackup.__file__).parent
HOME, IMAGE = "v2-home", "gzip-published-header"
STEP = disk_calls._STEP_SIZE

#: Refusal → words of the one warning that says so; None where nothing is lost by it.
SAID = {
    "modes": "keeps no permissions",
    "modes of files": "does not keep all permissions",
    "sticky bits": None,
    "times": "does not take the times",
    "sync of folders": "can't write the names in folders",
    "sync of files": "can't write files to the disk",
    "sync": "can't write the names in folders",
    "links": None,
    "longer files": None,
    "gaps": "has no holes",
    "reserves": None,
    "figures": None,
}
STOPPING = ("modes", "modes of files", "times", "sync of folders", "sync of files", "gaps")
OF_HOMES_ONLY = ("modes", "modes of files", "times")  # images are made with the mode that they get


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below but the journal, by its path; of a link its text."""
    return {
        str(path.relative_to(folder)): os.fsencode(os.readlink(path))
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if (path.is_file() or path.is_symlink()) and path.name != ".qbackup-journal"
    }


def restore(name: str, out: Path) -> Report:
    passphrase = vectorfiles.load(name)["passphrase"]
    with qbackup.open(vectorfiles.backup_path(name), passphrase=passphrase) as backup:
        return backup.restore(out, check=False)


@pytest.fixture(scope="module", params=[HOME, IMAGE])
def vector(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, bytes]]:
    """The name of a committed backup, and what an undisturbed restore gives."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert restore(request.param, out).ok
    return request.param, contents(out)


def check_twice(vector: tuple[str, dict[str, bytes]], out: Path) -> Report:
    """Restores twice: all is there, and the second run knows it again."""
    name, expected = vector
    first = restore(name, out)
    assert [(r.name, r.error) for r in first.bad] == []
    found = contents(out)
    assert {path: found.get(path) for path in expected} == expected
    assert not [path for path in found if ".part" in path or "probe" in path]
    second = restore(name, out)
    assert set(statuses(second).values()) == {"kept"}
    assert second.errors == ()
    return first


@rows(("what", "number"), list(itertools.product(REFUSALS, NUMBERS)), quick=6)
def test_what_is_refused_costs_nothing_and_is_said_once(
    vector: tuple[str, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    number: int,
) -> None:
    refuse(monkeypatch, what, number)
    report = check_twice(vector, tmp_path / "out")
    said = SAID[what]
    if said is None or (what in OF_HOMES_ONLY and vector[0] != HOME):
        assert what == "modes of files" or report.warnings == ()
    else:
        assert sum(said in warning for warning in report.warnings) == 1
        assert len(report.warnings) == (2 if what == "sync" else 1)


def test_names_of_one_file_that_look_like_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIFS, as Samba and Linux 6.1 were seen to answer: one can be opened only after a while."""
    real, real_open, refused = os.lstat, os.open, set()
    waited: list[float] = []

    def late(path: bytes, flags: int, *mode: int, dir_fd: int | None = None) -> int:
        if path == b"hard-link" and path not in refused:
            refused.add(path)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real_open(path, flags, *mode, dir_fd=dir_fd)

    def lstat(path: bytes, *, dir_fd: int | None = None) -> os.stat_result:
        state = list(real(path, dir_fd=dir_fd))
        state[3] = 1
        return os.stat_result(state)

    restore(HOME, tmp_path / "out")
    monkeypatch.setattr(os, "lstat", lstat)
    monkeypatch.setattr(os, "open", late)
    monkeypatch.setattr(time, "sleep", waited.append)
    assert set(statuses(restore(HOME, tmp_path / "out")).values()) == {"kept"}
    assert waited == [1.0]


@rows("number", NUMBERS, quick=2)
def test_a_lock_that_is_refused_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse_locks(monkeypatch, number)
    report = restore(HOME, tmp_path / "out")
    (warning,) = report.warnings
    assert report.ok and "no folder locks" in warning


@rows(("what", "failure"), list(itertools.product(STOPPING, FAILURES)), quick=3)
def test_a_failing_disk_stops_all(
    vector: tuple[str, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    failure: int,
) -> None:
    name, expected = vector
    if what == "times" and name != HOME:
        pytest.skip("images have no times")
    refuse(monkeypatch, what, failure)
    with pytest.raises(MachineError, match=os.strerror(failure)):
        restore(name, tmp_path / "out")
    found = contents(tmp_path / "out")
    assert found.items() <= expected.items()
    assert "dom0" not in "".join(found)


def test_a_copy_out_of_an_image_says_what_is_not_kept(
    tools: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "letter").write_text("text")
    image = make_ext4(tmp_path / "image", 8 << 20, tree)
    refuse(monkeypatch, "times", errno.EPERM)
    for path in ("/", "/letter"):
        copied = call("cp", f"{image}:{path}", tmp_path / f"copy{len(path)}")
        assert copied.status == 0
        assert copied.err.count("does not take the times") == 1
    assert (tmp_path / "copy1/letter").read_text() == (tmp_path / "copy7").read_text() == "text"


class TestCalls:
    @pytest.fixture
    def fd(self, tmp_path: Path) -> Iterator[int]:
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        yield fd
        os.close(fd)

    def test_a_number_alone_shows_no_failure_but_of_the_disk(self) -> None:
        assert all(is_failure(OSError(number, "")) for number in FAILURES)
        assert not any(is_failure(OSError(number, "")) for number in NUMBERS)

    def test_permissions_that_are_there_are_given(
        self, fd: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert set_mode(fd, 0o1640) == 0o1640
        refuse(monkeypatch, "sticky bits", errno.EPERM)
        assert set_mode(fd, 0o1600) == 0o600
        refuse(monkeypatch, "modes", errno.EPERM)
        assert set_mode(fd, 0o1644) == 0o600
        assert is_kept(0o1600, 0o600) and not is_kept(0o644, 0o600)

    @pytest.mark.parametrize("mtime_ns", [0, -(10**18), 1 << 200, -(1 << 200)])
    def test_a_time_out_of_range_is_no_error(self, fd: int, mtime_ns: int) -> None:
        assert set_time(fd, mtime_ns)

    def test_syncing_tells_if_it_was_done(self, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
        assert sync_file(fd)
        refuse(monkeypatch, "sync", errno.EINVAL)
        assert not sync_file(fd)

    @pytest.mark.parametrize("size", [0, 1, STEP, STEP + 1, 3 * STEP + 5, 1 << 40])
    def test_a_length_is_set_with_holes(self, fd: int, size: int) -> None:
        set_length(fd, size)
        state = os.fstat(fd)
        assert (state.st_size, state.st_blocks) == (size, 0)

    @pytest.mark.parametrize("what", ["longer files", "gaps"])
    @pytest.mark.parametrize("size", [0, 1, 3 << 20])
    def test_a_length_is_set_by_writing(
        self, fd: int, monkeypatch: pytest.MonkeyPatch, what: str, size: int
    ) -> None:
        refuse(monkeypatch, what, errno.EPERM)
        set_length(fd, size)
        assert os.pread(fd, size + 1, 0) == bytes(size)

    @pytest.mark.parametrize("is_taken", [True, False])
    def test_a_file_without_holes_grows_in_steps(
        self, fd: int, monkeypatch: pytest.MonkeyPatch, is_taken: bool
    ) -> None:
        """No call writes zeros for minutes; but a share that makes up blocks needs no steps."""
        real, sizes = os.ftruncate, []

        def grow(number: int, size: int) -> None:
            before = os.fstat(number).st_size
            sizes.append(size - before)
            real(number, size)
            os.posix_fallocate(number, before, size - before)

        def free(number: int) -> os.statvfs_result:
            left = (1 << 20) - (os.fstat(number).st_size if is_taken else 0) // 512
            return os.statvfs_result((512, 512, 1 << 20, left, left, 0, 0, 0, 0, 255))

        monkeypatch.setattr(os, "ftruncate", grow)
        monkeypatch.setattr(os, "fstatvfs", free)
        set_length(fd, 3 * STEP + 5)
        assert sizes == ([STEP, STEP, STEP, 5] if is_taken else [STEP, 2 * STEP + 5])
        assert os.fstat(fd).st_size == 3 * STEP + 5

    @pytest.mark.parametrize("offset", [0, 3, 4, STEP, 2 * STEP + 9])
    @pytest.mark.parametrize("what", [None, "longer files", "gaps"])
    def test_data_behind_a_gap(
        self, fd: int, monkeypatch: pytest.MonkeyPatch, what: str | None, offset: int
    ) -> None:
        os.pwrite(fd, b"1234", 0)
        if what is not None:
            refuse(monkeypatch, what, errno.EINVAL)
        assert write_at(fd, memoryview(b"abc"), offset, 4) == 3
        data = bytearray(b"1234").ljust(offset, b"\0")
        data[offset : offset + 3] = b"abc"
        assert os.pread(fd, len(data) + 1, 0) == data

    def test_a_file_that_can_not_be_so_long_is_an_error(
        self, fd: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse(monkeypatch, "longer files", errno.EFBIG)
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            set_length(fd, 1 << 30)
        assert os.fstat(fd).st_size == 0


#: Calls that only `disk_calls` makes, and those of `folders` beside.
CALLS = {
    *("chmod", "fchmod", "lchmod", "chown", "fchown", "lchown", "utime", "setxattr"),
    *("fsync", "fdatasync", "sync", "link", "symlink", "mkfifo", "mknod"),
    *("truncate", "ftruncate", "pwrite", "pwritev", "posix_fallocate", "lseek", "lockf"),
    *("SEEK_DATA", "SEEK_HOLE"),
}
RENAMES = {"rename", "renames", "replace"}


@pytest.mark.parametrize(
    "path",
    [*sorted((PRODUCT / "restore").rglob("*.py")), PRODUCT / "image/copying.py"],
    ids=lambda path: str(path.relative_to(PRODUCT)),
)
def test_one_module_makes_the_calls(path: Path) -> None:
    allowed = {"disk_calls.py": CALLS, "folders.py": RENAMES}.get(path.name, set())
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
            assert node.attr not in (CALLS | RENAMES) - allowed, f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert node.module not in ("os", "fcntl", "shutil")
        if isinstance(node, ast.Import) and path.name != "disk_calls.py":
            assert not {alias.name for alias in node.names} & {"fcntl", "shutil", "pathlib"}
