"""Decoding past faults in bytes that nothing proves: by pieces of streams, without a backup."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterator

import pytest

from qbackup import Damaged, Limits
from qbackup.base.errors import LimitExceeded
from qbackup.base.events import ArchiveEnd, Data, Event, Gap, Lost, OpenGap, UnverifiedData
from qbackup.content.filters import choose_filter
from qbackup.content.gaps.choose import past_gaps
from qbackup.content.gaps.displaced import find_displaced
from qbackup.content.gaps.fault_front import FaultRoom
from qbackup.content.gaps.faults import raw_past_faults
from qbackup.content.gaps.unchecked_gzip import UncheckedGzip
from qbackup.content.slices import raw
from tests.support.deflatestreams import files, text
from tests.support.spare import MemorySpare
from tests.support.speed import rows

KIB = 1024
ERROR = Damaged("gone")
IMAGE = files(400 * KIB)
STREAM = gzip.compress(IMAGE, 6, mtime=0)


def unverified(data: bytes, index: int = 0, offset: int = 0, *, is_hole: bool = False) -> Event:
    return UnverifiedData(memoryview(data), 0, index, offset, None, is_hole=is_hole)


class TestRaw:
    def pieces(self, *events: Event) -> list[bytes | int]:
        found: list[bytes | int] = []
        for piece in raw_past_faults(events):
            assert isinstance(piece, memoryview | Gap)
            found.append(piece.length if isinstance(piece, Gap) else bytes(piece))
        return found

    def test_a_hole_is_a_gap_in_its_place(self) -> None:
        parts = [(b"abcd", 0, False), (b"\0\0", 4, True), (b"gh", 6, False)]
        events: list[Event] = [
            UnverifiedData(memoryview(data), 0, 0, offset, 8, is_hole=is_hole)
            for data, offset, is_hole in parts
        ]
        following = Data(memoryview(b"ijkl"), 0, 1)
        assert self.pieces(*events, following) == [b"abcd", 2, b"gh", b"ijkl"]

    def test_a_lost_chunk_has_the_length_of_another(self) -> None:
        events = [unverified(b"abcd"), Lost("x", None, ERROR), Data(memoryview(b"ijkl"), 0, 2)]
        assert self.pieces(*events) == [b"abcd", 4, b"ijkl"]

    def test_a_loss_at_the_end_is_an_error(self) -> None:
        with pytest.raises(Damaged, match="gone"):
            self.pieces(unverified(b"abcd"), Lost("x", None, ERROR))

    def test_chunks_that_overlap_are_an_error(self) -> None:
        with pytest.raises(Damaged):
            self.pieces(unverified(b"ab"), Data(memoryview(b"cdef"), 0, 1), unverified(b"x", 1, 1))


class TestUncheckedGzip:
    def decoded(self, data: bytes, size: int = 4096) -> tuple[bytes, UncheckedGzip]:
        decoder, out = UncheckedGzip(), bytearray()
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            while piece or not (decoder.needs_input or decoder.eof):
                out += decoder.decompress(piece, 1000)
                piece = b""
        return bytes(out), decoder

    @rows("size", [1, 7, 4096, 1 << 20])
    def test_decodes_as_others_do(self, size: int) -> None:
        stream = gzip.compress(IMAGE[: 8 * KIB], mtime=0)
        out, decoder = self.decoded(stream + b"more", size)
        assert out == IMAGE[: 8 * KIB]
        assert decoder.eof and decoder.rest == 8 * KIB and decoder.unused_data == b"more"

    def test_believes_no_checksum(self) -> None:
        out, decoder = self.decoded(STREAM[:-8] + bytes(4) + STREAM[-4:])
        assert out == IMAGE and decoder.rest == len(IMAGE)

    @rows("header", [b"\x1f\x8b\x09", b"PK\x03", b"\x1f\x8b\x08\x08"])
    def test_refuses_another_header(self, header: bytes) -> None:
        with pytest.raises(zlib.error):
            self.decoded(header.ljust(20, b"\0"))

    @pytest.mark.slow
    def test_marks_copies_of_what_came_out_of_a_hole(self) -> None:
        is_hole = False
        decoder = UncheckedGzip(lambda: is_hole)
        right = wrong = marked = 0
        out = bytearray()
        pieces = [(STREAM[at : at + KIB], at == 60 * KIB) for at in range(0, len(STREAM), KIB)]
        runs = []
        for piece, is_hole in pieces:
            output = decoder.decompress(bytes(len(piece)) if is_hole else piece, 1 << 20)
            runs.append((len(out), len(output), decoder.marks or bytes(len(output))))
            out += output
        shift = len(IMAGE) - len(out)
        for start, length, marks in runs:
            for at in range(length):
                place = start + at + (shift if start > runs[60][0] else 0)
                same = 0 <= place < len(IMAGE) and out[start + at] == IMAGE[place]
                marked += bool(marks[at])
                right += not marks[at] and same
                wrong += not marks[at] and not same
        assert 0 < marked < 200 * KIB and right > 200 * KIB
        assert wrong < 512


class TestDisplaced:
    def found(self, shift: int, fault: int, image: bytes = IMAGE) -> tuple[int, int]:
        spare = MemorySpare()
        data = image[:fault] + (
            image[fault + shift :] if shift > 0 else bytes(-shift) + image[fault:]
        )
        spare.write(0, memoryview(data))
        return find_displaced(spare, 0, shift, len(data))

    @rows("shift", [7, -5, 300, -4000])
    @rows("fault", [100 * KIB + 17, 250 * KIB + 5])
    def test_finds_the_fault(self, shift: int, fault: int) -> None:
        before, behind = self.found(shift, fault)
        assert before <= fault + abs(shift) and fault - abs(shift) <= behind
        assert behind - before < 40 * KIB

    def test_without_zeros_nothing_tells(self) -> None:
        image = bytes(byte | 1 for byte in text(100 * KIB))
        assert self.found(5, 50 * KIB, image) == (0, 100 * KIB - 5)

    def test_whole_sectors_tell_nothing(self) -> None:
        assert self.found(512, 100 * KIB)[0] == 0


class TestStreams:
    """A gzip stream in two chunks, the second of which is not verified."""

    def pieces(self, events: list[Event], room: FaultRoom) -> Iterator[object]:
        decompress = choose_filter("gzip", None, Limits())
        return past_gaps(decompress, room)(events)

    def test_bytes_are_kept_aside_once_the_header_was_read(self) -> None:
        room = FaultRoom(MemorySpare)
        half = len(STREAM) // 2
        pieces = self.pieces([unverified(STREAM[:half]), unverified(STREAM[half:], 0, half)], room)
        first = next(pieces)
        assert isinstance(first, memoryview)
        room.begin(len(IMAGE))
        rest = list(pieces)
        assert len(rest) == 1 and isinstance(rest[0], OpenGap)
        placed = rest[0].place(ArchiveEnd(len(first), len(IMAGE) - 1024, True))
        assert placed is not None
        pieces_behind = [piece for piece in placed if isinstance(piece, memoryview)]
        assert bytes(first) + b"".join(pieces_behind) == IMAGE

    @pytest.mark.slow
    def test_more_than_the_file_has_is_not_kept(self) -> None:
        bomb = gzip.compress(b"\xaa" * (16 << 20), 9, mtime=0)
        spare = MemorySpare()
        room = FaultRoom(lambda: spare)
        pieces = self.pieces([unverified(bomb)], room)
        next(pieces)
        room.begin(1000)
        list(pieces)
        assert room.end < 3 << 20

    def test_a_limit_ends_everything(self) -> None:
        many = gzip.compress(b"", mtime=0) * 20_000
        room = FaultRoom(MemorySpare)
        decompress = choose_filter("gzip", None, Limits(small_streams=10))
        with pytest.raises(LimitExceeded):
            list(past_gaps(decompress, room)([unverified(many)]))

    def test_without_room_the_error_counts(self) -> None:
        room = FaultRoom(lambda: None)
        broken = STREAM[: 30 * KIB] + random.Random(1).randbytes(60 * KIB)
        with pytest.raises(Damaged):
            list(self.pieces([unverified(broken)], room))


def test_a_program_of_the_user_gets_none_of_them() -> None:
    decompress = choose_filter("gzip", "cat", Limits())
    with pytest.raises(Damaged, match="program of yours"):
        list(past_gaps(decompress, FaultRoom(MemorySpare))([unverified(b"x")]))


def test_other_filters_go_up_to_the_first_fault() -> None:
    assert past_gaps(raw, FaultRoom(lambda: None)) is raw_past_faults
    decompress = choose_filter("xz", None, Limits())
    assert past_gaps(decompress, FaultRoom(lambda: None)) is decompress
