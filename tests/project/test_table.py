"""The table of promises in README.md names tests and vectors that exist, and leaves none out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
README = (HERE / "README.md").read_text()
VECTORS = [path.stem for path in (HERE / "testkit" / "vectors").glob("*.vector")]
MODULES = {path.stem: path for path in HERE.rglob("test_*.py")}
_ROW = re.compile(r"^\| (\d)\. .*$", re.MULTILINE)
_QUOTED = re.compile(r"`([^`]+)`")
PROMISES = range(1, 8)


def names_in(module: str) -> set[str]:
    """Names of its tests and classes, and of tests with their class in front."""
    names: set[str] = set()
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, ast.ClassDef):
            own = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            names |= {node.name} | own | {f"{node.name}::{name}" for name in own}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return names


def named(text: str) -> Iterator[tuple[str, str]]:
    """(module, test) of each test that is named; a module's name counts until the next."""
    module = ""
    for word in _QUOTED.findall(text):
        if re.fullmatch(r"test_\w+", word) and word in MODULES:
            module = word
        elif match := re.fullmatch(r"(test_\w+)::(.+)", word):
            module = match[1]
            yield module, match[2]
        elif re.fullmatch(r"(Test|test_)\w+(::\w+)?", word):
            yield module, word


def row(promise: int) -> str:
    """The table's row."""
    return next(match[0] for match in _ROW.finditer(README) if int(match[1]) == promise)


def vectors_text() -> dict[int, str]:
    """For each promise, what is said of the testkit's vectors."""
    text = README.partition("Vectors of the testkit, by promise")[2].partition("\n\n")[0]
    parts = re.split(r"(\d): ", text)[1:]
    return {int(n): part for n, part in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.slow
def test_every_test_that_is_named_exists() -> None:
    found = list(named(README))
    assert len(found) > 80
    missing = [(module, test) for module, test in found if test not in names_in(module)]
    assert not missing


@pytest.mark.parametrize("promise", PROMISES)
def test_each_promise_has_tests_and_faults(promise: int) -> None:
    modules = {module for module, _ in named(row(promise))}
    assert len(modules) > 1
    assert any(module.startswith("test_faults_") for module in modules)


@pytest.mark.parametrize("promise", PROMISES)
def test_each_promise_has_vectors(promise: int) -> None:
    beginnings = [w for w in _QUOTED.findall(vectors_text()[promise]) if "::" not in w]
    assert beginnings
    for word in beginnings:
        pattern = word.replace("…", "*") + "*"
        assert any(fnmatch(name, pattern) for name in VECTORS), word
