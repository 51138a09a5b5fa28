"""Makes `tests/vectors/disks`: disks as systems have them, and the beginnings of other contents.

    python -m tests.make_disks

Needs root (for a loop device, as LVM wants one) and these packages of Debian: btrfs-progs
cryptsetup-bin dosfstools e2fsprogs exfatprogs f2fs-tools fdisk genisoimage lvm2 nilfs-tools
ntfs-3g reiserfsprogs squashfs-tools util-linux xfsprogs. The tests need none of them.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from qbackup.image.kinds import HEAD_SIZE
from tests.maker import make_ext4, make_sparse, run
from tests.maker.realdisks import MIB, fill, listed, make_table, probed

FOLDER = Path(__file__).parent / "vectors" / "disks"
U = "1c9f3a2e-0000-4000-8000-00000000000"  # and one more digit
LUKS_UUID = f"{U}9"
_FSTAB_SIZE = 1000  # the tests put other lines in its place

#: By the name that `blkid` has: size in MiB, and the program that makes it.
CONTENTS: dict[str, tuple[int, Sequence[str]]] = {
    "btrfs": (128, ("mkfs.btrfs", "-q", "-L", "a label", "-U", f"{U}1")),
    "xfs": (320, ("mkfs.xfs", "-q", "-L", "xfs label", "-m", f"uuid={U}2")),
    "ntfs": (8, ("mkfs.ntfs", "-q", "-F", "-f", "-L", "windows")),
    "vfat": (8, ("mkfs.vfat", "-n", "EFI", "-i", "1234ABCD")),
    "vfat-32": (64, ("mkfs.vfat", "-F", "32", "-n", "LARGE", "-i", "5678EF01")),
    "exfat": (8, ("mkfs.exfat", "-L", "stick")),
    "swap": (8, ("mkswap", "-q", "-L", "swap", "-U", f"{U}3")),
    "f2fs": (64, ("mkfs.f2fs", "-q", "-l", "flash", "-U", f"{U}4")),
    "nilfs2": (256, ("mkfs.nilfs2", "-q", "-L", "nilfs")),
    "reiserfs": (48, ("mkfs.reiserfs", "-q", "-ff", "-l", "reiser", "-u", f"{U}5")),
    "ext2": (2, ("mkfs.ext2", "-q", "-L", "second", "-U", f"{U}6")),
    "ext3": (8, ("mkfs.ext3", "-q", "-L", "third", "-U", f"{U}7")),
    "ext4": (8, ("mkfs.ext4", "-q", "-L", "fourth", "-U", f"{U}8")),
}
_LUKS = ("cryptsetup", "luksFormat", "-q", "--uuid", LUKS_UUID, "--key-file", "-")
#: The same of programs that want a password, a device of the kernel, or a folder.
_ENCRYPTED = {
    "crypto_LUKS-1": (*_LUKS, "--type", "luks1", "--pbkdf-force-iterations", "1000"),
    "crypto_LUKS-2": (
        *(*_LUKS, "--type", "luks2", "--label", "secret", "--pbkdf", "pbkdf2"),
        *("--pbkdf-force-iterations", "1000"),
    ),
}
_ON_DEVICES = {
    "LVM2_member": (
        "pvcreate",
        "-q",
        "-y",
        "--devicesfile",
        "",
        "--norestorefile",
        "-u",
        "abcdef-ghij-klmn-opqr-stuv-wxyz-012345",
    ),
}


def main() -> None:
    """Writes them where they belong."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        contents = dict(_contents(Path(name)))
        (FOLDER / "contents.json").write_text(json.dumps(contents, indent=1) + "\n")
        for number, make in enumerate((_home, _logical, _fedora, _unreadable, _template)):
            folder = Path(name) / str(number)
            folder.mkdir()
            disk = make(folder)
            _store(make.__name__.strip("_"), disk.read_bytes())
            tables = {str(key): value for key, value in listed(disk).items()}
            (FOLDER / f"{make.__name__.strip('_')}.json").write_text(json.dumps(tables) + "\n")


def _store(name: str, data: bytes) -> None:
    (FOLDER / f"{name}.xz").write_bytes(lzma.compress(data, preset=9))


# Beginnings


