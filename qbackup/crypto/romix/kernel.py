"""scryptROMix of several lanes at once.

scrypt is PBKDF2, then scryptROMix on each of p lanes, then PBKDF2 again (RFC 7914, section 6).
The lanes, of one key or of several with the same N and r, do not depend on each other, so the
wide registers of a processor can work on several of them. `LaneKernel`, of the extra ``turbo``,
does the step between the two PBKDF2; `LaneMemory` holds its working memory.

Importing this module imports nothing heavy; `load_kernel` does.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import importlib.util
import mmap
import sys
from collections.abc import Callable

from qbackup.base.errors import MachineError, NotEnoughMemory
from qbackup.base.locks import RLock
from qbackup.crypto.romix.tuning import WIDTH, kernel_width
from qbackup.crypto.scrypt_format import ScryptParameters

_R = 8
_LANE_SIZE = 128 * _R
_COMPILE_SECONDS = 2.0  # ten times what compiling takes

# RFC 7914, section 12, the second vector
_KNOWN_PARAMETERS = ScryptParameters(10, _R, 16)
_KNOWN_KEY = bytes.fromhex(
    "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
    "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"
)

# (lanes with r = 8, the address of V, N) → the same, mixed; `qbackup.crypto.romix.llvm_code.Romix`
RomixFunction = Callable[[bytes | bytearray | memoryview, int, int], bytes]


class LaneMemory:
    """V of up to `WIDTH` lanes, allocated once and used again. One thread at a time.

    The first touch of fresh memory is slow, above all in virtual machines, so reserved memory
    stays with the process until `shrink` or `close`.
    """

    def __init__(self) -> None:
        self._map: mmap.mmap | None = None
        self._used = 0  # bytes that may have been touched

    def reserve(self, size: int) -> memoryview:
        """Reserves memory of this many bytes, with any content, that begins at a page.

        Memory that was reserved before is used again where possible.

        Raises:
            NotEnoughMemory: the system does not give that much.
        """
        if self._map is not None and size > len(self._map):
            self._grow(size)
        if self._map is None or size > len(self._map):
            self.close()
            self._map = _mapped(size)
        self._used = max(self._used, size)
        return memoryview(self._map)[:size]

    def shrink(self, size: int) -> None:
        """Returns the memory above `size` bytes to the system."""
        if size < self._used and not (size and self._give_back(size)):
            self.close()
        self._used = min(self._used, size)

    def _grow(self, size: int) -> None:
        """Enlarges the mapping and keeps its pages, on Linux.

        On other systems Python can't do that, or, on Windows before 3.11, loses the mapping.
        """
        if self._map is None or sys.platform != "linux":
            return
        try:
            self._map.resize(size)
            _ask_for_huge_pages(self._map)
        except (BufferError, OSError, OverflowError, SystemError, ValueError):
            return  # the caller then makes a new mapping

    def close(self) -> None:
        """Returns all memory. May be called twice; `reserve` may be called afterwards.

        While a view is still held, its memory stays.
        """
        if self._map is not None:
            with contextlib.suppress(BufferError):
                self._map.close()
        self._map = None
        self._used = 0

    def _give_back(self, size: int) -> bool:
        """Returns the pages above `size` bytes; False where only a new mapping can do that."""
        start = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if self._map is None or start >= self._used:
            return True
        if sys.platform != "linux":
            return False
        self._map.madvise(mmap.MADV_DONTNEED, start)
        return True


def _mapped(size: int) -> mmap.mmap:
    """Makes a private anonymous mapping, in huge pages where there are any.

    V is read in random order. With pages of 4 KiB every row would cost a walk through the page
    tables, which is twice as long in a virtual machine.
    """
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, size)
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, MemoryError, OverflowError):
        raise NotEnoughMemory(
            f"not enough memory to derive keys: {size // 2**20} MiB are needed"
        ) from None
    _ask_for_huge_pages(mapping)
    return mapping


def _ask_for_huge_pages(mapping: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            mapping.madvise(mmap.MADV_HUGEPAGE)


_compiler = RLock()  # held by the thread that runs LLVM


def _let_it_compile() -> None:
    """Waits at exit for a thread that is still compiling, and lets no other one begin.

    At exit LLVM's globals are freed, and a thread inside LLVM would crash. Compiling takes a
    fraction of a second.
    """
    _compiler.acquire(timeout=_COMPILE_SECONDS)


atexit.register(_let_it_compile)


class LaneKernel:
    """scryptROMix on up to `WIDTH` lanes at once. Several threads may use one kernel.

    Args:
        compiled: makes the machine code for a number of lanes, in a fraction of a second; called
            once for each number, when that is first wanted.
    """

    def __init__(self, compiled: Callable[[int], RomixFunction]) -> None:
        self._compiled = compiled
        self._codes: dict[int, RomixFunction] = {}

    def width(self, parameters: ScryptParameters) -> int:
        """Gives the number of lanes in one pass; 0 for parameters not supported (r = 8 only)."""
        return kernel_width(parameters)

    def prepare(self, lanes: int) -> RomixFunction:
        """Compiles the code for this number of lanes, and tests it with a known answer.

        Raises:
            MachineError: the code gives wrong keys here.
            Exception: any error of a broken llvmlite; the caller does without a kernel.
        """
        if lanes not in self._codes:  # first without the lock, so that callers need not wait
            with _compiler:
                if lanes not in self._codes:
                    self._codes[lanes] = _checked(self._compiled(lanes), lanes)
        return self._codes[lanes]

    def romix(
        self,
        blocks: bytes | bytearray | memoryview,
        parameters: ScryptParameters,
        memory: LaneMemory,
    ) -> bytes:
        """Computes scryptROMix (RFC 7914, section 5) of each lane, without holding Python's lock.

        Args:
            blocks: 1 to `WIDTH` lanes of 128·r bytes, one after another, of one key or several.
            parameters: N and r; p does not matter here.
            memory: this thread's own; 128·N·r bytes are reserved for each lane.

        Returns:
            The lanes in the same order.

        Raises:
            ValueError: the parameters are not supported, or the lanes no whole number.
            NotEnoughMemory: the memory can't be reserved.
            Exception: as in `prepare`.
        """
        lanes, rest = divmod(len(blocks), _LANE_SIZE)
        if rest or not 1 <= lanes <= self.width(parameters):
            raise ValueError(f"no {len(blocks)} bytes of lanes with {parameters}")
        return _run(self.prepare(lanes), blocks, parameters, memory)


def _run(
    code: RomixFunction,
    blocks: bytes | bytearray | memoryview,
    parameters: ScryptParameters,
    memory: LaneMemory,
) -> bytes:
    lanes = len(blocks) // _LANE_SIZE
    v = memory.reserve(lanes * parameters.lane_memory)
    held = ctypes.c_char.from_buffer(v)  # keeps the memory from being closed during the call
    return code(blocks, ctypes.addressof(held), parameters.n)


def _checked(code: RomixFunction, lanes: int) -> RomixFunction:
    parameters, memory = _KNOWN_PARAMETERS, LaneMemory()
    size = _LANE_SIZE * parameters.p
    untested = hashlib.pbkdf2_hmac("sha256", b"password", b"NaCl", 1, size)
    mixed = bytearray(size)
    step = _LANE_SIZE * lanes
    for at in (*range(0, size - step, step), size - step):  # the last two may overlap
        mixed[at : at + step] = _run(code, untested[at : at + step], parameters, memory)
    memory.close()
    if hashlib.pbkdf2_hmac("sha256", b"password", mixed, 1, len(_KNOWN_KEY)) != _KNOWN_KEY:
        raise MachineError("the lane kernel gives wrong keys on this machine")
    return code


def llvmlite_is_installed() -> bool:
    """Tells if llvmlite is installed, without importing it."""
    return importlib.util.find_spec("llvmlite") is not None


def load_kernel(lanes: int = WIDTH) -> LaneKernel:
    """Imports llvmlite and compiles the kernel for this processor, in a fraction of a second.

    Args:
        lanes: number of lanes that is wanted first.

    Raises:
        ImportError: llvmlite is not installed.
        MachineError: the kernel gives wrong keys here.
        Exception: any error of a broken llvmlite; the caller does without a kernel.
    """
    with _compiler:
        from qbackup.crypto.romix.llvm_code import Romix

        kernel = LaneKernel(Romix)
        kernel.prepare(lanes)
    return kernel
