"""Two speeds: which rows stay quick, and that every module has some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.speed import rows, spread

TESTS = Path(__file__).parent.parent


def quick(values: list[Any]) -> list[Any]:
    """The values that have no mark."""
    return [value for value in values if not getattr(value, "marks", ())]


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (2, [0, 9]), (3, [0, 4, 9]), (10, [*range(10)])]
)
def test_quick_rows_are_the_first_the_last_and_some_between(count: int, chosen: list[int]) -> None:
    assert quick(spread(range(10), quick=count)) == chosen


def test_all_rows_are_there_in_their_order() -> None:
    values = spread(["a", "b", pytest.param("c", id="name", marks=pytest.mark.skip)])
    assert values[0] == "a"
    assert [value.values for value in values[1:]] == [("b",), ("c",)]
    assert values[2].id == "name"
    assert [mark.name for mark in values[2].marks] == ["skip", "slow"]


def test_rows_of_several_arguments() -> None:
    for names in ("a, b", ("a", "b")):
        mark = cast(Any, rows(names, [(1, 2), (3, 4)], ids=str))
        given, values = mark.args
        assert (given, values[0], values[1].values) == (names, (1, 2), (3, 4))
        assert mark.kwargs["ids"] is str


def test_a_tuple_may_be_one_value() -> None:
    _, values = cast(Any, rows("pair", [(1, 2), (3, 4)])).args
    assert values[1].values == ((3, 4),)


@pytest.mark.slow
def test_every_module_has_quick_tests() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not slow", str(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent, check=True)
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    modules = {path.relative_to(TESTS.parent).as_posix() for path in TESTS.rglob("test_*.py")}
    assert modules - found == set()
