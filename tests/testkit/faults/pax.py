"""Extended headers of the outer archive: pax records, and GNU tar's long names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.support.tarbytes import (
    GNU,
    ZEROS,
    archive,
    gnu_long,
    header,
    padded,
    pax,
    pax_record,
    pax_records,
)
from tests.testkit.faults.outer import BEHIND, BROKEN, CHUNK, DAMAGED, NAME
from tests.testkit.scene import Scene
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector

PAX_LIMIT = 64 * 1024
LONGEST_NAME = 4096


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.plain
    yield from _legal(scene)
    yield from _broken(scene)
    yield from _names(scene)


def _with(scene: Scene, *extended: bytes, name: bytes = NAME, size: int | None = None) -> bytes:
    """The chunk's member with these headers in front of its own."""
    data = scene.data(CHUNK)
    block = header(name, size=len(data) if size is None else size)
    return scene.with_archive(CHUNK, archive(*extended, block, padded(data)))


def _filled(size: int) -> bytes:
    """Records of so many bytes in all; they mean nothing."""
    record = pax_record(b"comment", b"x" * (size - 20))
    return pax_record(b"comment", b"x" * (2 * size - 20 - len(record)))


def _legal(scene: Scene) -> Iterator[Vector]:
    size = b"%d" % len(scene.data(CHUNK))
    path = {b"path": NAME}
    parts = {
        "path": ("path record gives the name", [pax(path)], b"other", None),
        "path-twice": (
            "path record stands there twice, the last counts",
            [pax(pax_record(b"path", b"other") + pax_record(b"path", NAME))],
            b"other",
            None,
        ),
        "size": ("size record gives the size", [pax({b"size": size})], NAME, 0),
        "size-twice": (
            "size record stands there twice, the last counts",
            [pax(pax_record(b"size", b"1") + pax_record(b"size", size))],
            NAME,
            None,
        ),
        "unknown-record": (
            "header has a record nobody knows",
            [pax({b"QUBES.x": b"1"})],
            NAME,
            None,
        ),
        "binary-value": (
            "header has a value with NUL and newlines",
            [pax({b"x": b"\0\n\xff"})],
            NAME,
            None,
        ),
        "time-not-a-number": (
            "times are no numbers; they mean nothing",
            [pax({b"mtime": b"now"})],
            NAME,
            None,
        ),
        "longest": ("header is as long as can be, 64 KiB", [pax(_filled(PAX_LIMIT))], NAME, None),
        "empty": ("header has no records", [pax(b"")], NAME, None),
        "long-name": ("name stands in a GNU long-name header", [gnu_long(NAME)], b"other", None),
    }
    for name, (comment, extended, own, said) in parts.items():
        yield scene.vector(
            f"pax-{name}", f"pax: the {comment}", _with(scene, *extended, name=own, size=said)
        )


def _broken(scene: Scene) -> Iterator[Vector]:
    good = pax_record(b"path", NAME)
    records = {
        "length-zero": ("a record's length is 0", b"0 path=x\n"),
        "length-too-long": ("a record's length leads past the records", b"999 path=x\n"),
        "length-too-short": ("a record's length ends inside of it", b"5" + good[2:]),
        "length-negative": ("a record's length is negative", b"-9 path=x\n"),
        "length-huge": ("a record's length has more digits than any", b"9" * 30 + b" path=x\n"),
        "no-newline": ("a record does not end in a newline", good[:-1] + b"x"),
        "no-equals": ("a record has no equals sign", good + b"6 foo\n"),
        "size-text": ("the size record is text", pax_record(b"size", b"large")),
        "size-empty": ("the size record is empty", pax_record(b"size", b"")),
        "size-negative": ("the size record is negative", pax_record(b"size", b"-1")),
        "size-tebibyte": ("the size record is 1 TiB", pax_record(b"size", b"%d" % (1 << 40))),
        "size-2-to-63": ("the size record is 2^63", pax_record(b"size", b"%d" % (1 << 63))),
        "size-zero": ("the size record is 0", pax_record(b"size", b"0")),
        "path-nul": ("the path record holds a NUL", pax_record(b"path", NAME + b"\0x")),
        "too-long": ("the records are longer than 64 KiB", _filled(PAX_LIMIT + 1)),
    }
    for name, (comment, data) in records.items():
        lost = {**BROKEN, "work/private.img": "limit"} if name == "size-tebibyte" else BROKEN
        yield _break(scene, f"pax-{name}", f"pax: {comment}", pax(data), lost)
    yield _break(
        scene,
        "pax-tebibyte",
        "pax: the extended header says it has 1 TiB of records",
        header(b"PaxHeaders/x", size=1 << 40, kind=b"x"),
    )
    yield _break(
        scene,
        "pax-global",
        "pax: a global header, which means all that follows",
        pax(pax_records({b"size": b"1"}), kind=b"g"),
    )
    yield _break(
        scene,
        "pax-no-member",
        "pax: no member stands behind an extended header",
        pax({b"path": NAME}) + 2 * ZEROS,
    )
    long = b"vm12/" + b"n" * LONGEST_NAME
    yield _break(
        scene,
        "pax-path-too-long",
        "pax: the path record is longer than any path, 4096 bytes",
        pax({b"path": long}),
    )
    yield _break(
        scene,
        "gnu-long-name-too-long",
        "GNU tar: the long name is longer than any path, 4096 bytes",
        gnu_long(long),
    )
    yield _break(
        scene,
        "gnu-long-name-tebibyte",
        "GNU tar: the long name says it has 1 TiB",
        header(b"././@LongLink", size=1 << 40, kind=b"L", magic=GNU),
    )


def _break(
    scene: Scene, name: str, comment: str, extended: bytes, lost: Mapping[str, str] = BROKEN
) -> Vector:
    return scene.vector(
        name,
        comment,
        _with(scene, extended),
        expect="archive damaged",
        lost=lost,
        unseen=BEHIND,
    )


def _names(scene: Scene) -> Iterator[Vector]:
    """A chunk under a name that is no chunk's is none, and never a path."""
    names = {
        "empty": ("empty", b""),
        "absolute": ("an absolute path", b"/qubes-testkit/private.img.001.enc"),
        "dot-dot": ("led upwards", b"vm12/../../private.img.001.enc"),
        "only-dot-dot": ("..", b".."),
        "dot": ("with a component .", b"vm12/./private.img.001.enc"),
        "double-slash": ("with an empty component", b"vm12//private.img.001.enc"),
        "controls": ("with control characters", b"vm12/\x1b[31m\r\nprivate.img.001.enc"),
        "long-component": ("with a component of 256 bytes", b"vm12/" + b"n" * 256 + b".001.enc"),
        "bidirectional": ("made to be read backwards", "vm12/\u202egmi.etavirp.001".encode()),
        "not-utf-8": ("not UTF-8", b"vm12/\xff\xfe"),
    }
    for name, (comment, path) in names.items():
        yield scene.vector(
            f"outer-name-{name}",
            f"outer tar: a chunk's name is {comment}",
            _with(scene, pax({b"path": path})),
            expect="file damaged",
            lost=DAMAGED,
            warnings=[path.decode("utf-8", "surrogateescape")] if path else (),
        )
