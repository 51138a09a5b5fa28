"""Results of files: which status an error gives, and what is said of a file that was kept."""

from __future__ import annotations

import pytest

from qbackup.base.errors import (
    ChunkDamaged,
    Damaged,
    LimitExceeded,
    NotEnoughMemory,
    PartitionUnreadable,
    QBackupError,
)
from qbackup.base.report import FileResult
from qbackup.restore.plan import Target
from qbackup.restore.results import failed, kept, lost_to, part_of, status_of
from qbackup.restore.sinks import ExistingFile

RESULT = FileResult(qube="work", name="private.img", status="ok", chunks=3, size=10)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Damaged("altered"), "damaged"),
        (ChunkDamaged("altered"), "damaged"),
        (LimitExceeded("too long", limit="chunk"), "limit"),
        (NotEnoughMemory("no memory"), "missing"),
        (PartitionUnreadable("encrypted"), "missing"),
    ],
)
def test_each_error_has_its_status(error: QBackupError, status: str) -> None:
    assert status_of(error) == status
    assert failed(RESULT, error).status == status


def test_only_a_limit_has_advice_of_its_own() -> None:
    over = failed(RESULT, LimitExceeded("too long", limit="chunk", needed=1 << 30))
    assert over.limit == "chunk"
    assert "--limit chunk=1024M" in over.advice
    damaged = failed(RESULT, Damaged("altered"))
    assert (damaged.limit, damaged.advice) == (None, "")


def test_a_lost_file_names_its_chunk() -> None:
    result = lost_to(RESULT, ChunkDamaged("altered", chunk="vm1/private.img.002"))
    assert result.error == "vm1/private.img.002: altered"
    assert lost_to(RESULT, Damaged("altered")).error == "altered"
    assert result.chunks == 3


def test_a_kept_file_has_the_figures_of_its_record() -> None:
    found = ExistingFile(True, True, size=7, chunks=2, notes=("a note",))
    result = kept("work", "private.img", found)
    assert (result.status, result.size, result.chunks) == ("kept", 7, 2)
    assert result.notes == ("a note",)


def test_an_entry_is_named_below_its_folder() -> None:
    result = part_of(Target("dom0", "user", None), "docs/a", "a device")
    assert (result.name, result.status) == ("user/docs/a", "missing")
    assert result.error == "not restored: a device"
