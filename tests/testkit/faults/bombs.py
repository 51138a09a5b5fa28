"""Small backups that stand for much: what they ask for must meet a limit before it costs."""

from __future__ import annotations

from collections.abc import Iterator

from tests.maker import run
from tests.support.tarbytes import ZEROS, archive, header, old_gnu_sparse, padded, pax_sparse
from tests.testkit.scene import Scene, noise
from tests.testkit.scenes import MAIL, VAULT, Scenes
from tests.testkit.vector import Vector

MIB = 1 << 20
LOST = {"work/private.img": "damaged"}
NAME = b"vm1/private.img"


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.small
    yield from _unpacked(scenes)
    yield from _sizes(scene)
    yield from _counts(scene)


def _unpacked(scenes: Scenes) -> Iterator[Vector]:
    """bzip2 makes 1 GiB of zeros 785 bytes."""
    scene = scenes.one_qube("bomb-bzip2", compression_filter="bzip2")
    tar = archive(header(NAME, size=100), padded(noise(100)))
    zeros = run(["sh", "-c", "head -c 1073741824 /dev/zero | bzip2 -c"])
    first = scene.compressed(tar)
    yield scene.vector(
        "bomb-zeros-behind-an-image",
        "bomb: 1 GiB of zeros behind an image's archive, 785 bytes of bzip2",
        scene.with_stream("vm1/private.img", first + zeros),
        expect="limit",
        lost=LOST,
    )
    text = (
        scene.compressed(header(b"qubes.xml", size=1 << 30)) + zeros + scene.compressed(2 * ZEROS)
    )
    yield scene.vector(
        "bomb-qubes-xml",
        "bomb: qubes.xml has 1 GiB",
        scene.with_stream("qubes.xml", text),
        expect="limit",
        lost={"qubes.xml": "damaged"},
        unseen=[*scene.files],
        files={"vm1/private.img": scene.files["work/private.img"]},
    )
    gzip = scenes.small
    spaces = b" " * (20 * MIB)
    yield gzip.vector(
        "bomb-gzip-qubes-xml",
        "bomb: qubes.xml has 20 MiB of white space, packed 1000:1 by gzip",
        gzip.with_inner("qubes.xml", archive(header(b"qubes.xml", size=len(spaces)), spaces)),
        expect="limit",
        lost={"qubes.xml": "damaged"},
        unseen=[*gzip.files],
        files={
            VAULT: gzip.files["vault/private.img"],
            MAIL: gzip.files["mail/private.img"],
        },
    )
    packed = archive(header(VAULT.encode(), size=4 * MIB), bytes(4 * MIB))
    yield gzip.vector(
        "bomb-that-is-none",
        "an image of 4 MiB that has only zeros and is stored with no hole, 1000:1",
        gzip.with_inner(VAULT, packed),
        files={"vault/private.img": bytes(4 * MIB)},
    )


def _sizes(scene: Scene) -> Iterator[Vector]:
    name = VAULT.encode()
    tebi = 1 << 40
    said = {
        "old-gnu-8-eib": (
            "old-GNU sparse map: a length of 8 EiB, all hole",
            old_gnu_sparse([((1 << 63) - 1, 0)], (1 << 63) - 1, name),
        ),
        "pax-8-eib": (
            "pax sparse map: a length of 8 EiB, all hole",
            pax_sparse([((1 << 63) - 1, 0)], (1 << 63) - 1, name),
        ),
        "old-gnu-64-tib": (
            "old-GNU sparse map: a byte longer than the largest volume, 64 TiB",
            old_gnu_sparse([(64 * tebi + 1, 0)], 64 * tebi + 1, name),
        ),
        "pax-64-tib": (
            "pax sparse map: a byte longer than the largest volume, 64 TiB",
            pax_sparse([(64 * tebi + 1, 0)], 64 * tebi + 1, name),
        ),
        "pebibyte": (
            "inner tar: a plain member says it has 1 PiB",
            header(name, size=1 << 50),
        ),
    }
    for fault, (comment, data) in said.items():
        yield scene.vector(
            f"bomb-{fault}",
            f"bomb: {comment}",
            scene.with_inner(VAULT, archive(data)),
            expect="limit",
            lost={"vault/private.img": "damaged"},
        )
    yield scene.vector(
        "bomb-tebibyte",
        "bomb: inner tar: a plain member says it has 1 TiB, and has 10 KiB",
        scene.with_inner(VAULT, archive(header(name, size=tebi))),
        expect="file damaged",
        lost={"vault/private.img": "damaged"},
    )


def _counts(scene: Scene) -> Iterator[Vector]:
    name = VAULT.encode()
    records = {b"GNU.sparse.major": b"1"}
    count = padded(b"100000001\n")
    map_only = pax_sparse([], 0, name, size=1 << 30, records=records)[:-512] + count
    yield scene.vector(
        "bomb-pax-map-entries",
        "bomb: pax sparse map: it says that it has 100,000,001 entries",
        scene.with_inner(VAULT, archive(map_only)),
        expect="limit",
        lost={"vault/private.img": "damaged"},
    )
    yield scene.vector(
        "bomb-inner-pax-tebibyte",
        "bomb: inner tar: an extended header says that it has 1 TiB",
        scene.with_inner(VAULT, archive(header(b"PaxHeaders/x", size=1 << 40, kind=b"x"))),
        expect="limit",
        lost={"vault/private.img": "damaged"},
    )
