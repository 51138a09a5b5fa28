"""The inner archive of an image, under a right MAC: whoever made the backup may be the enemy."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.tarbytes import (
    GNU,
    RECORD,
    ZEROS,
    archive,
    gnu_long,
    header,
    octal,
    padded,
    pax,
    pax_record,
    pax_records,
)
from tests.testkit.scene import Scene, noise
from tests.testkit.scenes import VAULT, Scenes
from tests.testkit.vector import Vector

NAME = VAULT.encode()
DATA = noise(20) * 35  # 700 bytes that compress well
LOST = {"vault/private.img": "damaged"}


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.small
    yield from _legal(scene)
    yield from _names(scene)
    yield from _types(scene)
    yield from _fields(scene)
    yield from _extended(scene)
    yield from _ends(scene)


def good(scene: Scene, name: str, comment: str, tar: bytes, data: bytes = DATA) -> Vector:
    """The vault's image is this archive, and comes out with these data."""
    return scene.vector(
        name, comment, scene.with_inner(VAULT, tar), files={"vault/private.img": data}
    )


def bad(
    scene: Scene, name: str, comment: str, tar: bytes, *, expect: str = "file damaged"
) -> Vector:
    """The vault's image is this archive, and is lost."""
    return scene.vector(name, comment, scene.with_inner(VAULT, tar), expect=expect, lost=LOST)


def _member(name: bytes = NAME, **options: object) -> bytes:
    return header(name, size=len(DATA), **options) + padded(DATA)  # type: ignore[arg-type]


def _legal(scene: Scene) -> Iterator[Vector]:
    size = b"%d" % len(DATA)
    ways = {
        "plain": ("a plain member", _member()),
        "old-type": ("a plain member of type NUL", _member(kind=b"\0")),
        "gnu-magic": ("a plain member with GNU tar's magic", _member(magic=GNU)),
        "prefix": ("the folder stands in the prefix field", _member(b"private.img", prefix=b"vm1")),
        "size-base-256": (
            "the size is a base-256 number",
            _member(fields={124: b"\x80" + len(DATA).to_bytes(11, "big")}),
        ),
        "pax-path": ("a pax record gives the name", pax({b"path": NAME}) + _member(b"other")),
        "pax-size": (
            "a pax record gives the size, the header's own is 0, as past 8 GiB",
            pax({b"size": size}) + header(NAME) + padded(DATA),
        ),
        "pax-time": (
            "a pax record gives the time, before 1970",
            pax({b"mtime": b"-1.5"}) + _member(),
        ),
        "pax-unknown": ("a pax record that nobody knows", pax({b"QUBES.x": b"\0"}) + _member()),
        "long-name": ("the name stands in a GNU long-name header", gnu_long(NAME) + _member(b"x")),
        "time-most": ("the time is the largest number", _member(fields={136: octal(1 << 80, 12)})),
        "setuid": ("the mode has setuid, which means nothing for an image", _member(mode=0o6777)),
        "user-name-controls": (
            "the user's name has control characters",
            _member(fields={265: b"\x1b[2J"}),
        ),
        "signed-checksum": (
            "the checksum adds signed bytes",
            _member(fields={265: b"\xe9\xe8"}, signed=True),
        ),
    }
    for name, (comment, tar) in ways.items():
        yield good(scene, f"inner-{name}", f"inner tar: {comment}", archive(tar))


def _names(scene: Scene) -> Iterator[Vector]:
    names = {
        "other-file": ("that of another file of the qube", b"vm1/root.img"),
        "other-qube": ("that of another qube's image", b"vm12/private.img"),
        "base-only": ("without its folder", b"private.img"),
        "absolute": ("an absolute path", b"/qubes-testkit/private.img"),
        "dot-dot": ("one that leads upwards", b"vm1/../../private.img"),
        "dot-slash": ("with ./ in front", b"./vm1/private.img"),
        "slash-behind": ("with a slash behind", b"vm1/private.img/"),
        "upper-case": ("in capitals", b"VM1/PRIVATE.IMG"),
        "empty": ("empty", b""),
        "controls": ("with control characters", b"vm1/\x1b[31mprivate.img\n"),
    }
    for name, (comment, path) in names.items():
        tar = archive(_member(path))
        yield bad(scene, f"inner-name-{name}", f"inner tar: the name is {comment}", tar)
    long = archive(pax({b"path": b"vm1/" + b"n" * 4096}) + _member())
    yield bad(
        scene,
        "inner-name-too-long",
        "inner tar: the name is longer than any path",
        long,
        expect="limit",
    )
    long = archive(gnu_long(b"vm1/" + b"n" * 4096) + _member())
    yield bad(
        scene,
        "inner-long-name-too-long",
        "inner tar: the GNU long name is longer than any path",
        long,
        expect="limit",
    )


def _types(scene: Scene) -> Iterator[Vector]:
    kinds = {
        b"1": "hard-link",
        b"2": "symbolic-link",
        b"3": "character-device",
        b"4": "block-device",
        b"5": "folder",
        b"6": "pipe",
        b"7": "contiguous",
        b"M": "continuation",
        b"Z": "unknown",
    }
    for kind, name in kinds.items():
        tar = archive(header(NAME, kind=kind, link=b"/etc/passwd"))
        yield bad(
            scene,
            f"inner-type-{name}",
            f"inner tar: the image is of type {name.replace('-', ' ')}",
            tar,
        )


