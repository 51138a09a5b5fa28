"""Files inside folder archives: one of them read, listed, copied out of, restored."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import qbackup
from qbackup.base.errors import (
    AlreadyPassed,
    Damaged,
    FolderArchive,
    Incomplete,
    NotInBackup,
    UsageError,
)
from tests.maker import BackupMaker, Format3Maker, assemble, drop, flip_byte
from tests.maker.collected import PASSPHRASE
from tests.maker.images import make_ext4
from tests.support import vectorfiles
from tests.support.commandline import Ended, call
from tests.support.realbackups import passphrase_of
from tests.support.restored import content, snapshot, statuses
from tests.support.sources import piped
from tests.support.speed import rows

TEMPLATES = ["v3-template", "v2-template"]
HOMES = ["v3-home", "pigz-home", "v2-home"]
BIG = bytes(range(256)) * 4000


def opened(name: str) -> qbackup.BackupArchive:
    return qbackup.open(vectorfiles.backup_path(name), passphrase=passphrase_of(name))


def ask(name: str, command: str, *words: str | Path, stdin: bytes | None = None) -> Ended:
    backup = vectorfiles.backup_path(name) if stdin is None else "-"
    secret = {"QBACKUP_PASSPHRASE": passphrase_of(name)}
    return call(command, backup, "-q", *words, stdin=stdin or b"", env=secret)


def _tar_of(files: Iterable[tuple[str, bytes]]) -> bytes:
    """An archive with these files in this order, by Python's own tar."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive.getvalue()


def kept_there(name: str) -> dict[str, bytes]:
    """Every file in the folder archives of a backup, by the name that a user gives it."""
    found = {}
    with opened(name) as backup:
        for qube in backup.qubes:
            for file in qube.files:
                if not file.is_folder:
                    continue
                base = file.name.removesuffix("/.")
                for entry in file.entries():
                    if entry.kind == "file":
                        data = bytearray(entry.size)
                        for extent in entry.extents():
                            if extent.data is not None:
                                data[extent.offset : extent.offset + extent.length] = extent.data
                        found[f"{base}/{entry.path}"] = bytes(data)
    assert found
    return found


class TestReading:
    @rows("name", [*TEMPLATES, *HOMES, "v3-standalone"], quick=2)
    def test_every_file_of_a_folder_archive_opens(self, name: str) -> None:
        for path, data in kept_there(name).items():
            with opened(name) as backup, backup.open(path) as stream:
                assert stream.read() == data
                assert stream.read() == b"" and stream.complete  # type: ignore[attr-defined]

    def test_from_a_pipe(self) -> None:
        name = "v3-template"
        wanted = kept_there(name)["fedora/root.img"]
        with (
            piped(vectorfiles.backup_path(name)) as pipe,
            qbackup.open(pipe, passphrase=passphrase_of(name)) as backup,
        ):
            assert backup.open("fedora/root.img").read() == wanted
            with pytest.raises(AlreadyPassed):
                backup.open("fedora/private.img").read()

    def test_is_a_file_with_extents_and_no_entries(self) -> None:
        with opened("v3-template") as backup:
            file = backup.file("fedora/root.img")
            assert file.name == "fedora/root.img" and not file.is_folder
            assert sum(extent.length for extent in file.extents()) == 3149824
            with pytest.raises(UsageError):
                file.entries()

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("fedora/apps", FolderArchive),
            ("fedora/icon.png", UsageError),
            ("fedora/nothing", NotInBackup),
            ("fedora/root.img/x", NotInBackup),
            ("nobody/root.img", NotInBackup),
            ("fedora/", NotInBackup),
        ],
    )
    def test_what_has_no_content(self, name: str, error: type[Exception]) -> None:
        with opened("v3-template") as backup, pytest.raises(error):
            backup.open(name).read()

    def test_another_name_of_a_file_says_which_one(self) -> None:
        with opened("v3-home") as backup, pytest.raises(UsageError, match="another name of"):
            backup.open("dom0/jo.doe/hard-link").read()

    def test_an_image_is_no_folder_to_look_into(self) -> None:
        """Not even read, as nothing can be in there."""
        with opened("gzip-published-header") as backup:
            qube = next(qube for qube in backup.qubes if qube.files)
            with pytest.raises(NotInBackup):
                backup.file(f"{qube.files[0].name}/x")


