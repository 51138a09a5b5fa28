"""Which derivation may start: order, lanes and the budget, without threads or a clock."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.crypto.romix.tuning import WIDTH, Work, best_pass
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.pipeline.schedule import Assignment, Schedule, Strategy

MIB = 1 << 20
LANE = ScryptParameters(18, 8, 5)  # 256 MiB a lane
SINGLE = ScryptParameters(20, 8, 1)  # 1 GiB


def lanes(start: Assignment[str] | None) -> int:
    """Of a backend."""
    assert start is not None
    assert start.way is Strategy.WHOLE
    return start.jobs


def name(start: Assignment[str] | None) -> str:
    """What a backend is to derive."""
    assert start is not None
    assert start.way is Strategy.WHOLE
    (share,) = start.shares
    assert share.is_whole
    return share.key


def shares(start: Assignment[str] | None) -> list[tuple[str, int, int]]:
    """What is in a pass of the kernel."""
    assert start is not None
    assert start.way is Strategy.KERNEL
    assert start.jobs == 1
    assert start.memory >= sum(share.count * share.parameters.lane_memory for share in start.shares)
    return [(share.key, share.first, share.end) for share in start.shares]


def test_derivations_start_in_the_order_they_were_asked_for() -> None:
    schedule: Schedule[str] = Schedule(1, 1 << 40)
    for key in "abc":
        schedule.submit(key, LANE)
    seen = []
    while (start := schedule.next()) is not None:
        seen.append(name(start))
        assert schedule.next() is None, "one job, one lane"
        schedule.done(start)
    assert seen == ["a", "b", "c"]


def test_a_lone_derivation_gets_all_lanes_it_has_use_for() -> None:
    schedule: Schedule[str] = Schedule(16, 1 << 40)
    schedule.submit("a", LANE)
    assert lanes(schedule.next()) == 5


def test_waiting_derivations_share_the_jobs() -> None:
    schedule: Schedule[str] = Schedule(4, 1 << 40)
    for key in "abc":
        schedule.submit(key, LANE)
    assert [lanes(schedule.next()) for _ in range(3)] == [1, 1, 2]
    assert schedule.next() is None


def test_a_derivation_takes_one_job_while_more_is_to_come() -> None:
    schedule: Schedule[str] = Schedule(4, 1 << 40)
    schedule.expect_more(1)
    schedule.submit("a", LANE)
    assert lanes(schedule.next()) == 1
    schedule.expect_more(-1)
    schedule.submit("b", LANE)
    assert lanes(schedule.next()) == 3


def test_a_derivation_takes_one_job_where_the_backend_has_no_threads() -> None:
    schedule: Schedule[str] = Schedule(4, 1 << 40)
    schedule.use_threads(allowed=False)
    for key in "ab":
        schedule.submit(key, LANE)
    assert [lanes(schedule.next()) for _ in range(2)] == [1, 1]


def test_the_budget_limits_how_many_lanes_run() -> None:
    schedule: Schedule[str] = Schedule(8, 600 * MIB)
    schedule.submit("a", LANE)
    start = schedule.next()
    assert lanes(start) == 2
    schedule.submit("b", LANE)
    assert schedule.next() is None
    assert start is not None
    schedule.done(start)
    assert lanes(schedule.next()) == 2


def test_the_oldest_is_admitted_although_it_passes_the_budget() -> None:
    schedule: Schedule[str] = Schedule(8, 400 * MIB)
    schedule.submit("large", SINGLE)
    schedule.submit("small", ScryptParameters(10, 8, 1))
    start = schedule.next()
    assert start is not None
    assert (name(start), lanes(start)) == ("large", 1)
    assert schedule.next() is None, "nothing fits beside it"
    schedule.done(start)
    assert lanes(schedule.next()) == 1


def test_nothing_small_overtakes_something_large() -> None:
    schedule: Schedule[str] = Schedule(8, 1200 * MIB)
    schedule.submit("first", SINGLE)
    schedule.submit("large", SINGLE)
    schedule.submit("small", ScryptParameters(10, 8, 1))
    assert lanes(schedule.next()) == 1
    assert schedule.next() is None


def test_held_chunks_are_charged_to_the_same_budget() -> None:
    schedule: Schedule[str] = Schedule(2, 600 * MIB)
    assert schedule.fits(600 * MIB)
    schedule.charge(400 * MIB)
    assert not schedule.fits(300 * MIB)
    schedule.submit("a", LANE)
    start = schedule.next()
    assert lanes(start) == 1, "always admitted when nothing else runs"
    schedule.submit("b", LANE)
    assert schedule.next() is None
    schedule.release(400 * MIB)
    assert lanes(schedule.next()) == 1


def test_a_cancelled_derivation_never_starts() -> None:
    schedule: Schedule[str] = Schedule(1, 1 << 40)
    for key in "abc":
        schedule.submit(key, LANE)
    schedule.cancel("b")
    first = schedule.next()
    assert first is not None
    schedule.cancel("a")  # too late: it runs
    schedule.done(first)
    following = schedule.next()
    assert name(following) == "c"


@pytest.mark.slow
@given(
    jobs=st.integers(1, 64),
    memory=st.integers(1, 1 << 34),
    work=st.lists(
        st.builds(ScryptParameters, st.integers(1, 22), st.integers(1, 16), st.integers(1, 9)),
        max_size=30,
    ),
    choices=st.lists(st.integers(0, 1 << 30), min_size=200, max_size=200),
)
def test_every_derivation_starts_in_order_within_jobs_and_budget(
    jobs: int, memory: int, work: list[ScryptParameters], choices: list[int]
) -> None:
    schedule: Schedule[int] = Schedule(jobs, memory)
    waiting = deque(enumerate(work))
    running: list[Assignment[int]] = []
    started: list[int] = []
    for choice in choices:
        if waiting and choice % 2:
            schedule.submit(*waiting.popleft())
        elif running:
            schedule.done(running.pop(choice % len(running)))
        while (start := schedule.next()) is not None:
            running.append(start)
            (share,) = start.shares
            started.append(share.key)
            assert 1 <= start.jobs <= work[share.key].p
        assert sum(start.jobs for start in running) <= jobs
        assert len(running) < 2 or sum(start.memory for start in running) <= memory
    while waiting or running:
        if waiting:
            schedule.submit(*waiting.popleft())
        elif running:
            schedule.done(running.pop())
        while (start := schedule.next()) is not None:
            running.append(start)
            started.append(start.shares[0].key)
    assert started == list(range(len(work)))


def test_what_failed_for_want_of_memory_runs_again_alone() -> None:
    schedule: Schedule[str] = Schedule(4, 1 << 40)
    for key in "abc":
        schedule.submit(key, LANE)
    a, b = schedule.next(), schedule.next()
    assert a is not None
    assert b is not None
    assert schedule.again(a), "others ran beside it"
    assert schedule.next() is None, "it is the next one, and waits until nothing else runs"
    schedule.done(b)
    alone = schedule.next()
    assert alone is not None
    assert (name(alone), lanes(alone)) == ("a", 1)
    assert not schedule.again(alone), "there is nothing more to try"
    assert name(schedule.next()) == "c"


def test_what_is_to_run_alone_can_be_cancelled() -> None:
    schedule: Schedule[str] = Schedule(2, 1 << 40)
    for key in "ab":
        schedule.submit(key, LANE)
    first, second = schedule.next(), schedule.next()
    assert first is not None
    assert second is not None
    assert schedule.again(first)
    schedule.cancel("a")
    schedule.submit("c", LANE)
    assert name(schedule.next()) == "c"


def test_one_that_others_ran_beside_has_not_been_tried_alone() -> None:
    """Also when it was to run alone by then, as the same one had failed a moment before."""
    schedule: Schedule[str] = Schedule(2, 1 << 40)
    one = ScryptParameters(15, 8, 1)
    schedule.submit("a", one)
    schedule.put_back("a", one, lambda key: False)
    first, second = schedule.next(), schedule.next()
    assert first is not None
    assert second is not None
    assert schedule.again(first)
    assert schedule.again(second)
    alone = schedule.next()
    assert alone is not None
    assert not schedule.again(alone)


def test_one_that_could_not_be_started_is_the_next_again() -> None:
    schedule: Schedule[str] = Schedule(2, 1 << 40)
    schedule.submit("a", SINGLE)
    schedule.submit("b", SINGLE)
    first, second = schedule.next(), schedule.next()
    assert first is not None
    assert second is not None
    assert schedule.refused(second), "the first one runs, and something starts when it ends"
    assert name(schedule.next()) == "b"


def test_one_that_could_not_be_started_alone_has_nothing_to_wait_for() -> None:
    schedule: Schedule[str] = Schedule(1, 1 << 40)
    schedule.submit("a", LANE)
    start = schedule.next()
    assert start is not None
    assert not schedule.refused(start)
    assert schedule.next() is None


class TestTakenElsewhere:
    def test_the_oldest_that_suits_is_taken(self) -> None:
        schedule: Schedule[str] = Schedule(1, 1 << 40)
        for key in "abc":
            schedule.submit(key, LANE)
        assert schedule.take("bc".__contains__) == "b"
        assert schedule.take("xyz".__contains__) is None
        assert schedule.take(lambda key: True) == "a"
        schedule.put_back("b", LANE, lambda key: key > "b")
        assert name(schedule.next()) == "b"

    def test_what_comes_back_takes_its_old_place(self) -> None:
        schedule: Schedule[str] = Schedule(1, 1 << 40)
        for key in "abcde":
            schedule.submit(key, LANE)
        for _ in range(4):
            schedule.take(lambda key: key != "c")
        for key in "dbea":
            schedule.put_back(key, LANE, key.__lt__)
        order = []
        while (start := schedule.next()) is not None:
            order.append(name(start))
            schedule.done(start)
        assert order == list("abcde")

    @pytest.mark.usefixtures("cheap_memory")
    def test_not_one_that_has_begun(self) -> None:
        schedule = with_kernel(jobs=1)
        for key in "abc":
            schedule.submit(key, LANE)
        assert shares(schedule.next()) == [("a", 0, 5), ("b", 0, 1)]
        assert schedule.take(lambda key: True) == "c"
        assert schedule.take(lambda key: True) is None


def with_kernel(jobs: int, memory: int = 1 << 40, width: int = 6) -> Schedule[str]:
    schedule: Schedule[str] = Schedule(jobs, memory)
    schedule.use_kernel(lambda parameters: width if parameters.r == 8 else 0)
    return schedule


@pytest.fixture
def cheap_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory costs nothing."""
    monkeypatch.setattr("qbackup.crypto.romix.tuning.TOUCH_SECONDS", 0.0)


