"""Maps of very many runs: kept small, given back as they were, refused where they make no sense."""

from __future__ import annotations

import random
import tracemalloc
import weakref
from array import array
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.base.errors import Damaged, LimitExceeded, QBackupError
from qbackup.base.events import Extent, Gap, Missing
from qbackup.base.limits import Limits
from qbackup.content.inner import InnerArchive
from qbackup.content.placing import place_runs
from qbackup.storage.tar import sparse
from qbackup.storage.tar.sparse import Page, SparseMap
from tests.support.speed import rows
from tests.support.tarbytes import (
    archive,
    filled,
    in_pieces,
    old_gnu_sparse,
    padded,
    pax_sparse,
    read_headers,
)

Runs = list[tuple[int, int]]
MIB = 1 << 20


def mapped(runs: Runs, pieces: int = 7, limits: Limits | None = None) -> SparseMap:
    found = SparseMap(limits or Limits())
    for start in range(0, len(runs), pieces):
        some = runs[start : start + pieces]
        found.extend([offset for offset, _ in some], [length for _, length in some])
    found.finish()
    return found


def placed(
    runs: Runs, size: int, read: Callable[[], memoryview | Gap]
) -> Iterator[Extent | Missing]:
    """Extents of a file whose map is this one."""
    found = mapped(runs, 10_000)
    return place_runs(found.pages(), len(found), size, read)


def runs_of(steps: list[tuple[int, int]]) -> Runs:
    """Runs from holes and lengths."""
    runs, end = [], 0
    for hole, length in steps:
        runs.append((end + hole, length))
        end += hole + length
    return runs


NUMBERS = st.one_of(st.integers(0, 70_000), st.integers(0, 1 << 40))


class TestSparseMap:
    @given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=40), st.integers(1, 50))
    def test_gives_back_what_it_was_given(self, steps: Runs, pieces: int) -> None:
        runs = runs_of(steps)
        found = mapped(runs, pieces)
        assert list(found) == list(found) == runs
        assert len(found) == len(runs)
        assert found.end == (sum(runs[-1]) if runs else 0)
        assert found.total == sum(length for _, length in runs)

    def test_over_many_pages_with_numbers_of_every_size(self) -> None:
        chance = random.Random(1)
        steps = [
            (chance.getrandbits(chance.choice((4, 15, 17, 31, 33))), 512) for _ in range(20000)
        ]
        runs = runs_of(steps)
        assert list(mapped(runs, 1000)) == runs

    def test_behind_the_first_ones_pages_are_packed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sparse, "_PLAIN_SIZE", 50_000)
        runs = runs_of([(512, 512)] * 20_000)
        found = mapped(runs, 1000)
        assert [page.is_packed for page in found._pages] == [False] * 3 + [True] * 2
        assert list(found) == runs

    @pytest.mark.parametrize("at", [1, 4095, 4096, 4097, 9999])
    @pytest.mark.parametrize("fault", [-1, -1024, -10_000_000])
    def test_overlaps_are_found_wherever_they_are(self, at: int, fault: int) -> None:
        runs = runs_of([(512, 512)] * 10_000)
        runs[at] = max(0, runs[at][0] - 512 + fault), 512
        with pytest.raises(Damaged, match="overlaps or descends"):
            mapped(runs, 1000)

    def test_numbers_past_the_end_of_all_files(self) -> None:
        for run in ((1 << 63, 0), (0, 1 << 63)):
            with pytest.raises(Damaged, match=r"2\^63"):
                mapped([run])

    @pytest.mark.slow
    @pytest.mark.parametrize(("plain", "most"), [(0, 400_000), (500_000, 750_000), (MIB, 950_000)])
    def test_each_run_takes_a_few_bytes(
        self, monkeypatch: pytest.MonkeyPatch, plain: int, most: int
    ) -> None:
        """The figures of docs/security.md hold: about three bytes a packed run in real images."""
        monkeypatch.setattr(sparse, "_PLAIN_SIZE", plain)
        chance = random.Random(1)
        tracemalloc.start()
        try:
            found = SparseMap(Limits())
            end = 0
            for _ in range(100):
                offsets, lengths = [], []
                for _ in range(1000):
                    offsets.append(end + 512 * chance.randrange(1, 100))
                    lengths.append(512 * min(400, int(chance.expovariate(0.05)) + 1))
                    end = offsets[-1] + lengths[-1]
                found.extend(offsets, lengths)
            found.finish()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(found) == 100_000
        assert most - 150_000 < held < most

    def test_one_more_than_allowed_names_the_option(self) -> None:
        runs = runs_of([(512, 512)] * 100)
        assert len(mapped(runs, limits=Limits(sparse_entries=100))) == 100
        with pytest.raises(LimitExceeded) as caught:
            mapped(runs, limits=Limits(sparse_entries=99))
        assert caught.value.limit == "sparse_entries"
        assert "--limit sparse_entries=" in caught.value.advice

    def test_the_default_allows_a_tib_of_a_real_tree(self) -> None:
        """Qubes R4's own writer makes 52,000 runs a GiB; the limit was 2,000,000 once."""
        assert Limits().sparse_entries >= 52_000 * 1024

    @pytest.mark.slow
    def test_more_runs_than_were_once_the_limit_are_read(self) -> None:
        count = 2_000_001
        found = mapped([(1024 * n, 512) for n in range(count)], pieces=100_000)
        assert len(found) == count