class TestCommands:
    @pytest.mark.parametrize("name", TEMPLATES)
    def test_cat(self, name: str) -> None:
        wanted = kept_there(name)["fedora/root.img"]
        assert ask(name, "cat", "fedora/root.img").stdout == wanted

    def test_ls_lists_a_folder(self) -> None:
        lines = ask("v3-template", "ls", "fedora").stdout.decode().splitlines()
        names = sorted(line.split(" -> ")[0].split()[-1] for line in lines)
        assert names == [
            f"fedora/{name}"
            for name in (
                *("apps", "apps.templates", "dangling", "icon.png", "private.img", "root.img"),
                "vm-whitelisted-appmenus.list",
            )
        ]
        assert lines[0].startswith("lrwxrwxrwx")

    def test_ls_of_a_folder_in_it_of_one_file_and_of_all(self) -> None:
        def paths(*words: str) -> list[str]:
            ended = ask("v3-template", "ls", "--json", *words)
            assert ended.status == 0 and ended.document
            return sorted(entry["path"] for entry in ended.document["entries"])

        assert paths("fedora/apps.templates") == [
            "fedora/apps.templates/below",
            "fedora/apps.templates/letter.desktop",
        ]
        assert paths("fedora/root.img") == ["fedora/root.img"]
        every = paths("fedora/", "-R")
        assert "fedora/apps/below/empty" in every and "fedora" in every
        assert paths("fedora/apps", "-R") == [p for p in every if p.startswith("fedora/apps")
                                              and not p.startswith("fedora/apps.")]  # fmt: skip

    def test_ls_of_a_home_shows_no_control_characters(self) -> None:
        ended = ask("v3-home", "ls", "dom0/jo.doe")
        assert ended.status == 0 and ended.stdout.decode().replace("\n", "").isprintable()

    def test_ls_in_json_has_the_bytes_of_odd_names(self) -> None:
        entries = json.loads(ask("v3-home", "ls", "dom0/jo.doe", "--json").stdout)["entries"]
        assert any("path_bytes" in entry for entry in entries)
        assert {"kind", "size", "mode", "mtime_ns"} <= set(entries[0])

    @pytest.mark.parametrize(("what", "status"), [("fedora/nothing", 2), ("nobody", 2)])
    def test_ls_of_what_is_not_there(self, what: str, status: int) -> None:
        assert ask("v3-template", "ls", what).status == status

    def test_ls_of_a_qube_without_folders_says_how_to_look_into_its_image(self) -> None:
        with opened("gzip-published-header") as backup:
            qube = next(qube.name for qube in backup.qubes if qube.files)
        ended = ask("gzip-published-header", "ls", qube)
        assert (
            ended.status == 2
            and f"for files inside an image, write {qube}/".encode() in ended.stderr
        )