class TestPasses:
    """How many lanes a pass has."""

    def best(self, lanes: int, touched: int = 0, most: int = WIDTH) -> int:
        return best_pass(Work(lanes, 2, 2, LANE), most, touched=touched)

    @pytest.mark.usefixtures("cheap_memory")
    def test_where_memory_is_cheap_as_many_as_there_is_work_for(self) -> None:
        assert [self.best(lanes) for lanes in (1, 2, 4, 10, 12, 1000)] == [1, 1, 2, 5, 6, 6]

    def test_as_fresh_memory_can_be_dear_it_must_be_worth_it(self) -> None:
        assert [self.best(lanes) for lanes in (2, 10, 40, 1000)] == [1, 2, 3, 6]
        assert self.best(10, touched=5 * LANE.lane_memory) == 5, "what is there costs nothing"

    def test_as_many_as_there_is_room_for(self) -> None:
        assert [self.best(1000, most=most) for most in (0, 1, 3)] == [0, 1, 3]


@pytest.mark.usefixtures("cheap_memory")
class TestLaneKernel:
    def test_a_pass_is_filled_with_lanes_of_neighbours(self) -> None:
        schedule = with_kernel(jobs=1)
        for key in "abc":
            schedule.submit(key, LANE)
        seen = []
        while (start := schedule.next()) is not None:
            seen.append(shares(start))
            schedule.done(start)
        assert seen == [
            [("a", 0, 5), ("b", 0, 1)],
            [("b", 1, 5), ("c", 0, 2)],
            [("c", 2, 5)],
        ]

    def test_cores_share_what_waits_and_no_derivation_is_divided_for_it(self) -> None:
        schedule = with_kernel(jobs=2)
        for key in "ab":
            schedule.submit(key, LANE)
        assert shares(schedule.next()) == [("a", 0, 5)]
        assert shares(schedule.next()) == [("b", 0, 5)]

    def test_one_derivation_is_divided_where_nothing_else_waits(self) -> None:
        schedule = with_kernel(jobs=2)
        schedule.submit("a", LANE)
        assert shares(schedule.next()) == [("a", 0, 3)]
        assert shares(schedule.next()) == [("a", 3, 5)]

    def test_while_more_is_to_come_nothing_is_divided(self) -> None:
        schedule = with_kernel(jobs=2)
        schedule.expect_more(1)
        schedule.submit("a", LANE)
        assert shares(schedule.next()) == [("a", 0, 5)]

    def test_only_lanes_of_the_same_size_go_side_by_side(self) -> None:
        schedule = with_kernel(jobs=1)
        schedule.submit("a", LANE)
        schedule.submit("b", ScryptParameters(17, 8, 5))
        assert shares(schedule.next()) == [("a", 0, 5)]

    def test_more_lanes_than_a_pass_has_take_several(self) -> None:
        schedule = with_kernel(jobs=1)
        schedule.submit("a", ScryptParameters(14, 8, 20))
        seen = []
        while (start := schedule.next()) is not None:
            seen += shares(start)
            schedule.done(start)
        assert seen == [("a", 0, 6), ("a", 6, 12), ("a", 12, 17), ("a", 17, 20)]

    def test_a_narrow_budget_makes_narrow_passes(self) -> None:
        schedule = with_kernel(jobs=1, memory=512 * MIB)
        for key in "ab":
            schedule.submit(key, LANE)
        seen = []
        for _ in range(3):
            start = schedule.next()
            seen += shares(start)
            assert start is not None
            assert start.memory == 512 * MIB
            schedule.done(start)
        assert seen == [("a", 0, 2), ("a", 2, 4), ("a", 4, 5), ("b", 0, 1)]

    def test_a_narrow_pass_is_charged_what_its_job_keeps_of_a_wide_one(self) -> None:
        """Else it would give it back, and the next wide one would touch it again."""
        schedule = with_kernel(jobs=1, memory=2048 * MIB)
        schedule.submit("a", ScryptParameters(18, 8, 6))
        wide = schedule.next()
        assert wide is not None
        assert wide.memory == 6 * 256 * MIB
        schedule.done(wide)
        schedule.submit("b", ScryptParameters(18, 8, 2))
        narrow = schedule.next()
        assert shares(narrow) == [("b", 0, 2)]
        assert narrow is not None
        assert narrow.memory == wide.memory
        schedule.done(narrow)
        schedule.charge(1024 * MIB)
        schedule.submit("c", ScryptParameters(18, 8, 2))
        narrow = schedule.next()
        assert narrow is not None
        assert narrow.memory == 1024 * MIB, "what is left of the budget"

    def test_jobs_that_wait_for_work_share_the_budget(self) -> None:
        schedule = with_kernel(jobs=4, memory=4 * 512 * MIB)
        schedule.expect(1000)
        for key in "abcdefgh":
            schedule.submit(key, LANE)
        passes = [schedule.next() for _ in range(4)]
        assert [one.memory for one in passes if one] == [512 * MIB] * 4

    def test_none_of_the_budget_is_left_over(self) -> None:
        """Three lanes of a GiB for two jobs."""
        schedule = with_kernel(jobs=2, memory=3 * 1024 * MIB + 500 * MIB)
        schedule.expect(1000)
        for key in "abcdefgh":
            schedule.submit(key, SINGLE)
        assert shares(schedule.next()) == [("a", 0, 1), ("b", 0, 1)]
        assert shares(schedule.next()) == [("c", 0, 1)]

    def test_what_it_has_begun_it_ends_although_the_budget_is_used_up(self) -> None:
        schedule = with_kernel(jobs=2)
        for key in "ab":
            schedule.submit(key, ScryptParameters(18, 8, 12))
        start, other = schedule.next(), schedule.next()
        assert shares(start) == [("a", 0, 6)]
        assert shares(other) == [("a", 6, 12)]
        assert start is not None
        assert other is not None
        schedule.charge(1 << 42)
        schedule.done(start)
        assert schedule.next() is None
        schedule.done(other)
        assert name(schedule.next()) == "b", "nothing else runs"

    def test_where_lanes_are_expected_nothing_is_divided(self) -> None:
        schedule = with_kernel(jobs=2)
        schedule.expect(100)
        schedule.submit("a", LANE)
        assert shares(schedule.next()) == [("a", 0, 5)]

    def test_expected_lanes_that_were_asked_for_are_not_expected_any_more(self) -> None:
        schedule = with_kernel(jobs=2)
        schedule.expect(5)
        schedule.submit("a", LANE)
        assert shares(schedule.next()) == [("a", 0, 3)]

    def test_where_every_lane_can_have_a_core_each_has_one(self) -> None:
        schedule = with_kernel(jobs=8)
        schedule.submit("a", LANE)
        assert [shares(schedule.next()) for _ in range(5)] == [
            [("a", lane, lane + 1)] for lane in range(5)
        ]

    def test_what_does_not_fit_is_a_backends(self) -> None:
        schedule = with_kernel(jobs=1, memory=200 * MIB)
        schedule.submit("a", LANE)
        assert lanes(schedule.next()) == 1

    def test_other_parameters_are_a_backends(self) -> None:
        schedule = with_kernel(jobs=1)
        schedule.submit("a", ScryptParameters(18, 4, 10))
        assert name(schedule.next()) == "a"

    def test_when_it_fails_what_it_has_begun_is_begun_anew(self) -> None:
        schedule = with_kernel(jobs=2)
        for key in "abcdef":
            schedule.submit(key, ScryptParameters(14, 8, 5))
        first, second = schedule.next(), schedule.next()
        assert shares(first) == [("a", 0, 5), ("b", 0, 1)]
        assert shares(second) == [("b", 1, 5), ("c", 0, 2)]
        assert second is not None
        schedule.failed(second)
        assert first is not None
        schedule.failed(first)
        seen = []
        while (start := schedule.next()) is not None:
            seen.append(name(start))
            schedule.done(start)
        assert sorted(seen) == list("abcdef")

    def test_a_cancelled_derivation_is_in_no_further_pass(self) -> None:
        schedule = with_kernel(jobs=1)
        schedule.submit("a", ScryptParameters(14, 8, 12))
        schedule.submit("b", ScryptParameters(14, 8, 6))
        start = schedule.next()
        assert start is not None
        schedule.cancel("a")
        schedule.done(start)
        assert shares(schedule.next()) == [("b", 0, 6)]

    @pytest.mark.slow
    @given(
        jobs=st.integers(1, 16),
        memory=st.integers(1, 1 << 30),
        work=st.lists(
            st.builds(
                ScryptParameters, st.integers(10, 12), st.sampled_from([4, 8]), st.integers(1, 20)
            ),
            max_size=20,
        ),
        choices=st.lists(st.integers(0, 1 << 30), min_size=100, max_size=100),
    )
    def test_every_lane_starts_once_in_order_within_jobs_and_budget(
        self, jobs: int, memory: int, work: list[ScryptParameters], choices: list[int]
    ) -> None:
        schedule: Schedule[int] = Schedule(jobs, memory)
        schedule.use_kernel(lambda parameters: 6 if parameters.r == 8 else 0)
        waiting = deque(enumerate(work))
        running: list[Assignment[int]] = []
        started: list[tuple[int, int]] = []
        chances = iter(choices)
        while waiting or running:
            choice = next(chances, 0)
            if waiting and (choice % 2 or not running):
                schedule.submit(*waiting.popleft())
            elif running:
                schedule.done(running.pop(choice % len(running)))
            while (start := schedule.next()) is not None:
                running.append(start)
                for share in start.shares:
                    started += [(share.key, lane) for lane in range(share.first, share.end)]
                assert (
                    sum(share.count for share in start.shares) <= 8 or start.way is Strategy.WHOLE
                )
            assert sum(start.jobs for start in running) <= jobs
            assert len(running) < 2 or sum(start.memory for start in running) <= memory
        assert started == [(key, lane) for key, p in enumerate(work) for lane in range(p.p)]
