"""The real programs: which there must be, and how one is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

#: Compression filters that Qubes writes, by the name that stands in the header; each is a
#: program that works with `-d`.
FILTERS = ("gzip", "pigz", "bzip2", "pbzip2", "xz", "lzma", "zstd", "zstdmt")

#: Every program that the maker or the published procedure runs.
PROGRAMS = ("tar", "scrypt", "openssl", "mkfs.ext4", "debugfs", "e2fsck", *FILTERS)

#: mkfs.ext4 and debugfs stand in sbin, which is not on every user's path.
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def environment(**extra: str) -> dict[str, str]:
    """The programs' environment: messages in English, nothing that changes tar's or a filter's
    options.
    """
    dropped = ("TAR_OPTIONS", "GZIP", "PIGZ", "BZIP2", "XZ_OPT", "XZ_DEFAULTS", "ZSTD_CLEVEL")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "LC_ALL": "C", "PATH": SEARCH_PATH, **extra}


def missing_tools() -> list[str]:
    """Names of the programs that are not installed here, in the order of `PROGRAMS`."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None]


def run(
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    extra_environment: Mapping[str, str] | None = None,
) -> bytes:
    """Runs one program to its end and returns its standard output.

    Raises `RuntimeError` with the program's own message when its exit status is not 0.
    """
    done = subprocess.run(
        list(command),
        input=stdin,
        capture_output=True,
        check=False,
        env=environment(**(extra_environment or {})),
    )
    check(command, done.returncode, done.stderr)
    return done.stdout


def check(command: Sequence[str], status: int, message: bytes = b"") -> None:
    """Raises `RuntimeError` when a program's exit status is not 0."""
    if status != 0:
        raise RuntimeError(f"{' '.join(command)}: status {status}: {os.fsdecode(message).strip()}")
