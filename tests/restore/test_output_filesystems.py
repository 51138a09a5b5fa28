"""Output folders on file systems that refuse names and keep neither modes nor links: every file
comes out, what it is called and what is not kept is said, and a second run knows it again.

The real file systems are mounted where the machine allows it. `Calls` stands in for them
everywhere: the same restores, with the system's calls answering as such a file system does.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import qbackup
from qbackup import MachineError, Report
from qbackup.image import open_image
from qbackup.restore.output.abilities import Abilities, abilities_of
from qbackup.restore.output.standins import stand_ins, without_reserved
from tests.maker import BackupMaker, make_ext4
from tests.support import alter, librarybackup
from tests.support.commandline import run as run_command
from tests.support.commandline import start, wait_for
from tests.support.longfiles import LENGTH, make_long_backup
from tests.support.mounts import KINDS, Calls, mounted
from tests.support.restored import content, snapshot, statuses
from tests.support.speed import rows

#: Names that exFAT, FAT or Windows refuse, and names that they take for others.
ODD = {
    "b:b.txt": "b%3Ab.txt",
    "what?": "what%3F",
    "tab\there": "tab%09here",
    "caf\udce9": "caf%E9",
    "1234:2,S": "1234%3A2,S",
}
ABILITIES = {
    "exfat": Abilities(longest=None, has_holes=False),
    "ntfs": Abilities(),
    "ntfs-windows": Abilities(),
    "vfat": Abilities(longest=(4 << 30) - 1, has_holes=False),
}
PLAIN = ["Makefile", "makefile", "MAKEFILE", "b%3Ab.txt", "plain", "name of 4 words"]


@pytest.fixture(scope="module")
def backup(tools: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Qubes and a home with names of every kind; what a name stands for is in its file."""
    folder = tmp_path_factory.mktemp("names")
    home = folder / "jo.doe"
    for name in ("Docs", "docs", "a:dir"):
        (home / name).mkdir(parents=True)
        (home / name / "x").write_text(name)
    for name in (*ODD, *PLAIN):
        (home / name).write_bytes(os.fsencode(name))
    os.link(home / "a:dir/x", home / "second")
    os.symlink("plain", home / "link")
    os.link(home / "link", home / "link:2", follow_symlinks=False)
    (home / "read-only").mkdir()
    (home / "read-only/file").write_text("in it")
    (home / "read-only").chmod(0o500)
    (home / "plain").chmod(0o440)
    maker = BackupMaker(folder / "maker", chunk_size=100_000)
    for name in ("work", "Work", "x.part"):
        maker.add_qube(name, files={"private.img": name.encode() * 1000, "a|b": name.encode()})
    maker.add_home(home.name, home)
    return maker.write(folder / "backup"), maker.passphrase


