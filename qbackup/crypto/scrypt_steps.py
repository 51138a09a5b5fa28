"""scrypt in three steps, so that the middle one, nearly all of the work, can be done elsewhere.

RFC 7914, section 6: PBKDF2 makes p blocks of 128·r bytes from the passphrase (`expand`),
ROMix works on each of them (`romix`), PBKDF2 makes the key from the passphrase and the mixed
blocks (`finish`). Only the blocks are sent to another machine. The blocks reveal neither the
passphrase nor, without it, the key; but their owner can test guesses of the passphrase, for the
cost of one PBKDF2 each.

No documented library does ROMix alone, so only the lane kernel can do that step: a worker needs
llvmlite.
"""

from __future__ import annotations

import functools
import hashlib
import os

from qbackup.base.errors import MachineError
from qbackup.base.names import display
from qbackup.crypto.kdf import Derivation, check_memory, physical_memory
from qbackup.crypto.romix.kernel import LaneKernel, LaneMemory, load_kernel
from qbackup.crypto.romix.tuning import WIDTH, kernel_width
from qbackup.crypto.scrypt_format import KEY_SIZE, ScryptParameters

_UNKNOWN_MEMORY = 4 << 30


class NoLaneKernel(MachineError):
    """A worker has no lane kernel, so it can't derive keys for others."""


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
        NoLaneKernel: this machine has no lane kernel.
        NotEnoughMemory: this machine has not enough memory.
        ValueError: the kernel does not support these parameters, see `can_travel`.
    """
    size = 128 * r
    parameters = ScryptParameters(log2_n, r, len(blocks) // size)
    check_memory(parameters)
    lanes = min(parameters.p, WIDTH, max(1, _memory_of_one_worker() // parameters.lane_memory))
    kernel = _kernel()
    memory = LaneMemory()
    try:
        step = lanes * size
        pieces = (blocks[at : at + step] for at in range(0, len(blocks), step))
        return b"".join(kernel.romix(piece, parameters, memory) for piece in pieces)
    finally:
        memory.close()


def can_travel(parameters: ScryptParameters) -> bool:
    """Tells if `romix` supports these parameters."""
    return kernel_width(parameters) > 0


def check_worker() -> None:
    """Checks that this process can do `romix`. A worker of a cluster runs this.

    Raises:
        NoLaneKernel: this machine has no lane kernel.
    """
    _kernel()


def _memory_of_one_worker() -> int:
    """Gives one worker's share of half of the memory, with as many workers as cores."""
    return (physical_memory() or _UNKNOWN_MEMORY) // 2 // (os.cpu_count() or 1)


@functools.cache
def _kernel() -> LaneKernel:
    """Loads the lane kernel once in a process.

    Raises:
        NoLaneKernel: llvmlite is not installed, or it does not work here.
    """
    try:
        return load_kernel()
    except ImportError:
        raise NoLaneKernel("llvmlite is not installed") from None
    except Exception as error:  # a broken llvmlite may raise anything
        raise NoLaneKernel(f"llvmlite does not work: {display(str(error))}") from None
