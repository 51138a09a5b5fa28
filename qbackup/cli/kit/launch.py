"""Starts the program out of its kit: looks whether it is undamaged, and uses a wheel that fits."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import io
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from qbackup.cli.kit.wheels import fitting

SUMS_NAME = "SHA256SUMS"
WHEELS_NAME = "wheels"


def prepare(path: str) -> None:
    """Warns of a damaged kit, and puts a wheel of the kit that fits on the search path.

    Args:
        path: of this program's file, in the kit's folder.
    """
    program = Path(path).resolve()
    kit = program.parent
    sums = read_sums(kit / SUMS_NAME)
    if not sums:
        _warn(f"there is no {SUMS_NAME} beside {program.name} to say whether it is undamaged")
    elif _checked(program, program.name, sums) is None:
        _warn(
            f"{program.name} is not what {SUMS_NAME} says it is: it may be damaged, or was changed."
            " Use another copy of it, if you have one"
        )
    with contextlib.suppress(OSError, MemoryError):  # nowhere to unpack it, say
        _use_wheel(kit, sums)


def read_sums(path: Path) -> dict[str, str]:
    """Name → SHA-256 in hexadecimal digits, as sha256sum writes them; empty if there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return {pair[1].lstrip("*"): pair[0].lower() for pair in pairs if len(pair) == 2}


def _checked(path: Path, name: str, sums: dict[str, str]) -> bytes | None:
    """What is in a file of the kit; None if it has not the sum that stands there for its name."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sums.get(name) else None


def _use_wheel(kit: Path, sums: dict[str, str]) -> None:
    """Unpacks the first wheel that fits and can be loaded; without one it is only slower."""
    for wheel in fitting(sorted((kit / WHEELS_NAME).glob("*.whl"))):
        data = _checked(wheel, f"{WHEELS_NAME}/{wheel.name}", sums)
        if data is None:
            _warn(f"{wheel.name} is not what {SUMS_NAME} says it is, and is not used")
            continue
        place = tempfile.mkdtemp(prefix="qbackup-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        with contextlib.suppress(Exception):  # whatever is wrong with it
            zipfile.ZipFile(io.BytesIO(data)).extractall(place)  # what was checked
            if _loads(place):
                return


def _loads(place: str) -> bool:
    """From now on it is what is imported, if it can be."""
    sys.path.insert(0, place)
    try:
        import Crypto.Cipher.AES
        import Crypto.Protocol.KDF  # noqa: F401
    except Exception:  # another C library, no programs from there, a Python that it is too old for
        sys.path.remove(place)
        for name in [name for name in sys.modules if name.partition(".")[0] == "Crypto"]:
            del sys.modules[name]
        return False
    return True


def _warn(text: str) -> None:
    if sys.stderr is not None:  # it may have been closed from the start
        with contextlib.suppress(OSError):
            sys.stderr.write(f"warning: {text}\n")
            sys.stderr.flush()
