"""The scrypt header of a chunk. Its checksum anybody can make; its proof only the passphrase."""

from __future__ import annotations

from collections.abc import Iterator

from tests.testkit.faults.authenticity import checksum, parameters
from tests.testkit.scene import Scene
from tests.testkit.scenes import VAULT, Scenes
from tests.testkit.vector import Vector

CHUNK = f"{VAULT}.000.enc"
DAMAGED = {"vault/private.img": "damaged"}


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.small
    yield from _flipped(scene)
    yield from _parameters(scene)
    yield from _legal(scene)


def _flipped(scene: Scene) -> Iterator[Vector]:
    places = {
        "magic": 0,
        "format-version": 6,
        "log2-n": 7,
        "r": 11,
        "p": 15,
        "salt-first": 16,
        "salt-last": 47,
        "checksum": 48,
        "proof-first": 64,
        "proof-last": 95,
    }
    for name, offset in places.items():

        def flip(data: bytearray, offset: int = offset) -> None:
            data[offset] ^= 0x01

        yield scene.vector(
            f"scrypt-{name}-flipped",
            f"scrypt header: one bit is another ({name.replace('-', ' ')})",
            scene.edited(CHUNK, flip),
            expect="file damaged",
            lost=DAMAGED,
        )

    def salt(data: bytearray) -> None:
        data[30] ^= 0x01
        checksum(data)

    def version(data: bytearray) -> None:
        data[6] = 1
        checksum(data)

    for name, comment, edit in (
        ("salt-forged", "another salt, the checksum fits", salt),
        ("format-version-1", "version 1 of the format, the checksum fits", version),
    ):
        yield scene.vector(
            f"scrypt-{name}",
            f"scrypt header: {comment}",
            scene.edited(CHUNK, edit),
            expect="file damaged",
            lost=DAMAGED,
        )


def _parameters(scene: Scene) -> Iterator[Vector]:
    """(log2 N, r, p) with a checksum that fits: a limit has to be met before it costs anything."""
    most = (1 << 30) - 1
    for name, values, expect in (
        ("n-less", (9, 8, 1), "file damaged"),
        ("n-more", (11, 8, 1), "file damaged"),
        ("n-zero", (0, 8, 1), "file damaged"),
        ("n-one", (1, 8, 1), "file damaged"),
        ("n-63", (63, 8, 1), "limit"),
        ("n-64", (64, 8, 1), "file damaged"),
        ("n-255", (255, 8, 1), "file damaged"),
        ("r-zero", (10, 0, 1), "file damaged"),
        ("r-most", (10, most, 1), "limit"),
        ("r-past-most", (10, most + 1, 1), "file damaged"),
        ("r-all-bits", (10, (1 << 32) - 1, 1), "file damaged"),
        ("p-zero", (10, 8, 0), "file damaged"),
        ("p-most", (1, 1, most), "limit"),
        ("p-all-bits", (10, 1, (1 << 32) - 1), "file damaged"),
        ("r-times-p-past-most", (10, 1 << 15, 1 << 15), "file damaged"),
        ("r-times-p-wraps", (10, 1 << 16, 1 << 16), "file damaged"),
        ("memory", (24, 8, 1), "limit"),
        ("memory-by-r", (10, 1 << 17, 1), "limit"),
        ("time", (20, 8, 64), "limit"),
        ("time-by-p", (10, 8, 1 << 24), "limit"),
    ):
        yield scene.vector(
            f"scrypt-{name}",
            f"scrypt header: log2 N, r, p are {values}, the checksum fits",
            scene.edited(CHUNK, parameters(values)),
            expect=expect,
            lost=DAMAGED,
        )


def _legal(scene: Scene) -> Iterator[Vector]:
    for name, log2_n, r, p in (
        ("r-one", 10, 1, 1),
        ("r-large", 10, 32, 1),
        ("r-odd", 10, 7, 1),
        ("p-many", 10, 1, 32),
        ("p-odd", 10, 8, 3),
        ("n-large", 14, 8, 1),
    ):
        options = ("--logN", str(log2_n), "-r", str(r), "-p", str(p))
        yield scene.vector(
            f"scrypt-legal-{name}",
            f"scrypt header: log2 N, r, p of one chunk are {(log2_n, r, p)}, as it was made with",
            scene.resealed(CHUNK, options),
        )
