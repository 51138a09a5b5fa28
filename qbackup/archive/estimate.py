"""Estimate of a restore's cost on this machine: one measurement and a sum, no promise.

In format 4 nearly all of the time goes into key derivations; the parameters of each stand in
plaintext in the first 96 bytes of its chunk. In format 3 the time goes into HMACs and decryption.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass

from qbackup.archive.chunk import EncryptedChunk
from qbackup.archive.opened import OpenedBackup
from qbackup.base.errors import QBackupError
from qbackup.base.limits import MIB
from qbackup.crypto.kdf import Derivation
from qbackup.crypto.romix.tuning import TOUCH_SECONDS, kernel_gain
from qbackup.crypto.scrypt_format import EncryptedHeader, ScryptParameters
from qbackup.pipeline.pipeline import Pipeline

_PROBE = ScryptParameters(16, 8, 1)  # 64 MiB: past the caches, a tenth of a second
_SLOW_PROBE = ScryptParameters(7, 8, 1)  # for pure Python, which would take a minute
_BASE_MEMORY = 64 * MIB
_SAMPLE_SIZE = 2 * MIB
_PARAMETERS = 100  # sets that are counted each; real backups have a few, planted chunks any number


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Estimate from unauthenticated headers.

    Args:
        members: number of members of the archive: chunks, headers, and HMACs of chunks.
        chunks: number of chunks in the archive.
        stored_size: their length in bytes.
        unreadable: number of chunks whose header is damaged.
        parameters: number of chunks for each set of scrypt parameters, of the first hundred sets.
        others: number of chunks with further parameters, which the other figures leave out.
        seconds: time here for all derivations that the limits allow, and for HMACs and decryption
            of all stored bytes where these count.
        memory: peak memory in bytes.
        disk: bytes that a restore will write, by the list of qubes, but at least the stored size;
            the stored size while the archive is locked.
    """

    members: int
    chunks: int
    stored_size: int
    unreadable: int
    parameters: dict[ScryptParameters, int]
    others: int
    seconds: float
    memory: int
    disk: int


def estimate(backup: OpenedBackup) -> Cost:
    """Reads the 96 header bytes of every chunk and times one small derivation."""
    parameters: Counter[ScryptParameters] = Counter()
    unreadable = others = stored = largest = count = 0
    for file in backup.catalog.files():
        for chunk in file.chunks:
            count += 1
            stored += chunk.size
            largest = max(largest, chunk.size)
            if not backup.format.head_size:
                continue
            try:
                found = EncryptedChunk(chunk, backup).parameters
            except QBackupError:
                unreadable += 1
                continue
            if found in parameters or len(parameters) < _PARAMETERS:
                parameters[found] += 1
            else:
                others += 1
    slow = backup.deriver.backends[0].slow  # pure Python runs one lane, whatever the cores
    allowed = [p for p in parameters if _is_allowed(p, backup)]
    speed = _seconds_per_work(backup) if allowed else 0.0
    ways = [_way(p, parameters[p], backup.pipeline, slow=slow) for p in allowed]
    seconds = sum(way.work for way in ways) * speed + sum(way.touching for way in ways)
    seconds += stored * _seconds_per_byte(backup)
    held = max((way.memory for way in ways), default=0)
    memory = held + 2 * min(largest, backup.limits.chunk) + _BASE_MEMORY
    disk = max(stored, _listed_size(backup))
    return Cost(
        members=backup.catalog.member_count(),
        chunks=count,
        stored_size=stored,
        unreadable=unreadable,
        parameters=dict(parameters),
        others=others,
        seconds=seconds,
        memory=memory,
        disk=disk,
    )


@dataclass(frozen=True)
class _Way:
    """Cost of deriving all keys with the same parameters here.

    Args:
        work: N·r·p of all keys, divided by the speed relative to one lane of the backend.
        memory: memory in bytes that is used at once.
        touching: seconds until the system has provided the memory, at worst.
    """

    work: float
    memory: int
    touching: float = 0.0


def _way(parameters: ScryptParameters, count: int, pipeline: Pipeline, *, slow: bool) -> _Way:
    work, memory = count * parameters.work, parameters.lane_memory
    side_by_side = pipeline.lanes_of_pass(parameters, count)
    if side_by_side:
        own = side_by_side * memory
        faster = pipeline.jobs * kernel_gain(side_by_side)
        return _Way(work / faster, pipeline.jobs * own, own * TOUCH_SECONDS)
    lanes = 1 if slow else pipeline.lanes_at_once(parameters)
    return _Way(work / lanes, memory * lanes)


def _listed_size(backup: OpenedBackup) -> int:
    """Sums the backup's own estimates of its qubes' sizes; 0 where they can't be read."""
    if not backup.is_unlocked:
        return 0
    with contextlib.suppress(QBackupError):
        return sum(qube.size or 0 for qube in backup.qubes.qubes)
    return 0


def _is_allowed(parameters: ScryptParameters, backup: OpenedBackup) -> bool:
    try:
        EncryptedHeader(parameters, b"", b"").check_limits(backup.limits)
    except QBackupError:
        return False
    return True


def _seconds_per_work(backup: OpenedBackup) -> float:
    """Measures the time of one derivation on one core, divided by its N·r·p."""
    probe = _SLOW_PROBE if backup.deriver.backends[0].slow else _PROBE
    start = time.perf_counter()
    backup.deriver.derive(Derivation(b"probe", b"salt", probe))
    return (time.perf_counter() - start) / probe.work


def _seconds_per_byte(backup: OpenedBackup) -> float:
    """Measures the time per stored byte; 0 where that is little compared with the keys."""
    try:
        work = backup.format.work(backup.front.untrusted_header)
    except QBackupError:  # unlocking reports the same error; with salvage there may be no header
        return 0.0
    if work is None:
        return 0.0
    sample = memoryview(bytearray(_SAMPLE_SIZE))
    work(sample[: _SAMPLE_SIZE // 64])  # loads the libraries, outside of the measurement
    start = time.perf_counter()
    work(sample)
    return (time.perf_counter() - start) / _SAMPLE_SIZE
