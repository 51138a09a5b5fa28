"""What a key costs with all cores busy: by the product's own way, and by pycryptodome's."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from Crypto.Protocol.KDF import scrypt

from qbackup.keys import Derivation, Deriver
from qbackup.pipeline import Pipeline
from qbackup.scrypt import KEY_SIZE, ScryptParameters


@dataclass(frozen=True)
class Cost:
    """Of one derivation, in seconds, while others run on all cores.

    Args:
        cpu: processor time of all its lanes.
        wall: what one takes on the clock, time by cores over derivations.
    """

    cpu: float
    wall: float


def prepare_kernel() -> bool:
    """Compiles the lane kernel and keeps it on disk; False where there is none."""
    try:
        lanes = importlib.import_module("qbackup.lanes")
    except ImportError:
        return False
    return lanes.load_kernel() is not None


def by_product(parameters: ScryptParameters, cores: int, count: int) -> Cost:
    """Keys through the product's pipeline, with whatever it derives them with."""
    pipeline = Pipeline(Deriver(), jobs=cores)

    def derive(number: int) -> None:
        salts = [os.urandom(32) for _ in range(number)]
        tickets = [pipeline.request(Derivation(b"secret", salt, parameters)) for salt in salts]
        for ticket in tickets:
            ticket.wait()

    prepare_kernel()
    derive(cores)  # the first ones load libraries and touch fresh memory
    try:
        return _timed(lambda: derive(count), cores, count)
    finally:
        pipeline.close()


def by_pycryptodome(parameters: ScryptParameters, cores: int, count: int) -> Cost:
    """Keys by pycryptodome, one for each core at a time."""

    def derive() -> None:
        for _ in range(count // cores):
            plain_scrypt(parameters)

    def all_cores() -> None:
        threads = [threading.Thread(target=derive) for _ in range(cores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return _timed(all_cores, cores, count // cores * cores)


def plain_scrypt(parameters: ScryptParameters) -> None:
    """One derivation on one core by pycryptodome, which is always installed."""
    scrypt(b"secret", os.urandom(32), KEY_SIZE, parameters.n, parameters.r, parameters.p)


def side_by_side(parameters: ScryptParameters, count: int = 2) -> float:
    """Seconds on the clock for this many derivations at once, each on a thread of its own."""
    return by_pycryptodome(parameters, count, count).wall


@contextmanager
def busy(parameters: ScryptParameters, cores: int) -> Iterator[None]:
    """Keeps this many cores deriving, one lane at a time, as a restore does to its other work."""
    lane = ScryptParameters(parameters.log2_n, parameters.r, 1)
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            plain_scrypt(lane)

    threads = [threading.Thread(target=work) for _ in range(cores)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _timed(work: Callable[[], None], cores: int, count: int) -> Cost:
    start, start_cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    return Cost(cpu / count, wall * cores / count)
