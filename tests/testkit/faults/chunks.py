"""Chunks flipped, dropped, doubled, exchanged, renamed, cut, extended, and from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from tests.maker import cut, drop, extend, flip_byte, get, rename, replace, swap
from tests.support.tarbytes import archive, header, padded
from tests.testkit.faults.outer import CHUNK, DAMAGED
from tests.testkit.scene import Scene
from tests.testkit.scenes import FIREWALL, MAIL, VAULT, WORK, Scenes
from tests.testkit.vector import Vector

FIRST, LAST = f"{WORK}.000.enc", f"{WORK}.002.enc"
XML = "qubes.xml.000.enc"


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.plain
    yield from _flipped(scene)
    yield from _resized(scene)
    yield from _dropped(scene)
    yield from _moved(scene)
    yield from _from_elsewhere(scene, scenes.other)
    yield from _of_the_metadata(scene, scenes.other)
    yield from _raw(scenes.raw)
    yield from _numbered(scenes)


def _damaged(scene: Scene, name: str, comment: str, backup: object, **lost: str) -> Vector:
    return scene.vector(
        f"chunk-{name}",
        f"chunk: {comment}",
        backup,  # type: ignore[arg-type]
        expect="file damaged",
        lost=lost or DAMAGED,
    )


def _flipped(scene: Scene) -> Iterator[Vector]:
    places = {
        "first-byte": 96,
        "middle-byte": 130,
        "last-byte": -33,
        "mac-first-byte": -32,
        "mac-last-byte": -1,
    }
    for which, chunk in (("first", FIRST), ("second", CHUNK), ("last", LAST)):
        for name, offset in places.items():
            if which == "second" or name in ("first-byte", "mac-last-byte"):
                yield _damaged(
                    scene,
                    f"{which}-{name}-flipped",
                    f"of an image's {which} one, a byte is inverted ({name.replace('-', ' ')})",
                    flip_byte(scene.members, chunk, offset),
                )
    yield _damaged(
        scene,
        "only-flipped",
        "of an image's only one, a byte is inverted",
        flip_byte(scene.members, f"{VAULT}.000.enc", 100),
        **{"vault/private.img": "damaged"},
    )
    yield _damaged(
        scene,
        "of-an-optional-file-flipped",
        "of a small optional file, a byte is inverted",
        flip_byte(scene.members, f"{FIREWALL}.000.enc", 100),
        **{"work/firewall.xml": "damaged"},
    )
    yield _damaged(
        scene,
        "two-files-flipped",
        "of two files, a byte is inverted",
        flip_byte(flip_byte(scene.members, CHUNK, 100), f"{MAIL}.000.enc", 100),
        **{"work/private.img": "damaged", "mail/private.img": "damaged"},
    )


def _resized(scene: Scene) -> Iterator[Vector]:
    for name, size in (
        ("emptied", 0),
        ("cut-in-its-magic", 3),
        ("cut-a-byte-before-its-data", 95),
        ("cut-to-its-header", 96),
        ("cut-to-header-and-part-of-a-mac", 127),
        ("cut-to-header-and-a-mac", 128),
        ("cut-in-the-middle", 140),
        ("cut-by-its-mac", -32),
        ("cut-by-a-byte", -1),
    ):
        backup = cut(scene.members, CHUNK, size)
        yield _damaged(scene, name, name.replace("-", " "), backup)
    for name, data in (
        ("a-byte", b"\0"),
        ("a-mac", bytes(32)),
        ("a-block", bytes(512)),
        ("itself", scene.data(CHUNK)),
    ):
        backup = extend(scene.members, CHUNK, data)
        yield _damaged(
            scene, f"extended-by-{name}", f"extended by {name.replace('-', ' ')}", backup
        )


def _dropped(scene: Scene) -> Iterator[Vector]:
    for which, chunk in (("first", FIRST), ("second", CHUNK), ("last", LAST)):
        yield _damaged(
            scene, f"{which}-dropped", f"an image's {which} one is gone", drop(scene.members, chunk)
        )
    yield scene.vector(
        "chunk-all-dropped",
        "chunk: all of an image's are gone",
        drop(scene.members, *scene.chunks(WORK)),
        expect="file missing",
        lost={"work/private.img": "missing"},
    )
    yield scene.vector(
        "chunk-of-an-optional-file-dropped",
        "chunk: a small optional file's only one is gone, which nothing in the format shows",
        drop(scene.members, f"{FIREWALL}.000.enc"),
        unseen=["work/firewall.xml"],
    )


def _moved(scene: Scene) -> Iterator[Vector]:
    other = f"{VAULT}.000.enc"
    yield _damaged(
        scene,
        "two-exchanged",
        "an image's first two are exchanged",
        swap(scene.members, FIRST, CHUNK),
    )
    yield _damaged(
        scene,
        "two-files-exchanged",
        "two images' first ones are exchanged",
        swap(scene.members, FIRST, other),
        **{"work/private.img": "damaged", "vault/private.img": "damaged"},
    )
    yield _damaged(
        scene,
        "replaced-by-its-neighbour",
        "an image's second one is its first once more",
        replace(scene.members, CHUNK, get(scene.members, FIRST)),
    )
    yield _damaged(
        scene,
        "renumbered",
        "an image's last one is called .003",
        rename(scene.members, LAST, f"{WORK}.003.enc"),
    )
    yield _damaged(
        scene,
        "renumbered-far",
        "an image's last one is called .999999999",
        rename(scene.members, LAST, f"{WORK}.999999999.enc"),
    )
    for name, comment, source in (
        ("one-more", "an image's last one stands there once more, as .003", LAST),
        ("of-another-file", "one of another file is added to an image as .003", other),
    ):
        yield scene.vector(
            f"chunk-{name}",
            f"chunk: {comment}; the image lacks nothing",
            scene.inserted(LAST, scene.member(f"{WORK}.003.enc", scene.data(source))),
            warnings=["work/private.img"],
        )
    for name, number in (
        ("four-digits", "0001"),
        ("two-digits", "01"),
        ("no-number", ""),
        ("plus", "+01"),
        ("hex", "0x1"),
    ):
        new = f"{WORK}.{number}.enc".replace("..", ".")
        yield scene.vector(
            f"chunk-number-{name}",
            f"chunk: an image's second one is numbered {number or 'not at all'}",
            rename(scene.members, CHUNK, new),
            expect="file damaged",
            lost=DAMAGED,
            warnings=[new],
        )
    yield scene.vector(
        "chunk-suffix-lost",
        "chunk: the name of an image's second one lacks .enc",
        rename(scene.members, CHUNK, CHUNK.removesuffix(".enc")),
        expect="file damaged",
        lost=DAMAGED,
        warnings=[CHUNK.removesuffix(".enc")],
    )
    yield scene.vector(
        "chunk-in-another-folder",
        "chunk: an image's only one stands in a folder that no qube has",
        rename(scene.members, other, "vm77/private.img.000.enc"),
        expect="file missing",
        lost={"vault/private.img": "missing"},
        warnings=["vm77/private.img"],
    )


def _from_elsewhere(scene: Scene, other: Scene) -> Iterator[Vector]:
    for name, chunk in (("first", FIRST), ("second", CHUNK), ("last", LAST)):
        yield _damaged(
            scene,
            f"{name}-of-another-backup",
            f"an image's {name} one is another backup's, with the same passphrase",
            replace(scene.members, chunk, get(other.members, chunk)),
        )
    backup = scene.members
    for chunk in scene.chunks(WORK):
        backup = replace(backup, chunk, get(other.members, chunk))
    yield _damaged(scene, "all-of-another-backup", "all of an image's are another backup's", backup)
    yield _damaged(
        scene,
        "not-encrypted",
        "an image's second one is not encrypted",
        replace(scene.members, CHUNK, b"plaintext " * 40),
    )
    yield _damaged(
        scene,
        "is-the-header-copy",
        "an image's second one is the header's copy",
        replace(scene.members, CHUNK, get(scene.members, "backup-header.hmac")),
    )


def _of_the_metadata(scene: Scene, other: Scene) -> Iterator[Vector]:
    """Without qubes.xml files come out under their path in the archive, and it is said."""
    faults = {
        "flipped": ("a byte is inverted", flip_byte(scene.members, XML, 100), "damaged"),
        "first-dropped": ("the first is gone", drop(scene.members, XML), "damaged"),
        "last-dropped": ("the last is gone", drop(scene.members, "qubes.xml.001.enc"), "damaged"),
        "emptied": ("the first is emptied", cut(scene.members, XML, 0), "damaged"),
        "of-another-backup": (
            "the first is another backup's",
            replace(scene.members, XML, get(other.members, XML)),
            "damaged",
        ),
        "all-dropped": (
            "all are gone",
            drop(scene.members, *scene.chunks("qubes.xml")),
            "missing",
        ),
    }
    for name, (comment, backup, what) in faults.items():
        yield scene.vector(
            f"metadata-{name}",
            f"chunk: of qubes.xml, {comment}",
            backup,
            expect=f"file {what}",
            lost={"qubes.xml": what},
            unseen=[*scene.files],
            files=by_path(scene),
        )


def by_path(scene: Scene) -> dict[str, bytes]:
    """The plain scene's files as they come out where nobody knows the qubes' names."""
    return {
        VAULT: scene.files["vault/private.img"],
        WORK: scene.files["work/private.img"],
        FIREWALL: scene.files["work/firewall.xml"],
        MAIL: scene.files["mail/private.img"],
    }


def _raw(scene: Scene) -> Iterator[Vector]:
    """Without compression there is no stream whose end would show a loss."""
    first, second, last = scene.chunks("vm1/private.img")
    zeros = [scene.member("vm1/private.img.003.enc", scene.data(last))]
    for name, comment, backup in (
        ("sound", "nothing is wrong with it", scene.members),
        ("first-dropped", "an image's first chunk is gone", drop(scene.members, first)),
        ("second-dropped", "an image's second chunk is gone", drop(scene.members, second)),
        ("last-dropped", "an image's last chunk is gone", drop(scene.members, last)),
        (
            "exchanged",
            "an image's first two chunks are exchanged",
            swap(scene.members, first, second),
        ),
    ):
        sound = name == "sound"
        yield scene.vector(
            f"raw-{name}",
            f"not compressed: {comment}",
            backup,
            expect="success" if sound else "file damaged",
            lost={} if sound else DAMAGED,
        )
    yield scene.vector(
        "raw-last-twice",
        "not compressed: an image's last chunk stands there again as .003; it lacks nothing",
        scene.inserted(last, *zeros),
        warnings=["work/private.img"],
    )
    shorter = scene.sealed("vm1/private.img.002", bytes(512))
    longer = scene.sealed("vm1/private.img.003", bytes(512) + b"\1")
    empty = scene.sealed("vm1/private.img.003", b"")
    yield scene.vector(
        "raw-tail-of-zeros",
        "not compressed: the last chunk is shorter and only zeros, with a right MAC",
        replace(scene.members, last, shorter),
        expect="file damaged",
        lost=DAMAGED,
    )
    yield scene.vector(
        "raw-something-behind",
        "not compressed: something stands behind the inner archive's end, with a right MAC",
        scene.inserted(last, longer),
        expect="file damaged",
        lost=DAMAGED,
    )
    yield scene.vector(
        "raw-empty-chunk-behind",
        "not compressed: an empty chunk with a right MAC stands behind the last, as is allowed",
        scene.inserted(last, empty),
    )


def _numbered(scenes: Scenes) -> Iterator[Vector]:
    """Names go on past .999 with four digits; sorted as text the order is wrong."""
    maker = scenes.maker(
        "thousand",
        compression_filter=None,
        scrypt_options=("--logN", "10", "-r", "1", "-p", "1"),
    )
    maker.add_qube("work", files={"private.img": scenes.file(b"")})
    data = bytes(i % 251 for i in range(20))
    scene = scenes.finished(maker, {"work/private.img": data})
    scene.shorten_metadata()
    tar = archive(header(VAULT.encode(), size=len(data)), padded(data))
    pieces = [tar[i : i + 10] for i in range(0, len(tar), 10)]
    yield scene.vector(
        "chunk-past-999",
        f"chunk: an image has {len(pieces)} of them; numbers past .999 have four digits",
        scene.with_stream("vm1/private.img", *pieces),
    )
    exact = scenes.maker("exact", compression_filter=None, chunk_size=2048)
    exact.add_qube("work", files={"private.img": scenes.file(data)}, qubes_writer=["private.img"])
    scene = scenes.finished(exact, {"work/private.img": data})
    scene.shorten_metadata()
    stream = scene.stream(VAULT)
    pieces = [stream[:-1024], stream[-1024:], b""]
    scene.members = tuple(scene.with_stream(VAULT, *pieces))
    yield scene.vector(
        "chunk-empty-last",
        "chunk: an image ends just at a full one, so an empty one follows",
        scene.members,
    )
    last = scene.chunks("vm1/private.img")[-1]
    yield scene.vector(
        "chunk-empty-last-dropped",
        "chunk: the empty one behind a full last one is gone, and nothing with it",
        drop(scene.members, last),
    )
