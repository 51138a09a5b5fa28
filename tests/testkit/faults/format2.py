"""Format 2: volumes that are wrong under a right HMAC, and zlib around them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from tests.maker import run
from tests.support.tarbytes import sealed
from tests.testkit.faults.old import damaged, shared
from tests.testkit.oldscenes import WORK, OldScene
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector

SECOND = f"{WORK}.001"


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.old.two
    yield from shared(scene, "v2")
    yield from _volumes(scene)
    yield from _stored(scene)
    yield from _zlib(scenes.old.two_zlib)


def _volumes(scene: OldScene) -> Iterator[Vector]:
    """The second volume begins with a header of type M."""
    volume = run(["gzip", "-d"], stdin=scene.decrypted(scene.data(SECOND)))
    left = int(volume[124:135], 8)
    other_name = b"vm1/root.img".ljust(100, b"\0") + volume[100:512]
    other_size = volume[:124] + b"%011o\0" % (left + 512) + volume[136:512]
    cases = {
        "m-header-missing": ("has no M header", volume[512:]),
        "m-header-checksum": (
            "has an M header with a wrong checksum",
            volume[:20] + b"x" + volume[21:],
        ),
        "m-header-name": ("names another member", sealed(other_name) + volume[512:]),
        "m-header-size": ("says that more is to come", sealed(other_size) + volume[512:]),
        "cut": ("is cut by a block", volume[:-512]),
        "empty": ("is empty", b""),
        "a-block-more": ("has a block more", volume + bytes(512)),
        "zeros": ("is nothing but zeros", bytes(len(volume))),
    }
    for name, (comment, changed) in cases.items():
        yield damaged(
            scene,
            f"v2-volume-{name}",
            f"a volume under a right HMAC {comment}",
            scene.proven(SECOND, scene.packed(changed)),
        )
    for name, other in {"twice": f"{WORK}.002", "of-another-file": "vm2/private.img.000"}.items():
        yield damaged(
            scene,
            f"v2-volume-{name}",
            f"a volume is another one that was proven: {name}",
            scene.proven(SECOND, scene.data(other)),
        )


def _stored(scene: OldScene) -> Iterator[Vector]:
    stored = scene.data(SECOND)
    volume = scene.decrypted(stored)
    unpacked = run(["gzip", "-d"], stdin=volume)
    cases = {
        "not-encrypted": ("it is not encrypted", volume),
        "gzip-cut": ("its compressed stream is cut", scene.encrypted(volume[:-9])),
        "gzip-more": ("something follows its compressed stream", scene.encrypted(volume + b"x")),
        "empty": ("it is empty", b""),
        "salt-only": ("it ends behind its salt", stored[:16]),
        "block-cut": ("its last block is missing", stored[:-16]),
        "cut-within-a-block": ("its last five bytes are missing", stored[:-5]),
        "other-key": ("it is encrypted with another passphrase", scene.encrypted(volume, "guess")),
    }
    for name, (comment, changed) in cases.items():
        yield damaged(
            scene,
            f"v2-stored-{name}",
            f"a chunk under a right HMAC: {comment}",
            scene.proven(SECOND, changed),
        )
    yield scene.vector(
        "v2-stored-not-compressed",
        "format 2: one volume of several is not compressed",
        scene.proven(SECOND, scene.encrypted(unpacked)),
    )
    yield scene.vector(
        "v2-stored-in-zlib",
        "format 2: one chunk of several has zlib around it",
        scene.proven(SECOND, zlib.compress(stored)),
    )


def _zlib(scene: OldScene) -> Iterator[Vector]:
    yield scene.vector("v2-zlib-sound", "format 2: zlib around each chunk", scene.members)
    stored = scene.data(SECOND)
    bomb = zlib.compress(b"Salted__" + bytes(200 << 20), 9)
    cases = {
        "cut": ("it is cut by a byte", stored[:-1]),
        "checksum": ("its checksum is another", stored[:-4] + struct.pack(">I", 1)),
        "more": ("a byte follows it", stored + b"\0"),
        "twice": ("there is another one in it", zlib.compress(stored)),
        "nothing": ("nothing is in it", zlib.compress(b"")),
        "not-encrypted": ("what is in it is not encrypted", zlib.compress(bytes(512))),
    }
    for name, (comment, changed) in cases.items():
        yield damaged(
            scene,
            f"v2-zlib-{name}",
            f"zlib around a chunk, under a right HMAC: {comment}",
            scene.proven(SECOND, changed),
        )
    yield scene.vector(
        "v2-zlib-bomb",
        "format 2: zlib around a chunk gives 200 MiB",
        scene.proven(SECOND, bomb),
        expect="limit",
        lost={"work/private.img": "damaged"},
    )
