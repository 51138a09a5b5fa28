"""Disks with several partitions: what the system's `/etc/fstab` mounts is found where it was."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest

from qbackup.base.errors import (
    Damaged,
    Incomplete,
    NotInImage,
    PartitionUnreadable,
    QBackupError,
    UnsupportedFormat,
)
from qbackup.image import Image, fstab, mount_table, open_image
from qbackup.image import open as opening
from qbackup.image.device import ImageBytes
from qbackup.image.kinds import identify
from tests.maker import make_ext4, make_gpt
from tests.maker.realdisks import fill, make_table
from tests.support.diskkit import (
    CONTENTS,
    DISKS,
    MIB,
    UUIDS,
    data_of,
    listed,
    opened,
    partition_of,
    places,
    read,
    with_fstab,
)
from tests.support.restored import snapshot
from tests.support.speed import rows
from tests.support.work import at_most

PATIENCE_CALLS = 2_000_000  # for one disk; most take a twentieth of these
HOME = f"UUID={UUIDS}b"


def paths(image: Image, top: str = "/") -> list[str]:
    """Every path below one, without what mkfs makes by itself."""
    lost: list[str] = []
    found = [node.path for node in image.walk(top, on_error=lambda path, _: lost.append(path))]
    return [path for path in found if "lost+found" not in path] + [f"! {path}" for path in lost]


class TestContents:
    @pytest.mark.parametrize("name", CONTENTS)
    def test_are_what_blkid_says(self, name: str) -> None:
        theirs = CONTENTS[name]
        ours = identify(ImageBytes(io.BytesIO(data_of(name))))
        assert ours.kind == theirs["TYPE"]
        if ours.kind not in ("ntfs", "exfat"):  # theirs are in a file, and that is not read
            assert ours.label == theirs.get("LABEL", "")
        if ours.kind != "iso9660":  # made up of a date
            assert ours.uuid == theirs.get("UUID", "")

    @pytest.mark.parametrize(
        ("kind", "offset", "mark"),
        [
            ("BitLocker", 3, b"-FVE-FS-"),
            ("zfs_member", 0x20000, b"\x0c\xb1\xba\x00\x00\x00\x00\x00"),
            ("zfs_member", 0x21400, b"\x00\x00\x00\x00\x00\xba\xb1\x0c"),
            ("linux_raid_member", 0, b"\xfc\x4e\x2b\xa9"),
            ("linux_raid_member", 0x1000, b"\xfc\x4e\x2b\xa9"),
            ("linux_raid_member", MIB - 8192, b"\xfc\x4e\x2b\xa9"),
            ("linux_raid_member", MIB - 65536, b"\xfc\x4e\x2b\xa9"),
            ("swap", 0xFFF6, b"SWAPSPACE2"),
            ("erofs", 0x400, b"\xe2\xe1\xf5\xe0"),
            ("apfs", 0x20, b"NXSB"),
            ("hfsplus", 0x400, b"H+\x00\x04"),
            ("jfs", 0x8000, b"JFS1"),
            ("LVM2_member", 0x600, b"LABELONE"),
            ("empty", 0, b""),
            ("unknown", 0, b"no mark"),
        ],
    )
    def test_have_marks_where_their_formats_put_them(
        self, kind: str, offset: int, mark: bytes
    ) -> None:
        data = bytearray(MIB)
        data[offset : offset + len(mark)] = mark
        assert identify(ImageBytes(io.BytesIO(data))).kind == kind

    @pytest.mark.parametrize("size", [0, 1, 511, 1024, 4096, 70_000])
    def test_can_be_cut_anywhere(self, size: int) -> None:
        for name in CONTENTS:
            identify(ImageBytes(io.BytesIO(data_of(name)[:size])))


@rows("name", DISKS, quick=2)
def test_partitions_are_those_that_partx_sees(name: str) -> None:
    theirs = listed(name)
    if name == "logical":
        del theirs[2]  # the extended one, which only holds others
    with opened(name) as image:
        assert {p.number: (p.start, p.size) for p in image.partitions} == {
            number: values[:2] for number, values in theirs.items()
        }


class TestHome:
    """A system with /home in a partition of its own, which is larger than the system's."""

    def test_is_found_where_the_system_has_it(self) -> None:
        with opened("home") as image:
            assert read(image, "/home/user/letter.txt") == b"Dear reader,\n"
            assert read(image, "/etc/hostname") == b"laptop\n"
            assert places(image) == {1: "/boot/efi", 2: "/", 3: "/home"}
            assert image.stat("/home/user").partition == 3
            assert [node.name for node in image.list("/home")] == ["lost+found", "user"]

    def test_hides_what_is_below_it(self) -> None:
        with opened("home") as image, pytest.raises(NotInImage):
            image.stat("/home/hidden")

    def test_links_lead_from_one_partition_into_another(self) -> None:
        with opened("home") as image:
            assert image.stat("/users/user").path == "/home/user"
            assert read(image, "/letter") == b"Dear reader,\n"
            assert read(image, "/home/user/host") == b"laptop\n"
            assert read(image, "/home/user/song") == b"la la\n"
            assert image.stat("/home/../etc").path == "/etc"
            assert image.stat("/home/user/../..").path == "/"

    def test_is_copied(self, tmp_path: Path) -> None:
        with opened("home") as image:
            report = image.copy("/home", tmp_path / "out")
        assert (report.file_count, report.ok) == (1, True)
        assert (tmp_path / "out/user/letter.txt").read_bytes() == b"Dear reader,\n"

    def test_what_can_not_be_read_is_named_and_the_rest_comes(self, tmp_path: Path) -> None:
        with opened("home") as image:
            with pytest.raises(Incomplete, match=r"this is partition 1 .FAT .EFI"):
                image.copy("/", tmp_path / "out")
            report = image.copy("/", tmp_path / "again", check=False)
            assert not report.ok
            assert [(r.name, r.status) for r in report.bad] == [("/boot/efi", "missing")]
            assert (tmp_path / "again/home/user/letter.txt").exists()
            assert (tmp_path / "again/boot").is_dir()
            assert not (tmp_path / "again/home/hidden").exists()
            assert any("mounts nas:/export here" in warning for warning in report.warnings)
            with pytest.raises(PartitionUnreadable, match=r"^/boot/efi: this is partition 1"):
                image.stat("/boot/efi/vmlinuz")

    def test_numbers_of_inodes_count_in_each_partition(self, tools: None, tmp_path: Path) -> None:
        """Files of two partitions with the same number are no hard links of each other."""
        start, size, _ = listed("home")[2]
        parts: list[tuple[str, bytes | Path]] = [
            ("system", with_fstab("/dev/sda2 /srv\n/dev/sda3 /tmp")[start : start + size])
        ]
        for name in ("two", "three"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "first").write_text(name)
            os.link(tmp_path / name / "first", tmp_path / name / "second")
            parts.append((name, make_ext4(tmp_path / f"{name}.img", MIB, tmp_path / name)))
        with open_image(make_gpt(tmp_path / "disk", parts)) as image:
            assert image.stat("/srv/first").stat.number == image.stat("/tmp/first").stat.number
            image.copy("/", tmp_path / "out")
        assert (tmp_path / "out/srv/second").read_text() == "two"
        assert (tmp_path / "out/tmp/second").read_text() == "three"
        assert (tmp_path / "out/tmp/second").stat().st_nlink == 2

    def test_a_partition_that_is_named_has_the_root(self) -> None:
        with opened("home", partition=3) as image:
            assert read(image, "/user/letter.txt") == b"Dear reader,\n"
            assert places(image) == {3: "/"}
        with opened("home", partition=5) as image:
            assert read(image, "/old") == b"old\n"
        with opened("home", partition=2) as image:
            assert read(image, "/home/user/letter.txt") == b"Dear reader,\n"
        with pytest.raises(PartitionUnreadable, match="partition 1: a FAT file system"):
            opened("home", partition=1)
        with pytest.raises(NotInImage, match=r"no partition 9 .there is: 1, 2, 3, 4, 5"):
            opened("home", partition=9)


