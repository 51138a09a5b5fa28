"""Choices that make no sense are refused before a byte is read."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from qbackup.archive.options import OpenOptions
from qbackup.base.errors import UsageError
from qbackup.base.limits import Limits

PLAIN = OpenOptions(
    limits=Limits(),
    jobs=None,
    memory=None,
    executor=None,
    executor_jobs=None,
    compression_filter=None,
    hmac_algorithm=None,
    salvage=False,
)


@pytest.mark.parametrize("name", ["jobs", "memory", "executor_jobs"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
def test_a_number_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} is a whole number above 0"):
        dataclasses.replace(PLAIN, **{name: value})


def test_an_id_is_for_salvage_only() -> None:
    with pytest.raises(UsageError, match="for salvage only"):
        dataclasses.replace(PLAIN, backup_id="20240917T101112-1234")


@pytest.mark.parametrize("id_", ["", "two\nlines", "nul\0"])
def test_an_id_is_one_line_of_text(id_: str) -> None:
    with pytest.raises(UsageError, match="one line of text"):
        dataclasses.replace(PLAIN, salvage=True, backup_id=id_)