@pytest.fixture(scope="module")
def long_backup(tools: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return make_long_backup(tmp_path_factory.mktemp("long"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below, by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check_restores(backup: tuple[Path, str], out: Path) -> tuple[Report, Report]:
    """A first and a second run, both whole; nothing of the content is missing."""
    with qbackup.open(backup[0], passphrase=backup[1]) as archive:
        first, second = archive.restore(out, check=False), archive.restore(out, check=False)
    assert [*first.errors, *first.bad, *second.errors, *second.bad] == []
    assert set(statuses(first).values()) == {"ok"}
    assert set(statuses(second).values()) == {"kept"}
    for report in (first, second):
        for result in report.files:
            path = result.restored_as or f"{result.qube}/{result.name}".lstrip("/")
            assert (out / path).exists(), path
            is_said = any("in the output folder" in note for note in result.notes)
            assert bool(result.restored_as) == is_said
    images = {r.qube: r.restored_as or f"{r.qube}/{r.name}" for r in first.files if "img" in r.name}
    assert len(images) == 3
    for qube, path in images.items():
        assert (out / path).read_bytes() == qube.encode() * 1000
    check_home(out / "dom0/jo.doe", first)
    return first, second


def check_home(home: Path, report: Report) -> None:
    """Each file is there under its own name, or under the one that a note tells."""
    (result,) = [r for r in report.files if r.qube == "dom0"]
    told = {n.partition(": is called ")[0]: n.partition(": is called ")[2] for n in result.notes}
    found = contents(home)
    for name in (*ODD, *PLAIN):
        shown = qbackup.base.names.display(name)
        there = told[shown].partition(" there, ")[0] if shown in told else name
        assert found[there] == os.fsencode(name), name
    folders = {told.get(name, name).partition(" there, ")[0] for name in ("Docs", "docs")}
    assert {found[f"{name}/x"] for name in folders} == {b"Docs", b"docs"}
    assert found["second"] == b"a:dir"
    assert (home / "read-only/file").read_text() == "in it"
    for name in ("link", told.get("link:2", "link:2").partition(" there, ")[0]):
        path = home / name
        assert (os.readlink(path) if path.is_symlink() else path.read_text()) == "plain"


@rows("kind", KINDS)
class TestRealOnes:
    @pytest.fixture
    def disk(self, kind: str, tmp_path: Path) -> Iterator[Path]:
        with mounted(kind, tmp_path) as disk:
            yield disk

    def test_all_comes_out_and_a_second_run_knows_it(
        self, kind: str, backup: tuple[Path, str], disk: Path
    ) -> None:
        first, second = check_restores(backup, disk / "out")
        for report in (first, second):
            assert sum("keeps no permissions" in warning for warning in report.warnings) == 1
            assert sum("has no holes" in warning for warning in report.warnings) == (
                not ABILITIES[kind].has_holes
            )
            assert sum("no file of more than" in warning for warning in report.warnings) == (
                ABILITIES[kind].longest is not None
            )
            kept_not = 1 + (not ABILITIES[kind].has_holes) + (ABILITIES[kind].longest is not None)
            assert len(report.warnings) == kept_not

    def test_what_it_can_hold_is_found_out(self, kind: str, disk: Path) -> None:
        folder = os.open(disk, os.O_RDONLY)
        try:
            assert abilities_of(folder) == ABILITIES[kind]
        finally:
            os.close(folder)
        assert not [name for name in os.listdir(disk) if "qbackup" in name]

    def test_files_that_it_can_not_hold_are_told_and_cost_themselves(
        self, kind: str, long_backup: tuple[Path, str], disk: Path
    ) -> None:
        """5 GiB with nearly no data: too long for FAT, too much for exFAT, and nothing for NTFS."""
        with qbackup.open(long_backup[0], passphrase=long_backup[1]) as archive:
            report = archive.restore(disk / "out", check=False)
        lost = {f"{result.qube}/{result.name}": result for result in report.bad}
        assert (disk / "out/small/private.img").read_bytes() == b"x" * 5000
        assert (disk / "out/dom0/joe/letter").read_text() == "text"
        if ABILITIES[kind].has_holes:
            assert lost == {}
            assert (disk / "out/big/private.img").stat().st_size == LENGTH
            return
        assert list(lost) == ["big/private.img", "dom0/joe/disk.img"]
        assert {result.status for result in lost.values()} == {"missing"}
        words = "no holes" if ABILITIES[kind].longest is None else "is too long"
        assert all(words in str(result.error) for result in lost.values())

    def test_killed_and_run_again(self, backup: tuple[Path, str], disk: Path) -> None:
        arguments: list[str | Path] = ["restore", "-", "-o", disk / "out", "--json", "-q"]
        key = {"QBACKUP_PASSPHRASE": backup[1]}
        data = backup[0].read_bytes()
        with start(*arguments, stdin=subprocess.PIPE, env=key) as process:
            assert process.stdin is not None
            with contextlib.closing(process.stdin):
                process.stdin.write(data[: len(data) * 2 // 3])
                process.stdin.flush()
                wait_for(lambda: any((disk / "out").rglob("private.img")))
                process.kill()
        with qbackup.open(backup[0], passphrase=backup[1]) as archive:
            report = archive.restore(disk / "out", check=False)
        assert report.ok
        assert "kept" in statuses(report).values()
        assert not list(disk.rglob("*.part"))
        check_home(disk / "out/dom0/jo.doe", report)

    @pytest.mark.slow
    def test_the_rest_of_a_damaged_file_is_kept(self, disk: Path, tmp_path: Path) -> None:
        made = librarybackup.make(tmp_path)
        name = "vm1/private.img.002.enc"
        damaged = alter.flipped(made.path, tmp_path / "damaged", name)
        for _ in range(2):
            with qbackup.open(damaged, passphrase=librarybackup.PASSPHRASE) as archive:
                report = archive.restore(disk / "out", check=False, keep_damaged=True)
            assert [result.kept_as for result in report.bad] == ["private.img.damaged"]
        assert not list((disk / "out").rglob("private.img.damaged.2"))

    @pytest.mark.slow
    def test_what_was_changed_there_is_seen(self, backup: tuple[Path, str], disk: Path) -> None:
        check_restores(backup, disk / "out")
        (disk / "out/dom0/jo.doe/plain").write_text("changed")
        with qbackup.open(backup[0], passphrase=backup[1]) as archive:
            again = archive.restore(disk / "out", check=False)
            assert statuses(again)["dom0/jo.doe"] == "exists"
            assert archive.restore(disk / "out", overwrite=True).ok
        check_home(disk / "out/dom0/jo.doe", archive_report(backup, disk / "two"))

    @pytest.mark.slow
    def test_by_the_command(self, backup: tuple[Path, str], disk: Path) -> None:
        key = {"QBACKUP_PASSPHRASE": backup[1]}
        ended = run_command("restore", backup[0], "-o", disk / "out", "--json", env=key)
        assert ended.status == 0
        document = json.loads(ended.stdout)
        (home,) = [file for file in document["files"] if file["qube"] == "dom0"]
        assert any("caf%E9" in note for note in home["notes"])
        (image,) = [
            file
            for file in document["files"]
            if (file["qube"], file["name"]) == ("x.part", "private.img")
        ]
        assert image["restored_as"] == "x%2Epart/private.img"

    def test_a_copy_out_of_an_image(self, tools: None, disk: Path, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        tree.mkdir()
        for name in ODD:
            (tree / name).write_bytes(os.fsencode(name))
        with open_image(make_ext4(tmp_path / "image", 8 << 20, tree)) as image:
            report = image.copy("/", disk / "all")
            one = image.copy("/caf\udce9", disk)
        assert report.ok and one.ok
        assert sorted(contents(disk / "all").values()) == sorted(map(os.fsencode, ODD))
        assert one.written == f"{disk}/caf%E9"
        assert (disk / "caf%E9").read_bytes() == b"caf\xe9"


def archive_report(backup: tuple[Path, str], out: Path) -> Report:
    with qbackup.open(backup[0], passphrase=backup[1]) as archive:
        return archive.restore(out)


class TestCallsThatAnswerAsTheyDo:
    @pytest.mark.parametrize(
        ("refuse", "links"),
        [
            (errno.EINVAL, errno.EPERM),
            (errno.ENOENT, errno.ENOSYS),  # exFAT, by FUSE
            (errno.EPERM, errno.EOPNOTSUPP),  # FAT, by FUSE
            (errno.EILSEQ, errno.EIO),  # NTFS
            (errno.ENAMETOOLONG, errno.EMLINK),
            (errno.ENOSPC, errno.ENOSPC),
        ],
    )
    def test_whatever_number_stands_for_it(
        self,
        backup: tuple[Path, str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        refuse: int,
        links: int,
    ) -> None:
        with monkeypatch.context() as patch:
            Calls(patch, refuse=refuse, links=links)
            first, _ = check_restores(backup, tmp_path / "out")
        (result,) = [r for r in first.files if r.qube == "dom0"]
        for name, there in ODD.items():
            note = (
                f"{qbackup.base.names.display(name)}: is called {there} there, as the file system"
            )
            assert any(text.startswith(note) for text in result.notes)
        assert "1 further names of files are copies" in "".join(result.notes)
        assert sum("a symbolic link to plain" in note for note in result.notes) == 2
        assert first.warnings and "keeps no permissions" in first.warnings[0]
        placed = {(r.qube, r.name): r.restored_as for r in first.files}
        assert placed["x.part", "a|b"] == "x%2Epart/a%7Cb"
        assert {placed["work", "private.img"], placed["Work", "private.img"]} in (
            {None, "%57ork/private.img"},
            {None, "%77ork/private.img"},
        )

    def test_a_place_where_nothing_can_be_made_stops_all(
        self, backup: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The very number that one name is refused with elsewhere."""
        real = os.open

        def fail(path: str | bytes, flags: int, *mode: int, dir_fd: int | None = None) -> int:
            inside = dir_fd is not None and "jo.doe.part" in os.readlink(f"/proc/self/fd/{dir_fd}")
            if flags & os.O_CREAT and inside:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return real(path, flags, *mode, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", fail)
        with (
            qbackup.open(backup[0], passphrase=backup[1]) as archive,
            pytest.raises(MachineError, match="Invalid argument"),
        ):
            archive.restore(tmp_path / "out")
        assert not (tmp_path / "out/dom0/jo.doe").exists()

    def test_room_for_a_file_and_none_for_a_folder_is_a_full_disk(
        self, backup: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Full disk like ext4: an empty file takes no block, and a folder takes one."""
        real = os.mkdir

        def fail(path: str | bytes, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            if dir_fd is not None and "jo.doe.part" in os.readlink(f"/proc/self/fd/{dir_fd}"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(path, mode, dir_fd=dir_fd)

        monkeypatch.setattr(os, "mkdir", fail)
        with (
            qbackup.open(backup[0], passphrase=backup[1]) as archive,
            pytest.raises(MachineError, match="No space left on device"),
        ):
            archive.restore(tmp_path / "out")

    def test_room_that_comes_back_at_once_costs_no_name(
        self, backup: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first try of each name fails, and the next one succeeds."""
        real, tried = os.open, set()

        def fail(path: str | bytes, flags: int, *mode: int, dir_fd: int | None = None) -> int:
            if flags & os.O_CREAT and b"probe" not in os.fsencode(path) and path not in tried:
                tried.add(path)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(path, flags, *mode, dir_fd=dir_fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            report = archive_report(backup, tmp_path / "out")
        assert {r.restored_as for r in report.files if r.qube == "work"} == {None}
        assert "b:b.txt" in snapshot(tmp_path / "out/dom0/jo.doe")

    def test_what_somebody_planted_is_no_name_that_was_refused(
        self, backup: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that this archive does not hold is in the way: that costs a file, and is named."""
        real = os.open
        planted: list[int] = []

        def plant(path: str | bytes, flags: int, *mode: int, dir_fd: int | None = None) -> int:
            if flags & os.O_CREAT and path == b"plain" and not planted:
                planted.append(real(path, flags, 0o600, dir_fd=dir_fd))
            return real(path, flags, *mode, dir_fd=dir_fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", plant)
            with qbackup.open(backup[0], passphrase=backup[1]) as archive:
                report = archive.restore(tmp_path / "out", check=False)
        os.close(planted[0])
        assert [f"{r.qube}/{r.name}" for r in report.bad] == ["dom0/jo.doe/plain"]

    @pytest.mark.parametrize("planted", ["link", "folder", "pipe"])
    def test_a_stand_in_s_own_name_is_taken(
        self,
        backup: tuple[Path, str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        planted: str,
    ) -> None:
        """Nothing is followed or replaced; the file is called otherwise, or named as lost."""
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        place = tmp_path / "out/work/a%7Cb"
        place.parent.mkdir(parents=True)
        make: dict[str, Callable[[], None]] = {
            "link": lambda: place.symlink_to(victim),
            "folder": place.mkdir,
            "pipe": lambda: os.mkfifo(place),
        }
        make[planted]()
        before = place.lstat()
        with monkeypatch.context() as patch:
            Calls(patch)
            with qbackup.open(backup[0], passphrase=backup[1]) as archive:
                report = archive.restore(tmp_path / "out", check=False)
        assert [(r.qube, r.name, r.status) for r in report.bad] == [("work", "a|b", "exists")]
        assert victim.read_bytes() == b"precious"
        assert os.path.samestat(place.lstat(), before)

    def test_modes_that_one_run_could_keep_count_for_the_next(
        self, backup: tuple[Path, str], tmp_path: Path
    ) -> None:
        archive_report(backup, tmp_path / "out")
        (tmp_path / "out/dom0/jo.doe/plain").chmod(0o666)
        with qbackup.open(backup[0], passphrase=backup[1]) as archive:
            again = archive.restore(tmp_path / "out", check=False)
        assert statuses(again)["dom0/jo.doe"] == "exists"

    def test_modes_that_were_not_kept_are_not_compared(
        self, backup: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same stick, mounted with other options."""
        with monkeypatch.context() as patch:
            Calls(patch)
            check_restores(backup, tmp_path / "out")
        for path in (tmp_path / "out/dom0").rglob("*"):
            path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o077)
        with qbackup.open(backup[0], passphrase=backup[1]) as archive:
            again = archive.restore(tmp_path / "out")
        assert set(statuses(again).values()) == {"kept"}


class TestStandIns:
    @pytest.mark.parametrize(
        "name", [*ODD, *PLAIN, "x" * 255, ":" * 255, "ü" * 127, ".", "a. ", "%"]
    )
    def test_are_few_different_and_fit(self, name: str) -> None:
        others = list(stand_ins(name))
        assert 1 <= len(others) <= 4
        assert len({name, *others}) == len(others) + 1
        for other in others:
            assert len((other + ".part").encode("utf-8", "surrogateescape")) <= 255
            assert "/" not in other and "\0" not in other
            assert other not in (".", "..")
        last = others[-1]
        assert last.isascii() and last.isprintable() and not set(last) & set('"*:<>?|\\/')
        assert list(stand_ins(name)) == others

    @pytest.mark.parametrize(
        ("qube", "file", "path"),
        [
            ("work", "private.img", "work/private.img"),
            ("x.part", "", "x%2Epart"),
            ("x", "a/b.part/c", "x/a/b%2Epart/c"),
            ("x%2Epart", "a", "x%252Epart/a"),
            ("x%2epart", "a", "x%252epart/a"),
            ("100%", "50% off", "100%/50% off"),
            ("qubes.xml", "qubes.xml", "qubes%2Exml/qubes.xml"),
            ("x.damaged", "y.damaged", "x.damaged/y.damaged"),
            (".part", "a", "%2Epart/a"),
        ],
    )
    def test_of_what_is_reserved(self, qube: str, file: str, path: str) -> None:
        assert without_reserved(qube, file) == path

    def test_no_two_names_get_one(self) -> None:
        names = ["a.part", "a%2Epart", "a%252Epart", "a%25252Epart", "a%2E%2Epart", "qubes.xml"]
        names += ["qubes%2Exml", "A.PART", "a.old.part", "%61.part", "%2Epart", ".part"]
        assert len({without_reserved(name, "x") for name in names}) == len(names)
        assert len({content(without_reserved("q", name).encode()) for name in names}) == len(names)
