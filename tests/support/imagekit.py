"""A tree with everything that a home can have, and images of it by the real mkfs.ext4."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

from qbackup.image import Image
from qbackup.image.ext4.filesystem import Ext4
from qbackup.image.ext4.inode import Inode
from tests.maker import index_folders, make_ext4

MIB = 1 << 20
UNDECODABLE = b"caf\xe9"
CONTROL = b"a\x1b[31m\nb\x7f"

#: Options of mkfs.ext4: what real images have, and what old ones had.
KINDS: dict[str, Sequence[str]] = {
    "default": (),
    "4k": ("-b", "4096"),
    "1k": ("-b", "1024"),
    "64k": ("-b", "65536"),
    "no-journal": ("-O", "^has_journal"),
    "64bit": ("-O", "64bit"),
    "32bit": ("-O", "^64bit"),
    "no-checksums": ("-O", "^metadata_csum"),
    "seeded-checksums": ("-O", "metadata_csum,metadata_csum_seed"),
    "inline": ("-O", "inline_data", "-I", "256"),
    "inline-1k-inodes": ("-O", "inline_data", "-I", "1024", "-b", "4096"),
    "small-inodes": ("-I", "128"),
    "no-extents": ("-O", "^extent,^64bit,^metadata_csum"),
    "no-extents-1k": ("-O", "^extent,^64bit", "-b", "1024"),
    "meta-groups": ("-O", "meta_bg,^resize_inode,^flex_bg", "-b", "1024", "-g", "1024"),
    "small-groups": ("-O", "^flex_bg", "-b", "1024", "-g", "1024"),
    "clusters": ("-O", "bigalloc", "-C", "16384"),
    "no-types": ("-O", "^filetype"),
    "ext2": ("-t", "ext2"),
    "ext3": ("-t", "ext3"),
}


def ext4_of(image: Image) -> Ext4:
    """Gives the file system with ``/``."""
    system = image._tree.system_of(image.stat("/"))
    assert isinstance(system, Ext4)
    return system


def inode_of(image: Image, path: str) -> Inode:
    """Gives the inode at a path."""
    stat = image.stat(path).stat
    assert isinstance(stat, Inode)
    return stat


def make_tree(folder: Path) -> Path:
    """Files of every kind of size and name, links, modes and times."""
    folder.mkdir()
    for name, data in _files().items():
        path = os.fsencode(folder) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
    _links(folder)
    _sparse(folder / "sparse")
    deep = folder.joinpath(*["a-folder-in-a-folder"] * 60)
    deep.mkdir(parents=True)
    (deep / "deep").write_bytes(b"deep down")
    many = folder / "many"
    many.mkdir()
    for number in range(400):
        (many / f"a file with a rather long name, number {number:06}").write_bytes(b"%d" % number)
    _modes(folder)
    return folder


def _files() -> dict[bytes, bytes]:
    noise = random.Random(7).randbytes
    return {
        b"empty": b"",
        b"small": b"a line\n",
        b"sixty": noise(60),
        b"hundred": noise(100),
        b"five-hundred": noise(500),
        b"one-block": noise(4096),
        b"large": noise(3 * MIB + 17),
        b"zeros": bytes(200_000),
        b"Documents/keys.kdbx": noise(2048),
        b"Documents/letter.txt": b"Dear reader,\n",
        b"n" * 255: b"a long name",
        UNDECODABLE: b"latin-1",
        CONTROL: b"control characters",
        "Ünïcödé/ẅ".encode(): b"unicode",
        b"blank /  ": b"blanks",
    }


def _links(folder: Path) -> None:
    os.symlink("Documents/letter.txt", folder / "short-link")
    os.symlink("Documents", folder / "folder-link")
    os.symlink("/Documents/letter.txt", folder / "absolute-link")
    os.symlink("../../../../etc/passwd", folder / "upwards-link")
    os.symlink("x" * 59, folder / "link-59")
    os.symlink("x" * 60, folder / "link-60")
    os.symlink("y" * 61, folder / "link-61")
    os.symlink("./" * 500 + "small", folder / "long-link")
    os.symlink("loop-b", folder / "loop-a")
    os.symlink("loop-a", folder / "loop-b")
    os.link(folder / "small", folder / "second-name")
    os.link(folder / "small", folder / "Documents/third-name")


def _sparse(path: Path) -> None:
    """Data in the middle and near the end, more pieces than an inode holds."""
    with path.open("wb") as file:
        for number in range(40):
            file.seek(number * 150_000 + 70_000)
            file.write(b"%05d" % number * 100)
        file.truncate(8 * MIB + 5)


def _modes(folder: Path) -> None:
    (folder / "setuid").write_bytes(b"setuid")
    (folder / "setuid").chmod(0o4755)
    (folder / "private").write_bytes(b"private")
    (folder / "private").chmod(0o600)
    for name, mode in (("read-only", 0o500), ("sticky", 0o1777), ("empty-folder", 0o700)):
        (folder / name).mkdir()
        (folder / name / "file").write_bytes(name.encode())
        (folder / name).chmod(mode)
    (folder / "empty-folder/file").unlink()
    os.utime(folder / "small", (1, 1_000_000_000))
    os.utime(folder / "private", (1, -1_000_000_000))
    os.utime(folder / "empty-folder", (1, 1_234_567_890))


def is_made_wrong(path: bytes, kind: str) -> bool:
    """mkfs.ext4 1.47 cuts a file that ends in a hole where there are inline data."""
    return path == b"/sparse" and kind.startswith("inline")


def make_image(path: Path, tree: Path, kind: str = "default", *, indexed: bool = False) -> Path:
    """An image of one kind, its folders indexed by hashes or not."""
    make_ext4(path, 64 * MIB, tree, KINDS[kind])
    if indexed:
        index_folders(path)
    return path
