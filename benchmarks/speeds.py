"""How fast cores are, for `benchmarks.scaling`: as seen once, or measured on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.command import ask
from benchmarks.floor import Turn, take_turn
from benchmarks.machine import Setup, installed_setups
from benchmarks.scenario import MIB, Rates
from benchmarks.workload import FULL, SMALL, make_backup
from qbackup.crypto.romix.tuning import PASS_SECONDS, WIDTH
from qbackup.crypto.scrypt_format import ScryptParameters

# Round figures near what benchmarks.floor shows on two cores of a server (x86_64), both busy:
# seconds a lane (0.35 to 0.42), then MiB/s. Passes of the kernel are those of `PASS_SECONDS`.
_LANE = 0.38
_READ, _MAC, _AES, _ZLIB, _ISAL, _WRITE = 1150, 1700, 2950, 800, 1000, 2300
_START = 0.3
SEEN_SECONDS = 11.5  # about what a restore of benchmarks.workload took there
_WORK = (1 << 18) * 8  # N·r of what was measured


@dataclass(frozen=True)
class Speeds:
    """With the required packages, and with all extras; with disks of no delay."""

    required: Rates
    turbo: Rates

    def on(self, disk: float) -> Speeds:
        """With disks that read and write so many MiB/s."""
        seconds = 1 / (disk * MIB)
        return Speeds(
            *(replace(r, source=seconds, output=seconds) for r in (self.required, self.turbo))
        )


def typical() -> Speeds:
    """As seen."""
    opened = (1 / _READ + 1 / _MAC + 1 / _AES) / MIB
    required = Rates(
        lane=_LANE / _WORK,
        kernel=None,
        open=opened,
        inflate=1 / _ZLIB / MIB,
        write=1 / _WRITE / MIB,
        source=0.0,
        output=0.0,
        start=_START,
    )
    turbo = replace(required, kernel=1.0, inflate=1 / _ISAL / MIB)
    return Speeds(required, turbo)


def measured(folder: Path, *, small: bool) -> tuple[Speeds, Turn]:
    """Of this machine, and a restore of the benchmark's backup with the required packages."""
    workload = SMALL if small else FULL
    backup = make_backup(folder, workload)
    ask(Setup("").module("benchmarks.counts", str(backup), str(folder / "stream.gz")))
    setups = installed_setups()
    turns = [take_turn(s, folder, workload, small=small) for s in (setups[0], setups[-1])]
    kernel = setups[-1].has("llvmlite")
    required, turbo = (_rates(turn, workload.parameters) for turn in turns)
    passed = turns[1].rates.derivation / workload.parameters.p / _size(workload.parameters)
    usual = PASS_SECONDS[WIDTH] / WIDTH
    turbo = replace(turbo, lane=required.lane, kernel=passed / usual if kernel else None)
    return Speeds(required, turbo), turns[0]


def _rates(turn: Turn, parameters: ScryptParameters) -> Rates:
    seen = turn.rates
    return Rates(
        lane=seen.derivation / parameters.p / _size(parameters),
        kernel=None,
        open=seen.read + seen.mac + seen.aes,
        inflate=seen.inflate,
        write=seen.write,
        source=0.0,
        output=seen.write_wall,
        start=turn.start.wall + seen.index,
    )


def _size(parameters: ScryptParameters) -> int:
    return parameters.n * parameters.r
