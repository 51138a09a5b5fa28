"""A whole command, measured.

Who measures must stay small: what a process has at its peak counts for the commands it starts
too (Linux keeps the figure over exec). So everything large is done in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

PROJECT = Path(__file__).resolve().parent.parent
MIB = 1 << 20


@dataclass(frozen=True)
class Run:
    """One whole command: wall clock and CPU in seconds, peak memory in MiB."""

    wall: float
    cpu: float
    memory: float


def run(command: Sequence[str], output: BinaryIO | None = None) -> Run:
    """Runs a command in the project's folder, to its end.

    Args:
        command: a list, no shell.
        output: takes what it prints; shown only if it fails where this is None.

    Raises:
        SystemExit: it fails; with what it said.
    """
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output or log, stderr=log, cwd=PROJECT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            said = os.fsdecode(log.read())
            raise SystemExit(f"{' '.join(command)}: status {process.returncode}\n{said}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / MIB)


def ask(command: Sequence[str]) -> Any:
    """Runs a command in the project's folder; what it printed as JSON."""
    return json.loads(subprocess.check_output(command, cwd=PROJECT))
