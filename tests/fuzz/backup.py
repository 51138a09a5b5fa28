"""A whole backup around the input, sealed with right MACs, so that all behind them is reached.

The input is a byte of choices, and then what stands in one file of the backup, before or after
compression. `whole` says what must come of it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.fuzz import seal
from tests.fuzz.common import with_checksums
from tests.fuzz.whole import PASSPHRASE, Whole
from tests.maker.qubesxml import Domain, qubes_xml
from tests.support.tarbytes import archive, header, member, padded

IMAGE, HOME, METADATA = "vm1/private.img", "dom0-home/user", "qubes.xml"
#: Which file the input stands in.
PLACES = (IMAGE, HOME, METADATA)
_NAMES = {IMAGE: "work/private.img", HOME: "dom0/user", METADATA: "qubes.xml"}
_CHUNKS = (1, 2, 3, 7)
_ID = b"20240917T101112-1"
DOM0 = Domain(
    name="dom0",
    qid=0,
    klass="AdminVM",
    label="black",
    template=None,
    netvm=None,
    volumes={},
    backup_path=HOME,
    backup_size=1,
)
WORK = replace(
    DOM0, name="work", qid=1, klass="AppVM", volumes={"private": True}, backup_path="vm1/"
)


@dataclass(frozen=True)
class Choices:
    """What the first byte says.

    Args:
        place: which file the rest stands in.
        chunks: into how many it is cut.
        compressed: with gzip.
        is_stream: the rest is what gzip made; else it is compressed here.
        lost: the last chunk is damaged.
        keep: what is left of a damaged file is kept.
    """

    place: str = IMAGE
    chunks: int = 1
    compressed: bool = False
    is_stream: bool = False
    lost: bool = False
    keep: bool = False

    @classmethod
    def of(cls, byte: int) -> Choices:
        return cls(
            place=PLACES[(byte & 3) % 3],
            chunks=_CHUNKS[byte >> 2 & 3],
            compressed=bool(byte & 16),
            is_stream=bool(byte & 32),
            lost=bool(byte & 64),
            keep=bool(byte & 128),
        )

    def byte(self) -> int:
        """The byte that says this."""
        flags = (self.compressed, self.is_stream, self.lost, self.keep)
        low = PLACES.index(self.place) | _CHUNKS.index(self.chunks) << 2
        return low | sum(flag << 4 + i for i, flag in enumerate(flags))


def check(data: bytes) -> None:
    """What a restore says is true, and a second way to read says the same."""
    if not data:
        return
    choices = Choices.of(data[0])
    whole = Whole(
        _backup(choices, data[1:]),
        _NAMES,
        choices.place,
        IMAGE,
        choices.lost,
        choices.keep,
    )
    whole.check(zlib.crc32(data))


def _backup(choices: Choices, data: bytes) -> bytes:
    compressed = b"True\ncompression-filter=gzip" if choices.compressed else b"False"
    text = b"version=4\nencrypted=True\ncompressed=%s\nbackup-id=%s\n" % (compressed, _ID)
    copy = seal.encrypted(text, seal.key_for(b"backup-header!" + PASSPHRASE))
    parts = [member(b"backup-header", text), member(b"backup-header.hmac", copy)]
    contents = {
        METADATA: member(METADATA.encode(), qubes_xml([DOM0, WORK])),
        IMAGE: member(IMAGE.encode(), b"image"),
        HOME: archive(header(HOME.encode() + b"/", kind=b"5", mode=0o700)),
    }
    contents[choices.place] = _content(choices, data)
    for path, content in contents.items():
        stream = content
        if choices.compressed and not (choices.is_stream and path == choices.place):
            stream = gzip.compress(content, 1, mtime=0)
        parts += _members(path, stream, choices if path == choices.place else Choices())
    return b"".join(parts)


def _content(choices: Choices, data: bytes) -> bytes:
    if choices.compressed and choices.is_stream:
        return data
    if choices.place == METADATA:
        return archive(header(METADATA.encode(), size=len(data)), padded(data))
    return with_checksums(data)


def _members(path: str, stream: bytes, choices: Choices) -> Iterator[bytes]:
    size = max(1, -(-len(stream) // choices.chunks))
    for index, start in enumerate(range(0, max(1, len(stream)), size)):
        name = f"{path}.{index:03d}".encode()
        key = seal.key_for(b"!".join((_ID, name, PASSPHRASE)))
        stored = bytearray(seal.encrypted(stream[start : start + size], key))
        stored[-1] ^= choices.lost and start + size >= len(stream)
        yield member(name + b".enc", bytes(stored))
