"""Tables of members that anybody can have planted: little memory, work in proportion."""

from __future__ import annotations

import pytest

from qbackup.base.names import ChunkName
from qbackup.storage.chunk_table import ChunkTable, Doubles, Kept, RunsByPath, SortedMembers
from qbackup.storage.scan import StoredMember
from tests.support.work import at_most

MANY = 2000


def table_of(*names: tuple[str, int]) -> ChunkTable:
    table = ChunkTable()
    for place, (path, index) in enumerate(names):
        table.add(ChunkName(path, index), StoredMember("", place, 1))
    return table


class TestManyMembersOfOneFile:
    def test_of_one_name_cost_work_in_proportion(self) -> None:
        table = table_of(*[("vm1/private.img", 0)] * MANY)
        with at_most(20 * MANY):
            runs = RunsByPath(table)
            assert list(runs.first_runs) == [0]
            assert len(runs[b"vm1/private.img"]) == MANY

    def test_between_those_of_other_files_too(self) -> None:
        names = [("a", 0), ("b", 7)] * (MANY // 2)
        table = table_of(*names)
        with at_most(20 * MANY):
            assert list(RunsByPath(table).first_runs) == [0, 1]

    @pytest.mark.parametrize("at_once", [1, 7, MANY])
    def test_are_sorted_some_at_a_time(self, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
        monkeypatch.setattr("qbackup.storage.chunk_table._SORTED_AT_ONCE", at_once)
        table = table_of(*(("a", n * 7 % 50) for n in range(100)))
        doubled: list[tuple[int, int, int]] = []
        runs = list(range(table.run_count()))
        found = SortedMembers(table, runs, lambda *double: doubled.append(double))
        assert [found.location(n) for n in range(len(found))] == [
            (n, min(p for p in range(100) if p * 7 % 50 == n), 1) for n in range(50)
        ]
        assert [number for number, _, _ in doubled] == list(range(50))


class TestDoubles:
    def test_are_kept_up_to_a_limit_for_each_number(self) -> None:
        doubles = Doubles(2)
        added = [doubles.add(number, number, place) for place, number in enumerate([3, 3, 3, 9])]
        assert added == [True, True, False, True]
        assert doubles.of(3) == [(3, 0), (3, 1)]
        assert (doubles.of(9), doubles.of(4)) == ([(9, 3)], [])

    def test_none_is_kept_where_the_limit_is_none(self) -> None:
        doubles = Doubles(0)
        assert not doubles.add(3, 0, 0)
        assert doubles.of(3) == []


def test_only_the_last_values_are_kept() -> None:
    kept: Kept[int] = Kept()
    made = [kept.get("first", lambda: 1)]
    for number in range(1000):
        kept.get(f"other {number}", lambda: 0)
    made.append(kept.get("first", lambda: 2))
    made.append(kept.get("first", lambda: 3))
    assert made == [1, 2, 2]
