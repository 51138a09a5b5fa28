"""Behind a gap of a deflate stream: only true blocks are found, and only right bytes called right.

The truth is known: zlib made the streams, and inflates them from their beginning.
"""

from __future__ import annotations

import random
import subprocess
import zlib
from collections.abc import Callable, Iterator

import pytest

from qbackup.base.errors import QBackupError
from qbackup.content.gaps.behind import NotDecodable
from qbackup.content.gaps.deflate import DeflateSegment, TwinInflater
from qbackup.content.gaps.deflate_blocks import (
    DYNAMIC,
    FIXED,
    OPEN,
    STORED,
    WINDOW_SIZE,
    begin_at,
    end_of_block,
    header_at,
)
from qbackup.content.gaps.deflate_candidates import dynamic_starts, stored_starts
from qbackup.content.gaps.deflate_search import LONGEST_BLOCK, find_block
from qbackup.content.gaps.room import SegmentWriter
from tests.support.deflatestreams import (
    SMALL_BLOCK,
    deceiving,
    deflate,
    mixed,
    small_blocks,
    stored,
    text,
    with_fakes,
    without_end,
)
from tests.support.spare import MemorySpare
from tests.support.speed import rows
from tests.support.work import at_most

TRAILER = b"\0" * 8


def spend(count: int) -> None:
    """The work of these small streams is not bounded."""


