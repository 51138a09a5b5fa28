"""Makes the backups in `tests/vectors/foreign` again: `python -m tests.make_foreign_vectors`.

Of each kind there are two with the same passphrase and the same names: `new`, and `old`, which is
longer, as a device holds it that the newer one was then written onto.
"""

from __future__ import annotations

import lzma
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.maker import BackupMaker, Format2Maker, Format3Maker

FOLDER = Path(__file__).parent / "vectors/foreign"
KIB = 1024
PASSPHRASE = "written over"
IDS = {"new": "20240917T101112-0002", "old": "20230101T000000-0001"}
SIZES = {"new": (10 * KIB, 5 * KIB), "old": (22 * KIB, 15 * KIB, 3 * KIB)}
_PARTS: dict[str, Any] = {"chunk_size": 4 * KIB}
_VOLUMES: dict[str, Any] = {"tape_length": 10}

KINDS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "4-gzip": (BackupMaker, {"compression_filter": "gzip", **_PARTS}),
    "4-raw": (BackupMaker, {"compression_filter": None, **_PARTS}),
    "3-gzip": (Format3Maker, {"compression_filter": "gzip", **_PARTS}),
    "3-plain": (Format3Maker, {"compression_filter": None, "encrypted": False, **_PARTS}),
    "2-gzip": (Format2Maker, {"compression_filter": "gzip", "encrypted": False, **_VOLUMES}),
    "2-encrypted": (Format2Maker, _VOLUMES),
}


def images(kind: str, age: str) -> dict[str, bytes]:
    """Gives the images of a backup, by qube."""
    noise = random.Random(f"{kind} {age}")
    return dict(zip(("work", "vault", "spare"), map(noise.randbytes, SIZES[age]), strict=False))


def read(kind: str, age: str) -> bytes:
    """Gives a backup."""
    return lzma.decompress((FOLDER / f"{kind}-{age}.xz").read_bytes())


def make(kind: str, age: str) -> None:
    """Makes a backup and stores it."""
    maker, options = KINDS[kind]
    if maker is BackupMaker:
        options = {**options, "backup_id": IDS[age]}
    with tempfile.TemporaryDirectory() as folder:
        made = maker(Path(folder), passphrase=PASSPHRASE, **options)
        for qube, image in images(kind, age).items():
            made.add_qube(qube, files={"private.img": image})
        data = made.write(Path(folder) / "backup").read_bytes()
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{kind}-{age}.xz").write_bytes(lzma.compress(data))


def main() -> None:
    """Makes all of them."""
    for kind in KINDS:
        for age in IDS:
            make(kind, age)


if __name__ == "__main__":
    main()
