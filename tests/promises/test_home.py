"""dom0's home: a whole tree comes back as it was, and no tree ever gets out of its folder."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import qbackup
from qbackup import Limits, Report
from tests.make_vectors import make_home
from tests.maker import BackupMaker, Member, assemble, published_procedure, run
from tests.support import vectorfiles
from tests.support.restored import Snapshot, content, errors, snapshot, statuses
from tests.support.speed import rows
from tests.support.vectorfiles import expected_tree

BLOCK = 512
USER = "user"
TOP = f"dom0-home/{USER}"


class TestOrdinaryHomes:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        return make_home(tmp_path / "source" / USER)

    @pytest.fixture
    def restore(self, tools: None, tmp_path: Path) -> Callable[[Path], tuple[Report, Path]]:
        """Backs a home up with the real tools and restores it."""

        def run_it(home: Path, **options: Any) -> tuple[Report, Path]:
            maker = BackupMaker(tmp_path / "maker", chunk_size=1024, **options)
            maker.add_home(home.name, home)
            path = maker.write(tmp_path / "backup")
            with qbackup.open(path, passphrase=maker.passphrase) as archive:
                return archive.restore(tmp_path / "out", check=False), tmp_path / "out/dom0"

        return run_it

    def test_a_tree_with_all_that_a_tree_can_hold(
        self, home: Path, restore: Callable[[Path], tuple[Report, Path]]
    ) -> None:
        expected = expected_tree(vectorfiles.describe_tree(home))
        report, dom0 = restore(home)
        assert report.ok
        found = vectorfiles.describe_tree(dom0 / USER)
        assert found == expected
        kinds = {entry["type"] for entry in found}
        assert kinds == {"directory", "file", "symlink"}
        assert {e["hard_link"] for e in found if "hard_link" in e} == {1, 2}

    def test_the_published_procedure_gives_the_same_but_for_what_tar_rewrote(
        self, home: Path, restore: Callable[[Path], tuple[Report, Path]], tmp_path: Path
    ) -> None:
        _, dom0 = restore(home)
        by_hand = published_procedure(
            tmp_path / "backup", "correct horse battery staple", TOP, tmp_path / "by-hand"
        )
        left, right = vectorfiles.describe_tree(dom0 / USER), vectorfiles.describe_tree(by_hand)
        different = [
            (ours["path"], {key for key in ours if ours[key] != theirs[key]})
            for ours, theirs in zip(left, right, strict=True)
            if ours != theirs
        ]
        assert sorted(different) == [
            ("rewritten", {"target", "target_base64"}),
            ("setgid", {"mode"}),
            ("setuid", {"mode"}),
        ]

    def test_modes_of_folders_are_kept(
        self, home: Path, restore: Callable[[Path], tuple[Report, Path]]
    ) -> None:
        _, dom0 = restore(home)
        modes = {"private": 0o700, "read-only": 0o500, "empty-folder": 0o1777, ".": 0o700}
        for name, mode in modes.items():
            assert stat.S_IMODE((dom0 / USER / name).stat().st_mode) == mode
        assert (dom0 / USER / "read-only/file").read_bytes().startswith(b"in a folder")

    def test_setuid_and_setgid_are_dropped_and_said(
        self, home: Path, restore: Callable[[Path], tuple[Report, Path]]
    ) -> None:
        report, dom0 = restore(home)
        assert stat.S_IMODE((dom0 / USER / "setuid").stat().st_mode) == 0o755
        assert stat.S_IMODE((dom0 / USER / "setgid").stat().st_mode) == 0o755
        (result,) = [r for r in report.files if r.qube == "dom0"]
        assert sorted(result.notes) == [
            "setgid: setuid or setgid dropped",
            "setuid: setuid or setgid dropped",
        ]

    def test_links_come_back_verbatim(
        self, home: Path, restore: Callable[[Path], tuple[Report, Path]]
    ) -> None:
        _, dom0 = restore(home)
        targets = {
            "relative": "Documents/letter.txt",
            "absolute": "/etc/hosts",
            "upwards": "../../etc/passwd",
            "dangling": "no/such/file",
            "rewritten": f"{USER}/Documents",
        }
        assert {name: os.readlink(dom0 / USER / name) for name in targets} == targets

    def test_hard_links_are_one_file(
        self, home: Path, restore: Callable[[Path], tuple[Report, Path]]
    ) -> None:
        _, dom0 = restore(home)
        tree = dom0 / USER
        assert (tree / "hard-link").samefile(tree / "Documents/letter.txt")
        first, second = (tree / "relative").lstat(), (tree / "hard-link-of-symlink").lstat()
        assert stat.S_ISLNK(first.st_mode)
        assert first.st_ino == second.st_ino

    def test_times_are_kept(
        self, home: Path, restore: Callable[[Path], tuple[Report, Path]]
    ) -> None:
        _, dom0 = restore(home)
        for name in ("before-1970", "empty-folder", "read-only", "relative", "Documents", "."):
            ours = os.lstat(dom0 / USER / name).st_mtime
            assert int(ours) == int(os.lstat(home / name).st_mtime), name

    def test_holes_stay_holes(
        self, home: Path, restore: Callable[[Path], tuple[Report, Path]]
    ) -> None:
        with (home / "large").open("wb") as file:
            file.truncate(5 << 30)
        report, dom0 = restore(home)
        assert report.ok
        assert (dom0 / USER / "large").stat().st_size == 5 << 30
        assert (dom0 / USER / "large").stat().st_blocks == 0
        assert (dom0 / USER / "sparse").stat().st_blocks * 512 < 1 << 20

    def test_pipes_are_left_out_and_noted(
        self,
        home: Path,
        restore: Callable[[Path], tuple[Report, Path]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """GNU tar itself leaves sockets out of its archives, with status 0."""
        os.mkfifo(home / "Documents/pipe")
        before = snapshot(home)
        with socket.socket(socket.AF_UNIX) as end:
            with monkeypatch.context() as patch:
                patch.chdir(home)  # as the path of a socket is short
                end.bind("socket")
            report, dom0 = restore(home)
        assert report.ok
        assert statuses(report) == {"qubes.xml": "ok", "dom0/user": "ok"}
        (result,) = [r for r in report.files if r.qube == "dom0"]
        assert "Documents/pipe: a pipe, which is never made; left out" in result.notes
        del before["Documents/pipe"]
        assert snapshot(dom0 / USER) == before

    def test_devices_are_left_out_and_noted(
        self, home: Path, restore: Callable[[Path], tuple[Report, Path]]
    ) -> None:
        try:
            os.mknod(home / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
        report, dom0 = restore(home)
        assert errors(report) == {}
        (result,) = [r for r in report.files if r.qube == "dom0"]
        assert "null: a device, which is never made; left out" in result.notes
        assert not (dom0 / USER / "null").exists()

    def test_a_deep_tree(
        self, tmp_path: Path, restore: Callable[[Path], tuple[Report, Path]]
    ) -> None:
        home = tmp_path / "source" / USER
        deep = home.joinpath(*["folder-with-a-rather-long-name"] * 100)
        deep.mkdir(parents=True)
        (deep / "file").write_bytes(b"deep")
        (home / "after").write_bytes(b"flat")
        report, dom0 = restore(home)
        assert report.ok
        assert snapshot(dom0 / USER) == snapshot(home)

    def test_many_files_take_few_descriptors(
        self, tmp_path: Path, restore: Callable[[Path], tuple[Report, Path]]
    ) -> None:
        home = tmp_path / "source" / USER
        for number in range(30):
            folder = home / f"{number % 7}/{number}"
            folder.mkdir(parents=True)
            for name in ("a", "b"):
                (folder / name).write_bytes(b"%d" % number)
        before = len(os.listdir("/proc/self/fd"))
        report, dom0 = restore(home)
        assert report.ok
        assert len(os.listdir("/proc/self/fd")) == before
        assert snapshot(dom0 / USER) == snapshot(home)

    def test_a_home_that_a_user_who_is_not_root_restores(
        self, home: Path, restore: Callable[[Path], tuple[Report, Path]], tmp_path: Path
    ) -> None:
        """A folder of mode 0500 is filled before it gets its mode."""
        if os.geteuid() != 0:
            pytest.skip("every other test runs as such a user already")
        restore(home)
        expected = vectorfiles.describe_tree(tmp_path / "out/dom0/user")
        own = Path(tempfile.mkdtemp(prefix="qbackup-"))
        run(["cp", str(tmp_path / "backup"), str(own / "backup")])
        os.chown(own, 65534, 65534)
        try:
            assert in_child(restore_as_nobody, own) == 0
            assert vectorfiles.describe_tree(own / "out/dom0/user") == expected
        finally:
            run(["rm", "-rf", str(own)])


def restore_as_nobody(folder: Path) -> int:
    os.setgid(65534)
    os.setuid(65534)
    with qbackup.open(folder / "backup", passphrase="correct horse battery staple") as archive:
        return 0 if archive.restore(folder / "out").ok else 1


def in_child(work: Callable[[Path], int], folder: Path) -> int:
    """The exit status of a child of this process that does this work."""
    child = os.fork()
    if not child:
        status = 99
        try:
            status = work(folder)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Inner:
    """An inner archive of a home, entry by entry, as no GNU tar would write it."""

    def __init__(self, *, top: bool = True) -> None:
        self.data = b""
        if top:
            self.folder("")

    def add(
        self,
        path: str,
        *,
        type: bytes = tarfile.REGTYPE,
        data: bytes = b"",
        link: str = "",
        prefix: str = TOP,
        format: Literal[0, 1, 2] = tarfile.PAX_FORMAT,
        mtime: float = 0,
        mode: int = 0o644,
    ) -> Inner:
        info = tarfile.TarInfo((f"{prefix}/{path}" if path else prefix) if prefix else path)
        info.type, info.size, info.linkname = type, len(data), link
        info.mtime, info.mode = mtime, mode
        self.data += info.tobuf(format, "utf-8", "surrogateescape")
        self.data += data + bytes(-len(data) % BLOCK)
        return self

    def folder(self, path: str, mode: int = 0o755) -> Inner:
        return self.add(path, type=tarfile.DIRTYPE, mode=mode)

    def link(self, path: str, target: str) -> Inner:
        return self.add(path, type=tarfile.SYMTYPE, link=target)

    def hard_link(self, path: str, target: str) -> Inner:
        return self.add(path, type=tarfile.LNKTYPE, link=target)

    def end(self) -> bytes:
        return self.data + bytes(2 * BLOCK)


@pytest.fixture(scope="module")
def maker(tools: None, tmp_path_factory: pytest.TempPathFactory) -> BackupMaker:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / USER).mkdir()
    maker = BackupMaker(folder / "maker", compression_filter=None)
    maker.add_home(USER, folder / USER)
    maker.members()
    return maker


@pytest.fixture
def fenced(tmp_path: Path) -> Iterator[Path]:
    """An output folder with a neighbourhood that must stay as it is."""
    (tmp_path / "a/victim").mkdir(parents=True)
    (tmp_path / "a/victim/file").write_bytes(b"precious")
    passwd = content(Path("/etc/passwd").read_bytes())
    yield tmp_path / "a/b/out"
    found = snapshot(tmp_path / "a", folders=True)
    inside = {path: what for path, what in found.items() if not path.startswith("b/out/")}
    inside.pop("b", None)
    inside.pop("b/out", None)
    assert inside == {"victim": "folder", "victim/file": content(b"precious")}
    assert content(Path("/etc/passwd").read_bytes()) == passwd


@pytest.fixture
def restore(maker: BackupMaker, fenced: Path, tmp_path: Path) -> Callable[..., Report]:
    """Really encrypts an inner archive and restores it; verifying must say the same."""

    def run_it(inner: bytes, limits: Limits | None = None, *, same_verdict: bool = True) -> Report:
        home: Member = maker.encrypt(f"{TOP}.000", inner)
        members = [home if m.name == home.name else m for m in maker.members()]
        path = assemble(members, tmp_path / "backup")
        with qbackup.open(path, passphrase=maker.passphrase, limits=limits) as archive:
            verified = archive.verify(check=False)
            report = archive.restore(fenced, check=False)
        assert not same_verdict or verified.files[1:] == report.files[1:]
        assert not list(fenced.rglob("*.part"))
        return report

    return run_it


def tree(fenced: Path) -> Snapshot:
    """What stands under the home's final name."""
    return snapshot(fenced / "dom0" / USER, folders=True)


