"""Ten backups by the real tools, and of each image what it is made of.

The product's code is not used: chunks are known from the maker, members from the standard
library's `tarfile`, and the inner archives from undamaged streams.
"""

from __future__ import annotations

import base64
import bz2
import io
import lzma
import random
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from tests.maker import BackupMaker, Format2Maker, Format3Maker, make_ext4, published_header, run
from tests.maker.collected import PASSPHRASE, Member
from tests.maker.old import OldMaker

CHUNK = 48 << 10
# Behind a gap in a deflate stream, 160 KiB pass before a block can be believed (decision 195)
_LARGE_CHUNK = 1536 << 10
_LARGE = ("4-gzip", "3-gzip", "3-plain")
# More files of each image of these samples; gzip makes 13 and 6 MiB of them
_DENSE = {"work": 30, "vault": 15}
_DENSE_SIZE = 450_000
XZ_THREADS = "xz -T2 --block-size=128KiB"
IMAGES = {"work": "vm1/private.img", "vault": "vm2/private.img"}
_IMAGE_BYTES = {False: 6 << 20, True: 24 << 20}
VOLUME_HEADER = 512  # of a later volume of format 2
_SALTED = 16  # `Salted__` and the salt, in front of what openssl encrypts

#: Makes a backup from its name, a folder, an image for each qube, and the size of a chunk in bytes.
_Maker: TypeAlias = "Callable[[str, Path, dict[str, Path], int], Sample]"

__all__ = ["CHUNK", "IMAGES", "PASSPHRASE", "SAMPLES", "Image", "Sample", "make_sample"]


@dataclass(frozen=True)
class Stored:
    """A member: where its headers, its body and its padding stand in the backup.

    Args:
        name: of the member.
        start: offset of its first header.
        body: offset of its body.
        size: of its body in bytes.
        end: offset behind its padding.
    """

    name: str
    start: int
    body: int
    size: int
    end: int


@dataclass(frozen=True)
class Image:
    """An image in a backup.

    Args:
        path: stored path, e.g. ``vm1/private.img``.
        content: the image itself.
        chunks: names of its chunks' members, in order.
        pieces: the part of the stream (compressed, not encrypted) that each chunk gives.
        codec: how the stream is compressed; ``raw``, ``gzip``, ``bzip2``, ``xz``, ``xz-blocks``,
            ``zstd``, or ``volumes`` for those of format 2.
    """

    path: str
    content: bytes
    chunks: tuple[str, ...]
    pieces: tuple[bytes, ...]
    codec: str

    @cached_property
    def stream(self) -> bytes:
        """The whole stream."""
        return b"".join(self.pieces)

    @cached_property
    def archive(self) -> bytes:
        """The inner archive, of format 2 without the headers that each later volume begins with."""
        if self.codec == "volumes":
            first, *others = self.pieces
            return first + b"".join(piece[VOLUME_HEADER:] for piece in others)
        return _DECODE[self.codec](self.stream)

    @cached_property
    def runs(self) -> tuple[tuple[int, int, int], ...]:
        """Data runs of the image: offset in the archive, offset in the image, length."""
        with tarfile.open(fileobj=io.BytesIO(self.archive), ignore_zeros=True) as archive:
            entry = archive.next()
            assert entry is not None
            place, runs = entry.offset_data, []
            holes: list[tuple[int, int]] = entry.sparse or [(0, entry.size)]  # type: ignore[assignment]
            for offset, length in holes:
                runs.append((place, offset, length))
                place += length
        return tuple(run for run in runs if run[2])

    @property
    def data_size(self) -> int:
        """Number of bytes that are in data runs."""
        return sum(length for _, _, length in self.runs)


@dataclass(frozen=True)
class Sample:
    """One backup.

    Args:
        name: such as ``4-gzip``.
        data: the whole file.
        members: all members, in order.
        images: by stored path.
        version: of the format.
        is_encrypted: chunks of format 3 hang together by their cipher.
    """

    name: str
    data: bytes
    members: tuple[Stored, ...]
    images: dict[str, Image]
    version: int
    is_encrypted: bool = True

    def member(self, name: str) -> Stored:
        """Gives a member by its name."""
        return next(member for member in self.members if member.name == name)

    def body(self, name: str) -> bytes:
        """Gives a member's body."""
        member = self.member(name)
        return self.data[member.body : member.body + member.size]