class TestLogical:
    def test_partitions_of_an_mbr_are_found(self) -> None:
        with opened("logical") as image:
            assert places(image) == {1: "/", 5: "/var/lib dir", 6: "/home", 8: "/home/data"}
            assert read(image, "/var/lib dir/cache") == b"five\n"
            assert read(image, "/home/user") == b"six\n"
            assert read(image, "/home/data/deep") == b"eight\n"
            assert [node.name for node in image.list("/home/data")] == ["deep", "lost+found"]

    def test_each_partition_has_one_place(self) -> None:
        with opened("logical") as image:
            assert paths(image, "/again") == ["/again"]
            assert image.notes("/again") == (
                '/again: /etc/fstab mounts partition 6 (ext4 "the home") here,'
                " which is shown at /home already",
            )

    def test_another_disk_is_not_this_one(self) -> None:
        with opened("logical") as image:
            assert any("/dev/sdb1" in note for note in image.notes("/mnt/usb/photos"))
            assert image.notes("/mnt", below=False) == ()
            assert len(image.notes("/mnt")) == 1


class TestFedora:
    """`/boot` is ext4, and the system is in btrfs."""

    def test_boot_is_not_taken_for_the_system(self, tmp_path: Path) -> None:
        with opened("fedora") as image:
            assert image.obstacle is not None
            assert 'partition 3 (btrfs "a label")' in image.obstacle
            report = image.copy("/", tmp_path / "out", check=False)
            assert not report.ok
            assert [(r.name, r.status) for r in report.bad] == [("*", "missing")]
            assert (tmp_path / "out/vmlinuz").read_bytes() == b"kernel\n"
            with pytest.raises(PartitionUnreadable, match="btrfs"):
                image.stat("/home/user")

    def test_is_what_was_asked_for_if_it_is_named(self, tmp_path: Path) -> None:
        with opened("fedora", partition=2) as image:
            assert image.obstacle is None
            assert image.copy("/grub2", tmp_path / "out").ok
            with pytest.raises(NotInImage):
                image.stat("/home/user")
        with pytest.raises(PartitionUnreadable, match="partition 3: a btrfs file system"):
            opened("fedora", partition=3)

    @pytest.mark.parametrize(
        "name", ["xfs", "crypto_LUKS-1", "crypto_LUKS-2", "LVM2_member", "f2fs", "nilfs2"]
    )
    def test_so_with_every_content_that_a_system_can_be_in(self, name: str, tmp_path: Path) -> None:
        parts: list[tuple[str, bytes | Path]] = [
            ("boot", partition_of("fedora", 2)),
            ("system", data_of(name)),
        ]
        with open_image(make_gpt(tmp_path / "disk", parts)) as image:
            assert image.obstacle is not None
            assert "partition 2" in image.obstacle

    def test_so_with_a_system_that_is_damaged(self, tmp_path: Path) -> None:
        broken = bytearray(partition_of("home", 2))
        broken[1024 + 0x68] ^= 1
        parts: list[tuple[str, bytes | Path]] = [
            ("boot", partition_of("fedora", 2)),
            ("system", bytes(broken)),
        ]
        with open_image(make_gpt(tmp_path / "disk", parts)) as image:
            assert image.obstacle is not None
            assert "partition 2 (ext4" in image.obstacle
            assert "checksum" in (image.partitions[1].error or "")

    def test_but_not_where_all_of_it_is_shown(self, tmp_path: Path) -> None:
        parts: list[tuple[str, bytes | Path]] = [
            ("data", partition_of("fedora", 2)),
            ("swap", data_of("swap")),
            ("nothing", bytes(20 * MIB)),
        ]
        with open_image(make_gpt(tmp_path / "disk", parts)) as image:
            assert image.obstacle is None

    def test_nothing_that_can_be_read(self, tmp_path: Path) -> None:
        parts: list[tuple[str, bytes | Path]] = [
            ("one", data_of("btrfs")),
            ("two", data_of("crypto_LUKS-2")),
        ]
        with pytest.raises(PartitionUnreadable, match=r"1: a btrfs file.*2: an encrypted volume"):
            open_image(make_gpt(tmp_path / "disk", parts))