class TestRestore:
    def test_one_file_then_again(self, tmp_path: Path) -> None:
        name = "v3-template"
        wanted = kept_there(name)["fedora/root.img"]
        for status in ("ok", "kept"):
            with opened(name) as backup:
                report = backup.restore(tmp_path / "out", ["fedora/root.img"])
            assert statuses(report)["fedora/root.img"] == status
            found = snapshot(tmp_path / "out")
            assert set(found) == {"qubes.xml", "fedora/root.img"}
            assert found["fedora/root.img"] == content(wanted)

    def test_several_of_one_archive_and_below_folders(self, tmp_path: Path) -> None:
        name = "v3-home"
        files = kept_there(name)
        names = ["dom0/jo.doe/Documents/letter.txt", "dom0/jo.doe/sparse", "dom0/jo.doe/empty"]
        with opened(name) as backup:
            assert backup.restore(tmp_path / "out", names).ok
        found = snapshot(tmp_path / "out")
        assert {path: found[path] for path in names} == {
            path: content(files[path]) for path in names
        }
        assert len(found) == 4

    def test_each_says_where_it_is_if_it_has_another_name_there(
        self, tools: None, tmp_path: Path
    ) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        for name in ("a.part", "a%2Epart", "plain"):
            (folder / name).write_text(name)
        maker = Format3Maker(tmp_path / "maker", compression_filter=None)
        maker.add_qube("fedora", klass="TemplateVM", template=None, files={".": folder})
        names = ["fedora/a.part", "fedora/a%2Epart", "fedora/plain"]
        with qbackup.open(maker.write(tmp_path / "b"), passphrase=maker.passphrase) as backup:
            for _ in range(2):
                found = {r.name: r for r in backup.restore(tmp_path / "out", names).files if r.qube}
                for name, result in found.items():
                    path = tmp_path / "out" / (result.restored_as or f"fedora/{name}")
                    assert path.read_text() == name
                    assert bool(result.notes) == (name != "plain")

    def test_from_a_pipe(self, tmp_path: Path) -> None:
        name = "v3-template"
        with (
            piped(vectorfiles.backup_path(name)) as pipe,
            qbackup.open(pipe, passphrase=passphrase_of(name)) as backup,
        ):
            assert backup.restore(tmp_path / "out", ["fedora/root.img", "fedora/private.img"]).ok
        assert len(snapshot(tmp_path / "out")) == 3

    @rows("name", ["nothing", "apps", "icon.png"])
    def test_what_is_no_file_in_it_is_missing_and_the_rest_comes(
        self, tmp_path: Path, name: str
    ) -> None:
        with opened("v3-template") as backup:
            names = [f"fedora/{name}", "fedora/root.img"]
            report = backup.restore(tmp_path / "out", names, check=False)
            assert not report.ok and statuses(report) == {
                "qubes.xml": "ok",
                f"fedora/{name}": "missing",
                "fedora/root.img": "ok",
            }
            with pytest.raises(Incomplete):
                backup.verify([f"fedora/{name}"])

    def test_something_else_in_the_way_stays(self, tmp_path: Path) -> None:
        (tmp_path / "out/fedora").mkdir(parents=True)
        (tmp_path / "out/fedora/root.img").write_bytes(b"mine")
        with opened("v3-template") as backup:
            report = backup.restore(tmp_path / "out", ["fedora/root.img"], check=False)
            assert statuses(report)["fedora/root.img"] == "exists"
            assert (tmp_path / "out/fedora/root.img").read_bytes() == b"mine"
            assert backup.restore(tmp_path / "out", ["fedora/root.img"], overwrite=True).ok

    def test_a_qube_that_is_not_there_is_said_before_anything_is_written(
        self, tmp_path: Path
    ) -> None:
        with opened("v3-standalone") as backup, pytest.raises(NotInBackup):
            backup.restore(tmp_path / "out", ["nobody/x/y"])
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_two_archives_with_names_that_may_be_one_do_not_wait_for_each_other(
        self, tools: None, tmp_path: Path
    ) -> None:
        """Each holds its names to its end, the two in opposite orders, on two lines at once."""
        maker = BackupMaker(tmp_path / "maker", compression_filter=None, chunk_size=20_000)
        order = [f"n{number}" for number in range(20)]
        orders = {"user": order, "USER": order[::-1]}
        for user in orders:
            (tmp_path / user).mkdir()
            maker.add_home(user, tmp_path / user)
        members = maker.members()
        for user, order in orders.items():
            inner = _tar_of((f"dom0-home/{user}/{name}", user.encode() * 5000) for name in order)
            parts = [inner[at : at + 20_000] for at in range(0, len(inner), 20_000)]
            path = f"dom0-home/{user}"
            new = [maker.encrypt(f"{path}.{i:03d}", part) for i, part in enumerate(parts)]
            members = [m for m in members if not m.name.startswith(f"{path}.")] + new
        backup = assemble(members, tmp_path / "backup")
        names = [f"dom0/{user}/{name}" for user, order in orders.items() for name in order]
        reports = []

        def restore() -> None:
            with qbackup.open(backup, passphrase=maker.passphrase, jobs=4) as archive:
                reports.append(archive.restore(tmp_path / "out", names, check=False))

        thread = threading.Thread(target=restore, daemon=True)
        thread.start()
        thread.join(60)
        assert reports and [statuses(reports[0])[name] for name in names] == ["ok"] * 40

    @pytest.mark.parametrize("name", ["apps", "my.extension"])
    def test_out_of_a_folder_of_format_4_whose_name_does_not_say_so(
        self, tools: None, tmp_path: Path, name: str
    ) -> None:
        folder = tmp_path / "folder"
        (folder / "below").mkdir(parents=True)
        (folder / "below/file").write_bytes(b"hello")
        maker = BackupMaker(tmp_path / "maker")
        files: dict[str, bytes | Path] = {"private.img": b"data", name: folder, "z": b"text"}
        maker.add_qube("work", files=files)
        backup = maker.write(tmp_path / "backup")
        key = {"QBACKUP_PASSPHRASE": maker.passphrase}
        path = f"work/{name}/below/file"
        assert call("cat", backup, path, env=key).stdout == b"hello"
        listed = call("ls", backup, f"work/{name}/below", env=key)
        assert (listed.status, path in listed.out, listed.err) == (0, True, "")
        for status in ("ok", "kept"):
            with qbackup.open(backup, passphrase=maker.passphrase) as archive:
                report = archive.restore(tmp_path / "out", [path])
                assert statuses(report)[path] == status
                assert statuses(archive.verify([path]))[path] == "ok"
        assert set(snapshot(tmp_path / "out")) == {"qubes.xml", path}
        for command in ("cat", "verify"):
            assert call(command, backup, "work/private.img/x", env=key).status == 2

    def test_ls_of_a_folder_before_other_files(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder/file").write_bytes(b"hello")
        maker = Format3Maker(tmp_path / "maker", compression_filter=None)
        files: dict[str, bytes | Path] = {"apps.templates": tmp_path / "folder", "z": b"text"}
        maker.add_qube("work", files=files | {"private.img": b"data"})
        key = {"QBACKUP_PASSPHRASE": maker.passphrase}
        ended = call("ls", maker.write(tmp_path / "b"), "work/apps.templates", env=key)
        assert (ended.status, ended.err) == (0, "")
        assert "work/apps.templates/file" in ended.out


class TestWithoutTheListOfQubes:
    """Qubes then go by their folders."""

    def test_a_file_in_a_folder_is_found_by_its_path(self, tmp_path: Path) -> None:
        name = "v3-template"
        data = bytearray(vectorfiles.backup_path(name).read_bytes())
        with tarfile.open(fileobj=io.BytesIO(data), ignore_zeros=True) as archive:
            data[archive.getmember("qubes.xml.000").offset_data + 60] ^= 1
        (tmp_path / "backup").write_bytes(data)
        wanted = kept_there(name)["fedora/root.img"]
        with qbackup.open(tmp_path / "backup", passphrase=passphrase_of(name)) as backup:
            assert backup.open("vm9/root.img").read() == wanted
            report = backup.restore(tmp_path / "out", ["vm9/root.img"], check=False)
        assert statuses(report) == {"qubes.xml": "damaged", "vm9/root.img": "ok"}


class TestDamage:
    """The archive is proven to its end before a file of it has its name."""

    @pytest.fixture
    def maker(self, tools: None, tmp_path: Path) -> Format3Maker:
        """A template in many chunks, the small file somewhere in its folder."""
        folder = tmp_path / "template"
        folder.mkdir()
        (folder / "root.img").write_bytes(BIG)
        (folder / "note").write_bytes(b"hello")
        maker = Format3Maker(tmp_path / "maker", compression_filter=None, chunk_size=100_000)
        maker.add_qube("fedora", klass="TemplateVM", template=None, files={".": folder})
        return maker

    def last_chunk(self, maker: Format3Maker) -> str:
        return [m.name for m in maker.members() if "/.." in m.name and m.name[-3:].isdigit()][-1]

    @rows("fault", ["flipped", "dropped"])
    @rows("wanted", ["fedora/root.img", "fedora/note"])
    def test_anywhere_in_the_archive_is_an_error(
        self, maker: Format3Maker, tmp_path: Path, fault: str, wanted: str
    ) -> None:
        chunk = self.last_chunk(maker)
        members = maker.members()
        if fault == "flipped":
            members = flip_byte(members, chunk, 50)
        else:
            members = drop(members, chunk, f"{chunk}.hmac")
        backup = assemble(members, tmp_path / "backup")
        with qbackup.open(backup, passphrase=maker.passphrase) as archive:
            with archive.open(wanted) as stream, pytest.raises(Damaged):
                while stream.read(1 << 16):
                    pass
            for keep in (False, True):
                out = tmp_path / f"out {keep}"
                report = archive.restore(out, [wanted], check=False, keep_damaged=keep)
                assert statuses(report)[wanted] == "damaged"
                assert set(snapshot(out)) == {"qubes.xml"}
            report = archive.verify([wanted], check=False)
            assert statuses(report)[wanted] == "damaged"

    def test_a_name_that_is_there_twice_is_no_file(self, tools: None, tmp_path: Path) -> None:
        """Nobody can tell which of the two counts."""
        (tmp_path / "user").mkdir()
        maker = BackupMaker(tmp_path / "maker", compression_filter=None)
        maker.add_home("user", tmp_path / "user")
        entries = (("x", b"one"), ("y", b"good"), ("x", b"two"))
        inner = _tar_of((f"dom0-home/user/{name}", data) for name, data in entries)
        maker.members()
        home = maker.encrypt("dom0-home/user.000", inner)
        members = [home if member.name == home.name else member for member in maker.members()]
        backup = assemble(members, tmp_path / "backup")
        with qbackup.open(backup, passphrase=maker.passphrase) as archive:
            with archive.open("dom0/user/x") as stream, pytest.raises(Damaged, match="twice"):
                while stream.read(100):
                    pass
            assert archive.open("dom0/user/y").read() == b"good"
            names = ["dom0/user/x", "dom0/user/y"]
            report = archive.restore(tmp_path / "out", names, check=False)
        assert statuses(report) | {"qubes.xml": ""} == {
            "qubes.xml": "",
            "dom0/user/x": "damaged",
            "dom0/user/y": "ok",
        }
        assert set(snapshot(tmp_path / "out")) == {"qubes.xml", "dom0/user/y"}


@pytest.fixture(scope="module")
def with_images(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("template")
    for name, file in (("root", "etc/fstab"), ("private", "home/user/letter")):
        (folder / name / file).parent.mkdir(parents=True)
        (folder / name / file).write_bytes(f"in {name}".encode())
        (folder / "qube").mkdir(exist_ok=True)
        make_ext4(folder / "qube" / f"{name}.img", 2 << 20, folder / name)
    maker = Format3Maker(folder / "maker")
    maker.add_qube("fedora", klass="TemplateVM", template=None, files={".": folder / "qube"})
    yield maker.write(folder / "backup")


class TestImages:
    """Images in a template's archive, by the real mkfs.ext4."""

    def ask(self, with_images: Path, command: str, *words: str | Path) -> Ended:
        secret = {"QBACKUP_PASSPHRASE": PASSPHRASE}
        return call(command, with_images, "-q", *words, env=secret)

    def test_files_in_them_are_listed_read_and_copied(
        self, with_images: Path, tmp_path: Path
    ) -> None:
        ended = self.ask(with_images, "ls", "fedora/root.img:/etc")
        assert ended.status == 0 and b"fstab" in ended.stdout
        assert self.ask(with_images, "cat", "fedora/root.img:/etc/fstab").stdout == b"in root"
        assert self.ask(with_images, "cp", "fedora/root.img:/etc/fstab", tmp_path).status == 0
        assert (tmp_path / "fstab").read_bytes() == b"in root"

    def test_the_private_image_is_the_one_without_a_name(self, with_images: Path) -> None:
        assert self.ask(with_images, "cat", "fedora:/home/user/letter").stdout == b"in private"

    def test_json(self, with_images: Path) -> None:
        document = json.loads(self.ask(with_images, "ls", "fedora:/home", "--json").stdout)
        assert [entry["path"] for entry in document["entries"]] == ["/home/user"]