def _fields(scene: Scene) -> Iterator[Vector]:
    size = len(DATA)
    fields = {
        "size-less": ("size is a block less than the data", {124: octal(size - 512, 12)}),
        "size-more": ("size is a record more than the data", {124: octal(size + RECORD, 12)}),
        "size-zero": ("size is 0", {124: octal(0, 12)}),
        "size-most-octal": ("size is the largest octal number", {124: b"7" * 11 + b"\0"}),
        "size-2-to-63": ("size is 2^63", {124: octal(1 << 63, 12)}),
        "size-most": ("size is the largest base-256 number", {124: b"\x80" + b"\xff" * 11}),
        "size-negative": ("size is negative", {124: octal(-1, 12)}),
        "size-not-octal": ("size is no octal number", {124: b"0000000128x\0"}),
        "magic-v7": ("magic is missing, as before 1988", {257: bytes(8)}),
        "mode-not-octal": ("mode is no octal number", {100: b"rw-r--r-"}),
        "time-not-octal": ("time is no octal number", {136: b"yesterday\0\0\0"}),
    }
    for name, (comment, said) in fields.items():
        tar = archive(_member(fields=said))
        yield bad(scene, f"inner-{name}", f"inner tar: the {comment}", tar)
    flipped = bytearray(archive(_member()))
    flipped[150] ^= 1
    yield bad(scene, "inner-checksum", "inner tar: the checksum does not fit", bytes(flipped))


def _extended(scene: Scene) -> Iterator[Vector]:
    records = {
        "length-zero": ("a record's length is 0", b"0 path=x\n"),
        "length-too-long": ("a record's length leads past the records", b"99 path=x\n"),
        "no-newline": ("a record does not end in a newline", b"9 path=x\0"),
        "size-text": ("the size is text", pax_record(b"size", b"big")),
        "size-negative": ("the size is negative", pax_record(b"size", b"-700")),
        "size-less": ("the size is less than the data", pax_record(b"size", b"100")),
        "size-more": ("the size is more than the data", pax_record(b"size", b"20000")),
        "size-2-to-63": ("the size is 2^63", pax_record(b"size", b"%d" % (1 << 63))),
        "time-text": ("the time is text", pax_record(b"mtime", b"now")),
        "path-nul": ("the name holds a NUL", pax_record(b"path", NAME + b"\0")),
    }
    for name, (comment, data) in records.items():
        tar = archive(pax(data) + _member())
        yield bad(scene, f"inner-pax-{name}", f"inner tar, pax: {comment}", tar)
    whole = archive(pax(pax_records({b"path": NAME}), kind=b"g") + _member())
    yield bad(scene, "inner-pax-global", "inner tar, pax: a global header", whole)
    yield bad(
        scene,
        "inner-pax-too-long",
        "inner tar, pax: the records are longer than 64 KiB",
        archive(pax(pax_record(b"comment", b"x" * 65_536)) + _member()),
        expect="limit",
    )
    yield bad(
        scene,
        "inner-pax-no-member",
        "inner tar, pax: no member stands behind an extended header",
        archive(pax({b"path": NAME})),
    )


def _ends(scene: Scene) -> Iterator[Vector]:
    member = _member()
    yield good(scene, "inner-one-zero-block", "inner tar: ends in one zero block", member + ZEROS)
    yield good(
        scene,
        "inner-unpadded",
        "inner tar: data are not padded, two zero blocks follow, as Qubes' own writer does it",
        header(NAME, size=len(DATA)) + DATA + 2 * ZEROS,
    )
    yield good(
        scene,
        "inner-much-padding",
        "inner tar: 1 MiB less a record of zeros behind the end",
        archive(member) + bytes((1 << 20) - 2 * RECORD),
    )
    ends = {
        "empty-archive": ("is an archive of nothing", archive()),
        "no-bytes": ("has no bytes", b""),
        "no-end": ("has no end", member),
        "half-an-end": ("has half a zero block at its end", member + ZEROS[:256]),
        "cut-in-data": ("ends inside its data", member[:800]),
        "cut-in-header": ("ends inside its header", member[:400]),
        "padding-not-zero": (
            "has something in its padding",
            archive(member[: 512 + len(DATA)] + b"\x01" * (-len(DATA) % 512)),
        ),
        "garbage-behind": ("has a byte behind its end", archive(member)[:-1] + b"\x01"),
        "second-file": ("has a second file", archive(member, header(b"vm1/root.img"))),
        "same-file-twice": ("has the file twice", archive(member, member)),
        "file-behind-the-end": (
            "has another archive behind its end",
            archive(member) + archive(member),
        ),
        "folder-first": ("has its folder in front", archive(header(b"vm1/", kind=b"5"), member)),
        "text": ("is text", b"not a tar archive\n" * 100),
    }
    for name, (comment, tar) in ends.items():
        yield bad(scene, f"inner-{name}", f"inner tar: it {comment}", tar)
    yield bad(
        scene,
        "inner-too-much-padding",
        "inner tar: 2 MiB of zeros behind the end",
        archive(member) + bytes(2 << 20),
        expect="limit",
    )
