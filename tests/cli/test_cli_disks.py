"""`ls`, `cp` and `cat` on disks with several partitions: what people and programs are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.maker import BackupMaker
from tests.support.commandline import Ended, call
from tests.support.diskkit import data_of, with_fstab
from tests.support.restored import snapshot


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the disks."""
    folder = tmp_path_factory.mktemp("disks")
    for name in ("home", "fedora", "unreadable", "template", "logical"):
        (folder / name).write_bytes(data_of(name))
    return folder


def notes(ended: Ended) -> list[str]:
    return ended.err.splitlines()


class TestPartitions:
    @pytest.mark.slow
    def test_are_named_once_with_file_system_and_size(self, folder: Path) -> None:
        ended = call("ls", f"{folder / 'home'}:/home/user")
        assert ended.status == 0
        assert notes(ended)[:5] == [
            'partition 1: FAT "EFI", 8.0 MiB, at /boot/efi, can\'t be read here',
            'partition 2: ext4 "system", 4.0 MiB, at /',
            'partition 3: ext4 "home", 6.0 MiB, at /home',
            'partition 4: swap "swap", 8.0 MiB',
            'partition 5: ext4 "spare", 3.0 MiB, not shown (--partition 5 shows it)',
        ]
        assert call("ls", f"{folder / 'home'}:/home/user", "-q").err == ""

    def test_stand_in_json(self, folder: Path) -> None:
        for command in (("ls",), ("cp",)):
            out = [str(folder / "json")] if command == ("cp",) else []
            ended = call(*command, f"{folder / 'unreadable'}:/etc", *out, "--json")
            assert ended.status == 0
            parts = ended.document["partitions"]
            assert [part["kind"] for part in parts] == ["ext4", "crypto_LUKS", "btrfs", "ext4"]
            assert [part["mounted_at"] for part in parts] == ["/", "/home", "/srv", None]
            assert parts[1]["error"] == "LUKS can't be read here"
            assert parts[1]["size"] == 20 << 20
            assert (parts[2]["label"], parts[2]["uuid"][-1]) == ("a label", "1")
            assert "error" not in parts[3]

    def test_of_a_bare_file_system_are_none(self, folder: Path, tmp_path: Path) -> None:
        data = data_of("home")
        (tmp_path / "bare").write_bytes(data[9 << 20 : 13 << 20])
        ended = call("ls", f"{tmp_path / 'bare'}:/home", "--json")
        assert (ended.status, ended.err) == (0, "")
        assert ended.document["partitions"] == []
        assert [entry["path"] for entry in ended.document["entries"]] == ["/home/hidden"]


class TestHome:
    def test_is_listed_copied_and_read(self, folder: Path, tmp_path: Path) -> None:
        ended = call("cp", f"{folder / 'home'}:/home", tmp_path / "out")
        assert ended.status == 0
        assert "Copied 1 file" in ended.out
        assert (tmp_path / "out/user/letter.txt").read_bytes() == b"Dear reader,\n"
        assert call("cat", f"{folder / 'home'}:/home/user/letter.txt").out == "Dear reader,\n"
        assert " letter.txt\n" in call("ls", f"{folder / 'home'}:/home/user").out

    def test_comes_with_all_and_what_is_lost_is_named(self, folder: Path, tmp_path: Path) -> None:
        ended = call("cp", f"{folder / 'home'}:/", tmp_path / "out")
        assert ended.status == 1
        assert "MISSING  /boot/efi: this is partition 1" in ended.out
        assert "NOT EVERYTHING WAS COPIED. Copied: 4 files" in ended.out
        assert (tmp_path / "out/home/user/letter.txt").exists()

    def test_another_place_is_a_note(self, folder: Path) -> None:
        ended = call("ls", f"{folder / 'home'}:/mnt/nas")
        assert ended.status == 0
        assert notes(ended)[-1] == (
            "note: /mnt/nas: /etc/fstab mounts nas:/export here, which is not in this image"
        )
        ended = call("ls", f"{folder / 'home'}:/mnt", "--json")
        assert ended.document["warnings"] == []
        ended = call("ls", "-R", f"{folder / 'home'}:/mnt", "--json")
        assert len(ended.document["warnings"]) == 1

    def test_lines_that_a_terminal_would_obey_are_made_visible(self, tmp_path: Path) -> None:
        lines = "evil\\033[31m:/x /home\\012/y nfs\nx:/y\x1b[2J /srv nfs"
        (tmp_path / "disk").write_bytes(with_fstab(lines))
        ended = call("ls", "-R", f"{tmp_path / 'disk'}:/")
        assert "\x1b" not in ended.err + ended.out
        assert r"\x1b[2J" in ended.err


