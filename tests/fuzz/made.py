"""Inputs made by hand: what each harness must have met, and what no backup holds."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
from collections.abc import Callable, Iterator

from backports import zstd

from qbackup.compression import KNOWN_FILTERS, NONE
from tests import tarbytes
from tests.fuzz import backup, common, image, journal
from tests.maker.qubesxml import qubes_xml
from tests.tarbytes import BLOCK, GNU, gnu_long, header, member, padded, pax

_WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstd.compress,
}


def inputs(name: str) -> Iterator[bytes]:
    """Those of one harness."""
    kinds = {
        "backup": _backups,
        "container": _disordered,
        "filters": _streams,
        "image": _file_systems,
        "journal": _journals,
    }
    if name in kinds:
        yield from kinds[name]()


def _backups() -> Iterator[bytes]:
    """Sound content, with each choice."""
    contents = {
        backup.IMAGE: header(backup.IMAGE.encode(), size=600) + padded(b"image" * 120),
        backup.HOME: b"".join(
            (
                header(backup.HOME.encode() + b"/", kind=b"5", mode=0o700),
                header(backup.HOME.encode() + b"/file", size=5) + padded(b"hello"),
                header(backup.HOME.encode() + b"/link", kind=b"2", link=b"file"),
            )
        ),
        backup.METADATA: qubes_xml([backup.DOM0, backup.WORK]),
    }
    for number in range(0, 256, 16):
        for place, content in contents.items():
            end = b"" if place == backup.METADATA else 2 * tarbytes.ZEROS
            byte = number & ~32 | backup.PLACES.index(place) | 4 * (number & 32 > 0)
            yield bytes([byte]) + content + end


def _file_systems() -> Iterator[bytes]:
    """Each as it is; with names that no folder can have; with chosen damage in each inode."""
    for number in range(len(image.KINDS)):
        base = image.patched(bytes([number]))
        yield bytes([number])
        for old, new in ((b"below", b"../up"), (b"file", b"a/b\0"), (b"second-name", b"..")):
            at = base.find(old)
            yield bytes([number]) + image.patch(at - 2, bytes([len(new)]) + base[at - 1 : at] + new)
        inodes = base.find(b"\xed\x41\0\0", 2048)  # the first folder's mode
        for place, value in ((4, b"\xff" * 4), (40, b"\0" * 12), (0x20, b"\0\0\x08\x10")):
            parts = (image.patch(inodes + place + 128 * step, value) for step in range(0, 24, 3))
            yield bytes([number]) + b"".join(parts)
    journal_head = image.patched(b"\4").find(b"\xc0\x3b\x39\x98\0\0\0\4")
    for offset in range(8, 0x58, 8):
        yield b"\4" + image.patch(journal_head + offset, b"\0\0\0\x07")


def _disordered() -> Iterator[bytes]:
    """Whole archives: a chunk after its place, one twice, one missing."""
    return itertools.islice(outer_archives(), 2, 5)


def _streams() -> Iterator[bytes]:
    """Of each filter: sound, two of them, cut, followed by something; and none at all."""
    text = b"Zwierzu, pozycz psu cukr. " * 9
    for name, write in _WRITERS.items():
        for number, stream in enumerate(
            (write(text), 2 * write(text), write(text)[:-5], write(text) + b"garbage", write(b""))
        ):
            yield bytes([KNOWN_FILTERS.index(name), number]) + stream
        yield bytes([KNOWN_FILTERS.index(name), 0])
    yield bytes([KNOWN_FILTERS.index(NONE), 3]) + text
    with_name = b"\x1f\x8b\x08\x08" + gzip.compress(text, mtime=0)[4:10] + b"name\0"
    yield bytes([KNOWN_FILTERS.index("gzip"), 0]) + with_name + gzip.compress(text, mtime=0)[10:]


def _journals() -> Iterator[bytes]:
    line = journal.CODEC.line("whole", journal.NEW)
    text = line[16 + 1 + 64 + 1 :]
    yield line
    yield line + line[:-20]
    yield text + text.replace(b"[]", b'[["a/b","a device"]]')
    yield text.replace(b'"file"', b'"folder"') + b"\n\nnot ours\n" + line
    yield b"x" * 100 + b"\n" + text
    fields = json.loads(text)
    for field, value in (
        ("state", "begun"),
        ("kind", "link"),
        ("size", -1),
        ("chunks", "2"),
        ("qube", None),
        ("refused", [["a", 1]]),
        ("colour", "blue"),
    ):
        yield json.dumps(fields | {field: value}).encode()
    yield b"[" * 4000


def outer_archives() -> Iterator[bytes]:
    """Backups of few bytes, with what can be wrong in the outer archive."""
    names = ["backup-header", "backup-header.hmac", "qubes.xml.000.enc", "vm1/private.img.000.enc"]
    plain = [member(name.encode(), b"data", magic=GNU)[: 3 * BLOCK] for name in names]
    second, third = (plain[3].replace(b"img.000", b"img.00%d" % n) for n in (1, 2))
    long = b"vm1/" + b"n" * 200 + b".000.enc"
    for parts in (
        plain,
        [*plain, second, third],
        [*plain, third, second],
        [*plain, second, second, plain[2]],
        [*plain, third, plain[1], second],
        [plain[0], plain[2], plain[1]],
        [plain[0], plain[1], plain[3], plain[2]],
        [*plain, pax({b"path": long, b"size": b"4"}) + header(), padded(b"data")],
        [*plain, gnu_long(long) + header(size=4, magic=GNU), padded(b"data")],
        [*plain, header(b"vm1/folder/", kind=b"5"), header(b"vm1/pipe", kind=b"6"), second],
        [*plain, header(b"vm1/link", kind=b"1", size=9), header(b"l", kind=b"2", link=b"/etc")],
        [*plain, header(long[:100], prefix=b"vm1", size=4), padded(b"data"), second],
        [*plain, header(b"vm1/\xff\n.000.enc", fields={124: b"\x80" + b"\0" * 10 + b"\x04"})],
        [*plain, header(b"vm1/huge.000.enc", size=1 << 62), second, third],
        [*plain, second[:300], third],
        [*plain, second[:512].replace(b"vm1", b"vm2"), padded(b"data"), third],
    ):
        front = b"".join(_checked(part) for part in parts)
        yield front + 2 * tarbytes.ZEROS + member(b"vm1/last.000.enc", b"end")


def _checked(part: bytes) -> bytes:
    """With right checksums but for the one that is meant to be wrong."""
    return part if b"vm2" in part else common.with_checksums(part)
