"""A file of a qube that is a symbolic link, or a folder, whatever its name: told from its archive.

Before November 2015 `icon.png` was stored as the link that it is in dom0; development versions of
R4.0, and extensions, store folders in format 4. The vectors were made by the real `tar`, `openssl`
and `scrypt` as those writers ran them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import qbackup
from qbackup import BackupArchive, Damaged, FolderArchive, Report, SymbolicLink
from tests.conftest import MakerFactory
from tests.maker import (
    BackupMaker,
    Format3Maker,
    OldMaker,
    assemble,
    flip_byte,
    forged_archive,
    get,
    replace,
)
from tests.support import vectorfiles
from tests.support.commandline import SMALL_SECRET, call, run
from tests.support.restored import errors, snapshot, statuses
from tests.support.sources import piped
from tests.support.speed import rows

LINKS = ["v3-icon-link", "v2-icon-link"]
FOLDERS = "gzip-folders"
NOTE = "left out: it is a symbolic link to {}, and nothing else of it was stored"
ICON = "/usr/share/icons/hicolor/128x128/devices/appvm-red.png"


def opened(path: Path) -> BackupArchive:
    return qbackup.open(path, passphrase=SMALL_SECRET)


def restore(path: Path, out: Path, *, keep_damaged: bool = False) -> Report:
    with opened(path) as archive:
        return archive.restore(out, keep_damaged=keep_damaged, check=False)


def with_link(maker: OldMaker, folder: Path, name: str, target: str) -> OldMaker:
    """A qube with a private.img and a link of this name."""
    (folder / name).symlink_to(target)
    maker.add_qube("work", files={"private.img": b"data", name: folder / name})
    return maker


@pytest.fixture
def old(tools: None, tmp_path: Path) -> Format3Maker:
    """A maker of format 3 as it was before November 2015."""
    return Format3Maker(tmp_path / "maker", compression_filter=None, dereference=False)


@rows("name", LINKS)
class TestIcon:
    def path(self, name: str) -> Path:
        return vectorfiles.backup_path(name)

    @pytest.mark.slow
    @pytest.mark.parametrize("keep", [False, True])
    def test_status_0_and_a_note_twice(self, name: str, keep: bool, tmp_path: Path) -> None:
        for _ in range(2):
            report = restore(self.path(name), tmp_path / "out", keep_damaged=keep)
            notes = {result.name: result.notes for result in report.files if result.notes}
            assert report.ok
            assert notes == {
                "icon.png": (NOTE.format(ICON),),
                "icon.old": (NOTE.format("icon.png"),),
            }
        left = {path.name for path in (tmp_path / "out/work").iterdir()}
        assert left == {"private.img", "firewall.xml", "apps"}

    def test_verify_says_the_same(self, name: str, tmp_path: Path) -> None:
        restored = restore(self.path(name), tmp_path / "out")
        with opened(self.path(name)) as archive:
            verified = archive.verify()
        assert [(r.name, r.status, r.notes) for r in verified.files] == [
            (r.name, r.status, r.notes) for r in restored.files
        ]

    @pytest.mark.slow
    def test_on_a_pipe_with_json(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "p").write_text(SMALL_SECRET)
        arguments = ("restore", "-", "-p", tmp_path / "p", "-o", tmp_path / "out", "--json")
        ended = run(*arguments, stdin=self.path(name).read_bytes())
        assert ended.status == 0
        (icon,) = [file for file in ended.document["files"] if file["name"] == "icon.png"]
        assert icon["status"] == "ok"
        assert icon["notes"] == [NOTE.format(ICON)]

    def test_asked_for_by_name(self, name: str, tmp_path: Path) -> None:
        with opened(self.path(name)) as archive:
            report = archive.restore(tmp_path / "out", ["work/icon.png"])
        assert statuses(report) == {"qubes.xml": "ok", "work/icon.png": "ok"}
        assert not (tmp_path / "out/work").exists()

    def test_cat_says_what_it_is(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "p").write_text(SMALL_SECRET)
        ended = call("cat", self.path(name), "work/icon.png", "-p", tmp_path / "p")
        assert ended.status == 2
        assert f"this is a symbolic link to {ICON}" in ended.err
        assert ended.stdout == b""

    def test_the_library_has_its_target(self, name: str) -> None:
        with opened(self.path(name)) as archive:
            file = archive.file("work/icon.png")
            with file.open() as stream, pytest.raises(SymbolicLink, match="icon"):
                stream.read(1)
            with pytest.raises(SymbolicLink):
                list(file.extents())
            (entry,) = file.entries()
            assert (entry.path, entry.kind, entry.target) == (".", "symlink", ICON)


class TestOtherLinks:
    @rows("name", ["root.img", "volatile.IMG", "other.img"])
    def test_an_image_that_is_one_is_lost(
        self, name: str, old: Format3Maker, tmp_path: Path
    ) -> None:
        path = with_link(old, tmp_path, name, "/dev/mapper/root").write(tmp_path / "backup")
        report = restore(path, tmp_path / "out")
        assert statuses(report)[f"work/{name}"] == "damaged"
        assert "links are not followed" in errors(report)[f"work/{name}"]
        with (
            opened(path) as archive,
            archive.open(f"work/{name}") as stream,
            pytest.raises(Damaged, match="links are not followed"),
        ):
            stream.read()

    def test_the_name_of_a_folder(self, old: Format3Maker, tmp_path: Path) -> None:
        path = with_link(old, tmp_path, "apps", "/usr/share/apps").write(tmp_path / "backup")
        report = restore(path, tmp_path / "out")
        assert report.ok
        assert [r.notes for r in report.files if r.name == "apps"] == [
            (NOTE.format("/usr/share/apps"),)
        ]

    def test_a_home_that_is_one_is_lost(self, old: Format3Maker, tmp_path: Path) -> None:
        home = old.add_home("user", _folder(tmp_path / "user"))
        home.files["user"].rename(tmp_path / "moved")
        home.files["user"].symlink_to("/home/other")
        report = restore(old.write(tmp_path / "backup"), tmp_path / "out")
        assert statuses(report)["dom0/user"] == "damaged"
        assert not (tmp_path / "out/dom0/user").exists()

    def test_its_target_is_shown_as_text(self, old: Format3Maker, tmp_path: Path) -> None:
        path = with_link(old, tmp_path, "icon.png", "/a\x1b[31m\u202eb").write(tmp_path / "backup")
        (tmp_path / "p").write_text(SMALL_SECRET)
        ended = call("verify", path, "-p", tmp_path / "p")  # looks for control characters
        assert ended.status == 0
        assert "/a\\x1b[31m\\u202eb" in ended.err + ended.out

    def test_something_of_its_name_in_the_output_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "out/work").mkdir(parents=True)
        (tmp_path / "out/work/icon.png").write_text("mine")
        report = restore(vectorfiles.backup_path(LINKS[0]), tmp_path / "out")
        assert statuses(report)["work/icon.png"] == "exists"
        assert (tmp_path / "out/work/icon.png").read_text() == "mine"

    @rows("offset", [160, 700, -1])
    def test_a_damaged_one_is_damaged(self, offset: int, old: Format3Maker, tmp_path: Path) -> None:
        members = with_link(old, tmp_path, "icon.png", ICON).members()
        path = assemble(flip_byte(members, "vm1/icon.png.000", offset), tmp_path / "backup")
        assert statuses(restore(path, tmp_path / "out"))["work/icon.png"] == "damaged"

    def test_its_end_must_be_there(self, maker: MakerFactory, tmp_path: Path) -> None:
        backup = maker(compression_filter=None)
        backup.add_qube("work", files={"private.img": b"data", "icon.png": b"data"})
        link = forged_archive("vm1/icon.png", typeflag=b"2", link=ICON)
        for archive, status in (
            (link, "ok"),
            (link[:512], "damaged"),
            (link[:512] + link[:512] + link[512:], "damaged"),
            (link + b"x", "damaged"),
        ):
            report = restore(_stored_as(backup, "icon.png", archive, tmp_path), tmp_path / "out")
            assert statuses(report)["work/icon.png"] == status
            with opened(tmp_path / "backup") as again:
                assert statuses(again.verify(check=False))["work/icon.png"] == status

    def test_a_long_target_is_shown_in_part(self, maker: MakerFactory, tmp_path: Path) -> None:
        backup = maker(compression_filter=None)
        backup.add_qube("work", files={"private.img": b"data", "icon.png": b"data"})
        link = forged_archive("vm1/icon.png", typeflag=b"2", link="/" + "a" * 4000)
        report = restore(_stored_as(backup, "icon.png", link, tmp_path), tmp_path / "out")
        (note,) = [r.notes[0] for r in report.files if r.notes]
        assert note == NOTE.format("/" + "a" * 255 + "…")

    @pytest.mark.parametrize("typeflag", [b"2", b"5"])
    def test_qubes_xml_that_is_one_or_a_folder_is_damaged(
        self, typeflag: bytes, maker: MakerFactory, tmp_path: Path
    ) -> None:
        backup = maker(compression_filter=None)
        backup.add_qube("work", files={"private.img": b"data"})
        members = backup.members()
        archive = forged_archive("qubes.xml", typeflag=typeflag, link="elsewhere")
        new = backup.encrypt("qubes.xml.000", archive)
        path = assemble(replace(members, "qubes.xml.000.enc", new), tmp_path / "backup")
        report = restore(path, tmp_path / "out")
        assert statuses(report) == {"qubes.xml": "damaged", "vm1/private.img": "ok"}
        (tmp_path / "p").write_text(SMALL_SECRET)
        for name in ("list", "verify"):
            ended = call(name, path, "-p", tmp_path / "p")
            assert ended.status == 1
            assert "this is a " in ended.err + ended.out


class TestFolders:
    path = vectorfiles.backup_path(FOLDERS)

    @pytest.mark.parametrize("way", ["file", "pipe"])
    def test_a_second_run_keeps_them(self, way: str, tmp_path: Path) -> None:
        for status in ("ok", "kept"):
            with (
                piped(self.path) as pipe,
                qbackup.open(pipe if way == "pipe" else self.path, passphrase=SMALL_SECRET) as b,
            ):
                report = b.restore(tmp_path / "out")
            found = statuses(report)
            assert found["fedora/my.extension"] == found["fedora/apps.templates"] == status
            before = snapshot(tmp_path / "out")
        (tmp_path / "out/fedora/my.extension/letter.desktop").write_text("changed")
        assert statuses(restore(self.path, tmp_path / "out"))["fedora/my.extension"] == "exists"
        with opened(self.path) as archive:
            archive.restore(tmp_path / "out", overwrite=True)
        assert snapshot(tmp_path / "out") == before

    def test_is_folder_is_a_guess_until_it_is_read(self) -> None:
        with opened(self.path) as archive:
            file = archive.file("fedora/my.extension")
            assert not file.is_folder
            with file.open() as stream, pytest.raises(FolderArchive, match="this is a folder"):
                stream.read(1)
            assert file.is_folder
            with pytest.raises(FolderArchive):
                file.open()

    def test_extents_and_entries(self) -> None:
        with opened(self.path) as archive:
            with pytest.raises(FolderArchive):
                list(archive.file("fedora/apps.templates").extents())
            paths = [entry.path for entry in archive.file("fedora/apps.templates").entries()]
        assert sorted(paths) == [".", "below", "below/empty", "letter.desktop"]

    def test_cat_says_what_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "p").write_text(SMALL_SECRET)
        ended = call("cat", self.path, "fedora/my.extension", "-p", tmp_path / "p")
        assert ended.status == 2
        assert "this is a folder" in ended.err
        assert ended.stdout == b""

    def test_where_an_image_must_be_it_is_a_loss(self, maker: MakerFactory, tmp_path: Path) -> None:
        backup = maker()
        files: dict[str, bytes | Path] = {"private.img": _folder(tmp_path / "folder")}
        backup.add_qube("work", files=files | {"notes.txt": b"text"})
        path = backup.write(tmp_path / "backup")
        for keep in (False, True):
            report = restore(path, tmp_path / "out", keep_damaged=keep)
            assert statuses(report)["work/private.img"] == "damaged"
            assert "this is a folder, and qubes.xml requires" in errors(report)["work/private.img"]
        assert set(snapshot(tmp_path / "out/work")) == {"notes.txt"}
        with opened(path) as archive:
            assert statuses(archive.verify(check=False))["work/private.img"] == "damaged"

    def test_what_is_left_of_a_damaged_one_is_kept_as_a_folder(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        for name in "abcdef":
            (folder / name).write_bytes(name.encode() * 3000)
        backup = maker(compression_filter=None, chunk_size=4096)
        backup.add_qube("work", files={"private.img": b"data", "stuff": folder})
        damaged = flip_byte(backup.members(), "vm1/stuff.002.enc", 2000)
        path = assemble(damaged, tmp_path / "backup")
        report = restore(path, tmp_path / "out", keep_damaged=True)
        (result,) = [r for r in report.files if r.name == "stuff"]
        assert (result.status, result.kept_as, result.ranges) == ("damaged", "stuff.damaged", ())
        assert "vm1/stuff.002" in result.lost_chunks[0]
        kept = snapshot(tmp_path / "out/work/stuff.damaged")
        assert kept and kept.items() <= snapshot(folder).items()
        assert not (tmp_path / "out/work/stuff").exists()

    def test_an_archive_that_does_not_begin_with_itself_is_none(
        self, maker: MakerFactory, tmp_path: Path
    ) -> None:
        backup = maker(compression_filter=None)
        backup.add_qube("work", files={"private.img": b"data", "stuff": b"data"})
        below = forged_archive("vm1/stuff/file", b"data")
        beside = forged_archive("vm1/stuf", typeflag=b"5")
        outside = forged_archive("vm1/stuff", typeflag=b"5")[:512] + forged_archive("../x", b"x")
        for archive, reason in (
            (below, "the inner archive holds another file"),
            (beside, "the inner archive holds another file"),
            (outside, "outside of its folder"),
        ):
            report = restore(_stored_as(backup, "stuff", archive, tmp_path), tmp_path / "out")
            assert reason in errors(report)["work/stuff"]
            assert not (tmp_path / "out/work/stuff").exists()


def _folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "file").write_bytes(b"data")
    return folder


def _stored_as(backup: BackupMaker, name: str, archive: bytes, folder: Path) -> Path:
    """The backup with another inner archive for a file."""
    chunk = f"vm1/{name}.000"
    members = backup.members()
    old = get(members, f"{chunk}.enc").path.read_bytes()
    new = backup.encrypt(chunk, archive)
    path = assemble(replace(members, f"{chunk}.enc", new), folder / "backup")
    new.path.write_bytes(old)
    return path
