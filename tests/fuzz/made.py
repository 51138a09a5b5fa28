"""Inputs made by hand: what each harness must have met, and what no backup holds."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
from collections.abc import Callable, Iterator
from dataclasses import replace

from backports import zstd

from qbackup.content.detect import NONE
from qbackup.content.filters import KNOWN_FILTERS
from tests.fuzz import backup, common, enc, image, journal, old, openssl, volumecut, volumes
from tests.fuzz.whole import PASSPHRASE
from tests.maker.old import HMAC_TEXTS
from tests.maker.qubesxml import qubes_xml
from tests.support import tarbytes
from tests.support.tarbytes import BLOCK, GNU, gnu_long, header, member, padded, pax

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
        "old": _olds,
        "openssl": _openssl,
        "salvage": _edits,
        "volumes": _volumes,
    }
    if name in kinds:
        yield from kinds[name]()


def _backups() -> Iterator[bytes]:
    """Sound content, with each choice."""
    contents = {
        backup.IMAGE: header(backup.IMAGE.encode(), size=600)
        + padded(b"image" * 120)
        + 2 * tarbytes.ZEROS,
        backup.HOME: _folder(backup.HOME.encode()),
        backup.METADATA: qubes_xml([backup.DOM0, backup.WORK]),
    }
    for number in range(0, 256, 16):
        for place, content in contents.items():
            byte = number & ~32 | backup.PLACES.index(place) | 4 * (number & 32 > 0)
            yield bytes([byte]) + content


def _olds() -> Iterator[bytes]:
    """Sound content in each format; whole, in chunks, damaged; and as it is stored."""
    image = header(backup.IMAGE.encode(), size=900) + padded(b"image" * 180)
    contents = {
        backup.IMAGE: image + 2 * tarbytes.ZEROS,
        backup.HOME: _folder(backup.HOME.encode()),
        backup.METADATA: old.DOCUMENT,
        old.FOLDER: _folder(old.FOLDER.encode()),
    }
    numbers = itertools.count()
    for format_, encrypted, (place, content) in itertools.product(
        old.FORMATS, (False, True), contents.items()
    ):
        first, second = next(numbers) * 37 % 256, next(numbers) * 53 % 256
        choices = replace(
            old.Choices.of(first, second),
            format=format_,
            encrypted=encrypted,
            place=place,
            is_stream=False,
            is_stored=False,
        )
        yield choices.bytes() + content.removesuffix(tarbytes.ZEROS)  # one is enough
    yield from _damaged_images()
    for format_, place in itertools.product(old.FORMATS, (backup.IMAGE, backup.METADATA)):
        choices = old.Choices(place=place, format=format_, encrypted=True, is_stored=True)
        content = contents[place]
        if place == backup.METADATA:
            content = member(place.encode(), content)[:4096]
        yield choices.bytes() + enc.encrypted(content, PASSPHRASE)


def _damaged_images() -> Iterator[bytes]:
    """Kept, and compared with what they are where nothing is lost."""
    for format_, encrypted, damage in itertools.product(
        old.FORMATS[:2], (False, True), ("second", "last")
    ):
        choices = old.Choices(
            chunks=3,
            lost=True,
            keep=True,
            format=format_,
            encrypted=encrypted,
            has_seams=True,
            damage=damage,
        )
        data = padded(bytes(range(250)) * 4) + tarbytes.ZEROS
        for mtime in itertools.count():
            image = header(backup.IMAGE.encode(), size=1000, mtime=mtime) + data
            if old.compares_rest(choices.bytes() + image):
                yield choices.bytes() + image
                break


def _folder(path: bytes) -> bytes:
    """A folder's archive: itself, a file, a link."""
    parts = [header(path + b"/", kind=b"5", mode=0o700)]
    parts += [header(path + b"/file", size=5), padded(b"hello")]
    parts += [header(path + b"/link", kind=b"2", link=b"file")]
    return b"".join(parts) + 2 * tarbytes.ZEROS


def _openssl() -> Iterator[bytes]:
    """Streams of each cipher, by their text and as they are stored, whole and cut; HMACs."""
    text = b"Zwierzu, pozycz psu cukr. " * 9
    for number, cipher in enumerate(enc.CIPHERS):
        stored = enc.encrypted(text, PASSPHRASE, cipher)
        yield bytes([number]) + text[: 40 * number]
        yield bytes([number | openssl.LOSES]) + text
        yield bytes([number | openssl.STORED]) + stored
        yield bytes([number | openssl.STORED]) + stored[:-3]
        yield bytes([number | openssl.STORED]) + stored[:-16]
    for spelling in (*HMAC_TEXTS.values(), "{hex}", "(stdin)= {hex} = {hex}", "SHA1= x{hex}"):
        yield bytes([openssl.TEXT]) + spelling.format(hex="0a" * 20, digest="SHA1").encode()


def _volumes() -> Iterator[bytes]:
    """Cut here; cut before; one volume missing, two exchanged."""
    path = backup.IMAGE.encode()
    image = header(path, size=1500) + padded(b"image" * 300) + 2 * tarbytes.ZEROS
    for number in range(8):
        yield bytes([number]) + image
    data = bytes(range(256)) * 12
    parts = [header(path, size=len(data)) + data[:BLOCK]]
    for start in range(BLOCK, len(data), BLOCK):
        seam = volumecut.continuation(path, len(data) - start)
        parts.append(seam + data[start : start + BLOCK])
    parts.append(2 * tarbytes.ZEROS)
    for order in ("0123456", "0213456", "0223456", "0134566", "0000000"):
        volume = b"".join(parts[int(number)] for number in order)
        yield bytes([3 | volumes.HAS_HEADERS]) + volume
    parts[1] = volumecut.continuation(b"vm2/private.img", len(data) - BLOCK) + parts[1][BLOCK:]
    yield bytes([3 | volumes.HAS_HEADERS]) + b"".join(parts)


def _edits() -> Iterator[bytes]:
    """What salvage has to go past: each part cut off, zeroed, changed, twice, in another place."""
    for base in range(5):
        yield bytes([base])
        yield bytes([base, 6, 0, 3, 7])  # the name of the header
        yield bytes([base, 0x83, 0, 0, 2])
        yield bytes([base, 0x83, 0, 2, 1])
    for block in range(35):
        yield bytes([0, 0x83, 0, block, 1])
        yield bytes([0, 0x86, 0, block, 0x55])
    for block in range(20, 35):
        yield bytes([4, 0x86, 0, block, 0x55])
    yield bytes([0, 0x84, 0, 20, 0])
    yield bytes([0, 0x82, 0, 0, 2])
    yield bytes([0, 0x82, 0, 2, 2])
    yield bytes([0, 0x82, 0, 0, 4])
    yield bytes([0, 0x85, 0, 4, 4, 0, 8])
    yield bytes([2, 0x83, 0, 2, 1, 0x83, 0, 30, 1])
    yield bytes([0, 1, 2, 0, 9]) + b"some text"
    yield bytes([0, 0, 2, 20, 12]) + b"encrypted=no"
    yield bytes([0, 0, 0, 100, 8]) + b"0000777\0"


def _file_systems() -> Iterator[bytes]:
    """Each as it is; with names that no folder can have; with chosen damage in each inode."""
    for number in range(len(image.KINDS)):
        base = image.patched(bytes([number]))
        yield bytes([number])
        for name, new in ((b"below", b"../up"), (b"file", b"a/b\0"), (b"second-name", b"..")):
            at = base.find(name)
            entry = bytes([len(new)]) + base[at - 1 : at] + new
            yield bytes([number]) + image.patch(at - 2, entry)
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
