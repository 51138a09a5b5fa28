"""Tar headers of the outer archive, field by field. Nobody needs the passphrase to forge them.

The header of the image's second chunk is forged; what stands behind a header that can't be
believed can't be found, what stands before it is whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.tarbytes import GNU, RECORD, archive, header, octal, padded
from tests.testkit.scene import HEADER, Scene
from tests.testkit.scenes import WORK, Scenes
from tests.testkit.vector import Vector

CHUNK = f"{WORK}.001.enc"
NAME = CHUNK.encode()
#: What a broken header there costs: the file it is in, and all that stands behind.
BROKEN = {"work/private.img": "damaged", "mail/private.img": "missing"}
BEHIND = ("work/firewall.xml",)
DAMAGED = {"work/private.img": "damaged"}


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.plain
    yield from _broken(scene)
    yield from _sizes(scene)
    yield from _types(scene)
    yield from _without_meaning(scene)
    yield from _behind_another_file(scene)
    yield from _planted(scene)
    yield from _no_backup(scene)


def _planted(scene: Scene) -> Iterator[Vector]:
    """Members that anybody can write, at the end of the backup; each has no data."""
    names = [NAME.rpartition(b"/")[0] + b"/x%d.000.enc" % number for number in range(3)]
    names += [b"other/x%02d.000.enc" % number for number in range(20)]
    names += [b"stray%02d" % number for number in range(20)]
    names += [NAME] * 20
    yield scene.vector(
        "added-planted-members",
        "outer tar: 63 empty members are added at the end: three files of a qube, twenty of no"
        " qube, twenty that are no part of a backup, and twenty times a chunk that is there",
        scene.assemble(scene.members) + archive(*map(header, names)),
        expect="file damaged",
        lost={f"work/x{number}": "damaged" for number in range(3)},
        warnings=["other/x00", "stray00", CHUNK.removesuffix(".enc")],
    )


def _forged(
    scene: Scene, *, name: bytes = NAME, size: int | None = None, **fields: object
) -> bytes:
    data = scene.data(CHUNK)
    said = len(data) if size is None else size
    block = header(name, size=said, **fields)  # type: ignore[arg-type]
    return scene.with_archive(CHUNK, archive(block, padded(data)))


def _patched(scene: Scene, offset: int, data: bytes) -> bytes:
    """Bytes of the header changed, and not its checksum."""
    whole = bytearray(archive(header(NAME, size=len(scene.data(CHUNK))), padded(scene.data(CHUNK))))
    whole[offset : offset + len(data)] = data
    return scene.with_archive(CHUNK, bytes(whole))


def _broken(scene: Scene) -> Iterator[Vector]:
    faults = {
        "name-altered": (
            "a letter of the name is another, the checksum is not made again",
            0,
            b"x",
        ),
        "size-altered": ("the size is altered, the checksum is not made again", 134, b"7"),
        "checksum-altered": ("a digit of the checksum is another", 149, b"7"),
        "checksum-blank": ("the checksum is blank", 148, b" " * 8),
        "checksum-not-octal": ("the checksum is no octal number", 148, b"0x1234\0 "),
        "checksum-negative": ("the checksum is a negative base-256 number", 148, b"\xff" * 8),
        "magic-altered": ("the header has no magic", 257, b"vstar"),
        "last-byte-altered": ("the last byte of the header is another", 511, b"\x01"),
    }
    for name, (comment, offset, data) in faults.items():
        yield scene.vector(
            f"outer-{name}",
            f"outer tar: {comment}",
            _patched(scene, offset, data),
            expect="archive damaged",
            lost=BROKEN,
            unseen=BEHIND,
        )
    garbage = scene.with_archive(CHUNK, b"\xa5" * RECORD)
    yield scene.vector(
        "outer-garbage-between",
        "outer tar: a record of garbage where a member was",
        garbage,
        expect="archive damaged",
        lost=BROKEN,
        unseen=BEHIND,
    )


def _sizes(scene: Scene) -> Iterator[Vector]:
    right = len(scene.data(CHUNK))
    for name, comment, size in (
        ("one-less", "one byte less than the chunk has", right - 1),
        ("one-more", "one byte more than the chunk has", right + 1),
    ):
        yield scene.vector(
            f"outer-size-{name}",
            f"outer tar: the size is {comment}",
            _forged(scene, size=size),
            expect="file damaged",
            lost=DAMAGED,
        )
    yield scene.vector(
        "outer-size-base-256",
        "outer tar: the size as a base-256 number, which is allowed",
        _forged(scene, fields={124: b"\x80" + right.to_bytes(11, "big")}),
    )
    yield scene.vector(
        "outer-size-spaces",
        "outer tar: the size with spaces in front and behind, as old tars wrote it",
        _forged(scene, fields={124: b"%10o  " % right}),
    )
    faults = {
        "zero": ("is 0, so the chunk stands where a header should", octal(0, 12)),
        "blank": ("is blank, so the chunk stands where a header should", bytes(12)),
        "past-the-end": ("leads past the end of the backup", octal(10_000_000, 12)),
        "octal-most": ("is the largest octal number, 8 GiB", b"7" * 11 + b"\0"),
        "tebibyte": ("is 1 TiB", octal(1 << 40, 12)),
        "2-to-63-less-one": ("is 2^63 - 1", octal((1 << 63) - 1, 12)),
        "2-to-63": ("is 2^63", octal(1 << 63, 12)),
        "most": ("is the largest base-256 number", b"\x80" + b"\xff" * 11),
        "negative": ("is negative", octal(-1, 12)),
        "not-octal": ("has a digit that is not octal", b"00000001380\0"),
    }
    over = ("octal-most", "tebibyte", "2-to-63-less-one")  # more than a chunk may have
    for name, (comment, field) in faults.items():
        yield scene.vector(
            f"outer-size-{name}",
            f"outer tar: the size {comment}; the checksum fits",
            _forged(scene, fields={124: field}),
            expect="archive damaged",
            lost={**BROKEN, "work/private.img": "limit"} if name in over else BROKEN,
            unseen=BEHIND,
        )


def _types(scene: Scene) -> Iterator[Vector]:
    yield scene.vector(
        "outer-type-nul",
        "outer tar: the type is NUL, the old way to say a regular file",
        _forged(scene, kind=b"\0"),
    )
    kinds = {
        b"2": "symbolic-link",
        b"3": "character-device",
        b"4": "block-device",
        b"5": "folder",
        b"6": "pipe",
        b"S": "sparse",
        b"M": "continuation",
        b"Z": "unknown",
    }
    for kind, name in kinds.items():
        yield scene.vector(
            f"outer-type-{name}",
            f"outer tar: a chunk's type says {name.replace('-', ' ')}",
            _forged(scene, kind=kind, link=b"/etc/passwd"),
            expect="file damaged",
            lost=DAMAGED,
            warnings=[CHUNK],
        )
    yield scene.vector(
        "outer-type-hard-link",
        "outer tar: a chunk's type says hard link, which has no data whatever its size says",
        _forged(scene, kind=b"1", link=b"vm12/private.img.000.enc"),
        expect="archive damaged",
        lost=BROKEN,
        unseen=BEHIND,
        warnings=[CHUNK],
    )


def _without_meaning(scene: Scene) -> Iterator[Vector]:
    """In this layer only name, type and size mean something."""
    fields = {
        "mode-most": ("mode is the largest number", {100: b"7777777\0"}),
        "owner-not-octal": ("owner is no number", {108: b"nobody\0\0"}),
        "time-negative": ("time is long before 1970", {136: octal(-(1 << 40), 12)}),
        "time-most": ("time is the largest number", {136: b"7" * 11 + b"\0"}),
        "user-name-controls": ("user's name has control characters", {265: b"\x1b[31mroot\n"}),
        "device-numbers": (
            "device numbers are the largest",
            {329: b"7777777\0", 337: b"7777777\0"},
        ),
        "link-target": ("link target is set on a regular file", {157: b"../../etc/passwd"}),
    }
    for name, (comment, said) in fields.items():
        yield scene.vector(
            f"outer-{name}",
            f"outer tar: the {comment}, which means nothing there",
            _forged(scene, fields=said),
        )
    yield scene.vector(
        "outer-checksum-signed",
        "outer tar: the checksum adds signed bytes, as some old tars did",
        _forged(scene, fields={265: b"\xe9\xe8"}, signed=True),
    )
    yield scene.vector(
        "outer-gnu-magic",
        "outer tar: the magic of old GNU tar",
        _forged(scene, magic=GNU),
    )
    yield scene.vector(
        "outer-ustar-prefix",
        "outer tar: the folder stands in the prefix field",
        _forged(scene, name=b"private.img.001.enc", prefix=b"vm12"),
    )


def _no_backup(scene: Scene) -> Iterator[Vector]:
    whole = scene.assemble(scene.members)
    foreign = archive(header(b"README", size=3), padded(b"hi\n"))
    faults = {
        "empty": ("no bytes at all", b""),
        "one-byte": ("one byte", b"b"),
        "text": ("a text file", b"This is no backup.\n" * 100),
        "zeros": ("nothing but zeros", bytes(RECORD)),
        "random": ("nothing but noise", bytes(range(256)) * 40),
        "garbage-first": ("a block of garbage before the first header", b"\xa5" * 512 + whole),
        "another-tar": ("a tar archive of something else", foreign),
        "gzipped": ("a whole backup, but gzipped", _gzip(whole)),
        "first-checksum": ("the first header's checksum does not fit", _first(whole, 150, b"7")),
    }
    for name, (comment, backup) in faults.items():
        yield scene.vector(
            f"no-backup-{name}", f"not a backup: {comment}", backup, expect="not a backup"
        )
    link = archive(header(HEADER.encode(), kind=b"2", link=b"/etc/passwd"))
    yield scene.vector(
        "no-backup-header-is-a-link",
        "not a backup: backup-header is a symbolic link, and the real one is not there",
        link + scene.after(HEADER),
        expect="unsupported",
    )


def _behind_another_file(scene: Scene) -> Iterator[Vector]:
    comment = "outer archive: another file stands before the header; read from a"
    backup = archive(header(b"README", size=3), padded(b"hi\n")) + scene.assemble(scene.members)
    yield scene.vector("order-header-second-file", f"{comment} file", backup, source="file")
    yield scene.vector(
        "order-header-second-pipe",
        f"{comment} pipe",
        backup,
        expect="not a backup",
        source="pipe",
    )


def _gzip(data: bytes) -> bytes:
    from tests.maker import run

    return run(["gzip", "-c"], stdin=data)


def _first(whole: bytes, offset: int, data: bytes) -> bytes:
    return whole[:offset] + data + whole[offset + len(data) :]
