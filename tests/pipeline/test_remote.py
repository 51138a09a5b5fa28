"""Keys with the help of an executor: the same ones, whatever it does, and it is told no secret."""

from __future__ import annotations

import functools
import hmac
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, cast

import pytest

import qbackup
from qbackup.base.errors import Interrupted
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.crypto.scrypt_steps import NoLaneKernel, expand, romix
from qbackup.pipeline import key_pool as pool_module
from qbackup.pipeline.key_pool import KeyPool
from qbackup.pipeline.key_request import KeyFuture
from qbackup.pipeline.remote import RemoteMixing
from tests.support import alter, librarybackup, restored
from tests.support.atrest import check_at_rest, threads
from tests.support.commandline import wait_for
from tests.support.derivations import need_llvmlite
from tests.support.keypools import Gate, Watched, job, key_of

COUNT = 12


class Recorded(Executor):
    """Another executor, or one that does something else, and all that it was given.

    Args:
        answer: makes the future of a call.
    """

    def __init__(self, answer: Callable[..., Future[Any]]) -> None:
        self._answer = answer
        self.calls: list[tuple[Any, ...]] = []
        self.is_shut_down = False

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        self.calls.append((function, arguments, named))
        return self._answer(function, *arguments, **named)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.is_shut_down = True


def inline(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """It is done before `submit` returns, so it calls back at once."""
    future: Future[Any] = Future()
    future.set_result(function(*arguments))
    return future


def of_result(result: object) -> Callable[..., Future[Any]]:
    def answer(*arguments: object) -> Future[Any]:
        return inline(lambda: result)

    return answer


def of_error(error: BaseException) -> Callable[..., Future[Any]]:
    def answer(*arguments: object) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(error)
        return future

    return answer


def never(*arguments: object) -> Future[Any]:
    return Future()


def cancelled(*arguments: object) -> Future[Any]:
    future: Future[Any] = Future()
    future.cancel()
    return future


def refused(*arguments: object) -> Future[Any]:
    raise RuntimeError("cannot schedule new futures after shutdown")


def wrong_bytes(function: Callable[..., bytes], *arguments: Any) -> Future[Any]:
    mixed = function(*arguments)
    return inline(lambda: bytes([mixed[0] ^ 1]) + mixed[1:])


Pools = Callable[..., KeyPool]


@pytest.fixture(autouse=True, scope="module")
def has_llvmlite() -> None:
    """Only the lane kernel does what an executor is asked for."""
    need_llvmlite()


@pytest.fixture
def pools() -> Iterator[Pools]:
    """`pools(executor)`: a pool that nothing but this executor can derive for, until the gate of
    its deriver is opened. At the end it has given back all that it took.
    """
    made: list[KeyPool] = []

    def make(
        executor: Executor, *, here: bool = False, jobs: int | None = None, **more: Any
    ) -> KeyPool:
        gate = Gate()
        if here:
            gate.open()
        pool = KeyPool(Watched(before=gate), 1, 1 << 26, RemoteMixing(executor, jobs, **more))
        pool.gate = gate  # type: ignore[attr-defined]
        made.append(pool)
        return pool

    yield make
    for pool in made:
        pool.close()
        pool.gate.open()  # type: ignore[attr-defined]
        check_at_rest(pool)


def start(pool: KeyPool, derivation: Derivation) -> KeyFuture:
    """Asks for a key that can be proved, as a chunk's can."""
    right = key_of(derivation)
    return pool.start(derivation, proves=lambda key: key == right)


def check_keys(pool: KeyPool, count: int = COUNT) -> None:
    right = {one: key_of(one) for one in (job(number) for number in range(count))}
    tickets = [
        pool.start(one, proves=functools.partial(hmac.compare_digest, key))
        for one, key in right.items()
    ]
    assert [ticket.wait() for ticket in tickets] == list(right.values())


def busy(pool: KeyPool) -> KeyFuture:
    """The pool's own worker is kept busy, so that what follows is for the executor."""
    ticket = pool.start(job(99, ScryptParameters(10, 8, 1)))
    wait_for(lambda: bool(pool.gate.came))  # type: ignore[attr-defined]
    return ticket


class TestExecutors:
    @pytest.mark.slow
    def test_threads(self, pools: Pools) -> None:
        with ThreadPoolExecutor(2) as executor:
            pool = pools(executor)
            busy(pool)
            check_keys(pool)

    @pytest.mark.slow
    def test_processes(self, pools: Pools) -> None:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            pool = pools(executor)
            busy(pool)
            check_keys(pool)

    def test_one_that_calls_back_at_once(self, pools: Pools) -> None:
        pool = pools(Recorded(inline))
        busy(pool)
        check_keys(pool)

    @pytest.mark.slow
    def test_this_machine_works_beside_it(self, pools: Pools) -> None:
        with ThreadPoolExecutor(1) as threads_:
            executor = Recorded(threads_.submit)
            pool = pools(executor, here=True, jobs=2)
            check_keys(pool, 40)
            deriver = pool._deriver
            assert isinstance(deriver, Watched)
            assert deriver.seen.ways
            assert executor.calls

    def test_what_can_not_be_proved_stays_here(self, pools: Pools) -> None:
        """What comes back is not believed, so nothing is asked that can't be checked."""
        executor = Recorded(inline)
        pool = pools(executor, here=True)
        jobs = [job(number) for number in range(COUNT)]
        tickets = [pool.start(one) for one in jobs]
        assert [ticket.wait() for ticket in tickets] == [key_of(one) for one in jobs]
        assert executor.calls == []

    def test_it_is_asked_as_soon_as_there_is_something_for_it(self, pools: Pools) -> None:
        """Also when it had nothing to do before, and nothing ends here meanwhile."""
        executor = Recorded(inline)
        pool = pools(executor)
        busy(pool)
        wait_for(lambda: "qbackup-remote" in threads())
        check_keys(pool, 1)
        check_keys(pool, 2)

    @pytest.mark.parametrize(("workers", "jobs"), [(1, 2), (4, 6), (32, 41)])
    def test_it_is_given_some_more_than_it_has_workers(self, workers: int, jobs: int) -> None:
        with ThreadPoolExecutor(workers) as executor:
            assert RemoteMixing[str](executor).jobs == jobs
            assert RemoteMixing[str](executor, 3).jobs == 3

    def test_it_is_given_no_more_than_that_at_once(self, pools: Pools) -> None:
        executor = Recorded(never)
        pool = pools(executor, jobs=3)
        busy(pool)
        tickets = [start(pool, job(number)) for number in range(COUNT)]
        wait_for(lambda: len(executor.calls) == 3)
        tickets[0].cancel()
        wait_for(lambda: len(executor.calls) == 4)


class TestOnesThatFail:
    """It costs time, and nothing else."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "answer",
        [
            wrong_bytes,
            of_result(b""),
            of_result(bytes(128 * 8 * 5 + 1)),
            of_result(bytes(128 * 8 * 5)),
            of_result(bytearray(128 * 8 * 5)),
            of_result(None),
            of_result("text"),
            of_error(ValueError("broken")),
            of_error(BrokenProcessPool("a process died")),
            of_error(MemoryError()),
            cancelled,
            refused,
        ],
        ids=lambda answer: getattr(answer, "__name__", None),
    )
    def test_in_every_way(self, pools: Pools, answer: Callable[..., Future[Any]]) -> None:
        executor = Recorded(answer)
        pool = pools(executor)
        ticket = busy(pool)
        jobs = [job(number) for number in range(COUNT)]
        tickets = [start(pool, one) for one in jobs]
        wait_for(lambda: bool(executor.calls))
        pool.gate.open()  # type: ignore[attr-defined]
        assert [ticket.wait() for ticket in tickets] == [key_of(one) for one in jobs]
        ticket.wait()

    def test_one_with_a_worker_without_the_kernel_is_not_asked_again(self, pools: Pools) -> None:
        """Also after right answers of other workers: such a worker would be free all the time."""
        warnings: list[str] = []
        executor = Recorded(inline)
        pool = pools(executor, jobs=2, warn=warnings.append)
        busy(pool)
        start(pool, job(0)).wait()
        executor._answer = of_error(NoLaneKernel("no \x1b here"))
        tickets = [start(pool, job(number)) for number in range(1, COUNT)]
        remote = pool._remote
        assert remote is not None
        wait_for(lambda: not remote.works)
        pool.gate.open()  # type: ignore[attr-defined]
        assert [ticket.wait() for ticket in tickets] == [key_of(job(n)) for n in range(1, COUNT)]
        assert 2 <= len(executor.calls) <= 3
        (warning,) = warnings
        assert warning.startswith(r"a worker of the executor can't derive keys: no \x1b here. All")

    def test_what_the_kernel_can_not_do_stays_here(self, pools: Pools) -> None:
        executor = Recorded(inline)
        pool = pools(executor)
        busy(pool)
        other = job(0, ScryptParameters(10, 4, 5))
        stays, travels = start(pool, other), start(pool, job(1))
        assert travels.wait() == key_of(job(1))
        assert len(executor.calls) == 1
        pool.gate.open()  # type: ignore[attr-defined]
        assert stays.wait() == key_of(other)

    @pytest.mark.slow
    def test_shut_down_in_the_middle(self, pools: Pools) -> None:
        executor = ThreadPoolExecutor(1)
        pool = pools(executor, here=True)
        tickets = [start(pool, job(number)) for number in range(30)]
        executor.shutdown(wait=False, cancel_futures=True)
        assert [ticket.wait() for ticket in tickets] == [key_of(job(n)) for n in range(30)]

    @pytest.mark.slow
    def test_one_that_can_not_be_called_is_not_asked_again(self, pools: Pools) -> None:
        executor = Recorded(refused)
        pool = pools(executor, here=True)
        check_keys(pool)
        check_keys(pool)
        assert len(executor.calls) <= 1

    @pytest.mark.slow
    def test_one_that_never_answers(self, pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it has is done here after a while, and it is given no more until it answers."""
        monkeypatch.setattr(pool_module, "_REMOTE_SECONDS", 0.3)
        futures: list[Future[Any]] = []

        def silent(function: Any, *arguments: Any) -> Future[Any]:
            futures.append(Future())
            return futures[-1]

        executor = Recorded(silent)
        pool = pools(executor, jobs=4)
        busy(pool)
        jobs = [job(number) for number in range(6)]
        tickets = [start(pool, one) for one in jobs]
        wait_for(lambda: len(executor.calls) == 4)
        pool.gate.open()  # type: ignore[attr-defined]
        assert [ticket.wait() for ticket in tickets] == [key_of(one) for one in jobs]
        wait_for(lambda: all(future.cancelled() for future in futures))
        assert len(executor.calls) == 4
        check_keys(pool, 3)
        assert len(executor.calls) == 4

    @pytest.mark.slow
    @pytest.mark.parametrize("answer", [wrong_bytes, of_error(ValueError("broken"))])
    def test_one_that_was_never_right_is_not_asked_again(
        self, pools: Pools, answer: Callable[..., Future[Any]]
    ) -> None:
        executor = Recorded(answer)
        pool = pools(executor, jobs=2)
        busy(pool)
        tickets = [start(pool, job(number)) for number in range(COUNT)]
        remote = pool._remote
        assert remote is not None
        wait_for(lambda: not remote.works)
        pool.gate.open()  # type: ignore[attr-defined]
        assert [ticket.wait() for ticket in tickets] == [key_of(job(n)) for n in range(COUNT)]
        assert len(executor.calls) == 3

    @pytest.mark.slow
    def test_one_that_was_right_once_is_asked_again(self, pools: Pools) -> None:
        executor = Recorded(inline)
        pool = pools(executor, jobs=2)
        busy(pool)
        start(pool, job(0)).wait()
        executor._answer = wrong_bytes
        tickets = [start(pool, job(number)) for number in range(1, COUNT)]
        wait_for(lambda: len(executor.calls) == COUNT)
        pool.gate.open()  # type: ignore[attr-defined]
        assert [ticket.wait() for ticket in tickets] == [key_of(job(n)) for n in range(1, COUNT)]

    @pytest.mark.slow
    def test_what_it_gives_is_no_future(self, pools: Pools) -> None:
        executor = Recorded(lambda *call: cast(Any, None))
        pool = pools(executor)
        busy(pool)
        ticket = start(pool, job(0))
        wait_for(lambda: bool(executor.calls))
        pool.gate.open()  # type: ignore[attr-defined]
        assert ticket.wait() == key_of(job(0))
        check_keys(pool)
        assert len(executor.calls) == 1

    @pytest.mark.slow
    def test_a_slow_one_lets_no_job_idle(
        self, pools: Pools, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It never answers, and yet nobody waits for it: what it has is done here as well. The
        patience with it is days, so a test that ends has not waited.
        """
        monkeypatch.setattr(pool_module, "_REMOTE_SECONDS", 1e6)
        executor = Recorded(never)
        pool = pools(executor, jobs=COUNT)
        busy(pool)
        tickets = [start(pool, job(number)) for number in range(COUNT)]
        wait_for(lambda: len(executor.calls) == COUNT)
        pool.gate.open()  # type: ignore[attr-defined]
        assert [ticket.wait() for ticket in tickets] == [key_of(job(n)) for n in range(COUNT)]

    def test_a_fast_one_is_left_alone(self, pools: Pools) -> None:
        """What it has had no longer than it would take here is not done twice."""
        executor = Recorded(never)
        pool = pools(executor, jobs=1)
        busy(pool)
        ticket = start(pool, job(0))
        wait_for(lambda: bool(executor.calls))
        with pool._changed:
            pool._schedule._running_jobs -= 1  # a job that idles
            pool._workers._slowness = 1e6
            pool._help_remote(ticket)
            assert not ticket.is_late
            pool._workers._slowness = 0.0
            ticket.sent -= 1.0
            pool._help_remote(ticket)
            assert ticket.is_late
            pool._schedule._running_jobs += 1
        pool.gate.open()
        assert ticket.wait() == key_of(job(0))

    def test_one_that_answers_late_is_asked_again(
        self, pools: Pools, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool_module, "_REMOTE_SECONDS", 0.0)
        gate = Gate()

        def slow(function: Callable[..., bytes], *arguments: Any) -> bytes:
            gate("remote")
            return function(*arguments)

        with ThreadPoolExecutor(1) as threads_:
            executor = Recorded(lambda *call: threads_.submit(slow, *call))
            pool = pools(executor, jobs=1)
            busy(pool)
            ticket = start(pool, job(0))
            wait_for(lambda: gate.came == ["remote"])
            pool.gate.open()  # type: ignore[attr-defined]
            assert ticket.wait() == key_of(job(0))
            gate.open()
            remote = pool._remote
            assert remote is not None
            wait_for(lambda: not remote.is_silent)

    def test_an_answer_after_the_end_changes_nothing(self, pools: Pools) -> None:
        gate = Gate()

        def slow(function: Callable[..., bytes], *arguments: Any) -> bytes:
            gate("remote")
            return function(*arguments)

        with ThreadPoolExecutor(1) as threads_:
            pool = pools(Recorded(lambda *call: threads_.submit(slow, *call)))
            busy(pool)
            ticket, cancelled_ = start(pool, job(0)), start(pool, job(1))
            wait_for(lambda: gate.came == ["remote"])
            cancelled_.cancel()
            pool.close()
            with pytest.raises(Interrupted):
                ticket.wait()
            gate.open()
        assert ticket.key is None

    @pytest.mark.slow
    def test_one_whose_cancel_waits_for_who_calls_back(self, pools: Pools) -> None:
        """As Dask's does: it goes through the thread that tells of results."""
        with ThreadPoolExecutor(1) as loop:

            class Waiting(Future[Any]):
                def cancel(self) -> bool:
                    return loop.submit(super().cancel).result()

            futures: list[Waiting] = []

            def answer(*arguments: object) -> Future[Any]:
                futures.append(Waiting())
                return futures[-1]

            executor = Recorded(answer)
            pool = pools(executor)
            busy(pool)
            jobs = [job(number) for number in range(2 * COUNT)]
            tickets = [start(pool, one) for one in jobs]
            for number, one in enumerate(jobs):
                wait_for(lambda: len(futures) > number)  # noqa: B023
                if number % 2:
                    told = loop.submit(futures[number].set_result, romix(expand(one), 10, 8))
                    tickets[number - 1].cancel()
                    told.result(60)
                    assert tickets[number].wait() == key_of(one)
            wait_for(lambda: all(future.done() for future in futures))
            pool.close()


class TestWhatTravels:
    @pytest.fixture
    def executor(self) -> Iterator[Recorded]:
        with ThreadPoolExecutor(2) as threads_:
            yield Recorded(threads_.submit)

    def test_is_no_secret_and_no_data(
        self, made: librarybackup.Made, executor: Recorded, tmp_path: Path
    ) -> None:
        """Neither passphrase nor salt nor key, and nothing of the chunk."""
        secret = librarybackup.PASSPHRASE
        keys: list[bytes] = []
        wait = KeyFuture.wait

        def waited(self: KeyFuture) -> bytes:
            keys.append(wait(self))
            return keys[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(KeyFuture, "wait", waited)
            with qbackup.open(
                made.path, passphrase=secret, jobs=1, executor=executor, executor_jobs=8
            ) as backup:
                assert backup.restore(tmp_path).ok
        assert executor.calls
        sent = pickle.dumps(executor.calls)
        assert secret.encode() not in sent
        assert b"private.img" not in sent
        assert keys
        for key in keys:
            assert key[:32] not in sent
            assert key[32:] not in sent
        for member in made.members[1:]:  # the first one, the header, is not encrypted
            stored = member.path.read_bytes()
            assert stored[16:48] not in sent, "the salt"
            assert stored[96:128] not in sent, "the data"
        for function, (blocks, log2_n, r), named in executor.calls:
            assert function is romix
            assert named == {}
            assert (len(blocks), log2_n, r) == (128 * 8, 10, 8)

    def test_the_results_are_the_same_and_it_is_not_shut_down(
        self, made: librarybackup.Made, executor: Recorded, tmp_path: Path
    ) -> None:
        snapshots = []
        for name, helper in (("with", executor), ("without", None)):
            with qbackup.open(
                made.path, passphrase=librarybackup.PASSPHRASE, executor=helper
            ) as backup:
                assert backup.restore(tmp_path / name).ok
            snapshots.append(restored.snapshot(tmp_path / name))
        assert snapshots[0] == snapshots[1]
        assert not executor.is_shut_down

    def test_damage_is_told_as_without_it(
        self, made: librarybackup.Made, executor: Recorded, tmp_path: Path
    ) -> None:
        path = alter.flipped(made.path, tmp_path / "b", "vm2/private.img.002.enc", 20)
        reports = []
        for helper in (executor, None):
            with qbackup.open(path, passphrase=librarybackup.PASSPHRASE, executor=helper) as backup:
                reports.append(backup.verify(check=False))
        assert reports[0] == reports[1]
        assert not reports[0].ok
