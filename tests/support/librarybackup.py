"""The backup that the library's tests read: two qubes and a home, in chunks of 8 KiB.

It is not compressed, so that it is known which bytes stand in which chunk.
"""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.maker import BackupMaker, Member, assemble, make_sparse

KIB = 1024
CHUNK = 8 * KIB
PASSPHRASE = "zażółć gęślą jaźń"
LINES = [b"%05d Zwierzu, pozycz psu cukr.\n" % n for n in range(752)]
TEXT = b"".join(LINES)  # with a header of 512 bytes just three chunks: only zeros in the fourth
IMAGE_SIZE = 300 * KIB
MIDDLE = random.Random(1).randbytes(20 * KIB)
IMAGE = TEXT[: 4 * KIB] + bytes(96 * KIB) + MIDDLE + bytes(IMAGE_SIZE - 120 * KIB)
NOISE = random.Random(2).randbytes(48 * KIB)  # its archive ends in the seventh chunk


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar archive as somebody could keep in a qube."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


TAR = tar_of({"a": b"first", "b": NOISE})


@dataclass(frozen=True)
class Made:
    """A backup on disk, and the maker of its members."""

    path: Path
    maker: BackupMaker

    @property
    def members(self) -> list[Member]:
        """A new list each time."""
        return self.maker.members()


def make(folder: Path) -> Made:
    """Makes it with the real tools."""
    maker = BackupMaker(
        folder / "maker", passphrase=PASSPHRASE, compression_filter=None, chunk_size=CHUNK
    )
    image = make_sparse(folder / "image", IMAGE_SIZE, {0: TEXT[: 4 * KIB], 100 * KIB: MIDDLE})
    maker.add_qube(
        "personal",
        label="yellow",
        netvm="sys-firewall",
        files={"private.img": image, "text": TEXT, "archive.tar": TAR, "empty": b""},
    )
    maker.add_qube(
        "vault",
        klass="StandaloneVM",
        label="black",
        netvm="",
        template=None,
        files={"private.img": NOISE},
    )
    home = folder / "user"
    (home / "Documents").mkdir(parents=True)
    (home / "Documents/letter").write_bytes(TEXT)
    (home / "link").symlink_to("Documents/letter")
    maker.add_home("user", home)
    return Made(assemble(maker.members(), folder / "backup"), maker)
