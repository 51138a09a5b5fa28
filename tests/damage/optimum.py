"""How much of an image the undamaged bytes prove, computed without the product's code.

A chunk counts as left if its stored bytes are found whole in what is left, and for formats 2 and 3
those of its HMAC too. What a stream gives behind a gap depends on how it is compressed:

* raw: each chunk's place is known.
* gzip: from the first block behind the gap on, as far as a byte does not copy from the gap.
* bzip2 and xz in blocks: whole blocks. xz in one block, zstd: up to the gap.
* format 2: each volume by itself.
* format 3, encrypted: nothing without the first chunk, which holds the salt; the first 16 bytes of
  a chunk need the chunk before it.

Bytes have a place before the first gap, and behind the last one. Those between two gaps have none,
but where chunks or blocks say it themselves.
"""

from __future__ import annotations

import bz2
import itertools
import lzma
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache

from tests.damage.blocks import Blocks, blocks_of
from tests.damage.inflate import gzip_header_size
from tests.damage.kinds import Damage
from tests.damage.samples import VOLUME_HEADER, Image, Sample
from tests.maker import run

_CIPHER_BLOCK = 16
_BZIP2_BLOCK = 0x314159265359
_BZIP2_END = 0x177245385090

#: Start and end of a part of a stream.
Segment = tuple[int, int]


def provable(sample: Sample, image: Image, damage: Damage) -> int:
    """Gives the number of bytes in the image's data runs that can be proven and placed."""
    left = [_is_left(sample, chunk, damage) for chunk in image.chunks]
    return data_bytes(image, known_bytes(sample, image, left))


def known_bytes(sample: Sample, image: Image, left: Sequence[bool]) -> bytearray:
    """Marks the bytes of the inner archive that the chunks which are left prove.

    Args:
        sample: the backup.
        image: the image.
        left: for each chunk, if it is whole.
    """
    if all(left):
        return bytearray(b"\1" * len(image.archive))
    if sample.version == 3 and sample.is_encrypted and not left[0]:
        return bytearray(len(image.archive))
    chained = sample.version == 3 and sample.is_encrypted
    return _CODECS[image.codec](image, _segments(image, left, chained=chained))


def data_bytes(image: Image, known: bytearray) -> int:
    """Counts known bytes in data runs; none if the sparse map is not known."""
    first = image.runs[0][0]
    if sum(known[:first]) != first:
        return 0
    return sum(sum(known[place : place + length]) for place, _, length in image.runs)


def _is_left(sample: Sample, chunk: str, damage: Damage) -> bool:
    bodies = [sample.body(chunk)]
    if sample.version < 4:
        bodies.append(sample.body(f"{chunk}.hmac"))
    return all(any(body in reading for reading in damage.left) for body in bodies)


def _segments(image: Image, left: Sequence[bool], *, chained: bool) -> list[Segment]:
    segments: list[Segment] = []
    position, before = 0, True
    for piece, whole in zip(image.pieces, left, strict=True):
        start, end = position, position + len(piece)
        position = end
        if whole and segments and segments[-1][1] == start and before:
            segments[-1] = (segments[-1][0], end)
        elif whole:
            skipped = _CIPHER_BLOCK if chained and not before else 0
            segments.append((start + skipped, end))
        before = whole
    return segments


def _raw(image: Image, segments: Sequence[Segment]) -> bytearray:
    known = bytearray(len(image.archive))
    for start, end in segments:
        known[start:end] = b"\1" * (end - start)
    return known


def _placed(image: Image, segments: Sequence[Segment]) -> list[Segment]:
    """Segments whose bytes have a place: the one from the start, and the one to the end."""
    size = len(image.stream.rstrip(b"\0"))
    return [part for part in segments if part[0] == 0 or part[1] >= size]


@lru_cache(maxsize=8)
def _deflated(image_stream: bytes) -> tuple[int, Blocks]:
    start = gzip_header_size(image_stream)
    return start, blocks_of(image_stream[start:])


