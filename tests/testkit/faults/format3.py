"""Format 3: what is wrong under a right HMAC, and its header."""

from __future__ import annotations

from collections.abc import Iterator

from tests.maker import run
from tests.support.tarbytes import archive, header, padded
from tests.testkit.faults.old import damaged, shared
from tests.testkit.oldscenes import VAULT, WORK, OldScene
from tests.testkit.scene import HEADER
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.old.three
    yield from shared(scene, "v3")
    yield from _streams(scene)
    yield from _raw(scenes.old.three_raw)
    yield from _headers(scene)


def _streams(scene: OldScene) -> Iterator[Vector]:
    """Somebody who knows the passphrase has written them, or it was damaged before."""
    stored = scene.stored(WORK)
    unpacked = run(["gzip", "-d"], stdin=scene.decrypted(stored))
    packed = run(["gzip", "-c"], stdin=unpacked)
    named = _image(b"vm2/private.img")
    upward = _image(b"../private.img")
    cases = {
        "magic-changed": ("openssl's first word is another", b"salted__" + stored[8:]),
        "salt-changed": ("the salt is another", stored[:8] + bytes(8) + stored[16:]),
        "block-cut": ("the last block is missing", stored[:-16]),
        "cut-within-a-block": ("the last five bytes are missing", stored[:-5]),
        "block-more": ("a block follows the end", stored + bytes(16)),
        "other-key": ("it is encrypted with another passphrase", scene.encrypted(packed, "guess")),
        "not-encrypted": ("it is not encrypted", packed),
        "gzip-cut": ("the compressed stream is cut", scene.encrypted(packed[:-9])),
        "gzip-more": ("something follows the compressed stream", scene.encrypted(packed + b"x")),
        "not-compressed": ("it is not compressed", scene.encrypted(unpacked)),
        "other-name": ("its inner name is another", scene.encrypted(named)),
        "upward-name": ("its inner name leads upwards", scene.encrypted(upward)),
        "empty": ("nothing is in it", scene.encrypted(b"")),
    }
    for name, (comment, changed) in cases.items():
        yield damaged(
            scene,
            f"v3-stream-{name}",
            f"an encrypted stream under right HMACs: {comment}",
            scene.with_stored(WORK, changed),
        )


def _image(name: bytes) -> bytes:
    data = b"another image"
    return run(["gzip", "-c"], stdin=archive(header(name, size=len(data)), padded(data)))


def _raw(scene: OldScene) -> Iterator[Vector]:
    yield scene.vector("v3-raw-sound", "format 3: not compressed", scene.members)
    first, last = scene.chunks(WORK)[0], scene.chunks(WORK)[-1]
    yield damaged(
        scene,
        "v3-raw-exchanged",
        "not compressed: the outer chunks exchanged",
        scene.exchanged(first, last),
    )
    yield damaged(
        scene,
        "v3-raw-of-another-file",
        "not compressed: the first chunks of two files exchanged",
        scene.exchanged(first, f"{VAULT}.000"),
        **{"work/private.img": "damaged", "vault/private.img": "damaged"},
    )


def _headers(scene: OldScene) -> Iterator[Vector]:
    assert scene.maker.header is not None
    text = scene.maker.header.decode()
    cipher = "crypto-algorithm=aes-256-cbc"
    cases = {
        "cipher-seed": ("unsupported", cipher, "crypto-algorithm=seed-cbc"),
        "cipher-unknown": ("unsupported", cipher, "crypto-algorithm=rot13"),
        "digest-md5": ("unsupported", "hmac-algorithm=SHA512", "hmac-algorithm=MD5"),
        "digest-unknown": ("unsupported", "hmac-algorithm=SHA512", "hmac-algorithm=crc32"),
        "digest-scrypt": ("unsupported", "hmac-algorithm=SHA512", "hmac-algorithm=scrypt"),
        "filter-unknown": ("unsupported", "compression-filter=gzip", "compression-filter=shrink"),
        "filter-with-a-path": (
            "success",
            "compression-filter=gzip",
            "compression-filter=/bin/gzip -3",
        ),
        "filter-missing": ("unsupported", "compression-filter=gzip\n", ""),
        "encrypted-missing": ("unsupported", "encrypted=True\n", ""),
        "encrypted-twice": (
            "unsupported",
            "encrypted=True\n",
            "encrypted=True\nencrypted=False\n",
        ),
        "version-4": ("header altered", "version=3", "version=4"),
        "version-5": ("unsupported", "version=3", "version=5"),
    }
    for name, (expect, old, new) in cases.items():
        changed = text.replace(old, new).encode()
        yield scene.vector(
            f"v3-header-{name}",
            f"format 3: the header, under a right HMAC: {name}",
            scene.proven(HEADER, changed),
            expect=expect,
        )
    for name, new in {"cipher-spelled": "AES-256-CBC", "cipher-short": "aes256"}.items():
        yield scene.vector(
            f"v3-header-{name}",
            f"format 3: the header calls the cipher {new}, as openssl allows",
            scene.proven(HEADER, text.replace("aes-256-cbc", new).encode()),
        )
