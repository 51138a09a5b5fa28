"""What more cores and more machines bring, up to 256 workers and 10 TB: a simulation.

    python -m benchmarks.scaling [--small] [--measure] [--exact] [--plot docs/scaling.svg]

`benchmarks.simulation` runs the product's scheduler on a simulated clock, with the speeds below or,
with `--measure`, those of this machine (ten minutes). Prints tables and draws a chart.

Backups of more chunks than the window has several times over go on evenly: of those, two shorter
ones are simulated, of the same shape, and what the second one adds is what every further chunk
costs. `--exact` simulates every chunk instead (several minutes).
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.floor import Turn
from benchmarks.plot import Series, chart
from benchmarks.scenario import CHUNK, MIB, Backup, Machine, Outcome, Rates
from benchmarks.simulation import Simulation
from benchmarks.speeds import SEEN_SECONDS, Speeds, measured, typical
from benchmarks.table import markdown
from qbackup.crypto.scrypt_format import ScryptParameters

GIB = 1 << 30
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES = {"10 GB": 10**10, "100 GB": 10**11, "1 TB": 10**12, "10 TB": 10**13}
TYPICAL = ScryptParameters(18, 8, 5)
SINGLE = ScryptParameters(20, 8, 1)
BUDGET = 2 * GIB  # for each core: half of what machines of 4 GiB a core have
QUBES = 20  # each with an image, and three files of 2 kB
SSD, ARRAY = 800, 8000  # MiB/s, to read and to write
RATIO = 1144 / 311  # of output to stored bytes, as in benchmarks.workload


@dataclass(frozen=True)
class Point:
    """One simulated restore.

    Args:
        outcome: what came of it.
        speed: how many times as fast as one worker with the required packages alone.
        limit: what limits it, in words.
    """

    outcome: Outcome
    speed: float
    limit: str


# Backups


def one_file(parameters: ScryptParameters, stored: int) -> Backup:
    """All of it in one image."""
    return Backup(parameters, (_whole(stored),), RATIO)


def many_files(parameters: ScryptParameters, stored: int) -> Backup:
    """Twenty qubes: each an image, and three small files, which have a key of their own."""
    return Backup(parameters, (_whole(stored // QUBES), *[2000] * 3) * QUBES, RATIO)


def _whole(stored: int) -> int:
    return max(1, round(stored / CHUNK)) * CHUNK


SHAPES = {"one file": one_file, "20 qubes": many_files}


def benchmark_backup() -> Backup:
    """What `benchmarks.workload` makes; its qubes.xml is always part of the simulation."""
    small = 600
    return Backup(TYPICAL, (178 * MIB, small, small, 133 * MIB, small), RATIO)


# Simulations


class Scaling:
    """Simulated restores, each done once.

    Args:
        speeds: of cores.
        exact: simulate every chunk.
    """

    def __init__(self, speeds: Speeds, *, exact: bool = False) -> None:
        self._speeds = speeds
        self._exact = exact
        self._simulate = functools.cache(lambda *what: Simulation(*what).run())

    def point(
        self,
        machine: Machine,
        shape: str,
        parameters: ScryptParameters,
        stored: int,
        *,
        turbo: bool = False,
        disk: float = ARRAY,
    ) -> Point:
        """One restore, compared with one worker's."""
        speeds = self._speeds.on(disk)
        what = shape, parameters, stored
        outcome = self._restore(machine, *what, speeds.turbo if turbo else speeds.required)
        alone = self._restore(Machine(1, BUDGET), *what, speeds.required)
        return Point(outcome, alone.seconds / outcome.seconds, in_words(machine, shape, outcome))

    def _restore(
        self, machine: Machine, shape: str, parameters: ScryptParameters, stored: int, rates: Rates
    ) -> Outcome:
        make = SHAPES[shape]
        window = machine.chunks_ahead(make(parameters, stored), kernel=rates.kernel is not None)
        enough = max(600, 2 * window) // QUBES * QUBES * CHUNK
        if self._exact or stored <= 2 * enough:
            return self._simulate(machine, make(parameters, stored), rates)
        # the second is a whole number of the first's parts, so that both end alike
        half, whole = (self._simulate(machine, make(parameters, n * enough), rates) for n in (1, 2))
        times = (make(parameters, stored).stored - make(parameters, 2 * enough).stored) / enough
        return extrapolated(half, whole, times)


