"""A restore on a clock that is only counted on: what `benchmarks.scaling` runs.

What may be derived, how, and in which order is said by the product's own
`qbackup.pipeline.schedule.Schedule`, which knows no threads and no clock. Around it the rules of
`KeyPool`, `Session`, `Lines` and `Pipeline` are followed step by step: the header's key and that of
``qubes.xml`` first; then files side by side, each with a thread that looks ahead, one that reads,
authenticates and decrypts, and one that inflates and writes; at most two chunks held for each.

Cores and the source's disk are shared evenly by all that want them at a time, as a system does it.
The output's disk takes one piece after the other; who writes waits once a certain amount is on
its way, and at the end of each file until it is there.

Not simulated: the system's own work, memory bandwidth that many cores share, first touch of
memory, loading the lane kernel, and a network. So what comes out is what the order of the work
allows, not a promise.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator

from benchmarks.clock import Clock, Shared
from benchmarks.parts import Chunk, Idle, Line, Memory, RemoteWorkers
from benchmarks.scenario import CHUNK, MIB, Backup, Machine, Outcome, Rates
from qbackup.crypto.romix.tuning import PASS_SECONDS, WIDTH, kernel_width
from qbackup.pipeline.schedule import Assignment, Schedule, Strategy
from qbackup.pipeline.workers import LINGER_SECONDS

_HELD = 2  # chunks of a session, where the backup can be read anywhere
_BEGIN_SYNC = 32 * MIB  # what is written goes on its way to the disk in pieces of this size
_DIRTY = 5  # a part of the budget may be on its way to the disk


class Simulation:
    """One restore. To be run once."""

    def __init__(self, machine: Machine, backup: Backup, rates: Rates) -> None:
        self._machine, self._backup, self._rates = machine, backup, rates
        self._parameters = backup.parameters
        self._clock = Clock(self._account)
        self._cores = Shared(self._clock, machine.cores)
        self._source = Shared(self._clock, 1)
        self._output_free = 0.0  # when the output's disk has done all that it was given
        self._dirty = machine.memory // _DIRTY * rates.output  # seconds that it may be behind
        self._schedule: Schedule[Chunk] = Schedule(machine.cores, machine.memory)
        self._schedule.use_lanes()
        has_kernel = rates.kernel is not None and machine.kernel_pays(backup)
        if has_kernel:
            self._schedule.use_kernel(kernel_width)
        self._waiting_lanes = 0  # asked for and not begun
        self._running = 0  # jobs
        self._idle: list[Idle] = []
        jobs, self._remote_seconds = machine.remote_jobs, self._remote_derivation()
        self._remote = RemoteWorkers(self._clock, machine.remote, jobs, self._remote_seconds)
        self._files = iter(backup.files)
        self._lines = [Line() for _ in range(machine.lines_at_once)]
        self._window = max(2, machine.chunks_ahead(backup, kernel=has_kernel) // len(self._lines))
        self._wants_to_hold: deque[Line] = deque()
        self._memory = Memory()
        self._key_work = self._other_work = 0.0
        self._states: Counter[str] = Counter()
        self._limits: defaultdict[str, float] = defaultdict(float)
        self._first_keys = 2

    def run(self) -> Outcome:
        """From the start of the program to its end."""
        self._clock.at(self._rates.start, self._begin)
        self._clock.run()
        work = self._key_work, self._other_work
        return Outcome(self._clock.now, self._memory.peak, work, dict(self._limits))

    # What comes

    def _begin(self) -> None:
        """The header's key and that of ``qubes.xml``; neither leaves this machine."""
        self._schedule.expect_more(1)
        for _ in range(self._first_keys):
            self._submit(Chunk(0, self._parameters.p, None))
        self._no_more()

    def _begin_files(self) -> None:
        for line in self._lines:
            line.chunks = self._chunks(line)
            self._schedule.expect_more(1)
        while sum(self._ask(line) for line in self._lines):
            pass  # the threads that look ahead run side by side
        for line in self._lines:
            self._open_next(line)

    def _chunks(self, line: Line) -> Iterator[Chunk]:
        for size in self._files:
            for start in range(0, size, CHUNK):
                own = min(CHUNK, size - start)
                yield Chunk(own, self._parameters.p, line, ends=start + own == size)

    def _look_ahead(self, line: Line) -> None:
        while self._ask(line):
            pass

    def _ask(self, line: Line) -> bool:
        """Asks for the key of the line's next chunk, if it is near enough."""
        if line.is_exhausted or line.outstanding >= self._window + (not line.caller):
            return False
        chunk = next(line.chunks, None)
        if chunk is None:
            line.is_exhausted = True
            self._no_more()
            self._note(line)
            return False
        line.outstanding += 1
        line.coming.append(chunk)
        self._submit(chunk)
        return True

    # Keys

    def _no_more(self) -> None:
        """A look-ahead is at its end: what waits is dealt out among all."""
        self._schedule.expect_more(-1)
        self._dispatch()

    def _submit(self, chunk: Chunk) -> None:
        self._schedule.submit(chunk, self._parameters)
        self._waiting_lanes += self._parameters.p
        self._dispatch()
        self._feed_remote()

    def _dispatch(self) -> None:
        while (start := self._schedule.next()) is not None:
            if self._idle:
                self._end_idle(self._idle[-1])
            self._start(start)

    def _start(self, start: Assignment[Chunk]) -> None:
        self._waiting_lanes -= sum(share.count for share in start.shares)
        self._running += start.jobs
        self._memory.take(start.memory, self._keep_less)
        for work in (works := self._work_of(start)):
            self._key_work += work
            self._cores.add(work, functools.partial(self._job_done, start, [len(works)]))

    def _work_of(self, start: Assignment[Chunk]) -> list[float]:
        """Seconds of a core, for each thread."""
        size = self._parameters.n * self._parameters.r
        lanes = sum(share.count for share in start.shares)
        if start.way is Strategy.KERNEL and self._rates.kernel is not None:
            return [self._rates.kernel * PASS_SECONDS[lanes] * size]
        threads = start.jobs
        return [self._rates.lane * size * len(range(i, lanes, threads)) for i in range(threads)]

    def _job_done(self, start: Assignment[Chunk], left: list[int]) -> None:
        left[0] -= 1
        if not left[0]:
            self._derived(start)

    def _derived(self, start: Assignment[Chunk]) -> None:
        """As in `KeyPool._work`."""
        self._schedule.done(start)
        self._running -= start.jobs
        self._memory.give(start.memory)
        again = self._schedule.next()
        if again is not None:
            self._start(again)
        self._dispatch()
        if again is None and start.way is Strategy.KERNEL:
            self._linger(start.memory)
        for share in start.shares:
            share.key.lanes -= share.count
            if not share.key.lanes:
                self._has_key(share.key)
        self._feed_remote()
        self._hold_waiting()

    def _linger(self, memory: int) -> None:
        """A worker keeps the kernel's memory for a while, if nothing else needs it."""
        idle = Idle(memory)
        self._idle.append(idle)
        self._memory.take(memory, self._keep_less)
        self._clock.at(self._clock.now + LINGER_SECONDS, functools.partial(self._end_idle, idle))

    def _keep_less(self) -> None:
        """As in `KeyPool._make_room`."""
        while self._idle and not self._schedule.fits(sum(idle.memory for idle in self._idle)):
            self._end_idle(self._idle[0])

    def _end_idle(self, idle: Idle) -> None:
        if idle in self._idle:
            self._idle.remove(idle)
            self._memory.give(idle.memory)

    def _has_key(self, chunk: Chunk) -> None:
        if chunk.line is None:
            self._first_keys -= 1
            if not self._first_keys:
                self._begin_files()
        elif chunk.line.opening is chunk:
            self._hold(chunk.line, chunk)

    # Keys by other machines

    def _feed_remote(self) -> None:
        """As in `KeyPool._next_remote`."""
        while self._remote.has_room:
            chunk = self._schedule.take(lambda chunk: chunk.line is not None)
            if chunk is None:
                return
            self._waiting_lanes -= self._parameters.p
            self._key_work += self._remote_seconds
            self._remote.derive(functools.partial(self._remote_done, chunk))

    def _remote_derivation(self) -> float:
        """Seconds that `qbackup.crypto.scrypt_steps.romix` takes for one key."""
        size, p = self._parameters.n * self._parameters.r, self._parameters.p
        widths = [min(WIDTH, p - first) for first in range(0, p, WIDTH)]
        passed = sum(PASS_SECONDS[lanes] for lanes in widths) * (self._rates.kernel or 0.0)
        if kernel_width(self._parameters) and 0.0 < passed < p * self._rates.lane:
            return passed * size
        return self._rates.lane * size * p

    def _remote_done(self, chunk: Chunk) -> None:
        chunk.lanes = 0
        self._has_key(chunk)
        self._feed_remote()

    # Chunks are opened

    def _open_next(self, line: Line) -> None:
        """The next one is begun once the one before has been taken."""
        if line.opening is None and line.ready is None and line.coming:
            line.opening = line.coming.popleft()
            line.opener = "key"
            if not line.opening.lanes:
                self._hold(line, line.opening)
        self._note(line)

    def _hold(self, line: Line, chunk: Chunk) -> None:
        """As in `KeyPool.hold`."""
        if line.held and not (line.held < _HELD and self._schedule.fits(chunk.size)):
            if line.opener != "memory":
                self._wants_to_hold.append(line)
            line.opener = "memory"
        else:
            line.held += 1
            self._schedule.charge(chunk.size)
            self._memory.take(chunk.size, self._keep_less)
            line.opener = "source"
            read = functools.partial(self._read, line, chunk)
            self._source.add(chunk.size * self._rates.source, read)
        self._note(line)

    def _hold_waiting(self) -> None:
        for _ in range(len(self._wants_to_hold)):
            line = self._wants_to_hold.popleft()
            if line.opening is not None:
                line.opener = "key"
                self._hold(line, line.opening)

    def _read(self, line: Line, chunk: Chunk) -> None:
        line.opener = "open"
        self._note(line)
        self._compute(chunk.size * self._rates.open, functools.partial(self._opened, line, chunk))

    def _compute(self, seconds: float, done: Callable[[], None]) -> None:
        self._other_work += seconds
        self._cores.add(seconds, done)

    def _opened(self, line: Line, chunk: Chunk) -> None:
        line.opening, line.opener, line.ready = None, "", chunk
        self._take(line)

    # Chunks are inflated and written

    def _take(self, line: Line) -> None:
        if line.caller or line.ready is None:
            self._note(line)
            return
        chunk, line.ready = line.ready, None
        line.outstanding -= 1
        line.caller = "unpack"
        done = functools.partial(self._unpacked, line, chunk, self._clock.now)
        output = chunk.size * self._backup.ratio
        self._compute(output * (self._rates.inflate + self._rates.write), done)
        self._look_ahead(line)
        self._open_next(line)

    def _unpacked(self, line: Line, chunk: Chunk, since: float) -> None:
        """The disk began with it when it had 32 MiB, and is waited for if it lags behind."""
        now, size = self._clock.now, chunk.size * self._backup.ratio
        end = max(self._output_free, since) + size * self._rates.output
        self._output_free = max(end, now + min(size, _BEGIN_SYNC) * self._rates.output)
        line.caller = "output"
        self._note(line)
        self._clock.at(
            max(now, self._output_free - self._dirty), functools.partial(self._written, line, chunk)
        )

    def _written(self, line: Line, chunk: Chunk) -> None:
        line.held -= 1
        self._schedule.release(chunk.size)
        self._memory.give(chunk.size)
        self._dispatch()
        if chunk.ends:  # fsync
            self._clock.at(self._output_free, functools.partial(self._go_on, line))
        else:
            self._go_on(line)
        self._feed_remote()
        self._hold_waiting()

    def _go_on(self, line: Line) -> None:
        line.caller = ""
        self._look_ahead(line)
        self._open_next(line)
        self._take(line)

    # What is counted

    def _note(self, line: Line) -> None:
        """Counts what the line waits for."""
        state = line.caller or line.opener or ("key" if not line.is_exhausted else "")
        if state != line.state:
            self._states[line.state] -= 1
            self._states[state] += 1
            line.state = state

    def _account(self, seconds: float) -> None:
        """Before the clock goes on: what the lines that have something to do wait for."""
        states = [(state, count) for state, count in self._states.items() if state and count > 0]
        active = sum(count for _, count in states)
        if not active:
            self._limits["derivations"] += seconds
        for state, count in states:
            self._limits[self._limit(state)] += seconds * count / active

    def _limit(self, state: str) -> str:
        if state in ("unpack", "open"):
            return "cores" if self._cores.is_full else "inflating"
        if state == "key":
            return self._key_limit()
        return {"output": "output disk", "source": "source disk", "memory": "memory budget"}[state]

    def _key_limit(self) -> str:
        """Why a key is not there yet."""
        if self._running >= self._machine.cores and self._remote.are_busy:
            return "derivations"
        if self._waiting_lanes:
            return "derivations" if self._running >= self._machine.cores else "memory budget"
        if any(not line.is_exhausted for line in self._lines):
            return "window"
        return "last keys"
