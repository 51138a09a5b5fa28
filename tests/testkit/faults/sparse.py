"""Sparse maps: old-GNU headers, and pax 1.0 maps in front of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.support.tarbytes import (
    GNU,
    USTAR,
    Extents,
    archive,
    filled,
    header,
    octal,
    old_gnu_sparse,
    padded,
    pax_sparse,
)
from tests.testkit.faults.inner import NAME, bad, good
from tests.testkit.scene import Scene, noise
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector

SIZE = 8192
DATA = noise(16) * 64  # 1 KiB that compresses well
MAP = [(512, 512), (4096, 512)]
MOST = (1 << 63) - 1


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.small
    yield from _legal(scene)
    yield from _maps(scene)
    yield from _old_gnu(scene)
    yield from _pax(scene)


def _legal(scene: Scene) -> Iterator[Vector]:
    maps = {
        "usual": ("two extents", MAP),
        "end-marked": ("an entry (length, 0) at the end", [*MAP, (SIZE, 0)]),
        "touching": ("extents that touch each other", [(512, 512), (1024, 512)]),
        "unaligned": ("extents at odd places", [(1, 511), (700, 513)]),
        "whole": ("one extent of all the data at the start", [(0, 1024)]),
        "at-the-end": ("an extent that ends with the file", [(SIZE - 1024, 1024)]),
        "empty-entry": (
            "an entry of no length in the middle",
            [(512, 512), (2048, 0), (4096, 512)],
        ),
    }
    for name, (comment, extents) in maps.items():
        data = filled(extents, DATA, SIZE)
        for writer, build in (("old-gnu", old_gnu_sparse), ("pax", pax_sparse)):
            tar = archive(build(extents, SIZE, NAME), padded(DATA))
            yield good(
                scene, f"sparse-{name}-{writer}", f"{writer} sparse map: {comment}", tar, data
            )


def _maps(scene: Scene) -> Iterator[Vector]:
    maps = {
        "descending": ("descends", [(4096, 512), (512, 512)]),
        "overlapping": ("overlaps by a byte", [(512, 512), (1023, 512)]),
        "same-twice": ("has an entry twice", [(512, 512), (512, 512)]),
        "past-the-end": ("leads a byte past the file's end", [(512, 512), (SIZE - 511, 512)]),
        "end-past-the-end": ("marks an end behind the file's", [*MAP, (SIZE + 1, 0)]),
        "offset-2-to-63": ("has an offset of 2^63", [(512, 512), (MOST + 1, 512)]),
        "offset-most": ("has an offset of 2^63 - 1", [(512, 512), (MOST, 512)]),
        "length-2-to-63": ("has a length of 2^63", [(512, MOST + 1)]),
        "sum-wraps": ("has an end that wraps around at 2^64", [(512, 512), (MOST, MOST)]),
        "less-than-stored": ("names fewer bytes than are stored", [(512, 512)]),
        "more-than-stored": ("names more bytes than are stored", [(512, 512), (2048, 1024)]),
        "none": ("is empty, though data are stored", []),
    }
    writers: dict[str, Callable[[Extents], bytes]] = {
        "old-gnu": lambda extents: old_gnu_sparse(extents, SIZE, NAME, stored=len(DATA)),
        "pax": lambda extents: pax_sparse(extents, SIZE, NAME, size=512 + len(DATA)),
    }
    for name, (comment, extents) in maps.items():
        for writer, build in writers.items():
            tar = archive(build(extents), padded(DATA))
            yield bad(scene, f"sparse-{name}-{writer}", f"{writer} sparse map: it {comment}", tar)


def _old_gnu(scene: Scene) -> Iterator[Vector]:
    entries = b"".join(octal(offset, 12) + octal(length, 12) for offset, length in MAP)
    real = {386: entries, 483: octal(SIZE, 12)}
    fields = {
        "length-less": ("length is less than the map's end", {483: octal(1000, 12)}),
        "length-negative": ("length is negative", {483: octal(-1, 12)}),
        "length-not-octal": ("length is no octal number", {483: b"8192 bytes\0\0"}),
        "length-blank": ("length is blank", {483: bytes(12)}),
        "entry-negative": (
            "second offset is negative",
            {386: entries[:24] + octal(-1, 12) + entries[36:]},
        ),
        "entry-not-octal": (
            "second offset is no number",
            {386: entries[:24] + b"9" * 12 + entries[36:]},
        ),
        "extension-missing": (
            "header says that a block of entries follows, and none does",
            {482: b"\x01"},
        ),
        "ustar-magic": ("magic is not GNU tar's", {257: USTAR}),
    }
    for name, (comment, said) in fields.items():
        block = header(NAME, size=1024, kind=b"S", magic=GNU, fields={**real, **said})
        yield bad(
            scene,
            f"sparse-old-gnu-{name}",
            f"old-GNU sparse header: the {comment}",
            archive(block, padded(DATA)),
        )
    block = header(
        NAME,
        size=1024,
        kind=b"S",
        magic=GNU,
        fields={**real, 483: b"\x80" + SIZE.to_bytes(11, "big")},
    )
    yield good(
        scene,
        "sparse-old-gnu-base-256",
        "old-GNU sparse header: the length is a base-256 number",
        archive(block, padded(DATA)),
        filled(MAP, DATA, SIZE),
    )


def _pax(scene: Scene) -> Iterator[Vector]:
    records = {
        "version-0-0": ("is of version 0.0", {b"GNU.sparse.major": b"0"}),
        "version-0-1": (
            "is of version 0.1",
            {b"GNU.sparse.major": b"0", b"GNU.sparse.minor": b"1"},
        ),
        "version-1-1": ("is of version 1.1", {b"GNU.sparse.minor": b"1"}),
        "version-2-0": ("is of version 2.0", {b"GNU.sparse.major": b"2"}),
        "version-text": ("is of a version that is no number", {b"GNU.sparse.major": b"one"}),
        "old-map-too": (
            "has a map of version 0.1 as well",
            {b"GNU.sparse.major": b"", b"GNU.sparse.map": b"0,1024"},
        ),
        "length-less": ("has a length less than the map's end", {b"GNU.sparse.realsize": b"1000"}),
        "length-negative": ("has a negative length", {b"GNU.sparse.realsize": b"-8192"}),
        "length-text": ("has a length that is no number", {b"GNU.sparse.realsize": b"8 KiB"}),
        "length-long": ("has a length of a thousand digits", {b"GNU.sparse.realsize": b"9" * 1000}),
        "name-other": ("has another qube's name", {b"GNU.sparse.name": b"vm12/private.img"}),
        "name-dot-dot": ("has a name that leads upwards", {b"GNU.sparse.name": b"vm1/../../evil"}),
        "name-absolute": ("has an absolute name", {b"GNU.sparse.name": b"/qubes-testkit/evil"}),
        "name-empty": ("has an empty name", {b"GNU.sparse.name": b""}),
    }
    for name, (comment, said) in records.items():
        tar = archive(pax_sparse(MAP, SIZE, NAME, records=said), padded(DATA))
        yield bad(scene, f"sparse-pax-{name}", f"pax sparse member: it {comment}", tar)
    for name, kind in (("link", b"2"), ("folder", b"5"), ("old-gnu", b"S")):
        tar = archive(pax_sparse(MAP, SIZE, NAME, kind=kind), padded(DATA))
        yield bad(scene, f"sparse-pax-type-{name}", f"pax sparse member: its type says {name}", tar)
    texts = {
        "count-less": ("count is less than its entries", b"1\n512\n512\n4096\n512\n"),
        "count-more": ("count is more than its entries", b"3\n512\n512\n4096\n512\n"),
        "count-zero": ("count is 0", b"0\n"),
        "count-negative": ("count is negative", b"-2\n512\n512\n4096\n512\n"),
        "count-missing": ("count is missing", b"\n512\n512\n4096\n512\n"),
        "no-text": ("text is missing", b""),
        "number-text": ("second offset is text", b"2\n512\n512\nfour\n512\n"),
        "number-negative": ("second offset is negative", b"2\n512\n512\n-4096\n512\n"),
        "number-plus": ("second offset has a plus sign", b"2\n512\n512\n+4096\n512\n"),
        "number-hex": ("second offset is hexadecimal", b"2\n512\n512\n0x1000\n512\n"),
        "number-long": (
            "second offset has a hundred digits",
            b"2\n512\n512\n" + b"9" * 100 + b"\n512\n",
        ),
        "line-long": ("first line has no end", b"2" * 1500),
        "line-ends": ("lines end in CR LF", b"2\r\n512\r\n512\r\n4096\r\n512\r\n"),
        "spaces": ("numbers stand on one line", b"2 512 512 4096 512\n"),
    }
    for name, (comment, text) in texts.items():
        mapped = padded(text) or bytes(512)
        headers = pax_sparse(MAP, SIZE, NAME, size=len(mapped) + len(DATA))[:-512]
        yield bad(
            scene,
            f"sparse-pax-map-{name}",
            f"pax sparse map: the {comment}",
            archive(headers, mapped, padded(DATA)),
        )
    short = pax_sparse(MAP, SIZE, NAME, size=100)
    yield bad(
        scene,
        "sparse-pax-map-longer-than-its-member",
        "pax sparse map: it is longer than its member",
        archive(short, padded(DATA)),
    )
