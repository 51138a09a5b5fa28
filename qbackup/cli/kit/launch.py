"""Start of the program in its kit: the program is checked, and a wheel that fits is used."""

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
        _warn(f"there is no {SUMS_NAME} beside {program.name}: damage to it can't be noticed")
    elif _checked(program, program.name, sums) is None:
        _warn(
            f"{program.name} does not match {SUMS_NAME}: it is damaged, or was changed. Use another"
            " copy, if you have one"
        )
    with contextlib.suppress(OSError, MemoryError):  # e.g. there is no room to unpack the wheel
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
    """The content of a file of the kit; None if its sum is not the one in the list of sums."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sums.get(name) else None


def _use_wheel(kit: Path, sums: dict[str, str]) -> None:
    """Unpacks the first wheel that fits and can be loaded; without one the program is slower."""
    for wheel in fitting(sorted((kit / WHEELS_NAME).glob("*.whl"))):
        data = _checked(wheel, f"{WHEELS_NAME}/{wheel.name}", sums)
        if data is None:
            _warn(f"{wheel.name} does not match {SUMS_NAME}, and is not used")
            continue
        place = tempfile.mkdtemp(prefix="qbackup-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        with contextlib.suppress(Exception):  # whatever fault the wheel has
            zipfile.ZipFile(io.BytesIO(data)).extractall(place)  # the bytes that were checked
            if _loads(place):
                return


def _loads(place: str) -> bool:
    """Puts an unpacked wheel on the search path; tells if pycryptodome can be imported from it."""
    sys.path.insert(0, place)
    try:
        import Crypto.Cipher.AES
        import Crypto.Protocol.KDF  # noqa: F401
    except Exception:  # another C library, a folder without execution, a Python that is too old
        sys.path.remove(place)
        for name in [name for name in sys.modules if name.partition(".")[0] == "Crypto"]:
            del sys.modules[name]
        return False
    return True


def _warn(text: str) -> None:
    if sys.stderr is not None:  # closed from the start
        with contextlib.suppress(OSError):
            sys.stderr.write(f"warning: {text}\n")
            sys.stderr.flush()
