"""`/etc/fstab`, as people and installers write it, and as an enemy does."""

from __future__ import annotations

import random

import pytest

from qbackup.image.fstab import (
    ENTRIES_LIMIT,
    SIZE_LIMIT,
    MountLine,
    MountSource,
    parse_fstab,
    parse_source,
)


class TestLines:
    def test_have_four_fields_that_count(self) -> None:
        text = b"UUID=1-2  /home\text4 rw,noatime 0 2 # more\n"
        assert parse_fstab(text) == [MountLine("UUID=1-2", "/home", "ext4", ("rw", "noatime"))]

    def test_may_leave_fields_out(self) -> None:
        assert parse_fstab(b"/dev/sda1 /a\n/dev/sda2 /b xfs") == [
            MountLine("/dev/sda1", "/a", "auto", ("defaults",)),
            MountLine("/dev/sda2", "/b", "xfs", ("defaults",)),
        ]

    def test_have_escapes(self) -> None:
        entry = parse_fstab(rb"LABEL=a\040b\011c /with\040blank\134 ext4")[0]
        assert (entry.source, entry.path) == ("LABEL=a b\tc", "/with blank\\")
        assert parse_fstab(rb"x /not\04an\999escape ext4")[0].path == r"/not\04an\999escape"

    def test_may_end_as_on_windows(self) -> None:
        assert parse_fstab(b"/dev/sda1 /a ext4\r\n")[0].kind == "ext4"

    @pytest.mark.parametrize(
        "line",
        [
            b"", b"  ", b"# /dev/sda1 /a ext4", b"  #x /a", b"/dev/sda1", b"/dev/sda1 none swap",
            b"/dev/sda1 swap swap", b"tmpfs /tmp tmpfs size=1G", b"proc /proc proc",
            b"none /x auto",
            b"/dev/sda1 home ext4", b"/dev/sda1 /a\\000b ext4", b"overlay /x overlay lowerdir=/y",
            b"/dev/sda1 /" + b"a" * 5000 + b" ext4",
        ],
    )  # fmt: skip
    def test_that_mount_nothing_of_a_disk_do_not_count(self, line: bytes) -> None:
        assert parse_fstab(line) == []

    def test_that_bind_count(self) -> None:
        entry = parse_fstab(b"/rw/home /home none noauto,bind 0 0")[0]
        assert entry.is_bind
        assert not parse_fstab(b"/dev/sda1 /a ext4")[0].is_bind

    def test_can_mount_a_part_of_a_file_system(self) -> None:
        assert parse_fstab(b"x /a btrfs rw,subvol=@home")[0].subvolume == "@home"
        assert parse_fstab(b"x /a ext4 X-mount.subdir=b")[0].subvolume == "b"
        assert parse_fstab(b"x /a ext4")[0].subvolume == ""

    @pytest.mark.parametrize(
        ("path", "place"),
        [
            (b"/home/", "/home"), (b"//home//user", "/home/user"), (b"/a/../b/./c", "/b/c"),
            (b"/../..", "/"), (b"/", "/"), (b"//", "/"),
        ],
    )  # fmt: skip
    def test_have_plain_paths(self, path: bytes, place: str) -> None:
        assert parse_fstab(b"x " + path + b" ext4")[0].path == place

    def test_are_not_endless(self) -> None:
        assert len(parse_fstab(b"x /a ext4\n" * 5000)) == ENTRIES_LIMIT
        assert parse_fstab(b"#" * SIZE_LIMIT + b"\nx /a ext4") == []

    def test_of_any_bytes_are_met(self) -> None:
        chance = random.Random(4)
        for _ in range(300):
            for entry in parse_fstab(bytes(chance.choices(b"/a \\0473\n\t#=\"'\xff\0,", k=300))):
                assert entry.path.startswith("/")
                assert ".." not in entry.path.split("/")
                parse_source(entry.source)


class TestSources:
    @pytest.mark.parametrize(
        ("text", "source"),
        [
            ("UUID=ab-CD", MountSource("UUID", "ab-CD")),
            ('UUID="ab"', MountSource("UUID", "ab")),
            ("LABEL='a b'", MountSource("LABEL", "a b")),
            ("LABEL='", MountSource("LABEL", "'")),
            ("PARTUUID=x-01", MountSource("PARTUUID", "x-01")),
            ("PARTLABEL=x", MountSource("PARTLABEL", "x")),
            ("/dev/disk/by-uuid/ab", MountSource("UUID", "ab")),
            (r"/dev/disk/by-label/a\x20b", MountSource("LABEL", "a b")),
            ("/dev/disk/by-partuuid/ab", MountSource("PARTUUID", "ab")),
            ("/dev/sda1", MountSource("DEVICE", "sda", 1)),
            ("/dev/xvda12", MountSource("DEVICE", "xvda", 12)),
            ("/dev/nvme0n1p3", MountSource("DEVICE", "nvme0n1p", 3)),
            ("/dev/mmcblk0p1", MountSource("DEVICE", "mmcblk0p", 1)),
            ("/dev/disk/by-id/ata-X_1-part7", MountSource("DEVICE", "disk/by-id/ata-X_1-part", 7)),
            ("/dev/sda", MountSource("OTHER", "/dev/sda")),
            ("/dev/mapper/luks-ab", MountSource("OTHER", "/dev/mapper/luks-ab")),
            ("nas:/export", MountSource("OTHER", "nas:/export")),
            ("//server/share", MountSource("OTHER", "//server/share")),
            ("/srv", MountSource("OTHER", "/srv")),
            ("=", MountSource("OTHER", "=")),
        ],
    )
    def test_are_told_apart(self, text: str, source: MountSource) -> None:
        assert parse_source(text) == source
