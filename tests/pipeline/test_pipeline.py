"""From stored chunks to verified plaintext: in order, one at a time, and not to be held up."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from qbackup.base.errors import (
    ChunkDamaged,
    ChunkMissing,
    Interrupted,
    LimitExceeded,
    MachineError,
    NotEnoughMemory,
    UsageError,
)
from qbackup.base.events import Data, Event, Lost
from qbackup.base.limits import GIB, Limits
from qbackup.base.names import parse_chunk_name
from qbackup.content.stream import close_quietly
from qbackup.crypto.kdf import Backend, Derivation, Deriver
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats.v4 import UnlockedFormat4
from qbackup.pipeline.pipeline import Pipeline, Session, default_memory
from qbackup.storage.chunk import StoredChunk
from qbackup.storage.source import open_source
from tests.maker import scrypt_encrypt
from tests.support.atrest import check_at_rest
from tests.support.commandline import wait_for

ID = "20240917T101112-1234"
SECRET = b"secret"
FORMAT = UnlockedFormat4(ID, SECRET, Limits())
COUNT = 4


class Chunk(StoredChunk):
    """Bytes of a real chunk, which notes what parts of it are asked for."""

    def __init__(self, name: str, stored: bytes) -> None:
        known = parse_chunk_name(name)
        assert known is not None
        source = open_source(io.BytesIO(stored))
        super().__init__(known, 0, len(stored), source=source, limit=Limits().chunk)
        self.stored = stored
        self.asked: list[str] = []
        self.used: list[StoredChunk] = []
        self.on_use = self.used.append
        self.others: Sequence[Chunk] = ()

    def read_head(self, size: int) -> bytes:
        self.asked.append(f"head of {self.name}")
        return self.stored[:size]

    def read_body(self, start: int, room: int = 0) -> memoryview:
        self.asked.append(f"body of {self.name}")
        return memoryview(bytearray(room) + self.stored[start:])

    def afresh(self) -> Chunk:
        again = Chunk(self.name, self.stored)
        again.asked = self.asked
        return again


@pytest.fixture(scope="module")
def stored(tools: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Chunks by the real scrypt program: name to stored bytes."""
    folder = tmp_path_factory.mktemp("chunks")
    made = {}
    for number in range(COUNT):
        name = f"vm1/private.img.{number:03d}"
        secret = f"{ID}!{name}!".encode() + SECRET
        made[name] = scrypt_encrypt(b"%d" % number * 100, folder / "chunk", secret).read_bytes()
    return made


@pytest.fixture
def chunks(stored: dict[str, bytes]) -> list[Chunk]:
    return [Chunk(name, data) for name, data in stored.items()]


def results(events: Iterator[Event]) -> list[bytes | Lost]:
    return [e if isinstance(e, Lost) else bytes(e.buffer) for e in events]


class TestOrder:
    def test_chunks_come_back_one_by_one_in_order(self, chunks: list[Chunk]) -> None:
        found = results(Pipeline(Deriver()).run(FORMAT, chunks))
        assert found == [b"%d" % number * 100 for number in range(COUNT)]

    def test_nothing_is_read_before_it_is_asked_for(self, chunks: list[Chunk]) -> None:
        """Not even the second chunk for the first one's bytes; then it reads ahead."""
        asked: list[str] = []
        for chunk in chunks:
            chunk.asked = asked
        events = Pipeline(Deriver()).run(FORMAT, chunks)
        assert asked == []
        next(events)
        assert asked == ["head of vm1/private.img.000", "body of vm1/private.img.000"]
        next(events)
        assert asked[2] == "head of vm1/private.img.001"
        assert results(events) == [b"2" * 100, b"3" * 100]
        assert len(asked) == len(set(asked)) == 2 * COUNT

    def test_no_more_than_two_buffers_are_alive(self, chunks: list[Chunk]) -> None:
        """The one that the caller has, and the one that is made ready meanwhile."""

        class Buffer(bytearray):
            """One that can be watched."""

        alive: list[weakref.ref[Buffer]] = []
        most = [0]

        class Watched(Chunk):
            def read_body(self, start: int, room: int = 0) -> memoryview:
                buffer = Buffer(self.stored[start:])
                alive.append(weakref.ref(buffer))
                most.append(sum(one() is not None for one in alive))
                return memoryview(buffer)

        watched = [Watched(chunk.name, chunk.stored) for chunk in chunks]
        count = 0
        for event in Pipeline(Deriver()).run(FORMAT, watched):
            count += isinstance(event, Data)
            del event
        assert count == COUNT
        assert max(most) <= 2

    def test_a_block_size_of_one_that_the_scrypt_program_allows(
        self, tools: None, tmp_path: Path
    ) -> None:
        """RFC 7914 asks for N < 2^16 here; the program, and so a backup, does not."""
        secret = f"{ID}!vm1/a.000!".encode() + SECRET
        options = ("--logN", "17", "-r", "1", "-p", "1")
        path = scrypt_encrypt(b"content", tmp_path / "chunk", secret, options)
        chunk = Chunk("vm1/a.000", path.read_bytes())
        assert bytes(Pipeline(Deriver()).open_chunk(FORMAT, chunk)) == b"content"

    def test_one_chunk_alone(self, chunks: list[Chunk]) -> None:
        assert bytes(Pipeline(Deriver()).open_chunk(FORMAT, chunks[2])) == b"2" * 100