class TestUnreadable:
    @pytest.mark.parametrize("command", ["ls", "cp", "cat"])
    @pytest.mark.parametrize("path", ["/home", "/home/user/letter", "/srv/below/file", "/data"])
    def test_a_path_in_it_is_status_1_and_said(
        self, folder: Path, tmp_path: Path, command: str, path: str
    ) -> None:
        out = [tmp_path / "out"] if command == "cp" else []
        ended = call(command, f"{folder / 'unreadable'}:{path}", *out)
        assert (ended.status, ended.out) == (1, "")
        words = "btrfs" if path.startswith("/srv") else "LUKS"
        assert words in notes(ended)[-2]
        assert "restore the image" in notes(ended)[-1]
        assert snapshot(tmp_path) == {}

    def test_is_named_in_a_walk(self, folder: Path) -> None:
        ended = call("ls", "-R", f"{folder / 'unreadable'}:/")
        assert ended.status == 1
        assert " /etc/hostname\n" in ended.out
        assert 'qbackup: /home: this is partition 2 (LUKS "secret"), which can\'t be read here' in (
            notes(ended)
        )

    def test_of_the_whole_system_is_status_1(self, folder: Path, tmp_path: Path) -> None:
        place = f"{folder / 'fedora'}:/"
        for ended in (call("ls", place), call("cp", place, tmp_path / "out")):
            assert ended.status == 1
            assert "the files in partition 3 (btrfs" in ended.out + ended.err
            assert 'partition 3: btrfs "a label", 20.0 MiB, can\'t be read here' in ended.err
        assert call("cat", f"{place}vmlinuz").status == 1
        ended = call("ls", f"{place}home")
        assert ended.status == 1
        assert "btrfs" in notes(ended)[-2]
        assert call("ls", f"{place}home", "--json").document["kind"] == "PartitionUnreadable"

    def test_is_no_matter_where_a_partition_was_named(self, folder: Path, tmp_path: Path) -> None:
        place = f"{folder / 'fedora'}:/"
        assert call("ls", place, "--partition", "2").status == 0
        assert call("cp", place, tmp_path / "out", "--partition", "2").status == 0
        assert call("cat", f"{place}vmlinuz", "--partition", "2").out == "kernel\n"
        ended = call("ls", place, "--partition", "3")
        assert ended.status == 1
        assert "partition 3: a btrfs file system" in ended.err
        ended = call("ls", place, "--partition", "7")
        assert ended.status == 2
        assert "there is: 1, 2, 3" in ended.err


def test_a_template_is_read_with_status_0(folder: Path, tmp_path: Path) -> None:
    ended = call("cp", f"{folder / 'template'}:/", tmp_path / "out")
    assert ended.status == 0
    assert "note: /rw: /etc/fstab mounts /dev/xvdb here, which is not in this image" in notes(ended)


@pytest.mark.slow
def test_a_disk_in_a_backup(tools: None, folder: Path, tmp_path: Path) -> None:
    maker = BackupMaker(tmp_path / "maker")
    maker.add_qube("work", files={"root.img": folder / "logical", "private.img": folder / "home"})
    maker.write(tmp_path / "backup")
    secret = {"QBACKUP_PASSPHRASE": maker.passphrase}
    ended = call("cat", tmp_path / "backup", "work/root.img:/home/data/deep", env=secret)
    assert (ended.status, ended.out) == (0, "eight\n")
    assert sum(line.startswith("partition ") for line in notes(ended)) == 5
    ended = call("ls", tmp_path / "backup", "work:/home", env=secret)
    assert ended.out.endswith(" user\n")
