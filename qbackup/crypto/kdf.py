"""Derivation of a chunk's key from the passphrase: the backends, and the choice of one.

Pure calls: no threads are started here but those that a backend uses inside one call.
Each backend computes scrypt as RFC 7914 defines it; they differ in speed only. Measured
at N=2^20, r=8, p=1: pycryptodome 2.2-2.5 s, hashlib 5.4-6.3 s; pyscrypt takes 1 s at N=2^10.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from qbackup.base.errors import MachineError, NotEnoughMemory
from qbackup.crypto.romix.kernel import (
    LaneKernel,
    llvmlite_is_installed,
    load_kernel,
)
from qbackup.crypto.romix.tuning import WIDTH
from qbackup.crypto.scrypt_format import KEY_SIZE, ScryptParameters

_HASHLIB_MEMORY = 2**31 - 1  # OpenSSL's ceiling, an int in hashlib
_LINE_LIMIT = 2047
_LINE_END = re.compile(rb"[\0\r\n]")


@dataclass(frozen=True)
class Derivation:
    """One key to derive, with all data that a backend needs. The secret is kept out of repr."""

    secret: bytes = field(repr=False)
    salt: bytes
    parameters: ScryptParameters


# (derivation, threads) → 64 bytes
DeriveFunction = Callable[[Derivation, int], bytes]


@dataclass(frozen=True)
class Backend:
    """A library that computes scrypt.

    Args:
        name: of the library.
        derive: the computation; its second argument is the number of lanes that may run at once.
        max_memory: the most memory, as `_memory` counts it, in bytes; None: any.
        threaded: the lanes of a key can run side by side, each on a thread.
        slow: the library is so slow that the user must be warned.
        strict: parameters with N >= 2^(16·r), which RFC 7914 forbids, are refused. The scrypt
            program takes them.
    """

    name: str
    derive: DeriveFunction
    max_memory: int | None = None
    threaded: bool = False
    slow: bool = False
    strict: bool = False

    def can(self, parameters: ScryptParameters) -> bool:
        """Tells if this backend can compute with these parameters."""
        if self.strict and parameters.log2_n >= 16 * parameters.r:
            return False
        return self.max_memory is None or _memory(parameters) <= self.max_memory


def _memory(parameters: ScryptParameters) -> int:
    """Gives the memory that OpenSSL compares with its limit: B, and V with a block of scratch."""
    r, p = parameters.r, parameters.p
    return 128 * r * p + 32 * r * (parameters.n + 2) * 4


def secret_line(combined: bytes) -> bytes:
    """Gives the part of a passphrase line that the scrypt program uses.

    The program reads a C string into 2,048 bytes: the line ends at CR, LF or NUL, and at most
    2,047 bytes of the line count (tried with the program: 3,000 bytes give the same key).
    """
    return _LINE_END.split(combined[:_LINE_LIMIT], maxsplit=1)[0]


def _pycryptodome() -> Backend:
    import inspect

    from Crypto.Protocol.KDF import scrypt

    # Distributions still have releases before 4.0, in which the lanes go one after the other.
    threaded = "threads" in inspect.signature(scrypt).parameters

    def derive(job: Derivation, threads: int) -> bytes:
        n, r, p = job.parameters.n, job.parameters.r, job.parameters.p
        options = {"threads": threads} if threaded else {}
        return cast(bytes, scrypt(job.secret, job.salt, KEY_SIZE, n, r, p, **options))

    return Backend("pycryptodome", derive, threaded=threaded)


def _hashlib() -> Backend:
    from hashlib import scrypt  # not there when Python was built without OpenSSL

    def derive(job: Derivation, threads: int) -> bytes:
        n, r, p = job.parameters.n, job.parameters.r, job.parameters.p
        return scrypt(
            job.secret, salt=job.salt, n=n, r=r, p=p, maxmem=_HASHLIB_MEMORY, dklen=KEY_SIZE
        )

    return Backend("hashlib", derive, max_memory=_HASHLIB_MEMORY, strict=True)


def _pyscrypt() -> Backend:
    import pyscrypt

    def derive(job: Derivation, threads: int) -> bytes:
        n, r, p = job.parameters.n, job.parameters.r, job.parameters.p
        key: bytes = pyscrypt.hash(job.secret, job.salt, n, r, p, KEY_SIZE)
        return key

    return Backend("pyscrypt", derive, slow=True)


LOADERS: tuple[Callable[[], Backend], ...] = (_pycryptodome, _hashlib, _pyscrypt)


def load_backends() -> tuple[Backend, ...]:
    """Loads the backends that this machine has, fastest first.

    Raises:
        MachineError: there is none.
    """
    backends = []
    for load in LOADERS:
        try:
            backends.append(load())
        except (ImportError, OSError):
            continue
    if not backends:
        raise MachineError("no scrypt on this machine: install pycryptodome")
    return tuple(backends)


class Deriver:
    """Deriver of keys, which uses the best backend that can do the given parameters.

    The backends are loaded once, when the first key is requested.

    Args:
        backends: to use instead of those of this machine.
        load_kernel: loads the lane kernel, given the number of lanes that is wanted first.
    """

    def __init__(
        self,
        backends: tuple[Backend, ...] | None = None,
        load_kernel: Callable[[int], LaneKernel] = load_kernel,
    ) -> None:
        self._backends = backends
        self._load_kernel = load_kernel

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends of this machine, fastest first."""
        if self._backends is None:
            self._backends = load_backends()
        return self._backends

    def backend_for(self, parameters: ScryptParameters) -> Backend:
        """Gives the first backend that can do these parameters.

        Raises:
            MachineError: none can.
        """
        for backend in self.backends:
            if backend.can(parameters):
                return backend
        raise MachineError(f"no scrypt on this machine can do {parameters}: install pycryptodome")

    @property
    def is_threaded(self) -> bool:
        """True if the fastest backend can run the lanes of a key side by side."""
        return self.backends[0].threaded

    @property
    def has_kernel(self) -> bool:
        """True if loading the lane kernel is worth a try, because llvmlite is installed."""
        return self._load_kernel is not load_kernel or llvmlite_is_installed()

    def load_kernel(self, lanes: int = WIDTH) -> LaneKernel | None:
        """Loads the lane kernel in a fraction of a second; None where it can't be used.

        Args:
            lanes: number of lanes that is wanted first.
        """
        try:
            return self._load_kernel(lanes)
        except Exception:  # a compiler fails in many ways, and the backends do without the kernel
            return None

    def derive(self, job: Derivation, threads: int = 1) -> bytes:
        """Derives a key of 64 bytes.

        Args:
            job: the key to derive.
            threads: lanes that may run side by side, each with 128·N·r bytes.

        Raises:
            MachineError: no backend can do it.
            NotEnoughMemory: the machine has not enough memory for this key.
        """
        backend = self.backend_for(job.parameters)
        need = job.parameters.lane_memory * (threads if backend.threaded else 1)
        check_memory(job.parameters)
        try:
            return backend.derive(job, threads)
        except (MemoryError, ValueError):  # both C libraries report a failed malloc as ValueError
            raise NotEnoughMemory(
                f"not enough memory to derive a key: {need // 2**20} MiB are needed"
            ) from None


def check_memory(parameters: ScryptParameters) -> None:
    """Checks that this machine has the memory for one lane.

    On a system that overcommits memory, a derivation with too much of it would kill the process.

    Raises:
        NotEnoughMemory: this machine has less than one lane needs.
    """
    need, there = parameters.lane_memory, physical_memory()
    if there is not None and need > there:
        raise NotEnoughMemory(
            f"a key needs {need // 2**20} MiB, this machine has {there // 2**20} MiB"
        )


def physical_memory() -> int | None:
    """Gives this machine's memory in bytes; None if the system does not report it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
