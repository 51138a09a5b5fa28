"""Which derivation may start: order, lanes and the budget, without threads or a clock."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from qbackup.pipeline.schedule import Schedule, Start
from qbackup.scrypt import ScryptParameters

MIB = 1 << 20
LANE = ScryptParameters(18, 8, 5)  # 256 MiB a lane
SINGLE = ScryptParameters(20, 8, 1)  # 1 GiB


def lanes(start: Start[str] | None) -> int:
    assert start is not None
    return start.lanes


def test_derivations_start_in_the_order_they_were_asked_for() -> None:
    schedule: Schedule[str] = Schedule(1, 1 << 40)
    for name in "abc":
        schedule.submit(name, LANE)
    seen = []
    while (start := schedule.next()) is not None:
        seen.append(start.key)
        assert schedule.next() is None, "one job, one lane"
        schedule.done(start)
    assert seen == ["a", "b", "c"]


def test_a_lone_derivation_gets_all_lanes_it_has_use_for() -> None:
    schedule: Schedule[str] = Schedule(16, 1 << 40)
    schedule.submit("a", LANE)
    assert lanes(schedule.next()) == 5


def test_waiting_derivations_share_the_jobs() -> None:
    schedule: Schedule[str] = Schedule(4, 1 << 40)
    for name in "abc":
        schedule.submit(name, LANE)
    assert [lanes(schedule.next()) for _ in range(3)] == [1, 1, 2]
    assert schedule.next() is None


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
    assert (start.key, start.lanes) == ("large", 1)
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
    for name in "abc":
        schedule.submit(name, LANE)
    schedule.cancel("b")
    first = schedule.next()
    assert first is not None
    schedule.cancel("a")  # too late: it runs
    schedule.done(first)
    following = schedule.next()
    assert following is not None
    assert following.key == "c"


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
    running: list[Start[int]] = []
    started: list[int] = []
    for choice in choices:
        if waiting and choice % 2:
            schedule.submit(*waiting.popleft())
        elif running:
            schedule.done(running.pop(choice % len(running)))
        while (start := schedule.next()) is not None:
            running.append(start)
            started.append(start.key)
            assert 1 <= start.lanes <= work[start.key].p
        assert sum(start.lanes for start in running) <= jobs
        assert len(running) < 2 or sum(start.memory for start in running) <= memory
    while waiting or running:
        if waiting:
            schedule.submit(*waiting.popleft())
        elif running:
            schedule.done(running.pop())
        while (start := schedule.next()) is not None:
            running.append(start)
            started.append(start.key)
    assert started == list(range(len(work)))


def test_what_failed_for_want_of_memory_runs_again_alone() -> None:
    schedule: Schedule[str] = Schedule(4, 1 << 40)
    for name in "abc":
        schedule.submit(name, LANE)
    a, b = schedule.next(), schedule.next()
    assert a is not None
    assert b is not None
    assert schedule.again(a), "others ran beside it"
    assert schedule.next() is None, "it is the next one, and waits until nothing else runs"
    schedule.done(b)
    alone = schedule.next()
    assert alone is not None
    assert (alone.key, alone.lanes) == ("a", 1)
    assert not schedule.again(alone), "there is nothing more to try"
    last = schedule.next()
    assert last is not None
    assert last.key == "c"


def test_one_that_could_not_be_started_is_the_next_again() -> None:
    schedule: Schedule[str] = Schedule(1, 1 << 40)
    schedule.submit("a", LANE)
    schedule.submit("b", LANE)
    start = schedule.next()
    assert start is not None
    schedule.done(start)
    assert schedule.is_idle()
    schedule.put_back(start)
    following = schedule.next()
    assert following is not None
    assert following.key == "a"
