"""How often work on one image goes from one package to another (`benchmarks/borders.py`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import qbackup
from benchmarks import borders
from qbackup.base.names import encode
from qbackup.restore.output.standins import without_reserved


@pytest.fixture(scope="module")
def backup() -> borders.Backup:
    """The vector, after one read and one restore have loaded and measured all that they need."""
    backup = borders.committed()
    for work in (borders.read, borders.restore):
        backup.take(work)
    return backup


@pytest.mark.parametrize(
    ("work", "knows_qubes", "most"),
    [(borders.read, False, 170), (borders.restore, True, 360), (borders.restore, False, 360)],
)
def test_an_image_crosses_few(
    backup: borders.Backup,
    work: Callable[[qbackup.BackupArchive, str], None],
    knows_qubes: bool,
    most: int,
) -> None:
    assert backup.take(work, knows_qubes=knows_qubes).total <= most


def test_a_call_of_another_package_and_its_return_are_two() -> None:
    with borders.counting() as found:
        encode("work")  # from outside of the product, so no border is crossed
        without_reserved("work", "private.img")
    assert found.calls == {
        ("restore/output/standins.py:without_reserved", "base/names.py:is_reserved"): 2
    }
    assert found.borders == {("base", "restore"): 2}