def extrapolated(half: Outcome, whole: Outcome, times: float) -> Outcome:
    """What comes out when the second half of the longer one is done so many more times."""

    def further(short: float, long: float) -> float:
        return long + (long - short) * times

    names = half.limits.keys() | whole.limits.keys()
    limits = {n: further(half.limits.get(n, 0.0), whole.limits.get(n, 0.0)) for n in sorted(names)}
    return Outcome(
        further(half.seconds, whole.seconds),
        max(half.memory, whole.memory),
        (further(half.work[0], whole.work[0]), further(half.work[1], whole.work[1])),
        limits,
    )


def in_words(machine: Machine, shape: str, outcome: Outcome) -> str:
    """What was waited for longest."""
    limits = dict(outcome.limits)
    keys, rest = outcome.work
    busy = limits.pop("cores", 0.0)
    cores = "local cores" if machine.remote else "derivations" if keys > rest else "all cores"
    limits[cores] = limits.get(cores, 0.0) + busy
    limit = max(limits, key=lambda name: limits[name])
    if limit != "inflating":
        return limit
    streams = min(machine.lines_at_once, QUBES) if shape != "one file" else 1
    return "one inflate stream" if streams == 1 else f"{streams} inflate streams"


# Tables


def main() -> None:
    """Prints the tables, and draws."""
    options = arguments()
    speeds, turn = typical(), None
    if options.measure:
        speeds, turn = measured(options.folder, small=options.small)
    if not (options.measure and options.small):  # nothing to compare with
        print(check(speeds, turn))
    scaling = Scaling(speeds, exact=options.exact)
    size = "10 GB" if options.small else "1 TB"
    workers = WORKERS[:4] if options.small else WORKERS
    for parameters in (TYPICAL, SINGLE):
        for turbo in (False, True):
            print(f"\n### {size}, {parameters}, {packages(turbo)}, disks of {ARRAY} MiB/s\n")
            print(main_table(scaling, size, parameters, workers, turbo=turbo))
    print(f"\n### {size}, {TYPICAL}, {packages(False)}, disks of {SSD} MiB/s\n")
    print(main_table(scaling, size, TYPICAL, workers, turbo=False, disk=SSD))
    sizes = [size] if options.small else list(SIZES)
    for turbo in (False, True):
        print(f"\n### All sizes, {TYPICAL}, {packages(turbo)}, disks of {ARRAY} MiB/s\n")
        print(sizes_table(scaling, sizes, workers, turbo=turbo))
    for turbo in (False, True):
        print(f"\n### {size} in 20 qubes, {TYPICAL}, {packages(turbo)}: workers by an executor\n")
        print(remote_table(scaling, size, (0, *workers), turbo=turbo))
    if options.plot or not options.small:
        path = options.plot or Path("docs/scaling.svg")
        path.write_text(drawn(scaling, size, workers))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a few points, to try this script")
    parser.add_argument("--measure", action="store_true", help="with the speeds of this machine")
    parser.add_argument("--exact", action="store_true", help="simulate every chunk")
    parser.add_argument("--plot", type=Path, help="the chart; default: docs/scaling.svg")
    folder = Path(tempfile.gettempdir()) / "qbackup-bench"
    parser.add_argument("--folder", type=Path, default=folder, help="for --measure")
    return parser.parse_args()


def packages(turbo: bool) -> str:
    """In words."""
    return "[fast,turbo]" if turbo else "required packages"


def check(speeds: Speeds, turn: Turn | None) -> str:
    """The benchmark's backup on two cores, simulated and for real."""
    seconds = SEEN_SECONDS if turn is None else turn.restore.wall
    rates = speeds.required if turn else replace(speeds.required, output=1 / (SSD * MIB))
    outcome = Simulation(Machine(2, 12 * GIB), benchmark_backup(), rates).run()
    return (
        f"The backup of benchmarks.workload on two cores: {outcome.seconds:.1f} s simulated,"
        f" {seconds:.1f} s measured."
    )