class TestDamage:
    @pytest.mark.parametrize("place", [20, 70, -40])
    def test_another_member_of_its_name_takes_its_place(
        self, chunks: list[Chunk], place: int
    ) -> None:
        whole = chunks[1]
        stored = bytearray(whole.stored)
        stored[place] ^= 0xFF
        bad, worse = Chunk(whole.name, bytes(stored)), Chunk(whole.name, b"nothing")
        bad.others = (worse, whole)
        chunks[1] = bad
        found = results(Pipeline(Deriver()).run(FORMAT, chunks))
        assert found == [b"%d" % number * 100 for number in range(COUNT)]
        assert bad.used == [whole]
        assert bytes(Pipeline(Deriver()).open_chunk(FORMAT, bad)) == b"1" * 100
        assert bad.used == [whole, whole]

    def test_none_takes_the_place_of_a_chunk_that_is_missing(self, chunks: list[Chunk]) -> None:
        """The file ends with the chunk behind the gap, which shows whose it is."""
        chunks[2].others = (Chunk(chunks[2].name, chunks[2].stored),)
        first, lost, behind = results(Pipeline(Deriver()).run(FORMAT, [chunks[0], *chunks[2:]]))
        assert first == b"0" * 100 and behind == b"2" * 100
        assert isinstance(lost, Lost) and isinstance(lost.error, ChunkMissing)
        assert chunks[2].used == [chunks[2]] and chunks[2].others[0].asked == []

    def test_where_no_other_can_be_believed_the_first_error_is_told(
        self, chunks: list[Chunk]
    ) -> None:
        bad = Chunk(chunks[1].name, chunks[2].stored)
        bad.others = (Chunk(bad.name, b"nothing"), Chunk(bad.name, chunks[3].stored))
        chunks[1] = bad
        lost = results(Pipeline(Deriver()).run(FORMAT, chunks))[1]
        assert isinstance(lost, Lost) and "another place" in str(lost.error)
        assert bad.used == []

    @pytest.mark.parametrize("position", [0, 20, 50, 70, 100, -1])
    def test_costs_its_chunk_and_no_other(self, chunks: list[Chunk], position: int) -> None:
        data = bytearray(chunks[1].stored)
        data[position] ^= 1
        chunks[1].stored = bytes(data)
        found = results(Pipeline(Deriver()).run(FORMAT, chunks))
        lost = found.pop(1)
        assert isinstance(lost, Lost)
        assert (lost.chunk, lost.size) == ("vm1/private.img.001", 100)
        assert isinstance(lost.error, ChunkDamaged)
        assert lost.error.chunk == lost.chunk
        assert found == [b"0" * 100, b"2" * 100, b"3" * 100]

    def test_a_swapped_pair_is_lost_both(self, chunks: list[Chunk]) -> None:
        chunks[0].stored, chunks[1].stored = chunks[1].stored, chunks[0].stored
        found = results(Pipeline(Deriver()).run(FORMAT, chunks))
        assert [isinstance(one, Lost) for one in found] == [True, True, False, False]

    def test_a_chunk_cut_short_is_lost_with_no_negative_size(self, chunks: list[Chunk]) -> None:
        for size in (0, 95, 96, 127, 128):
            chunk = Chunk(chunks[0].name, chunks[0].stored[:size])
            (lost,) = Pipeline(Deriver()).run(FORMAT, [chunk])
            assert isinstance(lost, Lost)
            assert lost.size == 0

    def test_parameters_over_a_limit_are_lost_before_anything_is_derived(
        self, chunks: list[Chunk]
    ) -> None:
        def never(job: Derivation, threads: int) -> bytes:
            raise AssertionError

        pipeline = Pipeline(Deriver((Backend("none", never),)))
        format_ = UnlockedFormat4(ID, SECRET, Limits(scrypt_memory=1000))
        (lost,) = pipeline.run(format_, chunks[:1])
        assert isinstance(lost, Lost)
        assert isinstance(lost.error, LimitExceeded)
        assert chunks[0].asked == ["head of vm1/private.img.000"]

    def test_a_body_is_not_read_when_the_key_does_not_fit(self, chunks: list[Chunk]) -> None:
        format_ = UnlockedFormat4(ID, b"wrong", Limits())
        (lost,) = Pipeline(Deriver()).run(format_, chunks[:1])
        assert isinstance(lost, Lost)
        assert chunks[0].asked == ["head of vm1/private.img.000"] * 2  # with the second try

    def test_a_machine_that_fails_is_no_damage(self, chunks: list[Chunk]) -> None:
        def fail(job: Derivation, threads: int) -> bytes:
            raise MemoryError

        pipeline = Pipeline(Deriver((Backend("none", fail),)))
        (lost, *_) = pipeline.run(FORMAT, chunks)
        assert isinstance(lost, Lost)
        assert isinstance(lost.error, NotEnoughMemory)
        assert "not enough memory" in lost.error.reason

    def test_a_machine_without_any_backend_ends_it(self, chunks: list[Chunk]) -> None:
        class WithoutBackends(Deriver):
            def derive(self, job: Derivation, threads: int = 1) -> bytes:
                raise MachineError("no scrypt on this machine")

        with pytest.raises(MachineError, match="no scrypt"):
            next(Pipeline(WithoutBackends()).run(FORMAT, chunks))


