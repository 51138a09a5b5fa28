"""How far `qbackup restore` is above the least that this machine can do it in.

    python -m benchmarks.floor [--runs 3] [--folder DIR] [--turbo | --no-turbo]

By turns: every part of the work is measured with all cores busy, then the backup is restored.
The floor is the largest of three sums:

* work: the processor time of every part, from the backup's own counts, divided by the cores;
* chain: what can only happen one after the other, on however many cores: the program starts,
  one key with its lanes side by side, then the largest file inflated and on the disk;
* disk: all data written and synchronised, at the speed that the output's file system has.

Without an option the required packages alone and the extras that are installed are measured, in
one run; `--turbo` and `--no-turbo` take one of them.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import MIB, Run, ask, run
from benchmarks.counts import Counts
from benchmarks.machine import Setup, cores, describe, installed_setups
from benchmarks.rates import Rates
from benchmarks.table import markdown
from benchmarks.workload import FULL, SMALL, Workload, check_restored, make_backup

TARGET = 1.15  # restore against the floor
KERNEL_TARGET = 2.0  # lanes per second against pycryptodome


@dataclass(frozen=True)
class Turn:
    """One measurement of all parts, and the restore that followed it."""

    rates: Rates
    start: Run
    restore: Run


@dataclass(frozen=True)
class Floor:
    """What a restore costs at least.

    Args:
        parts: processor time of each in seconds.
        chain: seconds that no number of cores makes fewer, step by step.
        disk: seconds for all that is written.
    """

    parts: dict[str, float]
    chain: dict[str, float]
    disk: float

    @property
    def cpu(self) -> float:
        """All the work, in seconds of one core."""
        return sum(self.parts.values())

    @property
    def seconds(self) -> float:
        """Nothing on these cores can be faster."""
        return max(self.cpu / cores(), sum(self.chain.values()), self.disk)


def floor(counts: Counts, turn: Turn) -> Floor:
    """From counts and rates."""
    rates, start, large = turn.rates, turn.start, counts.largest
    rounds = math.ceil(counts.parameters.p / cores())
    return Floor(
        parts={
            "derivations": counts.keys * rates.derivation,
            "reading": counts.stored * rates.read,
            "HMAC-SHA-256": counts.stored * rates.mac,
            "AES-256-CTR": counts.stored * rates.aes,
            "inflating": counts.plaintext * rates.inflate,
            "writing": counts.written * rates.write,
            "start and index": start.cpu + rates.index,
        },
        chain={
            "start and index": start.wall + rates.index,
            "one key": rates.derivation * rounds / counts.parameters.p,
            "inflating the largest file": large.plaintext * rates.inflate,
            "writing it": large.written * rates.write_wall,
        },
        disk=counts.written * rates.write_wall,
    )


def main() -> None:
    """Runs, and prints a table for each setup."""
    options = arguments()
    workload = SMALL if options.small else FULL
    backup = make_backup(options.folder, workload)
    stream = options.folder / "stream.gz"
    counts = Counts.load(ask(Setup("").module("benchmarks.counts", str(backup), str(stream))))
    print(f"{describe()}\n\n{counted(counts)}")
    chosen = [setup for setup in installed_setups() if options.turbo in (None, is_turbo(setup))]
    if not chosen:
        raise SystemExit("llvmlite is not installed here")
    seen: dict[Setup, list[Turn]] = {setup: [] for setup in chosen}
    for _ in range(options.runs):
        for setup, turns in seen.items():
            turns.append(take_turn(setup, options.folder, workload, small=options.small))
    stream.unlink()
    for setup, turns in seen.items():
        report(setup, counts, turns)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "qbackup-bench"
    )
    parser.add_argument("--turbo", action=argparse.BooleanOptionalAction, help="the lane kernel")
    parser.add_argument("--small", action="store_true", help="a tiny backup, to try this script")
    return parser.parse_args()


def is_turbo(setup: Setup) -> bool:
    """Whether the lane kernel can be loaded in it."""
    return setup.has("llvmlite")


def take_turn(setup: Setup, folder: Path, workload: Workload, *, small: bool) -> Turn:
    """Measures all parts, then restores."""
    backup, output, p = folder / "backup", folder / "output", workload.parameters
    numbers = ["--parameters", str(p.log2_n), str(p.r), str(p.p)]
    sizes = ["--mib", "1", "--derivations", "2"] if small else []
    command = setup.module(
        "benchmarks.rates", str(backup), str(folder / "stream.gz"), *numbers, *sizes
    )
    rates = Rates(**ask(command))
    start = run(setup.module("qbackup", "--version"))
    shutil.rmtree(output, ignore_errors=True)
    secret = ["-p", str(folder / "passphrase"), "-q"]
    restore = run(setup.module("qbackup", "restore", str(backup), "-o", str(output), *secret))
    check_restored(folder, output)
    shutil.rmtree(output)
    return Turn(rates, start, restore)


def counted(counts: Counts) -> str:
    """What is in the backup, in one line."""
    return (
        f"The backup: {counts.keys} derivations at {counts.parameters},"
        f" {counts.stored / MIB:.0f} MiB stored, {counts.plaintext / MIB:.0f} MiB inflated,"
        f" {counts.written / MIB:.0f} MiB written."
    )


def report(setup: Setup, counts: Counts, turns: Sequence[Turn]) -> None:
    """The parts, the chain, and each turn's restore against its floor."""
    floors = [floor(counts, turn) for turn in turns]
    print(f"\n### {setup.label}\n\n{parts_table(counts, turns, floors)}")
    steps = (f"{name} {median(f.chain[name] for f in floors):.2f}" for name in floors[0].chain)
    print(f"\nOne after the other, in seconds: {', '.join(steps)}.")
    print(f"The disk, for all data: {median(f.disk for f in floors):.2f} s.\n")
    print(turns_table(turns, floors))
    print(disturbance([turn.rates for turn in turns]))
    ratio = median(t.restore.wall / f.seconds for t, f in zip(turns, floors, strict=True))
    print(f"Restore ÷ floor: **{ratio:.2f}** (target: at most {TARGET}).")
    if is_turbo(setup):
        gain = median(turn.rates.pycryptodome / turn.rates.derivation for turn in turns)
        print(f"Lanes per second ÷ pycryptodome's: **{gain:.2f}** (target: {KERNEL_TARGET}).")


