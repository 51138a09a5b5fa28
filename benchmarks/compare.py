"""qbackup against the published procedure, by turns, in one run.

    python -m benchmarks.compare [--runs 3] [--folder DIR] [--python LABEL=PATH ...]

Makes the workload with the real tools (kept in DIR). One turn is: the procedure as a shell
script, two derivations side by side by pycryptodome, and `restore`, `verify` and `list` in each
setup. A setup is a Python: without `--python` it is this one, with the extras it has hidden and
then not. Prints medians, ratios with their targets, CPU time and peak memory. Each setup's
restored images are compared with the originals once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import Run, ask, run
from benchmarks.machine import Setup, describe, installed_setups
from benchmarks.table import markdown
from benchmarks.workload import (
    FULL,
    PASSPHRASE,
    SMALL,
    Workload,
    check_restored,
    make_backup,
)

HERE = Path(__file__).parent
PROCEDURE = "procedure"
TWO_KEYS = "two derivations"
COMMANDS = ("restore", "verify", "list")
VERIFY_TARGET = 0.38
LIST_TARGET = 1.10


@dataclass(frozen=True)
class Row:
    """What is run in every turn.

    Args:
        setup: None for what is compared with.
        name: of the command.
    """

    setup: Setup | None
    name: str


class Comparison:
    """All runs so far.

    Args:
        setups: which are compared.
        folder: of the workload.
        workload: what is in it.
    """

    def __init__(self, setups: Iterable[Setup], folder: Path, workload: Workload) -> None:
        self._folder = folder
        self._output = folder / "output"
        self._backup = make_backup(folder, workload)
        self._parameters = workload.parameters
        self._seen: dict[Row, list[Run]] = {Row(None, PROCEDURE): [], Row(None, TWO_KEYS): []}
        self._seen |= {Row(setup, name): [] for setup in setups for name in COMMANDS}

    def take_turn(self) -> None:
        """Runs everything once."""
        for row, runs in self._seen.items():
            shutil.rmtree(self._output, ignore_errors=True)
            os.sync()  # nobody pays for what the one before has written
            runs.append(self._run(row))
            if row.name == "restore" and len(runs) == 1:
                check_restored(self._folder, self._output)
        shutil.rmtree(self._output, ignore_errors=True)

    def _run(self, row: Row) -> Run:
        backup, output = str(self._backup), str(self._output)
        if row.name == TWO_KEYS:
            return Run(self._two_keys(), 0, 0)
        if row.setup is None:
            return run(["sh", str(HERE / "procedure.sh"), backup, PASSPHRASE, output])
        target = ["-o", output] if row.name == "restore" else []
        secret = ["-p", str(self._folder / "passphrase"), "-q"]
        return run(row.setup.module("qbackup", row.name, backup, *target, *secret))

    def _two_keys(self) -> float:
        p = self._parameters
        numbers = map(str, (p.log2_n, p.r, p.p, 2, 2))
        return float(ask(Setup("").module("benchmarks.derivation", *numbers))["wall"])

    def table(self) -> str:
        """One line a command."""
        header = ["", "median s", "min", "max", "ratio", "target", "CPU s", "peak MiB"]
        return markdown(header, [self._line(row, runs) for row, runs in self._seen.items()])

    def _line(self, row: Row, runs: list[Run]) -> list[str]:
        walls = [run.wall for run in runs]
        cpu = statistics.median(run.cpu for run in runs)
        memory = max(run.memory for run in runs)
        label = row.name if row.setup is None else f"{row.name}, {row.setup.label}"
        return [
            label,
            *(f"{wall:.2f}" for wall in (statistics.median(walls), min(walls), max(walls))),
            *self._ratio(row),
            f"{cpu:.1f}" if cpu else "",
            f"{memory:.0f}" if memory else "",
        ]

    def _ratio(self, row: Row) -> tuple[str, str]:
        """The ratio to what the command is compared with, and what it should be at most."""
        if row.setup is None:
            return "", ""
        base = self._median(Row(None, TWO_KEYS if row.name == "list" else PROCEDURE))
        return f"{self._median(row) / base:.2f}", f"{target(row.setup, row.name):.2f}"

    def _median(self, row: Row) -> float:
        return statistics.median(run.wall for run in self._seen[row])


def target(setup: Setup, command: str) -> float:
    """What a command may take: `list` of two derivations' time, the others of the procedure's."""
    if command == "list":
        return LIST_TARGET
    if command == "verify":
        return VERIFY_TARGET
    if setup.has("isal"):
        return 0.24 if setup.has("llvmlite") else 0.37
    return 0.40


def main() -> None:
    """Runs, and prints a table."""
    options = arguments()
    setups = options.python or installed_setups()
    workload = SMALL if options.small else FULL
    comparison = Comparison(setups, options.folder, workload)
    for _ in range(options.runs):
        comparison.take_turn()
    print(f"{describe([setup.python for setup in setups])} {options.runs} turns.\n")
    print(comparison.table())
    print(
        "\nThe ratio of `list` is to two derivations side by side (pycryptodome, a thread each),"
        " that of all others to the procedure."
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "qbackup-bench"
    )
    parser.add_argument(
        "--python",
        type=labelled,
        action="append",
        metavar="LABEL=PATH",
        help="a Python with qbackup's dependencies; more than once for more of them",
    )
    parser.add_argument("--small", action="store_true", help="a tiny backup, to try this script")
    return parser.parse_args()


def labelled(text: str) -> Setup:
    """A setup from LABEL=PATH."""
    label, separator, path = text.partition("=")
    if not separator or not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r}: LABEL=PATH of a Python is needed")
    return Setup(label, python=path)


if __name__ == "__main__":
    main()
