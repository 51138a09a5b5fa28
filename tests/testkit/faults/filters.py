"""Compression filters: each that Qubes knows, and streams that a right MAC does not make right."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.maker import FILTERS, run
from tests.testkit.scene import Scene
from tests.testkit.scenes import VAULT, Scenes
from tests.testkit.vector import Vector

DAMAGED = {"vault/private.img": "damaged"}
ONE = {"work/private.img": "damaged"}


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    for name in FILTERS:
        scene = scenes.one_qube(f"filter-{name}", compression_filter=name)
        yield scene.vector(f"filter-{name}", f"filter: {name}", scene.members)
    yield from _gzip(scenes.small)
    for name in ("bzip2", "xz", "lzma", "zstd"):
        scene = scenes.one_qube(f"stream-{name}", compression_filter=name)
        yield from _of(scene, name)
        if name != "lzma":  # whose program reads one stream only
            yield from _many_streams(scene, name)
    yield from _many_streams(scenes.small, "gzip", VAULT, DAMAGED)
    yield from _greedy(scenes)
    yield from _large_windows(scenes)


def _inner(scene: Scene, path: str) -> bytes:
    """The inner archive of a file, by the real decompressor."""
    return run([scene.maker.compression_filter or "cat", "-dc"], stdin=scene.stream(path))


def _gzip(scene: Scene) -> Iterator[Vector]:
    tar = _inner(scene, VAULT)
    stream = scene.compressed(tar)
    flipped = bytearray(stream)
    flipped[len(stream) // 2] ^= 0xFF
    crc = bytearray(stream)
    crc[-5] ^= 0xFF
    size = bytearray(stream)
    size[-1] ^= 0x01
    reserved = bytearray(stream)
    reserved[3] |= 0xE0
    method = bytearray(stream)
    method[2] = 9
    bad = {
        "empty": ("has no bytes", b""),
        "not-gzip": ("is not gzip", b"no gzip at all"),
        "not-compressed": ("is not compressed at all", tar),
        "flipped": ("has another byte in it", bytes(flipped)),
        "crc": ("has another checksum", bytes(crc)),
        "length": ("has another length at its end", bytes(size)),
        "method": ("is of a method that does not exist", bytes(method)),
        "reserved-flags": ("has flags that are reserved", bytes(reserved)),
        "cut-by-a-byte": ("lacks its last byte", stream[:-1]),
        "cut-in-half": ("ends in the middle", stream[: len(stream) // 2]),
        "cut-in-its-header": ("ends inside its header", stream[:5]),
        "garbage-behind": ("is followed by garbage", stream + b"garbage"),
        "one-byte-behind": ("is followed by a byte", stream + b"\x1f"),
        "half-stream-behind": (
            "is followed by half of another",
            stream + stream[: len(stream) // 2],
        ),
        "archive-twice": ("is followed by another archive", stream + stream),
    }
    for name, (comment, data) in bad.items():
        yield scene.vector(
            f"gzip-{name}",
            f"filter: the gzip stream {comment}; the MAC is right",
            scene.with_stream(VAULT, data),
            expect="file damaged",
            lost=DAMAGED,
        )
    half = len(tar) // 2
    good = {
        "two-streams": (
            "comes in two, as pigz and cat make them",
            [scene.compressed(tar[:half]) + scene.compressed(tar[half:])],
        ),
        "empty-stream-behind": ("is followed by one of nothing", [stream + scene.compressed(b"")]),
        "optional-fields": ("has a name and a comment in its header", [_with_fields(stream)]),
        "stored": ("is not compressed inside", [run(["pigz", "-0", "-c"], stdin=tar)]),
        "byte-by-byte": (
            "comes in chunks of 16 bytes",
            [stream[i : i + 16] for i in range(0, len(stream), 16)],
        ),
        "empty-chunks": (
            "has empty chunks in its middle and at its end",
            [stream[:20], b"", stream[20:], b""],
        ),
    }
    for name, (comment, chunks) in good.items():
        yield scene.vector(
            f"gzip-{name}", f"filter: the gzip stream {comment}", scene.with_stream(VAULT, *chunks)
        )


def _with_fields(stream: bytes) -> bytes:
    """FNAME and FCOMMENT, RFC 1952."""
    return stream[:3] + b"\x18" + stream[4:10] + b"name\0comment\0" + stream[10:]


def _of(scene: Scene, name: str) -> Iterator[Vector]:
    tar = _inner(scene, "vm1/private.img")
    stream = scene.compressed(tar)
    middle = bytearray(stream)
    middle[len(stream) * 2 // 3] ^= 0xFF
    for fault, comment, data in (
        ("flipped", "has another byte in it", bytes(middle)),
        ("cut", "lacks its end", stream[:-8]),
        ("garbage-behind", "is followed by garbage", stream + b"garbage!"),
        ("empty", "has no bytes", b""),
    ):
        if name == "lzma" and fault == "flipped":
            continue  # the old container has no checksum: what comes out decides
        yield scene.vector(
            f"{name}-{fault}",
            f"filter: the {name} stream {comment}; the MAC is right",
            scene.with_stream("vm1/private.img", data),
            expect="file damaged",
            lost=ONE,
        )


def _many_streams(
    scene: Scene, name: str, path: str = "vm1/private.img", lost: Mapping[str, str] = ONE
) -> Iterator[Vector]:
    """Empty streams, each a file of no bytes through the real program: each costs a decoder."""
    stream, empty = scene.compressed(_inner(scene, path)), run([name, "-c"], stdin=b"")
    yield scene.vector(
        f"{name}-empty-streams",
        f"filter: 1,100 empty {name} streams follow the stream; the MAC is right",
        scene.with_stream(path, stream + 1100 * empty),
        expect="limit",
        lost=lost,
    )
    yield scene.vector(
        f"{name}-some-empty-streams",
        f"filter: 20 empty {name} streams stand before the stream and behind it",
        scene.with_stream(path, 20 * empty + stream + 20 * empty),
    )


def _greedy(scenes: Scenes) -> Iterator[Vector]:
    """Headers that make a decompressor take memory, whatever follows."""
    xz = scenes.one_qube("greedy-xz", compression_filter="xz")
    lzma = scenes.one_qube("greedy-lzma", compression_filter="lzma")
    zstd = scenes.one_qube("greedy-zstd", compression_filter="zstd")
    for scene, name, edit in (
        (xz, "xz", _greedy_xz),
        (lzma, "lzma", _greedy_lzma),
        (zstd, "zstd", _greedy_zstd),
    ):
        stream = edit(scene.compressed(_inner(scene, "vm1/private.img")))
        yield scene.vector(
            f"bomb-{name}-memory",
            f"filter: the {name} stream wants 1.5 GiB of memory or more to be unpacked",
            scene.with_stream("vm1/private.img", stream),
            expect="limit",
            lost=ONE,
        )


def _large_windows(scenes: Scenes) -> Iterator[Vector]:
    """Streams that the real programs write when their user asks for a large window."""
    for name, comment, command in (
        ("zstd", "zstd --long=31", ["zstd", "--long=31", "-c"]),
        ("xz", "xz --lzma2=dict=256MiB", ["xz", "--lzma2=dict=256MiB,mf=hc3,mode=fast", "-c"]),
    ):
        scene = scenes.one_qube(f"window-{name}", compression_filter=name)
        stream = run(command, stdin=_inner(scene, "vm1/private.img"))
        vector = scene.vector(
            f"window-{name}",
            f"filter: the image went through `{comment}`, which needs more memory than is allowed",
            scene.with_stream("vm1/private.img", stream),
            expect="limit",
            lost=ONE,
        )
        yield vector
        raised = scene.vector(
            f"window-{name}-allowed",
            f"filter: the image went through `{comment}`, and the user raises the limit",
            scene.with_stream("vm1/private.img", stream),
        )
        yield replace(raised, options=("--limit", "decoder_memory=2G"))


def _greedy_xz(stream: bytes) -> bytes:
    """The dictionary's size in the block header is 4 GiB less one; its CRC is made again."""
    length = (stream[12] + 1) * 4
    block = bytearray(stream[12 : 12 + length])
    place = block.index(b"\x21\x01") + 2  # LZMA2, one byte of properties
    block[place] = 40
    block[-4:] = struct.pack("<I", zlib.crc32(block[:-4]))
    return stream[:12] + bytes(block) + stream[12 + length :]


def _greedy_lzma(stream: bytes) -> bytes:
    """The dictionary's size stands at 1 to 4."""
    return stream[:1] + struct.pack("<I", 3 << 29) + stream[5:]


def _greedy_zstd(stream: bytes) -> bytes:
    """The window's descriptor follows the frame header's, where the frame is no single segment."""
    assert not stream[4] & 0x20
    return stream[:5] + bytes([21 << 3]) + stream[6:]
