"""A stream whose pieces another thread uses: all of them, in order, never far ahead."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Iterator

import pytest

from qbackup.base.errors import Damaged, Interrupted, MachineError
from qbackup.base.events import Gap, Piece
from qbackup.pipeline import background, relay
from qbackup.pipeline.background import BackgroundWork
from qbackup.pipeline.relay import Relay
from tests.support.atrest import forget_others, threads
from tests.support.commandline import wait_for

MIB = 1 << 20
PIECE = 128 << 10


@pytest.fixture(autouse=True)
def at_rest() -> Iterator[None]:
    """No thread is left."""
    forget_others()
    yield
    wait_for(lambda: not threads())


class Source:
    """Stream of numbered pieces, which may end in an error."""

    def __init__(self, count: int, error: BaseException | None = None) -> None:
        self.count = count
        self.made = 0
        self.error = error
        self.threads: set[str] = set()

    def __iter__(self) -> Iterator[Piece]:
        while self.made < self.count:
            self.threads.add(threading.current_thread().name)
            number, self.made = self.made, self.made + 1
            yield memoryview(number.to_bytes(4, "big") * (PIECE // 4))
        if self.error is not None:
            raise self.error


class Reader:
    """Work that reads a stream to its end, and can be held up or fail."""

    def __init__(self) -> None:
        self.stream: Iterator[Piece] = iter(())
        self.pieces: list[Piece] = []
        self.threads: set[str] = set()
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: BaseException | None = None

    def __call__(self) -> None:
        for piece in self.stream:
            self.threads.add(threading.current_thread().name)
            assert self.go_on.wait(30)
            if self.error is not None:
                raise self.error
            self.pieces.append(piece)
        assert next(self.stream, None) is None, "the end stays the end"


def relayed(source: Iterator[Piece], reader: Reader, *, alone: bool = False) -> Relay:
    reader.stream = stream = Relay(source, alone=alone)
    return stream


def numbers(reader: Reader) -> list[int]:
    assert all(isinstance(piece, memoryview) and len(piece) == PIECE for piece in reader.pieces)
    return [int.from_bytes(piece[:4], "big") for piece in reader.pieces]  # type: ignore[index]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
@pytest.mark.parametrize("before", [0, 3])
def test_all_comes_in_order_also_behind_what_was_read_before(
    count: int, before: int, alone: bool
) -> None:
    source, reader = Source(count), Reader()
    stream = relayed(iter(source), reader, alone=alone)
    for _ in range(min(before, count)):
        reader.pieces.append(next(stream))
    stream.run(reader)
    assert numbers(reader) == list(range(count))
    is_long = count - before >= 8  # a MiB of 128 KiB each
    if is_long and not alone:
        assert reader.threads == {"qbackup-behind"}
    else:
        assert "qbackup-behind" not in reader.threads
    assert source.threads <= {threading.current_thread().name}, "signals and callbacks come here"


def test_a_buffer_that_is_used_again_was_copied() -> None:
    buffer = bytearray(PIECE)

    def source() -> Iterator[Piece]:
        for number in range(100):
            buffer[:] = number.to_bytes(4, "big") * (PIECE // 4)
            yield memoryview(buffer)

    reader = Reader()
    relayed(source(), reader).run(reader)
    assert numbers(reader) == list(range(100))


def test_a_piece_of_a_whole_chunk_does_not_keep_the_chunk() -> None:
    chunk = bytes(4 * MIB)
    source = (memoryview(chunk)[start : start + PIECE] for start in range(0, len(chunk), PIECE))
    reader = Reader()
    relayed(source, reader).run(reader)
    assert len(reader.pieces) == 32
    assert all(piece.obj is not chunk for piece in reader.pieces)  # type: ignore[union-attr]


def test_what_waits_is_bounded() -> None:
    source, reader = Source(200), Reader()
    reader.go_on.clear()
    stream = relayed(iter(source), reader)
    caller = threading.Thread(target=stream.run, args=(reader,))
    caller.start()
    try:
        wait_for(lambda: source.made >= 16)
        time.sleep(0.3)
        assert source.made <= 8 + 8 + 1, "a MiB to begin with, and a MiB that waits"
    finally:
        reader.go_on.set()
        caller.join(30)
    assert numbers(reader) == list(range(200))


@pytest.mark.parametrize("count", [2, 100])
def test_an_error_of_the_stream_comes_after_all_pieces_before_it(count: int) -> None:
    source, reader = Source(count, Damaged("broken")), Reader()
    with pytest.raises(Damaged, match="broken") as caught:
        relayed(iter(source), reader).run(reader)
    assert caught.value is source.error
    assert numbers(reader) == list(range(count))


def test_a_gap_stays_in_its_place() -> None:
    gap = Gap(5, Damaged("lost"))

    def source() -> Iterator[Piece]:
        yield from Source(20)
        yield gap
        yield from Source(20)

    reader = Reader()
    relayed(source(), reader).run(reader)
    assert reader.pieces[20] is gap
    assert len(reader.pieces) == 41


def test_an_error_of_the_work_ends_the_making() -> None:
    source, reader = Source(10_000), Reader()
    reader.error = MachineError("No space left on device")
    with pytest.raises(MachineError, match="No space") as caught:
        relayed(iter(source), reader).run(reader)
    assert caught.value is reader.error
    assert source.made < 30


@pytest.mark.parametrize("where", ["waiting for the work", "making a piece"])
def test_an_interrupt_waits_for_what_is_under_way_and_for_nothing_else(where: str) -> None:
    """What the work writes to is closed next, and the next file gets that number."""
    reader = Reader()
    making = threading.Event()

    def source() -> Iterator[Piece]:
        yield from Source(10)
        if where == "making a piece":
            making.set()
            time.sleep(0.6)
        yield from Source(1000)

    stream = relayed(source(), reader)
    reader.go_on.clear()
    timers = [
        threading.Timer(0.2, _thread.interrupt_main),
        threading.Timer(1.0, reader.go_on.set),
    ]
    for timer in timers:
        timer.start()
    with pytest.raises(KeyboardInterrupt):
        stream.run(reader)
    assert reader.go_on.is_set(), "the work was waited for"
    after = len(reader.pieces)
    assert after <= 8 + 1, "the piece that was under way, and what this thread had made before"
    wait_for(lambda: not threads())
    assert len(reader.pieces) == after


def test_after_an_interrupt_the_work_gets_an_error_and_no_end() -> None:
    """An end would make a cut stream look whole."""
    seen: list[BaseException] = []
    source, reader = Source(1000), Reader()
    stream = relayed(iter(source), reader)

    def work() -> None:
        try:
            for piece in stream:
                reader.pieces.append(piece)
                if len(reader.pieces) == 20:
                    _thread.interrupt_main()
                    time.sleep(0.3)
        except Interrupted as error:
            seen.append(error)
            raise

    with pytest.raises(KeyboardInterrupt):
        stream.run(work)
    assert len(seen) == 1
    assert len(reader.pieces) < 1000


def test_an_interrupt_ends_work_that_asks_for_no_piece_for_long() -> None:
    """A map may have millions of runs of no byte."""
    stream = Relay(iter(Source(1000)))
    ended: list[bool] = []

    def work() -> None:
        next(stream)
        _thread.interrupt_main()
        for _ in range(30_000):
            stream.check()
            time.sleep(0.001)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        stream.run(work)
    assert not ended


def test_a_machine_that_starts_no_thread_does_it_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MachineError("this machine can't start a thread")

    monkeypatch.setattr(relay, "start_daemon", refuse)
    source, reader = Source(100), Reader()
    relayed(iter(source), reader).run(reader)
    assert numbers(reader) == list(range(100))
    assert reader.threads == {threading.current_thread().name}


def test_work_that_is_behind_already_starts_no_third_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a third thread")

    monkeypatch.setattr(background, "start_daemon", refuse)
    done: list[str] = []
    behind = BackgroundWork(lambda *_: done.append(threading.current_thread().name))
    stream = Relay(iter(Source(40)))

    def work() -> None:
        for number, piece in enumerate(stream):
            assert isinstance(piece, memoryview)
            behind.put(number * PIECE, piece)
        behind.finish()

    stream.run(work)
    assert done == ["qbackup-behind"] * 40
