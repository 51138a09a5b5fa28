"""`backup-header.hmac`, the copy of the header that only the passphrase opens."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator

from tests.maker import cut, drop, extend, flip_byte, get, replace
from tests.testkit.scene import HEADER, HEADER_COPY, Scene
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    yield from _damaged(scenes.small)
    yield from _forged(scenes.small)
    yield from _replaced(scenes.plain, scenes.other)


def parameters(values: tuple[int, int, int]) -> Callable[[bytearray], None]:
    """An edit: other log2 N, r and p with a checksum that fits, as anybody can make it."""

    def edit(data: bytearray) -> None:
        data[7:16] = struct.pack(">BII", *values)
        checksum(data)

    return edit


def checksum(data: bytearray) -> None:
    """The checksum of a scrypt header made again."""
    data[48:64] = hashlib.sha256(data[:48]).digest()[:16]


def _damaged(scene: Scene) -> Iterator[Vector]:
    places = {
        "magic": 0,
        "version": 6,
        "parameters": 7,
        "salt": 20,
        "checksum": 50,
        "first-byte": 96,
        "last-byte": -33,
        "mac": -1,
    }
    for name, offset in places.items():
        yield scene.vector(
            f"copy-{name}-flipped",
            f"the header's copy: a byte is inverted ({name.replace('-', ' ')})",
            flip_byte(scene.members, HEADER_COPY, offset),
            expect="header altered",
        )
    yield scene.vector(
        "copy-proof-flipped",
        "the header's copy: a byte of what proves the passphrase is inverted",
        flip_byte(scene.members, HEADER_COPY, 70),
        expect="wrong passphrase",
    )
    for name, size in (("empty", 0), ("a-header", 96), ("a-byte-less", -1)):
        yield scene.vector(
            f"copy-cut-{name}",
            f"the header's copy: cut ({name.replace('-', ' ')})",
            cut(scene.members, HEADER_COPY, size),
            expect="header altered",
        )
    yield scene.vector(
        "copy-extended",
        "the header's copy: a byte more at its end",
        extend(scene.members, HEADER_COPY, b"\0"),
        expect="header altered",
    )


def _forged(scene: Scene) -> Iterator[Vector]:
    """Changed by somebody who makes the checksum fit: it looks like a wrong passphrase."""

    def salt(data: bytearray) -> None:
        data[20] ^= 0xFF
        checksum(data)

    yield scene.vector(
        "copy-salt-forged",
        "the header's copy: another salt, the checksum fits",
        scene.edited(HEADER_COPY, salt),
        expect="wrong passphrase",
    )
    for name, values, expect in (
        ("n-forged", (11, 8, 1), "wrong passphrase"),
        ("n-most", (63, 8, 1), "limit"),
        ("p-most", (1, 1, (1 << 30) - 1), "limit"),
        ("16-gib", (24, 8, 1), "limit"),
    ):
        yield scene.vector(
            f"copy-{name}",
            f"the header's copy: log2 N, r, p are {values}, the checksum fits",
            scene.edited(HEADER_COPY, parameters(values)),
            expect=expect,
            exit=4 if expect == "limit" else None,
        )


def _replaced(scene: Scene, other: Scene) -> Iterator[Vector]:
    everything = [*scene.without("qubes.xml")]
    yield scene.vector(
        "copy-missing",
        "the header's copy is not there",
        drop(scene.members, HEADER_COPY),
        expect="header altered",
    )
    yield scene.vector(
        "copy-of-another-backup",
        "the header's copy is another backup's, with the same passphrase",
        replace(scene.members, HEADER_COPY, get(other.members, HEADER_COPY)),
        expect="header altered",
    )
    yield scene.vector(
        "header-of-another-backup",
        "backup-header is another backup's, with the same passphrase; the copy is not",
        replace(scene.members, HEADER, get(other.members, HEADER)),
        expect="header altered",
    )
    both = replace(scene.members, HEADER, get(other.members, HEADER))
    both = replace(both, HEADER_COPY, get(other.members, HEADER_COPY))
    yield scene.vector(
        "front-of-another-backup",
        "header and copy are another backup's: not one chunk fits",
        both,
        expect="file damaged",
        lost={
            "qubes.xml": "damaged",
            "vm1/private.img": "damaged",
            "vm12/private.img": "damaged",
            "vm12/firewall.xml": "damaged",
            "vm2/private.img": "damaged",
        },
        unseen=everything,
    )
    yield scene.vector(
        "copy-is-the-plain-header",
        "the header's copy is not encrypted",
        replace(scene.members, HEADER_COPY, scene.data(HEADER)),
        expect="header altered",
    )
    yield scene.vector(
        "copy-is-a-chunk",
        "the header's copy is a chunk of the same backup",
        replace(scene.members, HEADER_COPY, get(scene.members, "qubes.xml.000.enc")),
        expect="wrong passphrase",
    )
    yield scene.vector(
        "copy-tebibyte",
        "the header's copy has 1 MiB more than any",
        replace(scene.members, HEADER_COPY, scene.data(HEADER_COPY) + bytes(1 << 20)),
        expect="limit",
        exit=4,
    )
