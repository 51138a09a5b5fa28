"""Work behind the caller: all of it, in order, never far behind, none under way after the end."""

from __future__ import annotations

import _thread
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qbackup.base.errors import MachineError
from qbackup.pipeline import background
from qbackup.pipeline.background import BackgroundWork
from qbackup.restore.output.digest import ContentHash
from tests.support.atrest import forget_others, threads
from tests.support.commandline import wait_for

MIB = 1 << 20


@pytest.fixture(autouse=True)
def at_rest() -> Iterator[None]:
    """No thread is left."""
    forget_others()
    yield
    wait_for(lambda: not threads())


class Collected:
    """Work that writes what it gets to its place, and can be held up or fail."""

    def __init__(self, size: int = 0) -> None:
        self.content = bytearray(size)
        self.ends = [0]
        self.threads: set[str] = set()
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: BaseException | None = None

    def __call__(self, offset: int, data: memoryview) -> None:
        self.threads.add(threading.current_thread().name)
        assert self.go_on.wait(30)
        if self.error is not None:
            raise self.error
        assert offset >= self.ends[-1]
        self.content[offset : offset + len(data)] = data
        self.ends.append(offset + len(data))


@pytest.mark.parametrize("sizes", [[1], [100, 70_000], [128 << 10], [512 << 10], [5 * MIB, 3]])
@pytest.mark.parametrize("alone", [False, True])
def test_all_is_done_in_order_also_from_a_buffer_that_is_used_again(
    sizes: list[int], alone: bool
) -> None:
    chance = random.Random(len(sizes))
    total = 3000 if sizes == [1] else 12 * MIB
    expected, work = bytearray(total), Collected(total)
    doing = BackgroundWork(work, alone=alone)
    buffer, offset = bytearray(max(sizes)), 0
    while (size := chance.choice(sizes)) <= total - offset:
        data = chance.randbytes(size)
        expected[offset : offset + size] = data
        buffer[:size] = data
        # as placing gives them: views of buffers, and of bytes that nothing changes
        doing.put(offset, memoryview(chance.choice((buffer, data)))[:size])
        buffer[:] = bytes(len(buffer))
        offset += size + chance.choice((0, 0, size))
    doing.finish()
    assert work.content == expected
    is_small = sizes == [1]
    assert ("qbackup-behind" in work.threads) == (not alone and not is_small)
    doing.close()


def test_what_waits_is_bounded() -> None:
    work = Collected(64 * MIB)
    doing = BackgroundWork(work)
    piece, offset = memoryview(bytes(128 << 10)), 0
    for offset in range(0, MIB + 1, len(piece)):
        doing.put(offset, piece)
    work.go_on.clear()
    reached = [offset]

    def bring() -> None:
        for place in range(offset + len(piece), 32 * MIB, len(piece)):
            doing.put(place, piece)
            reached.append(place)
        doing.finish()

    bringing = threading.Thread(target=bring)
    bringing.start()
    try:
        time.sleep(0.5)
        assert len(reached) > 1, "the caller goes on"
        assert reached[-1] - MIB <= 3 * MIB, "and not far"
    finally:
        work.go_on.set()
        bringing.join(30)
    assert work.ends[-1] == 32 * MIB


def test_an_error_is_raised_by_what_comes_next_and_by_the_end() -> None:
    work = Collected(64 * MIB)
    doing = BackgroundWork(work)
    piece = memoryview(bytes(MIB))
    doing.put(0, piece)
    work.error = MachineError("No space left on device")
    with pytest.raises(MachineError, match="No space") as caught:
        for offset in range(MIB, 60 * MIB, MIB):
            doing.put(offset, piece)
    assert caught.value is work.error
    done = list(work.ends)
    for again in range(2):
        with pytest.raises(MachineError, match="No space"):
            doing.finish() if again else doing.put(60 * MIB, piece)
    assert work.ends == done
    doing.close()


def test_an_error_of_the_very_last_piece_is_raised_by_the_end() -> None:
    work = Collected(3 * MIB)
    doing = BackgroundWork(work)
    doing.put(0, memoryview(bytes(MIB)))
    doing.put(MIB, memoryview(bytes(MIB)))
    wait_for(lambda: work.ends[-1] == 2 * MIB)
    work.error = MachineError("No space left on device")
    doing.put(2 * MIB, memoryview(b"x"))
    with pytest.raises(MachineError, match="No space"):
        doing.finish()


@pytest.mark.parametrize("interrupted", [False, True])
def test_nothing_is_under_way_when_it_was_closed(interrupted: bool) -> None:
    """What the work writes to is closed next, and the next file gets that number."""
    work = Collected(8 * MIB)
    doing = BackgroundWork(work)
    doing.put(0, memoryview(bytes(MIB)))
    work.go_on.clear()
    doing.put(MIB, memoryview(bytes(MIB)))
    wait_for(lambda: "qbackup-behind" in work.threads)
    timers = [threading.Timer(0.6, work.go_on.set)]
    if interrupted:
        timers.append(threading.Timer(0.2, _thread.interrupt_main))
    for timer in timers:
        timer.start()
    start = time.monotonic()
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            doing.close()
    else:
        doing.close()
    assert time.monotonic() - start > 0.4
    after = list(work.ends)
    assert after[-1] == MIB + 512 * 1024, "the piece that was under way, and none after it"
    wait_for(lambda: not threads())
    assert work.ends == after


def test_a_machine_that_starts_no_thread_does_it_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MachineError("this machine can't start a thread")

    monkeypatch.setattr(background, "start_daemon", refuse)
    work = Collected(4 * MIB)
    doing = BackgroundWork(work)
    for offset in range(0, 4 * MIB, MIB):
        doing.put(offset, memoryview(b"x" * MIB))
    doing.finish()
    assert work.content == b"x" * 4 * MIB
    assert work.threads == {threading.current_thread().name}


@pytest.mark.timeout(60)
def test_a_thread_that_ended_before_its_first_line_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading.Thread, "run", lambda self: None)
    doing = BackgroundWork(Collected(8 * MIB))
    with pytest.raises(MachineError, match="without a word"):
        for offset in range(0, 8 * MIB, MIB):
            doing.put(offset, memoryview(bytes(MIB)))
    doing.close()


def test_a_process_that_was_forked_meanwhile_does_not_wait_for_the_thread() -> None:
    doing = BackgroundWork(Collected(4 * MIB))
    for offset in range(0, 4 * MIB, MIB):
        doing.put(offset, memoryview(bytes(MIB)))
    child = os.fork()
    if not child:
        doing.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    doing.finish()


def test_hashes_are_the_same(tmp_path: Path) -> None:
    chance = random.Random(5)
    here, there = ContentHash(), ContentHash()
    doing = BackgroundWork(there.update)
    offset = 0
    for _ in range(60):
        data = memoryview(chance.choice((chance.randbytes(100_000), bytes(200_000), b"x")))
        offset += chance.choice((0, 512, 100_000))
        here.update(offset, data)
        doing.put(offset, data)
        offset += len(data)
    doing.finish()
    assert here.finish(offset) == there.finish(offset)
