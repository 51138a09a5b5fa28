"""A restore that is run again finishes what is missing, and the end is as if nothing had been."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

import qbackup
from qbackup import BackupArchive, MachineError
from qbackup.crypto.kdf import Derivation
from qbackup.restore.output.lock import FolderLock
from qbackup.restore.resume import writer as resuming
from tests import kills
from tests.maker import BackupMaker, assemble, drop
from tests.maker import run as run_tool
from tests.support import alter
from tests.support.commandline import SAMPLE, SAMPLE_FILE, finish, run, start
from tests.support.librarybackup import IMAGE, NOISE, PASSPHRASE, TEXT, Made
from tests.support.restored import JOURNAL, Snapshot, content, errors, snapshot, statuses
from tests.support.slowruns import BEFORE_VAULT, wait_for_derivation
from tests.support.sources import piped
from tests.support.speed import rows
from tests.testkit import vector

KEY = ("-p", SAMPLE_FILE)
OLD_LOCK_NAME = ".qbackup-lock"
NOT_KEPT_APART = (
    "the file system of the output folder has no folder locks: two restores into this folder at the"
    " same time are not kept apart, so run one after the other"
)
GIB = 1 << 30
KILLS = 25  # `python -m tests.kills 200` does more


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def final(backup: BackupArchive, tmp_path: Path) -> Snapshot:
    """What an undisturbed run gives."""
    backup.restore(tmp_path / "undisturbed")
    return snapshot(tmp_path / "undisturbed", folders=True)


class TestKept:
    def test_what_is_there_is_named_with_its_chunks_and_size(
        self, backup: BackupArchive, out: Path
    ) -> None:
        first = {(r.qube, r.name): r for r in backup.restore(out).files}
        again = {(r.qube, r.name): r for r in backup.restore(out).files}
        assert {r.status for r in first.values()} == {"ok"}
        assert {r.status for r in again.values()} == {"kept"}
        for name, result in again.items():
            assert (result.chunks, result.size) == (first[name].chunks, first[name].size)
            assert result.error is None
        assert again["personal", "private.img"].size == len(IMAGE)
        assert again["vault", "private.img"].chunks == 7

    def test_also_where_the_filter_is_named_that_the_backup_has(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        backup.restore(out)
        with qbackup.open(made.path, passphrase=PASSPHRASE, compression_filter="none") as archive:
            assert {result.status for result in archive.restore(out).files} == {"kept"}

    def test_also_where_padding_of_qubes_xml_is_lost(self, made: Made, out: Path) -> None:
        """A chunk of nothing but zeros behind the end: without it the list is as it was."""
        with_padding = made.maker.encrypt("qubes.xml.002", bytes(512))
        names = [member.name for member in made.members]
        assert "qubes.xml.001.enc" in names and "qubes.xml.002.enc" not in names
        place = names.index("qubes.xml.001.enc") + 1
        members = [*made.members[:place], with_padding, *made.members[place:]]
        for kept in (False, True):
            path = made.path if kept else assemble(members, out.with_name("padded"))
            with qbackup.open(path, passphrase=PASSPHRASE) as archive:
                report = archive.restore(out)
            assert ({result.status for result in report.files} == {"kept"}) is kept

    def test_no_key_is_derived_for_it(
        self, made: Made, out: Path, derivations: list[Derivation]
    ) -> None:
        for kept in (False, True):
            derivations.clear()
            with qbackup.open(made.path, passphrase=PASSPHRASE) as archive:
                assert archive.restore(out).ok
            front = [d for d in derivations if b"backup-header!" in d.secret or b"xml" in d.secret]
            assert (derivations == front) is kept

    def test_it_is_not_touched(self, backup: BackupArchive, out: Path) -> None:
        backup.restore(out)
        before = {path: path.lstat() for path in out.rglob("*")}
        for overwrite in (False, True):
            assert backup.restore(out, overwrite=overwrite).ok
            for path, state in before.items():
                after = path.lstat()
                assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
                    state.st_ino,
                    state.st_mtime_ns,
                    state.st_ctime_ns,
                )

    def test_qube_by_qube_is_the_same_as_at_once(
        self, backup: BackupArchive, out: Path, final: Snapshot
    ) -> None:
        for names in (["vault"], ["personal/text"], ["dom0"]):
            backup.restore(out, names)
        report = backup.restore(out)
        kept = {name for name, status in statuses(report).items() if status == "kept"}
        assert kept == {"qubes.xml", "vault/private.img", "personal/text", "dom0/user"}
        assert snapshot(out, folders=True) == final

    def test_from_a_pipe_too(self, made: Made, out: Path, final: Snapshot) -> None:
        with piped(made.path) as pipe, qbackup.open(pipe, passphrase=PASSPHRASE) as archive:
            first = archive.restore(out, ["personal"])
        assert set(statuses(first).values()) == {"ok"}
        for overwrite in (False, True):
            with piped(made.path) as pipe, qbackup.open(pipe, passphrase=PASSPHRASE) as archive:
                report = archive.restore(out, overwrite=overwrite)
            kept = {r.name: r for r in report.files if r.status == "kept"}
            assert kept["private.img"].chunks
            assert set(statuses(first)) <= {n for n, s in statuses(report).items() if s == "kept"}
        assert snapshot(out, folders=True) == final

    def test_what_the_archive_has_lost_meanwhile_is_still_there(
        self, made: Made, tmp_path: Path, out: Path
    ) -> None:
        """The disk that the backup is on dies, and this much was restored in time."""
        with qbackup.open(made.path, passphrase=PASSPHRASE) as archive:
            archive.restore(out, ["vault"])
        names = [m.name for m in made.members if m.name.startswith("vm2/")]
        members = made.members
        for name in names:
            members = drop(members, name)
        lost = assemble(members, tmp_path / "lost")
        with qbackup.open(lost, passphrase=PASSPHRASE) as archive:
            report = archive.restore(out)
            assert statuses(report)["vault/private.img"] == "kept"
            (out / "vault/private.img").unlink()
            report = archive.restore(out, check=False)
        assert statuses(report)["vault/private.img"] == "missing"

    def test_a_damaged_chunk_of_it_is_not_even_read(
        self, made: Made, tmp_path: Path, out: Path
    ) -> None:
        with qbackup.open(made.path, passphrase=PASSPHRASE) as archive:
            archive.restore(out)
        damaged = alter.flipped(made.path, tmp_path / "damaged", "vm2/private.img.003.enc")
        with qbackup.open(damaged, passphrase=PASSPHRASE) as archive:
            assert archive.restore(out).ok
            assert not archive.verify(check=False).ok

    def test_a_damaged_list_of_qubes_is_bound_too(
        self, made: Made, tmp_path: Path, out: Path
    ) -> None:
        damaged = alter.flipped(made.path, tmp_path / "damaged", "qubes.xml.000.enc")
        with qbackup.open(damaged, passphrase=PASSPHRASE) as archive:
            archive.restore(out, check=False)
            report = archive.restore(out, check=False)
        found = statuses(report)
        assert found.pop("qubes.xml") == "damaged"
        assert set(found.values()) == {"kept"}
        assert "vm2/private.img" in found

    def test_a_hole_of_many_gigabytes_takes_no_time(self, tools: None, tmp_path: Path) -> None:
        maker = BackupMaker(tmp_path / "maker")
        image = tmp_path / "image"
        image.touch()
        os.truncate(image, 500 * GIB)
        maker.add_qube("work", files={"private.img": image})
        path = maker.write(tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            for status in ("ok", "kept"):
                report = archive.restore(tmp_path / "out")
                assert statuses(report)["work/private.img"] == status
                assert report.files[1].size == 500 * GIB


class TestCommand:
    @pytest.mark.slow
    def test_says_it(self, out: Path) -> None:
        assert run("restore", SAMPLE, "vault", "-o", out, *KEY).status == 0
        ended = run("restore", SAMPLE, "-o", out, *KEY)
        assert ended.status == 0
        assert "All 5 files are there, verified and whole" in ended.out
        assert "; 1 already there, and read again" in ended.out

    @pytest.mark.slow
    def test_says_it_in_json(self, out: Path) -> None:
        assert run("restore", SAMPLE, "-o", out, *KEY).status == 0
        ended = run("restore", SAMPLE, "-o", out, "--json", *KEY)
        assert ended.status == 0
        assert ended.document["ok"] is True
        files = ended.document["files"]
        assert {file["status"] for file in files} == {"kept"}
        assert all(file["size"] and file["chunks"] for file in files if file["qube"])

    @pytest.mark.slow
    def test_a_changed_file_is_status_1(self, out: Path) -> None:
        assert run("restore", SAMPLE, "-o", out, *KEY).status == 0
        (out / "vault/private.img").write_bytes(b"mine")
        ended = run("restore", SAMPLE, "-o", out, *KEY)
        assert ended.status == 1
        assert "EXISTS  vault/private.img: " in ended.out
        assert (out / "vault/private.img").read_bytes() == b"mine"


class TestOverwriting:
    def test_replaces_what_is_not_the_same_and_only_that(
        self, backup: BackupArchive, out: Path, final: Snapshot
    ) -> None:
        backup.restore(out)
        kept = (out / "personal/private.img").stat().st_ino
        (out / "vault/private.img").write_bytes(bytes(len(NOISE)))
        (out / "dom0/user/Documents/letter").chmod(0o777)
        report = backup.restore(out, overwrite=True)
        replaced = {name for name, status in statuses(report).items() if status == "ok"}
        assert replaced == {"vault/private.img", "dom0/user"}
        assert (out / "personal/private.img").stat().st_ino == kept
        assert snapshot(out, folders=True) == final
        assert set(statuses(backup.restore(out)).values()) == {"kept"}

    def test_a_file_where_the_folder_of_a_qube_was_costs_that_qube(
        self, backup: BackupArchive, out: Path
    ) -> None:
        backup.restore(out)
        shutil.rmtree(out / "vault")
        (out / "vault").write_bytes(b"precious")
        for overwrite in (False, True):
            report = backup.restore(out, overwrite=overwrite, check=False)
            assert list(errors(report)) == ["vault/private.img"]
            assert (out / "vault").read_bytes() == b"precious"

    def test_files_that_are_known_need_no_room(
        self, backup: BackupArchive, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backup.restore(out)
        monkeypatch.setattr(os, "fstatvfs", lambda fd: os.statvfs_result((1,) * 10))
        assert backup.restore(out, overwrite=True).ok
        (out / "vault/private.img").unlink()
        with pytest.raises(MachineError, match="not enough room"):
            backup.restore(out, overwrite=True)

    def test_killed_between_its_two_renames_it_gives_back_what_was_there(
        self, backup: BackupArchive, out: Path, final: Snapshot
    ) -> None:
        """Then it is in the way, as it was; and replaced, where that is asked for again."""
        old, part = out / "dom0/user.part.part", out / "dom0/user.part"
        for overwrite in (False, True):
            shutil.rmtree(out, ignore_errors=True)
            old.mkdir(parents=True)
            (old / "file").write_bytes(b"old")
            part.mkdir()
            report = backup.restore(out, overwrite=overwrite, check=False)
            assert report.ok is overwrite
            if overwrite:
                assert snapshot(out, folders=True) == final
            else:
                assert snapshot(out)["dom0/user/file"] == content(b"old")
            assert not old.exists()

    def test_killed_after_them_it_removes_what_was_there(
        self, backup: BackupArchive, out: Path, final: Snapshot
    ) -> None:
        backup.restore(out)
        journal = (out / JOURNAL).read_bytes()
        for path in (out / "dom0/user.part.part/sub", out / "vault/private.img.part.part"):
            path.mkdir(parents=True)
        ready = [line for line in journal.splitlines(True) if b'"ready"' in line]
        (out / JOURNAL).write_bytes(b"".join(ready))
        assert set(statuses(backup.restore(out)).values()) == {"kept"}
        assert snapshot(out, folders=True) == final


@pytest.fixture
def home(tools: None, tmp_path: Path) -> tuple[Path, str]:
    """A backup of a home with links, modes and a pipe in it; and its passphrase."""
    tree = tmp_path / "user"
    (tree / "Documents/empty").mkdir(parents=True)
    (tree / "Documents/letter").write_bytes(TEXT)
    (tree / "Documents/letter").chmod(0o640)
    (tree / "script").write_bytes(b"#!/bin/sh\n")
    (tree / "script").chmod(0o755)
    os.link(tree / "script", tree / "second")
    (tree / "link").symlink_to("Documents/letter")
    run_tool(["ln", "-P", str(tree / "link"), str(tree / "second-link")])
    maker = BackupMaker(tmp_path / "maker")
    maker.add_home("user", tree)
    return maker.write(tmp_path / "backup"), maker.passphrase


def _rename(old: Path, new: str) -> None:
    old.rename(old.parent / new)


def _replace_link(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


def _split(path: Path) -> None:
    """A name gets a file of its own, with another content than the other name's."""
    path.unlink()
    path.write_bytes(b"#!/bin/no\n")
    path.chmod(0o755)