def _gzip(image: Image, segments: Sequence[Segment]) -> bytearray:
    header, found = _deflated(image.stream)
    parts = [(max(0, a - header), b - header) for a, b in _placed(image, segments)]
    return found.known(parts)


def _bzip2(image: Image, segments: Sequence[Segment]) -> bytearray:
    known = bytearray(len(image.archive))
    parts = _placed(image, segments)
    for (start, end), (first, last) in _bzip2_blocks(image.stream):
        if any(a * 8 <= start and end <= b * 8 for a, b in parts):
            known[first:last] = b"\1" * (last - first)
    return known


@lru_cache(maxsize=8)
def _bzip2_blocks(stream: bytes) -> list[tuple[Segment, Segment]]:
    """Gives the bits of each block and the bytes of its plaintext."""
    bits = "".join(f"{byte:08b}" for byte in stream)
    marks, ends = f"{_BZIP2_BLOCK:048b}", f"{_BZIP2_END:048b}"
    starts, place = [], bits.find(marks)
    while place >= 0:
        starts.append(place)
        place = bits.find(marks, place + 1)
    edges = [*starts, bits.index(ends, starts[-1])]
    blocks, position = [], 0
    for start, end in itertools.pairwise(edges):
        crc = bits[start + 48 : start + 80]
        alone = f"{int.from_bytes(stream[:4], 'big'):032b}" + bits[start:end] + ends + crc
        alone += "0" * (-len(alone) % 8)
        size = len(bz2.decompress(int(alone, 2).to_bytes(len(alone) // 8, "big")))
        blocks.append(((start, end), (position, position + size)))
        position += size
    return blocks


def _xz_blocks(image: Image, segments: Sequence[Segment]) -> bytearray:
    known = bytearray(len(image.archive))
    end_is_left = bool(segments) and segments[-1][1] == len(image.stream)
    for (start, end), (first, last) in _xz_index(image.stream):
        if not any(a <= start and end <= b for a, b in segments):
            continue
        if end_is_left or any(a == 0 and end <= b for a, b in segments):
            known[first:last] = b"\1" * (last - first)
    if segments and segments[0][0] == 0:
        size = len(_xz(image.stream[: segments[0][1]]))
        known[:size] = b"\1" * size
    return known


@lru_cache(maxsize=8)
def _xz_index(stream: bytes) -> list[tuple[Segment, Segment]]:
    """Gives place and plaintext of each block, as xz itself lists them."""
    found = []
    with tempfile.NamedTemporaryFile(suffix=".xz") as file:
        file.write(stream)
        file.flush()
        listed = run(["xz", "--robot", "--list", "-vv", file.name]).decode()
    for line in listed.splitlines():
        fields = line.split("\t")
        if fields[0] == "block":
            start, first, size, plain = map(int, fields[4:8])
            found.append(((start, start + size), (first, first + plain)))
    return found


def _front(decode: Callable[[bytes], bytes]) -> Callable[[Image, Sequence[Segment]], bytearray]:
    def known(image: Image, segments: Sequence[Segment]) -> bytearray:
        marks = bytearray(len(image.archive))
        if segments and segments[0][0] == 0:
            size = len(decode(image.stream[: segments[0][1]]))
            marks[:size] = b"\1" * size
        return marks

    return known


def _xz(stream: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(stream)


def _zstd(stream: bytes) -> bytes:
    return subprocess.run(
        ["zstd", "-dcq"],
        input=stream,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    ).stdout


def _volumes(image: Image, segments: Sequence[Segment]) -> bytearray:
    known, start, place = bytearray(len(image.archive)), 0, 0
    for number, piece in enumerate(image.pieces):
        size = len(piece) - (VOLUME_HEADER if number else 0)
        if any(a <= start and start + len(piece) <= b for a, b in segments):
            known[place : place + size] = b"\1" * size
        start, place = start + len(piece), place + size
    return known


_CODECS: dict[str, Callable[[Image, Sequence[Segment]], bytearray]] = {
    "raw": _raw,
    "volumes": _volumes,
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz-blocks": _xz_blocks,
    "xz": _front(_xz),
    "zstd": _front(_zstd),
}