def _zstd(stream: bytes) -> bytes:
    return run(["zstd", "-dcq"], stdin=stream)


_DECODE: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "gzip": lambda stream: zlib.decompressobj(31).decompress(stream),
    "bzip2": bz2.decompress,
    "xz": lzma.decompress,
    "xz-blocks": lzma.decompress,
    "zstd": _zstd,
}


def make_sample(
    name: str, folder: Path, *, seed: int = 1, files: tuple[int, int] = (40, 16)
) -> Sample:
    """Makes one of `SAMPLES` in a new folder; `files`: how many are in each of the two images."""
    is_large = name in _LARGE
    images = _images(folder, seed, files, is_large=is_large)
    return SAMPLES[name](name, folder, images, _LARGE_CHUNK if is_large else CHUNK)


def _images(folder: Path, seed: int, files: tuple[int, int], *, is_large: bool) -> dict[str, Path]:
    chance, images = random.Random(seed), {}
    for qube, count in zip(("work", "vault"), files, strict=True):
        tree = folder / "trees" / qube
        for number in range(count):
            path = tree / f"folder{number % 5}" / f"file{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_content(chance, number))
        for number in range(_DENSE[qube] if is_large else 0):
            (tree / f"dense{number}").write_bytes(base64.b64encode(chance.randbytes(_DENSE_SIZE)))
        raw = make_ext4(folder / f"{qube}.raw", _IMAGE_BYTES[is_large], tree)
        # of space that mkfs.ext4 reserved and never wrote, tar sees other holes once it was read
        images[qube] = folder / f"{qube}.img"
        run(["cp", "--sparse=always", str(raw), str(images[qube])])
    return images


