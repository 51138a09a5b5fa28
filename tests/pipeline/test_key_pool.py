"""Keys from the pool: right whichever way they come, within the budget, and never waited for in
vain.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qbackup.base.errors import Interrupted, MachineError, NotEnoughMemory
from qbackup.crypto.kdf import Backend, Derivation, Deriver, load_backends
from qbackup.crypto.romix.kernel import LaneKernel, LaneMemory, load_kernel
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.pipeline import workers
from qbackup.pipeline.key_pool import KeyPool
from qbackup.pipeline.key_request import ChunkQuota, KeyFuture
from tests.support.atrest import check_at_rest, threads
from tests.support.commandline import wait_for
from tests.support.keypools import LANES, Gate, Watched, job, key_of
from tests.support.speed import rows

MIB = 1 << 20
BUDGET = 64 * MIB


@pytest.fixture
def pools() -> Iterator[Callable[..., KeyPool]]:
    """Makes pools; at the end each has given back all that it took."""
    made: list[KeyPool] = []

    def make(deriver: Deriver, jobs: int = 2, memory: int = BUDGET, **more: Any) -> KeyPool:
        made.append(KeyPool(deriver, jobs, memory, **more))
        return made[-1]

    yield make
    for pool in made:
        pool.close()
        check_at_rest(pool)


def ready(pool: KeyPool, parameters: ScryptParameters = LANES) -> KeyPool:
    """The same, once it has its kernel."""
    pool.warm_up(parameters)
    wait_for(lambda: "qbackup-kernel" not in threads())
    return pool


def check_keys(pool: KeyPool, count: int, parameters: ScryptParameters = LANES) -> None:
    """Asks for some keys at once; all must be right."""
    jobs = [job(number, parameters) for number in range(count)]
    tickets = [pool.start(one) for one in jobs]
    assert [ticket.wait() for ticket in tickets] == [key_of(one) for one in jobs]


Pools = Callable[..., KeyPool]


class TestTwoWays:
    @rows("jobs", [1, 2, 8], quick=2)
    @rows("count", [1, 3, 9], quick=2)
    def test_whole(self, pools: Pools, jobs: int, count: int) -> None:
        deriver = Watched()
        check_keys(pools(deriver, jobs), count)
        assert set(deriver.seen.ways) == {"whole"}

    @rows("jobs", [1, 2], quick=2)
    @rows("count", [1, 3, 9], quick=2)
    def test_by_the_kernel(self, pools: Pools, kernel: LaneKernel, jobs: int, count: int) -> None:
        deriver = Watched(lambda lanes: kernel)
        pool = ready(pools(deriver, jobs))
        assert pool.has_kernel
        check_keys(pool, count)
        assert "kernel" in deriver.seen.ways
        assert sum(deriver.seen.lanes) == LANES.p * count, "none of them twice"

    def test_a_lone_lane_is_derived_whole(self, pools: Pools) -> None:
        deriver = Watched()
        check_keys(pools(deriver), 3, ScryptParameters(10, 8, 1))
        assert deriver.seen.ways == ["whole"] * 3

    def test_what_the_kernel_is_not_made_for(self, pools: Pools, kernel: LaneKernel) -> None:
        deriver = Watched(lambda lanes: kernel)
        pool = ready(pools(deriver))
        check_keys(pool, 3, ScryptParameters(10, 4, 5))
        assert "kernel" not in deriver.seen.ways

    @pytest.mark.parametrize(("threaded", "lanes"), [(True, 4), (False, 1)])
    def test_one_key_takes_all_jobs_where_its_lanes_can_run_side_by_side(
        self, pools: Pools, threaded: bool, lanes: int
    ) -> None:
        seen: list[int] = []

        def derive(job: Derivation, threads: int) -> bytes:
            seen.append(threads)
            return key_of(job)

        check_keys(pools(Deriver((Backend("test", derive, threaded=threaded),)), 4), 1)
        assert seen == [lanes]

    def test_keys_that_are_asked_for_in_a_row_take_a_job_each(self, pools: Pools) -> None:
        seen: list[int] = []

        def derive(job: Derivation, threads: int) -> bytes:
            seen.append(threads)
            return key_of(job)

        pool = pools(Deriver((Backend("test", derive, threaded=True),)), 2)
        with pool.more_to_come():
            tickets = [pool.start(job(number)) for number in range(4)]
        for ticket in tickets:
            ticket.wait()
        assert seen == [1] * 4

    def test_a_backend_without_threads(self, pools: Pools) -> None:
        """hashlib has none, and neither has a pycryptodome before 4.0."""
        (backend,) = (one for one in load_backends() if one.name == "hashlib")
        check_keys(pools(Deriver((backend,))), 3)

    @pytest.mark.parametrize("error", [RuntimeError, OSError, MemoryError])
    def test_where_there_is_no_room_for_threads_the_lanes_go_one_after_the_other(
        self, pools: Pools, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        """pycryptodome would wait for ever for a thread that has no room to begin."""
        asked: list[int] = []

        def refuse(threads: int) -> None:
            asked.append(threads)
            raise error("no room")

        seen: list[int] = []

        def derive(job: Derivation, threads: int) -> bytes:
            seen.append(threads)
            return key_of(job)

        monkeypatch.setattr(workers, "check_room", refuse)
        check_keys(pools(Deriver((Backend("test", derive, threaded=True),)), 3), 1)
        assert (asked, seen) == ([2], [1])

    @pytest.mark.parametrize("error", [RuntimeError, KeyError])
    def test_where_a_backend_s_thread_fails_the_lanes_go_one_after_the_other(
        self, pools: Pools, error: type[Exception]
    ) -> None:
        """KeyError: pycryptodome finds no result of a thread that ended before its first line."""
        seen: list[int] = []

        def derive(job: Derivation, threads: int) -> bytes:
            seen.append(threads)
            if threads > 1:
                raise error(1)
            return key_of(job)

        check_keys(pools(Deriver((Backend("test", derive, threaded=True),)), 3), 1)
        assert seen == [3, 1]

    def test_no_backend_at_all_is_said(self, pools: Pools) -> None:
        deriver = Deriver((Backend("none", lambda job, threads: b"", max_memory=0),))
        with pytest.raises(MachineError, match="install pycryptodome"):
            pools(deriver).start(job(0)).wait()


class TestWaysThatFail:
    @rows("error", [RuntimeError("broken"), NotEnoughMemory("short"), MemoryError()], ids=repr)
    @rows("good", [0, 1, 2])
    def test_a_kernel_that_fails_in_the_middle_costs_no_key(
        self, pools: Pools, kernel: LaneKernel, error: Exception, good: int
    ) -> None:
        deriver: Watched

        def fail(way: str) -> None:
            if way == "kernel" and deriver.seen.ways.count("kernel") > good:
                raise error

        deriver = Watched(lambda lanes: kernel, before=fail)
        pool = ready(pools(deriver))
        check_keys(pool, 9)
        failed = deriver.seen.ways.count("kernel")
        assert failed > good
        check_keys(pool, 3)
        assert deriver.seen.ways.count("kernel") == failed, "it is not tried again"

    def test_keys_that_find_no_memory_are_derived_alone(self, pools: Pools) -> None:
        beside: list[int] = []

        def short(way: str) -> None:
            beside.append(pool._schedule._running_jobs)
            if beside[-1] > 1:
                raise NotEnoughMemory("another one has it")

        pool = pools(Watched(before=short), 4)
        check_keys(pool, 4)
        assert beside.count(1) == 4

    def test_no_memory_alone_either_is_an_error_of_its_own(self, pools: Pools) -> None:
        def short(way: str) -> None:
            raise NotEnoughMemory("there is none")

        pool = pools(Watched(before=short))
        tickets = [pool.start(job(number)) for number in range(3)]
        for ticket in tickets:
            with pytest.raises(NotEnoughMemory, match="there is none"):
                ticket.wait()

    def test_what_nobody_wants_any_more_is_not_done_again(self, pools: Pools) -> None:
        """A failure that comes after the cancellation."""
        gate = Gate()

        def fail(way: str) -> None:
            gate(way)
            raise NotEnoughMemory("another one has it")

        deriver = Watched(before=fail)
        pool = pools(deriver, 1)
        ticket = pool.start(job(0))
        wait_for(lambda: gate.came == ["whole"])
        ticket.cancel()
        gate.open()
        wait_for(lambda: not threads())
        assert deriver.seen.ways == ["whole"]


class TestLoadingTheKernel:
    def test_while_it_is_loaded_what_is_asked_for_waits_for_it(
        self, pools: Pools, kernel: LaneKernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workers, "_KERNEL_SECONDS", 600.0)
        gate = Gate()

        def load(lanes: int) -> LaneKernel:
            gate("load")
            return kernel

        deriver = Watched(load)
        pool = pools(deriver)
        pool.warm_up(LANES)
        tickets = [pool.start(job(number)) for number in range(9)]
        wait_for(lambda: gate.came == ["load"])
        assert deriver.seen.ways == []
        gate.open()
        assert [ticket.wait() for ticket in tickets] == [key_of(job(n)) for n in range(9)]
        assert "kernel" in deriver.seen.ways

    @pytest.mark.slow
    @pytest.mark.parametrize("seconds", [0.0, 0.1])
    def test_one_that_is_late_is_waited_for_no_longer(
        self,
        pools: Pools,
        kernel: LaneKernel,
        monkeypatch: pytest.MonkeyPatch,
        seconds: float,
    ) -> None:
        monkeypatch.setattr(workers, "_KERNEL_SECONDS", seconds)
        gate = Gate()

        def load(lanes: int) -> LaneKernel:
            gate("load")
            return kernel

        deriver = Watched(load)
        pool = pools(deriver)
        pool.warm_up(LANES)
        check_keys(pool, 3)
        assert set(deriver.seen.ways) == {"whole"}
        gate.open()
        wait_for(lambda: pool.has_kernel)
        check_keys(pool, 9)
        assert "kernel" in deriver.seen.ways

    @pytest.mark.parametrize("error", [ImportError("no llvmlite"), MachineError("wrong keys")])
    def test_one_that_can_not_be_loaded(self, pools: Pools, error: Exception) -> None:
        def load(lanes: int) -> LaneKernel:
            raise error

        deriver = Watched(load)
        pool = ready(pools(deriver))
        check_keys(pool, 3)
        assert not pool.has_kernel
        assert set(deriver.seen.ways) == {"whole"}

    def test_no_thread_for_it(self, pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
        pool = pools(Watched(load_kernel))
        with monkeypatch.context() as patch:
            refuse_threads(patch)
            pool.warm_up(LANES)
        check_keys(pool, 3)
        assert not pool.has_kernel

    def test_is_loaded_once_and_only_where_it_is_installed(self, pools: Pools) -> None:
        loads: list[str] = []

        def load(lanes: int) -> LaneKernel:
            loads.append("load")
            raise ImportError

        pool = pools(Watched(load))
        ready(ready(pool))
        assert loads == ["load"]
        none = pools(Watched())
        none.warm_up(LANES)
        assert not threads()
        closed = pools(Watched(load))
        closed.close()
        closed.warm_up(LANES)
        assert loads == ["load"]


class TestLingering:
    """A worker of the kernel keeps its memory for a while, for what comes next."""

    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers, "LINGER_SECONDS", 600.0)

    @pytest.fixture
    def pool(self, pools: Pools, kernel: LaneKernel) -> KeyPool:
        """After its first keys; its one worker lingers."""
        pool = ready(pools(Watched(lambda lanes: kernel), 1, 10 * MIB))
        check_keys(pool, 2)
        wait_for(lambda: len(pool._workers.idle) == 1)
        return pool

    def test_the_next_start_gets_it(self, pool: KeyPool) -> None:
        (worker,) = pool._workers.idle
        mapped = worker.memory._map
        assert mapped is not None
        check_keys(pool, 2)
        wait_for(lambda: len(pool._workers.idle) == 1)
        assert pool._workers.idle == [worker]
        assert worker.memory._map is mapped
        assert threads() == ["qbackup-derive"]

    def test_what_is_kept_is_the_worker_s_own_when_the_next_start_is_weighed(
        self, pool: KeyPool
    ) -> None:
        """It does not stand in the way of the very pass that it is kept for."""
        deriver = pool._deriver
        assert isinstance(deriver, Watched)
        before = deriver.seen.lanes[:]
        deriver.seen.lanes.clear()
        check_keys(pool, 2)
        assert deriver.seen.lanes == before

    def test_it_stays_within_the_budget(self, pool: KeyPool) -> None:
        kept = pool._workers.idle[0].kept
        assert MIB <= kept <= 6 * MIB
        holder = ChunkQuota(2, lambda: True)
        assert pool.hold(10 * MIB - kept, holder)
        assert len(pool._workers.idle) == 1
        assert pool.hold(MIB, holder), "and it gives way"
        assert not pool._workers.idle
        wait_for(lambda: not threads())
        pool.release(10 * MIB - kept, holder)
        pool.release(MIB, holder)

    def test_it_goes_back_after_a_while(
        self, pools: Pools, kernel: LaneKernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workers, "LINGER_SECONDS", 0.05)
        pool = ready(pools(Watched(lambda lanes: kernel)))
        check_keys(pool, 9)
        wait_for(lambda: not threads())
        assert not pool._workers.idle

    def test_it_goes_back_when_the_pool_is_closed(self, pool: KeyPool) -> None:
        (worker,) = pool._workers.idle
        pool.close()
        wait_for(lambda: not threads())
        assert worker.memory._map is None

    @pytest.mark.slow
    def test_it_goes_back_when_memory_is_short(self, pools: Pools, kernel: LaneKernel) -> None:
        """What one keeps that has nothing to do must not cost another one its key."""
        is_short = [False]

        def short(way: str) -> None:
            if is_short[0] and (way != "whole" or pool._workers.idle):
                raise NotEnoughMemory("others have it")

        pool = ready(pools(Watched(lambda lanes: kernel, before=short), 2))
        check_keys(pool, 2, ScryptParameters(10, 8, 8))  # a pass for each
        wait_for(lambda: len(pool._workers.idle) == 2)
        is_short[0] = True
        check_keys(pool, 9, ScryptParameters(11, 4, 3))
        assert not pool._workers.idle
        is_short[0] = False
        check_keys(pool, 9)
        wait_for(lambda: not threads())


class TestGivingUp:
    def test_cancelled_while_its_lanes_run(self, pools: Pools) -> None:
        gate = Gate()
        pool = pools(Watched(before=gate))
        with pool.more_to_come():
            ticket, other = pool.start(job(0)), pool.start(job(1))
        wait_for(lambda: len(gate.came) == 2)
        ticket.cancel()
        with pytest.raises(Interrupted, match="not wanted"):
            ticket.wait()
        gate.open()
        assert other.wait() == key_of(job(1))
        assert ticket.key is None, "the first result counts"

    def test_cancelled_before_it_began(self, pools: Pools) -> None:
        gate = Gate()
        deriver = Watched(before=gate)
        pool = pools(deriver, 1)
        first, second = pool.start(job(0)), pool.start(job(1))
        second.cancel()
        gate.open()
        assert first.wait() == key_of(job(0))
        wait_for(lambda: not threads())
        assert len(deriver.seen.ways) == 1

    def test_who_waits_for_a_cancelled_one_is_told(self, pools: Pools) -> None:
        gate = Gate()
        pool = pools(Watched(before=gate))
        ticket = pool.start(job(0))
        told = result_in_a_thread(ticket.wait)
        ticket.cancel()
        assert isinstance(told(), Interrupted)
        gate.open()

    def test_who_waits_when_the_pool_is_closed_is_told(self, pools: Pools) -> None:
        gate = Gate()
        pool = pools(Watched(before=gate))
        with pool.more_to_come():
            told = [result_in_a_thread(pool.start(job(number)).wait) for number in range(3)]
        wait_for(lambda: len(gate.came) == 2)
        pool.close()
        assert all(isinstance(one(), Interrupted) for one in told)
        assert pool._schedule._running_jobs == 2, "it stays charged until it has ended"
        gate.open()

    def test_what_a_closed_pool_is_asked_for_is_not_begun(self, pools: Pools) -> None:
        deriver = Watched()
        pool = pools(deriver)
        pool.close()
        ticket = pool.start(job(0))
        with pytest.raises(Interrupted, match="closed"):
            ticket.wait()
        assert deriver.seen.ways == []

    def test_who_waits_to_hold_a_chunk_is_told(self, pools: Pools) -> None:
        pool = pools(Watched())
        wanted = [True]
        holders = [ChunkQuota(1, lambda: True), ChunkQuota(1, lambda: wanted[0])]
        for holder in holders:
            assert pool.hold(MIB, holder)
        answers = [result_in_a_thread(lambda h=h: pool.hold(MIB, h)) for h in holders]  # type: ignore[misc]
        wanted[0] = False
        pool.wake()
        assert answers[1]() is False
        pool.close()
        assert answers[0]() is False
        for holder in holders:
            pool.release(MIB, holder)


class TestThreadsThatCanNotBeStarted:
    @pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
    def test_with_no_other_it_is_said(
        self, pools: Pools, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        pool = pools(Watched())
        with monkeypatch.context() as patch:
            refuse_threads(patch, error)
            ticket = pool.start(job(0))
            with pytest.raises(MachineError, match="thread"):
                ticket.wait()
        check_keys(pool, 3)

    @rows("error", [RuntimeError("can't start new thread"), MemoryError()])
    def test_one_that_runs_does_the_work(
        self, pools: Pools, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        gate = Gate()
        pool = pools(Watched(before=gate), 4)
        tickets = [pool.start(job(0, ScryptParameters(10, 8, 1)))]
        wait_for(lambda: bool(gate.came))
        refuse_threads(monkeypatch, error)
        jobs = [job(number) for number in range(5)]
        tickets = [pool.start(one) for one in jobs]
        gate.open()
        assert [ticket.wait() for ticket in tickets] == [key_of(one) for one in jobs]

    def test_a_lingering_one_is_enough(
        self, pools: Pools, kernel: LaneKernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workers, "LINGER_SECONDS", 600.0)
        pool = ready(pools(Watched(lambda lanes: kernel), 1))
        check_keys(pool, 3)
        wait_for(lambda: bool(pool._workers.idle))
        refuse_threads(monkeypatch)
        check_keys(pool, 3)


class TestWorkersThatEnd:
    """Where memory is out, even what is done about it can fail."""

    @pytest.fixture
    def broken(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyPool]:
        """Its worker ends where nobody can be told."""
        pool = KeyPool(Watched(), 2, BUDGET)

        def fail(*arguments: object, **named: object) -> None:
            raise MemoryError

        monkeypatch.setattr(pool._workers, "_settle", fail)
        yield pool
        pool.close()
        wait_for(lambda: not threads())

    def test_who_waits_is_told(self, broken: KeyPool) -> None:
        tickets = [broken.start(job(number)) for number in range(5)]
        for ticket in tickets:
            with pytest.raises(MachineError, match="out of memory") as raised:
                ticket.wait()
            assert isinstance(raised.value.__cause__, MemoryError)

    def test_who_asks_later_is_told(self, broken: KeyPool) -> None:
        broken.start(job(0))
        wait_for(lambda: broken._workers._broken is not None)
        with pytest.raises(MachineError, match="out of memory"):
            broken.start(job(1)).wait()

    def test_who_waits_to_hold_a_chunk_is_told(self, broken: KeyPool) -> None:
        holder = ChunkQuota(1, lambda: True)
        assert broken.hold(MIB, holder)
        told = result_in_a_thread(lambda: broken.hold(MIB, holder))
        broken.start(job(0))
        assert isinstance(told(), MachineError)

    def test_a_key_that_came_before_is_had(self, pools: Pools) -> None:
        pool = pools(Watched())
        ticket = pool.start(job(0))
        wait_for(lambda: ticket.is_settled)
        pool._workers._broken = MemoryError()
        assert ticket.wait() == key_of(job(0))


class TestSpeculation:
    def test_the_next_call_finds_it(self, pools: Pools) -> None:
        deriver = Watched()
        pool = pools(deriver)
        expected = pool.start(job(0), speculative=True)
        found = pool.start(job(0))
        assert found is expected
        assert found.wait() == key_of(job(0))
        assert pool.start(job(0)) is not expected, "once"
        wait_for(lambda: not threads())
        assert len(deriver.seen.ways) == 2

    def test_what_was_begun_is_not_expected_once_more(self, pools: Pools) -> None:
        pool = pools(Watched())
        pool.start(job(0), speculative=True)
        pool.expect_lanes(2 * LANES.p)
        tickets = [pool.start(job(number)) for number in range(2)]
        assert pool._schedule._expected == 0, "all that were expected have been asked for"
        assert [ticket.wait() for ticket in tickets] == [key_of(job(0)), key_of(job(1))]

    def test_what_was_not_begun_is_dropped_when_it_is_not_needed(self, pools: Pools) -> None:
        gate = Gate()
        deriver = Watched(before=gate)
        pool = pools(deriver, 1)
        first = pool.start(job(0))
        pool.start(job(1), speculative=True)
        pool.forget_speculated()
        gate.open()
        first.wait()
        wait_for(lambda: not threads())
        assert len(deriver.seen.ways) == 1
        assert pool.start(job(1)).wait() == key_of(job(1))


class TestTheBudget:
    @pytest.mark.slow
    def test_is_never_exceeded_whatever_way_keys_come(
        self, pools: Pools, kernel: LaneKernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workers, "LINGER_SECONDS", 0.02)
        memory = 12 * MIB
        over: list[int] = []

        def look(way: str) -> None:
            with pool._changed:
                kept = sum(worker.kept for worker in pool._workers.idle)
                if pool._schedule._used + kept > memory:
                    over.append(pool._schedule._used + kept)

        pool = ready(pools(Watched(lambda lanes: kernel, before=look), 2, memory))
        kinds = [LANES, ScryptParameters(11, 4, 3), ScryptParameters(11, 8, 1)]
        jobs = [job(number, kinds[number // 4 % 3]) for number in range(60)]
        tickets: list[KeyFuture] = []
        for one in jobs:
            tickets.append(pool.start(one))
            if len(tickets) > 8:
                tickets[-8].wait()
            if len(tickets) % 20 == 0:
                time.sleep(0.05)  # lets some linger, and go
        assert [ticket.wait() for ticket in tickets] == [key_of(one) for one in jobs]
        assert not over

    @pytest.mark.slow
    def test_a_pass_takes_no_more_than_it_is_charged(
        self, pools: Pools, kernel: LaneKernel
    ) -> None:
        """Also a narrow one after a wide one that had all of the budget."""
        taken: list[int] = []

        class Kernel(LaneKernel):
            def romix(
                self,
                blocks: bytes | bytearray | memoryview,
                parameters: ScryptParameters,
                memory: LaneMemory,
            ) -> bytes:
                mixed = super().romix(blocks, parameters, memory)
                taken.append(memory._used)
                return mixed

        pool = ready(pools(Deriver(load_kernel=lambda lanes: Kernel(kernel.prepare)), 1, 6 * MIB))
        check_keys(pool, 9)
        assert 2 * MIB < max(taken) <= 6 * MIB
        taken.clear()
        with pool._changed:
            pool._schedule.charge(4 * MIB)
        check_keys(pool, 9)
        with pool._changed:
            pool._schedule.release(4 * MIB)
        assert max(taken) == 2 * MIB

    def test_one_too_small_for_a_lane_slows_down_and_stops_nothing(
        self, pools: Pools, kernel: LaneKernel
    ) -> None:
        check_keys(ready(pools(Watched(lambda lanes: kernel), 4, MIB // 2)), 3)


def refuse_threads(
    patch: pytest.MonkeyPatch,
    error: Exception = RuntimeError("can't start new thread"),  # noqa: B008
) -> None:
    """As a machine does that has no room for one."""

    def refuse(self: threading.Thread) -> None:
        raise error

    patch.setattr(threading.Thread, "start", refuse)


def result_in_a_thread(function: Callable[[], object]) -> Callable[[], object]:
    """Calls it on another thread; the result waits for what came of it, an error too."""
    results: list[object] = []

    def call() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()

    def result() -> object:
        thread.join(60)
        assert results, "it still waits"
        return results[0]

    return result
