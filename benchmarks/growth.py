"""What a chunk costs besides its key, what memory does as backups grow, and how fast it starts.

    python -m benchmarks.growth [--runs 3] [--folder DIR]

Backups of 500, 5,000 and 50,000 tiny chunks (N=2^10, r=1, p=1), all of one file or each a file of
its own, are verified. From the time goes what a backup of one chunk takes, and from what is left
for each chunk goes its derivation, as many side by side, measured in the same run. Then 100,000
members are indexed, and the start of `qbackup --version` is compared with `python -c pass`, by
turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import index
from benchmarks.command import Run, ask, run
from benchmarks.machine import Setup, cores, describe
from benchmarks.table import markdown
from benchmarks.tiny import LOG2_N, PASSPHRASE, P, R

MIB = 1 << 20
SHAPES = {"one": "one file", "many": "a file each"}
CHUNK_TARGET = 1.0  # ms above the derivation
MEMORY_TARGET = 16  # MiB between the fewest and the most chunks
INDEX_TARGET = 3.0  # seconds
START_TARGET = 3.0  # times an empty Python


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    chunks: tuple[int, ...]
    members: int
    starts: int
    derivations: int


FULL = Scale((500, 5_000, 50_000), 100_000, 20, 4_000)
SMALL = Scale((20, 60), 300, 3, 100)


@dataclass(frozen=True)
class Key:
    """One derivation, with one on each core: seconds of a core, and on the clock per key."""

    cpu: float
    wall: float


def main() -> None:
    """Runs, and prints the tables."""
    options = arguments()
    scale = SMALL if options.small else FULL
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "passphrase").write_text(PASSPHRASE + "\n")
    print(f"{describe()} Medians of {options.runs} runs.")
    report_chunks(options.folder, scale, options.runs)
    report_index(options.folder, scale.members, options.runs)
    report_start(start_up(scale.starts))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "qbackup-bench"
    )
    parser.add_argument("--small", action="store_true", help="few chunks, to try this script")
    return parser.parse_args()


def report_chunks(folder: Path, scale: Scale, runs: int) -> None:
    """A row for each backup."""
    rows, memories = [], {}
    for shape, label in SHAPES.items():
        _, start = verify(make(folder, 1, shape), runs, scale.derivations)
        for count in scale.chunks:
            keys, verified = verify(make(folder, count, shape), runs, scale.derivations)
            memories[shape, count] = memory = statistics.median(run.memory for run in verified)
            figures = above_key(keys, verified, start, count)
            rows.append([f"{count:,} chunks, {label}", *(f"{f:.3f}" for f in figures)])
            rows[-1].append(f"{memory:.1f}")
    header = ["", "ms a chunk", "of them its key", "above it", "CPU ms above it", "peak MiB"]
    print(f"\n### Chunks\n\n{markdown(header, rows)}\n")
    print(f"Above its key a chunk may take {CHUNK_TARGET:.0f} ms.")
    for shape, label in SHAPES.items():
        grown = memories[shape, scale.chunks[-1]] - memories[shape, scale.chunks[0]]
        print(f"Memory grew by {grown:.1f} MiB with {label} (target: {MEMORY_TARGET}).")


def make(folder: Path, count: int, shape: str) -> Path:
    """The backup; by a process of its own, as it takes memory."""
    path = folder / f"tiny-{count}-{shape}"
    run(Setup("").module("benchmarks.tiny", str(count), shape, str(path)))
    return path


def verify(backup: Path, runs: int, derivations: int) -> tuple[list[Key], list[Run]]:
    """Keys alone and the backup verified, by turns."""
    numbers = [str(n) for n in (LOG2_N, R, P, derivations)]
    secret = ["-p", str(backup.with_name("passphrase")), "-q"]
    command = Setup("").module("qbackup", "verify", str(backup), *secret)
    keys, verified = [], []
    for _ in range(runs):
        cost = ask(Setup("").module("benchmarks.derivation", *numbers))
        keys.append(Key(cost["cpu"], cost["wall"] / cores()))
        verified.append(run(command))
    return keys, verified


def above_key(
    keys: Sequence[Key], verified: Sequence[Run], start: Sequence[Run], count: int
) -> tuple[float, float, float, float]:
    """Milliseconds of a chunk: in all, its key, the rest, and the rest's processor time."""
    start_wall = statistics.median(run.wall for run in start)
    start_cpu = statistics.median(run.cpu for run in start)
    wall = (statistics.median(run.wall for run in verified) - start_wall) / (count - 1)
    cpu = (statistics.median(run.cpu for run in verified) - start_cpu) / (count - 1)
    key_wall = statistics.median(key.wall for key in keys)
    key_cpu = statistics.median(key.cpu for key in keys)
    return 1e3 * wall, 1e3 * key_wall, 1e3 * (wall - key_wall), 1e3 * (cpu - key_cpu)


def report_index(folder: Path, members: int, runs: int) -> None:
    """A row for each shape of `benchmarks.index`."""
    rows = []
    for shape in index.SHAPES:
        path = folder / "index.part"
        index.make_archive(path, index.names(shape, members))
        results = [index.run(path) for _ in range(runs)]
        path.unlink()
        medians = {name: statistics.median(r[name] for r in results) for name in results[0]}
        seconds, processor = f"{medians['seconds']:.2f}", f"{medians['processor']:.2f}"
        rows.append([shape, seconds, processor, f"{medians['grown'] / MIB:.1f}"])
    print(f"\n### {members:,} members indexed\n")
    print(markdown(["", "s", "CPU s", "MiB grown"], rows))
    print(f"\nTarget: {INDEX_TARGET:.0f} s.")


def start_up(times: int) -> dict[str, list[Run]]:
    """An empty Python and the command, by turns."""
    script = Path(sys.executable).with_name("qbackup")
    qbackup = [str(script)] if script.exists() else Setup("").module("qbackup")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "qbackup --version": [*qbackup, "--version"],
    }
    seen: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            seen[name].append(run(command))
    return seen


def report_start(seen: dict[str, list[Run]]) -> None:
    """Medians and their ratio."""
    medians = {name: statistics.median(run.wall for run in runs) for name, runs in seen.items()}
    cpu = {name: statistics.median(run.cpu for run in runs) for name, runs in seen.items()}
    rows = [[name, f"{1e3 * medians[name]:.1f}", f"{1e3 * cpu[name]:.1f}"] for name in seen]
    empty, full = medians.values()
    print(f"\n### Start\n\n{markdown(['', 'ms', 'CPU ms'], rows)}")
    print(f"\nRatio: **{full / empty:.2f}** (target: at most {START_TARGET:.0f}).")


if __name__ == "__main__":
    main()
