"""A backup with files of 5 GiB, nearly all holes: longer than any file on FAT can be."""

from __future__ import annotations

from pathlib import Path

from tests.maker import BackupMaker, make_sparse

LENGTH = 5 << 30


def make_long_backup(folder: Path) -> tuple[Path, str]:
    """Makes a qube with a long image, one with a small image, and a home with a long file."""
    home = folder / "joe"
    home.mkdir()
    make_sparse(home / "disk.img", LENGTH, {LENGTH - 5: b"bytes"})
    (home / "letter").write_text("text")
    maker = BackupMaker(folder / "maker", chunk_size=100_000)
    image = make_sparse(folder / "image", LENGTH, {0: b"first", LENGTH - 4: b"last"})
    maker.add_qube("big", files={"private.img": image, "notes.txt": b"notes"})
    maker.add_qube("small", files={"private.img": b"x" * 5000})
    maker.add_home("joe", home)
    return maker.write(folder / "backup"), maker.passphrase