class TestFilesSideBySide:
    @pytest.mark.parametrize(
        ("jobs", "memory", "count"), [(1, GIB, 1), (8, GIB, 4), (64, GIB, 5), (64, 1, 1)]
    )
    def test_are_no_more_than_the_budget_has_room_for(
        self, chunks: list[Chunk], jobs: int, memory: int, count: int
    ) -> None:
        """Two chunks of 100 MiB for each, as its first one is always held."""
        pipeline = Pipeline(Deriver(), jobs=jobs, memory=memory)
        counts: list[int] = []

        def work(tag: str, events: Iterator[Event], tell: Callable[[int], None]) -> None:
            for event in events:
                del event
            tell(len(pipeline._sessions))

        pipeline.unpack(FORMAT, [("file", chunks)], work, counts.append)
        assert counts == [count]
        pipeline.close()
        check_at_rest(pipeline._pool)


class TestThreads:
    def test_impossible_parameters_make_no_trouble(self) -> None:
        """As an unauthenticated header may name them."""
        for parameters in (ScryptParameters(10, 0, 0), ScryptParameters(255, 2**32 - 1, 2**32 - 1)):
            assert Pipeline(Deriver(), jobs=4).lanes_at_once(parameters) >= 1

    def test_the_backend_is_told_how_many(self, chunks: list[Chunk]) -> None:
        told: list[int] = []

        def record(job: Derivation, threads: int) -> bytes:
            told.append(threads)
            return bytes(64)

        pipeline = Pipeline(Deriver((Backend("test", record, threaded=True),)), jobs=3)
        pipeline.derive(Derivation(b"", b"", ScryptParameters(10, 8, 5)))
        assert told == [3]

    def test_by_default_the_machine_says(self) -> None:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        assert default_memory() == pages * size // 2
        assert Pipeline(Deriver()).jobs == os.cpu_count()

    def test_where_the_machine_does_not_say_2_gib_are_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr("os.sysconf")
        assert default_memory() == 2 * GIB


