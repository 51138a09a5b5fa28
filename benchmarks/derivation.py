"""What a key costs with all cores busy: by the product's own way, and by pycryptodome's.

    python -m benchmarks.derivation LOG2_N R P COUNT [CORES]

Derives COUNT keys by pycryptodome, on CORES threads (all there are), and prints what one of
them takes as JSON.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from Crypto.Protocol.KDF import scrypt

from benchmarks.machine import cores
from qbackup.crypto.kdf import Derivation, Deriver
from qbackup.crypto.romix.kernel import LaneMemory
from qbackup.crypto.romix.tuning import WIDTH, kernel_width
from qbackup.crypto.scrypt_format import KEY_SIZE, ScryptParameters
from qbackup.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class Cost:
    """Of one derivation, in seconds, while others run on all cores.

    Args:
        cpu: processor time of all its lanes.
        wall: what one takes on the clock, time by threads over derivations.
    """

    cpu: float
    wall: float


def by_product(parameters: ScryptParameters, jobs: int, count: int) -> Cost:
    """Keys through the product's pipeline, with whatever it derives them with."""
    pipeline = Pipeline(Deriver(), jobs=jobs)

    def derive(number: int) -> None:
        salts = [os.urandom(32) for _ in range(number)]
        tickets = [pipeline.request(Derivation(b"secret", salt, parameters)) for salt in salts]
        for ticket in tickets:
            ticket.wait()

    pipeline.expect_keys(parameters, 1_000_000)
    derive(jobs)  # the first ones load libraries and touch fresh memory
    try:
        return timed(lambda: derive(count), jobs, count)
    finally:
        pipeline.close()


def by_pycryptodome(parameters: ScryptParameters, threads: int, count: int) -> Cost:
    """Keys by pycryptodome, one on each thread at a time."""

    def derive(number: int) -> None:
        for _ in range(count // threads):
            plain_scrypt(parameters)

    return timed(lambda: on_all(threads, derive), threads, count // threads * threads)


def by_passes(parameters: ScryptParameters, threads: int, rounds: int = 2) -> list[float]:
    """Processor time of one pass of the lane kernel with 1, 2, and so on, lanes side by side.

    All threads go through them at once, in memory that they have touched before. Empty where
    the kernel is not to be had.
    """
    kernel = Deriver().load_kernel()
    if kernel is None or not kernel_width(parameters):
        return []
    memories = [LaneMemory() for _ in range(threads)]
    lane = os.urandom(128 * parameters.r)

    def mix(number: int, lanes: int, times: int) -> None:
        for _ in range(times):
            kernel.romix(lane * lanes, parameters, memories[number])

    for lanes in range(WIDTH, 0, -1):
        kernel.prepare(lanes)
    on_all(threads, lambda number: mix(number, WIDTH, 1))
    costs = []
    for lanes in range(1, WIDTH + 1):
        go_through = functools.partial(mix, lanes=lanes, times=rounds)
        go_all = functools.partial(on_all, threads, go_through)
        costs.append(timed(go_all, threads, rounds * threads).cpu)
    for memory in memories:
        memory.close()
    return costs


def on_all(threads: int, work: Callable[[int], object]) -> None:
    """Does it on so many threads at once, and waits for all."""
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def plain_scrypt(parameters: ScryptParameters) -> None:
    """One derivation on one core by pycryptodome, which is always installed."""
    scrypt(b"secret", os.urandom(32), KEY_SIZE, parameters.n, parameters.r, parameters.p)


@contextmanager
def busy(parameters: ScryptParameters, threads: int) -> Iterator[None]:
    """Keeps this many cores deriving, one lane at a time, as a restore does to its other work."""
    lane = ScryptParameters(parameters.log2_n, parameters.r, 1)
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            plain_scrypt(lane)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stopped.set()
        for worker in workers:
            worker.join()


def main(log2_n: int, r: int, p: int, count: int, threads: int = cores()) -> Cost:
    """Keys by pycryptodome, once to warm up and then measured."""
    parameters = ScryptParameters(log2_n, r, p)
    by_pycryptodome(ScryptParameters(10, 8, 1), threads, threads)
    return by_pycryptodome(parameters, threads, count)


def timed(work: Callable[[], None], jobs: int, count: int) -> Cost:
    """What one of count derivations costs, when work does them on so many jobs."""
    start, start_cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    return Cost(cpu / count, wall * jobs / count)


if __name__ == "__main__":
    print(json.dumps(asdict(main(*map(int, sys.argv[1:])))))
