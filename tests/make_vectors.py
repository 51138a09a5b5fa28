"""Makes the committed vectors again: `python -m tests.make_vectors [NAME…]`, from the project's
folder.

`old_vectors` has the recipes of formats 3 and 2. Salts are random, so the backups differ each time;
what they hold does not. Each covers several things at once, because every stored member takes
10 KiB; `about` in the description says what.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.maker import BackupMaker, Collector, make_sparse, published_header
from tests.support import vectorfiles
from tests.support.settingsdata import settings_of_r4

KIB = 1024
ID = "20240917T101112-1234"
TEXT = b"".join(b"%06d The quick brown fox jumps over the lazy dog.\n" % n for n in range(80))
MTIME = 1_726_567_872  # 2024-09-17 10:11:12 UTC


def noise(size: int) -> bytes:
    """Bytes that don't compress, the same each time."""
    return random.Random(size).randbytes(size)


def holed(path: Path) -> Path:
    """An image of 3 MiB: data at the start, in the middle and in the last block, else holes."""
    size = 3 * KIB * KIB + 4 * KIB
    return make_sparse(path, size, {0: TEXT, 1024 * KIB: noise(512), size - 512: noise(512)})


def zeros(path: Path) -> Path:
    """An image of 2 MiB with nothing in it."""
    return make_sparse(path, 2 * KIB * KIB, {})


def gzip_published_header(folder: Path) -> BackupMaker:
    """gzip; the header exactly of the published procedure; an old-GNU sparse image; dom0 as well
    as a qube known.
    """
    maker = BackupMaker(folder / "maker", header=published_header(ID))
    maker.add_qube("personal", label="yellow", files={"private.img": holed(folder / "image")})
    return maker


def pigz_home(folder: Path) -> BackupMaker:
    """pigz; dom0's home: modes, symbolic and hard links, odd names; the user's name has a dot."""
    maker = BackupMaker(folder / "maker", compression_filter="pigz")
    maker.add_home("jo.doe", make_home(folder / "jo.doe"))
    return maker


def bzip2_utf8_passphrase(folder: Path) -> BackupMaker:
    """bzip2; a passphrase that is not ASCII; a sparse image by Qubes' own writer; the path has no
    slash in qubes.xml.
    """
    maker = BackupMaker(folder / "maker", compression_filter="bzip2", passphrase="Grüße 🔑 żółw")
    files = {"private.img": holed(folder / "image")}
    maker.add_qube("untrusted", qid=12, backup_path="vm12", files=files, qubes_writer=files)
    return maker


def none_latin_passphrase(folder: Path) -> BackupMaker:
    """No compression; a passphrase of letters that Latin-1 and Windows-1252 have too."""
    maker = BackupMaker(folder / "maker", compression_filter=None, passphrase="Grüße aus Köln")
    maker.add_qube("personal", volumes={}, files={"notes.txt": b"Nothing to see here.\n"})
    return maker


def gzip_r401rc1(folder: Path) -> BackupMaker:
    """Backup as Qubes R4.0.1-rc1 wrote it: qubes.xml, in several chunks here, is bound to
    ../../qubes.xml.NNN and called /qubes.xml inside.
    """
    maker = BackupMaker(folder / "maker", chunk_size=300)
    maker.is_r401rc1 = True
    maker.add_qube("work", label="red", files={"private.img": zeros(folder / "image")})
    return maker


def gzip_folders(folder: Path) -> BackupMaker:
    """Folders in format 4, as development versions of R4.0 and extensions write them: one that
    format 3 has too, and one of any name.
    """
    from tests.support.old_vectors import aged, make_folder

    maker = BackupMaker(folder / "maker")
    files: dict[str, bytes | Path] = {"private.img": zeros(folder / "image")}
    files["apps.templates"] = make_folder(folder / "templates")
    files["my.extension"] = make_folder(folder / "extension")
    holed(folder / "extension/data").chmod(0o640)
    aged(folder / "extension")
    maker.add_qube("fedora", qid=7, klass="TemplateVM", template=None, files=files)
    return maker


def pbzip2_plain_image(folder: Path) -> BackupMaker:
    """pbzip2, more than one bzip2 stream; an image with no holes, a plain member of type 0."""
    maker = BackupMaker(folder / "maker", compression_filter="pbzip2")
    maker.add_qube("work", label="blue", files={"private.img": noise(64) * (32 * KIB)})
    return maker