def main_table(
    scaling: Scaling,
    size: str,
    parameters: ScryptParameters,
    workers: Sequence[int],
    *,
    turbo: bool,
    disk: float = ARRAY,
) -> str:
    """One backup on one machine, as one file and as many."""
    rows = []
    for cores in workers:
        machine, row = Machine(cores, cores * BUDGET), [str(cores)]
        for shape in SHAPES:
            point = scaling.point(machine, shape, parameters, SIZES[size], turbo=turbo, disk=disk)
            row += [*_figures(point), _gib(point.outcome.memory), point.limit]
        rows.append(row)
    columns = ("", "speed-up", "hours", "GiB", "limited by")
    header = [
        "workers",
        *(
            f"{shape}: {columns[1]}" if c == 1 else columns[c]
            for shape in SHAPES
            for c in range(1, 5)
        ),
    ]
    return markdown(header, rows)


def sizes_table(
    scaling: Scaling, sizes: Sequence[str], workers: Sequence[int], *, turbo: bool
) -> str:
    """Speed-up and hours of all sizes."""
    rows = []
    for cores in workers:
        row = [str(cores)]
        for shape in SHAPES:
            for size in sizes:
                machine = Machine(cores, cores * BUDGET)
                point = scaling.point(machine, shape, TYPICAL, SIZES[size], turbo=turbo)
                row.append("{} ({} h)".format(*_figures(point)))
        rows.append(row)
    return markdown(["workers", *(f"{shape}, {size}" for shape in SHAPES for size in sizes)], rows)


def remote_table(scaling: Scaling, size: str, workers: Sequence[int], *, turbo: bool) -> str:
    """Two machines that workers elsewhere help."""
    rows = []
    for remote in workers:
        row = [str(remote)]
        for cores in (2, 8):
            machine = Machine(cores, cores * BUDGET, remote)
            point = scaling.point(machine, "20 qubes", TYPICAL, SIZES[size], turbo=turbo)
            row += [*_figures(point), point.limit]
        rows.append(row)
    columns = [c for n in (2, 8) for c in (f"{n} cores: speed-up", "hours", "limited by")]
    return markdown(["remote workers", *columns], rows)


def _figures(point: Point) -> tuple[str, str]:
    return f"{point.speed:.1f}", f"{point.outcome.seconds / 3600:.3g}"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


# The chart


def drawn(scaling: Scaling, size: str, workers: Sequence[int]) -> str:
    """Speed-up by workers."""
    ends = functools.partial(_series, scaling, SIZES[size])
    cores = [Machine(n, n * BUDGET) for n in workers]
    helped = [Machine(8, 8 * BUDGET, n) for n in (1, *(n - 8 for n in workers if n > 8))]
    series = [
        ends("20 qubes, 8 cores and an executor", cores=helped, colour="#8c564b"),
        ends("20 qubes, one SSD", cores=cores, colour="#0072b2", disk=SSD),
        ends("one file", cores=cores, colour="#d55e00"),
        ends("one file, [fast,turbo]", cores=cores, colour="#b8860b", turbo=True),
        ends("20 qubes, [fast,turbo]", cores=cores, colour="#009e73", turbo=True),
        ends("20 qubes", cores=cores, colour="#7b3fa0"),
    ]
    return chart(
        f"Restoring {size}: how many times as fast with more workers",
        f"Simulated, {TYPICAL}, required packages and disks of {ARRAY} MiB/s where nothing else is"
        f" said; one SSD: {SSD} MiB/s",
        ("workers (cores; with an executor also those of other machines)", "speed-up"),
        (max(m.cores + m.remote for m in (*cores, *helped)), 128),
        series,
    )


def _series(
    scaling: Scaling,
    stored: int,
    label: str,
    *,
    cores: Sequence[Machine],
    colour: str,
    turbo: bool = False,
    disk: float = ARRAY,
) -> Series:
    shape = "one file" if label.startswith("one file") else "20 qubes"
    ends = [scaling.point(m, shape, TYPICAL, stored, turbo=turbo, disk=disk) for m in cores]
    places = [(m.cores + m.remote, max(1.0, p.speed)) for m, p in zip(cores, ends, strict=True)]
    dashes = "7 4" if disk == SSD or cores[0].remote else ""
    return Series(label, f"at the end: {ends[-1].limit}", colour, places, dashes)


if __name__ == "__main__":
    main()
