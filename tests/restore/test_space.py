"""Room on the disk is compared with what is needed before anything is written."""

from __future__ import annotations

import pytest

from qbackup.base.errors import MachineError
from qbackup.restore.nowhere import NowhereWriter
from qbackup.restore.space import check_space


class Small(NowhereWriter):
    """A writer to a disk with 1000 free bytes."""

    def free_space(self) -> int | None:
        return 1000


def test_nothing_is_needed_where_nothing_is_written() -> None:
    assert check_space(NowhereWriter(), 1 << 60, 1 << 60) is None


@pytest.mark.parametrize(("stored", "estimated"), [(0, 0), (1000, 1000), (1000, 0)])
def test_what_fits_is_no_matter(stored: int, estimated: int) -> None:
    assert check_space(Small(), stored, estimated) is None


def test_an_estimate_that_does_not_fit_is_a_warning() -> None:
    warning = check_space(Small(), 1000, 1001)
    assert warning is not None
    assert "1001" in warning
    assert "1000" in warning


def test_stored_bytes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(MachineError, match="at least 1001 bytes are needed, 1000 are free"):
        check_space(Small(), 1001, 0)