def xz_many_chunks(folder: Path) -> BackupMaker:
    """xz; twelve small chunks of one file."""
    maker = BackupMaker(folder / "maker", compression_filter="xz", chunk_size=4096)
    maker.add_qube("work", label="blue", files={"private.img": noise(46 * KIB)})
    return maker


def lzma_long_passphrase(folder: Path) -> BackupMaker:
    """lzma; a passphrase past the 2,047 bytes that scrypt reads of `ID!NAME!PASSPHRASE`, and the
    cut is in the middle of a UTF-8 character; an all-zero image by GNU tar.
    """
    passphrase = "long passphrase " * 125 + "x" + "öäüß" * 20
    maker = BackupMaker(folder / "maker", compression_filter="lzma", passphrase=passphrase)
    maker.add_qube("vault", label="black", netvm="", files={"private.img": zeros(folder / "image")})
    return maker


def zstd_zero_image(folder: Path) -> BackupMaker:
    """zstd; an all-zero image by Qubes' own writer, its map is the one entry (end, 0); a
    standalone qube.
    """
    maker = BackupMaker(folder / "maker", compression_filter="zstd")
    files = {"private.img": zeros(folder / "image")}
    maker.add_qube("games", klass="StandaloneVM", files=files, qubes_writer=files)
    return maker


def zstdmt_real_scrypt(folder: Path) -> BackupMaker:
    """zstdmt; the chunk of notes.txt with the parameters of a 4 GiB dom0, N=2^18 r=8 p=5; the
    others are cheap.
    """
    maker = BackupMaker(folder / "maker", compression_filter="zstdmt")
    maker.scrypt_options_for["vm1/notes.txt.000"] = ("--logN", "18", "-r", "8", "-p", "5")
    maker.add_qube("sys-usb", volumes={}, files={"notes.txt": b"Nothing to see here.\n"})
    return maker


def none_empty_file(folder: Path) -> BackupMaker:
    """No compression and no filter named; a DispVM that has nothing but `empty`, a file of no
    length.
    """
    maker = BackupMaker(folder / "maker", compression_filter=None)
    maker.add_qube("disp1", klass="DispVM", volumes={}, files={"empty": b""})
    return maker


def uncompressed_exact_chunk(folder: Path) -> BackupMaker:
    """compressed=False though gzip is named; every stream ends exactly at a full chunk, so an
    empty one follows.
    """
    header = b"version=4\nencrypted=True\ncompressed=False\ncompression-filter=gzip\n"
    header += b"hmac-algorithm=scrypt\nbackup-id=" + ID.encode() + b"\n"
    maker = BackupMaker(
        folder / "maker", compression_filter=None, header=header, chunk_size=10 * KIB
    )
    maker.add_qube("work", volumes={}, files={"firewall.xml": TEXT})
    return maker


def gzip_early_pipe(folder: Path) -> BackupMaker:
    """Early R4.0, whose tar wrote onto a named pipe: zeros behind each compressed stream, up to a
    record of 10,240 bytes, and chunks cut within them; gzip; a home.
    """
    maker = BackupMaker(folder / "maker", named_pipe=True, chunk_size=8 * KIB)
    maker.add_qube("work", files={"private.img": noise(7 * KIB)})
    maker.add_home("user", aged_home(folder / "user"))
    return maker


def bzip2_early_pipe(folder: Path) -> BackupMaker:
    """Early R4.0, with tar's zeros behind each stream; bzip2; one image by GNU tar, one by Qubes'
    own writer, which puts no zeros there.
    """
    maker = BackupMaker(folder / "maker", compression_filter="bzip2", named_pipe=True)
    image = holed(folder / "image")
    maker.add_qube("work", files={"private.img": image})
    maker.add_qube("mail", files={"private.img": image}, qubes_writer=["private.img"])
    return maker


def aged_home(home: Path) -> Path:
    """A home with one letter in it."""
    home.mkdir()
    (home / "letter").write_bytes(TEXT[:100])
    for path in (home / "letter", home):
        os.utime(path, (MTIME, MTIME))
    return home


