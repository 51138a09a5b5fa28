"""Bytes kept from behind a gap, and the place that an archive's end shows for them."""

from __future__ import annotations

import random

import pytest

from qbackup import Limits
from qbackup.base.events import ArchiveEnd
from qbackup.content.archive_end import length_by_rest, length_by_zeros
from qbackup.content.filters import choose_filter
from qbackup.content.gaps.choose import past_gaps
from qbackup.content.gaps.room import _RUNS_LIMIT, SHORT_RUN, Runs, SegmentWriter, SpareRoom
from qbackup.content.lost_chunks import raw_past_gaps
from qbackup.content.slices import raw
from tests.support.spare import MemorySpare


class TestRuns:
    def test_a_short_good_run_in_front_of_a_lost_one_is_lost(self) -> None:
        runs = Runs()
        for length, good in [(SHORT_RUN, True), (5, False), (SHORT_RUN - 1, True), (7, False)]:
            runs.add(length, good=good)
        runs.add(3, good=True)
        assert list(runs) == [(SHORT_RUN, True), (SHORT_RUN + 11, False), (3, True)]
        assert runs.good == SHORT_RUN + 3

    def test_nothing_adds_nothing(self) -> None:
        runs = Runs()
        runs.add(0, good=True)
        assert not list(runs) and not runs.good

    @pytest.mark.parametrize("seed", range(3))
    def test_no_lost_byte_becomes_good_and_they_stay_few(self, seed: int) -> None:
        chance = random.Random(seed)
        runs, lost, position = Runs(), [], 0
        for number in range(3 * _RUNS_LIMIT):
            length = chance.randrange(1, 3 * SHORT_RUN)
            runs.add(length, good=bool(number % 2))
            lost += [] if number % 2 else [(position, position + length)]
            position += length
        assert len(list(runs)) <= _RUNS_LIMIT
        assert sum(length for length, _ in runs) == position
        spans, position = [], 0
        for length, good in runs:
            spans += [] if good else [(position, position + length)]
            position += length
        assert all(any(a <= first and end <= b for a, b in spans) for first, end in lost[::97])


class TestEnd:
    """GNU tar fills up a record, Qubes' own writer ends right behind the data."""

    @pytest.mark.parametrize(
        ("data_end", "has_map", "zeros", "length"),
        [
            (512, False, 9_728, 10_240),
            (513, False, 9_727, 10_240),
            (9_216, False, 1_024, 10_240),
            (9_217, False, 11_263, 20_480),
            (512, False, 9_727, None),  # the data end in other bytes, so tar did not write this end
            (512, True, 9_727, None),
            (5_000, True, 1_024, 6_024),
            (5_000, True, 1_535, 6_024),
            (5_000, True, 1_536, None),
            (9_216, True, 1_024, 10_240),  # both end here
            (8_900, True, 1_340, None),  # either could have written this
            (8_900, False, 1_340, 10_240),
        ],
    )
    def test_zeros_tell_the_writer(
        self, data_end: int, has_map: bool, zeros: int, length: int | None
    ) -> None:
        assert length_by_zeros(ArchiveEnd(0, data_end, has_map), zeros) == length

    def test_the_remainder_tells_the_length(self) -> None:
        far = ArchiveEnd(0, 5 << 32, False)
        assert length_by_rest(far, 9_728, 1 << 20) == (5 << 32) + 9_728
        assert length_by_rest(ArchiveEnd(0, (1 << 32) - 100, False), 1_000, 1 << 20) == (
            (1 << 32) + 1_000
        )
        assert length_by_rest(far, 511, 1 << 20) is None  # not one block of zeros
        assert length_by_rest(far, (1 << 20) + 1, 1 << 20) is None
        assert length_by_rest(far, (1 << 32) - 1, 1 << 20) is None


class TestChoice:
    def test_by_the_filter(self) -> None:
        room = SpareRoom(lambda: None)
        assert past_gaps(raw, room) is raw_past_gaps and past_gaps(raw, None) is raw_past_gaps
        for name in ("gzip", "zstd"):
            chosen = choose_filter(name, None, Limits())
            assert past_gaps(chosen, None) is chosen
        assert past_gaps(choose_filter("pigz -9", None, Limits()), room) is not chosen
        assert not room.note

    @pytest.mark.parametrize("name", ["zstd", "lzma", "pigz -11"])
    def test_nothing_is_had_of_some(self, name: str) -> None:
        room = SpareRoom(lambda: None)
        chosen = choose_filter(name, None, Limits())
        assert past_gaps(chosen, room) is chosen
        assert name.split()[0] in room.note

    def test_a_program_of_the_user_s_is_as_it_is(self) -> None:
        chosen = choose_filter(None, "cat -x", Limits())
        assert past_gaps(chosen, SpareRoom(lambda: None)) is chosen


class TestZeros:
    """The zeros at a segment's end are counted as they pass: nothing need be read again."""

    @pytest.mark.parametrize(
        ("parts", "zeros"),
        [
            ([b"abc"], 0),
            ([b"abc\0\0"], 2),
            ([b"abc\0", b"\0\0", b""], 3),
            ([b"\0\0\0"], 3),
            ([b"\0\0", b"a", b"\0"], 1),
            ([b"\0\0", 5, b"\0"], 1),
            ([b"\0\0", 5], 0),
        ],
    )
    def test_all_good_ones(self, parts: list[bytes | int], zeros: int) -> None:
        writer = SegmentWriter(MemorySpare(), 0)
        for part in parts:
            if isinstance(part, int):
                writer.lost(part)
            else:
                writer.good(memoryview(part))
        assert writer.segment.zeros == zeros