@pytest.mark.parametrize("form", [old_gnu_sparse, pax_sparse])
class TestInArchives:
    def image(self, count: int) -> tuple[Runs, bytes, int]:
        """Runs as R4's writer makes them, among them some with holes of all lengths."""
        chance = random.Random(count)
        steps = [(512 * chance.choice((0, 1, 1, 1, 7, 8, 50)), 512 * chance.choice((1, 1, 40)))
                 for _ in range(count)]  # fmt: skip
        runs = runs_of(steps)
        end = sum(runs[-1])
        size = end + 5000
        return [*runs, (size, 0)], chance.randbytes(sum(n for _, n in runs)), size

    @rows("count", [3, 999, 1000, 1001, 9000])
    @rows("piece", [511, 131_072])
    def test_many_runs_come_out(self, form: object, count: int, piece: int) -> None:
        runs, stored, size = self.image(count)
        data = archive(form(runs, size, b"vm1/x"), padded(stored))  # type: ignore[operator]
        inner = InnerArchive(in_pieces(data, piece), "vm1/x", Limits())
        out = bytearray()
        for extent in inner.only_file().extents():
            assert extent.offset == len(out) and extent.length
            out += bytes(extent.length) if extent.data is None else extent.data
        inner.finish()
        assert bytes(out) == filled(runs, stored, size)

    def test_offsets_past_8_gib(self, form: object) -> None:
        runs = [(n << 30, 512) for n in range(60)]
        data = form(runs, 60 << 30, b"vm1/x")  # type: ignore[operator]
        member, _ = read_headers(data)
        assert member is not None and member.sparse is not None
        assert list(member.sparse) == runs


class TestPlacing:
    def test_short_holes_are_joined_only_where_there_are_many_runs(self) -> None:
        data = memoryview(b"d" * MIB)
        for count, extents in ((900, 1800), (1100, 6)):
            runs = [(n * 1024 + 512, 512) for n in range(count)]
            assert len(list(placed(runs, count * 1024, lambda: data))) == extents

    def test_runs_of_no_length_cost_no_extents(self) -> None:
        """A map may have them by the million; holes on both sides of one are one hole."""
        runs = [*((n, 0) for n in range(1, 5000)), (6000, 5), (7000, 0), (9000, 0)]
        parts = list(placed(runs, 9000, lambda: memoryview(b"data!")))
        assert parts == [
            Extent(0, 6000, None),
            Extent(6000, 5, memoryview(b"data!")),
            Extent(6005, 2995, None),
        ]

    def test_a_hole_that_can_be_a_block_stays_a_hole(self) -> None:
        runs = [(n * 8192, 512) for n in range(2000)]
        parts = list(placed(runs, 2000 * 8192, lambda: memoryview(b"d" * MIB)))
        holes = [part for part in parts if isinstance(part, Extent) and part.data is None]
        assert len(holes) == 2000

    def test_what_is_lost_is_placed_run_by_run(self) -> None:
        error = Damaged("lost")
        runs = [(n * 1024, 512) for n in range(1100)]
        rest = memoryview(b"c" * (1100 * 512 - 3700))
        stored: list[memoryview | Gap] = [
            rest,
            memoryview(b"b" * 2000),
            Gap(1000, error),
            memoryview(b"a" * 700),
        ]
        parts = list(placed(runs, 1100 * 1024, stored.pop))
        lost = [(p.offset, p.length) for p in parts if isinstance(p, Missing)]
        assert lost == [(1024 + 188, 324), (2048, 512), (3072, 164)]
        position = 0
        for part in parts:
            assert part.offset == position
            position += part.length
        assert position == 1100 * 1024


Lost = list[tuple[int, int, QBackupError]]


def one_by_one(runs: Runs, size: int, stored: list[memoryview | Gap]) -> tuple[bytes, Lost]:
    """The content of a file and what is lost of it (zeros in the content), one run at a time."""
    content = bytearray(size)
    lost: Lost = []
    waiting = stored[::-1]
    for offset, length in runs:
        while length:
            piece = waiting.pop()
            there = piece.length if isinstance(piece, Gap) else len(piece)
            count = min(there, length)
            if isinstance(piece, Gap):
                lose(lost, offset, count, piece.error)
                rest: memoryview | Gap = Gap(there - count, piece.error)
            else:
                content[offset : offset + count] = piece[:count]
                rest = piece[count:]
            if there > count:
                waiting.append(rest)
            offset, length = offset + count, length - count
    assert not waiting
    return bytes(content), lost