def disturbance(rates: Sequence[Rates]) -> str:
    """A line of its own where other programs took more than a twentieth of the cores."""
    share = 1 - median(rate.derivation / rate.derivation_wall for rate in rates)
    if share < 0.05:
        return ""
    return f"\nOther programs had {share:.0%} of the cores while keys were derived: not a figure.\n"


def parts_table(counts: Counts, turns: Sequence[Turn], floors: Sequence[Floor]) -> str:
    """Each part's amount, rate and processor time, medians of all turns."""
    amounts = {
        "derivations": f"{counts.keys}",
        "reading": f"{counts.stored / MIB:.0f} MiB",
        "HMAC-SHA-256": f"{counts.stored / MIB:.0f} MiB",
        "AES-256-CTR": f"{counts.stored / MIB:.0f} MiB",
        "inflating": f"{counts.plaintext / MIB:.0f} MiB",
        "writing": f"{counts.written / MIB:.0f} MiB",
        "start and index": "",
    }
    speeds = rates_of([turn.rates for turn in turns])
    rows = [
        [name, amount, speeds.get(name, ""), f"{median(f.parts[name] for f in floors):.2f}"]
        for name, amount in amounts.items()
    ]
    rows.append(["all", "", "", f"{median(f.cpu for f in floors):.2f}"])
    return markdown(["part", "amount", "one core, all busy", "CPU s"], rows)


def rates_of(rates: Sequence[Rates]) -> dict[str, str]:
    """Each rate in words."""

    def speed(name: str) -> str:
        return f"{1 / median(getattr(rate, name) for rate in rates) / MIB:.0f} MiB/s"

    cpu, wall = (median(getattr(r, n) for r in rates) for n in ("derivation", "derivation_wall"))
    isal = "" if rates[0].isal is None else f" (isal; zlib {speed('zlib')})"
    return {
        "derivations": f"{cpu:.3g} s ({wall:.3g} s on the clock)",
        "reading": speed("read"),
        "HMAC-SHA-256": speed("mac"),
        "AES-256-CTR": speed("aes"),
        "inflating": speed("inflate") + isal,
        "writing": f"{speed('write')} ({speed('write_wall')} with the disk)",
    }


def turns_table(turns: Sequence[Turn], floors: Sequence[Floor]) -> str:
    """One row a turn, and the medians."""
    rows = [
        [f"{number}", *_words(_figures(turn, floor))]
        for number, (turn, floor) in enumerate(zip(turns, floors, strict=True), start=1)
    ]
    columns = zip(*(_figures(*pair) for pair in zip(turns, floors, strict=True)), strict=True)
    rows.append(["median", *_words(tuple(map(median, columns)))])
    header = [
        "turn",
        "floor s",
        "restore s",
        "ratio",
        "floor CPU s",
        "restore CPU s",
        "idle core s",
    ]
    return markdown([*header, "MiB"], rows)


def _figures(turn: Turn, floor: Floor) -> tuple[float, ...]:
    restore = turn.restore
    idle = restore.wall * cores() - restore.cpu
    ratio = restore.wall / floor.seconds
    return floor.seconds, restore.wall, ratio, floor.cpu, restore.cpu, idle, restore.memory


def _words(figures: tuple[float, ...]) -> list[str]:
    *seconds, memory = figures
    return [*(f"{value:.2f}" for value in seconds), f"{memory:.0f}"]


def median(values: Iterable[float]) -> float:
    """Of any numbers."""
    return statistics.median(values)


if __name__ == "__main__":
    main()
