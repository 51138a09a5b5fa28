"""The house: where files stand, how long they are, and that each module has tests."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import qbackup

PRODUCT = Path(qbackup.__file__).parent
TESTS = Path(__file__).parent.parent
LINES_LIMIT = 350
TOP = {"__init__.py", "__main__.py", "py.typed"}  # beside the ten packages
SOURCES = sorted(PRODUCT.rglob("*.py"))
MODULES = [path for path in SOURCES if path.name != "__init__.py"]
TEST_FILES = sorted(TESTS.rglob("test_*.py"))

#: Modules that no test file of their own package names → the test that notices when they break.
TESTED_ELSEWHERE: dict[str, str] = {}

#: Files that are still to be split. A file that is mended must leave this list.
TOO_LONG: set[str] = set()


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PRODUCT.parent).with_suffix("").parts)


def imported(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, and of what it imports from them."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def has_tests(module: Path) -> bool:
    """Tells if a test file of the module's package is named after the module or imports it."""
    package = module.relative_to(PRODUCT).parts[0]
    files = [path for path in TEST_FILES if path.parent.name == package]
    name = name_of(module)
    return any(
        path.stem == f"test_{module.stem}"
        or name in path.read_text("utf-8")
        or name in imported(path)
        for path in files
    )


def test_every_module_has_tests() -> None:
    without = {name_of(path) for path in MODULES if not has_tests(path)} - {"qbackup.__main__"}
    assert without == TESTED_ELSEWHERE.keys()


@pytest.mark.parametrize("module", sorted(TESTED_ELSEWHERE))
def test_modules_without_tests_of_their_own_are_tested_elsewhere(module: str) -> None:
    assert (TESTS / TESTED_ELSEWHERE[module]).exists()


def test_no_test_imports_from_another_test_module() -> None:
    found = [
        (path.name, module)
        for path in TESTS.rglob("*.py")
        for module in imported(path)
        if re.match(r"tests\.(\w+\.)?test_", module)
    ]
    assert not found


def test_the_top_of_the_package_is_ten_packages() -> None:
    entries = {path.name for path in PRODUCT.iterdir()} - {"__pycache__"}
    assert entries >= TOP
    assert len(entries - TOP) == 10


def test_no_file_is_too_long() -> None:
    long = {
        str(path.relative_to(PRODUCT))
        for path in SOURCES
        if len(path.read_text("utf-8").splitlines()) > LINES_LIMIT
    }
    assert long == TOO_LONG


def test_no_class_name_occurs_twice() -> None:
    names = Counter(
        node.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1]
