"""scrypt in three steps, so that the middle one, nearly all of the work, can be done elsewhere.

RFC 7914, section 6: PBKDF2 makes p blocks of 128·r bytes from the passphrase (`expand`),
ROMix works on each of them (`romix`), PBKDF2 makes the key from the passphrase and the mixed
blocks (`finish`). Only the blocks are sent to another machine. The blocks reveal neither the
passphrase nor, without it, the key; but their owner can test guesses of the passphrase, for the
cost of one PBKDF2 each.
"""

from __future__ import annotations

import functools
import hashlib
import os

from qbackup.crypto.kdf import Derivation, check_memory, physical_memory
from qbackup.crypto.romix.kernel import LaneKernel, LaneMemory, lane_mix, load_kernel
from qbackup.crypto.romix.tuning import WIDTH, kernel_width
from qbackup.crypto.scrypt_format import KEY_SIZE, ScryptParameters

_UNKNOWN_MEMORY = 4 << 30


def expand(job: Derivation) -> bytes:
    """Makes the p blocks that ROMix works on, 128·r·p bytes."""
    length = 128 * job.parameters.r * job.parameters.p
    return hashlib.pbkdf2_hmac("sha256", job.secret, job.salt, 1, length)


def finish(job: Derivation, mixed: bytes) -> bytes:
    """Makes the key, 64 bytes, from the mixed blocks."""
    return hashlib.pbkdf2_hmac("sha256", job.secret, mixed, 1, KEY_SIZE)


def romix(blocks: bytes, log2_n: int, r: int) -> bytes:
    """Computes ROMix of every block. A worker of an executor runs this in its own process.

    Args:
        blocks: p blocks of 128·r bytes.
        log2_n: N is two to the power of this.
        r: block size parameter.

    Returns:
        p blocks of the same size.

    Raises:
        MachineError: this machine has neither the lane kernel nor a pycryptodome that is known.
        NotEnoughMemory: this machine has not enough memory.
    """
    size = 128 * r
    parameters = ScryptParameters(log2_n, r, len(blocks) // size)
    check_memory(parameters)
    lanes = min(parameters.p, WIDTH, max(1, _memory_of_one_worker() // parameters.lane_memory))
    kernel = _kernel() if kernel_width(parameters) and lanes > 1 else None
    if kernel is None:
        return lane_mix()(blocks, size, parameters.n)
    memory = LaneMemory()
    try:
        step = lanes * size
        pieces = (blocks[at : at + step] for at in range(0, len(blocks), step))
        return b"".join(kernel.romix(piece, parameters, memory) for piece in pieces)
    finally:
        memory.close()


def _memory_of_one_worker() -> int:
    """Gives one worker's share of half of the memory, with as many workers as cores."""
    return (physical_memory() or _UNKNOWN_MEMORY) // 2 // (os.cpu_count() or 1)


@functools.cache
def _kernel() -> LaneKernel | None:
    """Loads the lane kernel once in a process; None where there is none."""
    try:
        return load_kernel()
    except Exception:  # a broken llvmlite may raise anything; pycryptodome then does the work
        return None
