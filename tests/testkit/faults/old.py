"""What formats 3 and 2 share: chunks and their HMACs, passphrases, members that are not there."""

from __future__ import annotations

from collections.abc import Iterator

from tests.maker import drop, flip_byte, replace
from tests.maker.old import HMAC_TEXTS
from tests.testkit.oldscenes import FIREWALL, VAULT, WORK, OldScene
from tests.testkit.scene import Backup
from tests.testkit.vector import Vector

LOST = {"work/private.img": "damaged"}
OPTIONAL = {"work/firewall.xml": "damaged"}


def damaged(scene: OldScene, name: str, comment: str, backup: Backup, **lost: str) -> Vector:
    """A vector in which files are damaged, by default the image of several chunks."""
    return scene.vector(
        name,
        f"format {scene.format}: {comment}",
        backup,
        expect="file damaged",
        lost=lost or LOST,
    )


def shared(scene: OldScene, prefix: str) -> Iterator[Vector]:
    """The same faults for both formats."""
    yield scene.vector(f"{prefix}-sound", f"format {scene.format}: nothing is wrong", scene.members)
    chunks = scene.chunks(WORK)
    places = {"first": chunks[0], "middle": chunks[1], "last": chunks[-1]}
    yield from _chunks(scene, prefix, places)
    yield from _proofs(scene, prefix, places)
    yield from _spellings(scene, prefix, chunks[1])
    yield from _passphrases(scene, prefix)


def _chunks(scene: OldScene, prefix: str, places: dict[str, str]) -> Iterator[Vector]:
    for which, chunk in places.items():
        for side, offset in (("first", 0), ("last", -1)):
            yield damaged(
                scene,
                f"{prefix}-{which}-chunk-{side}-byte-flipped",
                f"of an image's {which} chunk, the {side} byte is inverted",
                flip_byte(scene.members, chunk, offset),
            )
        yield damaged(
            scene,
            f"{prefix}-{which}-chunk-dropped",
            f"an image's {which} chunk is not there",
            drop(scene.members, chunk, f"{chunk}.hmac"),
        )
    first, middle, last = places.values()
    for name, pair in {"first-two": (first, middle), "first-and-last": (first, last)}.items():
        yield damaged(
            scene,
            f"{prefix}-{name}-chunks-exchanged",
            f"the {name.replace('-', ' ')} chunks of an image, with their HMACs, are exchanged",
            scene.exchanged(*pair),
        )
    everything = [*scene.chunks(WORK), *(f"{name}.hmac" for name in scene.chunks(WORK))]
    yield scene.vector(
        f"{prefix}-all-chunks-dropped",
        f"format {scene.format}: all chunks of an image are not there",
        drop(scene.members, *everything),
        expect="file missing",
        lost={"work/private.img": "missing"},
    )
    yield damaged(
        scene,
        f"{prefix}-optional-file-flipped",
        "of a small optional file, a byte is inverted",
        flip_byte(scene.members, f"{FIREWALL}.000", 20),
        **OPTIONAL,
    )


def _proofs(scene: OldScene, prefix: str, places: dict[str, str]) -> Iterator[Vector]:
    for which, chunk in places.items():
        yield damaged(
            scene,
            f"{prefix}-{which}-hmac-dropped",
            f"the HMAC of an image's {which} chunk is not there",
            drop(scene.members, f"{chunk}.hmac"),
        )
    chunk, other = places["middle"], f"{VAULT}.000"
    digits = scene.code(chunk)
    changed = digits[:-1] + ("1" if digits[-1] == "0" else "0")
    texts = {
        "digit-changed": ("one digit is another", f"(stdin)= {changed}"),
        "of-another-chunk": ("it is another chunk's", f"(stdin)= {scene.code(other)}"),
        "cut": ("two digits are missing", f"(stdin)= {digits[:-2]}"),
        "odd": ("a digit is missing", f"(stdin)= {digits[:-1]}"),
        "empty": ("it is empty", ""),
        "no-digits": ("nothing follows the equals sign", "(stdin)= "),
        "no-equals": ("it has no equals sign", digits),
        "no-hex": ("letters stand where digits should", "(stdin)= " + "xy" * 20),
        "bytes": ("it holds a byte that is not ASCII", f"(stdin)= {digits}\u00e9"),
        "long": ("it is longer than 4,096 bytes", f"(stdin)= {digits}" + " " * 5000),
    }
    for name, (comment, text) in texts.items():
        yield damaged(
            scene,
            f"{prefix}-hmac-{name}",
            f"the HMAC of an image's chunk: {comment}",
            scene.proof(chunk, text.encode()),
        )


def _spellings(scene: OldScene, prefix: str, chunk: str) -> Iterator[Vector]:
    digits = scene.code(chunk)
    texts = {
        "openssl-1-1": HMAC_TEXTS["1.1"].format(hex=digits, digest="SHA512"),
        "openssl-3": HMAC_TEXTS["3"].format(hex=digits),
        "no-space": f"(stdin)={digits}\n",
        "capitals": f"(stdin)= {digits.upper()}\n",
        "no-line-end": f"(stdin)= {digits}",
    }
    for name, text in texts.items():
        yield scene.vector(
            f"{prefix}-hmac-spelled-{name}",
            f"format {scene.format}: the HMAC of an image's chunk is spelled otherwise: {name}",
            scene.proof(chunk, text.encode()),
        )


def _passphrases(scene: OldScene, prefix: str) -> Iterator[Vector]:
    first = scene.members[0].name
    wrong = {"wrong": "guess", "longer": f"{scene.maker.passphrase}!", "empty-but-one": "c"}
    for name, passphrase in wrong.items():
        yield scene.vector(
            f"{prefix}-passphrase-{name}",
            f"format {scene.format}: the passphrase does not fit: {name}",
            scene.members,
            expect="wrong passphrase",
            passphrase=passphrase,
        )
    yield scene.vector(
        f"{prefix}-beginning-flipped",
        f"format {scene.format}: the last byte of what is proven first is inverted",
        replace(scene.members, first, _flipped_end(scene.data(first))),
        expect="wrong passphrase",
    )
    yield scene.vector(
        f"{prefix}-beginning-not-proven",
        f"format {scene.format}: the HMAC of what is proven first is not there",
        drop(scene.members, f"{first}.hmac"),
        expect="header altered",
    )
    weak = replace(scene.members, f"{first}.hmac", b"(stdin)= " + b"ab" * 16 + b"\n")
    yield scene.vector(
        f"{prefix}-beginning-proven-by-md5",
        f"format {scene.format}: what is proven first has an HMAC as long as MD5 has it",
        weak,
        expect="unsupported",
    )


def _flipped_end(data: bytes) -> bytes:
    """A header stays well-formed: its last line's end becomes another letter."""
    return data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]
