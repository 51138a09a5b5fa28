"""How far `qbackup restore` is above the least that this machine can do it in.

    python -m benchmarks.floor [--runs 3] [--folder DIR] [--turbo | --no-turbo]

By turns: every part of the work is measured with all cores busy, then the backup is restored.
The floor is the largest of three sums:

* work: the processor time of every part, from the backup's own counts, divided by the cores.
  Memory is a part of it: a lane wants 128·N·r bytes, and in a virtual machine the host may have
  to find them first. More lanes side by side cost less each and want more memory, so the floor
  is that of the number of lanes for which both together are least;
* chain: what can only happen one after the other, on however many cores: the program starts,
  one key with its lanes side by side, then the largest file inflated and on the disk;
* disk: all data written and synchronised, at the speed that the output's file system has.

Before memory is measured, and before the restore, the machine rests: memory that was used a moment
ago costs little, and a real restore finds none. What the floor is when memory costs nothing
is printed too.

Without an option the required packages alone and the extras that are installed are measured, in
one run; `--turbo` and `--no-turbo` take one of them.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import tempfile
import time
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
REST_SECONDS = 8.0  # then free memory has gone back to a virtual machine's host


@dataclass(frozen=True)
class Turn:
    """One measurement of all parts, and the restore that followed it.

    Args:
        rates: of all parts but memory.
        touches: seconds of one core to touch memory for one lane on each core, for two, and so on.
        start: the program without any work.
        restore: all of it.
    """

    rates: Rates
    touches: list[float]
    start: Run
    restore: Run


@dataclass(frozen=True)
class Floor:
    """What a restore costs at least.

    Args:
        parts: processor time of each in seconds.
        chain: seconds that no number of cores makes fewer, step by step.
        disk: seconds for all that is written.
        at_hand: seconds of one core for all parts, when memory costs nothing.
        lanes: side by side on each core.
    """

    parts: dict[str, float]
    chain: dict[str, float]
    disk: float
    at_hand: float
    lanes: int

    @property
    def cpu(self) -> float:
        """All the work, in seconds of one core."""
        return sum(self.parts.values())

    @property
    def seconds(self) -> float:
        """Nothing on these cores can be faster."""
        return self._at_least(self.cpu)

    @property
    def seconds_at_hand(self) -> float:
        """The same, when memory costs nothing."""
        return self._at_least(self.at_hand)

    def _at_least(self, cpu: float) -> float:
        return max(cpu / cores(), sum(self.chain.values()), self.disk)


def floor(counts: Counts, turn: Turn) -> Floor:
    """From counts and rates."""
    rates, start, large = turn.rates, turn.start, counts.largest
    rounds = math.ceil(counts.parameters.p / cores())
    deriving, touching, lanes = least_for_keys(counts, turn)
    rest = {
        "reading": counts.stored * rates.read,
        "HMAC-SHA-256": counts.stored * rates.mac,
        "AES-256-CTR": counts.stored * rates.aes,
        "inflating": counts.plaintext * rates.inflate,
        "writing": counts.written * rates.write,
        "start and index": start.cpu + rates.index,
    }
    return Floor(
        parts={"derivations": deriving, "memory for them": touching, **rest},
        chain={
            "start and index": start.wall + rates.index,
            "one key": rates.derivation * rounds / counts.parameters.p,
            "inflating the largest file": large.plaintext * rates.inflate,
            "writing it": large.written * rates.write_wall,
        },
        disk=counts.written * rates.write_wall,
        at_hand=counts.keys * rates.derivation + sum(rest.values()),
        lanes=lanes,
    )


def least_for_keys(counts: Counts, turn: Turn) -> tuple[float, float, int]:
    """Seconds of one core to derive all keys and to touch the memory for it, and with how many
    lanes side by side on each core the sum of both is least.
    """
    parameters = counts.parameters
    passes = turn.rates.passes or [turn.rates.derivation / parameters.p]
    ways = (
        (counts.keys * parameters.p * seconds / lanes, turn.touches[lanes - 1], lanes)
        for lanes, seconds in enumerate(passes, start=1)
    )
    return min(ways, key=lambda way: way[0] + way[1])


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
    rest = 0.0 if small else REST_SECONDS
    rates = Rates(**ask(command))
    time.sleep(rest)
    touches = ask(setup.module("benchmarks.memory", *numbers[1:]))
    start = run(setup.module("qbackup", "--version"))
    shutil.rmtree(output, ignore_errors=True)
    time.sleep(rest)
    secret = ["-p", str(folder / "passphrase"), "-q"]
    restore = run(setup.module("qbackup", "restore", str(backup), "-o", str(output), *secret))
    check_restored(folder, output)
    shutil.rmtree(output)
    return Turn(rates, touches, start, restore)


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
    lanes = median(f.lanes for f in floors)
    print(f"Restore ÷ floor: **{ratio:.2f}** (target: at most {TARGET}; {lanes:g} lanes a core).")
    at_hand = median(t.restore.wall / f.seconds_at_hand for t, f in zip(turns, floors, strict=True))
    print(f"Restore ÷ the floor of a machine where memory costs nothing: {at_hand:.2f}.")
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
        "memory for them": f"{median(_memory(counts, f) for f in floors):.0f} MiB",
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


def _memory(counts: Counts, floor: Floor) -> float:
    """MiB for its lanes, on all cores."""
    return cores() * floor.lanes * counts.parameters.lane_memory / MIB


def rates_of(rates: Sequence[Rates]) -> dict[str, str]:
    """Each rate in words."""

    def speed(name: str) -> str:
        return f"{1 / median(getattr(rate, name) for rate in rates) / MIB:.0f} MiB/s"

    cpu, wall = (median(getattr(r, n) for r in rates) for n in ("derivation", "derivation_wall"))
    isal = "" if rates[0].isal is None else f" (isal; zlib {speed('zlib')})"
    return {
        "derivations": f"{cpu:.3g} s ({wall:.3g} s on the clock) with memory at hand",
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
