"""What `info` says that a restore will take: by the way that keys will be derived."""

from __future__ import annotations

from pathlib import Path

import pytest

import qbackup
from qbackup.archive import estimate as estimate_module
from qbackup.archive.estimate import Cost, estimate
from qbackup.crypto import kdf
from tests.support import alter
from tests.support.commandline import SAMPLE
from tests.support.inside import inside

IMAGE = "vm1/private.img.000.enc"
LANE = 256 << 20  # N=2^18, r=8


@pytest.fixture
def costly(tmp_path: Path) -> Path:
    """One chunk asks for 32 lanes of 256 MiB, the others for little."""
    return alter.with_parameters(SAMPLE, tmp_path / "costly", IMAGE, 18, 8, 32)


def estimated(
    path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, *, has_kernel: bool
) -> Cost:
    monkeypatch.setattr(kdf, "llvmlite_is_installed", lambda: has_kernel)
    monkeypatch.setattr(estimate_module, "_seconds_per_work", lambda archive: 2e-7)
    with qbackup.open(path, jobs=2, memory=memory) as archive:
        return estimate(inside(archive))


def test_the_lane_kernel_makes_it_faster_and_wants_more_memory(
    costly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = estimated(costly, monkeypatch, 8 << 30, has_kernel=False)
    kernel = estimated(costly, monkeypatch, 8 << 30, has_kernel=True)
    assert kernel.seconds < 0.8 * plain.seconds
    assert kernel.memory - plain.memory in range(2 * LANE, 12 * LANE, 2 * LANE)


def test_the_lane_kernel_keeps_to_the_budget(costly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide, narrow = (
        estimated(costly, monkeypatch, memory, has_kernel=True) for memory in (8 << 30, 2 * LANE)
    )
    assert wide.memory - narrow.memory >= 2 * LANE
    assert wide.seconds < narrow.seconds


def test_without_room_for_the_lane_kernel_the_estimate_is_a_backends(
    costly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, kernel = (
        estimated(costly, monkeypatch, LANE, has_kernel=has_kernel) for has_kernel in (False, True)
    )
    assert kernel == plain


def test_a_kernel_that_does_not_pay_is_not_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, kernel = (
        estimated(SAMPLE, monkeypatch, 8 << 30, has_kernel=has_kernel)
        for has_kernel in (False, True)
    )
    assert kernel == plain


def test_of_very_many_sets_of_parameters_the_first_are_counted_each(
    costly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can plant chunks with parameters of their own, each a line of the report."""
    monkeypatch.setattr(estimate_module, "_PARAMETERS", 1)
    with qbackup.open(costly) as archive:
        cost = estimate(inside(archive))
    assert len(cost.parameters) == 1 and cost.others == 1
    assert sum(cost.parameters.values()) + cost.others == cost.chunks
