"""Behind a gap of an .xz stream of several blocks: its index tells where each one belongs."""

from __future__ import annotations

import lzma
import random
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from qbackup import ChunkDamaged, Damaged, Limits
from qbackup.base.events import Data, Event, Gap, Lost
from qbackup.content.filters import BuiltInFilter, choose_filter
from qbackup.content.gaps.room import SpareRoom
from qbackup.content.gaps.xz import xz_past_gaps
from qbackup.content.gaps.xz_index import Block, StoredParts, read_index
from tests.support.deflatestreams import mixed
from tests.support.spare import MemorySpare

DATA = mixed(300_000, 4)
CHUNK = 20_000


@pytest.fixture(scope="module")
def stream(tools: None) -> bytes:
    return run("xz -T2 --block-size=16384", DATA)


def run(command: str, data: bytes) -> bytes:
    return subprocess.run(command.split(), input=data, stdout=subprocess.PIPE, check=True).stdout


def events(stream: bytes, lost: Sequence[int], chunk: int = CHUNK) -> Iterator[Event]:
    count = -(-len(stream) // chunk)
    for index in range(count):
        data = stream[index * chunk : (index + 1) * chunk]
        if index in lost or index - count in lost:
            yield Lost(f"private.img.{index:03d}", None, ChunkDamaged("gone"))
        else:
            yield Data(memoryview(data), index=index)


def read(
    stream: bytes, lost: Sequence[int], chunk: int = CHUNK
) -> tuple[list[tuple[int, bytes]], int, str]:
    """Runs of bytes with their places, the length of the whole, and the note."""
    room = SpareRoom(MemorySpare)
    chosen = choose_filter("xz", None, Limits())
    assert isinstance(chosen, BuiltInFilter)
    found, position = [], 0
    for piece in xz_past_gaps(chosen, room, events(stream, lost, chunk)):
        if isinstance(piece, Gap):
            position += piece.length
        else:
            assert isinstance(piece, memoryview)
            found.append((position, bytes(piece)))
            position += len(piece)
    return found, position, room.note


def blocks_of(stream: bytes) -> list[Block]:
    parts = StoredParts(MemorySpare())
    parts.add(0, memoryview(stream))
    return list(read_index(parts).blocks())


class TestBlocks:
    @pytest.mark.parametrize("lost", [[1], [2], [1, 3], [0], [0, 2]])
    def test_whole_ones_stand_in_their_places(self, stream: bytes, lost: list[int]) -> None:
        found, length, note = read(stream, lost)
        assert length == len(DATA) and not note
        assert all(DATA[at : at + len(data)] == data for at, data in found)
        known = {at + n for at, data in found for n in range(len(data))}
        whole = 0
        for block in blocks_of(stream):
            chunks = range(block.stored // CHUNK, (block.stored_end - 1) // CHUNK + 1)
            if not set(chunks) & set(lost):
                whole += 1
                assert known >= set(range(block.start, block.start + block.size))
        assert whole > 2

    def test_without_the_index_nothing_is_placed(self, stream: bytes) -> None:
        for lost in ([1, -1], [-1]):
            with pytest.raises(ChunkDamaged, match="gone"):
                read(stream, lost)

    def test_one_block_is_said_to_be_one(self, tools: None) -> None:
        found, length, note = read(run("xz", DATA), [2])
        assert length == len(DATA) and "no whole block" in note
        assert all(DATA[at : at + len(data)] == data for at, data in found)

    @pytest.mark.parametrize("check", ["none", "crc32", "crc64", "sha256"])
    def test_with_each_check(self, tools: None, check: str) -> None:
        stream = run(f"xz -T2 --block-size=16384 --check={check}", DATA)
        found, length, _ = read(stream, [1])
        assert length == len(DATA) and found[-1][0] + len(found[-1][1]) == length
        assert all(DATA[at : at + len(data)] == data for at, data in found)

    def test_padding_may_follow(self, stream: bytes) -> None:
        assert read(stream + bytes(9_000), [1])[0] == read(stream, [1])[0]

    def test_two_streams_are_not_placed(self, stream: bytes) -> None:
        with pytest.raises(ChunkDamaged):
            read(stream + stream, [1])

    def test_streams_within_the_image_are_not_taken_for_it(self, tools: None) -> None:
        # xz stores what it can't make smaller, whole small streams too
        inner = [lzma.compress(random.Random(n).randbytes(3_000)) for n in range(60)]
        image = b"".join(inner)
        stream = run("xz -T2 --block-size=30000", image)
        found, length, _ = read(stream, [2])
        assert length == len(image) and len(found) > 3
        assert all(image[at : at + len(data)] == data for at, data in found)

    def test_chunks_of_other_sizes_are_not_placed(self, stream: bytes) -> None:
        def uneven() -> Iterator[Event]:
            at = 0
            for index, size in enumerate((20_000, 20_000, 0, 19_000, 30_000, len(stream))):
                if not size:
                    yield Lost("private.img.002", None, ChunkDamaged("gone"))
                    at += 20_000
                    continue
                yield Data(memoryview(stream[at : at + size]), index=index)
                at += size

        chosen = choose_filter("xz", None, Limits())
        assert isinstance(chosen, BuiltInFilter)
        with pytest.raises(ChunkDamaged, match="gone"):
            list(xz_past_gaps(chosen, SpareRoom(MemorySpare), uneven()))


class TestIndex:
    def test_of_a_real_stream(self, stream: bytes) -> None:
        blocks = blocks_of(stream)
        assert len(blocks) == -(-len(DATA) // 16_384)
        assert sum(block.size for block in blocks) == len(DATA)

    def test_a_changed_byte_anywhere_in_it_is_an_error(self, stream: bytes) -> None:
        for at in range(len(stream) - 90, len(stream)):
            changed = bytearray(stream)
            changed[at] ^= 0x20
            parts = StoredParts(MemorySpare())
            parts.add(0, memoryview(bytes(changed)))
            with pytest.raises(Damaged):
                read_index(parts)

    @pytest.mark.parametrize("size", [0, 3, 11, 12, 13, 40])
    def test_of_too_few_bytes(self, stream: bytes, size: int) -> None:
        parts = StoredParts(MemorySpare())
        parts.add(500, memoryview(stream[len(stream) - size :]))
        with pytest.raises(Damaged):
            read_index(parts)
