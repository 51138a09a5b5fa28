"""The house: where files stand, how long they are, and that each module has tests."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from fnmatch import fnmatch
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

#: Modules that no test file of their own package names → the tests that notice when they break.
TESTED_ELSEWHERE = {
    "qbackup.archive.*": "archive/test_archive.py",
    "qbackup.archive.unlock.*": "archive/test_salvage.py",
    "qbackup.archive.firewalls": "formats/test_metadata_settings.py",
    "qbackup.base.advice": "base/test_messages.py",
    "qbackup.base.events": "storage/test_tar_sparse.py",
    "qbackup.base.locks": "pipeline/test_threads.py",
    "qbackup.base.report": "cli/test_cli_json.py",
    "qbackup.cli.*": "cli/test_cli.py",
    "qbackup.cli.commands.*": "cli/test_commands.py",
    "qbackup.cli.protect.*": "cli/test_protect.py",
    "qbackup.cli.recreate.*": "cli/test_script.py",
    "qbackup.content.*": "archive/test_file.py",
    "qbackup.content.gaps.fault_places": "restore/test_unverified.py",
    "qbackup.content.placing": "storage/test_tar_sparse.py",
    "qbackup.content.volume*": "formats/test_v2.py",
    "qbackup.content.decoder_memory": "cli/test_limit_option.py",
    "qbackup.crypto.subkeys": "restore/test_resume_journal.py",
    "qbackup.formats.hmac_chunks": "formats/test_v3.py",
    "qbackup.formats.metadata.*": "formats/test_metadata.py",
    "qbackup.image.*": "image/test_image.py",
    "qbackup.image.ext4.*": "image/test_ext4_kernel.py",
    "qbackup.pipeline.*": "pipeline/test_pipeline.py",
    "qbackup.restore.*": "promises/test_home.py",
    "qbackup.restore.output.*": "restore/test_run.py",
    "qbackup.restore.resume.*": "restore/test_resume.py",
    "qbackup.storage.*": "storage/test_scan.py",
    "qbackup.storage.catalog.*": "storage/test_catalog.py",
    "qbackup.storage.folder": "storage/test_unpacked.py",
    "qbackup.storage.signatures": "base/test_messages.py",
    "qbackup.storage.tar.plain_header": "storage/test_unpacked.py",
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PRODUCT.parent).with_suffix("").parts)


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Names of the modules that a file imports, and of what it imports from them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return frozenset(names)


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
    without = [name_of(path) for path in MODULES if not has_tests(path)]
    unknown = [name for name in without if not elsewhere(name)]
    assert unknown == ["qbackup.__main__"]  # which every run of the command passes


def elsewhere(module: str) -> bool:
    """Tells if a row of the table is about this module: about it alone, or about its package."""
    package = module.rpartition(".")[0]
    return any(
        fnmatch(module, pattern) and pattern.rpartition(".")[0] == package
        for pattern in TESTED_ELSEWHERE
    )


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
    long = [
        str(path.relative_to(PRODUCT))
        for path in SOURCES
        if len(path.read_text("utf-8").splitlines()) > LINES_LIMIT
    ]
    assert not long


def test_a_block_is_one_thing() -> None:
    """A name of its own for each other size: `AES_BLOCK_SIZE`, `SPOOL_BLOCK_SIZE`, `HOLE_SIZE`."""
    found = [
        name_of(path)
        for path in SOURCES
        if re.search(r"^BLOCK_SIZE\b.* = ", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert found == ["qbackup.storage.tar.fields"]


def test_no_class_name_occurs_twice() -> None:
    names = Counter(
        node.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1]
