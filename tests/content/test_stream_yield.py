"""Compressed data that give next to no plaintext meet a limit before they cost minutes.

The streams are the real programs', but for those that no program writes.
"""

from __future__ import annotations

import os
import struct
import zlib

import pytest

from qbackup.base.errors import LimitExceeded
from qbackup.base.events import Data
from qbackup.base.limits import MIB, Limits
from qbackup.content.filters import choose_filter
from tests.maker import run
from tests.support.speed import rows
from tests.support.work import at_most

PROGRAMS = ("gzip", "pigz", "bzip2", "pbzip2", "xz", "lzma", "zstd")
SKIPPABLE = b"\x50\x2a\x4d\x18\0\0\0\0"  # a frame of zstd with nothing in it
GZIP_FRONT = b"\x1f\x8b\x08\0\0\0\0\0\0\3"


def unpacked(name: str, data: bytes, **limits: int) -> int:
    """Number of bytes that come out."""
    pieces = choose_filter(name, None, Limits(**limits))([Data(memoryview(data))])
    return sum(len(piece) for piece in pieces)


def refused(name: str, data: bytes, **limits: int) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as caught:
        unpacked(name, data, **limits)
    return caught.value


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("content", [b"", b"x", bytes(60)])
class TestManyStreams:
    """Each costs the set-up of a decoder. A million of them took 10 s with bzip2, and 16 minutes
    in a chunk of 100 MiB with zstd.
    """

    def test_are_refused_after_the_first_ones(self, tools: None, name: str, content: bytes) -> None:
        data = run([name, "-c"], stdin=content) * 100_000
        with at_most(30_000):
            error = refused(name, data)
        assert error.limit == "small_streams"
        assert "--limit small_streams=VALUE" in error.advice

    def test_are_read_where_the_limit_says_so(self, tools: None, name: str, content: bytes) -> None:
        data = run([name, "-c"], stdin=content) * 20
        assert unpacked(name, data, small_streams=20) == 20 * len(content)
        assert refused(name, data, small_streams=19).limit == "small_streams"


def test_many_skippable_frames_are_refused(tools: None) -> None:
    stream = run(["zstd", "-c"], stdin=b"content")
    with at_most(30_000):
        assert refused("zstd", SKIPPABLE * 100_000 + stream).limit == "small_streams"
    assert unpacked("zstd", SKIPPABLE * 20 + stream) == 7


class TestManyEmptyBlocks:
    """Within one stream. The decoder needs half a second for 4 MiB where each has a table."""

    def test_of_deflate_are_refused(self) -> None:
        end = b"\1\0\0\xff\xff" + struct.pack("<II", 0, 0)
        data = GZIP_FRONT + b"\0\0\0\xff\xff" * MIB + end
        assert refused("gzip", data).limit == "compressed_excess"
        few = GZIP_FRONT + b"\0\0\0\xff\xff" * 1000 + end
        assert unpacked("gzip", few) == 0

    def test_of_zstd_are_refused(self) -> None:
        data = b"\x28\xb5\x2f\xfd\0\x48" + bytes(5 * MIB // 3 * 3) + b"\1\0\0"
        assert refused("zstd", data).limit == "compressed_excess"

    def test_that_follow_plaintext_are_refused_too(self) -> None:
        packer = zlib.compressobj(wbits=-15)
        front = GZIP_FRONT + packer.compress(bytes(100)) + packer.flush(zlib.Z_FULL_FLUSH)
        error = refused("gzip", front + b"\0\0\0\xff\xff" * MIB)
        assert error.limit == "compressed_excess"
        assert "gave 100 bytes of plaintext" in error.reason


class TestRealStreams:
    @rows("name", PROGRAMS)
    def test_of_what_does_not_compress_pass(self, tools: None, name: str) -> None:
        """bzip2 holds a block of 900 KB back, so this is as near as the limit may come."""
        size = 4 * MIB
        data = run([name, "-c"], stdin=os.urandom(size))
        assert unpacked(name, data, compressed_excess=MIB) == size

    def test_one_after_another_pass_if_each_has_content(self, tools: None) -> None:
        """bgzip makes one of 64 KiB and an empty one at the end, pbzip2 one of 900 KB."""
        one = run(["gzip", "-c"], stdin=bytes(4096))
        assert unpacked("gzip", one * 1500 + run(["gzip", "-c"]), small_streams=1) == 1500 * 4096
        many = run(["pbzip2", "-b1", "-c"], stdin=os.urandom(2_000_000))
        assert unpacked("pbzip2", many, small_streams=1) == 2_000_000
