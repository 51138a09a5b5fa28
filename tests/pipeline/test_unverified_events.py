"""Events of a file with unverified bytes: which chunks give some, and what they give."""

from __future__ import annotations

from pathlib import Path

import qbackup
from qbackup.base.events import Event, Lost, UnverifiedData
from qbackup.pipeline.unverified import has_unverified, with_unverified
from tests.make_gap_vectors import FOLDER, PASSPHRASE, RECIPES
from tests.support import alter
from tests.support.damagedfiles import PERSONAL
from tests.support.inside import inside
from tests.support.speed import rows

RAW = FOLDER / "raw.qbackup"
CHUNK = 64 * 1024


def events_of(path: Path) -> list[Event]:
    with qbackup.open(path, passphrase=PASSPHRASE) as archive:
        opened = inside(archive)
        (file,) = [file for file in opened.catalog.seen_files() if "private.img" in file.path]
        format_ = opened.unlocked().format
        assert has_unverified(format_)
        return list(with_unverified(opened.pipeline, format_, file.chunks))


def test_a_whole_file_has_none() -> None:
    assert not [event for event in events_of(RAW) if isinstance(event, UnverifiedData | Lost)]


def test_a_damaged_chunk_comes_with_its_place(tmp_path: Path) -> None:
    backup = alter.flipped(RAW, tmp_path / "b", PERSONAL.format(2), 1000)
    (event,) = [event for event in events_of(backup) if isinstance(event, UnverifiedData)]
    assert (event.index, event.offset, event.span, event.is_hole) == (2, 0, CHUNK, False)
    start = 2 * CHUNK - 512
    truth = RECIPES["raw"].image[start : start + CHUNK]
    differ = [at for at in range(CHUNK) if event.buffer[at] != truth[at]]
    assert differ == [1000 - 96]


def test_a_hole_is_marked_and_zero(tmp_path: Path) -> None:
    def edit(data: bytearray) -> None:
        data[5120:6144] = b"\xff" * 1024

    backup = alter.edited(RAW, tmp_path / "b", PERSONAL.format(2), edit)
    found = [event for event in events_of(backup) if isinstance(event, UnverifiedData)]
    assert [event.is_hole for event in found] == [False, True, False]
    assert found[1].offset == 5120 - 96 and bytes(found[1].buffer) == bytes(1024)


@rows("offset", [10, 30, 90])
def test_a_chunk_whose_key_does_not_fit_stays_lost(offset: int, tmp_path: Path) -> None:
    backup = alter.flipped(RAW, tmp_path / "b", PERSONAL.format(2), offset)
    events = events_of(backup)
    assert isinstance(events[2], Lost)
    assert not [event for event in events if isinstance(event, UnverifiedData)]
