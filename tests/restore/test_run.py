"""What a restore does to a folder: names, modes, holes, order, and what is in its way."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import qbackup
from qbackup import BackupArchive, Incomplete, MachineError, NotInBackup, Report
from qbackup.restore.run import FilesLoop, Step
from tests.maker import (
    BackupMaker,
    append_bytes,
    assemble,
    drop,
    flip_byte,
    forged_archive,
    make_sparse,
    published_procedure,
    run,
)
from tests.support.librarybackup import IMAGE, NOISE, PASSPHRASE, TAR, TEXT, Made
from tests.support.restored import JOURNAL, content, errors, snapshot, statuses
from tests.support.speed import rows

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

WHOLE = {
    "qubes.xml": "",
    "personal/private.img": content(IMAGE),
    "personal/text": content(TEXT),
    "personal/archive.tar": content(TAR),
    "personal/empty": content(b""),
    "vault/private.img": content(NOISE),
    "dom0/user/Documents/letter": content(TEXT),
    "dom0/user/link": "link Documents/letter",
}


def whole(made: Made) -> dict[str, str]:
    return WHOLE | {"qubes.xml": content(made.maker.default_qubes_xml())}


def without(found: dict[str, str], *prefixes: str) -> dict[str, str]:
    return {path: what for path, what in found.items() if not path.startswith(prefixes)}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


class TestIntoAnEmptyFolder:
    def test_everything_comes_out(self, backup: BackupArchive, made: Made, out: Path) -> None:
        report = backup.restore(out)
        assert snapshot(out) == whole(made)
        assert set(statuses(report).values()) == {"ok"}
        sizes = {f"{r.qube}/{r.name}".lstrip("/"): r.size for r in report.files}
        assert sizes["personal/private.img"] == len(IMAGE)
        assert sizes["dom0/user"] == len(TEXT)
        assert report.summary() == "all 7 files are there and whole"

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_images_are_private_whatever_the_umask(
        self, backup: BackupArchive, tmp_path: Path, umask: int
    ) -> None:
        out = tmp_path / "new/deeper/out"
        old = os.umask(umask)
        try:
            backup.restore(out)
        finally:
            os.umask(old)
        found = {
            os.path.relpath(path, out): stat.S_IMODE(path.stat().st_mode)
            for path in [out, *out.rglob("*")]
            if "dom0/" not in str(path)
        }
        folders = {".": 0o700, "personal": 0o700, "vault": 0o700, "dom0": 0o700}
        files = [JOURNAL, *(name for name in WHOLE if not name.startswith("dom0/"))]
        assert found == folders | dict.fromkeys(files, 0o600)
        for parent in (tmp_path / "new", tmp_path / "new/deeper"):
            assert stat.S_IMODE(parent.stat().st_mode) == 0o700

    @pytest.mark.slow
    def test_the_published_procedure_gives_the_same(
        self, backup: BackupArchive, made: Made, out: Path, tmp_path: Path
    ) -> None:
        backup.restore(out)
        by_hand = tmp_path / "by-hand"
        stored = {
            "qubes.xml": "qubes.xml",
            "personal/private.img": "vm1/private.img",
            "personal/text": "vm1/text",
            "personal/empty": "vm1/empty",
            "vault/private.img": "vm2/private.img",
            "dom0/user": "dom0-home/user",
        }
        for name, member_path in stored.items():
            path = published_procedure(made.path, PASSPHRASE, member_path, by_hand, None)
            run(["diff", "-r", "--no-dereference", str(path), str(out / name)])

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["vault"], ["vault/private.img"]),
            (["vault/"], ["vault/private.img"]),
            (["personal/text", "personal/empty"], ["personal/text", "personal/empty"]),
            (["dom0"], ["dom0/user/Documents/letter", "dom0/user/link"]),
            (["dom0/user"], ["dom0/user/Documents/letter", "dom0/user/link"]),
            (["vault", "vault/private.img", "vault"], ["vault/private.img"]),
        ],
    )
    def test_selection(
        self,
        backup: BackupArchive,
        made: Made,
        out: Path,
        names: Sequence[str],
        expected: Sequence[str],
    ) -> None:
        report = backup.restore(out, names)
        assert report.ok
        assert snapshot(out) == {name: whole(made)[name] for name in ["qubes.xml", *expected]}

    @pytest.mark.parametrize("names", [["none"], ["vault/none"], ["vault", "none"], [""], ["vm1"]])
    def test_an_unknown_name_is_said_before_the_folder_is_made(
        self, backup: BackupArchive, out: Path, names: Sequence[str]
    ) -> None:
        with pytest.raises(NotInBackup):
            backup.restore(out, names)
        assert not out.exists()


class TestSomethingIsThere:
    def test_an_existing_file_is_kept(self, backup: BackupArchive, made: Made, out: Path) -> None:
        (out / "vault").mkdir(parents=True)
        (out / "vault/private.img").write_bytes(b"precious")
        with pytest.raises(Incomplete) as caught:
            backup.restore(out)
        report = caught.value.report
        assert {name: s for name, s in statuses(report).items() if s != "ok"} == {
            "vault/private.img": "exists"
        }
        assert "left alone" in errors(report)["vault/private.img"]
        assert snapshot(out) == whole(made) | {"vault/private.img": content(b"precious")}

    def test_it_is_replaced_when_asked(self, backup: BackupArchive, made: Made, out: Path) -> None:
        (out / "vault").mkdir(parents=True)
        (out / "vault/private.img").write_bytes(b"old")
        (out / "qubes.xml").write_bytes(b"old")
        (out / "dom0/user").mkdir(parents=True)
        (out / "dom0/user/old").write_bytes(b"old")
        assert backup.restore(out, overwrite=True).ok
        assert snapshot(out) == whole(made)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_folder_called_qubes_xml_costs_nothing_else(
        self, backup: BackupArchive, made: Made, out: Path, overwrite: bool
    ) -> None:
        (out / "qubes.xml").mkdir(parents=True)
        before = len(os.listdir("/proc/self/fd"))
        report = backup.restore(out, overwrite=overwrite, check=False)
        assert len(os.listdir("/proc/self/fd")) == before
        bad = {} if overwrite else {"qubes.xml": "exists"}
        assert {name: s for name, s in statuses(report).items() if s != "ok"} == bad
        left = whole(made)
        if not overwrite:
            del left["qubes.xml"]
        assert {p: w for p, w in snapshot(out).items() if p in whole(made)} == left

    def test_a_damaged_file_replaces_nothing(self, made: Made, tmp_path: Path, out: Path) -> None:
        members = flip_byte(made.members, "vm2/private.img.006.enc", -1)
        members = flip_byte(members, "dom0-home/user.000.enc", -1)
        path = assemble(members, tmp_path / "backup")
        (out / "vault").mkdir(parents=True)
        (out / "vault/private.img").write_bytes(b"old")
        (out / "dom0/user").mkdir(parents=True)
        (out / "dom0/user/old").write_bytes(b"old")
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            report = archive.restore(out, overwrite=True, check=False)
        assert set(errors(report)) == {"vault/private.img", "dom0/user"}
        left = without(whole(made), "dom0/") | {"dom0/user/old": content(b"old")}
        assert snapshot(out) == left | {"vault/private.img": content(b"old")}

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_folder_of_that_name(
        self, backup: BackupArchive, made: Made, out: Path, overwrite: bool
    ) -> None:
        (out / "vault/private.img/sub").mkdir(parents=True)
        (out / "vault/private.img/sub/file").write_bytes(b"precious")
        report = backup.restore(out, overwrite=overwrite, check=False)
        assert report.ok is overwrite
        if overwrite:
            assert snapshot(out) == whole(made)
        else:
            assert statuses(report)["vault/private.img"] == "exists"
            assert snapshot(out)["vault/private.img/sub/file"] == content(b"precious")

    def test_a_file_where_the_home_goes(self, backup: BackupArchive, made: Made, out: Path) -> None:
        (out / "dom0").mkdir(parents=True)
        (out / "dom0/user").write_bytes(b"precious")
        report = backup.restore(out, check=False)
        assert statuses(report)["dom0/user"] == "exists"
        assert snapshot(out)["dom0/user"] == content(b"precious")
        assert backup.restore(out, ["dom0"], overwrite=True).ok
        assert snapshot(out) == whole(made)

    def test_a_file_where_the_folder_of_a_qube_goes(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        out.mkdir()
        (out / "vault").write_bytes(b"precious")
        report = backup.restore(out, check=False)
        assert set(errors(report)) == {"vault/private.img"}
        assert snapshot(out) == without(whole(made), "vault/") | {"vault": content(b"precious")}

    def test_a_second_restore_finds_all_in_place(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        backup.restore(out)
        report = backup.restore(out)
        assert set(statuses(report).values()) == {"kept"}
        assert snapshot(out) == whole(made)

    def test_another_qubes_xml_is_in_the_way(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        out.mkdir()
        (out / "qubes.xml").write_bytes(made.maker.default_qubes_xml() + b"\n")
        report = backup.restore(out, ["vault"], check=False)
        assert statuses(report) == {"qubes.xml": "exists", "vault/private.img": "ok"}

    def test_what_a_killed_restore_left_is_replaced(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        (out / "vault").mkdir(parents=True)
        (out / "vault/private.img.part").write_bytes(bytes(1000))
        os.chmod(out / "vault/private.img.part", 0o400)
        (out / "personal/text.part/sub").mkdir(parents=True)
        (out / "dom0/user.part/sub").mkdir(parents=True)
        (out / "dom0/user.part/sub/file").write_bytes(b"half")
        os.chmod(out / "dom0/user.part/sub", 0o500)
        (out / "qubes.xml.part").write_bytes(b"half")
        assert backup.restore(out).ok
        assert snapshot(out) == whole(made)

    def test_a_killed_restore_leaves_nothing_under_a_final_name(
        self, tools: None, tmp_path: Path, out: Path
    ) -> None:
        maker = BackupMaker(tmp_path / "maker", compression_filter=None, chunk_size=64 * KIB)
        data = random.Random(5).randbytes(MIB)
        maker.add_qube("work", files={"private.img": data})
        path = maker.write(tmp_path / "backup")
        code = f"""