def _content(chance: random.Random, number: int) -> bytes:
    size = chance.randrange(20_000, 90_000)
    if number % 4 == 0:
        return chance.randbytes(size // 2)
    words = [
        bytes(chance.choices(b"etaoinshrdlucmfw", k=chance.randrange(2, 9))) for _ in range(900)
    ]
    return b" ".join(chance.choices(words, k=size // 6))


def _fill(maker: BackupMaker | OldMaker, images: dict[str, Path]) -> None:
    for qube, path in images.items():
        maker.add_qube(qube, files={"private.img": path})


class _Recorder(BackupMaker):
    """A maker that keeps what it encrypts."""

    plain: dict[str, bytes]

    def encrypt(self, name: str, data: Path | bytes, *, bound_to: str | None = None) -> Member:
        self.__dict__.setdefault("plain", {})[name] = (
            data.read_bytes() if isinstance(data, Path) else data
        )
        return super().encrypt(name, data, bound_to=bound_to)


def _format4(codec: str, program: str | None) -> _Maker:
    def make(name: str, folder: Path, images: dict[str, Path], chunk_size: int) -> Sample:
        header = published_header(compression_filter="xz") if codec == "xz-blocks" else None
        maker = _Recorder(
            folder / "maker", compression_filter=program, header=header, chunk_size=chunk_size
        )
        _fill(maker, images)
        data = maker.write(folder / "backup").read_bytes()
        found = {}
        for qube, path in IMAGES.items():
            chunks = [key for key in maker.plain if key.startswith(path + ".")]
            found[path] = Image(
                path,
                images[qube].read_bytes(),
                tuple(f"{chunk}.enc" for chunk in chunks),
                tuple(maker.plain[chunk] for chunk in chunks),
                codec,
            )
        return Sample(name, data, _members(data), found, 4)

    return make


def _format3(codec: str, *, encrypted: bool) -> _Maker:
    program = None if codec == "raw" else codec

    def make(name: str, folder: Path, images: dict[str, Path], chunk_size: int) -> Sample:
        sample = _old(
            name,
            Format3Maker(
                folder / "maker",
                compression_filter=program,
                encrypted=encrypted,
                chunk_size=chunk_size,
            ),
            folder,
            images,
            codec,
            3,
        )
        if not encrypted:
            return sample
        plain = Format3Maker(folder / "plain", compression_filter=program, chunk_size=chunk_size)
        twin = _old(name, plain, folder, images, codec, 3, hide=False)
        return _with_pieces_of(sample, twin)

    return make


def _with_pieces_of(sample: Sample, plain: Sample) -> Sample:
    """Gives the sample with the streams of its unencrypted twin, cut as its own chunks are."""
    images = {}
    for path, image in sample.images.items():
        twin = next(other for other in plain.images.values() if other.content == image.content)
        stream, pieces, start = twin.stream, [], -_SALTED
        for chunk in image.chunks:
            size = sample.member(chunk).size
            pieces.append(stream[max(0, start) : max(0, start + size)])
            start += size
        images[path] = Image(path, image.content, image.chunks, tuple(pieces), image.codec)
        # tar's padding of a compressed stream depends on how fast the pipe was read
        assert images[path].stream.rstrip(b"\0") == stream.rstrip(b"\0")
    return Sample(sample.name, sample.data, sample.members, images, sample.version)


def _format2(name: str, folder: Path, images: dict[str, Path], chunk_size: int) -> Sample:
    length = chunk_size >> 10
    maker = Format2Maker(folder / "maker", tape_length=length, header="no version")
    plain = Format2Maker(folder / "plain", tape_length=length, header="no version")
    sample = _old(name, maker, folder, images, "volumes", 2)
    twin = _old(name, plain, folder, images, "volumes", 2, hide=False)
    found = {}
    for path, image in sample.images.items():
        other = next(item for item in twin.images.values() if item.content == image.content)
        found[path] = Image(path, image.content, image.chunks, other.pieces, "volumes")
    return Sample(sample.name, sample.data, sample.members, found, 2)


def _old(
    name: str,
    maker: OldMaker,
    folder: Path,
    images: dict[str, Path],
    codec: str,
    version: int,
    *,
    hide: bool = True,
) -> Sample:
    """Makes a backup of an older format; without `hide`, chunks are left as they are before they
    are encrypted, under the names of encrypted ones.
    """
    _fill(maker, images)
    maker.encrypted = maker.encrypted and hide
    data = maker.write(folder / "backup").read_bytes()
    members, found = _members(data), {}
    for qube in maker.qubes:
        path = f"{qube.subdir}private.img"
        chunks = tuple(
            member.name
            for member in members
            if member.name.startswith(f"{path}.") and not member.name.endswith(".hmac")
        )
        bodies = {m.name: data[m.body : m.body + m.size] for m in members}
        content = images[qube.domain.name].read_bytes()
        pieces = tuple(bodies[chunk] for chunk in chunks)
        found[path] = Image(path, content, chunks, pieces, codec)
    return Sample(name, data, members, found, version, maker.encrypted)


def _members(data: bytes) -> tuple[Stored, ...]:
    with tarfile.open(fileobj=io.BytesIO(data), ignore_zeros=True) as archive:
        entries = archive.getmembers()
    ends = [entry.offset for entry in entries[1:]] + [len(data)]
    return tuple(
        Stored(entry.name, entry.offset, entry.offset_data, entry.size, end)
        for entry, end in zip(entries, ends, strict=True)
    )


SAMPLES: dict[str, _Maker] = {
    "4-gzip": _format4("gzip", "gzip"),
    "4-raw": _format4("raw", None),
    "4-zstd": _format4("zstd", "zstd"),
    "4-xz": _format4("xz", "xz"),
    "4-xz-blocks": _format4("xz-blocks", XZ_THREADS),
    "4-bzip2": _format4("bzip2", "bzip2"),
    "3-gzip": _format3("gzip", encrypted=True),
    "3-raw": _format3("raw", encrypted=True),
    "3-plain": _format3("gzip", encrypted=False),
    "2": _format2,
}
