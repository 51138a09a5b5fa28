"""What must hold of any restore of a backup in which one file was mutated.

The backup is restored, and then from a pipe, or once more into the same folder, or verified and
read as a stream. All of them must say the same, and it must be true.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import qbackup
from qbackup import BackupArchive, FileResult, Report
from qbackup.base.errors import QBackupError
from qbackup.base.names import METADATA_PATH
from qbackup.restore.output.side_names import DAMAGED_SUFFIX, MAP_SUFFIX, RANGES_SUFFIX
from tests.fuzz.common import LIMITS, one_way, outcome
from tests.fuzz.tree import scratch
from tests.support.restored import Snapshot, snapshot, statuses

PASSPHRASE = b"known"
_AGAIN = {"ok": "kept"}
_LIMITS = replace(LIMITS, file_size=1 << 20)


def is_part(content: bytes, result: FileResult, whole: bytes) -> bool:
    """Whether the ranges of a damaged file that are called good are, and zeros stand in the others.

    Args:
        content: what was kept of it.
        result: what is said of it.
        whole: the file; its archive where its bytes have no places.
    """
    for part in result.ranges:
        found = content[part.start : part.end]
        expected = whole[part.start : part.end]
        if found != (expected if part.state == "good" else bytes(len(found))):
            return False
    return bool(result.ranges)


def without_lists(out: Path) -> Snapshot:
    """Takes the content of a folder, but for the lists of a damaged image's bytes.

    These have reasons and places in them, and a pipe knows fewer of both than a file.
    """
    suffixes = (f"{DAMAGED_SUFFIX}{RANGES_SUFFIX}", f"{DAMAGED_SUFFIX}{MAP_SUFFIX}")
    return {path: what for path, what in snapshot(out).items() if not path.endswith(suffixes)}


@dataclass(frozen=True)
class Whole:
    """A backup.

    Args:
        stored: its bytes.
        names: path in the archive → ``QUBE/FILE``, of all that it holds.
        place: the path of the file that was mutated.
        image: the path of a file that can be read as a stream.
        lost: a chunk of it is damaged.
        keep: what is left of a damaged file is kept.
        may_be_refused: the mutated file takes the place of the header.
    """

    stored: bytes
    names: Mapping[str, str]
    place: str
    image: str
    lost: bool
    keep: bool
    may_be_refused: bool = False

    def check(self, way: int) -> None:
        """What a restore says is true, and a second way to read says the same.

        Args:
            way: any number; says which way. Each takes as long as the restore, so it is only one.
        """
        with tempfile.TemporaryDirectory(prefix="qbackup-fuzz-", dir=scratch()) as name:
            out = Path(name, "first")
            first = self._result(io.BytesIO(self.stored), out)
            if isinstance(first, Report):
                self._check_restored(first, out)
                (self._check_pipe, self._check_again, self._check_reading)[way % 3](out, first)
                return
            assert self.may_be_refused, first
            assert not os.listdir(name)
            assert type(self._result(io.BytesIO(self.stored), out)) is type(first)

    def opened(self, source: BinaryIO) -> BackupArchive:
        """Of a file object."""
        return qbackup.open(source, passphrase=PASSPHRASE, limits=_LIMITS, jobs=2)

    def restored(self, source: BinaryIO, out: Path) -> Report:
        """What is said of a restore into a folder."""
        with self.opened(source) as opened:
            return opened.restore(out, keep_damaged=self.keep, check=False)

    def _result(self, source: BinaryIO, out: Path) -> Report | QBackupError:
        return outcome(lambda: self.restored(source, out))

    def _check_restored(self, report: Report, out: Path) -> None:
        """What is said is there, nothing else is, and damage cost its own file only."""
        assert os.listdir(out.parent) == ["first"]
        assert not report.errors
        good = {name for name, status in statuses(report).items() if status == "ok"}
        there = {f.restored_as or f"{f.qube}/{f.name}".lstrip("/") for f in report.files if f.ok}
        for name in there:
            assert (out / name).exists()
        kept = {
            f.restored_as or f"{f.qube}/{f.name}/../{f.kept_as}" for f in report.files if f.kept_as
        }
        lists = {f"{name}{suffix}" for name in kept for suffix in (RANGES_SUFFIX, MAP_SUFFIX)}
        allowed = {os.path.normpath(name) for name in there | kept | lists}
        for path in snapshot(out):
            assert any(path == name or path.startswith(f"{name}/") for name in allowed)
        if self.place == METADATA_PATH:
            return
        mutated = self.names[self.place]
        assert set(self.names.values()) - {mutated} <= good
        assert not (self.lost and mutated in good)

    def _check_pipe(self, out: Path, first: Report) -> None:
        """The same comes through a pipe."""
        other = out.parent / "pipe"
        assert statuses(self.restored(one_way(self.stored), other)) == statuses(first)
        assert without_lists(other) == without_lists(out)

    def _check_again(self, out: Path, first: Report) -> None:
        """What is there is kept, what is not fails again in the same way, and nothing changes."""
        before = snapshot(out)
        again = self.restored(io.BytesIO(self.stored), out)
        assert snapshot(out) == before
        expected = {name: _AGAIN.get(status, status) for name, status in statuses(first).items()}
        assert statuses(again) == expected

    def _check_reading(self, out: Path, first: Report) -> None:
        """Verifying says what restoring says, and a stream gives what the file has."""
        restored, name = statuses(first), self.names[self.image]
        with self.opened(io.BytesIO(self.stored)) as opened:
            if self.place != METADATA_PATH:
                verified = statuses(opened.verify(check=False))
                assert all(verified[label] == restored[label] for label in self.names.values())
                assert self.keep or verified == restored
            if self.place == self.image:
                read = outcome(lambda: opened.open(name).read())
                good = restored[name] == "ok"
                assert good == isinstance(read, bytes)
                assert not good or (out / name).read_bytes() == read
