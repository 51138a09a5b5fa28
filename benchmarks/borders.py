"""How often the work on one image goes from one package to another, and from file to file.

    python -m benchmarks.borders [BACKUP PASSPHRASE QUBE/FILE] [--all] [--calls]

A *border* is a call of a function of `qbackup` whose nearest caller in `qbackup` is in another
package (the first folder below ``qbackup/``), or the return of such a call. A generator that goes
on counts as a call, and one that yields as a return. A *move* is the same between files. Counted by
`sys.setprofile`, in the caller's thread only, while an unlocked backup works on one image of one
chunk, with all modules loaded:

* ``read``: the first read after unlocking, which reads the list of qubes too.
* ``restore``: a restore of the image, the list of qubes being known.
* ``first restore``: a restore right after unlocking.

With ``--all`` opening and unlocking count, and all threads. What threads do depends on how busy the
machine is, so these figures vary; the others are the same each time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import qbackup

ROOT = Path(__file__).parent.parent
VECTOR = ROOT / "tests/vectors/gzip-published-header.qbackup"
IMAGE = "personal/private.img"
_PRODUCT = str(Path(qbackup.__file__).parent) + "/"


@dataclass
class Crossings:
    """Calls and returns between packages and between files.

    Args:
        borders: (package, package) in the order of their names → calls and returns.
        calls: (caller, function) of another package → calls and returns.
        moves: number of calls and returns between files.
        files: the files that were touched.
    """

    borders: Counter[tuple[str, str]] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    moves: int = 0
    files: set[str] = field(default_factory=set)

    @property
    def total(self) -> int:
        """Number of borders that were crossed."""
        return sum(self.borders.values())

    def add(self, frame: FrameType, event: str, argument: Any) -> None:
        """Adds one event, as `sys.setprofile` gives it."""
        file = _file_of(frame)
        if file is None or event not in ("call", "return"):
            return
        caller = frame.f_back
        while caller is not None and _file_of(caller) is None:
            caller = caller.f_back
        if caller is None:
            return
        other = _file_of(caller) or ""
        self.files.add(file)
        self.moves += file != other
        packages = file.partition("/")[0], other.partition("/")[0]
        if packages[0] != packages[1]:
            self.borders[min(packages), max(packages)] += 1
            self.calls[_name_of(other, caller), _name_of(file, frame)] += 1


def _file_of(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename
    return name[len(_PRODUCT) :] if name.startswith(_PRODUCT) else None


def _name_of(file: str, frame: FrameType) -> str:
    return f"{file}:{getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)}"


@contextlib.contextmanager
def counting(*, all_threads: bool = False) -> Iterator[Crossings]:
    """Counts in this context what this thread does, or what all threads do."""
    crossings = Crossings()
    if all_threads:
        threading.setprofile(crossings.add)
    sys.setprofile(crossings.add)
    try:
        yield crossings
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def read(archive: qbackup.BackupArchive, name: str) -> None:
    """Reads an image."""
    with archive.open(name) as stream:
        stream.read()


def restore(archive: qbackup.BackupArchive, name: str) -> None:
    """Restores an image into a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        archive.restore(Path(folder) / "out", [name])


@dataclass(frozen=True)
class Backup:
    """The backup that is worked on, and the image in it."""

    path: Path = VECTOR
    passphrase: str = ""
    image: str = IMAGE

    def take(
        self,
        work: Callable[[qbackup.BackupArchive, str], None],
        *,
        knows_qubes: bool = False,
        all_threads: bool = False,
    ) -> Crossings:
        """Counts what the work does once the backup is unlocked; with all threads, from the start.

        Args:
            work: is given the archive and the image's name.
            knows_qubes: the list of qubes is read before.
            all_threads: all threads count, and opening and unlocking too.
        """
        if all_threads:
            with (
                counting(all_threads=True) as crossings,
                qbackup.open(self.path, passphrase=self.passphrase) as archive,
            ):
                work(archive, self.image)
            return crossings
        with qbackup.open(self.path, passphrase=self.passphrase) as archive:
            if knows_qubes:
                _ = archive.qubes
            with counting() as crossings:
                work(archive, self.image)
        return crossings


def committed() -> Backup:
    """Gives the vector that is worked on by default, with its passphrase."""
    described = json.loads(VECTOR.with_suffix(".json").read_text("utf-8"))
    return Backup(passphrase=described["passphrase"])


def main() -> None:
    """Counts and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backup", nargs="*", help="a backup, its passphrase, and QUBE/FILE")
    parser.add_argument("--all", action="store_true", help="all threads, and unlocking")
    parser.add_argument("--calls", action="store_true", help="print each call")
    options = parser.parse_args()
    backup = Backup(Path(options.backup[0]), *options.backup[1:]) if options.backup else committed()
    with qbackup.open(backup.path, passphrase=backup.passphrase) as archive:
        read(archive, backup.image)  # what is loaded or measured once
        restore(archive, backup.image)
    for title, work, knows_qubes in (
        ("read", read, False),
        ("restore", restore, True),
        ("first restore", restore, False),
    ):
        found = backup.take(work, knows_qubes=knows_qubes, all_threads=options.all)
        print(f"{title}: {found.total} borders, {found.moves} moves, {len(found.files)} files")
        pairs = (f"{a} - {b} {count}" for (a, b), count in found.borders.most_common())
        print("  " + ", ".join(pairs))
        if options.calls:
            for (caller, name), count in found.calls.most_common():
                print(f"  {count:4} {caller} -> {name}")


if __name__ == "__main__":
    main()