class TestClosing:
    def test_work_asked_for_afterwards_is_interrupted(self, chunks: list[Chunk]) -> None:
        pipeline = Pipeline(Deriver())
        events = pipeline.run(FORMAT, chunks)
        next(events)
        pipeline.close()
        pipeline.close()
        with pytest.raises(Interrupted):
            next(events)

    def test_a_derivation_runs_in_a_thread_that_does_not_keep_the_process(self) -> None:
        daemons: list[bool] = []

        def look(job: Derivation, threads: int) -> bytes:
            daemons.append(threading.current_thread().daemon)
            return bytes(64)

        job = Derivation(b"", b"", ScryptParameters(10, 8, 1))
        Pipeline(Deriver((Backend("test", look),))).derive(job)
        assert daemons == [True]

    def test_a_signal_ends_the_wait_and_the_process_while_a_key_is_derived(
        self,
    ) -> None:
        """The derivation would take hours and can't be stopped: nobody waits for it."""
        program = (
            "import sys\n"
            "from qbackup.crypto.kdf import Derivation, Deriver\n"
            "from qbackup.pipeline.pipeline import Pipeline\n"
            "from qbackup.crypto.scrypt_format import ScryptParameters\n"
            "pipeline = Pipeline(Deriver(), jobs=1)\n"
            "pipeline.derive(Derivation(b'', b'', ScryptParameters(4, 1, 1)))\n"
            "try:\n"
            "    print('ready', flush=True)\n"
            "    pipeline.derive(Derivation(b'', b'', ScryptParameters(18, 8, 10_000)))\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted', flush=True)\n"
            "    pipeline.close()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == "interrupted\n"
        assert process.returncode == 0

    def test_when_the_interpreter_ends_nobody_asks_for_a_lock(
        self, chunks: list[Chunk], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Threads are stopped then wherever they are, and the lock that one held stays taken."""
        pipeline = Pipeline(Deriver())
        events = pipeline.run(FORMAT, chunks)
        next(events)
        ended, held = threading.Event(), threading.Event()

        def hold() -> None:
            with pipeline._pool._changed:
                held.set()
                ended.wait()

        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        monkeypatch.setattr(sys, "is_finalizing", lambda: True)
        (session,) = pipeline._sessions

        def close() -> None:
            session.close()
            close_quietly(events)

        closing = threading.Thread(target=close, daemon=True)
        closing.start()
        closing.join(10)
        still_waits = closing.is_alive()
        ended.set()
        assert not still_waits

    def test_a_stream_that_is_collected_asks_for_no_lock(self, chunks: list[Chunk]) -> None:
        """A collection falls anywhere, also where its own thread or another holds one."""
        pipeline = Pipeline(Deriver())
        cycle: list[object] = [pipeline.run(FORMAT, chunks)]
        next(cast("Iterator[Event]", cycle[0]))
        cycle.append(cycle)
        (session,) = pipeline._sessions
        locks = (pipeline._pool._changed, session._changed)
        collecting = threading.Thread(target=gc.collect, daemon=True)
        with locks[0], locks[1]:
            del cycle
            collecting.start()
            collecting.join(10)
            assert not collecting.is_alive()
            assert not session._demand.closed
        wait_for(lambda: session._demand.closed)
        pipeline.close()
        check_at_rest(pipeline._pool)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads
    def test_a_forked_process_is_told_and_does_not_hang(self, chunks: list[Chunk]) -> None:
        """Locks that other threads had at that moment stay taken in it."""
        pipeline = Pipeline(Deriver())
        events = pipeline.run(FORMAT, chunks)
        next(events)
        (session,) = pipeline._sessions

        def told(read: Callable[[], object]) -> bool:
            try:
                read()
            except UsageError as error:
                return "fork" in str(error)
            return False

        with pipeline._pool._changed, session._changed:
            # whoever holds them here does not exist over there
            forking = threading.Thread(target=lambda: statuses.append(fork()))
            statuses: list[int] = []

            def fork() -> int:
                child = os.fork()
                if child == 0:
                    signal.alarm(10)
                    fresh = told(lambda: next(pipeline.run(FORMAT, chunks)))
                    old = told(lambda: next(events))
                    session.close()
                    pipeline.close()
                    os._exit(0 if fresh and old else 1)
                return os.waitpid(child, 0)[1]

            forking.start()
            forking.join()
        assert statuses == [0]
        close_quietly(events)
        pipeline.close()

    def test_a_session_that_begins_meanwhile_keeps_nothing_open(self) -> None:
        begun, added = threading.Event(), threading.Event()

        class Slow(weakref.WeakSet[Session[Any]]):
            def __iter__(self) -> Iterator[Session[Any]]:
                for session in super().__iter__():
                    begun.set()
                    added.wait(0.2)
                    yield session

        pipeline = Pipeline(Deriver(), jobs=1)
        pipeline._sessions = Slow()
        kept: list[Session[None]] = [pipeline.session(FORMAT, ()) for _ in range(3)]

        def begin() -> None:
            begun.wait()
            kept.append(pipeline.session(FORMAT, ()))
            added.set()

        thread = threading.Thread(target=begin)
        thread.start()
        pipeline.close()
        thread.join()
        assert all(session._demand.closed for session in kept[:3])

    def test_memory_that_others_had_costs_no_chunk(self, chunks: list[Chunk]) -> None:
        """A key that can't be derived beside others is derived alone, and fits."""
        lock = threading.Lock()

        class Tight(Deriver):
            def derive(self, job: Derivation, threads: int = 1) -> bytes:
                if not lock.acquire(blocking=False):
                    raise NotEnoughMemory("another one has it")
                try:
                    return super().derive(job, threads)
                finally:
                    lock.release()

        tight = Pipeline(Tight(), jobs=4)
        with tight.session(FORMAT, [("file", chunks)]) as session:
            for _, events in session:
                assert results(events) == [b"%d" % number * 100 for number in range(COUNT)]

    def test_where_no_thread_can_be_started_it_says_so(
        self, chunks: list[Chunk], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(MachineError, match="thread"):
            next(Pipeline(Deriver()).run(FORMAT, chunks))
        with pytest.raises(MachineError, match="thread"):
            Pipeline(Deriver()).open_chunk(FORMAT, chunks[0])