def _contents(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    path = folder / "image"
    for name, (size, command) in CONTENTS.items():
        make_sparse(path, size * MIB, {})
        run([*command, str(path)])
        yield _kept(name, path)
    for name, command in _ENCRYPTED.items():
        make_sparse(path, 20 * MIB, {})
        run([*command, str(path)], stdin=b"passphrase")
        yield _kept(name, path)
    for name, command in _ON_DEVICES.items():
        make_sparse(path, 8 * MIB, {})
        with _loop(path) as device:
            run([*command, device])
        yield _kept(name, path)
    (folder / "tree").mkdir()
    (folder / "tree/file").write_bytes(b"content")
    path.unlink()
    run(["mksquashfs", str(folder / "tree"), str(path), "-quiet", "-no-progress"])
    yield _kept("squashfs", path)
    run(["genisoimage", "-quiet", "-V", "A CD", "-o", str(path), str(folder / "tree")])
    yield _kept("iso9660", path)


@contextmanager
def _loop(path: Path) -> Iterator[str]:
    device = os.fsdecode(run(["losetup", "-f", "--show", str(path)])).strip()
    try:
        yield device
    finally:
        run(["losetup", "-d", device])


def _kept(name: str, path: Path) -> tuple[str, dict[str, str]]:
    """Stores the beginning."""
    _store(name, _without_keys(path).read_bytes()[:HEAD_SIZE])
    return name, probed(path)


def _without_keys(path: Path) -> Path:
    """Takes what is encrypted from a volume of LUKS: noise, that takes room and says nothing."""
    with path.open("r+b") as image:
        if image.read(4) == b"LUKS":
            size = path.stat().st_size
            image.truncate(4096)
            image.truncate(size)
    return path


# Disks


def _ext4(
    path: Path, files: Mapping[str, bytes | str | None], *options: str, size: int = 2
) -> Path:
    """A file system with these files; text makes a symbolic link, None a folder."""
    tree = path.with_name(path.name + "-tree")
    tree.mkdir()
    for name, data in files.items():
        place = tree / name
        (place if data is None else place.parent).mkdir(parents=True, exist_ok=True)
        if isinstance(data, str):
            place.symlink_to(data)
        elif data is not None:
            place.write_bytes(data)
    small = ("-b", "1024", "-N", "128", "-O", "^has_journal,^resize_inode", "-m", "0")
    return make_ext4(path, size * MIB, tree, [*small, *options])


def _made(folder: Path, kind: str, *options: str, size: int | None = None) -> Path:
    """A content of `CONTENTS` in a file of its own."""
    usual, command = CONTENTS[kind]
    path = make_sparse(folder / kind, (size or usual) * MIB, {})
    run([*command, *options, str(path)])
    return path


def _home(folder: Path) -> Path:
    """GPT: EFI, a system, a larger /home, swap; by UUID, and the EFI partition by its name."""
    table = "label: gpt\n" + "".join(
        f'size={size}MiB, name="{name}", uuid={U}{digit}\n'
        for digit, (name, size) in enumerate(
            [("EFI System", 8), ("system", 4), ("user data", 6), ("swap", 8), ("spare", 3)]
        )
    )
    disk = make_table(folder / "disk", 40 * MIB, table)
    fstab = (
        f"# <file system> <mount point>\nUUID={U}a / ext4 errors=remount-ro 0 1\n"
        f"UUID={U}b /home ext4 defaults 0 2\n"
        "PARTLABEL=EFI\\040System /boot/efi vfat umask=0077 0 1\n"
        f"UUID={U}3 none swap sw 0 0\ntmpfs /tmp tmpfs nosuid 0 0\n"
        "nas:/export /mnt/nas nfs noauto 0 0\n/srv/data /home/user/data none bind 0 0\n"
    )
    system = {
        "etc/fstab": fstab.ljust(_FSTAB_SIZE, "#").encode(), "etc/hostname": b"laptop\n",
        "boot/efi": None, "tmp": None, "home/hidden": b"below the mount\n", "mnt/nas": None,
        "srv/data/song": b"la la\n", "users": "home", "letter": "users/user/letter.txt",
    }  # fmt: skip
    home = {
        "user/letter.txt": b"Dear reader,\n", "user/data": None, "user/host": "/etc/hostname",
        "user/song": "../../srv/data/song",
    }  # fmt: skip
    return fill(
        disk,
        {
            1: _made(folder, "vfat"),
            2: _ext4(folder / "system", system, "-U", f"{U}a", size=4),
            3: _ext4(folder / "home", home, "-U", f"{U}b", "-L", "home", size=6),
            4: _made(folder, "swap"),
            5: _ext4(folder / "spare", {"old": b"old\n"}, "-U", f"{U}c"),
        },
    )


def _logical(folder: Path) -> Path:
    """MBR with logical partitions; by device names, label and PARTUUID, one inside another."""
    disk = make_table(
        folder / "disk",
        32 * MIB,
        "label: dos\nlabel-id: 0x1a2b3c4d\nsize=4MiB, type=83, bootable\nsize=26MiB, type=f\n"
        "5: size=3MiB, type=83\n6: size=3MiB, type=83\n7: size=8MiB, type=82\n"
        "8: size=3MiB, type=83\n",
    )
    fstab = (
        b"/dev/sda1 / ext4 defaults 0 1\n/dev/sda5\t/var/lib\\040dir\text4\n"
        b'LABEL="the\\040home" /home ext4 defaults 0 2\nPARTUUID=1A2B3C4D-08 /home/data ext4\n'
        b"/dev/sda7 swap swap defaults\n/dev/sda6 /again ext4\n/dev/sdb1 /mnt/usb ext4 noauto\n"
        b"a line that makes no sense\n\xff\xfe\n/dev/sda99 /nowhere ext4\n"
    )
    system = {"etc/fstab": fstab, "var/lib dir": None, "home/data": None, "again": None}
    return fill(
        disk,
        {
            1: _ext4(folder / "1", {**system, "mnt/usb": None, "nowhere": None}, "-U", f"{U}1"),
            5: _ext4(folder / "5", {"cache": b"five\n"}, "-U", f"{U}5"),
            6: _ext4(
                folder / "6",
                {"data/hidden": b"no\n", "user": b"six\n"},
                "-L",
                "the home",
                "-U",
                f"{U}6",
            ),
            7: _made(folder, "swap"),
            8: _ext4(folder / "8", {"deep": b"eight\n"}, "-U", f"{U}8"),
        },
    )


def _fedora(folder: Path) -> Path:
    """GPT: EFI, /boot with ext4, the system in btrfs."""
    table = "label: gpt\nsize=8MiB, type=uefi\nsize=9MiB\nsize=20MiB\n"
    disk = make_table(folder / "disk", 40 * MIB, table)
    boot = _ext4(folder / "boot", {"vmlinuz": b"kernel\n", "grub2/grub.cfg": b"menu\n"}, size=9)
    system = _made(folder, "btrfs", "--mixed", size=20)
    return fill(disk, {1: _made(folder, "vfat"), 2: boot, 3: system})


def _unreadable(folder: Path) -> Path:
    """A system with /home in LUKS, /srv in btrfs and /data in LVM that may be in there."""
    table = "label: gpt\nsize=4MiB\nsize=20MiB\nsize=20MiB\nsize=3MiB\n"
    disk = make_table(folder / "disk", 64 * MIB, table)
    fstab = (
        f"UUID={U}a / ext4\n/dev/mapper/luks-{LUKS_UUID} /home ext4\n"
        f"UUID={U}1 /srv btrfs subvol=@srv\n"
        f"/dev/mapper/vg-data /data xfs\n/dev/disk/by-uuid/{U}d /srv/below ext4\n"
        f"UUID=0000-dead /lost ext4\n"
    )
    system = {
        "etc/fstab": fstab.encode(), "home": None, "srv/below": None, "data": None, "lost": None,
        "etc/hostname": b"sealed\n",
    }  # fmt: skip
    luks = make_sparse(folder / "luks", 20 * MIB, {})
    run([*_ENCRYPTED["crypto_LUKS-2"], str(luks)], stdin=b"passphrase")
    return fill(
        disk,
        {
            1: _ext4(folder / "system", system, "-U", f"{U}a"),
            2: _without_keys(luks),
            3: _made(folder, "btrfs", "--mixed", size=20),
            4: _ext4(folder / "below", {"file": b"below\n"}, "-U", f"{U}d"),
        },
    )


def _template(folder: Path) -> Path:
    """The root image of a template of Qubes 4."""
    disk = make_table(
        folder / "disk",
        24 * MIB,
        'label: gpt\nsize=8MiB, type=uefi, name="EFI System"\n'
        'size=2MiB, type=21686148-6449-6E6F-744E-656564454649, name="BIOS boot partition"\n'
        'size=8MiB, name="Root filesystem"\n',
    )
    fstab = (
        b"/dev/mapper/dmroot / ext4 defaults,discard,noatime 1 1\n"
        b"/dev/xvdb /rw auto noauto,defaults,discard,nosuid,nodev 1 2\n"
        b"/dev/xvdc1 swap swap defaults 0 0\n"
        b"/rw/home /home none noauto,bind,defaults,nosuid,nodev 0 0\n"
        b"/rw/usrlocal /usr/local none noauto,bind,defaults 0 0\n"
        b"/dev/xvdd /usr/lib/modules ext3 defaults,noatime 0 0\n"
        b"tmpfs /dev/shm tmpfs defaults,size=1G 0 0\n"
    )
    system = {
        "etc/fstab": fstab, "etc/hostname": b"template\n", "rw": None, "home/user/.bashrc": b"#\n",
        "usr/local/bin/tool": b"#!/bin/sh\n", "usr/lib/modules": None, "dev/shm": None,
    }  # fmt: skip
    image = _ext4(folder / "system", system, "-U", f"{U}a", size=8)
    return fill(disk, {1: _made(folder, "vfat"), 3: image})


if __name__ == "__main__":
    main()
