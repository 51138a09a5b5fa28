"""Starts the program out of its kit: looks whether it is undamaged, and uses a wheel that fits."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from qbackup.kit.wheels import fitting

SUMS_NAME = "SHA256SUMS"
WHEELS_NAME = "wheels"


def launch(program: str) -> int:
    """Runs the command line; returns the exit status.

    Args:
        program: the path of this program's file, in the kit's folder.
    """
    from qbackup.__main__ import main

    path = Path(program).resolve()
    sums = read_sums(path.parent / SUMS_NAME)
    if not matches(path, path.name, sums):
        _warn(
            f"{path.name} is not what {SUMS_NAME} says it is: it may be damaged, or was changed."
            " Use another copy of it, if you have one"
        )
    with contextlib.suppress(OSError):  # nowhere to unpack it, say
        _use_wheel(path.parent, sums)
    return main()


def read_sums(path: Path) -> dict[str, str]:
    """Name → SHA-256 in hexadecimal digits, as sha256sum writes them; empty if there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return {pair[1].lstrip("*"): pair[0].lower() for pair in pairs if len(pair) == 2}


def matches(path: Path, name: str, sums: dict[str, str]) -> bool:
    """Whether a file of the kit has the sum that stands there for its name."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sums.get(name)
    except OSError:
        return False


def _use_wheel(kit: Path, sums: dict[str, str]) -> None:
    """Unpacks the first wheel that fits and can be loaded; without one it is only slower."""
    for wheel in fitting(sorted((kit / WHEELS_NAME).glob("*.whl"))):
        if not matches(wheel, f"{WHEELS_NAME}/{wheel.name}", sums):
            _warn(f"{wheel.name} is not what {SUMS_NAME} says it is, and is not used")
            continue
        place = tempfile.mkdtemp(prefix="qbackup-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        with contextlib.suppress(zipfile.BadZipFile, NotImplementedError):
            zipfile.ZipFile(wheel).extractall(place)
            if _loads(place):
                return


def _loads(place: str) -> bool:
    """From now on it is what is imported, if it can be."""
    sys.path.insert(0, place)
    try:
        import Crypto.Cipher.AES
        import Crypto.Protocol.KDF  # noqa: F401
    except (ImportError, OSError):  # another C library, or no programs from there
        sys.path.remove(place)
        for name in [name for name in sys.modules if name.partition(".")[0] == "Crypto"]:
            del sys.modules[name]
        return False
    return True


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")
    sys.stderr.flush()


def is_kit(folder: os.PathLike[str]) -> bool:
    """Whether a folder holds one."""
    return (Path(folder) / SUMS_NAME).exists()