def make_home(home: Path) -> Path:
    """A home with what a tree can hold; `home.name` is the user's."""
    _make_files(home)
    _make_links(home)
    _make_odd_names(home)
    for folder, _, files in os.walk(os.fsencode(home), topdown=False):
        for name in [*files, b"."]:
            os.utime(os.path.join(folder, name), (MTIME, MTIME), follow_symlinks=False)
    os.utime(home / "before-1970", (-86_400, -86_400))
    os.utime(home / "empty-folder", (0, 0))
    os.chmod(home / "read-only", 0o500)
    os.utime(home / "read-only", (MTIME + 1, MTIME + 1))
    return home


def _make_files(home: Path) -> None:
    modes = {"private": 0o700, "Documents": 0o755, "empty-folder": 0o1777, "read-only": 0o755}
    for name, mode in modes.items():
        (home / name).mkdir(parents=True)
        os.chmod(home / name, mode)
    files = {
        "Documents/letter.txt": (TEXT[:200], 0o644),
        "private/key": (b"secret\n", 0o400),
        "read-only/file": (b"in a folder that nobody may write to\n", 0o444),
        "setuid": (b"#!/bin/sh\n", 0o4755),
        "setgid": (b"#!/bin/sh\n", 0o2755),
        "empty": (b"", 0o600),
        "before-1970": (b"", 0o644),
    }
    for name, (content, mode) in files.items():
        (home / name).write_bytes(content)
        os.chmod(home / name, mode)
    make_sparse(home / "sparse", 1024 * KIB, {64 * KIB: TEXT[:100]}).chmod(0o640)
    os.chmod(home, 0o700)


def _make_links(home: Path) -> None:
    links = {
        "relative": "Documents/letter.txt",
        "absolute": "/etc/hosts",
        "upwards": "../../etc/passwd",
        "dangling": "no/such/file",
        "rewritten": f"{home.name}/Documents",
        "long-target": "/".join(["a-folder-of-some-length"] * 6),
    }
    for name, target in links.items():
        (home / name).symlink_to(target)
    os.link(home / "Documents/letter.txt", home / "hard-link")
    os.link(home / "relative", home / "hard-link-of-symlink", follow_symlinks=False)


def _make_odd_names(home: Path) -> None:
    names = [
        b"caf\xe9-latin-1",
        "café-utf-8".encode(),
        "right-to-left-\u202egpj.exe".encode(),
        b"new\nline",
        b"escape-\x1b[31mred",
        b"back\\slash",
        b" spaces ",
        b"-rf",
        b"long-" + b"n" * 200,
    ]
    for name in names:
        path = os.path.join(os.fsencode(home), name)
        with open(path, "wb") as file:
            file.write(name)
        os.chmod(path, 0o644)


RECIPES: list[Callable[[Path], BackupMaker]] = [
    gzip_published_header,
    pigz_home,
    bzip2_utf8_passphrase,
    none_latin_passphrase,
    gzip_r401rc1,
    gzip_folders,
    pbzip2_plain_image,
    xz_many_chunks,
    lzma_long_passphrase,
    zstd_zero_image,
    zstdmt_real_scrypt,
    none_empty_file,
    uncompressed_exact_chunk,
    settings_of_r4,
    gzip_early_pipe,
    bzip2_early_pipe,
]


def name_of(recipe: Callable[[Path], Collector]) -> str:
    """The name of a recipe's vector."""
    return recipe.__name__.replace("_", "-")


def make(recipe: Callable[[Path], Collector]) -> None:
    """Writes one vector and its description."""
    from tests.support.old_vectors import UNRESTORED

    name = name_of(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        maker = recipe(folder)
        maker.write(vectorfiles.backup_path(name))
        about = " ".join((recipe.__doc__ or "").split())
        description = vectorfiles.describe(maker, about, expect=UNRESTORED.get(name))
    text = json.dumps(description, indent=1)
    (vectorfiles.FOLDER / f"{name}.json").write_text(text + "\n", "utf-8")


def main(wanted: list[str]) -> None:
    """Makes the vectors named, or all."""
    from tests.support.old_vectors import OLD_RECIPES

    vectorfiles.FOLDER.mkdir(exist_ok=True)
    for recipe in (*RECIPES, *OLD_RECIPES):
        if not wanted or name_of(recipe) in wanted:
            make(recipe)


if __name__ == "__main__":
    main(sys.argv[1:])
