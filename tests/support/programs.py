"""Programs that a test runs: where one is missing it is skipped, and fails in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import pytest


def need(*names: str) -> None:
    """Ends a test where one of these programs is not installed."""
    refuse([name for name in names if shutil.which(name) is None])


def refuse(missing: Sequence[str]) -> None:
    """Skips a test that lacks programs; in continuous integration (`CI` is set) that is a failure.

    Args:
        missing: names of the programs; nothing happens if there is none.
    """
    if missing and os.environ.get("CI"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
