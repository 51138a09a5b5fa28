"""scrypt in three steps, so that the middle one, nearly all of the work, can be done elsewhere.

RFC 7914, section 6: PBKDF2 makes p blocks of 128·r bytes from the passphrase (`expand`),
ROMix works on each of them (`mix`), PBKDF2 makes the key from the passphrase and what came
of them (`finish`). Only the blocks travel. They tell neither the passphrase nor, without it,
the key; who has them can test guesses, at the price of a PBKDF2 each.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Callable
from typing import Any

from qbackup.errors import MachineError
from qbackup.keys import Derivation, physical_memory
from qbackup.lanes import LaneKernel, LaneMemory, load_kernel
from qbackup.scrypt import KEY_SIZE, ScryptParameters

_WORTH_A_PASS = 3  # lanes; see qbackup.pipeline.schedule
_UNKNOWN_MEMORY = 4 << 30

# (one lane's block of 128·r bytes, N) → the same length
LaneMix = Callable[[bytes, int], bytes]

# RFC 7914, section 10: ROMix of one block with r=1, N=16
_KNOWN_BLOCK = bytes.fromhex(
    "f7ce0b653d2d72a4108cf5abe912ffdd777616dbbb27a70e8204f3ae2d0f6fad"
    "89f68f4811d1e87bcc3bd7400a9ffd29094f0184639574f39ae5a1315217bcd7"
    "894991447213bb226c25b54da86370fbcd984380374666bb8ffcb5bf40c254b0"
    "67d27c51ce4ad5fed829c90b505a571b7f4d1cad6a523cda770e67bceaaf7e89"
)
_KNOWN_RESULT = bytes.fromhex(
    "79ccc193629debca047f0b70604bf6b62ce3dd4a9626e355fafc6198e6ea2b46"
    "d58413673b99b029d665c357601fb426a0b2f4bba200ee9f0a43d19b571a9c71"
    "ef1142e65d5a266fddca832ce59faa7cac0b9cf1be2bffca300d01ee387619c4"
    "ae12fd4438f203a0e4e1c47ec314861f4e9087cb33396a6873e8f9d2539a4b8e"
)


def expand(job: Derivation) -> bytes:
    """The p blocks that ROMix works on, 128·r·p bytes."""
    length = 128 * job.parameters.r * job.parameters.p
    return hashlib.pbkdf2_hmac("sha256", job.secret, job.salt, 1, length)


def finish(job: Derivation, mixed: bytes) -> bytes:
    """The key, 64 bytes, from the mixed blocks."""
    return hashlib.pbkdf2_hmac("sha256", job.secret, mixed, 1, KEY_SIZE)


def mix(blocks: bytes, log2_n: int, r: int) -> bytes:
    """ROMix of every block: what a worker of an executor runs, in its own process.

    Args:
        blocks: p blocks of 128·r bytes.
        log2_n: N is two to the power of this.
        r: block size parameter.

    Returns:
        p blocks of the same size.

    Raises:
        MachineError: this machine has neither the lane kernel nor a pycryptodome that is known.
        NotEnoughMemory: it has not enough memory.
    """
    size = 128 * r
    parameters = ScryptParameters(log2_n, r, len(blocks) // size)
    width = min(parameters.p, _lanes_that_fit(parameters))
    kernel = _kernel() if width >= _WORTH_A_PASS else None
    if kernel is None or not kernel.width(parameters):
        lane = lane_mix()
        starts = range(0, len(blocks), size)
        return b"".join(lane(blocks[at : at + size], parameters.n) for at in starts)
    memory = LaneMemory()
    try:
        step = min(width, kernel.width(parameters)) * size
        pieces = (blocks[at : at + step] for at in range(0, len(blocks), step))
        return b"".join(kernel.romix(piece, parameters, memory) for piece in pieces)
    finally:
        memory.close()


def _lanes_that_fit(parameters: ScryptParameters) -> int:
    """Lanes for one of as many workers as there are cores, in half of the memory."""
    there = physical_memory() or _UNKNOWN_MEMORY
    return there // 2 // (os.cpu_count() or 1) // parameters.lane_memory


@functools.cache
def _kernel() -> LaneKernel | None:
    """The lane kernel, loaded once in a process; None where there is none."""
    try:
        return load_kernel()
    except Exception:  # whatever is wrong with it
        return None


@functools.cache
def lane_mix() -> LaneMix:
    """pycryptodome's ROMix, which it does not document: so it is tried on a known block first.

    Raises:
        MachineError: it is not there, or not as it was in the versions that are known.
    """
    try:
        lane = _pycryptodome_lane()
        if lane(_KNOWN_BLOCK, 16) == _KNOWN_RESULT:
            return lane
    except (ImportError, AttributeError, TypeError, ValueError, OSError):
        pass
    raise MachineError("no ROMix on this machine: install qbackup[turbo] or pycryptodome")


def _pycryptodome_lane() -> LaneMix:
    import Crypto
    from Crypto.Protocol import KDF
    from Crypto.Util import _raw_api as raw

    library: Any = KDF._raw_scrypt_lib  # type: ignore[attr-defined,unused-ignore]
    if not (3, 9) <= Crypto.version_info[:2] < (5, 0):
        raise ImportError("a version that is not known")
    if "threads" in inspect.signature(KDF.scrypt).parameters:
        rest = (raw.c_size_t(0), raw.c_size_t(1))

        def arguments(size: int) -> tuple[Any, ...]:
            return (*rest, raw.c_size_t(size))
    else:
        core = KDF._raw_salsa20_lib.Salsa20_8_core  # type: ignore[attr-defined,unused-ignore]

        def arguments(size: int) -> tuple[Any, ...]:
            return (core,)

    def lane(block: bytes, n: int) -> bytes:
        size = len(block)
        output = raw.create_string_buffer(size)
        if library.scryptROMix(block, output, raw.c_size_t(size), n, *arguments(size)):
            raise MemoryError
        return bytes(raw.get_raw_buffer(output))

    return lane