class TestUnreadable:
    """Parts of the system's tree are in LUKS, btrfs and LVM."""

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("/home", "/home: this is partition 2 .LUKS"),
            ("/home/user/letter", "/home: this is partition 2 .LUKS"),
            ("/srv", "/srv: this is partition 3 .btrfs"),
            ("/srv/below/file", "/srv: this is partition 3 .btrfs"),
            ("/data/x", "/data: this is /dev/mapper/vg-data, which may be in partition 2"),
            ("/lost", "/lost: this is UUID=0000-dead, which may be in partition 2"),
        ],
    )
    def test_is_named_where_it_is_asked_for(self, path: str, words: str, tmp_path: Path) -> None:
        with opened("unreadable") as image:
            for use in (image.stat, image.list, image.open):
                with pytest.raises(PartitionUnreadable, match=words):
                    use(path)
            with pytest.raises(PartitionUnreadable, match=words):
                image.copy(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_is_named_in_a_walk_that_goes_on(self) -> None:
        with opened("unreadable") as image:
            assert paths(image) == [
                "/", "/etc", "/etc/fstab", "/etc/hostname",
                "! /data", "! /home", "! /lost", "! /srv",
            ]  # fmt: skip
            assert [node.name for node in image.list("/")] == [
                "data", "etc", "home", "lost", "lost+found", "srv"
            ]  # fmt: skip
            with pytest.raises(PartitionUnreadable):
                list(image.walk("/"))

    def test_is_no_matter_to_what_is_elsewhere(self, tmp_path: Path) -> None:
        with opened("unreadable") as image:
            assert read(image, "/etc/hostname") == b"sealed\n"
            assert image.copy("/etc", tmp_path / "out").ok


class TestTemplate:
    """The root image of a template of Qubes 4."""

    def test_is_read_as_before(self, tmp_path: Path) -> None:
        with opened("template") as image:
            assert places(image) == {3: "/"}
            assert read(image, "/home/user/.bashrc") == b"#\n"
            report = image.copy("/", tmp_path / "out")
            assert report.ok
            assert "/rw: /etc/fstab mounts /dev/xvdb here, which is not in this image" in (
                report.warnings
            )
            assert image.notes("/etc") == ()

    def test_is_no_matter_to_a_bare_file_system(self) -> None:
        with opened(partition_of("home", 2)) as image:
            assert image.partitions == ()
            assert image.stat("/home/hidden").partition == 0
            assert image.notes("/") == ()


class TestMounts:
    """Other lines in the same disk."""

    @rows(
        "source",
        [
            f"UUID={UUIDS}b",
            f"UUID={UUIDS}B".upper().replace("UUID", "UUID"),
            f'UUID="{UUIDS}b"',
            f"PARTUUID={UUIDS}2",
            "LABEL=home",
            "LABEL='home'",
            "PARTLABEL=user\\040data",
            "/dev/sda3",
            "/dev/xvda3",
            "/dev/vda3",
            "/dev/nvme0n1p3",
            "/dev/mmcblk0p3",
            f"/dev/disk/by-uuid/{UUIDS}b",
            f"/dev/disk/by-partuuid/{UUIDS}2",
            "/dev/disk/by-label/home",
            "/dev/disk/by-partlabel/user\\134x20data",
        ],
        quick=3,
    )
    def test_name_their_partition_in_many_ways(self, source: str) -> None:
        with opened(with_fstab(f"/dev/sda2 / ext4\n{source} /home ext4")) as image:
            if source.startswith("/dev/") and "disk" not in source and "sda" not in source:
                assert places(image) == {2: "/"}  # as this disk is sda
                return
            assert read(image, "/home/user/letter.txt") == b"Dear reader,\n"
        with opened(with_fstab(f"UUID={UUIDS}a / ext4\n{source} /home ext4")) as image:
            assert places(image) == {2: "/", 3: "/home"}

    def test_know_the_disk_by_the_name_that_the_system_has_for_it(self) -> None:
        lines = "/dev/sdc2 / ext4\n/dev/sdc3 /home ext4\n/dev/sda5 /srv ext4"
        with opened(with_fstab(lines)) as image:
            assert places(image) == {2: "/", 3: "/home"}
        lines = "/dev/disk/by-id/ata-X-part2 / ext4\n/dev/disk/by-id/ata-X-part3 /home ext4"
        with opened(with_fstab(lines)) as image:
            assert places(image) == {2: "/", 3: "/home"}

    def test_of_two_at_one_place_the_last_counts(self) -> None:
        with opened(with_fstab(f"{HOME} /home ext4\nUUID={UUIDS}c /home ext4")) as image:
            assert places(image) == {2: "/", 5: "/home"}
            assert read(image, "/home/old") == b"old\n"

    def test_one_can_be_in_another_whatever_their_order(self) -> None:
        with opened(with_fstab(f"UUID={UUIDS}c /home/user/data ext4\n{HOME} /home ext4")) as image:
            assert read(image, "/home/user/data/old") == b"old\n"
            assert "/home/user/data/old" in paths(image, "/home")

    def test_links_on_the_way_to_a_place_are_followed(self) -> None:
        with opened(with_fstab(f"{HOME} /users ext4\nUUID={UUIDS}c /users/user/data")) as image:
            assert places(image) == {2: "/", 3: "/home", 5: "/home/user/data"}

    @rows(
        "line",
        [
            f"UUID={UUIDS}a /srv ext4",  # the root itself
            f"{HOME} / ext4",
            f"{HOME} /etc/hostname ext4",  # no folder
            f"{HOME} /nothing/here ext4",
            f"{HOME} none ext4",
            f"{HOME} relative ext4",
            f"#{HOME} /home ext4",
            "/home /srv none bind",
            "/srv /srv none rbind",
            "UUID= /home ext4",
            "LABEL= /home ext4",
            "PARTLABEL= /home ext4",
            "=b /home ext4",
            "\x00\x01 /home",
        ],
        quick=5,
    )
    def test_that_make_no_sense_change_nothing(self, line: str) -> None:
        with opened(with_fstab(line)) as image:
            assert places(image) == {2: "/"}
            assert image.obstacle is None
            assert read(image, "/home/hidden") == b"below the mount\n"
            assert len(paths(image)) == len(set(paths(image)))

    def test_of_a_part_of_a_file_system_are_not_followed_and_that_is_an_error(self) -> None:
        with (
            opened(with_fstab(f"{HOME} /home ext4 X-mount.subdir=user")) as image,
            pytest.raises(PartitionUnreadable, match=r"only user of partition 3.*--partition 3"),
        ):
            image.stat("/home")

    @pytest.mark.parametrize(
        ("offset", "words"),
        [
            (0x40, r"/home: this is partition 3.*checksum"),
            (0x68, r"/home: this is UUID=.* may be in partition 3"),  # its UUID
            (0x38, r"/home: this is UUID=.* may be in partition 3"),  # the mark
        ],
    )
    def test_of_a_damaged_file_system_are_an_error(self, offset: int, words: str) -> None:
        start, _, _ = listed("home")[3]
        data = bytearray(data_of("home"))
        data[start + 1024 + offset] ^= 1
        with opened(bytes(data)) as image:
            with pytest.raises(PartitionUnreadable, match=words):
                image.stat("/home/user")
            assert "! /home" in paths(image)
            assert read(image, "/etc/hostname") == b"laptop\n"

    def test_of_one_that_is_not_to_be_seen_the_next_line_counts(self) -> None:
        lines = f"{HOME} /missing ext4\n{HOME} /etc/hostname ext4\n{HOME} /home ext4"
        with opened(with_fstab(lines)) as image:
            assert places(image) == {2: "/", 3: "/home"}
        lines = f"UUID=1234-ABCD /home vfat\n{HOME} /home ext4"
        with opened(with_fstab(lines)) as image:
            assert places(image) == {2: "/", 3: "/home"}
            assert image.stat("/home/user").partition == 3

    def test_from_elsewhere_hide_nothing_of_this_disk(self) -> None:
        lines = f"{HOME} /home ext4\nnas:/home /home nfs noauto\n/srv /home none bind"
        with opened(with_fstab(lines)) as image:
            assert places(image) == {2: "/", 3: "/home"}
            assert image.notes("/home") == ()

    def test_at_a_place_that_is_damaged_take_no_others_with_them(self) -> None:
        lines = f"UUID={UUIDS}c /srv/data ext4\n{HOME} /home ext4"
        data = bytearray(with_fstab(lines))
        at = data.index(b"data", data.index(b"song") - 4096)
        data[at] ^= 0x20  # the checksum of /srv does not match any more
        with opened(bytes(data)) as image:
            assert places(image) == {2: "/", 3: "/home"}
            assert image.obstacle is None
            with pytest.raises(Damaged, match="/srv"):
                image.stat("/srv/data/old")

    @pytest.mark.slow
    def test_by_a_name_of_another_disk_are_not_taken_for_hidden_ones(self) -> None:
        """Even if something else on this disk is encrypted."""
        data = data_of("unreadable")
        for text, is_hidden in (
            (b"/dev/disk/by-id/usb-X-part1", False),
            (b"/dev/sdb1", False),
            (b"nas:/x", False),
            (b"/dev/vg/data", True),
            (b"/dev/md0", True),
        ):
            old = b"/dev/mapper/vg-data"
            line = text + b" /data xfs\n#"
            at = data.index(old)
            with opened(data[:at] + line + data[at + len(line) :]) as image:
                assert (image.notes("/data") == ()) is is_hidden, text

    @rows("device", ["/dev/disk/by-id/ata-X-part5", "/dev/sdb5", "/dev/disk/by-path/pci-0-part5"])
    def test_by_a_name_that_may_be_this_disks_are_an_error(self, device: str) -> None:
        """Or `/srv/data` were empty, with status 0, and its files in the partition beside it."""
        root = f"UUID={UUIDS}a / ext4"
        with opened(with_fstab(f"{root}\n{device} /srv ext4")) as image:
            with pytest.raises(PartitionUnreadable, match=r"may be partition 5 .*--partition 5"):
                image.stat("/srv/data")
            assert "! /srv" in paths(image)
        for lines in (
            f"/dev/sda2 / ext4\n{device.replace('disk/by-id/ata-X-part', 'sdb')} /srv ext4",
            f"{root}\n{device} /srv ext4\nUUID={UUIDS}c /mnt/nas ext4",  # partition 5 is claimed
            f"{root}\n{device}7 /srv ext4",
            f"{root}\n{device[:-1]}4 /srv ext4",  # swap
        ):
            with opened(with_fstab(lines)) as image:
                is_other_kind = "by-path" in device and "sda2" in lines
                assert bool(image.notes("/srv")) is not is_other_kind, lines

    def test_bind_folders_where_they_are_asked_for(self) -> None:
        lines = f"UUID={UUIDS}c /mnt/nas ext4\n/mnt/nas /srv none bind\n/srv /home none rbind"
        with opened(with_fstab(lines)) as image:
            assert read(image, "/srv/old") == read(image, "/home/old") == b"old\n"
            assert read(image, "/home/../home/./old") == b"old\n"
            assert paths(image, "/home") == paths(image, "/mnt/nas")
            assert image.notes(image.stat("/home").path) == ()
            assert len(paths(image)) == len(set(paths(image)))
            assert [path for path in paths(image) if path.endswith("/old")] == ["/mnt/nas/old"]
            assert len(image.notes("/")) == 2

    def test_bind_a_folder_below_the_place_or_above(self) -> None:
        with opened(with_fstab("/srv/data /srv none bind\n/ /mnt/nas none bind")) as image:
            assert read(image, "/srv/song") == b"la la\n"
            assert read(image, "/mnt/nas/mnt/nas/srv/song") == b"la la\n"
            assert len(paths(image)) == len(set(paths(image)))

    def test_mount_below_a_folder_that_is_bound(self) -> None:
        lines = f"/srv /home none bind\nUUID={UUIDS}c /home/data ext4"
        with opened(with_fstab(lines)) as image:
            assert read(image, "/home/data/old") == read(image, "/srv/data/old") == b"old\n"

    def test_bind_nothing_of_what_is_elsewhere_or_not_there(self) -> None:
        lines = "nas:/x /srv nfs\n/srv/data /home none bind\n/nothing /users none bind"
        with opened(with_fstab(lines)) as image:
            assert read(image, "/home/hidden") == b"below the mount\n"
            assert image.notes("/home") and image.obstacle is None

    def test_bind_what_can_not_be_read_and_that_is_an_error(self) -> None:
        lines = "UUID=1234-ABCD /srv vfat\n/srv/data /home none bind"
        with opened(with_fstab(lines)) as image:
            with pytest.raises(PartitionUnreadable, match=r"/home: this is /srv/data, .*EFI"):
                image.stat("/home")
            assert "! /home" in paths(image)

    def test_in_a_file_that_a_broken_link_leads_to_are_missed(
        self, tools: None, tmp_path: Path
    ) -> None:
        """NixOS has such links, into a folder that may be a partition of its own."""
        tree = tmp_path / "tree"
        (tree / "etc").mkdir(parents=True)
        (tree / "home").mkdir()
        (tree / "etc/os-release").write_text("ID=nixos\n")
        (tree / "etc/fstab").symlink_to("/nix/store/fstab")
        system = make_ext4(tmp_path / "system", 4 * MIB, tree)
        parts: list[tuple[str, bytes | Path]] = [
            ("system", system), ("home", partition_of("home", 3)),
        ]  # fmt: skip
        with open_image(make_gpt(tmp_path / "disk", parts)) as image:
            assert image.obstacle is not None and "leads nowhere" in image.obstacle
            assert not image.copy("/home", tmp_path / "out", check=False).ok

    @pytest.mark.parametrize("kind", ["933ac7e1-2eb4-4f13-b844-0e14e2aef915", "L"])
    def test_by_the_type_of_a_partition(self, kind: str, tools: None, tmp_path: Path) -> None:
        """systemd does so without a line, where the folder is empty."""
        tree = tmp_path / "tree"
        (tree / "etc").mkdir(parents=True)
        (tree / "home").mkdir()
        (tree / "etc/os-release").write_text("ID=x\n")
        home = tmp_path / "home"
        home.write_bytes(partition_of("home", 3))
        script = f"label: gpt\nsize=4MiB, type=L\nsize=6MiB, type={kind}\n"
        disk = make_table(tmp_path / "disk", 16 * MIB, script)
        fill(disk, {1: make_ext4(tmp_path / "system", 4 * MIB, tree), 2: home})
        with open_image(disk) as image:
            assert places(image) == ({1: "/"} if kind == "L" else {1: "/", 2: "/home"})
        (tree / "home/alice").mkdir()
        fill(disk, {1: make_ext4(tmp_path / "system", 4 * MIB, tree)})
        with open_image(disk) as image:
            assert places(image) == {1: "/"}
        (tree / "home/alice").rmdir()
        (tree / "etc/fstab").write_text("nas:/home /home nfs\n")
        fill(disk, {1: make_ext4(tmp_path / "system", 4 * MIB, tree)})
        with open_image(disk) as image:
            assert places(image) == {1: "/"} and image.notes("/home")

    def test_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each costs memory, so what is mounted past the bound is an error."""
        monkeypatch.setattr(mount_table, "_MOUNTS_LIMIT", 3)
        folders = ("srv", "tmp", "mnt", "boot", "home")
        lines = [f"/dev/sda{number} /{name}" for number, name in enumerate(folders, 1)]
        start, size, _ = listed("home")[2]
        system = with_fstab("\n".join(["/dev/sda6 /", *lines]))[start : start + size]
        parts: list[tuple[str, bytes | Path]] = [
            (name, partition_of("home", 5)) for name in folders
        ]
        with open_image(make_gpt(tmp_path / "disk", [*parts, ("system", system)])) as image:
            assert [image.stat(f"/{name}/old").partition for name in folders[:3]] == [1, 2, 3]
            for name in folders[3:]:
                with pytest.raises(PartitionUnreadable, match="3 partitions are mounted already"):
                    image.stat(f"/{name}/old")

    def test_behind_too_many_others_are_missed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fstab, "ENTRIES_LIMIT", 2)
        monkeypatch.setattr(opening, "ENTRIES_LIMIT", 2)
        with opened(with_fstab(f"nas:/a /srv nfs\nnas:/b /srv nfs\n{HOME} /home ext4")) as image:
            assert image.obstacle is not None and "mounts 2 things or more" in image.obstacle
        with opened(with_fstab(f"nas:/a /srv nfs\n#\n{HOME}")) as image:
            assert image.obstacle is None

    def test_at_a_place_that_is_not_there_are_said(self) -> None:
        with opened(with_fstab(f"{HOME} /nothing/here ext4\nnas:/x /nowhere nfs")) as image:
            assert image.notes("/") == (
                '/nothing/here: /etc/fstab mounts partition 3 (ext4 "home") here, where there is no'
                " folder for it",
            )

    def test_that_overlap_are_an_error(self, tmp_path: Path) -> None:
        """Or a small disk would hold a thousand large file systems."""
        data = bytearray(data_of("logical"))
        start, size, _ = listed("logical")[6]
        data[446 + 32 : 446 + 48] = _mbr_entry(start // 512, size // 512)
        for old, new in ((b"/dev/sda5", b"/dev/sda3"), (b'LABEL="the\\040home"', b"/dev/sda6")):
            at = data.index(old)
            data[at : at + len(old)] = new.ljust(len(old))
        with (
            opened(bytes(data)) as image,
            pytest.raises(PartitionUnreadable, match="overlaps partition"),
        ):
            image.copy("/var/lib dir", tmp_path / "out")

    def test_are_not_known_where_the_table_of_them_is_damaged(self, tmp_path: Path) -> None:
        data = bytearray(data_of("home"))
        at = data.index(b"fstab", listed("home")[2][0])
        data[at] ^= 0x20  # the folder's checksum does not match any more
        with opened(bytes(data), partition=2) as image:
            assert image.obstacle is not None
            assert "the mounts of /etc/fstab are not shown" in image.obstacle
            assert not image.copy("/srv", tmp_path / "out", check=False).ok


def _mbr_entry(start: int, size: int) -> bytes:
    return (
        bytes((0, 0, 0, 0, 0x83, 0, 0, 0))
        + start.to_bytes(4, "little")
        + size.to_bytes(4, "little")
    )


class TestHostile:
    @pytest.mark.slow
    def test_damage_at_random(self, tmp_path: Path) -> None:
        """In tables, superblocks, folders and `/etc/fstab`; of what holds no files' data."""
        chance = random.Random(10)
        for name in ("home", "logical"):
            good = data_of(name)
            used = [at for at in range(0, len(good), 7) if good[at]]
            used += [446 + at for at in range(66)] + [512 + at for at in range(92)]
            used += [start - MIB + 446 + at for start, _, _ in _logical(name) for at in range(66)]
            for number in range(25):
                bad = bytearray(good)
                for _ in range(chance.choice((1, 5, 50, 500))):
                    bad[chance.choice(used)] = chance.choice((0, 1, 5, 0x7F, 0x80, 0xFF, 0x2F))
                _survives(bytes(bad), tmp_path / f"{name}-{number}")

    @pytest.mark.slow
    def test_lines_at_random(self, tmp_path: Path) -> None:
        chance = random.Random(11)
        words = [
            HOME,
            "/home",
            "/",
            "/home/user",
            "none",
            "bind",
            "LABEL=home",
            "/dev/sda3",
            "\\040",
        ]
        words += [
            "/users",
            "..",
            "/../../home",
            "X-mount.subdir=..",
            "\xff",
            "\t",
            " ",
            "\n",
            "\\057",
        ]
        for number in range(40):
            text = chance.choice((" ", "")).join(chance.choices(words, k=chance.randrange(60)))
            data = with_fstab(text.encode("latin-1")[:900])
            _survives(data, tmp_path / str(number))

    def test_a_thousand_lines_and_partitions_take_no_time(self, tmp_path: Path) -> None:
        parts: list[tuple[str, bytes | Path]] = [
            (str(number), partition_of("home", 5)[: 64 << 10]) for number in range(127)
        ]
        parts.append(("system", partition_of("home", 2)))
        disk = make_gpt(tmp_path / "disk", parts)
        with at_most(PATIENCE_CALLS), open_image(disk) as image:
            assert len(image.partitions) == 128
            paths(image)


def _logical(name: str) -> list[tuple[int, int, str]]:
    return [values for number, values in listed(name).items() if name == "logical" and number > 4]


def _survives(data: bytes, out: Path) -> None:
    """Nothing but a `QBackupError`, soon, and nothing outside."""
    try:
        with at_most(PATIENCE_CALLS), opened(data) as image:
            for node in list(image.walk(on_error=lambda path, error: None)):
                if node.kind == "file" and node.size < MIB:
                    with image.open(node.path) as stream:
                        stream.read()
            image.copy("/", out, check=False)
    except QBackupError as error:
        assert str(error).isprintable()
    assert set(snapshot(out.parent)) >= set()


def test_partitions_count_and_not_what_was_there_before(tools: None, tmp_path: Path) -> None:
    """A disk that was one file system, and then was given an MBR: no program wipes that mark."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "old").write_text("old")
    disk = make_ext4(tmp_path / "disk", 24 * MIB, tree)
    make_table(tmp_path / "table", 24 * MIB, "label: dos\nstart=4096, size=8192, type=83\n")
    new = make_ext4(tmp_path / "new", 4 * MIB)
    with disk.open("r+b") as stream:
        stream.write((tmp_path / "table").read_bytes()[:512])
        stream.seek(4096 * 512)
        stream.write(new.read_bytes())
    with open_image(disk) as image:
        assert places(image) == {1: "/"} and paths(image) == ["/"]
    bare = bytearray(make_ext4(tmp_path / "bare", 8 * MIB, tree).read_bytes())
    bare[:512] = (tmp_path / "table").read_bytes()[:512]  # nothing is where the table says
    with opened(bytes(bare)) as image:
        assert image.partitions == () and "/old" in paths(image)


def test_a_bare_image_of_something_else_is_no_partition() -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        opened("btrfs")
    assert not isinstance(caught.value, PartitionUnreadable | Damaged)
