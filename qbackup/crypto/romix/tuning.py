"""Cost of a pass of the lane kernel, and the choice of passes that finish soonest. Arithmetic only.

A pass works on some lanes side by side, up to `WIDTH`. More lanes make each of them cheaper; but
each needs 128·N·r bytes, and on machines with many cores memory is scarce. Fresh memory can also
be slow: touching a GiB for the first time took 0.1 s or, in a virtual machine whose host had to
find the memory, over 2 s. Earlier touches do not predict the next one, because the system gives
its ready memory first. So the worst is assumed. Where that is wrong, a small backup takes a tenth
longer, and a large one no longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qbackup.crypto.scrypt_format import ScryptParameters

# Seconds of a pass for each N·r, by its lanes; measured at N=2^18, r=8 with every core busy.
# Eight lanes took no less for each than six, and without AVX2 far more.
PASS_SECONDS = {
    1: 1.9e-7,
    2: 2.1e-7,
    3: 2.6e-7,
    4: 3.3e-7,
    5: 3.6e-7,
    6: 3.9e-7,
}
# Seconds for each N·r that pycryptodome takes for a lane, with memory of its own.
BACKEND_SECONDS = 2.0e-7

WIDTH = max(PASS_SECONDS)  # lanes side by side
TOUCH_SECONDS = 2.0 / 2**30  # for a byte of fresh memory: the worst that was measured

_R = 8
_MAX_LOG2_N = 32  # row numbers are taken from one 32-bit word


def kernel_width(parameters: ScryptParameters) -> int:
    """Gives the most lanes in one pass of the kernel; 0 for parameters that are not supported."""
    return WIDTH if parameters.r == _R and 1 <= parameters.log2_n <= _MAX_LOG2_N else 0


@dataclass(frozen=True, slots=True)
class Work:
    """Waiting lanes, and the jobs that will work on them.

    Args:
        lanes: number of waiting lanes.
        idle: number of jobs that may begin now.
        jobs: number of all jobs.
        parameters: of every lane.
    """

    lanes: int
    idle: int
    jobs: int
    parameters: ScryptParameters

    def seconds(self, lanes: int, pass_seconds: float) -> float:
        """Estimates the seconds until all is done, if each idle job now takes so many lanes.

        The lanes that are then left are divided among all jobs, and take at least the time of one
        lane.
        """
        left = self.lanes - lanes * self.idle
        if left <= 0:
            return pass_seconds
        return pass_seconds + max(left / self.jobs * pass_seconds / lanes, PASS_SECONDS[1])


def best_pass(work: Work, most: int, *, touched: int = 0) -> int:
    """Chooses the number of lanes of a pass so that all work ends soonest; 0: none may be taken.

    Args:
        work: all waiting lanes.
        most: lanes that a pass may have, up to `WIDTH`.
        touched: bytes of memory that each job has touched already.
    """
    lane_memory = work.parameters.lane_memory

    def seconds(lanes: int) -> float:
        fresh = max(0, lanes * lane_memory - touched)
        cost = fresh * TOUCH_SECONDS / (work.parameters.n * work.parameters.r)
        return cost + work.seconds(lanes, PASS_SECONDS[lanes])

    return min(range(1, most + 1), key=seconds, default=0)


def first_pass(lanes: int, jobs: int, parameters: ScryptParameters, most: int) -> int:
    """Chooses the number of lanes of each job's first pass; 0: none may be taken."""
    return best_pass(Work(lanes, jobs, jobs, parameters), most)


def kernel_gain(lanes: int) -> float:
    """Gives the kernel's speed with so many lanes side by side, as a multiple of a backend's."""
    return BACKEND_SECONDS * lanes / PASS_SECONDS[lanes]


def kernel_saves(lanes: int, jobs: int, parameters: ScryptParameters) -> float:
    """Estimates the seconds that the kernel saves at best; 0 where it saves nothing."""
    if not kernel_width(parameters) or not lanes:
        return 0.0
    each = math.ceil(lanes / jobs)
    side_by_side = min(WIDTH, each)
    passed = each / side_by_side * PASS_SECONDS[side_by_side]
    saved = each * BACKEND_SECONDS - passed
    return max(0.0, saved) * parameters.n * parameters.r
