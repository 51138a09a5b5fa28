"""qbackup against the published procedure, in turn, in one run.

    python -m benchmarks.compare [--runs 3] [--folder DIR]

Makes the workload with the real tools (kept in DIR), then runs by turns: the procedure as a
shell script, `qbackup restore`, `verify` and `list`. Prints medians, ratios to the
procedure's time, CPU time and peak memory. The restored images are compared once.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workload import PASSPHRASE, make_backup

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    """One whole command: wall clock and CPU in seconds, peak memory in MiB."""

    wall: float
    cpu: float
    memory: float


def run(command: list[str], log: Path) -> Run:
    """Runs a command to its end. Raises CalledProcessError if it fails."""
    start = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, log.read_bytes())
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def commands(backup: Path, folder: Path, output: Path) -> dict[str, list[str]]:
    """What is compared, by name."""
    qbackup = [sys.executable, "-m", "qbackup"]
    secret = ["-p", str(folder / "passphrase"), "-q"]
    return {
        "procedure": ["sh", str(HERE / "procedure.sh"), str(backup), PASSPHRASE, str(output)],
        "restore": [*qbackup, "restore", str(backup), "-o", str(output), *secret],
        "verify": [*qbackup, "verify", str(backup), *secret],
        "list": [*qbackup, "list", str(backup), *secret],
    }


def check(folder: Path, output: Path) -> None:
    """The restored images are the originals, byte for byte."""
    for name in ("work", "vault"):
        if not filecmp.cmp(folder / f"{name}.img", output / name / "private.img", shallow=False):
            raise SystemExit(f"{name}: the restored image differs")


def main() -> None:
    """Runs, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "qbackup-bench"
    )
    options = parser.parse_args()
    backup = make_backup(options.folder)
    output = options.folder / "output"
    seen: dict[str, list[Run]] = {}
    for turn in range(options.runs):
        for name, command in commands(backup, options.folder, output).items():
            shutil.rmtree(output, ignore_errors=True)
            seen.setdefault(name, []).append(run(command, options.folder / f"{name}.log"))
            if name == "restore" and not turn:
                check(options.folder, output)
    shutil.rmtree(output, ignore_errors=True)
    report(seen)


def report(seen: dict[str, list[Run]]) -> None:
    """One line a command."""
    base = statistics.median(run.wall for run in seen["procedure"])
    print(f"{'':10} {'median s':>9} {'min':>7} {'max':>7} {'ratio':>6} {'CPU s':>7} {'MiB':>6}")
    for name, runs in seen.items():
        walls = [run.wall for run in runs]
        median = statistics.median(walls)
        cpu = statistics.median(run.cpu for run in runs)
        memory = max(run.memory for run in runs)
        print(
            f"{name:10} {median:9.1f} {min(walls):7.1f} {max(walls):7.1f}"
            f" {median / base:6.2f} {cpu:7.1f} {memory:6.0f}"
        )


if __name__ == "__main__":
    main()
