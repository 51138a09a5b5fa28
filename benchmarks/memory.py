"""What memory costs that the system has to find first, as the lane kernel asks for it.

    python -m benchmarks.memory LOG2_N R P

A process of its own: run by `benchmarks.floor`, prints JSON.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import sys

from benchmarks.derivation import on_all, timed
from benchmarks.machine import cores
from qbackup.crypto.romix.kernel import LaneMemory
from qbackup.crypto.romix.tuning import WIDTH
from qbackup.crypto.scrypt_format import ScryptParameters


def first_touches(parameters: ScryptParameters, threads: int) -> list[float]:
    """Seconds of one core to touch fresh memory for one lane, for two, and so on, on all threads.

    In steps, as the system gives away what it has at hand before what it has to find. All is
    touched a second time: what that takes is not the memory's.
    """
    memories = [LaneMemory() for _ in range(threads)]
    size = parameters.lane_memory

    def fill(number: int, lane: int) -> None:
        held = ctypes.c_char.from_buffer(memories[number].reserve(WIDTH * size), lane * size)
        ctypes.memset(ctypes.addressof(held), 1, size)  # other threads run meanwhile

    def fill_all() -> list[float]:
        fills = (functools.partial(fill, lane=lane) for lane in range(WIDTH))
        works = (functools.partial(on_all, threads, fill) for fill in fills)
        return [timed(work, threads, 1).cpu for work in works]

    costs = [max(0.0, fresh - known) for fresh, known in zip(fill_all(), fill_all(), strict=True)]
    for memory in memories:
        memory.close()
    return list(itertools.accumulate(costs))


if __name__ == "__main__":
    print(json.dumps(first_touches(ScryptParameters(*map(int, sys.argv[1:])), cores())))
