"""What a pass of the lane kernel costs, and which passes do the work soonest. Arithmetic only.

A pass goes through some lanes side by side, up to `WIDTH`. The more there are, the less each
costs; but each wants 128·N·r bytes, and memory is what there is least of on machines with many
cores. And fresh memory can be dear: touching a GiB for the first time took 0.1 s or, in a virtual
machine whose host had to find it, over 2 s. Which of the two it will be can't be told from what was
touched before, as the system gives away first what it has at hand. So the worst is assumed: where
it is wrong a small backup takes a tenth longer, and a large one nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qbackup.crypto.scrypt_format import ScryptParameters

# Seconds for each N·r that a pass takes, by its lanes; measured at N=2^18, r=8 with every core
# busy. Eight took no less for each than six, and without AVX2 far more.
PASS_SECONDS = {
    1: 1.9e-7,
    2: 2.1e-7,
    3: 2.6e-7,
    4: 3.3e-7,
    5: 3.6e-7,
    6: 3.9e-7,
}
# and what pycryptodome takes for a lane, in memory of its own.
BACKEND_SECONDS = 2.0e-7

WIDTH = max(PASS_SECONDS)  # lanes side by side
TOUCH_SECONDS = (
    2.0 / 2**30
)  # for a byte of fresh memory, until it is known: the worst that was seen

_R = 8
_MAX_LOG2_N = 32  # row numbers are taken from one 32-bit word


def kernel_width(parameters: ScryptParameters) -> int:
    """Lanes of these parameters that the kernel takes in one pass; 0: it is not made for them."""
    return WIDTH if parameters.r == _R and 1 <= parameters.log2_n <= _MAX_LOG2_N else 0


@dataclass(frozen=True, slots=True)
class Work:
    """Lanes that wait, and who goes through them.

    Args:
        lanes: how many wait.
        idle: jobs that may begin now.
        jobs: all that there are.
        parameters: of every lane.
    """

    lanes: int
    idle: int
    jobs: int
    parameters: ScryptParameters

    def seconds(self, lanes: int, pass_seconds: float) -> float:
        """Until all is done, when the idle jobs take so many lanes each now, and so on.

        What is left then is divided among all jobs, and takes one lane's time at least.
        """
        left = self.lanes - lanes * self.idle
        if left <= 0:
            return pass_seconds
        return pass_seconds + max(left / self.jobs * pass_seconds / lanes, PASS_SECONDS[1])


def best_pass(work: Work, most: int, *, touched: int = 0) -> int:
    """Lanes of the pass with which all that waits is done soonest; 0: none may be taken.

    Args:
        work: all of it.
        most: lanes that a pass may have, up to `WIDTH`.
        touched: bytes that each job has had already.
    """
    lane_memory = work.parameters.lane_memory

    def seconds(lanes: int) -> float:
        fresh = max(0, lanes * lane_memory - touched)
        cost = fresh * TOUCH_SECONDS / (work.parameters.n * work.parameters.r)
        return cost + work.seconds(lanes, PASS_SECONDS[lanes])

    return min(range(1, most + 1), key=seconds, default=0)


def first_pass(lanes: int, jobs: int, parameters: ScryptParameters, most: int) -> int:
    """Lanes that each job's first pass has, of so many for all of them; 0: none may be taken."""
    return best_pass(Work(lanes, jobs, jobs, parameters), most)


def kernel_gain(lanes: int) -> float:
    """How many times faster than a backend the kernel is, with so many lanes side by side."""
    return BACKEND_SECONDS * lanes / PASS_SECONDS[lanes]


def kernel_saves(lanes: int, jobs: int, parameters: ScryptParameters) -> float:
    """Seconds that the kernel saves at best; 0 where it is of no use."""
    if not kernel_width(parameters) or not lanes:
        return 0.0
    each = math.ceil(lanes / jobs)
    side_by_side = min(WIDTH, each)
    passed = each / side_by_side * PASS_SECONDS[side_by_side]
    saved = each * BACKEND_SECONDS - passed
    return max(0.0, saved) * parameters.n * parameters.r