def true_blocks(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Start, end and type of each block of a stream that begins here."""
    start, is_last = 0, False
    while not is_last:
        is_last, kind = header_at(stream, start)
        end = end_of_block(stream, start, spend)
        assert end is not None and end != OPEN
        yield start, end, kind
        start = end


def true_starts(stream: bytes, cut: int) -> set[int]:
    """Where blocks begin, in bits behind a cut; a stored one's padding can stand in front too."""
    found = set()
    for start, _, kind in true_blocks(stream):
        found.add(start - 8 * cut)
        if kind == STORED:
            found.add(8 * ((start + 3 + 7) // 8) - 3 - 8 * cut)
    return {start for start in found if start >= 0}


STREAMS: dict[str, Callable[[int], bytes]] = {
    "text": lambda seed: small_blocks(text(30_000, seed)),
    "mixed": lambda seed: small_blocks(mixed(30_000, seed)),
    "fast": lambda seed: small_blocks(mixed(30_000, seed), 1),
    "fixed": lambda seed: small_blocks(mixed(30_000, seed), 6, zlib.Z_FIXED),
    "literals": lambda seed: small_blocks(mixed(30_000, seed), 6, zlib.Z_HUFFMAN_ONLY),
    "noise": lambda seed: small_blocks(random.Random(seed).randbytes(20_000)),
    "zeros": lambda seed: small_blocks(bytes(600_000)),
    "fakes": lambda seed: with_fakes(40, seed),
    "deflated": lambda seed: small_blocks(small_blocks(mixed(60_000, seed))),
}
#: Of these the blocks are longer than zlib's small ones, or fixed ones with any length.
LONGEST = {"fakes": 1024, "fixed": 1024, "zeros": 1024}


def longest(name: str) -> int:
    return LONGEST.get(name, SMALL_BLOCK)


class TestAnyBit:
    """zlib begins at any bit, and tells the bit at which a block ends."""

    @pytest.mark.parametrize("offset", range(8))
    def test_inflating_begins_at_each(self, offset: int) -> None:
        data = mixed(20_000)
        stream = deflate(data)
        moved = (int.from_bytes(stream, "little") << offset).to_bytes(len(stream) + 1, "little")
        noise = bytes([moved[0] | (1 << offset) - 1]) + moved[1:]
        first, following = begin_at(noise, offset)
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        assert inflater.decompress(first + noise[following:]) == data and inflater.eof

    @pytest.mark.parametrize("name", STREAMS)
    def test_blocks_follow_each_other_to_the_last_bit(self, name: str) -> None:
        stream = STREAMS[name](1)
        *_, (_, end, _) = true_blocks(stream)
        assert (end + 7) // 8 == len(stream)

    def test_there_are_blocks_of_each_kind_at_each_offset(self) -> None:
        seen = {
            (kind, start % 8)
            for name in STREAMS
            for start, _, kind in true_blocks(STREAMS[name](1))
        }
        assert {(kind, bit) for kind in (FIXED, DYNAMIC) for bit in range(8)} <= seen
        assert STORED in {kind for kind, _ in seen}

    def test_what_is_no_block_has_no_end(self) -> None:
        assert end_of_block(b"\x06", 0, spend) is None  # the type that does not exist
        assert end_of_block(b"\0\5\0\5\0", 0, spend) is None  # a length without its complement
        assert end_of_block(b"\x08\5\0\xfa\xff12345", 0, spend) is None  # padding that is not zero
        assert end_of_block(b"\0\5\0\xfa\xff12345", 0, spend) == 80

    def test_the_data_may_end_within_one(self) -> None:
        stream = deflate(text(5_000))
        assert end_of_block(stream[:-3], 0, spend) == OPEN
        assert end_of_block(stream, 8 * len(stream) - 2, spend) == OPEN
        assert end_of_block(b"\0\5\0\xfa\xff1234", 0, spend) == OPEN
        assert end_of_block(b"\0\5\0\xfa", 0, spend) == OPEN


def slow_dynamic(data: bytes, count: int) -> Iterator[int]:
    """The same as `dynamic_starts`, offset by offset, as RFC 1951 has it."""
    bits = int.from_bytes(data, "little")
    for start in range(count):
        field = bits >> start
        if field >> 1 & 3 != DYNAMIC or field >> 3 & 31 > 29 or field >> 8 & 31 > 29:
            continue
        lengths = [field >> 17 + 3 * n & 7 for n in range((field >> 13 & 15) + 4)]
        if sum(128 >> length for length in lengths if length) == 128:
            yield start


class TestCandidates:
    @pytest.mark.parametrize("seed", range(3))
    def test_all_offsets_at_once_give_what_each_alone_gives(self, seed: int) -> None:
        data = random.Random(seed).randbytes(4_000)
        assert list(dynamic_starts(data, 30_000)) == list(slow_dynamic(data, 30_000))

    @pytest.mark.parametrize("name", STREAMS)
    def test_no_true_block_is_left_out(self, name: str) -> None:
        stream = STREAMS[name](2)[:6_000]
        count = 8 * 5_000
        blocks = [block for block in true_blocks(STREAMS[name](2)) if block[0] < count]
        dynamic = {start for start, _, kind in blocks if kind == DYNAMIC}
        assert dynamic <= set(dynamic_starts(stream, count))
        ends = {end_of_block(stream, start, spend) for start in stored_starts(stream, count)}
        assert {end for _, end, kind in blocks if kind == STORED and end < 8 * 6_000} <= ends


class TestSearch:
    @rows("seed", range(8), quick=2)
    @pytest.mark.parametrize("name", STREAMS)
    def test_only_true_blocks_are_found(self, name: str, seed: int) -> None:
        stream = STREAMS[name](seed)
        chance = random.Random(seed)
        found = 0
        for _ in range(12):
            cut = chance.randrange(len(stream))
            rest = stream[cut:]
            start = find_block(rest + TRAILER, is_end=True, longest=longest(name))
            if start is not None:
                found += 1
                assert start in true_starts(stream, cut), cut
        if name not in ("fakes", "zeros"):
            assert found > 4

    @rows("seed", range(4), quick=1)
    def test_at_every_cut_of_a_stream(self, seed: int) -> None:
        stream = small_blocks(mixed(9_000, seed + 50))
        for cut in range(seed, len(stream) - SMALL_BLOCK, 101 if seed == 0 else 1):
            start = find_block(stream[cut:] + TRAILER, is_end=True, longest=SMALL_BLOCK)
            assert start is None or start in true_starts(stream, cut)

    @rows("seed", range(6), quick=2)
    def test_between_two_gaps(self, seed: int) -> None:
        stream = small_blocks(mixed(60_000, seed))
        chance = random.Random(seed)
        for _ in range(10):
            cut, end = sorted(chance.sample(range(len(stream) - 20), 2))
            start = find_block(stream[cut:end], is_end=False, longest=SMALL_BLOCK)
            assert start is None or start in true_starts(stream, cut)

    @rows("seed", range(10), quick=3)
    def test_a_stream_within_stored_blocks_is_not_taken_for_the_true_one(self, seed: int) -> None:
        stream = with_fakes(60, seed)
        chance = random.Random(seed)
        for _ in range(20):
            cut = chance.randrange(len(stream))
            for is_end in (False, True):
                rest = stream[cut:] + TRAILER if is_end else stream[cut:-50]
                start = find_block(rest, is_end=is_end, longest=1024)
                assert start is None or start in true_starts(stream, cut)

    def test_one_that_never_meets_the_true_one_is_told_from_it_by_nothing(self) -> None:
        # a whole stream of small stored blocks, in stored blocks of other sizes: both go on
        inner = stored([random.Random(n).randbytes(200) for n in range(100)])[:-5]
        parts = [inner[at : at + 300] for at in range(0, len(inner), 300)]
        outer = stored(parts)[: 40 * 305]
        start = find_block(outer, is_end=False, longest=1024)
        assert start is None or start in true_starts(stored(parts), 0)

    def test_a_last_block_in_the_middle_is_a_false_start(self) -> None:
        # a true stream ends here, but more of the file follows
        stream = small_blocks(mixed(20_000))[-3_000:]
        for more in (b"more" * 500, TRAILER + b"more" * 500, TRAILER + stream):
            for is_end in (False, True):
                assert not decoded(stream + more, is_end=is_end, block=SMALL_BLOCK, piece=5_000)

    def test_less_than_the_longest_block_shows_nothing(self) -> None:
        stream = deflate(mixed(400_000), memory=1)
        assert find_block(stream[100:LONGEST_BLOCK], is_end=False) is None

    @rows("name", ["noise", "zeros", "lengths", "fixed"], quick=2)
    def test_what_looks_like_blocks_everywhere_costs_little(self, name: str) -> None:
        size = LONGEST_BLOCK + 40_000
        data = {
            "noise": random.Random(3).randbytes(size),
            "zeros": bytes(size),
            "lengths": b"\0\0\xff\xff" * (size // 4),
            "fixed": b"\x02" * size,
        }[name]
        with at_most(3_000_000):
            find_block(data, is_end=False)


class TestTwins:
    """Of what is inflated without its window, the bytes that come out the same twice are right."""

    @rows("seed", range(6), quick=2)
    @pytest.mark.parametrize("name", ["text", "mixed", "fast", "fixed", "zeros", "deflated"])
    def test_right_bytes_and_no_other(self, name: str, seed: int) -> None:
        stream = STREAMS[name](seed)
        data = zlib.decompress(stream, -zlib.MAX_WBITS)
        blocks = list(true_blocks(stream))
        for start, _, _ in random.Random(seed).sample(blocks, min(10, len(blocks))):
            output, marks = inflated(stream, start)
            truth = data[len(data) - len(output) :]
            wrong = [n for n in range(len(truth)) if not marks[n] and output[n] != truth[n]]
            assert not wrong
            # nothing that could be known is called lost: with the true window all bytes are right
            assert with_window(stream, start, data[: len(data) - len(output)]) == truth

    def test_the_windows_differ_in_each_byte(self) -> None:
        # a copy of the whole window, and nothing else
        made = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=bytes(range(256)) * 128)
        stream = made.compress(bytes(range(256)) * 127) + made.flush()
        output, marks = inflated(stream, 0)
        assert len(output) == 127 * 256 and 0 not in marks

    def test_once_the_window_is_right_one_inflater_is_left(self) -> None:
        twins = TwinInflater(b"")
        noise = random.Random(1).randbytes(WINDOW_SIZE)
        for _ in twins.inflate(without_end(noise)):
            pass
        assert twins._other is None


def inflated(stream: bytes, start: int) -> tuple[bytes, bytes]:
    """All output from a block on, and a mark for each byte."""
    first, following = begin_at(stream, start)
    output = marks = b""
    for piece, mark in TwinInflater(first).inflate(stream[following:]):
        output += piece
        marks += mark or bytes(len(piece))
    return output, marks


def with_window(stream: bytes, start: int, before: bytes) -> bytes:
    first, following = begin_at(stream, start)
    window = before[-WINDOW_SIZE:]
    inflater = zlib.decompressobj(-zlib.MAX_WBITS, window) if window else None
    inflater = inflater or zlib.decompressobj(-zlib.MAX_WBITS)
    return inflater.decompress(first + stream[following:])


def decoded(stream: bytes, *, is_end: bool, block: int, piece: int) -> SegmentWriter | None:
    """Bytes that are decoded behind a gap; None for none."""
    writer = SegmentWriter(MemorySpare(), 0)
    segment = DeflateSegment(writer, block)
    try:
        for at in range(0, len(stream), piece):
            segment.feed(memoryview(stream[at : at + piece]))
        segment.finish(is_end=is_end)
    except NotDecodable:
        return None
    return writer


class TestSegment:
    @rows("piece", [1, 777, 32 * 1024], quick=2)
    @pytest.mark.parametrize("name", ["text", "mixed", "noise"])
    def test_from_a_gap_to_the_end(self, name: str, piece: int) -> None:
        stream = STREAMS[name](5)
        data = zlib.decompress(stream, -zlib.MAX_WBITS)
        trailer = b"crc!" + len(data).to_bytes(4, "little")
        writer = decoded(stream[3_000:] + trailer, is_end=True, block=SMALL_BLOCK, piece=piece)
        assert writer is not None and writer.segment.length > 5_000
        assert writer.segment.is_end and writer.segment.rest == len(data)
        check_right(writer, data[len(data) - writer.segment.length :])

    def test_padding_may_follow(self) -> None:
        stream = STREAMS["mixed"](5)[3_000:] + TRAILER
        assert decoded(stream + bytes(10_239), is_end=True, block=SMALL_BLOCK, piece=5_000)
        assert not decoded(stream + bytes(10_240), is_end=True, block=SMALL_BLOCK, piece=5_000)
        assert not decoded(stream + b"\0x", is_end=True, block=SMALL_BLOCK, piece=5_000)

    def test_the_end_must_be_where_the_file_ends(self) -> None:
        stream = STREAMS["mixed"](5)[3_000:]
        for cut in (stream[:-1], stream + TRAILER[:-1], stream[:-500]):
            assert not decoded(cut, is_end=True, block=SMALL_BLOCK, piece=5_000)
        # an end in front of another gap
        assert not decoded(stream + TRAILER, is_end=False, block=SMALL_BLOCK, piece=5_000)

    def test_an_error_farther_on_takes_all_of_it_back(self) -> None:
        stream = bytearray(STREAMS["mixed"](5))
        start = [start for start, _, _ in true_blocks(bytes(stream))][-4]
        assert decoded(bytes(stream[3_000:-9]), is_end=False, block=SMALL_BLOCK, piece=5_000)
        for bit in (start + 1, start + 2):  # a type that does not exist
            stream[bit // 8] |= 1 << bit % 8
        assert not decoded(bytes(stream[3_000:-9]), is_end=False, block=SMALL_BLOCK, piece=5_000)


def check_right(writer: SegmentWriter, truth: bytes) -> None:
    """No wrong byte among those that count as good."""
    position = 0
    for piece in writer.segment.pieces(writer._file, QBackupError("lost")):
        if isinstance(piece, memoryview):
            assert piece == truth[position : position + len(piece)]
            position += len(piece)
        else:
            position += piece.length
    assert position == len(truth)


@pytest.mark.slow
class TestRealPrograms:
    """gzip and pigz at all levels, with their own blocks, cut at random places."""

    @pytest.mark.parametrize(
        "command", ["gzip -1", "gzip -6", "gzip -9", "pigz -p 4", "pigz -i -p 4", "pigz -1"]
    )
    @pytest.mark.parametrize("kind", ["text", "noise", "gzip", "zeros"])
    def test_right_bytes_only(self, tools: None, command: str, kind: str) -> None:
        data = real_content(kind)
        stream = run(command, data)
        chance = random.Random(command + kind)
        for _ in range(3):
            cut = chance.randrange(100, max(200, len(stream) - LONGEST_BLOCK))
            writer = decoded(stream[cut:], is_end=True, block=LONGEST_BLOCK, piece=32 * 1024)
            if kind == "zeros":
                continue  # they are shorter than one block
            assert writer is not None
            # the longest block, what is left of the one there, and perhaps one more
            rest = len(stream) - cut - LONGEST_BLOCK - 200_000
            assert writer.segment.length >= 0.9 * rest
            if not writer.segment.length:
                continue
            assert writer.segment.rest == len(data)
            check_right(writer, data[len(data) - writer.segment.length :])


@pytest.mark.slow
class TestDeceit:
    """Content that gzip stores as it is, with whole blocks up to the end of each stored one."""

    def test_a_false_start_that_goes_on_to_the_end_is_not_taken(self, tools: None) -> None:
        data = deceiving(lambda content: run("gzip -6", content)[10:-8], 24)
        stream = run("gzip -6", data + random.Random(2).randbytes(400_000))
        data += random.Random(2).randbytes(400_000)
        body = stream[10:-8]
        (start, end, _), *_ = list(true_blocks(body))[2:]
        cut = start // 8 + 100
        # the deceit works: from within the first block, inflating goes on to the end of the file
        false = next(
            at
            for at in dynamic_starts(body[cut:], end - 8 * cut - 500)
            if end_of_block(body[cut:], at, spend) not in (None, OPEN)
        )
        first, following = begin_at(body[cut:], false)
        inflater = zlib.decompressobj(-zlib.MAX_WBITS, bytes(WINDOW_SIZE))
        output = inflater.decompress(first + body[cut + following :])
        assert inflater.eof and not data.endswith(output)
        # and is not believed
        for at in range(cut, cut + 30_000, 5_000):
            assert find_block(body[at:] + TRAILER, is_end=True) in {None, *true_starts(body, at)}
            writer = decoded(stream[10 + at :], is_end=True, block=LONGEST_BLOCK, piece=32 * 1024)
            assert writer is not None and writer.segment.length > 300_000
            check_right(writer, data[len(data) - writer.segment.length :])


def real_content(kind: str) -> bytes:
    if kind == "zeros":
        return bytes(3_000_000)
    if kind == "noise":
        return random.Random(4).randbytes(3_000_000)
    if kind == "gzip":
        return run("gzip -9", mixed(6_000_000))[:3_000_000]
    return text(8_000_000)


def run(command: str, data: bytes) -> bytes:
    return subprocess.run(command.split(), input=data, stdout=subprocess.PIPE, check=True).stdout
