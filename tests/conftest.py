"""Fixtures that every test may use: the real programs, and a maker of backups."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.maker import BackupMaker, missing_tools

MakerFactory = Callable[..., BackupMaker]


@pytest.fixture(scope="session")
def tools() -> None:
    """Skips where a real program is missing; in continuous integration (`CI` is set) that is a
    failure.
    """
    missing = missing_tools()
    if missing and os.environ.get("CI"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture
def maker(tools: None, tmp_path: Path) -> MakerFactory:
    """`maker(**options)` gives a new `BackupMaker` with its own folder; options as in its
    constructor.
    """
    numbers = itertools.count()

    def make(**options: Any) -> BackupMaker:
        return BackupMaker(tmp_path / f"maker-{next(numbers)}", **options)

    return make
