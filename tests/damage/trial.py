"""Restoring of a damaged backup as its owner would: plainly, then with what the advice names."""

from __future__ import annotations

import errno
import inspect
import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qbackup
from qbackup import QBackupError, Report
from qbackup.base.report import FileResult
from tests.damage.kinds import Damage
from tests.damage.samples import IMAGES, PASSPHRASE, Image, Sample
from tests.maker.backup import BACKUP_ID

_OPTIONS = inspect.signature(qbackup.open).parameters


@dataclass
class Outcome:
    """Bytes of one image that came out, in the best of all tries.

    Attributes:
        right: number of bytes in the image's data runs that came out as they were.
        wrong: number of bytes that a report calls good and that are others; of all tries together.
    """

    right: int = 0
    wrong: int = 0


class FailingFile(io.RawIOBase):
    """A file of which some ranges can't be read, as on a drive with bad sectors."""

    def __init__(self, damage: Damage) -> None:
        super().__init__()
        self._data, self._bad, self._place = damage.data, damage.unreadable, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: len(self._data)}[whence]
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        end = min(self._place + len(buffer), len(self._data))
        for first, last in self._bad:
            if first <= self._place < last:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if self._place < first < end:
                end = first
        piece = self._data[self._place : end]
        buffer[: len(piece)] = piece
        self._place = end
        return len(piece)


def restore(sample: Sample, damage: Damage, folder: Path) -> dict[str, Outcome]:
    """Restores with what a user would try in turn; gives the outcome of each image."""
    outcomes = {path: Outcome() for path in sample.images}
    for number, attempt in enumerate(_attempts(sample, damage, folder)):
        out = folder / f"out{number}"
        report = attempt(out)
        if report is not None:
            for path, image in sample.images.items():
                _compare(outcomes[path], sample, image, report, out)
        shutil.rmtree(out, ignore_errors=True)
        if report is not None and report.ok:
            break
    return outcomes


def _attempts(
    sample: Sample, damage: Damage, folder: Path
) -> Iterator[Callable[[Path], Report | None]]:
    source = _source(damage.data, folder / "damaged")
    for path, part in zip(_part_names(folder), damage.parts, strict=False):
        path.write_bytes(part)
        source = folder / "backup.000"

    def attempt(**options: Any) -> Callable[[Path], Report | None]:
        def run(out: Path) -> Report | None:
            given: Any = FailingFile(damage) if damage.unreadable else source
            try:
                with qbackup.open(given, passphrase=PASSPHRASE, **options) as backup:
                    return _report_of(backup, out)
            except QBackupError:
                return None

        return run

    yield attempt()
    if damage.also:
        copy = _source(damage.also, folder / "copy")
        if "also" in _OPTIONS:
            yield attempt(also=[copy])
        _source(damage.data + damage.also, folder / "both")
        source = folder / "both"
    yield attempt(salvage=True)
    if damage.id_is_lost and sample.version == 4 and "backup_id" in _OPTIONS:
        yield attempt(salvage=True, backup_id=BACKUP_ID)


def _report_of(backup: qbackup.BackupArchive, out: Path) -> Report:
    try:
        return backup.restore(out, keep_damaged=True)
    except qbackup.Incomplete as error:
        return error.report


def _part_names(folder: Path) -> Iterator[Path]:
    for number in range(1000):
        yield folder / f"backup.{number:03d}"


def _source(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path


def _compare(outcome: Outcome, sample: Sample, image: Image, report: Report, out: Path) -> None:
    right = 0
    for result, path in _results(sample, image, report, out):
        good, wrong = _good_bytes(image, result, path)
        right, outcome.wrong = max(right, good), outcome.wrong + wrong
    outcome.right = max(outcome.right, right)


def _results(
    sample: Sample, image: Image, report: Report, out: Path
) -> Iterator[tuple[FileResult, Path]]:
    index = list(sample.images.values()).index(image)
    labels = {f"{list(IMAGES)[index]}/private.img", image.path}
    for result in report.files:
        label = f"{result.qube}/{result.name}"
        if label not in labels or result.unplaced:
            continue
        path = out / label
        path = path.with_name(Path(result.kept_as).name) if result.kept_as else path
        if path.is_file():
            yield result, path


def _good_bytes(image: Image, result: FileResult, path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        content = file.read()
    size = len(image.content)
    if result.status in ("ok", "kept"):
        good = [(0, max(size, len(content)))]
    else:
        good = [(r.start, r.end or size) for r in result.ranges if r.state == "good"]
    right = wrong = 0
    for start, end in good:
        if content[start:end] == image.content[start:end]:
            right += sum(
                max(0, min(end, offset + length) - max(start, offset))
                for _, offset, length in image.runs
            )
        else:
            pairs = zip(content[start:end], image.content[start:end], strict=False)
            wrong += sum(a != b for a, b in pairs)
            wrong += abs(len(content[start:end]) - len(image.content[start:end]))
    return right, wrong
