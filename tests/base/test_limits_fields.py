"""Every bound has a name, and an error that names one names one that exists."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

import qbackup
from qbackup.base.limits import Limits

SOURCES = sorted(Path(qbackup.__file__).parent.rglob("*.py"))
FIELDS = {field.name: field for field in dataclasses.fields(Limits)}


def test_are_frozen_and_given_by_name() -> None:
    limits = Limits(members=5)
    assert dataclasses.replace(limits, chunk=7) == Limits(members=5, chunk=7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.members = 6  # type: ignore[misc]
    with pytest.raises(TypeError):
        Limits(5)  # type: ignore[call-arg]


def test_are_all_documented() -> None:
    text = inspect.getdoc(Limits) or ""  # Python 3.13 takes the indentation off by itself
    assert [name for name in FIELDS if f"\n    {name}: " not in text] == []


def test_are_whole_numbers_over_zero() -> None:
    values = dataclasses.asdict(Limits())
    assert all(isinstance(value, int) and value > 0 for value in values.values())


@pytest.mark.slow
def test_are_all_used_and_none_is_made_up() -> None:
    """An error's ``limit`` tells a caller which field to raise."""
    named: set[str] = set()
    used: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "limit":
                if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                    named.add(node.value.value)
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)
    assert named <= set(FIELDS)
    assert set(FIELDS) <= used
