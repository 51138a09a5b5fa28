"""What a benchmark ran on, and with which packages."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from qbackup.crypto.kdf import physical_memory

PACKAGES = ("pycryptodome", "isal", "llvmlite")
GIB = 1 << 30
_PROBE = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Setup:
    """A Python, and the extras that it is to do without.

    Args:
        label: what it is called in tables.
        python: path of the interpreter.
        hidden: packages that can't be imported in this setup, though they are installed.
    """

    label: str
    python: str = sys.executable
    hidden: tuple[str, ...] = ()

    def module(self, name: str, *arguments: str) -> list[str]:
        """The command that runs a module."""
        if not self.hidden:
            return [self.python, "-m", name, *arguments]
        hide = (
            "import runpy, sys;"
            "sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(',')));"
            "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
        )
        return [self.python, "-c", hide, ",".join(self.hidden), name, *arguments]

    def has(self, package: str) -> bool:
        """Whether a package can be imported in this setup."""
        return package in versions(self.python) and package not in self.hidden


@lru_cache
def versions(python: str) -> dict[str, str]:
    """Versions of Python and of what matters for speed; packages that are missing are left out."""
    found: dict[str, str] = json.loads(subprocess.check_output([python, "-c", _PROBE, *PACKAGES]))
    return found


def installed_setups() -> list[Setup]:
    """This Python with the required packages alone, then with each further extra it has."""
    setups = [Setup("required packages alone", hidden=("isal", "llvmlite"))]
    there = versions(sys.executable)
    if "isal" in there:
        setups.append(Setup("[fast]", hidden=("llvmlite",)))
    if "llvmlite" in there:
        extras = "[fast,turbo]" if "isal" in there else "[turbo]"
        setups.append(Setup(extras))
    return setups


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(pythons: Collection[str] = (sys.executable,)) -> str:
    """One line on the machine and one on each Python."""
    memory = physical_memory()
    size = f", {memory / GIB:.0f} GiB of memory" if memory else ""
    lines = [f"{cores()} cores ({platform.machine()}){size}, {platform.system()}"]
    for python in dict.fromkeys(pythons):
        found = versions(python)
        packages = (f"{name} {found.get(name, '(not installed)')}" for name in PACKAGES)
        lines.append(f"Python {found['python']}, {', '.join(packages)}")
    return "; ".join(lines) + "."