class TestHome:
    CHANGES: ClassVar[dict[str, Callable[[Path], object]]] = {
        "content": lambda user: (user / "script").write_bytes(b"#!/bin/no\n"),
        "mode": lambda user: (user / "Documents/letter").chmod(0o644),
        "setuid": lambda user: (user / "script").chmod(0o4755),
        "mode of a folder": lambda user: (user / "Documents").chmod(0o777),
        "mode of the home": lambda user: user.chmod(0o777),
        "one more": lambda user: (user / "Documents/more").write_bytes(b""),
        "one more folder": lambda user: (user / "more").mkdir(),
        "one less": lambda user: (user / "Documents/letter").unlink(),
        "one folder less": lambda user: (user / "Documents/empty").rmdir(),
        "another name": lambda user: _rename(user / "script", "Script"),
        "another target": lambda user: _replace_link(user / "link", "/etc/passwd"),
        "a link for a file": lambda user: _replace_link(user / "script", "second"),
        "a second name of its own": lambda user: _split(user / "second"),
        "a pipe": lambda user: os.mkfifo(user / "pipe"),
        "too deep": lambda user: (user / "/".join("d" * 300)).mkdir(parents=True),
    }

    @rows("change", CHANGES, quick=3)
    def test_a_change_is_seen_and_left_alone(
        self, home: tuple[Path, str], out: Path, change: str
    ) -> None:
        with qbackup.open(home[0], passphrase=home[1]) as archive:
            assert archive.restore(out).ok
            self.CHANGES[change](out / "dom0/user")
            before = snapshot(out, folders=True)
            report = archive.restore(out, check=False)
            assert statuses(report)["dom0/user"] == "exists"
            assert "differs from what this backup holds" in errors(report)["dom0/user"]
            assert snapshot(out, folders=True) == before
            assert statuses(archive.restore(out, overwrite=True))["dom0/user"] == "ok"

    def test_a_look_at_it_is_no_change(self, home: tuple[Path, str], out: Path) -> None:
        """Nor is a time, as a copy of the folder may have another."""
        with qbackup.open(home[0], passphrase=home[1]) as archive:
            archive.restore(out)
            os.utime(out / "dom0/user/script", (1, 1))
            os.utime(out / "dom0/user", (1, 1))
            assert statuses(archive.restore(out))["dom0/user"] == "kept"

    def test_a_copy_of_the_folder_is_as_good(
        self, home: tuple[Path, str], out: Path, tmp_path: Path
    ) -> None:
        with qbackup.open(home[0], passphrase=home[1]) as archive:
            archive.restore(out)
            run_tool(["cp", "-a", str(out), str(tmp_path / "copy")])
            assert set(statuses(archive.restore(tmp_path / "copy")).values()) == {"kept"}

    def test_what_was_refused_in_it_is_said_again(self, made: Made, tmp_path: Path) -> None:
        """Not everything is there, and no number of runs changes that."""
        chosen = vector.load("home-file-twice")
        path = tmp_path / "backup"
        path.write_bytes(chosen.backup)
        with qbackup.open(path, passphrase=chosen.passphrase) as archive:
            first = archive.restore(tmp_path / "out", check=False)
            again = archive.restore(tmp_path / "out", check=False)
        assert statuses(again)["dom0/user"] == "kept"
        assert not again.ok
        assert errors(again) == errors(first)
        assert list(errors(again)) == ["dom0/user/x"]

    def test_what_was_noted_of_it_is_said_again(self, tools: None, tmp_path: Path) -> None:
        tree = tmp_path / "user"
        tree.mkdir()
        for number in range(130):
            os.mkfifo(tree / f"pipe-{number}\u202e")
        maker = BackupMaker(tmp_path / "maker")
        maker.add_home("user", tree)
        path = maker.write(tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            first = archive.restore(tmp_path / "out")
            again = archive.restore(tmp_path / "out")
        assert statuses(again)["dom0/user"] == "kept"
        (told,) = [r.notes for r in first.files if r.qube == "dom0"]
        assert len(told) == 101
        assert [r.notes for r in again.files if r.qube == "dom0"] == [told]

    def test_a_file_that_can_not_be_written_leaves_nothing_in_it(
        self, tools: None, tmp_path: Path
    ) -> None:
        import resource

        tree = tmp_path / "user"
        tree.mkdir()
        (tree / "large").write_bytes(b"x" * 200_000)
        (tree / "small").write_bytes(b"data")
        maker = BackupMaker(tmp_path / "maker")
        maker.add_home("user", tree)
        path = maker.write(tmp_path / "backup")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with qbackup.open(path, passphrase=maker.passphrase) as archive:
                reports = [archive.restore(tmp_path / "out", check=False) for _ in range(2)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [list(errors(report)) for report in reports] == [["dom0/user/large"]] * 2
        assert statuses(reports[1])["dom0/user"] == "kept"
        assert set(snapshot(tmp_path / "out")) == {"qubes.xml", "dom0/user/small"}


class TestInterrupted:
    @rows("file", ["personal/text", "vault/private.img", "dom0/user"])
    def test_at_a_file_and_run_again(
        self, backup: BackupArchive, out: Path, final: Snapshot, file: str
    ) -> None:
        def interrupt(progress: qbackup.Progress) -> None:
            if progress.file == file:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            backup.restore(out, progress=interrupt)
        there = set(snapshot(out))
        report = backup.restore(out)
        kept = {name for name, status in statuses(report).items() if status == "kept"}
        assert kept == {name for name in there if not name.startswith("dom0/")}
        assert snapshot(out, folders=True) == final

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_by_a_signal(self, tmp_path: Path, out: Path, number: int) -> None:
        """In the middle of a file whose derivation takes minutes; then with the real backup."""
        endless = alter.with_parameters(
            SAMPLE, tmp_path / "endless", "vm2/private.img.000.enc", 14, 8, 1 << 11
        )
        arguments = ("restore", endless, *alter.ANY_GROWTH, "-o", out, *KEY)
        with start(*arguments) as process:
            wait_for_derivation(process, *(out / name for name in BEFORE_VAULT))
            process.send_signal(number)
            finish(process, arguments)
        ended = run("restore", SAMPLE, "-o", out, "--json", *KEY)
        assert ended.status == 0
        found = {f"{f['qube']}/{f['name']}": f["status"] for f in ended.document["files"]}
        assert found["vault/private.img"] == "ok"
        assert found["personal/private.img"] == "kept"
        assert run("restore", SAMPLE, "-o", tmp_path / "undisturbed", *KEY).status == 0
        assert snapshot(out, folders=True) == snapshot(tmp_path / "undisturbed", folders=True)


class TestLock:
    def test_is_let_go_while_a_copy_of_the_descriptor_is_open(self, tmp_path: Path) -> None:
        folder = os.open(tmp_path, os.O_RDONLY)
        copy = os.dup(folder)
        lock = FolderLock(folder)
        with pytest.raises(qbackup.MachineError):
            self.locked(tmp_path)
        lock.release()
        os.close(folder)
        self.locked(tmp_path)
        os.close(copy)

    def locked(self, path: Path) -> None:
        folder = os.open(path, os.O_RDONLY)
        try:
            FolderLock(folder).release()
        finally:
            os.close(folder)


class TestKills:
    @rows(
        ("overwrite", "count"),
        [(False, 2), (False, KILLS), (True, KILLS // 5)],
        ids=["two", "empty folder", "overwriting"],
    )
    def test_at_random_moments(
        self,
        made: Made,
        tmp_path: Path,
        overwrite: bool,
        count: int,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        killed = kills.at_random(kills.Scene(made.path, tmp_path, overwrite), count)
        with capsys.disabled():
            print(f"\n{killed}")
        assert killed.kills == count

    @pytest.mark.slow
    @pytest.mark.parametrize("where", ["calls", "overwriting"])
    def test_before_every_call_that_changes_something(self, tools: None, where: str) -> None:
        """In a process of its own, which has no threads before it forks."""
        command = [sys.executable, "-m", "tests.kills", where]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        assert "no wrong byte under a final name" in done.stdout


class TestInterruptedWhileTheJournalIsRead:
    def test_the_folder_is_not_left_locked(
        self, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*arguments: object, **options: object) -> None:
            raise KeyboardInterrupt

        passphrase = SAMPLE_FILE.read_text().strip()
        with qbackup.open(SAMPLE, passphrase=passphrase) as archive:
            with monkeypatch.context() as patch:
                patch.setattr(resuming, "Journal", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    archive.restore(out)
            assert archive.restore(out).ok


class TestTwoAtOnce:
    def test_the_second_is_refused_and_the_first_goes_on(self, tmp_path: Path, out: Path) -> None:
        endless = alter.with_parameters(
            SAMPLE, tmp_path / "endless", "vm2/private.img.000.enc", 14, 8, 1 << 11
        )
        arguments = ("restore", endless, *alter.ANY_GROWTH, "-o", out, *KEY)
        with start(*arguments) as first:
            wait_for_derivation(first, *(out / name for name in BEFORE_VAULT))
            before = snapshot(out)
            second = run("restore", SAMPLE, "-o", out, *KEY)
            assert second.status == 5
            assert "another restore is writing into this output folder" in second.err
            assert snapshot(out) == before
            first.kill()
        assert run("restore", SAMPLE, "-o", out, *KEY).status == 0, "the lock went with the process"

    @pytest.mark.slow
    def test_of_many_one_at_a_time_writes(self, out: Path, tmp_path: Path) -> None:
        arguments = ("restore", SAMPLE, "-o", out, "-q", *KEY)
        running = [start(*arguments) for _ in range(4)]
        ended = [finish(process, arguments) for process in running]
        assert {end.status for end in ended} <= {0, 5}
        assert any(end.status == 0 for end in ended)
        assert run("restore", SAMPLE, "-o", tmp_path / "undisturbed", *KEY).status == 0
        assert snapshot(out, folders=True) == snapshot(tmp_path / "undisturbed", folders=True)


class TestWithoutFolderLocks:
    """A file system that has no `flock`: its answer is given by the call, all else is real."""

    @pytest.fixture(autouse=True)
    def no_locks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(fd: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", refuse)

    def test_that_is_said_once_and_costs_nothing(self, backup: BackupArchive, out: Path) -> None:
        first = backup.restore(out)
        assert first.ok
        assert [w for w in first.warnings if "at the same time" in w] == [NOT_KEPT_APART]
        second = backup.restore(out)
        assert set(statuses(second).values()) == {"kept"}
        assert NOT_KEPT_APART in second.warnings

    def test_where_the_platform_has_none(
        self, backup: BackupArchive, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "fcntl", None)
        report = backup.restore(out)
        assert report.ok
        assert NOT_KEPT_APART in report.warnings

    def test_two_at_once_lose_nothing(
        self, backup: BackupArchive, made: Made, out: Path, tmp_path: Path
    ) -> None:
        """The second one writes all while the first one is in the middle."""
        reports: list[qbackup.Report] = []

        def again(progress: qbackup.Progress) -> None:
            if not reports:
                with qbackup.open(made.path, passphrase=PASSPHRASE) as other:
                    reports.append(other.restore(out, check=False))

        backup.restore(out, check=False, progress=again)
        assert backup.restore(out).ok
        assert backup.restore(tmp_path / "undisturbed").ok
        assert snapshot(out, folders=True) == snapshot(tmp_path / "undisturbed", folders=True)

    @pytest.mark.parametrize("text", [b"", b"99999 this-machine\n", b"1 \x1b[2J\n", b"9" * 5000])
    def test_a_lock_file_of_an_earlier_version_means_nothing(
        self, backup: BackupArchive, out: Path, text: bytes
    ) -> None:
        out.mkdir()
        (out / OLD_LOCK_NAME).write_bytes(text)
        assert backup.restore(out).ok
        assert (out / OLD_LOCK_NAME).read_bytes() == text

    def test_something_else_of_that_name_is_not_opened(
        self, backup: BackupArchive, out: Path
    ) -> None:
        out.mkdir()
        os.mkfifo(out / OLD_LOCK_NAME)
        assert backup.restore(out).ok
