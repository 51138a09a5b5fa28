"""The backup that the benchmarks restore: made once by the real tools, at real parameters.

1.2 GiB of image data in two qubes, about 310 MiB stored, N=2^18, r=8, p=5, ten derivations
besides the header's: what a small Qubes system with a 4 GiB dom0 gives.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.maker import BackupMaker

PASSPHRASE = "correct horse battery staple"
SCRYPT = ("--logN", "18", "-r", "8", "-p", "5")
MIB = 1 << 20


def make_image(path: Path, length: int, data_mib: int, seed: int) -> None:
    """A sparse image: runs of half-compressible data, holes between them."""
    chance = random.Random(seed)
    text = b"the quick brown fox jumps over the lazy dog " * 1024
    offset = 0
    with path.open("wb") as image:
        image.truncate(length)
        for left in range(data_mib, 0, -1):
            block = b"".join(chance.randbytes(16384) + text[:49152] for _ in range(16))
            image.seek(offset)
            image.write(block)
            offset += MIB if left % 37 else 50 * MIB


def make_backup(folder: Path) -> Path:
    """The backup below folder; kept from an earlier run if it is there."""
    backup = folder / "backup"
    if backup.exists():
        return backup
    folder.mkdir(parents=True, exist_ok=True)
    make_image(folder / "work.img", 10 << 30, 700, 1)
    make_image(folder / "vault.img", 4 << 30, 520, 2)
    maker = BackupMaker(folder / "maker", passphrase=PASSPHRASE, scrypt_options=SCRYPT)
    maker.add_qube(
        "work",
        files={
            "private.img": folder / "work.img",
            "firewall.xml": b"<firewall/>\n",
            "notes.txt": b"a note\n",
        },
    )
    maker.add_qube(
        "vault", files={"private.img": folder / "vault.img", "firewall.xml": b"<firewall/>\n"}
    )
    part = maker.write(folder / "backup.part")
    part.rename(backup)
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    return backup
