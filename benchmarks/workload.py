"""The backup that the benchmarks restore: made once by the real tools, at real parameters.

1.2 GiB of image data in two qubes, about 310 MiB stored, N=2^18, r=8, p=5, ten derivations
with the header's: what a small Qubes system with a 4 GiB dom0 gives.
"""

from __future__ import annotations

import filecmp
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from qbackup.crypto.scrypt_format import ScryptParameters
from tests.maker import BackupMaker

PASSPHRASE = "correct horse battery staple"
MIB = 1 << 20
GIB = 1 << 30
_IMAGES = {"work": 1, "vault": 2}  # the qubes, and the seed of each one's image


@dataclass(frozen=True)
class Workload:
    """How large the backup is.

    Args:
        parameters: of every derivation.
        data: MiB of data in each qube's image.
        lengths: of each image in bytes, holes included.
    """

    parameters: ScryptParameters
    data: tuple[int, int]
    lengths: tuple[int, int]


FULL = Workload(ScryptParameters(18, 8, 5), (700, 520), (10 * GIB, 4 * GIB))
SMALL = Workload(ScryptParameters(10, 8, 5), (3, 2), (20 * MIB, 10 * MIB))


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


def make_backup(folder: Path, workload: Workload = FULL) -> Path:
    """The backup below folder; kept from an earlier run if it is there."""
    backup = folder / "backup"
    if backup.exists():
        return backup
    shutil.rmtree(folder / "maker", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name, length, data in zip(_IMAGES, workload.lengths, workload.data, strict=True):
        make_image(folder / f"{name}.img", length, data, _IMAGES[name])
    part = _maker(folder, workload.parameters).write(folder / "backup.part")
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    part.rename(backup)
    return backup


def _maker(folder: Path, parameters: ScryptParameters) -> BackupMaker:
    costs = {"--logN": parameters.log2_n, "-r": parameters.r, "-p": parameters.p}
    options = [word for name, value in costs.items() for word in (name, str(value))]
    maker = BackupMaker(folder / "maker", passphrase=PASSPHRASE, scrypt_options=options)
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
    return maker


def check_restored(folder: Path, output: Path) -> None:
    """The restored images are the originals, byte for byte. Raises SystemExit."""
    for name in _IMAGES:
        if not filecmp.cmp(folder / f"{name}.img", output / name / "private.img", shallow=False):
            raise SystemExit(f"{name}: the restored image differs")
