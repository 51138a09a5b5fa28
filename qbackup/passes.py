"""What a pass of the lane kernel costs, and which passes do the work soonest. Arithmetic only.

A pass goes through up to `WIDTH` lanes side by side. It takes about as long for one lane as for
eight, so full ones are best; but each lane wants 128·N·r bytes, and memory is what there is least
of on machines with many cores. So V may have gaps: with every second or fourth row left out and
computed again when it is read, eight lanes fit where two did. And fresh memory is dear: touching
a GiB for the first time took 0.1 s or, in a virtual machine whose host had to find it, over 2 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qbackup.scrypt import ScryptParameters

WIDTH = 8  # lanes side by side
PASS_SECONDS = 4.3e-7  # a pass for each N·r, measured at N=2^18, r=8 with both cores busy

# What a pass takes when V holds every row, every second, every fourth, by that measure
GAPS = {1: 1.0, 2: 1.75, 4: 2.1}
# and what pycryptodome takes for a lane, with every core busy.
BACKEND_LANE = 0.45

_R = 8
_MAX_LOG2_N = 32  # row numbers are taken from one 32-bit word


@dataclass(frozen=True, slots=True)
class Pass:
    """How one pass of the lane kernel is made.

    Args:
        lanes: side by side.
        gap: V holds the rows whose number is a multiple of it.
    """

    lanes: int
    gap: int

    def memory(self, parameters: ScryptParameters) -> int:
        """Bytes that it takes."""
        return self.lanes * parameters.lane_memory // self.gap


def kernel_width(parameters: ScryptParameters) -> int:
    """Lanes of these parameters that the kernel takes in one pass; 0: it is not made for them."""
    return WIDTH if parameters.r == _R and 2 <= parameters.log2_n <= _MAX_LOG2_N else 0


def best_pass(
    lanes: int,
    jobs: float,
    parameters: ScryptParameters,
    room: int,
    *,
    width: int = WIDTH,
    touched: int = 0,
    touch: float = 0.0,
) -> Pass | None:
    """The pass with which all that waits is done soonest; None: a backend is sooner.

    Args:
        lanes: how many wait.
        jobs: that go through them; half of one is one that begins later.
        parameters: theirs.
        room: bytes that a pass may take.
        width: lanes that a pass can have.
        touched: bytes that each job has had already.
        touch: what fresh memory for a lane costs, in passes without gaps.
    """
    best, soonest = None, lanes * BACKEND_LANE / jobs
    for gap, cost in GAPS.items():
        for count in range(1, min(width, room * gap // parameters.lane_memory) + 1):
            one = Pass(count, gap)
            if not is_worth_it(one):
                continue
            fresh = max(0, one.memory(parameters) - touched) / parameters.lane_memory
            time = fresh * touch + math.ceil(lanes / (count * jobs)) * cost
            if time < soonest:
                best, soonest = one, time
    return best


def is_worth_it(one: Pass) -> bool:
    """Whether a backend would take longer for the same lanes, one after the other."""
    return GAPS[one.gap] < one.lanes * BACKEND_LANE


def narrowest_gap(lanes: int, parameters: ScryptParameters, room: int) -> Pass:
    """The fastest pass with as many of these lanes as fit into so many bytes; one at least."""
    for gap in GAPS:
        if lanes * parameters.lane_memory <= room * gap:
            break
    return Pass(max(1, min(lanes, room * gap // parameters.lane_memory)), gap)


def kernel_saves(lanes: int, jobs: int, parameters: ScryptParameters) -> float:
    """Seconds that the kernel saves at best, with full passes; 0 where it is of no use."""
    width = kernel_width(parameters)
    if not width:
        return 0.0
    passes = lanes * BACKEND_LANE / jobs - lanes / (width * jobs)
    return passes * PASS_SECONDS * parameters.n * parameters.r
