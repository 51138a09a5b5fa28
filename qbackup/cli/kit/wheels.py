"""pycryptodome's wheels for the common systems: fetched for the kit, chosen on the machine.

How they are called is PEP 427 and, for the systems, PEP 425, 600 (glibc) and 656 (musl).
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qbackup.base.children import child_environment
from qbackup.base.errors import MachineError

#: pip's names of the systems that a kit has wheels for.
SYSTEMS = (
    "manylinux2014_x86_64",
    "manylinux2014_aarch64",
    "musllinux_1_2_x86_64",
    "musllinux_1_2_aarch64",
    "macosx_10_9_universal2",
)
_PACKAGE = "pycryptodome"
_OLDEST_PYTHON = "3.10"
_SECONDS = 300
# `-m pip` would take a pip.py of the current folder, e.g. of the stick that the backup is on
_RUN_PIP = """\
import sys
sys.path[:] = [folder for folder in sys.path if folder]
import runpy
runpy.run_module("pip", run_name="__main__")
"""
_LINUX = re.compile(r"(manylinux|musllinux)_(\d+)_(\d+)_(\w+)")
_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_LEGACY_LINUX = re.compile(r"(manylinux1|manylinux2010|manylinux2014)_(\w+)")
_MACOS = re.compile(r"macosx_(\d+)_(\d+)_(\w+)")


@dataclass(frozen=True)
class Machine:
    """The facts about a machine that decide which wheel can be used.

    Args:
        system: ``Linux``, ``Darwin``.
        processor: ``x86_64``, ``aarch64``, ``arm64``.
        glibc: version; None where there is none.
        macos: version; None elsewhere.
    """

    system: str
    processor: str
    glibc: tuple[int, ...] | None
    macos: tuple[int, ...] | None

    @classmethod
    def this(cls) -> Machine:
        """The machine that this runs on."""
        macos = platform.mac_ver()[0]
        return cls(
            system=platform.system(),
            processor=platform.machine(),
            glibc=_glibc(),
            macos=_version(macos) if macos else None,
        )

    def fits(self, tag: str) -> bool:
        """Tells if a wheel runs here that was built for the system with this tag."""
        if match := _LINUX.fullmatch(tag):
            family, version = match[1], (int(match[2]), int(match[3]))
            return self._is_linux(family, version, match[4])
        if match := _LEGACY_LINUX.fullmatch(tag):
            return self._is_linux("manylinux", _LEGACY[match[1]], match[2])
        if match := _MACOS.fullmatch(tag):
            return (
                self.macos is not None
                and self.macos >= (int(match[1]), int(match[2]))
                and match[3] in (self.processor, "universal2")
            )
        return False

    def _is_linux(self, family: str, version: tuple[int, int], processor: str) -> bool:
        if self.system != "Linux" or processor != self.processor:
            return False
        if family == "musllinux":
            return self.glibc is None
        return self.glibc is not None and self.glibc >= version


def fitting(wheels: Iterable[Path], machine: Machine | None = None) -> Iterator[Path]:
    """The wheels that this machine, and any Python that can run qbackup, should be able to use."""
    here = machine or Machine.this()
    for wheel in wheels:
        name, _, rest = wheel.stem.partition("-")
        tags = rest.split("-")
        if name != _PACKAGE or len(tags) < 4 or tags[-2] != "abi3":
            continue
        if any(here.fits(tag) for tag in tags[-1].split(".")):
            yield wheel


def fetch(folder: Path) -> list[Path]:
    """Gets the wheels of all systems by pip, of the release that is installed here.

    Raises:
        MachineError: there is no pip, or pip can't get them.
    """
    requirement = _installed()
    for system in SYSTEMS:
        command = [sys.executable, "-c", _RUN_PIP, "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--no-input", "--only-binary=:all:"]
        command += ["--platform", system, "--python-version", _OLDEST_PYTHON]
        command += ["--implementation", "cp", "--abi", "abi3", "--dest", str(folder), requirement]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                env=child_environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MachineError(f"pip can't get {requirement} for {system}: {error}") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason is given"])[-1]
            raise MachineError(
                f"pip can't get {requirement} for {system}: {last}. Without a network:"
                " --wheels FOLDER with those you have, or --no-wheels for a kit that is slower"
            )
    return sorted(folder.glob("*.whl"))


def _installed() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{_PACKAGE}=={version(_PACKAGE)}"
    except PackageNotFoundError:
        return _PACKAGE


def _glibc() -> tuple[int, ...] | None:
    with contextlib.suppress(AttributeError, ValueError, OSError):
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return _version(version) if name == "glibc" else None
    return None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
