"""Behind a gap of a bzip2 stream: whole blocks only, and none that merely looks like one."""

from __future__ import annotations

import bz2
import itertools
import random
import subprocess

import pytest

from qbackup.content.gaps.behind import NotDecodable
from qbackup.content.gaps.bzip2 import Bzip2Segment
from qbackup.content.gaps.bzip2_blocks import (
    BLOCK_MARK,
    END_MARK,
    MARK_BITS,
    bits_at,
    decode_block,
    find_marks,
)
from qbackup.content.gaps.room import Segment, SegmentWriter
from tests.support.deflatestreams import mixed
from tests.support.spare import MemorySpare
from tests.support.speed import rows

DATA = mixed(900_000, 3) + random.Random(3).randbytes(300_000)
ONE = bz2.compress(DATA, 1)  # in one stream; blocks of up to 100 kB
MANY = b"".join(bz2.compress(DATA[at : at + 99_000], 1) for at in range(0, len(DATA), 99_000))


def decoded(
    stream: bytes, *, is_end: bool, head: bytes = b"BZh1", piece: int = 40_000
) -> tuple[Segment, bytes] | None:
    spare = MemorySpare()
    writer = SegmentWriter(spare, 0)
    segment = Bzip2Segment(writer, head)
    try:
        for at in range(0, len(stream), piece):
            segment.feed(memoryview(stream[at : at + piece]))
        segment.finish(is_end=is_end)
    except NotDecodable:
        return None
    return writer.segment, bytes(spare.data)


class TestBlocks:
    @pytest.mark.parametrize("shift", range(8))
    def test_marks_are_found_at_each_bit(self, shift: int) -> None:
        bits = BLOCK_MARK << 56 | END_MARK
        stream = b"abc" + (bits << 8 - shift).to_bytes(14, "big") + b"def"
        assert find_marks(stream, 0) == [(24 + shift, False), (24 + shift + 56, True)]
        assert find_marks(stream, 25 + shift) == [(24 + shift + 56, True)]

    def test_each_decodes_alone(self) -> None:
        marks = find_marks(ONE, 0)
        blocks = [
            decode_block(ONE, start, end) for (start, _), (end, _) in itertools.pairwise(marks)
        ]
        assert len(blocks) > 8
        assert b"".join(b"".join(pieces or ()) for pieces in blocks) == DATA

    def test_a_changed_one_does_not(self) -> None:
        marks = find_marks(ONE, 0)
        for at in (marks[1][0] // 8 + 9, marks[1][0] // 8 + 500, marks[2][0] // 8 - 2):
            changed = bytearray(ONE)
            changed[at] ^= 0x10
            assert decode_block(bytes(changed), marks[1][0], marks[2][0]) is None

    def test_the_data_may_end(self) -> None:
        assert bits_at(b"ab", 9, 8) is None
        assert decode_block(ONE[:50], 32, 900) is None


class TestSegment:
    @rows("cut", [50_000, 50_001, 123_456, 200_000], quick=2)
    @pytest.mark.parametrize("stream", [ONE, MANY], ids=["one", "many"])
    def test_from_a_gap_to_the_end(self, stream: bytes, cut: int) -> None:
        for piece in (7_777, 40_000):
            found = decoded(stream[cut:], is_end=True, piece=piece)
            assert found is not None
            segment, data = found
            assert segment.is_end and list(segment.runs) == [(segment.length, True)]
            assert data and data == DATA[-len(data) :]

    def test_between_two_gaps(self) -> None:
        found = decoded(ONE[60_000:-70_000], is_end=False)
        assert found is not None
        assert len(found[1]) > 200_000 and found[1] in DATA and not found[0].is_end

    def test_without_the_first_bytes_blocks_may_be_the_longest(self) -> None:
        found = decoded(ONE[60_000:], is_end=True, head=b"")
        assert found is not None and not found[0].length

    def test_the_end_must_be_where_the_file_ends(self) -> None:
        rest = ONE[60_000:]
        assert decoded(rest + bytes(10_239), is_end=True)
        for wrong in (rest + bytes(10_240), rest + b"\0x", rest + b"x", rest[:-5], rest[:-20_000]):
            assert not decoded(wrong, is_end=True)

    def test_an_error_farther_on_takes_all_of_it_back(self) -> None:
        changed = bytearray(ONE)
        changed[-30_000] ^= 1
        assert not decoded(bytes(changed[60_000:]), is_end=True)

    @rows("seed", range(3))
    def test_noise_is_nothing(self, seed: int) -> None:
        found = decoded(random.Random(seed).randbytes(600_000), is_end=False)
        assert found is not None and not found[0].length

    def test_a_mark_by_chance_ends_no_block(self) -> None:
        marks = find_marks(ONE, 0)
        start, end = marks[1][0], marks[2][0]
        middle = (start + end) // 2
        pieces = decode_block(ONE, start, middle)
        assert pieces is None and bits_at(ONE, start, MARK_BITS) == BLOCK_MARK


@pytest.mark.slow
class TestRealPrograms:
    @pytest.mark.parametrize("command", ["bzip2 -1", "bzip2 -9", "pbzip2 -1", "pbzip2 -9"])
    def test_right_bytes_only(self, tools: None, command: str) -> None:
        data = random.Random(5).randbytes(4_000_000)
        stream = subprocess.run(
            [*command.split(), "-c"], input=data, stdout=subprocess.PIPE, check=True
        ).stdout
        found = decoded(stream[300_000:], is_end=True, head=stream[:4])
        assert found is not None and found[0].is_end
        assert len(found[1]) > 1_500_000 and found[1] == data[-len(found[1]) :]
