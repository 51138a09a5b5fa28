"""Runs of the command that a test stops half-way."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commandline import (
    wait_for,
)

#: Files of the sample that a restore has made before it comes to the image of `vault`.
BEFORE_VAULT = ("personal/private.img", "personal/firewall.xml")


def wait_for_derivation(process: subprocess.Popen[bytes], *files: Path) -> None:
    """Waits until a restore has made these files, and then only burns time: a key is derived."""
    wait_for(lambda: all(file.exists() for file in files))
    start_seconds = cpu_seconds(process)
    wait_for(lambda: cpu_seconds(process) > start_seconds + 0.1)


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """What a process has taken of the processors so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB. Only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
