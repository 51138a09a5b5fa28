"""A backup that ends too early, at each of its seams and between them.

Where the cut falls exactly between two archives nothing shows it but what is missing; the format
can't tell that an optional file was there.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.testkit.faults.outer import CHUNK
from tests.testkit.scene import Scene
from tests.testkit.scenes import FIREWALL, MAIL, VAULT, WORK, Scenes
from tests.testkit.vector import Vector

IMAGES = ("vault/private.img", "work/private.img", "mail/private.img")
NO_METADATA = {"qubes.xml": "missing"}


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.plain
    yield from _in_front(scene)
    yield from _at_seams(scene)
    yield from _within(scene)


def _in_front(scene: Scene) -> Iterator[Vector]:
    whole = scene.assemble(scene.members)
    first = len(scene.archive(scene.members[0]))
    seams = {
        "a-block-less-one": ("in the first header", 511, "not a backup"),
        "first-extended-header": ("behind the first extended header", 1024, "not a backup"),
        "in-the-header": ("inside backup-header", 1536 + 20, "not a backup"),
        "behind-the-header": ("behind backup-header", first, "header altered"),
        "in-the-copy": ("inside the header's copy", first + 1536 + 50, "header altered"),
    }
    for name, (comment, size, expect) in seams.items():
        yield scene.vector(f"cut-{name}", f"cut {comment}", whole[:size], expect=expect)
    yield scene.vector(
        "cut-behind-the-copy",
        "cut behind the header's copy: nothing says that there was more",
        scene.before("qubes.xml.000.enc"),
        expect="file missing",
        lost=NO_METADATA,
        unseen=[*scene.files],
    )


def _at_seams(scene: Scene) -> Iterator[Vector]:
    missing = dict.fromkeys(IMAGES, "missing")
    yield scene.vector(
        "cut-behind-qubes-xml",
        "cut behind qubes.xml: all images are missing",
        scene.before(f"{VAULT}.000.enc"),
        expect="file missing",
        lost=missing,
        unseen=[*scene.without("qubes.xml")],
    )
    for name, where in (("second", f"{WORK}.001.enc"), ("third", f"{WORK}.002.enc")):
        yield scene.vector(
            f"cut-before-the-{name}-chunk",
            f"cut between two chunks of an image, before its {name} one",
            scene.before(where),
            expect="file damaged",
            lost={"work/private.img": "damaged", "mail/private.img": "missing"},
            unseen=["work/firewall.xml"],
        )
    yield scene.vector(
        "cut-before-an-optional-file",
        "cut before an optional file: its qube's images are whole, the next qube's are missing",
        scene.before(f"{FIREWALL}.000.enc"),
        expect="file missing",
        lost={"mail/private.img": "missing"},
        unseen=["work/firewall.xml"],
    )
    yield scene.vector(
        "cut-before-the-last-file",
        "cut before the last file, an image",
        scene.before(f"{MAIL}.000.enc"),
        expect="file missing",
        lost={"mail/private.img": "missing"},
    )


def _within(scene: Scene) -> Iterator[Vector]:
    start = len(scene.before(CHUNK))
    whole = scene.assemble(scene.members)
    data = 3 * 512
    size = len(scene.data(CHUNK))
    places = {
        "in-a-tar-header": ("inside a tar header", 300),
        "behind-an-extended-header": ("behind an extended header", 512),
        "behind-pax-records": ("between the pax records and the header", 1024),
        "behind-a-tar-header": ("behind a tar header", data),
        "in-a-scrypt-header": ("inside a chunk's own header", data + 50),
        "behind-a-scrypt-header": ("behind a chunk's own header", data + 96),
        "in-a-chunk": ("inside a chunk's data", data + size // 2),
        "a-byte-of-a-chunk": ("one byte before a chunk's end", data + size - 1),
    }
    for name, (comment, offset) in places.items():
        yield scene.vector(
            f"cut-{name}",
            f"cut {comment}",
            whole[: start + offset],
            expect="archive damaged",
            lost={"work/private.img": "damaged", "mail/private.img": "missing"},
            unseen=["work/firewall.xml"],
        )
    last = len(scene.before(f"{MAIL}.000.enc"))
    end = last + data + len(scene.data(f"{MAIL}.000.enc"))
    block = end + -end % 512
    for name, comment, size in (
        ("behind-the-last-byte", "behind the last byte of the last chunk", end),
        ("before-the-zeros", "before the zero blocks at the end", block),
        ("between-the-zeros", "between the two zero blocks at the end", block + 512),
        ("before-the-record", "one block before the last record's end", len(whole) - 512),
        ("a-byte", "one byte before the end", len(whole) - 1),
    ):
        yield scene.vector(f"cut-{name}", f"cut {comment}", whole[:size], expect="archive damaged")
