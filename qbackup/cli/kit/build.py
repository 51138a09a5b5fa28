"""Writing of a kit: the program in one file, wheels, a page of instructions, and their sums."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import io
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from qbackup.base.children import child_environment
from qbackup.base.errors import MachineError, UsageError
from qbackup.cli.kit.launch import SUMS_NAME, WHEELS_NAME
from qbackup.cli.kit.wheels import fetch

PROGRAM_NAME = "qbackup.pyz"
TEXT_NAME = "RECOVERY.txt"
_PACKAGES = ("qbackup", "pyscrypt")
_MAIN = """\
import sys
from qbackup.cli.kit.start import main

def run(prepare):
    from qbackup.__main__ import main as command
    return command(prepare)

sys.exit(main(run))
"""
_SHEBANG = b"#!/usr/bin/env python3\n"
_COMPILED = "__pycache__"  # for one Python; all else goes into the program
_OLDEST_TIME = (1980, 1, 1, 0, 0, 0)  # the same program gives the same file
_FILE_MODE = 0o644
_SECONDS = 60


class _Resource(Protocol):
    """A file or folder of a package, wherever that was loaded from."""

    @property
    def name(self) -> str: ...

    def is_dir(self) -> bool: ...

    def iterdir(self) -> Iterable[_Resource]: ...

    def read_bytes(self) -> bytes: ...


def write_kit(output: str | os.PathLike[str], wheels: str | os.PathLike[str] | None = None) -> Path:
    """Writes a kit that has wheels for the common systems.

    Args:
        output: the folder; made if it is not there, and refused if it has a kit.
        wheels: a folder to take wheels from; default: pip gets them.

    Returns:
        The folder.

    Raises:
        UsageError: there is a kit already, or no wheel in the folder `wheels`.
        MachineError: pip can't get the wheels, or the folder can't be written.
    """
    folder = _checked(output)
    with tempfile.TemporaryDirectory(prefix="qbackup-") as scratch:
        found = fetch(Path(scratch)) if wheels is None else _wheels_in(Path(wheels))
        return _write(folder, found)


def write_plain_kit(output: str | os.PathLike[str]) -> Path:
    """Writes a kit without wheels: Python's OpenSSL derives keys then, and is slower by half."""
    return _write(_checked(output), [])


def _checked(output: str | os.PathLike[str]) -> Path:
    folder = Path(output)
    parts = (SUMS_NAME, PROGRAM_NAME, TEXT_NAME, WHEELS_NAME)
    if any(os.path.lexists(folder / name) for name in parts):
        raise UsageError(f"there is a kit in {folder} already, or a part of one: remove it first")
    return folder


def _wheels_in(folder: Path) -> list[Path]:
    found = sorted(folder.glob("pycryptodome-*-abi3-*.whl"))
    if not found:
        raise UsageError(f"there are no wheels of pycryptodome in {folder}")
    return found


def _whole(wheel: Path) -> bytes:
    """The content of a wheel, checked as an archive: one for another system can't be tried here.

    Raises:
        MachineError: the wheel is damaged.
    """
    data = wheel.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise MachineError(f"{wheel} is damaged: {error}") from error
    if bad is not None:
        raise MachineError(f"{wheel} is damaged: {bad} in it does not match its checksum")
    return data


def _write(folder: Path, wheels: list[Path]) -> Path:
    """Writes all files, the sums last, so that an unfinished kit has none."""
    contents = {PROGRAM_NAME: program(), TEXT_NAME: _text()}
    with _taken_back() as made:
        try:
            contents.update((f"{WHEELS_NAME}/{wheel.name}", _whole(wheel)) for wheel in wheels)
            folder.mkdir(parents=True, exist_ok=True)
            if wheels:
                (folder / WHEELS_NAME).mkdir()
                made.append(folder / WHEELS_NAME)
            sums = {name: _put(folder / name, data, made) for name, data in contents.items()}
            lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
            _put(folder / SUMS_NAME, "".join(lines).encode(), made)
        except OSError as error:
            raise MachineError(f"the kit can't be written: {error}") from error
        _try(folder / PROGRAM_NAME)
    return folder


@contextlib.contextmanager
def _taken_back() -> Iterator[list[Path]]:
    """Removes the files of a kit that can't be finished, and nothing else."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                (path.rmdir if path.name == WHEELS_NAME else path.unlink)()
        raise


def _try(path: Path) -> None:
    """Starts the kit's program with nothing but Python, as a user will have to.

    Raises:
        MachineError: the program fails or complains.
    """
    command = [sys.executable, "-I", "-S", str(path), "--version"]
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
        raise MachineError(f"the kit can't be tried: {error}") from error
    if done.returncode or done.stderr:
        raise MachineError(f"the kit does not work here: {done.stderr.strip()}")


def _put(path: Path, data: bytes, made: list[Path]) -> str:
    """Writes a file and reads it again; returns the SHA-256.

    Raises:
        MachineError: other bytes come back.
    """
    with path.open("xb") as file:  # a drive may hold links that lead elsewhere
        made.append(path)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != hashlib.sha256(data).hexdigest():
        raise MachineError(f"{path} does not come back as it was written: the drive may be failing")
    return digest


def program() -> bytes:
    """The program and all that it imports, as one file that Python runs (PEP 441)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", _MAIN.encode())
        for package in _PACKAGES:
            for name, data in sorted(_sources(importlib.resources.files(package), package)):
                _add(archive, name, data)
    return _SHEBANG + buffer.getvalue()


def _sources(folder: _Resource, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = f"{path}/{entry.name}"
        if entry.name == _COMPILED:
            continue
        if entry.is_dir():
            yield from _sources(entry, name)
        else:
            yield name, entry.read_bytes()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _OLDEST_TIME)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | _FILE_MODE) << 16
    archive.writestr(info, data)


def _text() -> bytes:
    return importlib.resources.files("qbackup.cli.kit").joinpath(TEXT_NAME).read_bytes()