import os, signal, qbackup
def kill(progress):
    if progress.done > 300_000:
        os.kill(os.getpid(), signal.SIGKILL)
with qbackup.open({str(path)!r}, passphrase={maker.passphrase!r}) as backup:
    backup.restore({str(out)!r}, progress=kill)
"""
        done = subprocess.run([sys.executable, "-c", code], check=False)
        assert done.returncode == -signal.SIGKILL
        assert sorted(snapshot(out)) == ["qubes.xml", "work/private.img.part"]
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            assert archive.restore(out).ok
        assert without(snapshot(out), "qubes.xml") == {"work/private.img": content(data)}

    def test_an_interrupted_restore_leaves_no_part(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        def interrupt(progress: qbackup.Progress) -> None:
            if progress.file == "vault/private.img" and progress.done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            backup.restore(out, progress=interrupt)
        assert snapshot(out) == without(whole(made), "vault/", "dom0/")

    def test_two_restores_never_share_a_folder(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        refused: list[MachineError] = []

        def again(progress: qbackup.Progress) -> None:
            if not refused:
                with (
                    qbackup.open(made.path, passphrase=PASSPHRASE) as other,
                    pytest.raises(MachineError, match="another restore") as caught,
                ):
                    other.restore(out)
                refused.append(caught.value)

        assert backup.restore(out, progress=again).ok
        assert len(refused) == 1
        assert snapshot(out) == whole(made)
        assert backup.restore(out, overwrite=True).ok  # the lock is gone with the restore


class TestPlantedLinks:
    """Somebody else can write into the output folder, or has before."""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Iterator[Path]:
        """A folder that must stay as it is."""
        folder = tmp_path / "outside"
        folder.mkdir()
        (folder / "victim").write_bytes(b"precious")
        yield folder
        assert snapshot(folder) == {"victim": content(b"precious")}

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_at_the_folder_of_a_qube(
        self, backup: BackupArchive, made: Made, out: Path, outside: Path, overwrite: bool
    ) -> None:
        out.mkdir()
        (out / "vault").symlink_to(outside)
        (out / "dom0").symlink_to(outside)
        report = backup.restore(out, overwrite=overwrite, check=False)
        assert set(errors(report)) == {"vault/private.img", "dom0/user"}
        left = without(whole(made), "vault/", "dom0/")
        assert snapshot(out) == left | {"vault": f"link {outside}", "dom0": f"link {outside}"}

    @pytest.mark.parametrize("target", ["victim", "new"])
    def test_at_the_unfinished_name(
        self, backup: BackupArchive, made: Made, out: Path, outside: Path, target: str
    ) -> None:
        (out / "vault").mkdir(parents=True)
        (out / "vault/private.img.part").symlink_to(outside / target)
        (out / "dom0").mkdir()
        (out / "dom0/user.part").symlink_to(outside)
        (out / "qubes.xml.part").symlink_to(outside / target)
        assert backup.restore(out).ok
        assert snapshot(out) == whole(made)

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("target", ["victim", "new", "."])
    def test_at_the_final_name(
        self,
        backup: BackupArchive,
        made: Made,
        out: Path,
        outside: Path,
        target: str,
        overwrite: bool,
    ) -> None:
        (out / "vault").mkdir(parents=True)
        (out / "vault/private.img").symlink_to(outside / target)
        (out / "dom0").mkdir()
        (out / "dom0/user").symlink_to(outside / target)
        (out / "qubes.xml").symlink_to(outside / target)
        report = backup.restore(out, overwrite=overwrite, check=False)
        if overwrite:
            assert report.ok
            assert snapshot(out) == whole(made)
        else:
            names = ("vault/private.img", "dom0/user", "qubes.xml")
            assert {name: statuses(report)[name] for name in names} == dict.fromkeys(
                names, "exists"
            )
            assert all(snapshot(out)[name].startswith("link ") for name in names)

    def test_inside_an_unfinished_tree(
        self, backup: BackupArchive, made: Made, out: Path, outside: Path
    ) -> None:
        (out / "dom0/user.part").mkdir(parents=True)
        (out / "dom0/user.part/Documents").symlink_to(outside)
        assert backup.restore(out).ok
        assert snapshot(out) == whole(made)

    def test_the_output_folder_itself_may_be_a_link_of_the_user_s(
        self, backup: BackupArchive, made: Made, tmp_path: Path
    ) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "disk")
        assert backup.restore(tmp_path / "link").ok
        assert snapshot(tmp_path / "disk") == whole(made)

    def test_a_pipe_at_the_final_name_is_not_opened(self, backup: BackupArchive, out: Path) -> None:
        (out / "vault").mkdir(parents=True)
        os.mkfifo(out / "vault/private.img")
        os.mkfifo(out / "qubes.xml")
        report = backup.restore(out, ["vault"], check=False)
        assert set(statuses(report).values()) == {"exists"}


class TestMachine:
    """The machine's own failures are told apart from the backup's."""

    def test_a_file_in_place_of_the_folder(self, backup: BackupArchive, out: Path) -> None:
        out.write_bytes(b"precious")
        for path in (out, out / "below"):
            with pytest.raises(MachineError, match="output folder"):
                backup.restore(path)
        assert out.read_bytes() == b"precious"

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
        """Mounts a tmpfs with the options given; needs root."""
        mounted: list[Path] = []

        def mount(options: str) -> Path:
            path = tmp_path / "disk"
            path.mkdir(exist_ok=True)
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
            mounted.append(path)
            return path

        yield mount
        for path in mounted:
            subprocess.run(["umount", str(path)], check=True)

    def test_a_disk_that_is_read_only(
        self, backup: BackupArchive, small_disk: Callable[[str], Path]
    ) -> None:
        disk = small_disk("size=1m,ro")
        with pytest.raises(MachineError, match="Read-only"):
            backup.restore(disk)
        with pytest.raises(MachineError, match="Read-only"):
            backup.restore(disk / "new")

    def test_a_disk_that_is_too_small_is_said_before_the_first_byte(
        self, backup: BackupArchive, small_disk: Callable[[str], Path]
    ) -> None:
        disk = small_disk("size=64k")
        with pytest.raises(MachineError, match="not enough room"):
            backup.restore(disk)
        assert snapshot(disk) == {}

    def test_a_disk_that_may_be_too_small_is_warned_of(
        self, tools: None, tmp_path: Path, small_disk: Callable[[str], Path]
    ) -> None:
        maker = BackupMaker(tmp_path / "maker")
        maker.add_qube("work", files={"private.img": b"a" * (2 * MIB)})
        path = maker.write(tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            disk = small_disk("size=1m")
            with pytest.raises(MachineError, match="No space left") as caught:
                archive.restore(disk)
            assert any("may not fit" in text for text in archive.warnings)
        report = caught.value.report
        assert report is not None
        assert statuses(report) == {"qubes.xml": "ok"}
        assert set(snapshot(disk)) == {"qubes.xml"}

    def test_a_disk_that_fills_up_keeps_what_is_whole(
        self, tools: None, tmp_path: Path, small_disk: Callable[[str], Path]
    ) -> None:
        maker = BackupMaker(tmp_path / "maker")
        maker.add_qube("first", files={"private.img": b"a" * 100_000})
        maker.add_qube("second", files={"private.img": b"b" * (2 * MIB)})
        path = maker.write(tmp_path / "backup")
        disk = small_disk("size=1m")
        with (
            qbackup.open(path, passphrase=maker.passphrase) as archive,
            pytest.raises(MachineError, match=r"private\.img"),
        ):
            archive.restore(disk)
        assert without(snapshot(disk), "qubes.xml") == {
            "first/private.img": content(b"a" * 100_000)
        }

    def test_a_disk_with_no_room_for_the_first_file_has_a_report(
        self, backup: BackupArchive, small_disk: Callable[[str], Path]
    ) -> None:
        disk = small_disk("size=1m,nr_inodes=1")
        with pytest.raises(MachineError, match="No space left") as caught:
            backup.restore(disk)
        assert caught.value.report is not None
        assert caught.value.report.files == ()

    def test_a_file_larger_than_the_system_allows_costs_that_file(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(IMAGE) - 1, hard))
        try:
            report = backup.restore(out, check=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(errors(report)) == ["personal/private.img"]
        assert os.strerror(errno.EFBIG) in errors(report)["personal/private.img"]
        assert snapshot(out) == without(whole(made), "personal/private.img")

    def test_no_descriptor_is_lost_when_it_fails(
        self, backup: BackupArchive, tmp_path: Path, small_disk: Callable[[str], Path]
    ) -> None:
        before = len(os.listdir("/proc/self/fd"))
        (tmp_path / "file").write_bytes(b"")
        for path in (tmp_path / "file", small_disk("size=64k")):
            with pytest.raises(MachineError):
                backup.restore(path)
        assert len(os.listdir("/proc/self/fd")) == before


class TestFileSystemsWithoutLinks:
    """FAT and exFAT, as on a USB stick. Their answer is given by the calls that would ask them; all
    else is real. `test_filesystems` has the file systems themselves, where they can be mounted.
    """

    @pytest.fixture(autouse=True)
    def no_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: object, **options: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
        monkeypatch.setattr(os, "symlink", refuse)

    def test_images_come_out_all_the_same(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        assert backup.restore(out, ["personal", "vault"]).ok
        assert snapshot(out) == without(whole(made), "dom0/")

    def test_nothing_is_replaced(self, backup: BackupArchive, made: Made, out: Path) -> None:
        def plant(progress: qbackup.Progress) -> None:
            if progress.file == "vault/private.img" and (out / "vault").exists():
                (out / "vault/private.img").write_bytes(b"precious")

        report = backup.restore(out, ["vault"], progress=plant, check=False)
        assert statuses(report)["vault/private.img"] == "exists"
        assert snapshot(out)["vault/private.img"] == content(b"precious")

    def test_links_of_a_home_are_copies_and_files_that_hold_their_text(
        self, tools: None, tmp_path: Path, out: Path
    ) -> None:
        home = tmp_path / "user"
        home.mkdir()
        (home / "file").write_bytes(b"data")
        run(["ln", "-s", "file", str(home / "link")])
        run(["ln", str(home / "file"), str(home / "second")])
        run(["ln", "-P", str(home / "link"), str(home / "second-link")])
        maker = BackupMaker(tmp_path / "maker")
        maker.add_home("user", home)
        path = maker.write(tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            report = archive.restore(out)
            again = archive.restore(out)
        data, text = content(b"data"), content(b"file")
        assert without(snapshot(out), "qubes.xml") == {
            "dom0/user/file": data,
            "dom0/user/second": data,
            "dom0/user/link": text,
            "dom0/user/second-link": text,
        }
        (home_result,) = [r for r in report.files if r.qube == "dom0"]
        notes = sorted(home_result.notes)
        assert notes[0].startswith("1 further names of files are copies")
        assert [note.partition(":")[0] for note in notes[1:]] == ["link", "second-link"]
        assert all("a symbolic link to file" in note for note in notes[1:])
        assert statuses(again)["dom0/user"] == "kept"


class TestOrderOfThings:
    def test_a_file_is_on_the_disk_before_it_has_its_name(
        self, backup: BackupArchive, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every call is the real one; what is compared is their order."""
        calls: list[tuple[str, str]] = []
        fsync, link, rename = os.fsync, os.link, os.rename

        def path_of(fd: int) -> str:
            return os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), out)

        def recorded_fsync(fd: int) -> None:
            calls.append(("fsync", path_of(fd)))
            fsync(fd)

        def recorded_link(source: bytes, to: bytes, **options: int) -> None:
            folder = path_of(options["dst_dir_fd"])
            calls.append(("name", os.path.normpath(os.path.join(folder, os.fsdecode(to)))))
            link(source, to, **options)  # type: ignore[arg-type]

        def recorded_rename(source: bytes, to: bytes, **options: int) -> None:
            folder = path_of(options["dst_dir_fd"])
            calls.append(("name", os.path.normpath(os.path.join(folder, os.fsdecode(to)))))
            rename(source, to, **options)

        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(os, "link", recorded_link)
        monkeypatch.setattr(os, "rename", recorded_rename)
        assert backup.restore(out).ok
        named = [path for call, path in calls if call == "name"]
        assert sorted(named) == sorted(
            [*(name for name in WHOLE if not name.startswith("dom0/")), "dom0/user"]
        )
        for name in named:
            at = calls.index(("name", name))
            assert ("fsync", f"{name}.part") in calls[:at], name
            # and then the folder, so that the name outlives a power cut
            assert ("fsync", os.path.dirname(name) or ".") in calls[at:], name
        tree = calls[: calls.index(("name", "dom0/user"))]
        assert ("fsync", "dom0/user.part/Documents/letter") in tree
        assert ("fsync", "dom0/user.part/Documents") in tree

    def test_nothing_has_its_name_while_it_is_written(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        final = whole(made)

        def look(progress: qbackup.Progress) -> None:
            for path, what in snapshot(out).items():
                assert ".part" in path or final[path] == what

        assert backup.restore(out, progress=look).ok

    def test_a_name_that_appears_meanwhile_is_not_replaced(
        self, backup: BackupArchive, made: Made, out: Path
    ) -> None:
        def plant(progress: qbackup.Progress) -> None:
            if progress.file == "vault/private.img" and (out / "vault").exists():
                (out / "vault/private.img").write_bytes(b"precious")

        report = backup.restore(out, progress=plant, check=False)
        assert statuses(report)["vault/private.img"] == "exists"
        assert snapshot(out) == whole(made) | {"vault/private.img": content(b"precious")}


class TestSparse:
    """Images are mostly holes; writing them out would fill the disk."""

    @pytest.fixture(scope="class")
    @staticmethod
    def large(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
        """A backup of 20 GiB images with 100 KiB of data, by GNU tar and by Qubes' own writer."""
        folder = tmp_path_factory.mktemp("large")
        data = random.Random(7).randbytes(50 * KIB)
        image = make_sparse(folder / "image", 20 * GIB + 512, {4096: data, 19 * GIB: data})
        maker = BackupMaker(folder / "maker")
        maker.add_qube("gnu", files={"private.img": image})
        maker.add_qube("own", files={"private.img": image}, qubes_writer=["private.img"])
        yield maker.write(folder / "backup"), image
        shutil.rmtree(folder)

    @pytest.mark.parametrize("qube", ["gnu", "own"])
    def test_a_large_image_takes_the_room_of_its_data(
        self, large: tuple[Path, Path], out: Path, qube: str
    ) -> None:
        path, original = large
        with qbackup.open(path, passphrase="correct horse battery staple") as archive:
            assert archive.restore(out, [qube]).ok
        restored = out / qube / "private.img"
        assert restored.stat().st_size == 20 * GIB + 512
        assert restored.stat().st_blocks * 512 < MIB
        with original.open("rb") as left, restored.open("rb") as right:
            for offset in (0, 4096, 40 * KIB, 10 * GIB, 19 * GIB, 20 * GIB):
                left.seek(offset)
                right.seek(offset)
                assert left.read(64 * KIB) == right.read(64 * KIB)

    def test_zeros_that_were_stored_come_out_as_holes(self, tools: None, tmp_path: Path) -> None:
        data = bytearray(8 * MIB)
        data[3 * MIB : 3 * MIB + 5] = b"hello"
        maker = BackupMaker(tmp_path / "maker")
        maker.add_qube("work", files={"private.img": bytes(data)})
        path = maker.write(tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            assert archive.restore(tmp_path / "out").ok
        restored = tmp_path / "out/work/private.img"
        assert restored.read_bytes() == data
        assert restored.stat().st_blocks * 512 < MIB

    def test_an_image_of_nothing_but_holes(self, tools: None, tmp_path: Path) -> None:
        maker = BackupMaker(tmp_path / "maker", compression_filter=None)
        image = make_sparse(tmp_path / "image", 9 * GIB, {})
        maker.add_qube("gnu", files={"private.img": image})
        maker.add_qube("own", files={"private.img": image}, qubes_writer=["private.img"])
        path = maker.write(tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            assert archive.restore(tmp_path / "out").ok
            extents = list(archive.file("gnu/private.img").extents())
        for qube in ("gnu", "own"):
            state = (tmp_path / "out" / qube / "private.img").stat()
            assert (state.st_size, state.st_blocks) == (9 * GIB, 0)
        assert [(e.offset, e.length, e.data) for e in extents] == [(0, 9 * GIB, None)]


class TestHostileNames:
    """What an attacker appends to the archive, or a stranger puts into a backup of his own."""

    @rows(
        "forged",
        [
            forged_archive("../../evil.000.enc", b"x" * 200),
            forged_archive("vm1/../../evil.000.enc", b"x" * 200),
            forged_archive("/tmp/evil.000.enc", b"x" * 200),
            forged_archive("vm1//evil.000.enc", b"x" * 200),
            forged_archive("./evil.000.enc", b"x" * 200),
            forged_archive("vm1/e\x1b[2Jvil.000.enc", b"x" * 200),
            forged_archive("vm1/evil", b"x" * 200),
            forged_archive("vm1/evil.000", b"x" * 200),
            forged_archive("vm1/evil.00.enc", b"x" * 200),
            forged_archive("vm1/evil.0001.enc", b"x" * 200),
            forged_archive("vm7/private.img.000.enc", b"x" * 200),
            forged_archive("evil.000.enc", b"x" * 200),
            forged_archive("backup-header", b"version=5\n"),
            forged_archive("backup-header.hmac", b"x" * 200),
            forged_archive("qubes.xml.000.enc", b"x" * 200),
            forged_archive("vm1/text.000.enc", typeflag=tarfile.SYMTYPE, link="/etc/passwd"),
            forged_archive("vm1/text.000.enc", typeflag=tarfile.LNKTYPE, link="/etc/passwd"),
            forged_archive("vm1/text.000.enc", typeflag=tarfile.CHRTYPE),
            forged_archive("vm1/text.000.enc", typeflag=tarfile.BLKTYPE),
            forged_archive("vm1/text.000.enc", typeflag=tarfile.FIFOTYPE),
            forged_archive("vm1/text.000.enc", typeflag=tarfile.DIRTYPE),
        ],
        ids=range(21),
    )
    def test_members_that_belong_to_no_file_are_ignored_with_a_warning(
        self, made: Made, tmp_path: Path, forged: bytes
    ) -> None:
        """In the middle of a file's chunks, and at the end."""
        data = made.path.read_bytes()
        with tarfile.open(made.path, ignore_zeros=True) as outer:
            place = outer.getmember("vm1/private.img.002.enc").offset
        path = tmp_path / "backup"
        path.write_bytes(data[:place] + forged + data[place:] + forged)
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert report.ok
        assert report.warnings and len(report.warnings) <= 2
        assert all(text.isprintable() for text in report.warnings)
        assert snapshot(tmp_path / "out") == whole(made)
        assert sorted(os.listdir(tmp_path)) == ["backup", "out"]

    @pytest.mark.slow
    def test_a_flood_of_them_does_not_flood_the_report(self, made: Made, tmp_path: Path) -> None:
        path = tmp_path / "backup"
        shutil.copyfile(made.path, path)
        append_bytes(path, b"".join(forged_archive(f"../{n}")[:1536] for n in range(5000)))
        append_bytes(path, bytes(10_240))
        with qbackup.open(path, passphrase=PASSPHRASE) as archive:
            report = archive.verify(check=False)
        assert report.bad == ()
        assert len(report.warnings) <= 12
        (more,) = [warning for warning in report.warnings if warning.startswith("4990 more")]
        assert "no part of a backup has such a name" in more

    @staticmethod
    def strangers(folder: Path, name: str, **options: object) -> tuple[Path, str]:
        """A backup of which everything is authentic, made with a hostile mind."""
        maker = BackupMaker(folder / "maker")
        maker.add_qube("good", files={"private.img": b"good"})
        maker.add_qube("evil", files={"private.img": b"evil"})
        document = maker.default_qubes_xml()
        hostile = f'<property name="name">{name}</property>'.encode()
        maker.qubes_xml = document.replace(b'<property name="name">evil</property>', hostile)
        assert maker.qubes_xml != document
        return maker.write(folder / "backup"), maker.passphrase

    @rows(
        "name",
        [
            "../evil",
            "..",
            ".",
            "/evil",
            "/",
            "a/../../evil",
            "good/evil",
            "a//b",
            "e&#10;vil",
            "x" * 300,
        ],
        quick=2,
    )
    def test_a_qube_with_an_evil_name_is_refused(
        self, tools: None, tmp_path: Path, name: str
    ) -> None:
        path, passphrase = self.strangers(tmp_path, name)
        inside = tmp_path / "a/b/c"
        with qbackup.open(path, passphrase=passphrase) as archive:
            report = archive.restore(inside / "out", check=False)
            verified = archive.verify(check=False)
        assert [r.status for r in report.bad] == ["damaged"]
        assert "refused" in str(report.bad[0].error)
        assert [r.status for r in verified.bad] == ["damaged"]
        assert set(snapshot(inside)) == {
            f"out/{JOURNAL}",
            "out/qubes.xml",
            "out/good/private.img",
        }

    def test_a_qube_can_not_be_reached_through_a_link_in_a_home(
        self, tools: None, tmp_path: Path
    ) -> None:
        """A home may hold any link; a qube called after a path through it must not follow it."""
        outside = tmp_path / "outside"
        outside.mkdir()
        home = tmp_path / "user"
        home.mkdir()
        (home / "link").symlink_to(outside)
        maker = BackupMaker(tmp_path / "maker")
        maker.add_home("user", home)
        maker.add_qube("evil", files={"private.img": b"evil"})
        maker.qubes_xml = maker.default_qubes_xml().replace(
            b">evil</property>", b">dom0/user/link/evil</property>"
        )
        path = maker.write(tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert snapshot(outside) == {}
        assert [r.status for r in report.bad] == ["damaged"]
        assert snapshot(tmp_path / "out", folders=True) == {
            "qubes.xml": content(maker.qubes_xml),
            "dom0": "folder",
            "dom0/user": "folder",
            "dom0/user/link": f"link {outside}",
        }

    @pytest.mark.parametrize(
        ("names", "there"),
        [
            (("a.part", "a"), "a%2Epart"),
            (("a", "a.part"), "a%2Epart"),
            (("a.PART", "a"), "a%2EPART"),
            (("a", "a.old.part"), "a.old%2Epart"),
            (("a", "a%2Epart", "a.part"), "a%2Epart"),
        ],
    )
    def test_a_file_is_never_taken_for_the_unfinished_one_of_another(
        self, tools: None, tmp_path: Path, names: tuple[str, ...], there: str
    ) -> None:
        maker = BackupMaker(tmp_path / "maker")
        maker.add_qube("work", volumes={}, files={name: name.encode() for name in names})
        path = maker.write(tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            report = archive.restore(tmp_path / "out")
        found = without(snapshot(tmp_path / "out"), "qubes.xml")
        placed = {f"work/{r.name}": r.restored_as or f"work/{r.name}" for r in report.files[1:]}
        assert found == {placed[f"work/{name}"]: content(name.encode()) for name in names}
        (last,) = {name for name in names if name.lower().endswith(".part")}
        assert placed[f"work/{last}"] == f"work/{there}"
        assert len(found) == len(names)

    @rows(
        ("name", "folder"),
        [
            ("qubes.xml", "qubes%2Exml"),
            ("Qubes.XML", "Qubes%2EXML"),
            ("x.part", "x%2Epart"),
            ("qubes.xml.part", "qubes.xml%2Epart"),
            ("x.old.part", "x.old%2Epart"),
            (".qbackup-journal", "%2Eqbackup-journal"),
            (".QBackup-Journal", "%2EQBackup-Journal"),
            (".qback\u200cup-lock", "%2Eqback\u200cup-lock"),
            ("a%2Epart", "a%252Epart"),
        ],
        quick=2,
    )
    def test_a_qube_in_the_way_of_a_restore_s_own_files_has_another_folder(
        self, tools: None, tmp_path: Path, name: str, folder: str
    ) -> None:
        path, passphrase = self.strangers(tmp_path, name)
        out = tmp_path / "out"
        with qbackup.open(path, passphrase=passphrase) as archive:
            assert archive.verify().ok
            reports = [archive.restore(out), archive.restore(out)]
            one = archive.restore(tmp_path / "one", [name])
        assert set(snapshot(out)) == {"qubes.xml", "good/private.img", f"{folder}/private.img"}
        assert set(snapshot(tmp_path / "one")) == {"qubes.xml", f"{folder}/private.img"}
        for report, status in zip([*reports, one], ["ok", "kept", "ok"], strict=True):
            (result,) = [r for r in report.files if r.qube == name]
            assert result.status == status
            assert result.restored_as == f"{folder}/private.img"
            assert qbackup.base.names.display(folder) in result.notes[0]

    @pytest.mark.slow
    def test_what_is_left_of_a_damaged_file_of_such_a_qube_is_found(
        self, tools: None, tmp_path: Path
    ) -> None:
        maker = BackupMaker(tmp_path / "maker", chunk_size=200, compression_filter=None)
        maker.add_qube("x.part", files={"private.img": os.urandom(2000)})
        path = assemble(drop(maker.members(), "vm1/private.img.005.enc"), tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            report = archive.restore(tmp_path / "out", keep_damaged=True, check=False)
        (result,) = [r for r in report.files if r.qube]
        assert (result.status, result.kept_as) == ("damaged", "private.img.damaged")
        assert result.restored_as == "x%2Epart/private.img.damaged"
        assert (tmp_path / "out" / result.restored_as).is_file()

    def test_what_is_planted_in_a_stand_in_s_place_is_left_alone(
        self, tools: None, tmp_path: Path
    ) -> None:
        path, passphrase = self.strangers(tmp_path, "x.part")
        out, outside = tmp_path / "out", tmp_path / "outside"
        out.mkdir()
        outside.mkdir()
        (out / "x%2Epart").symlink_to(outside)
        with qbackup.open(path, passphrase=passphrase) as archive:
            report = archive.restore(out, check=False)
        assert statuses(report)["x.part/private.img"] == "damaged"
        assert snapshot(outside) == {}
        assert statuses(report)["good/private.img"] == "ok"

    @pytest.mark.parametrize("content_type", ["link", "hard link", "folder", "pipe", "other name"])
    def test_an_image_that_is_something_else_is_refused(
        self, tools: None, tmp_path: Path, content_type: str
    ) -> None:
        maker = BackupMaker(tmp_path / "maker", compression_filter=None)
        maker.add_qube("work", files={"private.img": b"data"})
        name = "vm1/evil" if content_type == "other name" else "vm1/private.img"
        types = {
            "link": tarfile.SYMTYPE,
            "hard link": tarfile.LNKTYPE,
            "folder": tarfile.DIRTYPE,
            "pipe": tarfile.FIFOTYPE,
            "other name": tarfile.REGTYPE,
        }
        maker.members()
        inner = forged_archive(name, typeflag=types[content_type], link="/etc/passwd")
        forged = maker.encrypt("vm1/private.img.000", inner)
        members = [forged if m.name == forged.name else m for m in maker.members()]
        path = assemble(members, tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert statuses(report)["work/private.img"] == "damaged"
        assert set(snapshot(tmp_path / "out")) == {"qubes.xml"}

    def test_two_files_in_one_archive_are_refused(self, tools: None, tmp_path: Path) -> None:
        maker = BackupMaker(tmp_path / "maker", compression_filter=None)
        maker.add_qube("work", files={"private.img": b"data"})
        maker.members()
        inner = forged_archive("vm1/private.img", b"x" * 512)[:1024]
        forged = maker.encrypt("vm1/private.img.000", inner + forged_archive("vm1/evil"))
        members = [forged if m.name == forged.name else m for m in maker.members()]
        path = assemble(members, tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase) as archive:
            report = archive.restore(tmp_path / "out", check=False)
        assert "second file" in errors(report)["work/private.img"]
        assert set(snapshot(tmp_path / "out")) == {"qubes.xml"}


def test_several_restores_of_one_archive_at_once(made: Made, tmp_path: Path) -> None:
    reports: dict[str, Report] = {}
    with qbackup.open(made.path, passphrase=PASSPHRASE) as archive:
        threads = [
            threading.Thread(
                target=lambda n=name: reports.update({n: archive.restore(tmp_path / n)})
            )
            for name in ("one", "two", "three")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in ("one", "two", "three"):
        assert reports[name].ok
        assert snapshot(tmp_path / name) == whole(made)


class TestBegunWithoutAResult:
    @rows("lost", ["vault/private.img", "dom0/user", "personal/text"], quick=1)
    def test_is_an_error_whatever_the_cause(
        self, backup: BackupArchive, out: Path, monkeypatch: pytest.MonkeyPatch, lost: str
    ) -> None:
        """The thread that took the file may have ended without a word."""
        take = FilesLoop._take

        def lose(self: FilesLoop, step: Step) -> None:
            if step.task.target.label != lost:
                take(self, step)

        monkeypatch.setattr(FilesLoop, "_take", lose)
        with pytest.raises(MachineError, match=f"the work on {lost} was begun and has no result"):
            backup.restore(out)
        with pytest.raises(MachineError, match=f"the work on {lost} was begun and has no result"):
            backup.verify()
