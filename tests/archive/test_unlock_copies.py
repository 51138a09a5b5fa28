"""Copies of which none is a backup are named for what they look like."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

import qbackup
from qbackup import NotABackup
from tests.support import vectorfiles

VECTORS = ["xz-many-chunks", "v3-gzip-many-chunks", "v2-beta3-raw"]


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("name", VECTORS)
def test_copies_that_are_no_backup_are_named(name: str, salvage: bool, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(vectorfiles.backup_path(name).read_bytes()))
    with pytest.raises(NotABackup, match=r"looks like something compressed with gzip") as caught:
        qbackup.open(packed, also=[packed], salvage=salvage)
    assert "unpack it first: gzip -dc" in caught.value.advice