def lose(lost: Lost, offset: int, length: int, error: QBackupError) -> None:
    """Adds a range to those that are lost; one that goes on with the last makes it longer."""
    if lost and sum(lost[-1][:2]) == offset and lost[-1][2] is error:
        offset, length = lost[-1][0], lost.pop()[1] + length
    lost.append((offset, length, error))


def in_random_pieces(chance: random.Random, size: int, sizes: list[int]) -> list[memoryview | Gap]:
    """Stored bytes in pieces, among them lost ones."""
    pieces: list[memoryview | Gap] = []
    while size:
        length = min(size, chance.choice(sizes))
        size -= length
        if chance.random() < 0.1:
            pieces.append(Gap(length, Damaged(f"lost {len(pieces)}")))
        else:
            pieces.append(memoryview(chance.randbytes(length)))
    return pieces


class TestPlacedByTheHundred:
    """Many short runs are placed in one step; each must come out where it would alone."""

    HOLES = (0, 1, 7, 511, 512, 512, 512, 4095, 4096, 5000)
    LENGTHS = (0, 1, 9, 511, 512, 512, 512, 513, 3000, 16_383, 16_384, 20_000)

    @rows("seed", range(40), quick=10)
    def test_as_one_run_at_a_time(self, seed: int) -> None:
        chance = random.Random(seed)
        holes = chance.choices(self.HOLES, k=chance.randrange(1, 4))
        lengths = chance.choices(self.LENGTHS, k=chance.randrange(1, 4))
        rare = chance.choice((0, 0.001, 0.1))
        steps = [
            (
                chance.choice(self.HOLES if chance.random() < rare else holes),
                chance.choice(self.LENGTHS if chance.random() < rare else lengths),
            )
            for _ in range(chance.choice((990, 1001, 1500, 4097)))
        ]
        runs = runs_of(steps)
        size = sum(runs[-1]) + chance.choice((0, 1, 5000))
        sizes = chance.choice(([9, 100, 700], [511, 512, 513], [5000, 70_000], [131_072], [MIB]))
        stored = in_random_pieces(chance, sum(length for _, length in runs), sizes)
        waiting = stored[::-1]
        self.check(runs, size, stored, placed(runs, size, lambda: waiting.pop()))
        assert not waiting

    def check(
        self,
        runs: Runs,
        size: int,
        stored: list[memoryview | Gap],
        parts: Iterator[Extent | Missing],
    ) -> None:
        expected, expected_lost = one_by_one(runs, size, stored)
        content = bytearray()
        lost: Lost = []
        for part in parts:
            assert part.offset == len(content) and part.length > 0
            if isinstance(part, Extent) and part.data is not None:
                assert len(part.data) == part.length
                content += part.data  # at once: it is valid until the next one is asked for
                continue
            if isinstance(part, Missing):
                lose(lost, part.offset, part.length, part.error)
            content += bytes(part.length)
        assert bytes(content) == expected
        assert lost == expected_lost

    def test_a_long_hole_is_never_zeros_and_a_short_one_is_no_extent(self) -> None:
        chance = random.Random(1)
        steps = [(chance.choice((512, 512, 4095, 4096, 8192)), 512) for _ in range(9000)]
        steps[0] = (4096, 512)
        parts = list(placed(runs_of(steps), sum(map(sum, steps)), lambda: memoryview(bytes(MIB))))
        holes = [part.length for part in parts if isinstance(part, Extent) and part.data is None]
        assert [hole for hole in holes if hole >= 4096] == [h for h, _ in steps if h >= 4096]
        assert len([hole for hole in holes if hole < 4096]) < 100  # where an extent is full

    def test_what_is_joined_is_bounded_however_short_the_runs_are(self) -> None:
        count = 200_000
        runs = [(n * 4096 + 4095, 1) for n in range(count)]
        parts = placed(runs, count * 4096, lambda: memoryview(bytes(MIB)))
        assert max(part.length for part in parts) <= 512 * 1024 + 4096

    def test_a_buffer_is_let_go_before_the_next_one_is_read(self) -> None:
        """It can be a chunk of 100 MiB."""
        runs = [(n * 1024, 512) for n in range(20_000)]
        taken: list[weakref.ref[array[int]]] = []

        def read() -> memoryview:
            assert all(ref() is None for ref in taken)
            buffer = array("B", bytes(100_000))
            taken.append(weakref.ref(buffer))
            return memoryview(buffer)

        for part in placed(runs, 20_000 * 1024, read):
            del part
        assert len(taken) == 103

    def test_a_page_is_kept_with_what_is_known_of_it(self) -> None:
        runs = runs_of([(512, 512)] * 4096 + [(70_000, 0), (3, 1 << 33)])
        assert [page[2:] for page in mapped(runs).pages()] == [
            (512, 512, 512),
            (70_000, 1 << 33, 0),
        ]
        assert Page.of_one(7) == Page([0], [7], 0, 7, 7)
