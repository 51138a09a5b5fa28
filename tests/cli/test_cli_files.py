"""`ls`, `cp` and `cat` of files inside images, from a backup and from an image."""

from __future__ import annotations

import io
import os
import re
import socket
import stat
from pathlib import Path

import pytest

import qbackup
from qbackup.archive import browse
from qbackup.base.errors import Damaged, MachineError, NotInBackup
from qbackup.cli import images
from tests.conftest import MakerFactory
from tests.maker import BackupMaker, assemble, debugfs, flip_byte, make_ext4, make_gpt
from tests.maker.collected import PASSPHRASE
from tests.maker.debugfs import folder as listed
from tests.support.commandline import Ended, call, run
from tests.support.faults import become_ordinary
from tests.support.imagekit import MIB, make_tree
from tests.support.openfiles import open_files
from tests.support.restored import content, snapshot

SECRET = {"QBACKUP_PASSPHRASE": PASSPHRASE}


@pytest.fixture(scope="module")
def made(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backup of a qube with two images, the images, and the trees in them."""
    folder = tmp_path_factory.mktemp("files")
    make_tree(folder / "tree")
    (folder / "private/home/user").mkdir(parents=True)
    os.rename(folder / "tree", folder / "private/home/user/stuff")
    (folder / "private/config").mkdir()
    (folder / "private/config/rc.local").write_bytes(b"#!/bin/sh\n")
    (folder / "private/usrlocal/bin").mkdir(parents=True)
    (folder / "root/etc").mkdir(parents=True)
    (folder / "root/etc/hostname").write_bytes(b"vault\n")
    private = make_ext4(folder / "private.img", 64 * MIB, folder / "private")
    system = make_ext4(folder / "system", 8 * MIB, folder / "root")
    root = make_gpt(folder / "root.img", [("BIOS boot partition", bytes(4096)), ("Root", system)])
    maker = BackupMaker(folder / "maker")
    maker.add_qube("vault", files={"private.img": private, "root.img": root, "notes.txt": b"notes"})
    maker.write(folder / "backup")
    return folder


def at(made: Path, *arguments: str | Path) -> Ended:
    """A command on the backup."""
    name, *rest = arguments
    return call(name, made / "backup", *rest, env=SECRET)


class TestLs:
    @pytest.mark.slow
    def test_shows_what_is_in_a_folder(self, made: Path) -> None:
        ended = at(made, "ls", "vault:/home/user/stuff/Documents")
        assert ended.status == 0
        lines = ended.out.splitlines()
        assert [line.split()[-1] for line in lines] == ["keys.kdbx", "letter.txt", "third-name"]
        assert re.fullmatch(
            r"-rw-r--r-- +\d+ +\d+ +2048 \d{4}-\d\d-\d\d \d\d:\d\d keys\.kdbx", lines[0]
        )

    def test_says_beforehand_what_it_will_take(self, made: Path) -> None:
        ended = at(made, "ls", "vault:/")
        assert "vault/private.img is read to its end and verified first" in ended.err
        assert at(made, "ls", "vault:/", "-q").err == ""

    def test_says_how_much_a_large_image_will_take_and_where(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(browse, "MEMORY_BLOCKS", 2)
        monkeypatch.setattr(images, "MEMORY_BLOCKS", 2)
        ended = at(made, "ls", "vault:/", "--spool", tmp_path)
        assert ended.status == 0
        assert re.search(
            rf"kept in {tmp_path} meanwhile, encrypted: about [\d.]+ MiB \(--spool", ended.err
        )
        ended = at(made, "ls", "vault:/", "--spool", tmp_path / "nothing")
        assert ended.status == 5
        assert "can't keep the image in" in ended.err

    @pytest.mark.slow
    def test_from_standard_input(self, made: Path) -> None:
        with (made / "backup").open("rb") as stream:
            ended = run("ls", "-", "vault:/config", stdin=stream, env=SECRET)
        assert ended.status == 0
        assert ended.out.endswith(" rc.local\n")

    def test_shows_where_links_lead(self, made: Path) -> None:
        ended = at(made, "ls", "vault:/home/user/stuff")
        assert "folder-link -> Documents\n" in ended.out

    def test_shows_names_so_that_no_terminal_obeys_them(self, made: Path) -> None:
        ended = at(made, "ls", "vault:/home/user/stuff")
        assert r"a\x1b[31m\x0ab\x7f" in ended.out
        assert r"caf\xe9" in ended.out

    def test_of_all_below_gives_paths(self, made: Path) -> None:
        ended = at(made, "ls", "-R", "vault:/home/user")
        assert " /home/user/stuff/Documents/keys.kdbx\n" in ended.out
        assert len(ended.out.splitlines()) > 480

    def test_gives_one_document(self, made: Path) -> None:
        ended = at(made, "ls", "--json", "vault:/home/user/stuff")
        assert ended.status == 0
        found = {entry["path"].rpartition("/")[2]: entry for entry in ended.document["entries"]}
        assert found["setuid"]["mode"] == "4755"
        assert found["folder-link"]["target"] == "Documents"
        assert found["small"]["links"] == 3
        assert found["private"]["mtime_ns"] == -1_000_000_000 * 10**9
        assert found[r"caf\xe9"]["path_bytes"]

    @pytest.mark.parametrize(
        ("place", "path"),
        [
            ("vault:/rw/config", "rc.local"),
            ("vault:/config", "rc.local"),
            ("vault:/usr/local", "bin"),
            ("vault:/usrlocal", "bin"),
            ("vault/root.img:/etc", "hostname"),
        ],
    )
    def test_finds_paths_as_the_qube_sees_them(self, made: Path, place: str, path: str) -> None:
        ended = at(made, "ls", place)
        assert ended.out.splitlines()[0].endswith(f" {path}")

    def test_of_a_restored_image_needs_no_backup(self, made: Path) -> None:
        whole = call("ls", made / "private.img")
        assert [line.split()[-1] for line in whole.out.splitlines()] == [
            "config", "home", "lost+found", "usrlocal"
        ]  # fmt: skip
        ended = call("ls", f"{made / 'root.img'}:/etc")
        assert ended.out.endswith(" hostname\n")
        assert [line.split(":")[0] for line in ended.err.splitlines()] == [
            "partition 1", "partition 2"
        ]  # fmt: skip
        assert call("ls", f"{made / 'root.img'}:/etc", "-q").err == ""
        assert whole.err == ""

    def test_shows_each_kind_as_debugfs_has_it(self, tools: None, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/file").write_bytes(b"")
        os.symlink("file", tmp_path / "tree/link")
        os.mkfifo(tmp_path / "tree/pipe")
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(tmp_path / "tree/socket"))
        image = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")
        debugfs(image, "mknod null c 1 3", "mknod disk b 8 1", write=True)
        theirs = {entry.name.decode(): entry.mode for entry in listed(image, 2)}
        lines = [line.split() for line in call("ls", image).out.splitlines()]
        ours = {words[-1] if "->" not in words else words[-3]: words[0] for words in lines}
        assert ours == {name: stat.filemode(mode) for name, mode in theirs.items()}
        assert {mode[0] for mode in ours.values()} == set("-lpscbd")

    def test_of_a_damaged_folder_shows_the_rest_with_status_1(
        self, made: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "tree").mkdir()
        for name in ("one", "two"):
            (tmp_path / "tree" / name).write_bytes(b"")
        image = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")
        debugfs(image, "clri one", write=True)
        ended = call("ls", image)
        assert ended.status == 1
        assert ended.out.splitlines()[-1].endswith(" two")
        assert "/one: inode" in ended.err
        assert call("ls", image, "--json").document["error"].startswith("/one: inode")


class TestCp:
    @pytest.mark.slow
    def test_gets_one_folder_out_of_a_backup(self, made: Path, tmp_path: Path) -> None:
        ended = at(made, "cp", "vault:/home/user/stuff", tmp_path)
        assert ended.status == 0
        assert ended.out.startswith("/home/user/stuff: setuid: setuid or setgid dropped\nCopied ")
        source = made / "private/home/user/stuff"
        assert snapshot(tmp_path / "stuff", folders=True) == snapshot(source, folders=True)

    def test_gets_a_file_out_of_a_root_image(self, made: Path, tmp_path: Path) -> None:
        ended = at(made, "cp", "vault/root.img:/etc/hostname", tmp_path / "name")
        assert ended.status == 0
        assert (tmp_path / "name").read_bytes() == b"vault\n"

    def test_from_a_restored_image(self, made: Path, tmp_path: Path) -> None:
        ended = call("cp", f"{made / 'private.img'}:/config", tmp_path)
        assert ended.status == 0
        assert ended.out == (
            f"Copied 1 file, 1 folder, 0 links (10 B), to {tmp_path / 'config'}.\n"
        )

    def test_what_is_in_the_way_is_status_1(self, made: Path, tmp_path: Path) -> None:
        (tmp_path / "config").mkdir()
        (tmp_path / "config/mine").write_bytes(b"mine")
        place = f"{made / 'private.img'}:/config"
        ended = call("cp", place, tmp_path)
        assert ended.status == 1
        assert ended.out.endswith("NOTHING WAS COPIED.\n")
        document = call("cp", place, tmp_path, "--json").document
        assert (document["ok"], document["files"][0]["status"]) == (False, "exists")
        assert snapshot(tmp_path) == {"config/mine": content(b"mine")}
        assert call("cp", place, tmp_path, "--overwrite").status == 0
        assert set(snapshot(tmp_path)) == {"config/rc.local"}

    @pytest.mark.slow
    def test_replaces_folders_that_their_owner_may_not_look_into(
        self, tools: None, tmp_path: Path
    ) -> None:
        (tmp_path / "tree/folder/closed/inner").mkdir(parents=True)
        (tmp_path / "tree/folder/closed/inner").chmod(0)
        (tmp_path / "tree/folder/closed").chmod(0o300)
        image = make_ext4(tmp_path / "image", 8 * MIB, tmp_path / "tree")
        out = tmp_path / "out"
        out.mkdir()
        out.chmod(0o777)
        for options in ((), ("--overwrite",), ("--overwrite",)):
            ended = run("cp", f"{image}:/folder", out, *options, before=become_ordinary)
            assert (ended.status, ended.err) == (0, "")
        assert os.listdir(out) == ["folder"]
        assert stat.S_IMODE((out / "folder/closed").stat().st_mode) == 0o300

    def test_gives_one_document(self, made: Path, tmp_path: Path) -> None:
        document = call("cp", f"{made / 'private.img'}:/config", tmp_path, "--json").document
        assert document["ok"] is True
        assert document["file_count"] == 1
        assert document["written"] == str(tmp_path / "config")


class TestCat:
    def test_gives_a_files_bytes(self, made: Path) -> None:
        source = made / "private/home/user/stuff/Documents/keys.kdbx"
        ended = run(
            "cat", made / "backup", "vault:/home/user/stuff/Documents/keys.kdbx", env=SECRET
        )
        assert ended.stdout == source.read_bytes()
        place = f"{made / 'private.img'}:/home/user/stuff/Documents/keys.kdbx"
        assert run("cat", place).stdout == source.read_bytes()

    @pytest.mark.slow
    def test_still_gives_a_file_of_the_backup(self, made: Path) -> None:
        assert run("cat", made / "backup", "vault/notes.txt", env=SECRET).stdout == b"notes"


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["ls", "vault:/nothing"], r"there is no nothing in / \(this is vault/private.img"),
            (["ls", "vault/root.img:/nothing"], "there is no nothing in /$"),
            (["ls", "nobody:/home"], "there is no qube 'nobody' in this backup"),
            (["ls", "vault"], "no folder vault; for files .*, write vault/private.img:/$"),
            (
                ["ls", "vault/private.img"],
                "no folder vault/private.img; .*, write vault/private.img:/$",
            ),
            (["ls", ":/home"], "write QUBE:/path"),
            (["ls", "dom0:/home"], "dom0 has no image: qbackup ls BACKUP dom0 lists"),
            (["cp", "vault:/home", "/dev/null"], "can't use the output folder|is already there"),
            (["cat", "vault:/home"], "this is a folder, not a file"),
            (["verify", "vault:/home"], "To get such files: qbackup cp BACKUP"),
            (["verify", "vault/root.img:/etc"], "To get such files: qbackup cp BACKUP"),
        ],
    )
    def test_are_told_with_what_to_do(self, made: Path, arguments: list[str], words: str) -> None:
        ended = at(made, *arguments)
        assert ended.status in (1, 2)
        assert re.search(words, ended.err + ended.out, re.MULTILINE)

    def test_in_the_arguments_are_told_before_the_passphrase(self, made: Path) -> None:
        for arguments in (["cp", made / "backup"], ["ls", "no/such/image:/home"]):
            ended = call(*arguments)
            assert ended.status == 2
            assert "passphrase" not in ended.err

    def test_a_destination_that_is_left_out_is_asked_for(self, made: Path) -> None:
        for backup in (made / "backup", "https://example.org/backup"):
            ended = call("cp", backup, "vault:/home")
            assert (ended.status, ended.out) == (2, "")
            assert "name the folder to copy into: cp BACKUP QUBE:/path DEST" in ended.err

    def test_a_backup_is_no_image(self, made: Path) -> None:
        ended = call("ls", made / "backup")
        assert ended.status == 4
        assert "the image holds a tar archive" in ended.err


class TestBrowse:
    def test_gives_what_is_in_an_image(self, made: Path) -> None:
        with (
            qbackup.open(made / "backup", passphrase=PASSPHRASE) as backup,
            backup.browse("vault/private.img") as image,
        ):
            source = made / "private/home/user/stuff/large"
            with image.open("/home/user/stuff/large") as stream:
                assert stream.read() == source.read_bytes()
            assert image.readlink("/home/user/stuff/folder-link") == "Documents"

    def test_from_a_pipe(self, made: Path) -> None:
        class Pipe(io.BytesIO):
            def seekable(self) -> bool:
                return False

        pipe = Pipe((made / "backup").read_bytes())
        with (
            qbackup.open(pipe, passphrase=PASSPHRASE) as backup,
            backup.browse("vault/private.img") as image,
        ):
            assert image.stat("/home/user/stuff/small").size == 7

    def test_a_large_image_is_in_a_file_without_a_name(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(browse, "MEMORY_BLOCKS", 2)
        with qbackup.open(made / "backup", passphrase=PASSPHRASE) as backup:
            with backup.browse("vault/private.img", spool=tmp_path) as image:
                assert len(open_files(tmp_path)) == 1
                assert list(tmp_path.iterdir()) == []
                assert image.open("/config/rc.local").read() == b"#!/bin/sh\n"
            assert open_files(tmp_path) == []
            monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result([1] * 10))
            with pytest.raises(MachineError, match="there is no room for the image"):
                backup.browse("vault/private.img", spool=tmp_path)

    def test_of_a_damaged_image_gives_nothing(self, maker: MakerFactory, tmp_path: Path) -> None:
        image = make_ext4(tmp_path / "image", 8 * MIB)
        (tmp_path / "noise").write_bytes(os.urandom(3 * MIB))
        debugfs(image, f"write {tmp_path / 'noise'} noise", write=True)
        made = maker(chunk_size=MIB)
        made.add_qube("vault", files={"private.img": image})
        members = made.members()
        last = [m.name for m in members if "private.img" in m.name][-1]
        backup = assemble(flip_byte(members, last, 300), tmp_path / "backup")
        before = open_files(tmp_path)
        with qbackup.open(backup, passphrase=PASSPHRASE) as archive:
            with pytest.raises(Damaged):
                archive.browse("vault/private.img", spool=tmp_path)
            assert open_files(tmp_path)[1:] == before
        ended = call("ls", backup, "vault:/", env=SECRET)
        assert (ended.status, ended.out) == (1, "")

    def test_of_what_is_no_image_says_so(self, made: Path) -> None:
        with qbackup.open(made / "backup", passphrase=PASSPHRASE) as backup:
            with pytest.raises(NotInBackup):
                backup.browse("vault/nothing.img")
            with pytest.raises(qbackup.UnsupportedFormat, match="nothing that is known here"):
                backup.browse("vault/notes.txt")
