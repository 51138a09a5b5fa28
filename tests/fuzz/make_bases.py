"""Makes the file systems that `tests.fuzz.image` patches: `python -m tests.fuzz.make_bases`.

They are small, made by the real mkfs.ext4, and committed, so that harnesses run without it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from pathlib import Path

from tests.fuzz.image import BASES, KINDS
from tests.maker import debugfs, index_folders, make_ext4, make_sparse
from tests.maker.realdisks import fill, make_table

KIB = 1024
_PLAIN = "^has_journal,^resize_inode,^metadata_csum"
_OPTIONS = {
    "extents": ("-O", _PLAIN),
    "tables": ("-O", f"{_PLAIN},^extent,^64bit"),
    "inline": ("-O", f"{_PLAIN},inline_data", "-I", "256"),
    "checksums": ("-O", "^has_journal,^resize_inode,metadata_csum"),
    "journal": ("-O", "^resize_inode,^metadata_csum", "-J", "size=1"),
}


def make() -> None:
    """Writes them where they belong."""
    BASES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _store("disk", _make_disk(folder / "disk"))
        _make_tree(folder / "tree")
        for kind in KINDS[:-1]:
            size = 1600 * KIB if kind == "journal" else 192 * KIB
            options = ["-b", "1024", "-N", "64", *_OPTIONS[kind]]
            image = make_ext4(folder / kind, size, folder / "tree", options)
            index_folders(image)
            if kind == "journal":
                _leave_in_use(image, folder)
            _store(kind, image)


def _store(kind: str, image: Path) -> None:
    (BASES / f"{kind}.z").write_bytes(zlib.compress(image.read_bytes(), 9))


def _make_disk(folder: Path) -> Path:
    """An MBR, a system, and in logical partitions its /home and something else."""
    system, home = folder / "system", folder / "home"
    for path in (system / "etc", system / "home", system / "srv", home / "folder"):
        path.mkdir(parents=True)
    (system / "etc/fstab").write_bytes(
        b"/dev/sda1 / ext4\nLABEL=home /home ext4 defaults 0 2\n/dev/sda6 /srv xfs\n".ljust(200)
    )
    (system / "etc/hostname").write_bytes(b"disk\n")
    (system / "folder").symlink_to("/home/folder")
    (home / "folder/file").write_bytes(b"content" * 300)
    for path in sorted(folder.rglob("*")):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    options = ["-b", "1024", "-N", "32", *_OPTIONS["extents"]]
    disk = make_table(
        folder / "disk",
        260 * KIB,
        "label: dos\nlabel-id: 0x1a2b3c4d\nunit: sectors\nstart=16, size=192, type=83\n"
        "start=208, size=310, type=5\n5: start=210, size=192, type=83\n"
        "6: start=404, size=100, type=83\n",
    )
    return fill(
        disk,
        {
            1: make_ext4(folder / "1", 96 * KIB, system, options),
            5: make_ext4(folder / "5", 96 * KIB, home, [*options, "-L", "home"]),
            6: make_sparse(folder / "6", 50 * KIB, {0: b"XFSB"}),
        },
    )


def _make_tree(tree: Path) -> None:
    (tree / "folder/below").mkdir(parents=True)
    (tree / "many").mkdir()
    for number in range(30):
        (tree / f"many/{number:0>80}").touch()
    (tree / "folder/file").write_bytes(b"content" * 300)
    (tree / "small").write_bytes(b"small" * 20)
    with (tree / "sparse").open("wb") as file:
        for number in range(8):
            file.seek(number * 4096)
            file.write(b"piece")
    os.symlink("folder/file", tree / "link")
    os.symlink("z" * 100, tree / "long-link")
    os.link(tree / "small", tree / "folder/second-name")
    for path in sorted(tree.rglob("*")):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)


def _leave_in_use(image: Path, folder: Path) -> None:
    """A new folder is in the journal only."""
    after = Path(shutil.copy(image, folder / "after"))
    debugfs(after, "mkdir new", write=True)
    old, new = image.read_bytes(), after.read_bytes()
    places = [at for at in range(2048, len(new), KIB) if old[at : at + KIB] != new[at : at + KIB]]
    (folder / "blocks").write_bytes(b"".join(new[at : at + KIB] for at in places))
    numbers = ",".join(str(at // KIB) for at in places)
    debugfs(image, "jo", f"jw -b {numbers} {folder / 'blocks'}", "jc", write=True)


if __name__ == "__main__":
    make()
