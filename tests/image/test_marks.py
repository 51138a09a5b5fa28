"""Files of a damaged image: no wrong one unnamed, no right one accused."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.markkit import KINDS, Healthy, Tally, check, make_healthy

SEEDS = 500


@pytest.fixture(scope="module")
def healthy(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Healthy]:
    """Gives an image of a kind, made once."""
    folder, made = tmp_path_factory.mktemp("healthy"), dict[str, Healthy]()

    def of(kind: str) -> Healthy:
        if kind not in made:
            made[kind] = make_healthy(kind, folder)
        return made[kind]

    return of


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder for many copies: in memory, if possible, as each copy is synced to the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def check_all(healthy: Callable[[str], Healthy], seeds: range, folder: Path) -> Tally:
    tally = Tally()
    for seed in seeds:
        kind = random.Random(-seed).choice(list(KINDS))
        check(healthy(kind), seed, folder / "out", tally)
        shutil.rmtree(folder / "out", ignore_errors=True)
    return tally


def test_one_damage(healthy: Callable[[str], Healthy], room: Path) -> None:
    tally = check_all(healthy, range(3), room)
    assert tally.changed and tally.right, tally


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_no_wrong_file_is_unnamed_and_no_right_one_accused(
    healthy: Callable[[str], Healthy], first: int, room: Path
) -> None:
    tally = check_all(healthy, range(first, first + 50), room)
    assert tally.changed > 50 and tally.right > 5000, tally
    assert tally.unreadable + tally.doubtful < 20, tally