class TestHostileHomes:
    """Everything is authentic: the archive comes with the stranger's own passphrase."""

    def test_the_way_of_making_them_makes_good_ones_too(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        inner = Inner().folder("sub").add("sub/file", data=b"hello").link("link", "sub")
        inner.hard_link("again", f"{TOP}/sub/file")
        assert restore(inner.end()).ok
        assert tree(fenced) == {
            "sub": "folder",
            "sub/file": content(b"hello"),
            "again": content(b"hello"),
            "link": "link sub",
        }

    @rows(
        ("path", "prefix"),
        [
            ("../victim/evil", TOP),
            ("..", TOP),
            ("sub/../../../victim/evil", TOP),
            ("./evil", TOP),
            ("sub//evil", TOP),
            ("/etc/evil", ""),
            (f"/{TOP}/evil", ""),
            ("evil", ""),
            ("evil", "dom0-home"),
            ("evil", "dom0-home/user2"),
            ("evil", "../dom0-home/user"),
            ("evil", "dom0-home/../dom0-home/user"),
            ("x" * 256, TOP),
        ],
        quick=2,
    )
    @rows("type", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE], quick=2)
    def test_a_name_that_leads_elsewhere_costs_the_whole_tree(
        self, restore: Callable[..., Report], fenced: Path, path: str, prefix: str, type: bytes
    ) -> None:
        inner = Inner().add("good", data=b"good")
        inner.add(path, prefix=prefix, type=type, link="/etc/passwd")
        report = restore(inner.end())
        assert statuses(report)["dom0/user"] == "damaged"
        assert not (fenced / "dom0" / USER).exists()

    def test_a_link_and_then_a_file_through_it(
        self, restore: Callable[..., Report], fenced: Path, tmp_path: Path
    ) -> None:
        victim = tmp_path / "a/victim"
        inner = Inner().link("link", str(victim)).add("link/evil", data=b"evil")
        inner.folder("link/evil-folder").link("link/evil-link", "x")
        report = restore(inner.end())
        assert set(errors(report)) == {
            "dom0/user/link/evil",
            "dom0/user/link/evil-folder",
            "dom0/user/link/evil-link",
        }
        assert "not a folder" in errors(report)["dom0/user/link/evil"]
        assert tree(fenced) == {"link": f"link {victim}"}

    def test_a_file_and_then_a_link_in_place_of_its_folder(
        self, restore: Callable[..., Report], fenced: Path, tmp_path: Path
    ) -> None:
        victim = tmp_path / "a/victim"
        inner = Inner().add("sub/one", data=b"1").link("sub", str(victim))
        inner.add("sub/two", data=b"2")
        report = restore(inner.end())
        assert errors(report) == {"dom0/user/sub": "not restored: a second entry of this name"}
        assert tree(fenced) == {"sub": "folder", "sub/one": content(b"1"), "sub/two": content(b"2")}

    @pytest.mark.parametrize(
        "target",
        [f"{TOP}/none", f"{TOP}/later", f"{TOP}/sub", TOP],
        ids=["nothing", "later", "folder", "top"],
    )
    def test_a_hard_link_to_what_is_no_file_of_this_tree_is_refused_and_named(
        self, restore: Callable[..., Report], fenced: Path, target: str
    ) -> None:
        inner = Inner().folder("sub").hard_link("evil", target).add("later", data=b"later")
        report = restore(inner.end())
        assert list(errors(report)) == ["dom0/user/evil"]
        assert "hard link" in errors(report)["dom0/user/evil"]
        assert tree(fenced) == {"sub": "folder", "later": content(b"later")}

    @pytest.mark.parametrize(
        "target",
        [
            "/etc/passwd",
            "../../../etc/passwd",
            "dom0-home/other/x",
            f"{TOP}/../../../victim/file",
        ],
    )
    def test_a_hard_link_that_leads_elsewhere_costs_the_whole_tree(
        self, restore: Callable[..., Report], fenced: Path, target: str
    ) -> None:
        report = restore(Inner().add("good").hard_link("evil", target).end())
        assert statuses(report)["dom0/user"] == "damaged"
        assert not (fenced / "dom0" / USER).exists()

    def test_a_hard_link_to_a_link_to_passwd_is_a_second_link(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        inner = Inner().link("link", "/etc/passwd").hard_link("again", f"{TOP}/link")
        inner.hard_link("third", f"{TOP}/again")
        assert restore(inner.end()).ok
        names = ("link", "again", "third")
        assert tree(fenced) == dict.fromkeys(names, "link /etc/passwd")
        home = fenced / "dom0" / USER
        assert len({(home / name).lstat().st_ino for name in names}) == 1

    def test_a_hard_link_with_data_is_no_way_to_write(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        inner = Inner().add("file", data=b"good")
        inner.add("again", type=tarfile.LNKTYPE, link=f"{TOP}/file")
        assert restore(inner.end()).ok
        assert tree(fenced) == {"file": content(b"good"), "again": content(b"good")}

    @rows("second", ["file", "link", "hard link", "folder"], quick=2)
    @rows("first", ["file", "link", "hard link", "folder", "pipe"], quick=2)
    def test_a_name_twice_is_refused_and_the_first_one_stays(
        self, restore: Callable[..., Report], fenced: Path, first: str, second: str
    ) -> None:
        def add(inner: Inner, kind: str, mark: str) -> None:
            if kind == "file":
                inner.add("name", data=mark.encode())
            elif kind == "link":
                inner.link("name", f"/{mark}")
            elif kind == "hard link":
                inner.hard_link("name", f"{TOP}/{mark}")
            elif kind == "pipe":
                inner.add("name", type=tarfile.FIFOTYPE)
            else:
                inner.folder("name")

        inner = Inner().add("first", data=b"first").add("second", data=b"second")
        add(inner, first, "first")
        add(inner, second, "second")
        report = restore(inner.end())
        kept = {
            "file": {"name": content(b"first")},
            "link": {"name": "link /first"},
            "hard link": {"name": content(b"first")},
            "folder": {"name": "folder"},
            "pipe": {},
        }
        others = {"first": content(b"first"), "second": content(b"second")}
        assert tree(fenced) == others | kept[first]
        bad = [(r.name, r.status) for r in report.bad]
        expected = [("user/name", "missing")] if (first, second) != ("folder", "folder") else []
        assert bad == expected

    def test_a_file_and_then_a_file_below_it(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        inner = Inner().add("name", data=b"file").add("name/below/deeper", data=b"evil")
        report = restore(inner.end())
        assert list(errors(report)) == ["dom0/user/name/below/deeper"]
        assert tree(fenced) == {"name": content(b"file")}

    def test_folders_that_were_not_named_are_made(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        inner = Inner(top=False).add("a/b/c", data=b"deep")
        assert restore(inner.end()).ok
        assert tree(fenced) == {"a": "folder", "a/b": "folder", "a/b/c": content(b"deep")}
        assert stat.S_IMODE((fenced / "dom0" / USER / "a").stat().st_mode) == 0o700

    def test_a_top_that_is_a_file_or_a_link_costs_the_tree(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        for type in (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE):
            inner = Inner(top=False).add("", type=type, link="/etc")
            assert statuses(restore(inner.end()))["dom0/user"] == "damaged"
        assert not (fenced / "dom0" / USER).exists()

    def test_setuid_setgid_and_devices(self, restore: Callable[..., Report], fenced: Path) -> None:
        inner = Inner().add("root", data=b"x", mode=0o6755).folder("sub", mode=0o7777)
        for name, kind in (("block", tarfile.BLKTYPE), ("char", tarfile.CHRTYPE)):
            inner.add(name, type=kind, mode=0o6666)
        report = restore(inner.end())
        assert errors(report) == {}
        assert stat.S_IMODE((fenced / "dom0/user/root").stat().st_mode) == 0o755
        assert stat.S_IMODE((fenced / "dom0/user/sub").stat().st_mode) == 0o1777
        (result,) = [r for r in report.files if r.name == USER]
        assert sorted(note.partition(":")[0] for note in result.notes) == [
            "block",
            "char",
            "root",
            "sub",
        ]
        assert not {"block", "char"} & set(os.listdir(fenced / "dom0/user"))

    def test_a_type_that_nobody_knows_is_refused_and_named(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        report = restore(Inner().add("odd", type=b"Z").add("good").end())
        assert list(errors(report)) == ["dom0/user/odd"]
        assert set(tree(fenced)) == {"good"}

    @pytest.mark.parametrize("mtime", [2**33, 2**62, 2**63 - 1, 2**70, -(2**62), -(2**70)])
    def test_times_that_no_system_has(
        self, restore: Callable[..., Report], fenced: Path, mtime: int
    ) -> None:
        inner = Inner(top=False)
        inner.add("", type=tarfile.DIRTYPE, mtime=mtime, format=tarfile.GNU_FORMAT)
        inner.add("file", mtime=mtime, format=tarfile.GNU_FORMAT)
        inner.add("link", type=tarfile.SYMTYPE, link="x", mtime=mtime, format=tarfile.GNU_FORMAT)
        assert restore(inner.end()).ok
        assert set(tree(fenced)) == {"file", "link"}

    def test_a_link_to_no_name_is_refused_and_named(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        report = restore(Inner().link("link", "").add("good").end())
        assert list(errors(report)) == ["dom0/user/link"]
        assert set(tree(fenced)) == {"good"}

    def test_a_name_ends_at_its_first_nul_as_for_every_tar(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        inner = Inner()
        inner.data += gnu_long(b"L", f"{TOP}/name\0/../../evil".encode())
        inner.data += gnu_long(b"K", b"target\0evil")
        assert restore(inner.link("short", "x").end()).ok
        assert tree(fenced) == {"name": "link target"}

    def test_a_link_to_a_name_that_is_too_long_for_this_system_is_a_file_with_that_text(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        target = "x/" * 2048
        inner = Inner().link("link", target).add("good").hard_link("second", f"{TOP}/link")
        report = restore(inner.end(), same_verdict=False)
        assert report.ok
        (result,) = [r for r in report.files if r.name == USER]
        assert [note[:24] for note in result.notes] == [
            "link: a symbolic link to",
            "second: a symbolic link ",
        ]
        text = content(target.encode())
        assert tree(fenced) == {"good": content(b""), "link": text, "second": text}

    @pytest.mark.parametrize(
        "name", ["e\x1b[31mvil", "new\nline", "\u202egpj.exe", "\x07", "caf\udce9"]
    )
    def test_odd_names_are_kept_on_disk_and_made_visible_in_the_report(
        self, restore: Callable[..., Report], fenced: Path, name: str
    ) -> None:
        inner = Inner().add(name, data=b"x", mode=0o4755).hard_link(f"{name}2", f"{TOP}/none")
        report = restore(inner.end())
        assert tree(fenced) == {name: content(b"x")}
        (result,) = [r for r in report.files if r.name == USER]
        assert all(note.isprintable() for note in result.notes)
        (bad,) = report.bad
        assert bad.name == f"{USER}/{name}2"
        assert str(bad.error).isprintable()

    def test_the_file_that_hides_the_end_of_a_tree(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        whole = Inner().add("file", data=b"x" * 5000).end()
        for inner in (whole[:-1024], whole[:2000], whole + b"x", whole + Inner().end()):
            assert statuses(restore(inner))["dom0/user"] == "damaged"
        assert not (fenced / "dom0" / USER).exists()

    def test_a_large_file_with_nothing_behind_it(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        info = tarfile.TarInfo(f"{TOP}/large")
        info.size = 1 << 45
        inner = Inner().data + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
        assert statuses(restore(inner))["dom0/user"] == "damaged"

    def test_more_refusals_than_anybody_reads_are_counted(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        inner = Inner()
        entry = Inner(top=False).add("x", type=b"Z").data
        inner.data += b"".join(numbered(entry, number) for number in range(1500))
        report = restore(inner.end())
        assert 1000 <= len(report.bad) <= 1001
        assert "500 more" in str(report.bad[-1].error)
        assert tree(fenced) == {}

    def test_more_notes_than_anybody_reads_are_counted(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        inner = Inner()
        entry = Inner(top=False).add("x", type=tarfile.FIFOTYPE).data
        inner.data += b"".join(numbered(entry, number) for number in range(1500))
        report = restore(inner.end())
        assert report.ok
        (result,) = [r for r in report.files if r.name == USER]
        assert len(result.notes) == 101
        assert result.notes[0] == "0: a pipe, which is never made; left out"
        assert result.notes[-1] == "1400 more notes like these, not given one by one"
        assert tree(fenced) == {}

    def test_a_second_name_of_a_device_is_noted_too(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        inner = Inner().add("null", type=tarfile.CHRTYPE).hard_link("zero", f"{TOP}/null")
        inner.hard_link("third", f"{TOP}/zero")
        report = restore(inner.end())
        assert report.ok
        (result,) = [r for r in report.files if r.name == USER]
        assert [note.partition(":")[0] for note in result.notes] == ["null", "zero", "third"]
        assert tree(fenced) == {}

    def test_what_is_below_a_device_is_lost(
        self, restore: Callable[..., Report], fenced: Path
    ) -> None:
        report = restore(Inner().add("x", type=tarfile.CHRTYPE).add("x/y", data=b"y").end())
        assert list(errors(report)) == ["dom0/user/x/y"]


def gnu_long(type: bytes, value: bytes) -> bytes:
    """GNU tar's member in front of one with a long name (L) or a long target (K)."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = type, len(value) + 1
    return info.tobuf(tarfile.GNU_FORMAT) + value + bytes(BLOCK - len(value) % BLOCK)


def numbered(entry: bytes, number: int) -> bytes:
    """A header with another name."""
    info = tarfile.TarInfo.frombuf(entry[:BLOCK], "utf-8", "surrogateescape")
    info.name = f"{TOP}/{number}"
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_an_inner_archive_of_tarfile_is_read_the_same(
    restore: Callable[..., Report], fenced: Path, format: Literal[0, 1, 2]
) -> None:
    """A whole tree by another writer, in each of the formats that it has."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name in ("", "/a", "/a/b"):
            info = tarfile.TarInfo(TOP + name)
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(info)
        info = tarfile.TarInfo(f"{TOP}/a/b/{'long' * 20}")
        info.size = 3000
        archive.addfile(info, io.BytesIO(b"x" * 3000))
    assert restore(out.getvalue()).ok
    assert tree(fenced)[f"a/b/{'long' * 20}"] == content(b"x" * 3000)
