"""What is simulated: speeds, a machine, a backup, and what comes out of it."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

from qbackup.crypto.romix.tuning import WIDTH, kernel_saves
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.pipeline.pipeline import _LINES_LIMIT, _WORTH_LOADING_SECONDS
from qbackup.pipeline.remote import RemoteMixing

MIB = 1 << 20
CHUNK = 100 * MIB


@dataclass(frozen=True)
class Rates:
    """Seconds of one core, or of a disk.

    Args:
        lane: one lane by a backend, for each N·r.
        kernel: of a pass of the lane kernel, for each of `PASS_SECONDS`; None: there is none.
        open: a stored byte read into memory, authenticated and decrypted.
        inflate: a byte of output.
        write: a byte handed to the system.
        source: a stored byte, by the disk.
        output: a byte of output, by the disk.
        start: until the first key is asked for.
    """

    lane: float
    kernel: float | None
    open: float
    inflate: float
    write: float
    source: float
    output: float
    start: float


@dataclass(frozen=True)
class Machine:
    """What restores.

    Args:
        cores: which are as many jobs.
        memory: the budget in bytes.
        remote: workers of an executor, on cores like these.
        window: chunks looked ahead; None: as the product has it.
        lines: files side by side at most; None: as the product has it.
    """

    cores: int
    memory: int
    remote: int = 0
    window: int | None = None
    lines: int | None = None

    @property
    def remote_jobs(self) -> int:
        """Derivations that the executor is given at once."""
        if not self.remote:
            return 0
        executor = cast(Executor, SimpleNamespace(_max_workers=self.remote))
        return RemoteMixing[int](executor).jobs

    @property
    def lines_at_once(self) -> int:
        """As in `Pipeline.unpack`."""
        return self.lines or max(1, min(self.cores // 2, _LINES_LIMIT))

    def chunks_ahead(self, backup: Backup, *, kernel: bool) -> int:
        """As in `Pipeline`."""
        if self.window:
            return self.window
        chunks = 4 * self.cores + 2 * self.remote_jobs
        lanes = (WIDTH + WIDTH // 2) * self.cores if kernel else 0
        return max(chunks, -(-lanes // backup.parameters.p)) + 8

    def kernel_pays(self, backup: Backup) -> bool:
        """Whether it is loaded at all; as in `Pipeline.expect_keys`."""
        lanes = backup.chunks * backup.parameters.p
        return kernel_saves(lanes, self.cores, backup.parameters) >= _WORTH_LOADING_SECONDS


@dataclass(frozen=True)
class Backup:
    """What is restored.

    Args:
        parameters: of every derivation.
        files: stored bytes of each.
        ratio: bytes of output for each stored byte.
    """

    parameters: ScryptParameters
    files: tuple[int, ...]
    ratio: float

    @property
    def stored(self) -> int:
        """Bytes of all files."""
        return sum(self.files)

    @property
    def chunks(self) -> int:
        """Of all files."""
        return sum(-(-size // CHUNK) for size in self.files)


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Args:
        seconds: until everything is on the disk.
        memory: the most that was charged to the budget, in bytes.
        work: seconds of cores for keys (of other machines' too) and for the rest.
        limits: seconds, by what was waited for: "derivations", "cores" (busy with anything),
            "inflating", "source disk", "output disk", "memory budget", "window", "last keys".
    """

    seconds: float
    memory: int
    work: tuple[float, float]
    limits: dict[str, float]
