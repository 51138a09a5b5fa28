"""A pool of keys that a test can hold up and watch."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from qbackup.crypto.kdf import Derivation, Deriver
from qbackup.crypto.romix.kernel import LaneKernel, LaneMemory, load_kernel
from qbackup.crypto.romix.tuning import WIDTH
from qbackup.crypto.scrypt_format import ScryptParameters
from tests.support.derivations import need_llvmlite

LANES = ScryptParameters(10, 8, 5)  # 1 MiB a lane


def job(number: int, parameters: ScryptParameters = LANES) -> Derivation:
    return Derivation(b"secret", b"salt %d" % number, parameters)


def key_of(derivation: Derivation) -> bytes:
    """By another implementation."""
    parameters = derivation.parameters
    return hashlib.scrypt(
        derivation.secret,
        salt=derivation.salt,
        n=parameters.n,
        r=parameters.r,
        p=parameters.p,
        maxmem=1 << 30,
        dklen=64,
    )


@dataclass
class Seen:
    """What was called, in order; the real thing does the work."""

    ways: list[str] = field(default_factory=list)
    lanes: list[int] = field(default_factory=list)


class Watched(Deriver):
    """The real deriver, whose two ways can be watched and made to fail.

    Args:
        kernel: how the lane kernel is loaded; by default there is none.
        before: called before each derivation or pass with the name of its way; what it raises,
            that way raises.
    """

    def __init__(
        self,
        kernel: Callable[[int], LaneKernel] | None = None,
        *,
        before: Callable[[str], None] = lambda way: None,
    ) -> None:
        super().__init__(load_kernel=kernel or load_kernel)
        self._has_kernel = kernel is not None
        self._before = before
        self.seen = Seen()

    @property
    def has_kernel(self) -> bool:
        return self._has_kernel

    def load_kernel(self, lanes: int = WIDTH) -> LaneKernel | None:
        kernel = super().load_kernel(lanes)
        if kernel is None:
            return None
        return WatchedKernel(kernel, self._begin)

    def derive(self, job: Derivation, threads: int = 1) -> bytes:
        self._begin("whole", job.parameters.p)
        return super().derive(job, threads)

    def _begin(self, way: str, lanes: int) -> None:
        self.seen.ways.append(way)
        self.seen.lanes.append(lanes)
        self._before(way)


class WatchedKernel(LaneKernel):
    """A kernel that tells of each pass."""

    def __init__(self, kernel: LaneKernel, begin: Callable[[str, int], None]) -> None:
        super().__init__(kernel.prepare)
        self._begin = begin

    def romix(
        self,
        blocks: bytes | bytearray | memoryview,
        parameters: ScryptParameters,
        memory: LaneMemory,
    ) -> bytes:
        self._begin("kernel", len(blocks) // (128 * parameters.r))
        return super().romix(blocks, parameters, memory)


@pytest.fixture(scope="module")
def kernel() -> LaneKernel:
    """The real one, compiled once."""
    need_llvmlite()
    return load_kernel()


class Gate:
    """Lets nothing through until it is opened; says who has come."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.came: list[str] = []

    def __call__(self, way: str) -> None:
        self.came.append(way)
        assert self._open.wait(60)

    def open(self) -> None:
        self._open.set()
